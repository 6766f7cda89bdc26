//! Parts of the held-out windows on which results are told apart: the documents' source, terciles of the context value,
//! and whether the future holds numbers or names.

use crate::retention::retention;

/// Sources with parts of their own; the windows of the rest are one part.
const MOST_SOURCES: usize = 12;

/// A part of the windows, by one property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subset {
    /// Property that divides the windows, such as `source`.
    pub by: &'static str,
    /// Value or range of that property.
    pub name: String,
    /// Indices of its windows, ascending.
    pub windows: Vec<usize>,
}

/// Every part of the windows, given each window's source, context value, and text of its future. A division that leaves
/// all windows in one part says nothing and is left out.
pub fn parts(sources: &[&str], context: &[f64], futures: &[String]) -> Vec<Subset> {
    let all = [by_source(sources), terciles(context), held(futures)].concat();
    let whole = |part: &&Subset| part.windows.len() == sources.len();
    let idle: Vec<&str> = all.iter().filter(whole).map(|part| part.by).collect();
    all.iter().filter(|part| !idle.contains(&part.by) && !part.windows.is_empty()).cloned().collect()
}

/// Parts of the windows by source, the one with most windows first.
fn by_source(sources: &[&str]) -> Vec<Subset> {
    let mut parts: Vec<Subset> = Vec::new();
    for (window, source) in sources.iter().enumerate() {
        match parts.iter_mut().find(|part| part.name == *source) {
            Some(part) => part.windows.push(window),
            None => parts.push(Subset { by: "source", name: source.to_string(), windows: vec![window] }),
        }
    }
    parts.sort_by(|a, b| b.windows.len().cmp(&a.windows.len()).then(a.name.cmp(&b.name)));
    if parts.len() > MOST_SOURCES + 1 {
        let rest = parts.split_off(MOST_SOURCES);
        let name = format!("{} others", rest.len());
        let mut windows: Vec<usize> = rest.into_iter().flat_map(|part| part.windows).collect();
        windows.sort_unstable();
        parts.push(Subset { by: "source", name, windows });
    }
    parts
}

/// Thirds of the windows by context value; ties go by place.
fn terciles(context: &[f64]) -> Vec<Subset> {
    let mut order: Vec<usize> = (0..context.len()).collect();
    order.sort_by(|&a, &b| context[a].total_cmp(&context[b]).then(a.cmp(&b)));
    let third = |i: usize| i * order.len() / 3;
    let part = |(i, name): (usize, &str)| {
        let mut windows = order[third(i)..third(i + 1)].to_vec();
        windows.sort_unstable();
        Subset { by: "context value", name: name.into(), windows }
    };
    ["lowest third", "middle third", "highest third"].into_iter().enumerate().map(|(i, n)| part((i, n))).collect()
}

/// Parts of the windows by whether their futures hold numbers, and names.
fn held(futures: &[String]) -> Vec<Subset> {
    let found: Vec<[bool; 2]> = futures
        .iter()
        .map(|future| retention(future, ""))
        .map(|kept| [kept.numbers_kept.is_some(), kept.names_kept.is_some()])
        .collect();
    let mut parts = Vec::new();
    for (kind, by, what) in [(0, "numbers in the future", "numbers"), (1, "names in the future", "names")] {
        for (wanted, word) in [(true, "with"), (false, "without")] {
            let windows = (0..found.len()).filter(|&w| found[w][kind] == wanted).collect();
            parts.push(Subset { by, name: format!("{word} {what}"), windows });
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_window_is_in_one_part_of_every_division() {
        let sources = ["a", "b", "b", "a", "c", "b", "a"];
        let context = [0.5, 0.1, 0.3, 0.3, 0.9, 0.0, 0.7];
        let futures = ["x = 12", "when Alice said", "nothing here", "see Bob 7", "", "y", "z 1.5"].map(String::from);
        let found = parts(&sources, &context, &futures);
        let divisions = ["source", "context value", "numbers in the future", "names in the future"];
        for by in divisions {
            let mut windows: Vec<usize> =
                found.iter().filter(|part| part.by == by).flat_map(|part| part.windows.clone()).collect();
            windows.sort_unstable();
            assert_eq!(windows, (0..7).collect::<Vec<_>>(), "{by}");
        }
        let of = |name: &str| found.iter().find(|part| part.name == name).map(|part| part.windows.clone());
        assert_eq!(of("b"), Some(vec![1, 2, 5]));
        assert_eq!(of("lowest third"), Some(vec![1, 5]));
        assert_eq!(of("highest third"), Some(vec![0, 4, 6]));
        assert_eq!(of("with numbers"), Some(vec![0, 3, 6]));
        assert_eq!(of("with names"), Some(vec![1, 3]));
    }

    #[test]
    fn what_tells_nothing_apart_is_left_out() {
        let found = parts(&["a"; 4], &[0.1, 0.2, 0.3, 0.4], &["x".into(), "y".into(), "z".into(), "w".into()]);
        assert!(found.iter().all(|part| part.by == "context value"), "{found:?}");
        assert_eq!(found.len(), 3);
        let names: Vec<String> = (0..40).map(|i| format!("s{i:02}")).collect();
        let sources: Vec<&str> = names.iter().map(String::as_str).collect();
        let found = by_source(&sources);
        assert_eq!((found.len(), found[12].name.as_str(), found[12].windows.len()), (13, "28 others", 28));
    }
}
