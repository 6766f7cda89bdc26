//! The files of a comparison: complete, self-contained, escaped, and no worse for odd figures.
#![allow(clippy::unwrap_used)]

use super::view::ranked;
use super::{csv, figure, page, text, write};
use crate::eval::schema::comparison::*;
use crate::eval::schema::readers::{ADAPTED, SHARED};
use crate::eval::schema::summary::WindowLengths;
use crate::report::fixture::HOSTILE;
use resvg::tiny_skia::Pixmap;

const BUDGETS: [(f64, usize); 3] = [(0.05, 12), (0.1, 25), (0.4, 102)];
const NAMES: [&str; 3] = ["learned", "recent", "idf"];

fn fixture() -> Comparison {
    let mut points = Vec::new();
    let mut winners = Vec::new();
    let mut slices = Vec::new();
    for reader in [SHARED, ADAPTED] {
        for (n, name) in NAMES.iter().enumerate() {
            for (requested, tokens) in BUDGETS {
                let gap = 0.6 * requested.sqrt() - 0.05 * n as f64;
                points.push(Point {
                    compressor: name.to_string(),
                    reader: reader.into(),
                    requested,
                    budget_tokens: tokens,
                    keep_ratio: requested * 0.97,
                    kl: 0.4 * (1.0 - gap),
                    kl_ci95: [0.4 * (0.97 - gap), 0.4 * (1.03 - gap)],
                    gap_closed: gap,
                    gap_closed_ci95: [gap - 0.03, gap + 0.03],
                    nll: 2.5,
                    top1_agreement: 0.7,
                });
                slices.push(Slice {
                    by: "source".into(),
                    part: "click".into(),
                    n_windows: 20,
                    context_value: 0.35,
                    compressor: name.to_string(),
                    reader: reader.into(),
                    budget_tokens: tokens,
                    kl: 0.3,
                    gap_closed: gap,
                    gap_closed_ci95: [gap - 0.1, gap + 0.1],
                });
            }
        }
        for (requested, budget_tokens) in BUDGETS {
            winners.push(Winner {
                reader: reader.into(),
                requested,
                budget_tokens,
                compressor: "learned".into(),
                runner_up: Some("recent".into()),
                gap_closed_diff: 0.05,
                ci95: [if budget_tokens == 25 { -0.01 } else { 0.02 }, 0.08],
                not_separable: if budget_tokens == 25 { vec!["recent".into()] } else { Vec::new() },
            });
        }
    }
    let speed = |(_, budget_tokens)| Speed {
        budget_tokens,
        ms_per_window: 1.5,
        prefix_tokens_per_second: 170_666.0,
        latency_ms: 2.5,
    };
    let contestant = |(n, name): (usize, &&str)| Contestant {
        name: name.to_string(),
        seeds: if n == 0 { vec![0, 1] } else { Vec::new() },
        speed: BUDGETS.into_iter().map(speed).collect(),
    };
    let words: Vec<String> =
        "def send ( self , host , port = 80 ) : pass".split(' ').map(|w| format!("{w} ")).collect();
    let gist = |name: &&str| ComparedGist {
        compressor: name.to_string(),
        tokens: words[3..7].to_vec(),
        kept: (*name != "learned").then(|| (3..7).collect()),
        kl: 0.2,
    };
    Comparison {
        name: "learned".into(),
        runs: vec![ComparedRun {
            path: "runs/learned/seed=0".into(),
            experiment: "learned".into(),
            seed: 0,
            step: 150,
            weights: "ab".into(),
        }],
        terms: [("condition".to_string(), "local".to_string())].into(),
        program: "commit 0123456789ab".into(),
        accepted: Vec::new(),
        updates: 300,
        seed: 0,
        device: "cpu (2 threads, float32)".into(),
        windows: WindowLengths { prefix: 256, local: 96, future: 32 },
        n_windows: 400,
        n_documents: 115,
        context_value: 0.4,
        context_value_ci95: [0.36, 0.44],
        budgets: BUDGETS.map(|(requested, tokens)| Budget { requested, tokens }).to_vec(),
        own_budget_tokens: 25,
        compressors: NAMES.iter().enumerate().map(contestant).collect(),
        points,
        winners,
        slices,
        bound: None,
        examples: vec![Compared {
            window: 7,
            document: "click/core.py".into(),
            prefix_tokens: words.clone(),
            local: "local".into(),
            future: "future".into(),
            context_value: 0.4,
            gists: NAMES.iter().map(gist).collect(),
        }],
    }
}

fn html(comparison: &Comparison) -> String {
    let figures = super::figures(comparison).unwrap();
    page::page(comparison, &figures).unwrap()
}

