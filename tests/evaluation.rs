//! The evaluator on a tiny decoder: end points that are known exactly, the budget, leak controls, files.

mod curves;

use crate::compressors::{VOCABULARY, random_adapter, tiny_decoder};
use gist::compressor::baseline::{Empty, Identity};
use gist::compressor::controls::{Memory, OtherDocument, Shuffled, donors};
use gist::compressor::frequencies::DocumentFrequencies;
use gist::compressor::gist::GistPolicy;
use gist::compressor::policy::{Policy, Trained};
use gist::compressor::recent_joined::RecentJoined;
use gist::compressor::scorer::Extractive;
use gist::compressor::scorers::{Parts, ScorerKind};
use gist::compressor::{Compressed, Compressor, Request};
use gist::config::choices::Condition;
use gist::config::eval::Cluster;
use gist::config::parts::Sampling;
use gist::data::{Document, Window, WindowShape, held_out_windows};
use gist::error::Result;
use gist::eval::curves::{Contender, Curves, Exam};
use gist::eval::figures::Earlier;
use gist::eval::pooled::Series;
use gist::eval::schema::comparison::{Budget, Point};
use gist::eval::schema::readers::{ADAPTED, BASE, GENERATOR};
use gist::eval::schema::readers::{ADAPTED as OWN, SHARED};
use gist::eval::schema::summary::Evaluation;
use gist::eval::schema::windows::WindowExample;
use gist::eval::schema::windows::read_windows;
use gist::eval::table::{Evaluated, Job, Standing, evaluate};
use gist::model::decoder::Decoder;
use gist::model::lora::Adapter;
use gist::reading::{Reading, Taught};
use gist::rng::{self, Stream};
use gist::search::{Found, SpanSearch, SpanShape};
use gist::tokenizer::Tokenizer;

const SHAPE: WindowShape = WindowShape { prefix: 32, local: 6, future: 5 };
const SEARCH: SpanShape = SpanShape { span_tokens: 3, stride: 2, shortlist: 4 };

struct World {
    decoder: Decoder,
    tokenizer: Tokenizer,
    documents: Vec<Document>,
    windows: Vec<Window>,
    frequencies: DocumentFrequencies,
    generator: Adapter,
    empty_reader: Adapter,
}

fn world() -> World {
    let words = ["def", "self", "return", "value", "index", "für", "x1", "(", ")", ":", "\n", "漢"];
    let document = |i: u64| {
        let mut rng = rng::rng(1, Stream::Synthetic, 0, i, 0);
        let text: Vec<&str> = (0..160).map(|_| words[rng::below(&mut rng, words.len())]).collect();
        Document { id: format!("doc{i}"), text: text.join(" "), source: "made".into() }
    };
    let documents: Vec<Document> = (0..6).map(document).collect();
    let tokenizer = Tokenizer::train(documents.iter().map(|d| d.text.as_str()), VOCABULARY as usize).unwrap();
    let ids: Vec<Vec<u32>> = documents.iter().map(|d| tokenizer.encode(&d.text).unwrap()).collect();
    let windows = held_out_windows(&ids, SHAPE, 10, 2, 0).unwrap();
    assert_eq!(windows.len(), 10);
    let decoder = tiny_decoder();
    let (generator, empty_reader) = (random_adapter(&decoder, 2), random_adapter(&decoder, 3));
    let frequencies = DocumentFrequencies::count(&tokenizer, &ids).unwrap();
    World { decoder, tokenizer, documents, windows, frequencies, generator, empty_reader }
}

impl World {
    fn scored(&self, kind: ScorerKind) -> Extractive<'_> {
        let parts = Parts { decoder: &self.decoder, frequencies: &self.frequencies, seed: 1 };
        Extractive::plain(kind, parts, &self.tokenizer)
    }

    fn job(&self, budget: usize) -> Job<'_> {
        Job {
            decoder: &self.decoder,
            tokenizer: &self.tokenizer,
            documents: &self.documents,
            windows: &self.windows,
            condition: Condition::Local,
            budget,
            generator: &self.generator,
            empty_reader: &self.empty_reader,
            cluster: Cluster::Document,
            seed: 7,
            resamples: 200,
        }
    }
}

