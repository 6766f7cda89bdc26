//! Rate and distortion over budgets and seeds.

use super::*;

#[test]
fn curves_agree_with_the_table_and_seeds_are_averaged() {
    let world = world();
    let (recent, random) = (world.scored(ScorerKind::Recent), world.scored(ScorerKind::Random));
    let exam = Exam {
        decoder: &world.decoder,
        tokenizer: &world.tokenizer,
        documents: &world.documents,
        windows: &world.windows,
        numbers: &(100..110).collect::<Vec<_>>(),
        condition: Condition::Local,
        budgets: &[Budget { requested: 0.125, tokens: 4 }, Budget { requested: 0.25, tokens: 8 }],
        cluster: Cluster::Document,
        seed: 7,
        resamples: 200,
    };
    let mut curves = Curves::new(exam, &world.empty_reader).unwrap();
    let reader = Some(&world.empty_reader);
    let (a, b) = (Contender { compressor: &recent, reader }, Contender { compressor: &random, reader });
    let entrants: [(&str, &[u64], &[Contender]); 4] =
        [("recent", &[], &[a]), ("random", &[], &[b]), ("both", &[0, 1], &[a, b]), ("again", &[], &[a])];
    for (name, seeds, members) in entrants {
        let number = curves.enter(name, seeds.to_vec()).unwrap();
        for budget in 0..2 {
            curves.measure(number, budget, members, Some(&world.generator)).unwrap();
        }
    }
    assert!(curves.enter("both", Vec::new()).unwrap_err().to_string().contains("`both` twice"));
    let points = curves.points();
    let point = |name: &str, reader: &str, tokens: usize| {
        let here = |p: &&Point| (p.compressor.as_str(), p.reader.as_str(), p.budget_tokens) == (name, reader, tokens);
        points.iter().find(here).unwrap()
    };
    let table = evaluate(world.job(8), &[(&recent, Standing::Baseline), (&random, Standing::Baseline)]).unwrap();
    let entries = table.entries(GENERATOR);
    for name in ["recent", "random"] {
        let (point, entry) = (point(name, SHARED, 8), &entries[name]);
        assert!((point.kl - entry.kl).abs() < 1e-9 && (point.gap_closed - entry.gap_closed).abs() < 1e-9);
        assert!(
            (point.nll - entry.nll).abs() < 1e-9 && (point.gap_closed_ci95[0] - entry.gap_closed_ci95[0]).abs() < 1e-9
        );
        assert_eq!((point.keep_ratio, point.requested), (entry.keep_ratio, 0.25));
    }
    let kl = |name: &str, reader: &str, tokens: usize| point(name, reader, tokens).kl;
    assert!((kl("both", OWN, 4) - (kl("recent", OWN, 4) + kl("random", OWN, 4)) / 2.0).abs() < 1e-9);
    assert_ne!(kl("recent", SHARED, 4), kl("recent", OWN, 4));
    let winners = curves.winners();
    assert_eq!(winners.len(), 4);
    for winner in &winners {
        let best = kl(&winner.compressor, &winner.reader, winner.budget_tokens);
        assert!(
            ["recent", "random", "both", "again"].iter().all(|n| kl(n, &winner.reader, winner.budget_tokens) >= best)
        );
        if winner.compressor == "recent" {
            assert_eq!(
                (winner.runner_up.as_deref(), winner.gap_closed_diff, winner.separable()),
                (Some("again"), 0.0, false)
            );
            assert!(winner.not_separable.contains(&"again".to_string()));
        }
    }
    let slices = curves.slices().unwrap();
    let thirds: Vec<_> = slices
        .iter()
        .filter(|s| {
            (s.by.as_str(), s.compressor.as_str(), s.reader.as_str(), s.budget_tokens)
                == ("context value", "recent", SHARED, 8)
        })
        .collect();
    assert_eq!(thirds.iter().map(|s| s.n_windows).collect::<Vec<_>>(), [3, 3, 4]);
    let pooled = thirds.iter().map(|s| s.kl * s.n_windows as f64).sum::<f64>() / 10.0;
    assert!((pooled - kl("recent", SHARED, 8)).abs() < 1e-9);
    let examples = curves.examples(3, 8).unwrap();
    assert_eq!((examples.len(), examples[0].gists.len(), examples[0].prefix_tokens.len()), (3, 4, 32));
    assert_eq!(examples[0].gists[0].kept, Some((24..32).collect()));
    assert_eq!(
        examples.iter().map(|e| e.window).collect::<Vec<_>>(),
        [100, 103, 106],
        "numbers of the held-out windows"
    );
    let contestants = curves.contestants();
    assert!(contestants.iter().all(|c| c.speed.len() == 2 && c.speed[0].ms_per_window > 0.0));
    assert!(contestants.iter().all(|c| c.speed.iter().all(|speed| speed.latency_ms > 0.0)));
    assert!(contestants[2].trained() && !contestants[0].trained());
}
