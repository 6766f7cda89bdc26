//! Turns what serde says about a value into a dotted key and a message in the words of TOML.

use crate::config::keys::join;
use serde::de::Unexpected;
use serde_path_to_error::{Path, Segment};
use toml::{Table, Value};

/// The key at fault and what was expected and got. serde buffers a tagged enum before it reads the variant, so that
/// `path` may stop at the enum: the key below it is then found by the name or the value that the message quotes.
pub fn explain(table: &Table, path: &Path, message: &str) -> (String, String) {
    let mut at = String::new();
    for segment in path.iter() {
        match segment {
            Segment::Map { key } | Segment::Enum { variant: key } => at = join(&at, key),
            Segment::Seq { index } => at = format!("{at}[{index}]"),
            Segment::Unknown => {}
        }
    }
    let mut below = Vec::new();
    nodes(table, "", &mut below);
    let is_below =
        |key: &str| key.strip_prefix(&at).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
    below.retain(|node| at.is_empty() || is_below(&node.key));
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let name = quoted.first().copied().unwrap_or_default();
    let known = quoted.get(1..).unwrap_or_default();

    if message.starts_with("unknown field") {
        return (locate(&below, &at, |node| node.name == name), unknown_key(name, known));
    }
    if message.starts_with("unknown variant") {
        let key = locate(&below, &at, |node| node.value.as_str() == Some(name));
        return (key, format!("expected {}, got `{name}`{}", one_of(known), suggestion(name, known)));
    }
    if message.starts_with("missing field") {
        return (join(&at, name), "missing; it has no default".to_string());
    }
    let split = message.strip_prefix("invalid ").and_then(|rest| rest.split_once(": ")?.1.rsplit_once(", expected "));
    let Some((got, expected)) = split else { return (at, message.to_string()) };
    let key = locate(&below, &at, |node| node.unexpected() == got);
    (key, format!("expected {}, got {}", in_toml(expected), in_toml(got)))
}

struct Node<'a> {
    key: String,
    name: &'a str,
    value: &'a Value,
}

impl Node<'_> {
    /// Name of the value in serde's messages.
    fn unexpected(&self) -> String {
        match self.value {
            Value::String(text) => Unexpected::Str(text),
            Value::Integer(number) => Unexpected::Signed(*number),
            Value::Float(number) => Unexpected::Float(*number),
            Value::Boolean(flag) => Unexpected::Bool(*flag),
            Value::Array(_) => Unexpected::Seq,
            Value::Table(_) | Value::Datetime(_) => Unexpected::Map,
        }
        .to_string()
    }
}

/// Every value of the tree, tables and list elements included.
fn nodes<'a>(table: &'a Table, parent: &str, found: &mut Vec<Node<'a>>) {
    fn visit<'a>(key: String, name: &'a str, value: &'a Value, found: &mut Vec<Node<'a>>) {
        match value {
            Value::Table(inner) => nodes(inner, &key, found),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    visit(format!("{key}[{index}]"), "", item, found);
                }
            }
            _ => {}
        }
        found.push(Node { key, name, value });
    }
    for (name, value) in table {
        visit(join(parent, name), name, value, found);
    }
}

/// `at` itself when `fits` holds for it, else its only descendant for which it does, else `at`.
fn locate(below: &[Node], at: &str, fits: impl Fn(&Node) -> bool) -> String {
    let fitting: Vec<&Node> = below.iter().filter(|node| fits(node)).collect();
    match fitting[..] {
        [only] if !fitting.iter().any(|node| node.key == at) => only.key.clone(),
        _ => at.to_string(),
    }
}

fn unknown_key(name: &str, known: &[&str]) -> String {
    if known.is_empty() {
        return format!("unknown key `{name}`; no keys are expected here");
    }
    format!("unknown key `{name}`{}; expected {}", suggestion(name, known), one_of(known))
}

/// The name among `known` that is most like `name`, as a question; nothing when none is.
pub fn suggestion(name: &str, known: &[&str]) -> String {
    let scored = known.iter().map(|&candidate| (strsim::jaro_winkler(name, candidate), candidate));
    let nearest = scored.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(score, _)| *score > 0.75);
    nearest.map_or(String::new(), |(_, candidate)| format!(" (did you mean `{candidate}`?)"))
}

fn one_of(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match &names[..] {
        [only] => only.clone(),
        _ => format!("one of {}", names.join(", ")),
    }
}

