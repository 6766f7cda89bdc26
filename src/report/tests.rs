//! The report of a realistic run: complete, self-contained, escaped, and with a section less where a file is missing.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use super::data::RunData;
use super::fixture::{self, HOSTILE};
use super::{markdown, render, table, write_svg};

fn page(root: &Path) -> String {
    std::fs::read_to_string(render(root).unwrap()).unwrap()
}

fn complete() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    fixture::write_run(folder.path());
    let html = page(folder.path());
    (folder, html)
}

#[test]
fn page_shows_every_compressor_and_section() {
    let (_folder, html) = complete();
    for name in fixture::summary().eval.compressors.keys() {
        assert!(html.contains(&format!("<td>{name}")), "{name}");
    }
    for text in [
        "The gist keeps 9.2 % of the prefix tokens (at most 24 of 256) and closes 47.1 % [42.8, 51.4] of the gap",
        "id=\"learning\"",
        "id=\"retention\"",
        "id=\"gallery\"",
        "id=\"origin\"",
        "Every other metric",
        "algo/zero_variance_groups",
        "where co-training takes over from the warm start",
        "連線",
        "inputs.0.sha256",
        "hindsight, cheating; 48 windows",
    ] {
        assert!(html.contains(text), "{text}");
    }
    assert_eq!(html.matches("<article").count(), super::gallery::SHOWN);
}

#[test]
fn page_fetches_nothing() {
    let (_folder, html) = complete();
    let rest = html.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    for text in ["http://", "https://", "<link", "<script", "@import", "url("] {
        assert!(!rest.contains(text), "{text}");
    }
}

#[test]
fn text_of_documents_cannot_become_markup() {
    let folder = tempfile::tempdir().unwrap();
    fixture::write_run(folder.path());
    let mut summary = fixture::summary();
    summary.run = HOSTILE.into();
    summary.device = HOSTILE.into();
    let entry = summary.eval.compressors["recent"].clone();
    summary.eval.compressors.insert(HOSTILE.into(), entry.clone());
    summary.eval.readers.insert(HOSTILE.into(), [(HOSTILE.to_string(), entry)].into());
    std::fs::write(folder.path().join("summary.json"), serde_json::to_string(&summary).unwrap()).unwrap();
    let mut examples = fixture::examples(3);
    for example in &mut examples {
        for text in [&mut example.document, &mut example.local, &mut example.future] {
            *text = HOSTILE.into();
        }
        example.prefix_tokens = vec![HOSTILE.into(), "a".into()];
        let mut gist = example.gists["gist"].clone();
        (gist.text, gist.tokens) = (HOSTILE.into(), vec![HOSTILE.into()]);
        example.gists.extend([("gist".to_string(), gist.clone()), (HOSTILE.to_string(), gist)]);
    }
    let lines: String = examples.iter().map(|e| serde_json::to_string(e).unwrap() + "\n").collect();
    std::fs::write(folder.path().join("eval/step_000600/examples.jsonl"), lines).unwrap();
    std::fs::write(folder.path().join("provenance.json"), serde_json::json!({HOSTILE: HOSTILE}).to_string()).unwrap();
    let row = serde_json::json!({"step": 1, HOSTILE: 1.0}).to_string() + "\n";
    std::fs::write(folder.path().join("metrics.jsonl"), row).unwrap();
    let html = page(folder.path());
    assert!(html.contains("&lt;script&gt;"));
    for text in ["<script", "<img", "<b>bold"] {
        assert!(!html.contains(text), "{text}");
    }
    assert_eq!(html.matches("<pre").count(), html.matches("</pre>").count());
}

#[test]
fn a_missing_file_is_a_section_less() {
    for (path, gone, kept) in [
        ("summary.json", "id=\"comparison\"", "id=\"learning\""),
        ("metrics.jsonl", "id=\"learning\"", "id=\"comparison\""),
        ("eval", "id=\"gallery\"", "id=\"comparison\""),
        ("provenance.json", "Provenance", "Configuration"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fixture::write_run(folder.path());
        let path = folder.path().join(path);
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap()
        } else {
            std::fs::remove_file(path).unwrap()
        }
        let html = page(folder.path());
        assert!(!html.contains(gone) && html.contains(kept), "{gone}");
    }
}