/// All that a table holds, with budget `budget`, given to `check`.
fn with_everything(world: &World, budget: usize, check: impl FnOnce(&mut Evaluated)) {
    let beyond = world.tokenizer.vocab_size() as u32..world.decoder.config().vocab_size as u32;
    let forbidden: Vec<u32> = world.tokenizer.special_ids().iter().copied().chain(beyond).collect();
    let policy = Policy::Gist(GistPolicy::new(&world.decoder, &forbidden));
    let adapter = random_adapter(&world.decoder, 4);
    let compressor =
        |name: &str, sampling| Trained { name: name.into(), policy: &policy, adapter: &adapter, sampling, seed: 1 };
    let (greedy, sampled) = (compressor("gist", Sampling::greedy()), compressor("gist_sampled", Sampling::default()));
    let greedy = Memory::new(&greedy);
    let other = OtherDocument::new(&greedy, donors(&world.windows, 1).unwrap());
    let mut evaluated = evaluate(
        world.job(budget),
        &[
            (&Empty, Standing::Baseline),
            (&world.scored(ScorerKind::Truncate), Standing::Baseline),
            (&world.scored(ScorerKind::Recent), Standing::Baseline),
            (&world.scored(ScorerKind::Random), Standing::Baseline),
            (&RecentJoined { tokenizer: &world.tokenizer }, Standing::Baseline),
            (&Identity, Standing::Baseline),
            (&greedy, Standing::Gist),
            (&sampled, Standing::Gist),
            (&other, Standing::LeakControl),
            (&Shuffled { inner: &greedy, seed: 1 }, Standing::LeakControl),
        ],
    )
    .unwrap();
    check(&mut evaluated);
}

#[test]
fn identity_without_adapters_loses_nothing_and_empty_is_local_only() {
    let world = world();
    with_everything(&world, 8, |evaluated| {
        let evaluation = evaluated.evaluation(None).unwrap();
        let base = &evaluation.readers[BASE];
        assert!(base["identity"].kl.abs() < 1e-6, "{}", base["identity"].kl);
        assert_eq!(base["identity"].top1_agreement, 1.0);
        assert!((base["identity"].gap_closed - 1.0).abs() < 1e-5 && base["identity"].keep_ratio == 1.0);
        assert_eq!(base["empty"].kl, evaluation.context_value_unadapted);
        assert!(evaluation.context_value_unadapted > 1e-3, "the decoder reads its context");
        let local_only: Vec<(usize, &[u32])> = (0..10).map(|w| (w, [].as_slice())).collect();
        let taught = Taught::new(&world.decoder, &world.windows).unwrap();
        let expected = taught.measure(&world.decoder, None, &local_only).unwrap();
        let rows = evaluated.window_rows(None);
        assert!(rows.iter().zip(&expected).all(|(row, reading)| row.compressors["empty"].kl_base == reading.kl));
        assert!(evaluation.compressors["identity"].kl > 1e-4, "the adapted generator is another model");
    });
}

#[test]
fn a_budget_of_nothing_is_local_only_for_all() {
    let world = world();
    with_everything(&world, 0, |evaluated| {
        let empty = evaluated.kl("empty").unwrap();
        for name in evaluated.entries(GENERATOR).keys().filter(|name| *name != "identity") {
            assert_eq!(evaluated.kl(name).unwrap(), empty, "{name}");
        }
    });
}

