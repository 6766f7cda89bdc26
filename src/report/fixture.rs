//! A small run directory that looks like a real one, for the tests of the report.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use crate::config::eval::{Cluster, ExamSplit};
use crate::eval::schema::ledger::{KlLedger, Level, Share};
use crate::eval::schema::summary::{Entry, Evaluation, GapDifference, NamedDifference, Summary, WindowLengths};
use crate::eval::schema::windows::{ExampleGist, WindowExample};
use crate::retention::{Retention, retention};
use crate::rng::{self, Stream};

pub const STEPS: usize = 600;
const WARM_START: usize = 150;
const CONTEXT_VALUE: f64 = 0.2134;
/// Text of a document that tries to break out of the page.
pub const HOSTILE: &str = "</pre><script>alert('1')</script><img src=x onerror=\"alert(2)\"> & <b>bold</b>";

/// Name, keep_ratio, gap_closed, cheating, leak control.
const COMPRESSORS: [(&str, f64, f64, bool, bool); 12] = [
    ("empty", 0.0, 0.013, false, false),
    ("truncate", 0.09375, 0.041, false, false),
    ("recent", 0.09375, 0.243, false, false),
    ("random", 0.09375, -0.012, false, false),
    ("idf", 0.09375, -0.087, false, false),
    ("selfinfo", 0.09375, -0.021, false, false),
    ("gist", 0.0919, 0.471, false, false),
    ("gist_sampled", 0.0902, 0.402, false, false),
    ("oracle_greedy", 0.09375, 0.612, true, false),
    ("identity", 1.0, 1.0, false, false),
    ("gist_other_document", 0.0919, 0.032, false, true),
    ("gist_shuffled", 0.0919, 0.187, false, true),
];

const SOURCE: &str = "class HTTPConnection:\n    \"\"\"A connection to one host & port <b>.\"\"\"\n\n    response_class = HTTPResponse\n    \
                      default_port = 8080\n    auto_open = 1\n\n    def __init__(self, host, port=None, timeout=2.5):\n        \
                      self.timeout = timeout\n        self._host, self._port = self._get_hostport(host, port)\n        \
                      self.sock = None\n\n    def connect(self):\n        self.sock = create_connection((self._host, self._port), \
                      self.timeout)\n        self.sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)\n\n    def request(self, method, \
                      url, body=None, headers={}):\n        self._send_request(method, url, body, headers)\n\n    def close(self):\n";

pub fn entry(reader: &str, keep_ratio: f64, gap: f64, cheating: bool, leak_control: bool) -> Entry {
    let (kl, half) = (CONTEXT_VALUE * (1.0 - gap), if gap == 1.0 { 0.0 } else { 0.043 });
    Entry {
        reader: reader.into(),
        keep_ratio,
        kl,
        kl_ci95: [kl - half * CONTEXT_VALUE, kl + half * CONTEXT_VALUE],
        nll: 2.411 + kl,
        gap_closed: gap,
        gap_closed_ci95: [gap - half, gap + half],
        top1_agreement: 0.71 + 0.29 * gap.max(0.0),
        keep_ratio_decoded: (!cheating).then_some(keep_ratio * 1.01),
        kl_decoded: (!cheating).then_some(kl * 1.02),
        cheating,
        leak_control,
        search: false,
        n_windows: if cheating { 48 } else { 256 },
    }
}

/// A ledger with figures of their own, so that a mistaken column shows.
pub fn ledger() -> KlLedger {
    let level = |kl: f64| Level { kl, nll: 2.411 + 0.7 * kl };
    let share = |mean: f64| Share { mean, ci95: [mean - 0.05, mean + 0.05] };
    KlLedger {
        teacher_nll: 2.411,
        k_0: Some(level(0.2049)),
        k_u: level(0.2561),
        k_e: level(CONTEXT_VALUE),
        k_recent: Some(level(0.1615)),
        k_g: level(0.1129),
        ku_over_kg: 2.268,
        ke_over_kg: share(1.890),
        gap_closed: share(0.471),
        nll_gap_closed: share(0.455),
        teacher_calibration: 0.7,
    }
}

