//! `pairs generate`: texts, and what a compressor or a model makes of them. Batches of rows are written as they come; a command that
//! was stopped goes on with `--resume`.

use crate::cli::named::NamedArgs;
use crate::cli::start::catch_interrupt;
use crate::cli::task_model::HttpArgs;
use anyhow::{Context, ensure};
use gist::condense::pairs::rows::{ASKED, SYSTEM};
use gist::condense::{Condenser, PlainText};
use gist::config::choices::BudgetConfig;
use gist::data::pairs::Domain;
use gist::data::{next_line, open_rows, parse_row};
use gist::endpoint::{EndpointQuestion, Protocol};
use gist::error::Error;
use gist::progress::Progress;
use gist::run_dir::FolderLock;
use gist::text_file::at_line;
use serde_json::{Map, Value, json};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Texts that are read before any pair is written.
const AT_ONCE: usize = 16;
/// Bytes that are read at a time from the end of a file.
const PIECE: u64 = 1 << 16;

/// Flags of `pairs generate`.
#[derive(clap::Args)]
pub struct GenerateArgs {
    /// Texts: rows of a .jsonl file (plain, .zst or .gz) with a text in --field each, and perhaps a document and a `domain`.
    #[arg(value_name = "FILE")]
    input: PathBuf,
    /// File that receives the pairs: .jsonl.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Field of a row that holds its text.
    #[arg(long, value_name = "NAME", default_value = "text")]
    field: String,
    /// Field of a row that names the document of its text; the row's `id` where there is no such field.
    #[arg(long, value_name = "NAME", default_value = "document")]
    document_field: String,
    /// The compressor: a run's directory, or a name as in `gist compress --with`.
    #[arg(long, value_name = "RUN|NAME", required_unless_present = "ask", conflicts_with = "ask")]
    with: Option<String>,
    /// Budget of a text, as a share of its tokens.
    #[arg(long, value_name = "SHARE", default_value_t = 0.35)]
    keep_ratio: f64,
    /// A model behind HTTP that is asked for the shorter form: openai:NAME, anthropic:NAME or gemini:NAME.
    #[arg(long, value_name = "PROTOCOL:NAME")]
    ask: Option<String>,
    /// Tokens that its answer may have.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    answer_tokens: u32,
    /// Pairs at most, of the first texts; absent = all.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Go on behind the pairs that --output has.
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    named: NamedArgs,
    #[command(flatten)]
    http: HttpArgs,
}

/// A text to make a pair of.
struct Source {
    line: usize,
    text: String,
    domain: Value,
    document: Option<Value>,
}

/// The texts of a file, one at a time.
struct Sources {
    path: PathBuf,
    field: String,
    document_field: String,
    lines: Box<dyn BufRead>,
    line: usize,
}

impl Sources {
    fn next(&mut self) -> anyhow::Result<Option<Source>> {
        let Some(line) = next_line(&self.path, &mut self.lines, &mut self.line)? else { return Ok(None) };
        let form = format!("with a text `{}`", self.field);
        let mut row: Map<String, Value> = parse_row(&self.path, self.line, line.trim(), &form)?;
        let Some(Value::String(text)) = row.remove(&self.field) else {
            let expected = format!("`{}`: expected a text, got none", self.field);
            return Err(at_line(&self.path, self.line, expected).into());
        };
        let domain = match row.remove("domain") {
            Some(domain) if !domain.is_null() => domain,
            _ => Domain::of(&text).name().into(),
        };
        let document = row.remove(&self.document_field).or_else(|| row.remove("id")).filter(|own| !own.is_null());
        Ok(Some(Source { line: self.line, text, domain, document }))
    }
}

/// Shorter forms of some texts.
type Make<'a> = Box<dyn Fn(&[Source]) -> anyhow::Result<Vec<String>> + 'a>;

