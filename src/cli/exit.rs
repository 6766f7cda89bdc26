//! Exit codes: they say to a script or a scheduler whether another try may help.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | failed: disk, network, memory, a file that is missing or damaged, a run of a sweep |
//! | 2 | bad input, which another try does not change: a key, a flag, a value |
//! | 3 | another live process works in the folder |
//! | 70 | one of the ranks of a run failed; the same command with `--resume` goes on |
//! | 75 | stopped on request; the same command (of a run: with `--resume`) goes on |

use gist::error::Error;

const FAILED: u8 = 1;
const BAD_INPUT: u8 = 2;
const IN_PROGRESS: u8 = 3;
pub const RANK_FAILED: u8 = 70;
const STOPPED: u8 = 75;

/// An outcome that is no fault of the input, such as runs of a sweep that failed; the message says what.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failed(pub String);

/// The exit code of a command that ended with this error.
pub fn code(error: &anyhow::Error) -> u8 {
    if let Some(known) = error.chain().find_map(|cause| cause.downcast_ref::<Error>()) {
        return of_library(known);
    }
    let is_failure = error.chain().any(|cause| cause.is::<Failed>() || cause.is::<std::io::Error>());
    // All other errors of the command line are flags and values that it refuses.
    if is_failure { FAILED } else { BAD_INPUT }
}

fn of_library(error: &Error) -> u8 {
    match error {
        Error::Config { .. } | Error::Invalid(_) => BAD_INPUT,
        Error::InProgress { .. } => IN_PROGRESS,
        Error::Rank(_) => RANK_FAILED,
        Error::Interrupted { .. } | Error::Stopped(_) => STOPPED,
        // A file that is missing or damaged may be whole at another try.
        Error::Io { .. } | Error::File { .. } | Error::Machine(_) => FAILED,
        Error::Shape { .. } | Error::Tch(_) | Error::NonFinite { .. } | Error::Network(_) => FAILED,
    }
}
