//! The command line.

mod cli;

use clap::Parser;
use std::process::ExitCode;

/// Lets a closed pipe end the program, as that of any other tool (`gist sweep FILE --dry-run | head`): Rust would have
/// printing panic.
#[allow(unsafe_code)]
fn end_with_the_pipe() {
    // SAFETY: sets a signal's default action before any thread starts.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// An error and its causes, without those that the one before them ends with.
fn in_words(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| match text.as_str() {
        "" => cause,
        told if told.ends_with(&cause) => text,
        told => format!("{told}: {cause}"),
    })
}

fn main() -> ExitCode {
    end_with_the_pipe();
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let text = info.payload_as_str().unwrap_or_default();
        match cli::memory::advice(text) {
            Some(advice) => eprintln!("error: {advice}"),
            None => usual(info),
        }
    }));
    match cli::run(cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let text = in_words(&error);
            eprintln!("error: {}", cli::memory::advice(&text).unwrap_or(text));
            ExitCode::from(cli::exit::code(&error))
        }
    }
}
