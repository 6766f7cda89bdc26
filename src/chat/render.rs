//! Chat templates as transformers renders them: Jinja with its `trim_blocks` and `lstrip_blocks`, loop controls, methods of
//! Python's strings, lists and dictionaries, `raise_exception`, `strftime_now`, `tojson` as Python's `json.dumps`, and
//! `{% generation %}`, which marks what a model is trained on and is as good as not there for whoever only renders. What a
//! value looks like when it is printed is Python's `str` too.
//!
//! The clock stands still ([`strftime`]): a run must not depend on the day on which it is made.

use crate::chat::python::{Dumps, string};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, Serde, from_args};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::{globals, pycompat};
use regex::Regex;
use std::sync::LazyLock;

type Rendered<T> = std::result::Result<T, Error>;

/// `template` with these variables; an error says what Jinja or the template itself objects to.
pub fn render(template: &str, variables: &serde_json::Value) -> std::result::Result<String, String> {
    let mut environment = Environment::new();
    let whitespace = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(whitespace.map_err(|e| e.to_string())?);
    environment.set_unknown_method_callback(method);
    environment.set_formatter(|out, _, value| out.write_str(&string(value)).map_err(Error::from));
    environment.add_function("raise_exception", |message: Value| -> Rendered<String> {
        Err(Error::new(ErrorKind::InvalidOperation, string(&message)))
    });
    environment.add_function("strftime_now", |format: Option<String>, named: Kwargs| -> Rendered<String> {
        let format = format.map_or_else(|| named.get("format"), Ok)?;
        named.assert_all_used()?;
        Ok(strftime(&format))
    });
    environment.add_function("cycler", |items: Rest<Value>| globals::cycler(items.0));
    environment.add_function("joiner", globals::joiner);
    environment.add_filter("string", |value: &Value| string(value));
    environment.add_filter("tojson", |value: &Value, given: Rest<Value>, named: Kwargs| -> Rendered<String> {
        let dumps = Dumps::new(&given, &named)?;
        named.assert_all_used()?;
        dumps.text(value)
    });
    let template = without_generation(template);
    environment.add_template("chat", &template).map_err(|e| e.to_string())?;
    let chat = environment.get_template("chat").map_err(|e| e.to_string())?;
    chat.render(Serde(variables)).map_err(|e| e.to_string())
}

/// Methods of Python's strings, lists and dictionaries.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Rendered<Value> {
    let Some(text) = value.as_str() else { return pycompat::unknown_method_callback(state, value, name, args) };
    let three = |(a, b, c): (&str, &str, &str)| Value::from(minijinja::value::Tuple::from([a, b, c].map(Value::from)));
    Ok(match name {
        "removeprefix" => text.strip_prefix(from_args::<(&str,)>(args)?.0).unwrap_or(text).into(),
        "removesuffix" => text.strip_suffix(from_args::<(&str,)>(args)?.0).unwrap_or(text).into(),
        "partition" => {
            let (mark,): (&str,) = from_args(args)?;
            three(text.split_once(mark).map_or((text, "", ""), |(before, after)| (before, mark, after)))
        }
        "rpartition" => {
            let (mark,): (&str,) = from_args(args)?;
            three(text.rsplit_once(mark).map_or(("", "", text), |(before, after)| (before, mark, after)))
        }
        "rsplit" => {
            let (mark, most): (&str, Option<usize>) = from_args(args)?;
            let mut parts: Vec<&str> = text.rsplitn(most.map_or(usize::MAX, |most| most + 1), mark).collect();
            parts.reverse();
            parts.into_iter().map(Value::from).collect()
        }
        "casefold" => text.to_lowercase().into(),
        _ => return pycompat::unknown_method_callback(state, value, name, args),
    })
}

static GENERATION: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^(\{%[-+]?\s*)(end)?generation(\s*[-+]?%\})$").ok());
static RAW: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^\{%[-+]?\s*raw\s*[-+]?%\}$").ok());
static END_OF_RAW: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\{%[-+]?\s*endraw\s*[-+]?%\}").ok());