/// Makes the pairs.
pub fn run(args: &GenerateArgs) -> anyhow::Result<()> {
    ensure!(
        args.keep_ratio > 0.0 && args.keep_ratio <= 1.0,
        "--keep-ratio: expected a share above 0 and at most 1, got {}",
        args.keep_ratio
    );
    let stop = catch_interrupt()?;
    let folder = args.output.parent().filter(|own| !own.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (&args.with, &args.ask) {
        (Some(with), _) => {
            args.http.refuse("--ask")?;
            let named = args.named.open("--with", std::slice::from_ref(with))?;
            let mut entrants = named.entrants("--with")?;
            let mut entrant = entrants.pop().context("--with: expected a compressor, got none")?;
            let compressor = entrant.members.pop().context("--with: expected a compressor, got none")?;
            let condenser = Condenser { compressor: compressor.as_ref(), tokenizer: &named.models.tokenizer };
            let budget = BudgetConfig { tokens: None, keep_ratio: Some(args.keep_ratio) };
            let maker = json!({"compressor": compressor.name(), "keep_ratio": args.keep_ratio});
            let make = |sources: &[Source]| {
                let plain: Vec<PlainText> = (sources.iter())
                    .map(|source| PlainText { text: &source.text, query: "", key: source.line as u64 })
                    .collect();
                let made = condenser.condense(&plain, &budget)?;
                let of = |(source, made): (&Source, gist::error::Result<gist::condense::Condensed>)| {
                    let named = |error: Error| at_line(&args.input, source.line, format!("`{}`: {error}", args.field));
                    Ok(made.map_err(named)?.text)
                };
                sources.iter().zip(made).map(of).collect()
            };
            generate(args, folder, &maker, Box::new(make), stop)
        }
        (None, Some(name)) => {
            ensure!(
                Protocol::of(name).is_some(),
                "--ask: expected a model behind HTTP, PROTOCOL:NAME, got {name:?}; a base that runs here is \
                 `--with summary --base MODEL`"
            );
            let endpoint = args.http.endpoint(name, folder, 1)?;
            let make = |sources: &[Source]| {
                let prompts: Vec<String> =
                    sources.iter().map(|source| format!("{SYSTEM}\n\n{ASKED}\n{}", source.text)).collect();
                let answer_tokens = args.answer_tokens as usize;
                let about = "pairs";
                let questions = prompts.iter().map(|text| EndpointQuestion { text, answer_tokens, about });
                let answers = endpoint.ask(&questions.collect::<Vec<_>>(), stop)?;
                Ok(answers.into_iter().map(|answer| answer.reply.text).collect())
            };
            generate(args, folder, &json!({"model": name, "answer_tokens": args.answer_tokens}), Box::new(make), stop)
        }
        (None, None) => anyhow::bail!("expected --with or --ask, got neither"),
    }
}

fn generate(args: &GenerateArgs, folder: &Path, maker: &Value, make: Make, stop: &AtomicBool) -> anyhow::Result<()> {
    let mut sources = Sources {
        path: args.input.clone(),
        field: args.field.clone(),
        document_field: args.document_field.clone(),
        lines: open_rows(&args.input)?,
        line: 0,
    };
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let _lock = FolderLock::take(folder)?;
    let has = args.output.exists();
    ensure!(
        !has || args.resume,
        "{}: expected no such file, got one; --resume goes on behind its pairs",
        args.output.display()
    );
    let limit = args.limit.map_or(usize::MAX, |limit| limit as usize);
    let total = count(args)?.min(limit);
    let mut done = if has { skip(args, maker, &mut sources)? } else { 0 };
    let progress = Progress::new("pairs", total, done);
    let before = done;
    loop {
        let mut batch = Vec::new();
        while batch.len() < AT_ONCE && done + batch.len() < limit {
            let Some(source) = sources.next()? else { break };
            batch.push(source);
        }
        if batch.is_empty() {
            break;
        }
        let made = make(&batch)?;
        let mut lines = String::new();
        for (source, compressed) in batch.iter().zip(made) {
            let mut row = json!({
                "verbose": source.text, "compressed": compressed, "domain": source.domain, "made_by": maker,
            });
            if let (Some(document), Value::Object(row)) = (&source.document, &mut row) {
                row.insert("document".into(), document.clone());
            }
            lines.push_str(&row.to_string());
            lines.push('\n');
        }
        write_whole(&args.output, &lines)?;
        done += batch.len();
        batch.iter().for_each(|_| progress.step(""));
        if stop.load(Ordering::SeqCst) {
            return Err(Error::Stopped(format!("{done} pairs are written; --resume goes on")).into());
        }
    }
    progress.finish();
    println!("{}: {done} pairs, {} of them new", args.output.display(), done - before);
    Ok(())
}

/// Number of texts of the input.
fn count(args: &GenerateArgs) -> anyhow::Result<usize> {
    let mut count = 0;
    for line in open_rows(&args.input)?.lines() {
        count += usize::from(!line.map_err(|error| Error::io(&args.input, error))?.trim().is_empty());
    }
    Ok(count)
}

/// Appends lines, all or none.
fn write_whole(path: &Path, lines: &str) -> anyhow::Result<()> {
    let io = |error| Error::io(path, error);
    let mut file = OpenOptions::new().append(true).create(true).open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    if let Err(error) = file.write_all(lines.as_bytes()).and_then(|()| file.sync_data()) {
        let _ = file.set_len(length); // no half row
        return Err(io(error).into());
    }
    Ok(())
}

/// Passes over the texts whose pairs are there, and cuts a last line that was never finished.
fn skip(args: &GenerateArgs, maker: &Value, sources: &mut Sources) -> anyhow::Result<usize> {
    let path = &args.output;
    let io = |error| Error::io(path, error);
    let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(io)?;
    let whole = whole_lines(&mut file).map_err(io)?;
    file.set_len(whole).and_then(|()| file.rewind()).map_err(io)?;
    let mut count = 0;
    for line in BufReader::new(file).lines() {
        count += 1;
        let row: Map<String, Value> = parse_row(path, count, &line.map_err(io)?, "with `verbose` and `made_by`")?;
        let wrong = |message: String| anyhow::Error::from(at_line(path, count, message));
        let by = row.get("made_by").unwrap_or(&Value::Null);
        if by != maker {
            return Err(wrong(format!("`made_by`: expected {maker} as this command makes them, got {by}")));
        }
        let source = sources.next()?;
        let text = source.as_ref().map(|source| source.text.as_str());
        if row.get("verbose").and_then(Value::as_str) != text {
            let at = source.as_ref().map_or("the end".to_string(), |source| format!("line {}", source.line));
            return Err(wrong(format!("`verbose`: expected the text of {} {at}", args.input.display())));
        }
    }
    Ok(count)
}

/// Bytes up to the last end of a line.
fn whole_lines(file: &mut File) -> std::io::Result<u64> {
    let mut end = file.metadata()?.len();
    while end > 0 {
        let start = end.saturating_sub(PIECE);
        let mut piece = vec![0; (end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut piece)?;
        if let Some(last) = piece.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
