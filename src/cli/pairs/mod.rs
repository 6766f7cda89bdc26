//! `pairs`: texts with their shorter forms, made, cleaned, sanitised, put into the form of a chat and split by document. Each stage
//! reads a row at a time and says how many came and went; a file that is written is whole or absent.

use crate::cli::args::naming;
use crate::cli::start::catch_interrupt;
use anyhow::{Context, ensure};
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use gist::base;
use gist::condense::pairs::clean::{Bounds, Cleaner, Unclean};
use gist::condense::pairs::rows::{PairRow, PairRows, SYSTEM};
use gist::condense::pairs::sanitize::Rule;
use gist::condense::pairs::split::{PARTS, Shares};
use gist::error::Error;
use gist::run_dir::{write_atomic_by, write_json_atomic};
use gist::tokenizer::Tokenizer;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

mod generate;

/// Commands of `pairs`.
#[derive(clap::Subcommand)]
pub enum PairsCommand {
    /// Make pairs: the shorter form of every text by a compressor, or by a model that is asked for it.
    Generate(Box<generate::GenerateArgs>),
    /// Leave out pairs of which nothing can be learned: without text, with nothing kept, too short or too long, or twice.
    Clean(CleanArgs),
    /// Leave out pairs whose shorter form breaks a rule; those go into a second file, with the reason.
    Sanitize(SanitizeArgs),
    /// Write pairs as chats: system, user with the text, assistant with its shorter form.
    Format(FormatArgs),
    /// Split pairs into train, valid and test by document.
    Split(SplitArgs),
}

/// Flags of all stages behind `generate`.
#[derive(clap::Args)]
struct Files {
    /// Pairs, {"verbose", "compressed", "domain"?, "document"?} a line, or chats: .jsonl, .jsonl.zst or .jsonl.gz.
    #[arg(value_name = "FILE")]
    input: PathBuf,
    /// File, or folder, that receives the rows.
    #[arg(long, value_name = "FILE|DIR")]
    output: PathBuf,
    /// Write the counts here too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Flags of `pairs clean`.
#[derive(clap::Args)]
pub struct CleanArgs {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    counted: CountedArgs,
    /// Fewest and most characters of a shorter form, as shares of the text.
    #[arg(long, value_name = "MIN,MAX", value_parser = range, default_value = "0.02,0.95")]
    characters: RangeInclusive<f64>,
    /// Fewest and most tokens of a shorter form, as shares of the text.
    #[arg(long, value_name = "MIN,MAX", value_parser = range, default_value = "0.02,0.95")]
    tokens: RangeInclusive<f64>,
}

/// Flags of `pairs sanitize`.
#[derive(clap::Args)]
pub struct SanitizeArgs {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    counted: CountedArgs,
    /// File that receives the rows that break a rule, with the reason as `rejected`.
    #[arg(long, value_name = "FILE")]
    rejected: PathBuf,
    /// Rules: length (not more tokens than the text), symbols (→ | @ ∵ : join two things), negation (what is denied stays denied),
    /// notation (@ for where and ∵ for why, for pairs in that notation).
    #[arg(long, value_name = "RULE,..", value_delimiter = ',', default_values = ["length", "symbols", "negation"])]
    rules: Vec<Rule>,
}

/// Flags of `pairs format`.
#[derive(clap::Args)]
pub struct FormatArgs {
    #[command(flatten)]
    files: Files,
    /// Words of the system; empty for no such turn.
    #[arg(long, value_name = "TEXT", default_value = SYSTEM)]
    system: String,
}

/// Flags of `pairs split`.
#[derive(clap::Args)]
pub struct SplitArgs {
    #[command(flatten)]
    files: Files,
    /// Shares of train, valid and test.
    #[arg(long, value_name = "A,B,C", default_value = "80,10,10")]
    shares: Shares,
    /// Another seed splits in another way.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// The tokenizer that counts.
#[derive(clap::Args)]
struct CountedArgs {
    /// Base whose tokenizer counts tokens: a folder or a GGUF file.
    #[arg(long, value_name = "MODEL", default_value = ".smollm2")]
    base: PathBuf,
}

impl CountedArgs {
    fn tokenizer(&self) -> anyhow::Result<Tokenizer> {
        let folder = base::folder(&self.base, None).map_err(naming("--base"))?;
        Ok(Tokenizer::load(&base::file(&folder, base::TOKENIZER))?)
    }
}

fn range(text: &str) -> Result<RangeInclusive<f64>, String> {
    let wrong = || format!("expected MIN,MAX with 0 ≤ MIN < MAX, got {text:?}");
    let (min, max) = text.split_once(',').ok_or_else(wrong)?;
    let [min, max] = [min, max].map(|number| number.trim().parse::<f64>());
    let (min, max) = (min.map_err(|_| wrong())?, max.map_err(|_| wrong())?);
    if (0.0..max).contains(&min) { Ok(min..=max) } else { Err(wrong()) }
}

/// Runs a stage.
pub fn run(command: &PairsCommand) -> anyhow::Result<()> {
    match command {
        PairsCommand::Generate(args) => generate::run(args),
        PairsCommand::Clean(args) => clean(args),
        PairsCommand::Sanitize(args) => sanitize(args),
        PairsCommand::Format(args) => format(args),
        PairsCommand::Split(args) => split(args),
    }
}

/// Rows written so far, and those left out by reason.
#[derive(Default)]
struct Counts {
    before: usize,
    after: BTreeMap<&'static str, usize>,
    left_out: BTreeMap<&'static str, usize>,
}

impl Counts {
    fn tell(&self, files: &Files) -> anyhow::Result<()> {
        let after: usize = self.after.values().sum();
        let mut table = Table::new();
        table.load_preset(UTF8_FULL_CONDENSED).set_header(["rows", ""]);
        table.add_row(["before".to_string(), self.before.to_string()]);
        for (what, count) in &self.left_out {
            table.add_row([format!("without: {what}"), count.to_string()]);
        }
        let parts = if self.after.len() > 1 { self.after.iter().collect() } else { Vec::new() };
        for (part, count) in parts {
            table.add_row([part.to_string(), count.to_string()]);
        }
        table.add_row(["after".to_string(), after.to_string()]);
        println!("{table}\n{}", files.output.display());
        let figures = json!({
            "input": files.input, "before": self.before, "after": after, "parts": self.after, "left_out": self.left_out,
        });
        files.json.iter().try_for_each(|path| Ok(write_json_atomic(path, &figures)?))
    }
}

/// Writes a file row by row; an error of the rows is kept apart from one of the file.
fn write(path: &Path, rows: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut failed = None;
    let written = write_atomic_by(path, |file| {
        let mut out = BufWriter::new(file);
        rows(&mut out).map_err(|error| {
            failed = Some(error);
            std::io::Error::other("not written")
        })?;
        out.flush()
    });
    failed.map_or(Ok(()), Err)?;
    Ok(written?)
}

fn put(out: &mut dyn Write, row: &Value) -> anyhow::Result<()> {
    writeln!(out, "{row}").context("writing a row")
}

/// The rows of a file, until the user asks to stop.
fn rows<'a>(path: &Path, stop: &'a AtomicBool) -> anyhow::Result<impl Iterator<Item = anyhow::Result<PairRow>> + 'a> {
    let stopped = || Error::Stopped("nothing is written; the same command begins again".into()).into();
    let watched = move |row: Result<PairRow, Error>| match stop.load(Ordering::SeqCst) {
        true => Err(stopped()),
        false => Ok(row?),
    };
    Ok(PairRows::open(path)?.map(watched))
}