/// The template with `{% with %}` in the place of `{% generation %}`: a scope of its own and nothing else.
fn without_generation(template: &str) -> String {
    let (Some(generation), Some(raw), Some(end_of_raw)) = (&*GENERATION, &*RAW, &*END_OF_RAW) else {
        return template.to_string();
    };
    let mut made = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        made.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = match rest.as_bytes().get(1) {
            Some(b'#') => rest.find("#}").map(|end| end + 2),
            Some(b'{') => closed(rest, "}}"),
            Some(b'%') => closed(rest, "%}"),
            _ => Some(1),
        };
        let (tag, behind) = rest.split_at(end.unwrap_or(rest.len()));
        made.push_str(&generation.replace(tag, "${1}${2}with${3}"));
        rest = behind;
        if raw.is_match(tag) {
            let end = end_of_raw.find(rest).map_or(rest.len(), |found| found.end());
            made.push_str(&rest[..end]);
            rest = &rest[end..];
        }
    }
    made + rest
}

/// The end of the tag that `text` begins with: behind the first `end` outside strings and brackets.
fn closed(text: &str, end: &str) -> Option<usize> {
    let (mut depth, mut quote, mut escaped) = (0usize, None, false);
    for (at, c) in text.char_indices().skip(2) {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), _) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, _) if depth == 0 && text[at..].starts_with(end) => return Some(at + end.len()),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth = depth.saturating_sub(1),
            (None, _) => {}
        }
    }
    None
}

/// Python's `strftime` at midnight of Wednesday, 1 January 2025, with the flags of the C library: `-` for no padding, `_` for
/// blanks, `^` for capitals.
fn strftime(format: &str) -> String {
    let mut made = String::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        made.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let flags = after.len() - after.trim_start_matches(['-', '_', '0', '^', '#']).len();
        let Some(directive) = after[flags..].chars().next() else {
            made.push_str(&rest[at..]);
            return made;
        };
        let (flags, end) = (&after[..flags], flags + directive.len_utf8());
        match field(directive) {
            Some(text) => made.push_str(&flagged(text, flags)),
            None => made.push_str(&rest[at..at + 1 + end]),
        }
        rest = &after[end..];
    }
    made + rest
}

/// A directive at that moment.
fn field(directive: char) -> Option<&'static str> {
    Some(match directive {
        'a' => "Wed",
        'A' => "Wednesday",
        'b' | 'h' => "Jan",
        'B' => "January",
        'c' => "Wed Jan  1 00:00:00 2025",
        'C' => "20",
        'd' | 'm' | 'V' => "01",
        'D' | 'x' => "01/01/25",
        'e' => " 1",
        'f' => "000000",
        'F' => "2025-01-01",
        'g' | 'y' => "25",
        'G' | 'Y' => "2025",
        'H' | 'M' | 'S' | 'U' | 'W' => "00",
        'I' | 'l' => "12",
        'j' => "001",
        'k' => " 0",
        'n' => "\n",
        'p' => "AM",
        'P' => "am",
        'r' => "12:00:00 AM",
        'R' => "00:00",
        's' => "1735689600",
        't' => "\t",
        'T' | 'X' => "00:00:00",
        'u' | 'w' => "3",
        'z' | 'Z' => "",
        '%' => "%",
        _ => return None,
    })
}

fn flagged(text: &str, flags: &str) -> String {
    let is_number = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == ' ');
    let bare = text.trim_start_matches(['0', ' ']);
    let bare = if bare.is_empty() { "0" } else { bare };
    match flags.chars().last() {
        Some('-') if is_number => bare.to_string(),
        Some('_') if is_number => format!("{bare:>width$}", width = text.len()),
        Some('0') if is_number => format!("{bare:0>width$}", width = text.len()),
        Some('^') => text.to_uppercase(),
        _ => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_is_replaced_where_it_is_one() {
        for (template, expected) in [
            ("a{% generation %}b{%-endgeneration +%}c", "a{% with %}b{%-endwith +%}c"),
            ("{{ '{% generation %}' }}{# {% generation %} #}", "{{ '{% generation %}' }}{# {% generation %} #}"),
            (
                "{% raw %}{% generation %}{% endraw %}{% generation %}",
                "{% raw %}{% generation %}{% endraw %}{% with %}",
            ),
            ("{{ {'}}': \"%}\\\"\"} }}{% generation %}", "{{ {'}}': \"%}\\\"\"} }}{% with %}"),
            ("{% set generation = 1 %}{% generations %}", "{% set generation = 1 %}{% generations %}"),
            ("{ {% generation", "{ {% generation"),
        ] {
            assert_eq!(without_generation(template), expected);
        }
    }
}
