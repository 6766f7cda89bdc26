//! Answers that are programs: how an answer and hidden tests become one program that passes or fails. No model and no compressor
//! sees the tests or the reference.

use serde::{Deserialize, Serialize};

/// Beginnings of lines at which a continued function ends (Chen et al. 2021, arXiv 2107.03374, §2.3).
const STOPS: [&str; 5] = ["\nclass", "\ndef", "\n#", "\nif", "\nprint"];
/// Texts at which an answer of DS-1000 or MBPP ends.
const ENDS: [&str; 3] = ["</code>", "\nEND SOLUTION", "[DONE]"];

/// The program that an answer becomes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskProgram {
    /// Form of the program.
    pub form: ProgramForm,
    /// Seconds that it may take.
    pub seconds: u32,
}

/// Form of a program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ProgramForm {
    /// A function of this name: whole, or what goes on behind `before`; `after` tests it.
    Function {
        /// Name of the function.
        entry: String,
        /// The beginning of the program, which an answer may go on from.
        before: String,
        /// Tests.
        after: String,
    },
    /// A piece of code that `code_context` of DS-1000 inserts and tests.
    Snippet {
        /// The test program.
        code_context: String,
    },
}

impl TaskProgram {
    /// The program with an answer in it.
    pub fn with(&self, answer: &str) -> String {
        let code = code(answer);
        match &self.form {
            ProgramForm::Function { entry, before, after } => {
                let function = match !is_indented(code) && defines(code, entry) {
                    true => format!("{}{code}", imports(before)),
                    false => format!("{before}{}", code[..first(code, &STOPS)].trim_end()),
                };
                format!("{function}\n\n{after}\n")
            }
            ProgramForm::Snippet { code_context } => {
                // A string of JSON is one of Python.
                let own = serde_json::Value::from(code);
                let more = if code_context.contains("test_string(") { "test_string(code)\n" } else { "" };
                format!("{code_context}\ncode = {own}\ntest_execution(code)\n{more}")
            }
        }
    }

    /// The text that neither a model nor a compressor may see.
    pub fn hidden(&self) -> &str {
        match &self.form {
            ProgramForm::Function { after, .. } => after,
            ProgramForm::Snippet { code_context } => code_context,
        }
    }
}

/// Whether code defines a function of this name at the beginning of a line.
pub(super) fn defines(code: &str, name: &str) -> bool {
    code.lines().any(|line| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        let rest = line.strip_prefix("def ").and_then(|own| own.trim_start().strip_prefix(name));
        rest.is_some_and(|rest| rest.trim_start().starts_with('('))
    })
}

/// Whether the first line that is not blank begins with a blank.
fn is_indented(code: &str) -> bool {
    code.lines().find(|line| !line.trim().is_empty()).is_some_and(|line| line.starts_with([' ', '\t']))
}

/// The code of an answer: of a text with fenced blocks the first of these, and nothing behind the end that a prompt asks for.
fn code(answer: &str) -> &str {
    let own = match answer.split_once("```") {
        None => answer,
        // A fence that only closes: the answer went on from a fence of the prompt.
        Some((before, rest)) if !rest.contains("```") && !before.trim().is_empty() => before,
        Some((_, rest)) => {
            // The rest of the fence's line names a language.
            let body = rest.split_once('\n').map_or("", |(_, body)| body);
            body.split_once("```").map_or(body, |(body, _)| body)
        }
    };
    let own = own.trim_start_matches("<code>");
    &own[..first(own, &ENDS)]
}

/// The first place at which one of these texts stands; the end if none does.
fn first(text: &str, of: &[&str]) -> usize {
    of.iter().filter_map(|own| text.find(own)).min().unwrap_or(text.len())
}

/// The lines of a program that import.
fn imports(text: &str) -> String {
    let is_import = |line: &&str| line.starts_with("import ") || line.starts_with("from ");
    text.lines().filter(is_import).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(before: &str) -> TaskProgram {
        let (entry, before, after) = ("twice".into(), before.into(), "assert twice(2) == 4".into());
        TaskProgram { form: ProgramForm::Function { entry, before, after }, seconds: 3 }
    }

    #[test]
    fn an_answer_goes_on_from_a_beginning_or_stands_whole() {
        let begun = function("import math\n\ndef twice(x):\n    \"\"\"Twice x.\"\"\"\n");
        let body = "    return 2 * x\n\ndef other():\n    pass";
        let expected =
            "import math\n\ndef twice(x):\n    \"\"\"Twice x.\"\"\"\n    return 2 * x\n\nassert twice(2) == 4\n";
        assert_eq!(begun.with(body), expected);
        let whole = "def twice(x):\n    return x + x\n";
        let expected = format!("import math\n{whole}\n\nassert twice(2) == 4\n");
        assert_eq!(begun.with(whole), expected);
        for fence in ["```python", "```py", "```"] {
            assert_eq!(begun.with(&format!("Here it is:\n{fence}\n{whole}```\nI hope so.")), expected);
        }
        // The fence that closes one of the prompt, and a function that comes again.
        let again = format!("{body}\n```\nSo it is. {whole}");
        assert!(begun.with(&again).ends_with("    return 2 * x\n\nassert twice(2) == 4\n"));
        assert!(begun.with(&format!("    return 2 * x\n\n{whole}")).contains("Twice x."));
        assert_eq!(function("").with(&format!("{whole}[DONE]\nmore")), expected.replace("import math\n", ""));
    }

    #[test]
    fn a_function_is_known_by_its_whole_name() {
        assert!(defines("x = 1\nasync def twice (x): pass", "twice") && defines("def twice(x): pass", "twice"));
        assert!(!defines("def twice_more(x): pass\n    def twice(x): pass", "twice"));
    }

    #[test]
    fn a_snippet_is_handed_to_its_test_as_a_string() {
        let program =
            |context: &str| TaskProgram { form: ProgramForm::Snippet { code_context: context.into() }, seconds: 120 };
        let context = "def test_execution(code): pass";
        let made = program(context).with("x = \"é\\n\"\n</code>\nrest");
        assert_eq!(made, program(context).with("<code>x = \"é\\n\"\n</code>"));
        assert_eq!(made, format!("{context}\ncode = \"x = \\\"é\\\\n\\\"\\n\"\ntest_execution(code)\n"));
        assert!(
            program("def test_string(code): pass").with("x").ends_with("test_execution(code)\ntest_string(code)\n")
        );
    }
}