#[test]
fn entries_differences_and_files_agree() {
    let world = world();
    with_everything(&world, 8, |evaluated| {
        evaluated.add_searches(4, 2, SEARCH).unwrap();
        evaluated.adapt("recent", &random_adapter(&world.decoder, 8)).unwrap();
        let warm: Vec<f64> = evaluated.kl("gist").unwrap().iter().map(|kl| kl + 0.1 * evaluated.context()[0]).collect();
        let untrained = vec![Reading { kl: 0.3, nll: 3.0, top1_agreement: 0.5 }; warm.len()];
        let earlier = Earlier { untrained, warm_started: warm.clone() };
        let evaluation = evaluated.evaluation(Some(&earlier)).unwrap();
        assert_eq!((evaluation.n_windows, evaluation.budget_tokens), (10, 8));
        assert!(evaluation.n_documents >= 5);
        for (name, entry) in &evaluation.compressors {
            assert!(entry.keep_ratio <= 8.0 / 32.0 || name == "identity", "{name}");
            assert_eq!(entry.leak_control, ["other_document", "shuffled"].contains(&name.as_str()));
            assert_eq!(entry.cheating, name == "oracle_greedy");
            assert_eq!(entry.search, name == "lookahead");
            assert_eq!(entry.keep_ratio_decoded.is_none(), name == "identity", "{name}");
            if !["oracle_greedy", "lookahead"].contains(&name.as_str()) {
                let gap = 1.0 - entry.kl / evaluation.context_value;
                assert!((entry.gap_closed - gap).abs() < 1e-9, "{name}");
            }
            assert!(entry.kl_ci95[0] <= entry.kl && entry.kl <= entry.kl_ci95[1], "{name}");
        }
        assert_eq!(evaluation.compressors["empty"].kl_decoded, Some(evaluation.compressors["empty"].kl));
        assert_eq!(evaluation.readers[ADAPTED].keys().collect::<Vec<_>>(), ["recent"]);
        assert_eq!(evaluation.readers[GENERATOR], evaluation.compressors);

        let honest = ["empty", "truncate", "recent", "recent_joined", "random"];
        let best = evaluation.gist_minus_best.as_ref().unwrap();
        let lowest = honest.iter().map(|name| evaluation.compressors[*name].kl).fold(f64::INFINITY, f64::min);
        assert_eq!(evaluation.compressors[&best.name].kl, lowest);
        let expected = evaluation.compressors["gist"].gap_closed - evaluation.compressors[&best.name].gap_closed;
        assert!((best.gap_closed_diff - expected).abs() < 1e-9);
        assert!(evaluation.gist_minus_warm_start.as_ref().unwrap().gap_closed_diff > 0.0);
        assert!(evaluated.gist_minus(&warm[1..]).is_err());
        assert_eq!(evaluation.retention["gist"].copied.is_some(), evaluation.compressors["gist"].keep_ratio > 0.0);
        assert_eq!(evaluation.retention["recent"].copied, Some(1.0));
        let base_kl = |name: &str| evaluation.readers[BASE][name].kl;
        // The bare base has no separator; a reader that has one reads the same tokens otherwise.
        let (separated, joined) = (&evaluation.compressors["recent"], &evaluation.compressors["recent_joined"]);
        assert!(separated.kl != joined.kl && base_kl("recent") == base_kl("recent_joined"));

        // The ledger against figures that are made by other ways: entries, and the teacher read as a reader.
        let ledger = evaluation.ledger.unwrap();
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        let (gist, base) = (&evaluation.compressors["gist"], &evaluation.readers[BASE]);
        near(ledger.k_e.kl, evaluation.context_value);
        near(ledger.k_u.kl, evaluation.context_value_unadapted);
        near(ledger.k_u.nll, base["empty"].nll);
        near(ledger.k_g.kl, gist.kl);
        near(ledger.k_g.nll, gist.nll);
        near(ledger.k_recent.unwrap().nll, evaluation.compressors["recent"].nll);
        near(ledger.k_0.unwrap().nll, 3.0);
        near(ledger.ke_over_kg.mean, evaluation.context_value / gist.kl);
        near(ledger.gap_closed.mean, gist.gap_closed);
        (0..2).for_each(|i| near(ledger.gap_closed.ci95[i], gist.gap_closed_ci95[i]));
        assert!((ledger.teacher_nll - base["identity"].nll).abs() < 1e-5, "{}", ledger.teacher_nll);
        near(ledger.nll_gap_closed.mean, (ledger.k_e.nll - gist.nll) / (ledger.k_e.nll - ledger.teacher_nll));

        let folder = tempfile::tempdir().unwrap();
        evaluated.write(folder.path(), &evaluation, Some(&earlier), 3).unwrap();
        let rows = read_windows(&folder.path().join("windows.jsonl")).unwrap();
        assert_eq!(rows, evaluated.window_rows(Some(&earlier)));
        let series = |name: &str| Series::new(std::slice::from_ref(&rows), name, GENERATOR).unwrap();
        let entry = &evaluation.compressors["recent"];
        let pooled = series("recent").gap_closed(200, 7);
        assert!((pooled.mean - entry.gap_closed).abs() < 1e-9 && (pooled.low - entry.gap_closed_ci95[0]).abs() < 0.2);
        let diff = series("gist").minus(&series(&best.name), 200, 7).unwrap();
        assert!((diff.mean - best.gap_closed_diff).abs() < 1e-9);
        let text = std::fs::read_to_string(folder.path().join("examples.jsonl")).unwrap();
        let examples: Vec<WindowExample> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(examples.iter().map(|e| e.window).collect::<Vec<_>>(), [0, 3, 6]);
        assert!(examples[0].document.starts_with("doc") && !examples[0].gists.contains_key("identity"));
        assert_eq!(examples[0].gists["recent"].tokens.len(), 8);
        assert!(examples[0].gists.contains_key("oracle_greedy"), "window 0 is searched too");
        let json = std::fs::read_to_string(folder.path().join("metrics.json")).unwrap();
        let read: Evaluation = serde_json::from_str(&json).unwrap();
        assert_eq!(read, evaluation);
    });
}

