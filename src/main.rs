//! The command line.

mod cli;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
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
            let text = format!("{error:#}");
            eprintln!("error: {}", cli::memory::advice(&text).unwrap_or(text));
            ExitCode::FAILURE
        }
    }
}