#[test]
fn a_bad_file_leaves_the_old_report() {
    let (folder, html) = complete();
    std::fs::write(folder.path().join("metrics.jsonl"), "{\"step\":0}\n{oops}\n").unwrap();
    let message = render(folder.path()).unwrap_err().to_string();
    assert!(message.contains("metrics.jsonl: line 2: key must be"), "{message}");
    assert_eq!(std::fs::read_to_string(folder.path().join("report.html")).unwrap(), html);
}

#[test]
fn odd_figures_do_not_panic() {
    let folder = tempfile::tempdir().unwrap();
    fixture::write_run(folder.path());
    let mut summary = fixture::summary();
    for entry in summary.eval.compressors.values_mut() {
        (entry.gap_closed, entry.gap_closed_ci95, entry.kl) = (f64::NAN, [f64::NAN; 2], f64::NAN);
    }
    summary.eval.gist_minus_best = None;
    std::fs::write(folder.path().join("summary.json"), serde_json::to_string(&summary).unwrap()).unwrap();
    std::fs::write(folder.path().join("metrics.jsonl"), "{\"step\":5,\"reward/total\":1e300,\"algo/lambda\":0}\n")
        .unwrap();
    assert!(page(folder.path()).contains("–"));
    summary.eval.compressors.clear();
    summary.eval.readers.clear();
    std::fs::write(folder.path().join("summary.json"), serde_json::to_string(&summary).unwrap()).unwrap();
    assert!(page(folder.path()).contains("No compressor was evaluated"));
}

#[test]
fn figures_are_files_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    fixture::write_run(folder.path());
    let run = RunData::read(folder.path()).unwrap();
    let paths = write_svg(&run, &folder.path().join("paper")).unwrap();
    let names: Vec<_> = paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    for name in ["gap-closed.svg", "curves.svg", "retention.svg", "comparison.svg", "comparison-base.svg"] {
        assert!(names.contains(&name), "{names:?}");
    }
    for path in paths {
        let svg = std::fs::read_to_string(path).unwrap();
        assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>") && svg.contains("fill=\"#FFFFFF\""));
    }
}

#[test]
fn the_table_is_sorted_and_marked() {
    let text = table(&fixture::summary());
    let at = |name: &str| text.find(&format!(" {name} ")).unwrap_or_else(|| panic!("{name} in\n{text}"));
    assert!(at("identity (reference)") < at("oracle_greedy (hindsight, cheating; 48 windows)"));
    assert!(at("oracle_greedy (hindsight, cheating; 48 windows)") < at("gist"));
    assert!(at("gist") < at("recent") && at("recent") < at("idf"));
    assert!(at("idf") < at("gist_shuffled (leak control)"));
    assert!(at("gist_shuffled (leak control)") < at("gist_other_document (leak control)"));
    assert!(text.contains("47.1 % [42.8, 51.4]") && text.contains("Read by the frozen base"));
    assert!(text.contains("+22.8 [17.4, 27.9] points against recent: the interval lies above 0"));
    assert!(text.contains("+1.2 [-1.1, 3.4] points against the run before co-training: the interval includes 0"));
}

#[test]
fn the_markdown_table_has_a_row_for_each_compressor() {
    let summary = fixture::summary();
    let text = markdown(&summary);
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).collect();
    let (ledger, rows): (Vec<&str>, Vec<&str>) = rows.into_iter().partition(|row| row.matches(" | ").count() == 2);
    assert_eq!((rows.len(), ledger.len()), (2 * (1 + summary.eval.compressors.len()), 1 + 6));
    assert!(rows.iter().all(|row| row.matches(" | ").count() == 7), "{text}");
    assert!(text.contains("| K\\_e: adapted reader, nothing | 0.2134 | 2.5604 |"), "{text}");
    assert!(
        text.contains("| **gist** | 9.2 % |") && text.contains("| oracle\\_greedy (hindsight, cheating; 48 windows) |")
    );
}
