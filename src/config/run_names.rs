//! Names of a sweep's runs, which are folders: short enough for any file system, distinct where case does not count, made of
//! letters, digits and `._+-,=~` only. Where a value had to be cut, or two values look alike, a hash of the value stands
//! behind `~`, so that a name stays what it is whenever the sweep is expanded.

use sha2::{Digest, Sha256};
use toml::Value;

/// Characters of one value.
const MOST_OF_A_VALUE: usize = 60;
/// Characters of a name without its seed. With a seed and an ending it is within 143, the limit of encrypted folders.
const MOST_OF_A_LABEL: usize = 110;
/// Hexadecimal digits of a hash.
const HASH_DIGITS: usize = 8;

/// What stands between the parts of a name.
const BETWEEN: &str = "__";

/// The names of the values of one axis, in their order. Different values have names that differ in more than case.
pub fn of_values(values: &[Value]) -> Vec<String> {
    let plain: Vec<String> = values.iter().map(|value| safe(&text(value))).collect();
    let is_alone =
        |i: usize| (0..values.len()).all(|j| values[i] == values[j] || !plain[i].eq_ignore_ascii_case(&plain[j]));
    let named = plain.iter().enumerate().map(|(i, name)| match is_alone(i) && name.len() <= MOST_OF_A_VALUE {
        true => name.clone(),
        false => cut(name, MOST_OF_A_VALUE, &values[i].to_string()),
    });
    named.collect()
}

/// `key=value`, for a key or the part of one that tells it from others.
pub fn part(key: &str, value: &str) -> String {
    format!("{}={value}", safe(key))
}

/// The name of everything but the seed; empty when nothing else varies.
pub fn label(arm: Option<&str>, parts: &[String]) -> String {
    let all: Vec<&str> = arm.into_iter().chain(parts.iter().map(String::as_str)).collect();
    let whole = all.join(BETWEEN);
    if whole.len() <= MOST_OF_A_LABEL { whole } else { cut(&whole, MOST_OF_A_LABEL, &whole) }
}

/// The name of a run.
pub fn run(label: &str, seed: Option<&str>) -> String {
    match (label, seed) {
        ("", None) => "run".into(),
        (label, None) => label.into(),
        ("", Some(seed)) => seed.into(),
        (label, Some(seed)) => format!("{label}{BETWEEN}{seed}"),
    }
}

/// The beginning of `name` and a hash of `of`, at most `most` characters.
fn cut(name: &str, most: usize, of: &str) -> String {
    let hash: String = Sha256::digest(of).iter().map(|byte| format!("{byte:02x}")).collect();
    let kept = name.len().min(most - HASH_DIGITS - 1);
    format!("{}~{}", &name[..kept], &hash[..HASH_DIGITS])
}

/// A value as it is written, without quotes.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "none".into(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// `text` in the characters of a name, in which nothing reads as [`BETWEEN`].
fn safe(text: &str) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() || "._+-,".contains(c) { c } else { '-' };
    text.chars().map(kept).collect::<String>().replace(BETWEEN, "_-")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn names(values: &str) -> Vec<String> {
        let table: toml::Table = toml::from_str(&format!("values = {values}")).unwrap();
        of_values(table["values"].as_array().unwrap())
    }

    /// The first digits of `printf '%s' TEXT | sha256sum`.
    fn hashed(text: &str, toml: &str) -> String {
        let digest = Sha256::digest(toml);
        format!("{text}~{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3])
    }

    #[test]
    fn plain_values_name_themselves() {
        assert_eq!(
            names("[1, 0.5, -1e-4, true, \"a/b c\", [1, -2], []]"),
            ["1", "0.5", "-0.0001", "true", "a-b-c", "1,-2", "none"]
        );
        assert_eq!(names("[0.5, 0.5]"), ["0.5", "0.5"], "equal values are the caller's to refuse");
        assert_eq!(names("[\"a__b\", \"..\", \"\"]"), ["a_-b", "..", ""]);
    }

    #[test]
    fn values_that_look_alike_are_told_apart() {
        let pairs = [
            ("\"a/b\"", "\"a-b\"", "a-b", "a-b"),
            ("\"Foo\"", "\"foo\"", "Foo", "foo"),
            ("\"1\"", "1", "1", "1"),
            ("\"a\\nb\"", "\"a\\tb\"", "a-b", "a-b"),
            ("\"鳥\"", "\"猫\"", "-", "-"),
            ("[\"a\", \"b\"]", "\"a,b\"", "a,b", "a,b"),
        ];
        for (a, b, first, second) in pairs {
            let parse = |text: &str| format!("value = {text}").parse::<toml::Table>().unwrap()["value"].to_string();
            let found = names(&format!("[{a}, {b}, 7]"));
            assert_eq!(found, [hashed(first, &parse(a)), hashed(second, &parse(b)), "7".to_string()]);
            assert!(!found[0].eq_ignore_ascii_case(&found[1]), "{found:?}");
            assert_eq!(names(&format!("[7, {b}, {a}]"))[2], found[0], "whatever the order");
        }
    }

    #[test]
    fn long_values_are_cut() {
        let (a, b) = ("x".repeat(400), format!("{}y", "x".repeat(399)));
        let found = names(&format!("[{a:?}, {b:?}]"));
        assert!(found[0] != found[1] && found.iter().all(|name| name.len() == MOST_OF_A_VALUE), "{found:?}");
        assert_eq!(names(&format!("[{a:?}]"))[0], found[0]);
    }

    #[test]
    fn names_of_runs_fit_every_file_system() {
        assert_eq!(run("", None), "run");
        assert_eq!(run("", Some("seed=1")), "seed=1");
        assert_eq!(run(&label(Some("x"), &[part("lr", "0.1")]), Some("seed=1")), "x__lr=0.1__seed=1");
        let parts: Vec<String> = (0..9).map(|i| part(&format!("key{i}"), &"v".repeat(50))).collect();
        let (long, other) = (label(Some("x"), &parts), label(Some("y"), &parts));
        assert_eq!((long.len(), other.len(), long == other), (MOST_OF_A_LABEL, MOST_OF_A_LABEL, false));
        let longest = format!("{}.toml", run(&long, Some(&format!("seed={}", u64::MAX))));
        assert!(longest.len() <= 143, "{}", longest.len());
    }
}
