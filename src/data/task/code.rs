//! Questions that are answered by programs: HumanEval (Chen et al. 2021, arXiv 2107.03374), MBPP (Austin et al. 2021, arXiv
//! 2108.07732), DS-1000 (Lai et al. 2023, arXiv 2211.11501). What is compressed is what the model reads: the beginning of the
//! function, the worked problems, the description. Tests and references are read for grading alone.

use crate::data::task::program::{ProgramForm, TaskProgram, defines};
use crate::data::task::read::{id_of, read_rows};
use crate::data::task::row::{TaskPrompt, TaskRow};
use crate::error::{Error, Result};
use crate::grading::Grading;
use crate::text_file::at_line;
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// Problems of MBPP that are shown worked: the project's prompts are of 1 to 10.
const WORKED: usize = 3;
const PROMPTS: std::ops::RangeInclusive<u64> = 1..=10;
/// Problems of MBPP that are asked: the project's test split.
const ASKED: std::ops::RangeInclusive<u64> = 11..=510;

#[derive(Deserialize)]
struct HumanEval {
    task_id: String,
    prompt: String,
    entry_point: String,
    canonical_solution: String,
    test: String,
}

#[derive(Deserialize)]
struct Mbpp {
    task_id: u64,
    #[serde(alias = "prompt")]
    text: String,
    code: String,
    #[serde(default)]
    test_setup_code: String,
    #[serde(default)]
    test_imports: Vec<String>,
    test_list: Vec<String>,
}

fn row(benchmark: &str, [id, context, query, reference]: [String; 4], program: TaskProgram) -> TaskRow {
    TaskRow {
        document: Some(id.clone()),
        id,
        context,
        query,
        answers: vec![reference],
        benchmark: benchmark.into(),
        domain: "code".into(),
        grading: Grading::Program,
        program: Some(program),
        ..TaskRow::default()
    }
}

/// Functions to be completed; the context is their beginning.
pub(super) fn read_humaneval(path: &Path) -> Result<Vec<TaskRow>> {
    let form = "with `task_id`, `prompt`, `entry_point`, `canonical_solution` and `test`";
    let one = |(_, own): (usize, HumanEval)| {
        let HumanEval { task_id, prompt, entry_point: entry, canonical_solution, test } = own;
        let after = format!("{test}\ncheck({entry})");
        let form = ProgramForm::Function { entry: entry.clone(), before: prompt.clone(), after };
        let query = format!("Complete the function {entry}.");
        let before = format!("# {query}\n");
        let mut row = row("humaneval", [task_id, prompt, query, canonical_solution], TaskProgram { form, seconds: 3 });
        row.prompt = Some(TaskPrompt { before, after: String::new(), answer_tokens: 384 });
        row
    };
    Ok(read_rows::<HumanEval>(path, form)?.into_iter().map(one).collect())
}

/// Problems behind worked ones, which are the context.
pub(super) fn read_mbpp(path: &Path) -> Result<Vec<TaskRow>> {
    let problems = read_rows::<Mbpp>(path, "with `task_id`, `text`, `code` and `test_list`")?;
    let named = |own: &Mbpp, line: usize| -> Result<String> {
        // The function that the code defines and the first test calls.
        let test = own.test_list.first().map_or("", String::as_str);
        let mut words = test.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
        let found = words.find(|word| defines(&own.code, word)).map(String::from);
        found.ok_or_else(|| at_line(path, line, "`test_list`: expected a call of the function in `code`, got none"))
    };
    let asked = |own: &Mbpp, name: &str| format!("{}\nThe function is called {name}.\n[BEGIN]\n", own.text.trim());
    let mut worked = Vec::new();
    for (line, own) in problems.iter().filter(|(_, own)| PROMPTS.contains(&own.task_id)).take(WORKED) {
        worked.push(format!(
            "{}{}\n[DONE]",
            asked(own, &named(own, *line)?),
            own.code.replace("\r\n", "\n").trim_end()
        ));
    }
    if worked.len() < WORKED {
        let expected = format!("expected {WORKED} problems with `task_id` 1 to 10, which are shown worked");
        return Err(Error::file(path, format!("{expected}, got {}", worked.len())));
    }
    let context = worked.join("\n\n");
    let mut all = Vec::new();
    for (line, own) in problems.iter().filter(|(_, own)| ASKED.contains(&own.task_id)) {
        let entry = named(own, *line)?;
        let query = format!("{} The function is called {entry}.", own.text.trim());
        let parts = [own.test_imports.join("\n"), own.test_setup_code.clone(), own.test_list.join("\n")];
        let form = ProgramForm::Function { entry: entry.clone(), before: String::new(), after: parts.join("\n") };
        let texts = [own.task_id.to_string(), context.clone(), query, own.code.clone()];
        let mut row = row("mbpp", texts, TaskProgram { form, seconds: 10 });
        let after = format!("\n\n{}", asked(own, &entry));
        row.prompt = Some(TaskPrompt { before: String::new(), after, answer_tokens: 256 });
        all.push(row);
    }
    Ok(all)
}

/// Snippets for data science; the context is the description. `code_context`, the test, is hidden.
pub(super) fn read_ds1000(path: &Path) -> Result<Vec<TaskRow>> {
    let form = "with `prompt`, `reference_code`, `code_context` and `metadata`";
    let mut all = Vec::new();
    for (line, own) in read_rows::<Value>(path, form)? {
        let text = |key: &str| -> Result<String> {
            let found = own[key].as_str().map(String::from);
            found.ok_or_else(|| at_line(path, line, format!("`{key}`: expected a text, got {}", own[key])))
        };
        let id = id_of(path, line, &own["metadata"], ["problem_id", "id"])?;
        let (context, reference) = (text("prompt")?, text("reference_code")?);
        let form = ProgramForm::Snippet { code_context: text("code_context")? };
        let query = "Write the code that solves the problem.".to_string();
        let mut row = row("ds1000", [id, context, query, reference], TaskProgram { form, seconds: 120 });
        row.slice = own["metadata"]["library"].as_str().map(String::from);
        row.prompt = Some(TaskPrompt { before: String::new(), after: "\n".into(), answer_tokens: 1024 });
        all.push(row);
    }
    Ok(all)
}
