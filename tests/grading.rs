//! Answers are graded to the last bit as by the official rules: pairs and grades are by `fixtures/make_grading_fixture.py`.

use crate::common::fixtures;
use gist::grading::Grading;
use gist::grading::hotpotqa::{SupportingFact, joint, supporting_facts};
use gist::grading::longbench::graded;
use gist::grading::qasper::{AnswerType, answer_f1, evidence_f1};
use gist::grading::ruler;
use std::collections::BTreeMap;

type Pair = (Grading, String, Vec<String>, Vec<String>, f64, f64);

#[test]
fn grades_are_those_of_the_official_rules_to_the_last_bit() {
    let packed = std::fs::read(fixtures().join("grading.jsonl.zst")).unwrap();
    let text = String::from_utf8(zstd::decode_all(&packed[..]).unwrap()).unwrap();
    let mut counts: BTreeMap<Grading, [usize; 3]> = BTreeMap::new();
    let mut wrong = Vec::new();
    for line in text.lines() {
        let (rule, prediction, references, classes, exact_match, f1): Pair = serde_json::from_str(line).unwrap();
        let grade = rule.grade(&prediction, &references, &classes);
        if (grade.exact_match.to_bits(), grade.f1.to_bits()) != (exact_match.to_bits(), f1.to_bits()) {
            wrong.push(format!("{grade:?}: {line}"));
        }
        let kind = if f1 == 0.0 { 0 } else { 1 + usize::from(f1 == 1.0) };
        counts.entry(rule).or_default()[kind] += 1;
    }
    assert!(wrong.is_empty(), "{} of other grades, such as\n{}", wrong.len(), wrong[..wrong.len().min(8)].join("\n"));
    assert_eq!(counts.len(), 12);
    for (rule, [none, part, full]) in counts {
        // One of any references has no parts, and ROUGE-L stays a little below 1.
        let (has_parts, has_full) = (rule != Grading::RulerPart, rule != Grading::LongbenchRouge);
        assert!(none > 10 && (full > 20) == has_full && (part > 5) == has_parts, "{rule:?}: {none}, {part}, {full}");
    }
}

#[test]
fn supporting_facts_and_joint_figures_of_hotpotqa() {
    let fact = |title: &str, sentence: usize| -> SupportingFact { (title.into(), sentence) };
    let wanted = [fact("a", 0), fact("b", 2)];
    let found = supporting_facts(&[fact("a", 0), fact("a", 0), fact("a", 1), fact("c", 2)], &wanted);
    assert_eq!((found.exact_match, found.overlap.precision, found.overlap.recall), (0.0, 1.0 / 3.0, 0.5));
    assert_eq!(supporting_facts(&wanted, &wanted).exact_match, 1.0);
    assert_eq!(supporting_facts(&[], &wanted).overlap.f1, 0.0);
    let both = joint("the red fox", "red dog", found);
    assert_eq!((both.overlap.precision, both.overlap.recall), (1.0 / 6.0, 0.25));
    assert_eq!(both.overlap.f1, 2.0 * (1.0 / 6.0) * 0.25 / (1.0 / 6.0 + 0.25));
    assert_eq!(joint("yes", "yes, it is", found).overlap.f1, 0.0, "yes is right or wrong as a whole");
}

#[test]
fn qasper_goes_by_the_type_of_the_best_reference() {
    let references = [
        ("red fox".to_string(), AnswerType::Extractive),
        ("a fox".to_string(), AnswerType::Abstractive),
        ("Yes".into(), AnswerType::Boolean),
    ];
    assert_eq!(answer_f1("fox", &references), Some((1.0, AnswerType::Abstractive)));
    assert_eq!(answer_f1("nothing of it", &references), Some((0.0, AnswerType::Extractive)), "of equal ones the first");
    assert_eq!(answer_f1("fox", &[]), None);
    let paragraphs = |all: &[&str]| all.iter().map(|one| one.to_string()).collect::<Vec<_>>();
    assert_eq!(evidence_f1(&[], &[]), 1.0);
    assert_eq!(evidence_f1(&paragraphs(&["x"]), &[]), 0.0);
    assert_eq!(evidence_f1(&paragraphs(&["x", "y", "z"]), &paragraphs(&["y"])), 2.0 * (1.0 / 3.0) / (1.0 / 3.0 + 1.0));
}

#[test]
fn ruler_asks_for_any_reference_where_lm_eval_takes_the_mean() {
    let references = ["Paris", "the capital", "City of Light"].map(String::from);
    let answer = " It is PARIS.\u{1} ";
    assert_eq!(ruler::part(answer, &references), 1.0);
    // What lm-evaluation-harness gives the same answer.
    assert_eq!(ruler::all(answer, &references), 1.0 / 3.0);
    assert_eq!(ruler::cleaned(answer), "It is PARIS.");
}

#[test]
fn longbench_cuts_to_the_first_line_where_its_script_does() {
    for (dataset, expected) in [("triviaqa", "Paris"), ("trec", "Paris"), ("hotpotqa", "\nParis\nQuestion: x")] {
        assert_eq!(graded(dataset, "\nParis\nQuestion: x"), expected);
    }
}
