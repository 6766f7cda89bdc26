//! One update of both readers of a session: the generator on a mix of contexts, its twin on nothing.

use crate::error::Result;
use crate::reading::{Taught, as_rows, empty_rows};
use crate::train::session::Session;
use crate::train::shards::Shards;
use crate::train::trainee::Update;
use crate::train::updates::{ReaderBatch, ReaderUpdate, reader_step};
use serde::Serialize;

/// Numbers of the passes of an update of both readers.
const GENERATOR: u64 = 0;
const EMPTY: u64 = 1;
/// Number of the first pass after those of both readers.
pub const AFTER_READERS: u64 = 2;

/// Outcome of an update of both readers.
pub struct ReaderUpdates {
    /// Update of the generator.
    pub generator: ReaderUpdate,
    /// Update of its twin, the reader of the empty context.
    pub empty: ReaderUpdate,
}

/// A shard of a step's windows with what stands in the place of their prefixes, by window of the shard.
pub struct ReaderShard<'a> {
    /// Windows and the teacher.
    pub taught: &'a Taught<'a>,
    /// Contexts of the generator; as many in every shard.
    pub contexts: Vec<(usize, Vec<u32>)>,
}

/// One step of the generator on the contexts of `parts`, one a shard, and one of its twin on as many windows: both have had
/// as many updates.
pub fn update_readers(
    session: &mut Session,
    shards: &Shards,
    parts: &[ReaderShard],
    update: &Update<impl Serialize>,
) -> Result<ReaderUpdates> {
    let (decoder, at_once) = (&session.inputs.models.decoder, session.inputs.config.reader_rows());
    let rows: Vec<_> = parts.iter().map(|part| as_rows(&part.contexts)).collect();
    let nothing: Vec<_> = parts.iter().map(|part| empty_rows(part.taught.windows.len())).collect();
    let generator = reader_step(
        decoder,
        &mut session.generator,
        (shards.pass(GENERATOR), &batches(&rows, parts, at_once, shards)),
        update,
    )?;
    let empty = reader_step(
        decoder,
        &mut session.empty_reader,
        (shards.pass(EMPTY), &batches(&nothing, parts, at_once, shards)),
        update,
    )?;
    Ok(ReaderUpdates { generator, empty })
}

/// The batch of each part, on these rows of it.
fn batches<'a>(
    rows: &'a [Vec<(usize, &'a [u32])>],
    parts: &'a [ReaderShard<'a>],
    at_once: usize,
    shards: &Shards,
) -> Vec<ReaderBatch<'a>> {
    let batch = |(rows, part): (&'a Vec<(usize, &'a [u32])>, &'a ReaderShard<'a>)| ReaderBatch {
        taught: part.taught,
        rows,
        at_once,
        of: rows.len() * shards.count(),
    };
    rows.iter().zip(parts).map(batch).collect()
}
