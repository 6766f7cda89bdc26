//! Windows of contexts with questions: one window a context with a probe for each question, or, where the compressor sees the
//! probe that it is rewarded by, one window a question. Futures are the first answers of the rows; the teacher's own come
//! later, where windows are drawn.

use crate::chat::ReaderFrame;
use crate::config::choices::Condition;
use crate::data::{Document, Probe, Question, Window, WindowShape, read_qa};
use crate::error::{Error, Result};
use crate::models::Models;
use std::path::Path;

/// The windows of a file of questions.
pub struct QaWindows {
    /// Windows in the order of the file.
    pub windows: Vec<Window>,
    /// Contexts, which windows name by their place.
    pub documents: Vec<Document>,
}

/// Reads a file of questions into windows. What is longer than `shape` allows is passed over, and so are contexts that a
/// budget of `budget` tokens keeps whole; stderr says how many.
///
/// # Errors
/// As [`read_qa`], or where nothing fits.
pub fn load(
    models: &Models,
    path: &Path,
    (shape, budget): (WindowShape, usize),
    condition: Condition,
    frame: &ReaderFrame,
) -> Result<QaWindows> {
    let ids = |text: &str| models.tokenizer.encode(text);
    let rows = read_qa(path)?;
    let (mut windows, mut documents) = (Vec::new(), Vec::new());
    let (mut long_contexts, mut short_contexts, mut long_probes) = (0, 0, 0);
    for context in rows.contexts {
        let prefix = ids(&context.document.text)?;
        if prefix.len() > shape.prefix {
            long_contexts += 1;
            continue;
        }
        if prefix.len() <= budget {
            short_contexts += 1;
            continue;
        }
        let mut probes = Vec::new();
        for question in &context.questions {
            let Question { question, answers } = question;
            let (local, query) = (frame.local(&models.tokenizer, question)?, ids(question)?);
            let future = ids(&format!("{}{}", frame.gap(question), answers[0]))?;
            match local.len() > shape.local || local.is_empty() || future.len() > shape.future {
                true => long_probes += 1,
                false => probes.push(Probe { local, query, future }),
            }
        }
        let document = documents.len();
        let window = |probes: Vec<Probe>| {
            let (frame, prefix) = (frame.before().to_vec(), prefix.clone());
            Window { document, start: 0, frame, prefix, probes, evidence: Vec::new() }
        };
        match condition {
            _ if probes.is_empty() => {}
            Condition::None => windows.push(window(probes)),
            Condition::Local | Condition::Query => windows.extend(probes.into_iter().map(|probe| window(vec![probe]))),
        }
        documents.push(context.document);
    }
    if windows.is_empty() {
        return Err(Error::file(
            path,
            "expected contexts that data.prefix_tokens holds and the budget does not, and questions and answers that data.local_tokens and data.future_tokens hold, got none",
        ));
    }
    let passed = [
        (rows.without_questions, "rows without questions"),
        (rows.without_answer, "questions without answer"),
        (long_contexts, "contexts above data.prefix_tokens"),
        (short_contexts, "contexts that the budget keeps whole"),
        (long_probes, "questions or answers above data.local_tokens and data.future_tokens"),
    ];
    for (count, kind) in passed.into_iter().filter(|(count, _)| *count > 0) {
        eprintln!("{}: {count} {kind} are passed over", path.display());
    }
    if rows.not_in_context > 0 {
        eprintln!("{}: of {} questions no answer stands in the context", path.display(), rows.not_in_context);
    }
    Ok(QaWindows { windows, documents })
}
