//! `benchmark leaks`: were these rows trained on?

use crate::cli::args::naming;
use crate::cli::exit::Failed;
use crate::cli::task_rows::read;
use anyhow::Context;
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use gist::data::task::benchmark;
use gist::data::task::leaks::{Leaks, TaughtText, leaks};
use gist::data::{read_documents, read_labelled};
use std::path::{Path, PathBuf};

/// Flags of `benchmark leaks`.
#[derive(clap::Args)]
pub struct LeaksArgs {
    /// Name of the benchmark that the rows are of.
    name: String,
    /// Rows that something is judged by.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Files that something was trained on, each with its form: the name of a benchmark, labelled (texts of which somebody said
    /// what to keep, as `gist distill` reads them) or text (documents).
    #[arg(long, value_name = "FORM=FILE,..", value_delimiter = ',', required = true)]
    trained_on: Vec<String>,
}

/// Prints what each file has of the rows; an error where a row, its question, its context or its answer is there.
pub fn run(args: &LeaksArgs) -> anyhow::Result<()> {
    let rows = read(&args.name, &args.from)?.rows;
    let mut table = Table::new();
    let header = ["trained on", "rows", "ids", "questions", "contexts", "answers", "other paragraphs"];
    table.load_preset(UTF8_FULL_CONDENSED).set_header(header);
    let mut found = Vec::new();
    for file in &args.trained_on {
        let form = || format!("--trained-on: expected FORM=FILE, such as squad=train-v1.1.json, got {file:?}");
        let (form, path) = file.split_once('=').with_context(form)?;
        let own = leaks(&rows, &taught(&args.name, form, Path::new(path))?);
        let Leaks { rows, ids, questions, contexts, answers, paragraphs, .. } = own;
        let counts = [rows, ids, questions, contexts, answers, paragraphs].map(|count| count.to_string());
        table.add_row([path.to_string()].into_iter().chain(counts));
        if own.found() {
            found.push(format!("{path} ({})", own.named.join(", ")));
        }
    }
    println!("{table}");
    println!("answers: rows of which a paragraph with a reference or evidence in it was trained on, word for word");
    if !found.is_empty() {
        let expected = "expected rows that nothing was trained on, got some in";
        return Err(Failed(format!("{}: {expected} {}", args.from.display(), found.join("; "))).into());
    }
    Ok(())
}

/// The texts of a file; their ids where they are of the benchmark `asked` for, or of labels.
fn taught(asked: &str, form: &str, path: &Path) -> anyhow::Result<Vec<TaughtText>> {
    Ok(match form {
        "labelled" => {
            let texts = read_labelled(path)?.texts.into_iter();
            texts.map(|own| TaughtText { id: own.id, query: own.query, text: own.text }).collect()
        }
        "text" => {
            let texts = read_documents(path)?.into_iter();
            texts.map(|own| TaughtText { text: own.text, ..TaughtText::default() }).collect()
        }
        name => {
            benchmark(name).map_err(naming("--trained-on"))?;
            let rows = read(name, path)?.rows.into_iter();
            let id = |id: String| if name == asked { id } else { String::new() };
            rows.map(|row| TaughtText { id: id(row.id), query: row.query, text: row.context }).collect()
        }
    })
}