pub fn summary() -> Summary {
    let under = |reader: &str, scale: f64| -> BTreeMap<String, Entry> {
        let read = |&(name, keep, gap, cheating, leak): &(&str, f64, f64, bool, bool)| {
            let gap = if gap == 1.0 { gap } else { gap * scale - (1.0 - scale) * 0.6 };
            (name.to_string(), entry(reader, keep, gap, cheating, leak))
        };
        COMPRESSORS.iter().map(read).collect()
    };
    let kept = |gist: &str| retention(SOURCE, gist).with_ids(&[1, 2, 3, 4, 5], &[1, 2, 2, 9]);
    Summary {
        experiment: "gist".into(),
        run: "default__seed=0".into(),
        seed: 0,
        steps: STEPS,
        seconds: 1093.4,
        peak_rss_mib: 2877.0,
        device: "cpu, 2 threads".into(),
        budget_tokens: 24,
        windows: WindowLengths { prefix: 256, local: 32, future: 32 },
        split: ExamSplit::Test,
        final_reads: 0,
        frame: None,
        eval: Evaluation {
            n_windows: 256,
            n_documents: 91,
            cluster: Cluster::Document,
            n_clusters: 91,
            budget_tokens: 24,
            context_value: CONTEXT_VALUE,
            context_value_ci95: [0.1987, 0.2301],
            context_value_unadapted: 0.2561,
            kl_start: 0.2049,
            kl_warm_start: 0.1611,
            ledger: Some(ledger()),
            compressors: under("generator", 1.0),
            readers: [("generator", 1.0), ("base", 0.7)].map(|(name, scale)| (name.into(), under(name, scale))).into(),
            gist_minus_best: Some(NamedDifference {
                name: "recent".into(),
                gap_closed_diff: 0.228,
                ci95: [0.174, 0.279],
            }),
            gist_minus_warm_start: Some(GapDifference { gap_closed_diff: 0.012, ci95: [-0.011, 0.034] }),
            retention: [("gist", "HTTPConnection _host sock;"), ("recent", "def close(self):"), ("empty", "")]
                .map(|(name, text)| (name.to_string(), kept(text)))
                .into(),
        },
    }
}

/// Rows of `metrics.jsonl` from smooth curves and seeded noise.
pub fn metrics() -> String {
    let mut out = String::new();
    for step in 0..STEPS {
        let mut noise = rng::rng(0, Stream::Synthetic, step as u64, 0, 0);
        let mut around = |value: f64, spread: f64| value + spread * (rng::uniform(&mut noise) - 0.5);
        let done = 1.0 - (-(step as f64) / 180.0).exp();
        let keep = around(0.0937 - 0.004 * done, 0.003);
        let mut row = format!("{{\"step\":{step}");
        let always = [
            ("generator/kl", around(0.168 - 0.06 * done, 0.05)),
            ("empty_reader/kl", around(0.214 + 0.03 * (1.0 - done), 0.05)),
        ];
        let warm = [("warm_start/imitation_loss", around(1.0 + 3.0 * (1.0 - done), 0.3))];
        let rl = [
            ("reward/total", around(0.2 + 0.28 * done, 0.2)),
            ("reward/quality", around(0.22 + 0.28 * done, 0.2)),
            ("reward/length", -0.2 * keep),
            ("rollout/kl", around(0.17 - 0.06 * done, 0.05)),
            ("rollout/kl_empty", around(0.222, 0.05)),
            ("rollout/nll", around(2.6, 0.1)),
            ("rollout/keep_ratio", keep),
            ("rollout/entropy", around(1.4 - 0.5 * done, 0.2)),
            ("rollout/group_std", around(0.12 - 0.03 * done, 0.04)),
            ("algo/lambda", 0.2 + 0.1 * done),
            ("algo/zero_variance_groups", (step % 7 / 6) as f64),
            ("algo/mismatch_kl", around(2e-5, 2e-5)),
            ("algo/kl_reference", around(0.4 * done, 0.1)),
            ("optim/compressor/grad_norm", around(0.9, 0.6) + if step == 300 { 40.0 } else { 0.0 }),
            ("optim/generator/grad_norm", around(0.4, 0.3)),
            ("text/copied", around(0.97 - 0.1 * done, 0.04)),
            ("text/type_token", around(0.7 + 0.1 * done, 0.08)),
            ("text/function_words", around(0.4 - 0.2 * done, 0.05)),
            ("text/prefix_function_words", around(0.42, 0.02)),
            ("text/names_kept", around(0.1 + 0.05 * done, 0.1)),
            ("text/numbers_kept", around(0.12 + 0.02 * done, 0.1)),
            ("text/identifiers_kept", around(0.2 + 0.15 * done, 0.1)),
            ("text/punctuation_density", around(0.3 + 0.05 * done, 0.05)),
            ("text/prefix_punctuation_density", around(0.27, 0.03)),
            ("text/non_latin_share", 0.0),
        ];
        let stage = if step < WARM_START { &warm[..] } else { &rl[..] };
        for (key, value) in always.iter().chain(stage) {
            write!(row, ",\"{key}\":{value}").unwrap();
        }
        if step % 50 == 0 {
            let kl = 0.2134 * (0.78 - 0.25 * done);
            let gap = 1.0 - kl / 0.2134;
            write!(row, ",\"eval/gap_closed\":{gap},\"eval/kl\":{kl},\"eval/kl_empty\":{}", 0.215 + 0.01 * done)
                .unwrap();
            write!(row, ",\"eval/context_value\":0.2134,\"eval/keep_ratio\":null").unwrap();
        }
        out += &row;
        out += "}\n";
    }
    out
}

