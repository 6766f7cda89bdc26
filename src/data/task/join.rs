//! Longer contexts: those of one document, joined.

use crate::data::task::row::TaskRow;
use std::collections::BTreeMap;

/// Between two contexts.
const BETWEEN: &str = "\n\n";

/// The rows with up to `most` contexts of their document, in the order of the rows, in place of one. A row without a document
/// stays as it is.
pub fn joined(mut rows: Vec<TaskRow>, most: usize) -> Vec<TaskRow> {
    let mut documents: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in &rows {
        if let Some(document) = &row.document {
            let own = documents.entry(document.clone()).or_default();
            if !own.contains(&row.context) {
                own.push(row.context.clone());
            }
        }
    }
    let mut joins: BTreeMap<(&str, &str), String> = BTreeMap::new();
    for (document, contexts) in &documents {
        for part in contexts.chunks(most.max(1)) {
            let text = part.join(BETWEEN);
            joins.extend(part.iter().map(|own| ((document.as_str(), own.as_str()), text.clone())));
        }
    }
    for row in &mut rows {
        let text = row.document.as_deref().and_then(|document| joins.get(&(document, row.context.as_str())));
        if let Some(text) = text.cloned() {
            row.context = text;
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_of_a_document_are_joined_in_their_order() {
        let row = |document: Option<&str>, context: &str| TaskRow {
            document: document.map(String::from),
            context: context.into(),
            ..TaskRow::default()
        };
        let (a, b) = (Some("a"), Some("b"));
        let rows = vec![row(a, "1"), row(b, "x"), row(a, "2"), row(a, "1"), row(None, "n"), row(a, "3")];
        let contexts: Vec<String> = joined(rows.clone(), 2).into_iter().map(|own| own.context).collect();
        assert_eq!(contexts, ["1\n\n2", "x", "1\n\n2", "1\n\n2", "n", "3"]);
        assert_eq!(joined(rows.clone(), 1), rows);
    }
}