fn clean(args: &CleanArgs) -> anyhow::Result<()> {
    let (tokenizer, stop) = (args.counted.tokenizer()?, catch_interrupt()?);
    let bounds = Bounds { characters: args.characters.clone(), tokens: args.tokens.clone() };
    let (mut cleaner, mut counts) = (Cleaner::new(bounds, &tokenizer), Counts::default());
    counts.left_out.extend(Unclean::ALL.map(|reason| (reason.name(), 0)));
    write(&args.files.output, |out| {
        for row in rows(&args.files.input, stop)? {
            let row = row?;
            counts.before += 1;
            match cleaner.reason(&row)? {
                Some(reason) => *counts.left_out.entry(reason.name()).or_default() += 1,
                None => {
                    put(out, &Value::Object(row.row))?;
                    *counts.after.entry("clean").or_default() += 1;
                }
            }
        }
        Ok(())
    })?;
    counts.tell(&args.files)
}

fn sanitize(args: &SanitizeArgs) -> anyhow::Result<()> {
    ensure!(args.rejected != args.files.output, "--rejected: expected another file than --output");
    let (tokenizer, stop) = (args.counted.tokenizer()?, catch_interrupt()?);
    let mut rules = args.rules.clone();
    rules.sort();
    rules.dedup();
    let mut counts = Counts::default();
    counts.left_out.extend(rules.iter().map(|rule| (rule.name(), 0)));
    write(&args.rejected, |rejected| {
        write(&args.files.output, |out| {
            for row in rows(&args.files.input, stop)? {
                let mut row = row?;
                counts.before += 1;
                let mut broken = None;
                for rule in &rules {
                    broken = rule.broken(&row, &tokenizer)?.map(|what| (rule.name(), what));
                    if broken.is_some() {
                        break;
                    }
                }
                if let Some((rule, what)) = broken {
                    *counts.left_out.entry(rule).or_default() += 1;
                    row.row.insert("rejected".into(), format!("{rule}: {what}").into());
                    put(rejected, &Value::Object(row.row))?;
                } else {
                    put(out, &Value::Object(row.row))?;
                    *counts.after.entry("kept").or_default() += 1;
                }
            }
            Ok(())
        })
    })?;
    counts.tell(&args.files)
}

fn format(args: &FormatArgs) -> anyhow::Result<()> {
    let (stop, mut counts) = (catch_interrupt()?, Counts::default());
    write(&args.files.output, |out| {
        for row in rows(&args.files.input, stop)? {
            put(out, &row?.as_chat(&args.system))?;
            counts.before += 1;
            *counts.after.entry("chats").or_default() += 1;
        }
        Ok(())
    })?;
    counts.tell(&args.files)
}

fn split(args: &SplitArgs) -> anyhow::Result<()> {
    let (stop, mut counts) = (catch_interrupt()?, Counts::default());
    for (part, name) in PARTS.into_iter().enumerate() {
        counts.before = 0;
        let own = counts.after.entry(name).or_default();
        write(&args.files.output.join(format!("{name}.jsonl")), |out| {
            for row in rows(&args.files.input, stop)? {
                let row = row?;
                counts.before += 1;
                if args.shares.part(&row.document(), args.seed) == part {
                    put(out, &Value::Object(row.row))?;
                    *own += 1;
                }
            }
            Ok(())
        })?;
    }
    counts.tell(&args.files)
}
