//! Grades of answers by the rules of the benchmarks that they are of, to the last digit those of the official scripts
//! (`tests/python/check_grading.py` runs both). Text in, numbers out; no model, no tokens.
//!
//! | file | rule |
//! |---|---|
//! | [`squad`] | exact match and token F1 of SQuAD 1.1 and 2.0, and the normalisation that all QA rules share |
//! | [`hotpotqa`] | the same with the yes/no rule; supporting facts; both together |
//! | [`qasper`] | F1 by answer type; evidence F1 |
//! | [`longbench`] | QA F1, ROUGE-L, classification, retrieval, counting, code similarity |
//! | [`choice`] | the letter of LongBench v2; a reference within an answer (MeetingBank) |
//! | [`gsm8k`] | the number that an answer ends in |
//! | [`python`] | a program with its tests, run in a process of its own |
//! | [`ruler`] | all references found, any reference found |

pub mod choice;
mod difflib;
mod grade;
pub mod gsm8k;
pub mod hotpotqa;
pub mod longbench;
pub mod python;
pub mod qasper;
mod rouge;
pub mod ruler;
pub mod squad;

pub use grade::Grade;

use serde::{Deserialize, Serialize};

/// The rule that grades an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grading {
    /// SQuAD 1.1: the best reference counts.
    #[default]
    SquadV1,
    /// SQuAD 2.0: no reference means that nothing is to be answered.
    SquadV2,
    /// HotpotQA: SQuAD 1.1 with the yes/no rule.
    Hotpotqa,
    /// Qasper: token F1, the best annotator counts.
    Qasper,
    /// LongBench: token F1 without the yes/no rule.
    LongbenchQa,
    /// LongBench: F of ROUGE-L.
    LongbenchRouge,
    /// LongBench: classes named in the answer.
    LongbenchClassification,
    /// LongBench: the number of the paragraph.
    LongbenchRetrieval,
    /// LongBench: the number that was counted.
    LongbenchCount,
    /// LongBench: likeness of the next line of code.
    LongbenchCode,
    /// RULER: share of the references that are in the answer.
    RulerAll,
    /// RULER: whether any reference is in the answer.
    RulerPart,
    /// GSM8K: the last number.
    Gsm8k,
    /// LongBench v2: the letter of the choice.
    LongbenchV2,
    /// MeetingBank: whether a reference is in the first line.
    MeetingbankQa,
    /// A program that passes its tests ([`python`]); where there are none to run, the reference, blanks at its ends aside.
    Program,
}

impl Grading {
    /// The grade of an answer against its references; `classes` are all that a classification may name.
    pub fn grade(self, prediction: &str, references: &[String], classes: &[String]) -> Grade {
        let best = |rule: &dyn Fn(&str) -> f64| references.iter().map(|one| rule(one)).fold(0.0, f64::max);
        let single = |score: f64| Grade { exact_match: f64::from(u8::from(score == 1.0)), f1: score };
        let exact = best(&|one| squad::exact_match(prediction, one));
        match self {
            Grading::SquadV1 => Grade { exact_match: exact, f1: best(&|one| squad::f1(prediction, one)) },
            Grading::SquadV2 => squad::grade_v2(prediction, references),
            Grading::Hotpotqa => Grade { exact_match: exact, f1: best(&|one| hotpotqa::overlap(prediction, one).f1) },
            Grading::Qasper => Grade { exact_match: exact, f1: best(&|one| squad::f1(prediction, one)) },
            Grading::LongbenchQa => Grade { exact_match: exact, f1: best(&|one| squad::f1(prediction, one)) },
            Grading::LongbenchRouge => single(best(&|one| longbench::rouge_l(prediction, one))),
            Grading::LongbenchClassification => {
                single(best(&|one| longbench::classification(prediction, one, classes)))
            }
            Grading::LongbenchRetrieval => single(best(&|one| longbench::retrieval(prediction, one))),
            Grading::LongbenchCount => single(best(&|one| longbench::count(prediction, one))),
            Grading::LongbenchCode => single(best(&|one| longbench::code_similarity(prediction, one))),
            Grading::RulerAll => single(ruler::all(prediction, references)),
            Grading::RulerPart => single(ruler::part(prediction, references)),
            Grading::Gsm8k => single(best(&|one| gsm8k::final_number(prediction, one))),
            Grading::LongbenchV2 => single(best(&|one| choice::multiple_choice(prediction, one))),
            Grading::Program => single(best(&|one| f64::from(u8::from(prediction.trim() == one.trim())))),
            Grading::MeetingbankQa => single(best(&|one| choice::contained(prediction, one))),
        }
    }
}
