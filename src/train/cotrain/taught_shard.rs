//! The shards of a co-training step that this process computes.

use crate::data::Window;
use crate::error::Result;
use crate::reading::Taught;
use crate::train::session::Session;
use std::ops::Range;

/// A shard of a step's windows, with what the teacher predicts of their futures.
pub struct TaughtShard<'a> {
    /// Windows of the step that are in it.
    pub examples: Range<usize>,
    /// These windows, and the teacher.
    pub taught: Taught<'a>,
}

impl<'a> TaughtShard<'a> {
    /// The shards of step `number` that this process computes.
    pub fn of(session: &Session, windows: &'a [Window], number: usize) -> Result<Vec<Self>> {
        let taught = |own: Range<usize>| session.inputs.taught_from(number as u64, own.start, &windows[own]);
        let own = session.shards.own(windows.len()).into_iter().enumerate();
        let shard = |own: Range<usize>| Ok(TaughtShard { taught: taught(own.clone())?, examples: own });
        own.map(|(index, own)| session.shards.timed(index, || shard(own))).collect()
    }
}