/// `count` windows over one source file; the third is hostile.
pub fn examples(count: usize) -> Vec<WindowExample> {
    let tokens = |text: &str| -> Vec<String> {
        let cut = |c: char| c.is_whitespace() || "().,:=_".contains(c);
        text.split_inclusive(cut).map(String::from).collect()
    };
    (0..count)
        .map(|window| {
            let prefix = if window == 2 { format!("{HOSTILE}\n{SOURCE}") } else { SOURCE.into() };
            let all = tokens(&prefix);
            let at = (window * 11) % (all.len() - 30);
            let mut kept = [&all[at + 2..at + 9], &all[at + 19..at + 24]].concat();
            kept.push("連線;".into());
            let gist = |tokens: &[String], kl: f64| ExampleGist {
                text: tokens.concat(),
                tokens: tokens.to_vec(),
                kl,
                keep_ratio: tokens.len() as f64 / all.len() as f64,
            };
            let spread = (window * 7 % count) as f64 / count as f64;
            let gists = [
                ("empty", gist(&[], 0.22)),
                ("recent", gist(&all[all.len() - 13..], 0.17 - 0.03 * spread)),
                ("random", gist(&all[5..9], 0.23)),
                ("gist", gist(&kept, 0.06 + 0.2 * spread)),
                ("oracle_greedy", gist(&all[at..at + 12], 0.05 + 0.06 * spread)),
            ];
            WindowExample {
                window,
                document: format!("cpython/Lib/http/{window}.py"),
                prefix_tokens: all,
                prefix,
                local: "        \"\"\"Close the connection.\"\"\"\n        if self.sock:\n".into(),
                future: "            self.sock.close()\n            self.sock = None\n".into(),
                gists: gists.map(|(name, gist)| (name.to_string(), gist)).into(),
            }
        })
        .collect()
}

/// The whole directory.
pub fn write_run(root: &Path) {
    let lines: String = examples(40).iter().map(|e| serde_json::to_string(e).unwrap() + "\n").collect();
    let provenance = serde_json::json!({
        "commit": "0123456789abcdef", "dirty": false, "argv": ["gist", "train", "experiments/gist.toml"],
        "versions": {"gist": "0.1.0", "tch": "0.24.0", "libtorch": "2.11.0"}, "threads": {"libtorch": 2, "rayon": 2},
        "inputs": [{"path": "data/train.jsonl.zst", "bytes": 1234567, "sha256": "ab12"}],
    });
    for (path, text) in [
        ("summary.json", serde_json::to_string_pretty(&summary()).unwrap()),
        ("metrics.jsonl", metrics()),
        ("eval/step_000000/examples.jsonl", String::new()),
        ("eval/step_000600/examples.jsonl", lines),
        ("eval/step_000700/metrics.json", "{}".into()),
        ("provenance.json", provenance.to_string()),
        ("config.toml", format!("name = \"gist\"\n[reward]\nlambda = 0.2\n# {HOSTILE}\n")),
    ] {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

/// Means to check the fixture against.
#[test]
fn the_fixture_reads_back() {
    let folder = tempfile::tempdir().unwrap();
    write_run(folder.path());
    let run = super::data::RunData::read(folder.path()).unwrap();
    assert_eq!((run.metrics.len(), run.examples.len()), (STEPS, 40));
    assert_eq!(run.summary, Some(summary()));
    assert_ne!(summary().eval.retention["gist"], Retention::default());
}