#[test]
fn intervals_are_over_documents_or_over_their_sources() {
    let mut world = world();
    for (i, document) in world.documents.iter_mut().enumerate() {
        document.source = format!("project{}", i % 2);
    }
    let recent = world.scored(ScorerKind::Recent);
    let under = |cluster: Cluster| {
        let evaluated = evaluate(Job { cluster, ..world.job(8) }, &[(&recent, Standing::Baseline)]).unwrap();
        evaluated.evaluation(None).unwrap()
    };
    let (documents, sources) = (under(Cluster::Document), under(Cluster::Source));
    assert_eq!((sources.n_documents, sources.n_clusters), (documents.n_documents, 2));
    assert_eq!(documents.n_clusters, documents.n_documents);
    let (a, b) = (&documents.compressors["recent"], &sources.compressors["recent"]);
    assert_eq!((a.gap_closed, a.kl), (b.gap_closed, b.kl), "the figure itself does not change");
    assert_ne!(a.gap_closed_ci95, b.gap_closed_ci95);
    // Two clusters have three resamples: one twice, the other twice, both.
    let rows = evaluate(world.job(8), &[(&recent, Standing::Baseline)]).unwrap().window_rows(None);
    let gap = |source: &str| {
        let own: Vec<_> = rows.iter().filter(|row| row.source.as_deref() == Some(source)).collect();
        let (kl, context): (Vec<f64>, Vec<f64>) =
            own.iter().map(|row| (row.compressors["recent"].kl, row.context_value_kl)).unzip();
        1.0 - kl.iter().sum::<f64>() / context.iter().sum::<f64>()
    };
    let mut ends = [gap("project0"), gap("project1")];
    ends.sort_by(f64::total_cmp);
    assert!((b.gap_closed_ci95[0] - ends[0]).abs() < 1e-9 && (b.gap_closed_ci95[1] - ends[1]).abs() < 1e-9);
}

struct Greedy;

impl Compressor for Greedy {
    fn name(&self) -> &str {
        "too_much"
    }
    fn compress(&self, requests: &[Request], budget: usize) -> Result<Vec<Compressed>> {
        let one = |r: &Request| Compressed { ids: r.prefix[..budget + 1].to_vec(), ..Compressed::default() };
        Ok(requests.iter().map(one).collect())
    }
}