#[test]
fn every_file_is_written_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let comparison = fixture();
    let page = write(folder.path(), &comparison).unwrap();
    assert_eq!(std::fs::read_to_string(page).unwrap(), html(&comparison));
    let json = std::fs::read_to_string(folder.path().join("comparison.json")).unwrap();
    assert_eq!(serde_json::from_str::<Comparison>(&json).unwrap(), comparison);
    let table = std::fs::read_to_string(folder.path().join("comparison.csv")).unwrap();
    assert_eq!(table.lines().count(), 1 + comparison.points.len());
    assert!(table.lines().nth(1).unwrap().starts_with("learned,true,0 1,shared,0.05,12,0.048500,0."), "{table}");
    for reader in [SHARED, ADAPTED] {
        let path = |kind: &str| folder.path().join(format!("figures/rate-distortion-{reader}.{kind}"));
        let svg = std::fs::read_to_string(path("svg")).unwrap();
        assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>") && svg.contains("fill=\"#FFFFFF\""));
        let png = Pixmap::decode_png(&std::fs::read(path("png")).unwrap()).unwrap();
        assert!(png.width() > 2000 && png.pixels().iter().any(|p| (p.red(), p.blue()) == (0x2e, 0xbf)), "no blue line");
        // Text is drawn, too: the axis labels leave grey at the far left.
        let dark = (0..png.height()).flat_map(|y| (0..120).map(move |x| (x, y)));
        assert!(dark.filter(|(x, y)| png.pixel(*x, *y).unwrap().red() < 160).count() > 200, "no labels");
    }
}

#[test]
fn page_shows_everything_and_fetches_nothing() {
    let comparison = fixture();
    let page = html(&comparison);
    for words in [
        "learned against 2 baselines",
        "from which the windows cannot tell it",
        "id=\"slices\"",
        "id=\"gallery\"",
        "data-kept=\"3-6\"",
        "% kept (12 tokens at most), KL 0.3463 [0.3343, 0.3583], gap closed 13.4 % [10.4, 16.4]",
        "Content-Security-Policy",
        "not separable",
        "told apart",
    ] {
        assert!(page.contains(words), "{words}");
    }
    assert_eq!(page.matches("class=\"point\"").count(), comparison.points.len());
    assert_eq!(page.matches("data-budget=\"").count(), comparison.points.len());
    let rest = page.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    for fetch in ["http://", "https://", "<link", "<img", "<iframe", "@import", "url(", "src=", "fetch(", "import("] {
        assert!(!rest.contains(fetch), "{fetch}");
    }
    assert!(rest.match_indices("href=\"").all(|(at, _)| rest[at..].starts_with("href=\"#")));
}

#[test]
fn text_of_documents_cannot_become_markup() {
    let mut comparison = fixture();
    comparison.name = HOSTILE.into();
    comparison.device = HOSTILE.into();
    comparison.runs[0].path = HOSTILE.into();
    comparison.slices.iter_mut().for_each(|slice| slice.part = HOSTILE.into());
    let example = &mut comparison.examples[0];
    for text in [&mut example.document, &mut example.local, &mut example.future] {
        *text = HOSTILE.into();
    }
    example.prefix_tokens = vec![HOSTILE.into(); 3];
    example.gists.iter_mut().for_each(|gist| gist.tokens = vec![HOSTILE.into()]);
    let page = html(&comparison);
    assert_eq!(page.matches("<script>").count(), 1);
    for markup in ["<img", "<b>bold"] {
        assert!(!page.contains(markup), "{markup}");
    }
}

#[test]
fn odd_figures_do_not_panic() {
    let mut comparison = fixture();
    comparison.context_value_ci95 = [f64::NAN; 2];
    for point in &mut comparison.points {
        (point.kl_ci95, point.gap_closed_ci95) = ([f64::NAN; 2], [f64::NAN; 2]);
    }
    comparison.points[0].kl = f64::NAN;
    comparison.winners.iter_mut().for_each(|w| (w.runner_up, w.ci95) = (None, [f64::NAN; 2]));
    assert!(html(&comparison).contains("nobody to compare with"));
    let json = serde_json::to_string(&comparison).unwrap();
    assert!(serde_json::from_str::<Comparison>(&json).unwrap().points[0].kl.is_nan());
    comparison.compressors.truncate(1);
    comparison.points.retain(|p| p.compressor == "learned" && p.reader == ADAPTED && p.budget_tokens == 12);
    (comparison.examples, comparison.slices, comparison.winners) = (Vec::new(), Vec::new(), Vec::new());
    let page = html(&comparison);
    assert!(page.contains("Nothing was compared") && !page.contains("id=\"gallery\""));
}

#[test]
fn a_bound_is_drawn_when_it_is_known() {
    let mut comparison = fixture();
    let drawn = |c: &Comparison| figure::curves(c, SHARED).unwrap().unwrap().svg;
    assert!(!drawn(&comparison).contains("class=\"bound\""));
    comparison.bound = Some(vec![[0.0, 0.4], [0.1, 0.1], [0.2, 0.0]]);
    assert!(drawn(&comparison).contains("class=\"bound\""));
    assert!(html(&comparison).contains("the least that any gist of that length leaves"));
}

#[test]
fn tables_rank_by_kl_and_say_who_wins() {
    let comparison = fixture();
    let names: Vec<&str> = ranked(&comparison, SHARED, 25).iter().map(|p| p.compressor.as_str()).collect();
    assert_eq!(names, NAMES);
    let said = text(&comparison);
    for words in [
        "Read by one reader that all share",
        "25 tokens: learned, +5.0 [-1.0, 8.0] points against recent: not separable",
        "12 tokens: learned, +5.0 [2.0, 8.0] points against recent: told apart",
    ] {
        assert!(said.contains(words), "{words} in\n{said}");
    }
    assert_eq!(csv(&comparison).unwrap().iter().filter(|b| **b == b'\n').count(), 19);
}
