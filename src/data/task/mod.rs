//! Rows of benchmarks: a context, a question, references, and the rule that grades answers. Each benchmark's own file format
//! has a file here; [`read_task`] reads any of them by name, and the common form `{"id", "context", "query", "answers"}` that
//! [`TaskRow`] is written as.

pub mod adversarial;
mod code;
mod gsm8k;
mod hotpotqa;
mod join;
pub mod leaks;
mod longbench;
mod longbench_v2;
mod meetingbank;
mod program;
mod qasper;
mod read;
mod row;
pub mod ruler;
mod squad;
mod synonyms;

pub use join::joined;
pub use program::{ProgramForm, TaskProgram};
pub use row::{TaskPrompt, TaskRow};

use crate::data::task::read::read_rows;
use crate::error::{Error, Result};
use crate::grading::Grading;
use std::collections::BTreeMap;
use std::path::Path;

/// A benchmark whose file can be read.
pub struct Benchmark {
    /// Name on the command line.
    pub name: &'static str,
    /// Format of its file.
    pub format: &'static str,
    /// Licence of its rows, and where they are.
    pub source: &'static str,
    read: fn(&Path) -> Result<Vec<TaskRow>>,
}

/// All benchmarks that are read from a file; RULER is generated ([`ruler`]).
pub const BENCHMARKS: [Benchmark; 12] = [
    Benchmark {
        name: "ds1000",
        format: ".jsonl of the project; programs are run",
        source: "CC BY-SA 4.0, xlang-ai/DS-1000",
        read: code::read_ds1000,
    },
    Benchmark {
        name: "gsm8k",
        format: ".jsonl of the project; the first 8 problems are the context",
        source: "MIT, openai/grade-school-math",
        read: gsm8k::read,
    },
    Benchmark {
        name: "hotpotqa",
        format: ".json of the project, or a row a line",
        source: "CC BY-SA 4.0, hotpotqa.github.io",
        read: hotpotqa::read,
    },
    Benchmark {
        name: "humaneval",
        format: ".jsonl of the project; programs are run",
        source: "MIT, openai/human-eval",
        read: code::read_humaneval,
    },
    Benchmark {
        name: "longbench",
        format: ".jsonl of the project, English and code tasks",
        source: "MIT and the tasks' own, THUDM/LongBench",
        read: longbench::read,
    },
    Benchmark {
        name: "longbench_v2",
        format: "data.json of the project, or a question a line",
        source: "THUDM/LongBench, version 2",
        read: longbench_v2::read,
    },
    Benchmark {
        name: "mbpp",
        format: ".jsonl of the project; the first 3 problems are the context, programs are run",
        source: "CC BY 4.0, google-research/mbpp",
        read: code::read_mbpp,
    },
    Benchmark {
        name: "meetingbank",
        format: ".json of LLMLingua-2's evaluation: idx, prompt, QA_pairs",
        source: "as its transcripts, microsoft/MeetingBank-QA-Summary",
        read: meetingbank::read,
    },
    Benchmark {
        name: "plain",
        format: ".jsonl of id, context, query, answers",
        source: "anyone's own",
        read: read_plain,
    },
    Benchmark {
        name: "qasper",
        format: ".json of the project, or a paper a line",
        source: "CC BY 4.0, allenai.org/data/qasper",
        read: qasper::read,
    },
    Benchmark {
        name: "squad",
        format: ".json of the project (1.1), a paragraph or a question a line",
        source: "CC BY-SA 4.0, rajpurkar.github.io/SQuAD-explorer",
        read: squad::read_v1,
    },
    Benchmark {
        name: "squad_v2",
        format: "as squad (2.0), with unanswerable questions",
        source: "CC BY-SA 4.0, rajpurkar.github.io/SQuAD-explorer",
        read: squad::read_v2,
    },
];

/// The benchmark of this name; an error that lists all names.
pub fn benchmark(name: &str) -> Result<&'static Benchmark> {
    BENCHMARKS.iter().find(|own| own.name == name).ok_or_else(|| {
        let names: Vec<&str> = BENCHMARKS.iter().map(|own| own.name).collect();
        Error::invalid(format!("expected a benchmark among {}, got {name:?}", names.join(", ")))
    })
}

/// Rows of a benchmark, and those that were passed over.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskRows {
    /// Rows in the order of the file.
    pub rows: Vec<TaskRow>,
    /// Rows with an empty context or question.
    pub empty: usize,
    /// Rows without a reference, where the rule wants one.
    pub without_answer: usize,
    /// Rows of which no reference stands in the context.
    pub not_in_context: usize,
}

/// Reads a file of a benchmark.
///
/// # Errors
/// A file that cannot be read, a row of another form, an id that comes twice, or no row that can be asked; the error names the
/// file and, where there are lines, the line and the field.
pub fn read_task(benchmark: &Benchmark, path: &Path) -> Result<TaskRows> {
    let mut found = TaskRows::default();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (number, row) in (benchmark.read)(path)?.into_iter().enumerate() {
        if let Some(first) = seen.insert(row.id.clone(), number) {
            let message =
                format!("`id`: expected each id once, got {:?} in rows {} and {}", row.id, first + 1, number + 1);
            return Err(Error::file(path, message));
        }
        if row.tells_itself() {
            let message =
                format!("{:?}: expected a context without its reference and tests, got one with them", row.id);
            return Err(Error::file(path, message));
        }
        if row.context.trim().is_empty() || row.query.trim().is_empty() {
            found.empty += 1;
        } else if row.answers.is_empty() && row.grading != Grading::SquadV2 {
            found.without_answer += 1;
        } else {
            let stands = row.answers.iter().any(|answer| row.context.contains(answer));
            found.not_in_context += usize::from(!stands && !row.answers.is_empty());
            found.rows.push(row);
        }
    }
    match found.rows.is_empty() {
        true => Err(Error::file(path, format!("expected rows of {}, got none that can be asked", benchmark.name))),
        false => Ok(found),
    }
}

/// Rows in the common form.
fn read_plain(path: &Path) -> Result<Vec<TaskRow>> {
    let form = "with `id`, `context`, `query` and `answers`";
    Ok(read_rows(path, form)?.into_iter().map(|(_, row)| row).collect())
}