/// serde's word for a kind of value, as a user of TOML would say it.
fn in_toml(kind: &str) -> String {
    let word = match kind {
        "map" => "a table",
        "sequence" | "a sequence" => "a list",
        "f32" | "f64" => "a number",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a non-negative integer",
        "i8" | "i16" | "i32" | "i64" | "isize" => "an integer",
        _ if kind.starts_with("struct ") || kind.contains("tagged enum ") => "a table",
        _ => kind,
    };
    word.replace("floating point", "float")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Schema {
        #[serde(default)]
        seed: u64,
        #[serde(default)]
        signal: Option<Signal>,
        #[serde(default)]
        targets: Vec<String>,
        #[serde(default)]
        sources: Vec<Source>,
        #[serde(default)]
        algo: Option<Algo>,
        #[serde(default)]
        nothing: Option<Nothing>,
        #[serde(default)]
        mix: std::collections::BTreeMap<String, f64>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Signal {
        Kl,
        Logprob,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Source {
        name: String,
        #[serde(default)]
        weight: f64,
    }

    #[derive(Debug, Deserialize)]
    #[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
    #[allow(dead_code)]
    enum Algo {
        Rloo(Rloo),
        Ppo(Ppo),
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Rloo {}

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Ppo {
        clip: f64,
        #[serde(default)]
        updates: u32,
        #[serde(default)]
        schedule: Option<Source>,
    }

    fn fail(text: &str) -> String {
        let table: Table = toml::from_str(text).unwrap();
        let error = serde_path_to_error::deserialize::<_, Schema>(table.clone()).unwrap_err();
        let (key, message) = explain(&table, error.path(), error.inner().message());
        format!("{key}: {message}")
    }

    #[test]
    fn unknown_keys_name_the_nearest() {
        assert_eq!(
            fail("sede = 1"),
            "sede: unknown key `sede` (did you mean `seed`?); expected one of \
             `seed`, `signal`, `targets`, `sources`, `algo`, `nothing`, `mix`"
        );
        assert_eq!(
            fail("[[sources]]\nname = \"a\"\n[[sources]]\nname = \"b\"\nwieght = 1"),
            "sources[1].wieght: unknown key `wieght` (did you mean `weight`?); expected one of `name`, `weight`"
        );
        assert_eq!(fail("[nothing]\nx = 1"), "nothing.x: unknown key `x`; no keys are expected here");
    }

    #[test]
    fn tagged_enums_are_searched_for_the_key() {
        assert_eq!(
            fail("[algo]\ntype = \"rloo\"\nclip = 0.2"),
            "algo.clip: unknown key `clip`; no keys are expected here"
        );
        assert_eq!(
            fail("[algo]\ntype = \"ppo\"\nclip = 0.2\nupdate = 2"),
            "algo.update: unknown key `update` (did you mean `updates`?); expected one of `clip`, `updates`, `schedule`"
        );
        assert_eq!(
            fail("[algo]\ntype = \"ppo\"\nclip = \"wide\""),
            "algo.clip: expected a number, got string \"wide\""
        );
        assert_eq!(
            fail("[algo]\ntype = \"ppo\"\nclip = 0.2\n[algo.schedule]\nname = \"cosine\"\nweight = true"),
            "algo.schedule.weight: expected a number, got boolean `true`"
        );
        assert_eq!(
            fail("[algo]\ntype = \"ppo\"\nclip = 0.2\n[algo.schedule]\nname = \"cosine\"\nw = true"),
            "algo.schedule.w: unknown key `w` (did you mean `weight`?); expected one of `name`, `weight`"
        );
        assert_eq!(fail("[algo]\ntype = \"ppo\""), "algo.clip: missing; it has no default");
        assert_eq!(fail("[algo]\nclip = 0.2"), "algo.type: missing; it has no default");
        assert_eq!(
            fail("[algo]\ntype = \"rlo\""),
            "algo.type: expected one of `rloo`, `ppo`, got `rlo` (did you mean `rloo`?)"
        );
    }

    #[test]
    fn wrong_values_say_expected_and_got() {
        assert_eq!(
            fail("seed = \"one, expected two\""),
            "seed: expected a non-negative integer, got string \"one, expected two\""
        );
        assert_eq!(fail("seed = -1"), "seed: expected a non-negative integer, got integer `-1`");
        assert_eq!(fail("seed = 0.5"), "seed: expected a non-negative integer, got float `0.5`");
        assert_eq!(fail("seed = [1]"), "seed: expected a non-negative integer, got a list");
        assert_eq!(fail("signal = \"kll\""), "signal: expected one of `kl`, `logprob`, got `kll` (did you mean `kl`?)");
        assert_eq!(fail("targets = \"q_proj\""), "targets: expected a list, got string \"q_proj\"");
        assert_eq!(fail("targets = [\"q_proj\", 3]"), "targets[1]: expected a string, got integer `3`");
        assert_eq!(fail("nothing = 3"), "nothing: expected a table, got integer `3`");
        assert_eq!(fail("[[sources]]\nweight = 1"), "sources[0].name: missing; it has no default");
        assert_eq!(fail("[mix]\n\"a.b\" = \"x\""), "mix.\"a.b\": expected a number, got string \"x\"");
    }
}
