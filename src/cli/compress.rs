//! `compress`: text in, text out, by any compressor, within a budget.

use crate::cli::named::NamedArgs;
use anyhow::{Context, ensure};
use gist::condense::rows::{RowOptions, Tally, figures};
use gist::condense::{Condenser, PlainText};
use gist::config::choices::{BudgetConfig, Condition};
use gist::data::open_rows;
use gist::error::Error;
use gist::run_dir::write_atomic_by;
use gist::text_file::{decode, read_text};
use serde_json::{Value, json};
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

/// Standard input among files.
const STDIN: &str = "-";
/// Field of rows whose text is made shorter, unless another is named.
const FIELD: &str = "text";

/// Flags of `compress`.
#[derive(clap::Args)]
pub struct CompressArgs {
    /// Texts, `-` for standard input (the default). A .jsonl file, plain or .zst or .gz, is rows with a text in --field each;
    /// anything else is one text.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The compressor: a run's directory, or a name as in `gist compare --compressors`: bm25, recent, summary, bm25:sentence,
    /// encoder:PATH, embedding:PATH, evidence:PATH, a chain such as attention+bm25.
    #[arg(long, value_name = "RUN|NAME")]
    with: String,
    /// Budget of a text, in tokens; absent, without --keep-ratio = the run's own.
    #[arg(long, value_name = "TOKENS", conflicts_with = "keep_ratio", value_parser = clap::value_parser!(u64).range(1..))]
    budget: Option<u64>,
    /// Budget of a text, as a share of its tokens.
    #[arg(long, value_name = "SHARE")]
    keep_ratio: Option<f64>,
    /// The question that the text is read for.
    #[arg(long, value_name = "QUESTION", default_value = "")]
    query: String,
    /// Field that holds the question of a row.
    #[arg(long, value_name = "NAME", conflicts_with = "query")]
    query_field: Option<String>,
    /// Field of a row that holds its text; standard input is then rows too. Absent = text.
    #[arg(long, value_name = "NAME")]
    field: Option<String>,
    /// Write JSON: of a text its shorter form with tokens before and after, kept ranges of bytes and their scores; of a row the
    /// same under `compression`, in the row.
    #[arg(long)]
    json: bool,
    /// File that receives the output, whole or not at all; absent = standard output.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    named: NamedArgs,
}

/// Makes texts shorter.
pub fn run(args: &CompressArgs) -> anyhow::Result<()> {
    if let Some(share) = args.keep_ratio {
        ensure!(share > 0.0 && share <= 1.0, "--keep-ratio: expected a share above 0 and at most 1, got {share}");
    }
    let files = if args.files.is_empty() { vec![PathBuf::from(STDIN)] } else { args.files.clone() };
    let texts = files.iter().filter(|file| !args.is_rows(file)).count();
    ensure!(
        texts == 0 || args.json || files.len() == 1,
        "expected one text, rows of JSON lines, or --json beside them, got {} files; two texts would run together",
        files.len()
    );
    ensure!(
        args.query_field.is_none() || texts == 0,
        "--query-field: expected rows of JSON lines, got a text; --query asks about one"
    );
    if let Some(missing) = files.iter().find(|file| !is_stdin(file) && !file.exists()) {
        anyhow::bail!("{}: expected a file, got none", missing.display());
    }
    let named = args.named.open("--with", std::slice::from_ref(&args.with))?;
    let budget = args.budget(named.runs.first().filter(|run| named.is_only(run)).map(|run| &run.config().budget))?;
    if args.query_field.is_some() || !args.query.is_empty() {
        let blind = named.runs.iter().find(|run| run.config().condition == Condition::None);
        if let Some(run) = blind {
            anyhow::bail!(
                "--query: expected no question, {} was trained without one (condition = \"none\")",
                run.dir().root().display()
            );
        }
    }
    let mut entrants = named.entrants("--with")?;
    let mut entrant = entrants.pop().context("--with: expected a compressor, got none")?;
    let compressor = entrant.members.pop().context("--with: expected a compressor, got none")?;
    let condenser = Condenser { compressor: compressor.as_ref(), tokenizer: &named.models.tokenizer };
    let mut tally = Tally::default();
    match &args.output {
        None => args.write(condenser, &files, &budget, &mut std::io::stdout().lock(), &mut tally)?,
        Some(path) => {
            let mut failed = None;
            let written = write_atomic_by(path, |file| {
                let mut out = std::io::BufWriter::new(file);
                args.write(condenser, &files, &budget, &mut out, &mut tally).map_err(|error| {
                    failed = Some(error);
                    std::io::Error::other("not written")
                })?;
                out.flush()
            });
            failed.map_or(Ok(()), Err)?;
            written?;
        }
    }
    tell(compressor.name(), &tally);
    Ok(())
}