#[test]
fn what_cannot_stand_in_the_table_is_named() {
    let world = world();
    let error = evaluate(world.job(8), &[(&Greedy, Standing::Baseline)]).err().unwrap().to_string();
    assert_eq!(error, "gist of compressor `too_much` for window 0: expected at most 8 tokens, got 9");
    let recent = world.scored(ScorerKind::Recent);
    let twice: [(&dyn Compressor, Standing); 2] = [(&recent, Standing::Baseline), (&recent, Standing::Baseline)];
    assert!(evaluate(world.job(8), &twice).err().unwrap().to_string().contains("`recent` twice"));
    let mut evaluated = evaluate(world.job(8), &twice[..1]).unwrap();
    assert!(evaluated.readings_with(&Greedy, &world.generator).is_err());
    let kl = |generator: &Adapter| -> Vec<f64> {
        evaluated.readings_with(&recent, generator).unwrap().iter().map(|r| r.kl).collect()
    };
    let (own, other) = (evaluated.kl("recent").unwrap(), kl(&world.empty_reader));
    assert_eq!(kl(&world.generator), own);
    assert_ne!(other, own);
    assert!(evaluated.kl("gist").unwrap_err().to_string().contains("`gist`"));
    assert!(evaluated.adapt("gist", &world.generator).is_err());
    assert!(evaluated.gist_minus_best(GENERATOR).is_none());
    assert!(evaluate(Job { windows: &[], ..world.job(8) }, &twice[..1]).is_err());
}

#[test]
fn the_search_beats_its_rivals_and_stays_within_the_budget() {
    let world = world();
    let (decoder, windows) = (&world.decoder, &world.windows[..6]);
    let taught = Taught::new(decoder, windows).unwrap();
    let reader = decoder.activate(&world.generator, false).unwrap();
    let search = |reader| SpanSearch { decoder, tokenizer: &world.tokenizer, reader, params: SEARCH };
    for budget in [0, 2, 7, 8] {
        for reader in [None, Some(&reader)] {
            let best = |extra: &[Vec<Vec<u32>>]| -> Vec<Found> {
                let all = search(reader).ranked(&taught, budget, extra).unwrap();
                assert!(all.iter().all(|gists| gists.windows(2).all(|pair| pair[0].kl <= pair[1].kl)));
                all.into_iter().map(|gists| gists[0].clone()).collect()
            };
            let found = best(&[]);
            let contexts = |gists: Vec<Vec<u32>>| -> Vec<f64> {
                let v = decoder.config().vocab_size;
                let contexts: Vec<Vec<u32>> =
                    gists.iter().map(|g| gist::reading::reader_context(g, reader.is_some(), v)).collect();
                let rows: Vec<(usize, &[u32])> = contexts.iter().map(Vec::as_slice).enumerate().collect();
                taught.measure(decoder, reader, &rows).unwrap().iter().map(|r| r.kl).collect()
            };
            let own = contexts(found.iter().map(|f| f.ids.clone()).collect());
            let empty = contexts(vec![Vec::new(); 6]);
            let recent = contexts(windows.iter().map(|w| w.prefix[32 - budget..].to_vec()).collect());
            let first = contexts(windows.iter().map(|w| w.prefix[..budget.min(3)].to_vec()).collect());
            for (w, f) in found.iter().enumerate() {
                let kept = f.kept.as_ref().unwrap();
                assert!(f.ids.len() <= budget && kept.windows(2).all(|pair| pair[0] < pair[1]));
                assert_eq!(f.ids, kept.iter().map(|&at| windows[w].prefix[at]).collect::<Vec<_>>());
                assert!((own[w] - f.kl).abs() < 1e-5, "measured again: {} and {}", own[w], f.kl);
                assert!(f.kl <= empty[w].min(recent[w]).min(first[w]) + 1e-5);
            }
            if budget == 8 {
                assert!(found.iter().any(|f| f.ids.len() > 3), "spans are combined");
            }
            // A candidate from outside wins where it is better, and only there.
            let extra: Vec<Vec<Vec<u32>>> = found.iter().map(|f| vec![f.ids.clone(), vec![5; budget]]).collect();
            let again = best(&extra);
            assert!(found.iter().zip(&again).all(|(a, b)| b.kl <= a.kl + 1e-5));
        }
    }
    let long = vec![vec![vec![1; 9]]; 6];
    assert!(search(None).ranked(&taught, 8, &long).is_err());
    assert!(search(None).ranked(&taught, 8, &long[1..]).is_err());
}
