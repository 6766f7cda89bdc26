//! One update of both readers of a session: the generator on a mix of contexts, its twin on nothing.

use crate::error::Result;
use crate::reading::{Taught, as_rows, empty_rows};
use crate::train::session::Session;
use crate::train::trainee::Update;
use crate::train::updates::{ReaderBatch, ReaderUpdate, reader_step};
use serde::Serialize;

/// Outcome of an update of both readers.
pub struct ReaderUpdates {
    /// Update of the generator.
    pub generator: ReaderUpdate,
    /// Update of its twin, the reader of the empty context.
    pub empty: ReaderUpdate,
}

/// One step of the generator on `contexts`, windows with what stands in the place of their prefixes, and one of its twin on
/// as many windows: both have had as many updates.
pub fn update_readers(
    session: &mut Session,
    taught: &Taught,
    contexts: &[(usize, Vec<u32>)],
    update: &Update<impl Serialize>,
) -> Result<ReaderUpdates> {
    let (decoder, at_once) = (&session.inputs.models.decoder, session.inputs.config.reader_rows());
    let (rows, nothing) = (as_rows(contexts), empty_rows(taught.windows.len()));
    let batch = ReaderBatch { taught, rows: &rows, at_once };
    let generator = reader_step(decoder, &mut session.generator, &batch, update)?;
    let batch = ReaderBatch { taught, rows: &nothing, at_once };
    let empty = reader_step(decoder, &mut session.empty_reader, &batch, update)?;
    Ok(ReaderUpdates { generator, empty })
}
