//! Pairs of a text and its shorter form, `{"verbose", "compressed", "domain"?}` a line, and the domain of a text.

use crate::data::corpus::{parse_row, read_lines};
use crate::error::{Error, Result};
use crate::text_file::at_line;
use regex::Regex;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::LazyLock;

/// Domain of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    /// Natural language.
    Nl,
    /// Source code.
    Code,
    /// Both.
    Mixed,
}

/// Share of code among the lines that are not blank, above which a text is mixed, and above which it is code.
const CODE_LINES: [f64; 2] = [0.3, 0.7];
/// Begins and ends a block of code in Markdown.
const FENCE: &str = "```";

/// A line of code, if it is not indented: a keyword and an open end, an import or a return, an end that prose does not have, an
/// assignment, a call, a decorator.
static CODE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let keyword = "async|case|class|const|def|elif|else|enum|except|finally|fn|for|func|function|if|impl|let|match|private|\
        public|pub|static|struct|switch|try|var|while|with";
    let open = format!(r"^(?:{keyword})\b.*[:;{{(\[,]$");
    let lines = [
        open.as_str(),
        r"^(?:import [\w.]+|from [\w.]+ import\b|return\b|raise [A-Z]|#include\b|@\w+[\w.]*(?:\(|$))",
        r"[;{}\\]$|^[)\]}]+[,;:]?$|\($",
        r#"^[\w.\[\]"']+(?:: ?[\w\[\], ]+)? ?(?:[-+*/|]?=|:=) ?\S"#,
        r"^(?:[\w.]+ )?[\w.]+\(.*\)[,;:]?$",
    ];
    Regex::new(&lines.join("|")).ok()
});

impl Domain {
    /// The domain of a text, by the share of its lines that are code or stand in a fence.
    pub fn of(text: &str) -> Domain {
        let (mut code, mut all, mut fenced) = (0usize, 0usize, false);
        for whole in text.lines().filter(|line| !line.trim().is_empty()) {
            let line = whole.trim();
            let indented = whole.starts_with('\t') || whole.starts_with("    ");
            all += 1;
            if line.starts_with(FENCE) {
                fenced = !fenced;
                code += 1;
            } else if fenced || indented || CODE.as_ref().is_some_and(|own| own.is_match(line)) {
                code += 1;
            }
        }
        match code as f64 / all.max(1) as f64 {
            share if share > CODE_LINES[1] => Domain::Code,
            share if share > CODE_LINES[0] => Domain::Mixed,
            _ => Domain::Nl,
        }
    }

    /// Name in files.
    pub fn name(self) -> &'static str {
        match self {
            Domain::Nl => "nl",
            Domain::Code => "code",
            Domain::Mixed => "mixed",
        }
    }
}

/// A text and its shorter form.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct TextPair {
    /// The text.
    pub verbose: String,
    /// Its shorter form; empty where nothing was kept.
    pub compressed: String,
    /// Domain, where the row says it.
    #[serde(default)]
    pub domain: Option<Domain>,
}

/// The pairs of a `.jsonl` file, plain, `.zst` or `.gz`, each with its line. Other keys are passed over.
///
/// # Errors
/// A file that cannot be read, a row of another form, a text without a character, or no row.
pub fn read_pairs(path: &Path) -> Result<Vec<(usize, TextPair)>> {
    let mut found = Vec::new();
    for (line, text) in read_lines(path)? {
        let pair: TextPair = parse_row(path, line, &text, "with `verbose`, `compressed` and perhaps `domain`")?;
        if pair.verbose.trim().is_empty() {
            return Err(at_line(path, line, format!("`verbose`: expected a text, got {:?}", pair.verbose)));
        }
        found.push((line, pair));
    }
    if found.is_empty() {
        return Err(Error::file(path, "expected rows with `verbose` and `compressed`, got none"));
    }
    Ok(found)
}
