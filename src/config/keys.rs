//! Dotted TOML keys: taking them apart, putting them together, and walking the leaves of a table.

use std::collections::BTreeMap;
use toml::{Table, Value};

/// Every leaf of a table as dotted key → TOML text. An empty table counts as a leaf.
pub fn leaves(table: &Table) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    each_leaf(table, "", &mut |key, value| {
        found.insert(key, value.to_string());
    });
    found
}

/// `parent.name`, quoted where TOML asks for it.
pub fn join(parent: &str, name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let name = if bare { name.to_string() } else { Value::from(name).to_string() };
    if parent.is_empty() { name } else { format!("{parent}.{name}") }
}

/// The parts of a dotted TOML key; `None` when it is not one.
pub fn parse_key(key: &str) -> Option<Vec<String>> {
    let mut table: Table = toml::from_str(&format!("{key} = 0")).ok().filter(|_| !key.contains(['\n', '=']))?;
    let mut parts = Vec::new();
    while let Some((name, value)) = std::mem::take(&mut table).into_iter().next() {
        parts.push(name);
        if let Value::Table(inner) = value {
            table = inner;
        }
    }
    Some(parts)
}

/// A table that holds `value` under the dotted key made of `parts`.
pub fn nest(parts: &[String], value: Value) -> Table {
    let nested = parts.iter().rev().fold(value, |value, name| Table::from_iter([(name.clone(), value)]).into());
    if let Value::Table(table) = nested { table } else { Table::new() }
}

/// Takes the value under the dotted key made of `parts` out of `table`, and with it tables that hold nothing else.
pub fn remove(table: &mut Table, parts: &[String]) -> Option<Value> {
    match parts {
        [] => None,
        [name] => table.remove(name),
        [parent, rest @ ..] => {
            let inner = table.get_mut(parent)?.as_table_mut()?;
            let found = remove(inner, rest)?;
            if inner.is_empty() {
                table.remove(parent);
            }
            Some(found)
        }
    }
}

/// Whether `leaf` is `key` or lies under it.
pub fn is_within(leaf: &str, key: &str) -> bool {
    leaf.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Calls `visit` with every leaf of `table`, in its order. An empty table counts as a leaf.
pub fn each_leaf(table: &Table, parent: &str, visit: &mut impl FnMut(String, &Value)) {
    for (name, value) in table {
        let key = join(parent, name);
        match value {
            Value::Table(inner) if !inner.is_empty() => each_leaf(inner, &key, visit),
            _ => visit(key, value),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_apart_and_together() {
        for (key, parts) in
            [("a", vec!["a"]), ("a.b-1.c_d", vec!["a", "b-1", "c_d"]), ("a.\"b.c\".\"\"", vec!["a", "b.c", ""])]
        {
            assert_eq!(parse_key(key).unwrap(), parts);
            assert_eq!(parts.iter().fold(String::new(), |parent, part| join(&parent, part)), key);
        }
        for broken in ["", "a..b", ".a", "a.", "a b", "a\nb", "[a]", "a = 1 #", "\"a"] {
            assert_eq!(parse_key(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn nesting_is_the_inverse_of_leaves() {
        let table = nest(&["a".to_string(), "b.c".to_string()], Value::from(vec![1, 2]));
        assert_eq!(leaves(&table), BTreeMap::from([("a.\"b.c\"".to_string(), "[1, 2]".to_string())]));
    }

    #[test]
    fn a_removed_key_leaves_no_empty_table() {
        let text = "a = 1\n[b.c]\nd = 2\n[e]\nf = 3\ng = 4\n";
        let removed = |key: &str| {
            let mut table: Table = toml::from_str(text).unwrap();
            let value = remove(&mut table, &parse_key(key).unwrap());
            (value.map(|value| value.to_string()), table.to_string().trim().replace('\n', " "))
        };
        assert_eq!(removed("b.c.d"), (Some("2".into()), "a = 1  [e] f = 3 g = 4".into()));
        assert_eq!(removed("e.f"), (Some("3".into()), "a = 1  [b.c] d = 2  [e] g = 4".into()));
        assert_eq!(removed("b").0, Some("{ c = { d = 2 } }".into()));
        assert_eq!((removed("b.d").0, removed("a.b").0, removed("x").0), (None, None, None));
    }

    #[test]
    fn within_means_whole_parts() {
        assert!(is_within("a.b", "a") && is_within("a", "a"));
        assert!(!is_within("ab.c", "a") && !is_within("a", "a.b"));
    }
}
