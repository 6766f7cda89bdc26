//! The one error type of the library: each message names the file or key, what was expected and what was got.

use std::path::{Path, PathBuf};

/// Everything that can go wrong in the library.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading or writing a file failed (missing, permission, disk full).
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder concerned.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// A file was read but its content is not as expected.
    #[error("{}: {message}", path.display())]
    File {
        /// The file concerned.
        path: PathBuf,
        /// Message: what was expected and what was found.
        message: String,
    },
    /// A configuration key is unknown, missing, or has an impossible value.
    #[error("{}: `{key}`: {message}", path.display())]
    Config {
        /// The TOML file (or `--set`).
        path: PathBuf,
        /// Dotted key, such as `reward.lambda`.
        key: String,
        /// Message: what was expected and what was found.
        message: String,
    },
    /// A tensor or a list of ids has the wrong shape.
    #[error("{what}: expected {expected}, got {got}")]
    Shape {
        /// Name of the tensor or list.
        what: String,
        /// The expected shape or size.
        expected: String,
        /// The shape or size found.
        got: String,
    },
    /// libtorch reported an error.
    #[error("libtorch: {0}")]
    Tch(#[from] tch::TchError),
    /// A loss, reward or gradient stopped being a finite number.
    #[error("{what} is not finite at step {step}; the batch is in {}", saved.display())]
    NonFinite {
        /// Name of the quantity.
        what: String,
        /// Training step.
        step: usize,
        /// Path at which the offending batch was saved.
        saved: PathBuf,
    },
    /// The user asked to stop (Ctrl-C); a checkpoint was written.
    #[error("interrupted at step {step}; continue with --resume")]
    Interrupted {
        /// Steps completed.
        step: usize,
    },
    /// The user asked to stop a command whose finished parts are kept.
    #[error("stopped; {0}")]
    Stopped(String),
    /// A process that shares a run failed or is missing; the message says which, and why.
    #[error("{0}")]
    Rank(String),
    /// Another live process works in the folder.
    #[error("{}: {message}", path.display())]
    InProgress {
        /// The folder concerned.
        path: PathBuf,
        /// Message: who holds it.
        message: String,
    },
    /// A server could not be reached, or the connection broke.
    #[error("{0}")]
    Network(String),
    /// The machine or the user's account lacks something.
    #[error("{0}")]
    Machine(String),
    /// Anything else that the caller did wrong; the message says what.
    #[error("{0}")]
    Invalid(String),
}

/// Result of the library.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An I/O error at `path`.
    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Error::Io { path: path.as_ref().to_path_buf(), source }
    }

    /// A content error in the file at `path`.
    pub fn file(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Error::File { path: path.as_ref().to_path_buf(), message: message.into() }
    }

    /// A bad value under `key` of the configuration file at `path`.
    pub fn config(path: impl AsRef<Path>, key: impl Into<String>, message: impl Into<String>) -> Self {
        Error::Config { path: path.as_ref().to_path_buf(), key: key.into(), message: message.into() }
    }

    /// A shape mismatch.
    pub fn shape(what: impl Into<String>, expected: impl ToString, got: impl ToString) -> Self {
        Error::Shape { what: what.into(), expected: expected.to_string(), got: got.to_string() }
    }

    /// A wrong call.
    pub fn invalid(message: impl Into<String>) -> Self {
        Error::Invalid(message.into())
    }
}