impl CompressArgs {
    /// Whether a file is rows.
    fn is_rows(&self, file: &Path) -> bool {
        if is_stdin(file) {
            return self.field.is_some() || self.query_field.is_some();
        }
        let name = file.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        [".jsonl", ".jsonl.zst", ".jsonl.gz"].iter().any(|end| name.ends_with(end))
    }

    /// The budget of the flags, or else that of the run.
    fn budget(&self, own: Option<&BudgetConfig>) -> anyhow::Result<BudgetConfig> {
        match (self.budget, self.keep_ratio, own) {
            (None, None, None) => anyhow::bail!("expected --budget TOKENS or --keep-ratio SHARE, got neither"),
            (None, None, Some(own)) => Ok(own.clone()),
            (tokens, keep_ratio, _) => Ok(BudgetConfig { tokens: tokens.map(|tokens| tokens as usize), keep_ratio }),
        }
    }

    fn write(
        &self,
        condenser: Condenser,
        files: &[PathBuf],
        budget: &BudgetConfig,
        out: &mut dyn Write,
        tally: &mut Tally,
    ) -> anyhow::Result<()> {
        let field = self.field.as_deref().unwrap_or(FIELD);
        let (query, query_field) = (self.query.as_str(), self.query_field.as_deref());
        let options = RowOptions { field, query, query_field, budget, figures: self.json };
        for (number, file) in files.iter().enumerate() {
            if self.is_rows(file) {
                let (name, mut rows) = match is_stdin(file) {
                    true => (Path::new("standard input"), Box::new(BufReader::new(std::io::stdin())) as _),
                    false => (file.as_path(), open_rows(file)?),
                };
                condenser.rows(name, &mut rows, &options, out, tally)?;
                continue;
            }
            let text = text_of(file)?;
            let one = [PlainText { text: &text, query, key: number as u64 }];
            let made = condenser.condense(&one, budget)?.remove(0);
            let condensed = made.map_err(|error| Error::file(file, error.to_string()))?;
            tally.add(&condensed);
            match self.json {
                true => {
                    let mut row = json!({"file": file, "text": condensed.text});
                    if let (Value::Object(row), Value::Object(figures)) =
                        (&mut row, figures(condenser.compressor.name(), &condensed))
                    {
                        row.extend(figures);
                    }
                    writeln!(out, "{row}")?;
                }
                false if condensed.text.ends_with('\n') || self.output.is_some() => write!(out, "{}", condensed.text)?,
                false => writeln!(out, "{}", condensed.text)?,
            }
        }
        Ok(out.flush()?)
    }
}

fn is_stdin(file: &Path) -> bool {
    file == Path::new(STDIN)
}

/// A text as it is, of a file or standard input.
fn text_of(file: &Path) -> anyhow::Result<String> {
    if !is_stdin(file) {
        return Ok(read_text(file)?);
    }
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).context("standard input")?;
    Ok(decode(Path::new("standard input"), bytes)?)
}

/// Says on stderr how much was kept.
fn tell(name: &str, tally: &Tally) {
    let Tally { texts, tokens_before, tokens_after, emptied, keep_ratios } = *tally;
    let micro = tokens_after as f64 / tokens_before.max(1) as f64;
    let each = if texts > 1 { format!(", {:.4} a text", keep_ratios / texts as f64) } else { String::new() };
    eprintln!("{name}: {texts} texts, {tokens_before} → {tokens_after} tokens, keep_ratio {micro:.4}{each}");
    if emptied > 0 {
        eprintln!("{emptied} texts are empty now: their share of so few tokens is less than one token");
    }
}
