//! Frozen models as scorers: what a word is worth, windows, and their way into comparisons and evaluations.

use crate::common::{
    assert_says, edit, fails, fails_as_it_says, finished, finished_copy, gist, ok, row, tiny_encoder, tiny_kompress,
    train,
};
use crate::compressors::tokenizer;
use gist::compressor::foreign::Foreign;
use gist::compressor::scorer::Extractive;
use gist::compressor::{Compressor, Request};
use gist::config::compressors::{FrozenKind, FrozenScorer};
use gist::eval::schema::comparison::Comparison;
use gist::eval::schema::summary::Summary;
use gist::model::encoder::Encoder;
use gist::model::token_classifier::TokenClassifier;
use gist::model::weights;
use gist::run_dir::read_json;
use gist::tensor::to_vec;
use gist::tokenizer::Tokenizer;
use std::fs;
use std::path::Path;
use tch::{Device, Tensor};

fn named(kind: &str, folder: &Path) -> String {
    format!("{kind}:{}", folder.display())
}

fn frozen<'a>(kind: &str, folder: &Path, tokenizer: &'a Tokenizer) -> Extractive<'a> {
    let scorer = FrozenScorer::try_from(named(kind, folder)).unwrap();
    Extractive::frozen(&scorer, Device::Cpu, tokenizer).unwrap()
}

/// The scores of the tokens of a text, and the texts of the tokens.
fn scores(compressor: &dyn Compressor, tokenizer: &Tokenizer, text: &str) -> (Vec<f64>, Vec<String>) {
    let prefix = tokenizer.encode(text).unwrap();
    let request = Request { prefix: &prefix, local: &[], query: &[], key: 0 };
    let made = compressor.compress(&[request], 5).unwrap().remove(0);
    assert!(made.ids.len() <= 5);
    (made.scores.unwrap(), tokenizer.read(&prefix).unwrap().pieces())
}

/// Figure of the classifier for each letter of a text that one row holds, `begin` and `end` around it.
fn letters(folder: &Path, text: &str, [begin, end]: [&str; 2]) -> Vec<f64> {
    let own = Tokenizer::load_encoder(&folder.join("tokenizer.json")).unwrap();
    let ids = own.encode(text).unwrap();
    assert_eq!(ids.len(), text.replace(' ', "").len(), "a token a letter");
    let ids = [&[own.id_of(begin).unwrap()], &ids[..], &[own.id_of(end).unwrap()]].concat();
    let classifier = TokenClassifier::load(folder, Device::Cpu).unwrap();
    let worth = to_vec(&classifier.worth(&row(&ids), &[ids.len() as i64]).unwrap().reshape([-1])).unwrap();
    worth[1..worth.len() - 1].to_vec()
}

const WORDS: &str = "a man a plan bad canal";

/// The score of each word, by `rule` over its letters.
fn words(letters: &[f64], rule: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let mut rest = letters;
    let mut all = Vec::new();
    for word in WORDS.split(' ') {
        let (own, others) = rest.split_at(word.len());
        all.push(rule(own));
        rest = others;
    }
    all
}

#[test]
fn a_word_is_worth_its_mean_token_or_its_best() {
    let tokenizer = tokenizer();
    let mean = |own: &[f64]| own.iter().sum::<f64>() / own.len() as f64;
    let best = |own: &[f64]| own.iter().copied().fold(0.0, f64::max);
    let (lingua, kompress) = (tiny_encoder("xlm-roberta"), tiny_kompress());
    type Rule<'a> = &'a dyn Fn(&[f64]) -> f64;
    for (folder, marks, rule) in
        [(lingua.path(), ["<s>", "</s>"], &mean as Rule), (kompress.path(), ["[CLS]", "[SEP]"], &best as Rule)]
    {
        let (found, pieces) = scores(&frozen("encoder", folder, &tokenizer), &tokenizer, WORDS);
        let expected = words(&letters(folder, WORDS, marks), rule);
        assert!(expected.windows(2).all(|pair| (pair[0] - pair[1]).abs() > 1e-6));
        let mut word = 0;
        for (piece, score) in pieces.iter().zip(&found) {
            word += usize::from(piece.starts_with(' '));
            assert!((score - expected[word]).abs() < 1e-5, "{piece:?}: {score} for {}", expected[word]);
        }
        assert_eq!(word, expected.len() - 1);
    }
}

/// Gives an encoder of 48 ids a row for one more.
fn add_row(folder: &Path) {
    let config = folder.join("config.json");
    let mut told: serde_json::Value = read_json(&config).unwrap();
    told["vocab_size"] = 49.into();
    fs::write(&config, told.to_string()).unwrap();
    let path = folder.join("model.safetensors");
    let mut named = weights::read(&path).unwrap();
    let words = named.iter_mut().find(|(name, _)| name.ends_with("word_embeddings.weight")).unwrap().1;
    *words = Tensor::cat(&[words.shallow_clone(), words.narrow(0, 0, 1)], 0);
    weights::write(&path, &named.into_iter().collect::<Vec<_>>()).unwrap();
}

#[test]
fn long_texts_are_read_in_windows_and_added_tokens_of_llmlingua_tolerated() {
    let (tokenizer, folder) = (tokenizer(), tiny_encoder("xlm-roberta"));
    // LLMLingua-2 adds such tokens; a text that says one means its letters.
    let added = "\"special\":true},{\"id\":48,\"content\":\"[NEW0]\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\
                 \"normalized\":false,\"special\":true}],";
    let path = folder.path().join("tokenizer.json");
    let text = fs::read_to_string(&path).unwrap();
    let end = text.find("}],").unwrap();
    let last = text[..end].rfind(',').unwrap();
    assert!(text[last..].starts_with(",\"special\":true}],"), "{}", &text[last..end + 3]);
    fs::write(&path, format!("{}{}{}", &text[..last + 1], added, &text[end + 3..])).unwrap();
    let refused = Foreign::load(&path).err().unwrap().to_string();
    assert!(
        refused.contains("config.json: vocab_size: expected at least the tokenizer's 49 entries, got 48"),
        "{refused}"
    );
    add_row(folder.path());
    let scorer = frozen("encoder", folder.path(), &tokenizer);
    let (found, _) = scores(&scorer, &tokenizer, "a [NEW0] man");
    assert!(found.iter().all(|score| (0.0..=1.0).contains(score)), "{found:?}");

    // 60 letters in windows of 30: the first letter's window is the first 30.
    let text = "abcde fghij ".repeat(6);
    let (found, pieces) = scores(&scorer, &tokenizer, &text);
    let first = letters(folder.path(), &text[..36], ["<s>", "</s>"]);
    let expected = first[..5].iter().sum::<f64>() / 5.0;
    assert_eq!(pieces[0], "a");
    assert!((found[0] - expected).abs() < 1e-5, "{} for {expected}", found[0]);
    assert!(found.iter().all(|score| (0.0..=1.0).contains(score)));
}

#[test]
fn sentences_are_near_a_question_by_their_means_or_their_first_tokens() {
    let (tokenizer, folder) = (tokenizer(), tiny_encoder("bert"));
    let sentences = ["A man a plan. ", "A canal. "];
    let prefix = tokenizer.encode(&sentences.concat()).unwrap();
    let query = tokenizer.encode("panama").unwrap();
    let request = Request { prefix: &prefix, local: &[], query: &query, key: 0 };
    let (config, weights) = Encoder::read(folder.path()).unwrap();
    let encoder = Encoder::from_named(&config, weights).unwrap();
    let own = Tokenizer::load_encoder(&folder.path().join("tokenizer.json")).unwrap();
    let embedding = |text: &str, first: bool| {
        let ids = [&[2], &own.encode(text).unwrap()[..], &[3]].concat();
        let hidden = encoder.forward(&row(&ids), &[ids.len() as i64], None).unwrap().squeeze_dim(0);
        let state = if first { hidden.get(0) } else { hidden.mean_dim([0i64].as_slice(), false, tch::Kind::Float) };
        &state / state.norm()
    };
    fs::create_dir(folder.path().join("1_Pooling")).unwrap();
    let pooling = folder.path().join("1_Pooling/config.json");
    for (said, first) in [
        ("{\"pooling_mode_cls_token\": false, \"pooling_mode_mean_tokens\": true}", false),
        ("{\"pooling_mode_cls_token\": true, \"pooling_mode_mean_tokens\": false}", true),
        ("{\"pooling_mode\": \"cls\"}", true),
    ] {
        fs::write(&pooling, said).unwrap();
        let made = frozen("embedding", folder.path(), &tokenizer).compress(&[request], 4).unwrap().remove(0);
        let scores = made.scores.unwrap();
        let cosine = |text: &str| embedding(text, first).dot(&embedding("panama", first)).double_value(&[]);
        assert!((scores[0] - cosine(sentences[0])).abs() < 1e-5, "{said}");
        assert!((scores[prefix.len() - 1] - cosine(sentences[1])).abs() < 1e-5, "{said}");
    }
    fs::write(&pooling, "{\"pooling_mode_lasttoken\": true}").unwrap();
    let said = Extractive::frozen(
        &FrozenScorer::try_from(named("embedding", folder.path())).unwrap(),
        Device::Cpu,
        &tokenizer,
    );
    assert_says(
        &said.err().unwrap().to_string(),
        &["1_Pooling/config.json: expected pooling by the first token"],
        "last",
    );
}

#[test]
fn names_are_read_as_they_are_written() {
    for (name, kind, path, revision) in [
        ("encoder:models/x", FrozenKind::Encoder, "models/x", None),
        ("embedding:.minilm", FrozenKind::Embedding, ".minilm", None),
        ("evidence:.minilm", FrozenKind::Evidence, ".minilm", None),
        ("encoder:owner/name@v1.0", FrozenKind::Encoder, "owner/name", Some("v1.0")),
        ("encoder:./a@b", FrozenKind::Encoder, "./a@b", None),
        ("encoder:a:b", FrozenKind::Encoder, "a:b", None),
    ] {
        let read = FrozenScorer::try_from(name.to_string()).unwrap();
        assert_eq!((read.kind, read.path.to_str().unwrap(), read.revision.as_deref()), (kind, path, revision));
        assert_eq!(read.to_string(), name);
    }
    for name in ["encoder:", "encoder", "bert:x", ""] {
        let said = FrozenScorer::try_from(name.to_string()).unwrap_err();
        assert_says(&said, &["expected encoder:PATH, embedding:PATH or evidence:PATH", &format!("{name:?}")], name);
    }
}

#[test]
fn they_compete_by_name_and_their_readers_know_their_weights() {
    let (folder, lingua, bert) = (tempfile::tempdir().unwrap(), tiny_encoder("xlm-roberta"), tiny_encoder("bert"));
    let output = folder.path().join("out");
    let (encoder, embedding) = (named("encoder", lingua.path()), named("embedding", bert.path()));
    let list = format!("recent,{encoder},{embedding},recent+{encoder}");
    let compare = |list: &str| {
        let arguments = ["compare", "--runs", finished().to_str().unwrap(), "--output", output.to_str().unwrap()];
        let flags = ["--windows", "6", "--budgets", "0.25", "--updates", "1", "--compressors", list];
        [&arguments[..], &flags].concat().into_iter().map(String::from).collect::<Vec<_>>()
    };
    let arguments = compare(&list);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    ok(&arguments);
    let found: Comparison = read_json(&output.join("comparison.json")).unwrap();
    for name in [&encoder, &embedding, &format!("recent+{encoder}")] {
        let points = found.points.iter().filter(|p| p.compressor == *name).collect::<Vec<_>>();
        assert!(points.len() == 2 && points.iter().all(|p| p.kl.is_finite() && p.keep_ratio <= 0.25), "{name}");
    }
    // Readers lie side by side, whatever the path; those of other weights are taught again.
    assert_eq!(fs::read_dir(output.join("readers/of")).unwrap().count(), 5);
    let kept = |output: std::process::Output| String::from_utf8(output.stderr).unwrap().matches(": kept").count();
    assert_eq!(kept(gist(&arguments)), 2 + 5);
    let path = lingua.path().join("model.safetensors");
    let mut all = weights::read(&path).unwrap();
    let _ = all.get_mut("classifier.bias").unwrap().fill_(0.25);
    weights::write(&path, &all.into_iter().collect::<Vec<_>>()).unwrap();
    assert_eq!(kept(gist(&arguments)), 1 + 3, "the shared one, its own and its chain's are not");

    let none = folder.path().join("none");
    for (name, words) in [
        ("encoder:", vec!["--compressors: expected encoder:PATH, embedding:PATH or evidence:PATH, got \"encoder:\""]),
        ("encoder:nobody/nothing", vec!["nobody/nothing: no such folder", "`gist fetch nobody/nothing` brings it"]),
        (&named("encoder", &none), vec!["none/config.json: No such file"]),
        (&named("encoder", bert.path()), vec!["model.safetensors", "`classifier.weight` of 2 labels"]),
        (
            "best",
            vec![
                "--compressors: expected names among truncate, recent, ",
                "encoder:PATH, embedding:PATH or evidence:PATH, got \"best\"",
            ],
        ),
        ("recent+best", vec!["recent+best: expected a run's experiment or a baseline", "got \"best\""]),
    ] {
        let arguments = compare(name);
        assert_says(&fails_as_it_says(&arguments.iter().map(String::as_str).collect::<Vec<_>>()), &words, name);
    }
}

#[test]
fn an_evaluation_has_them_beside_its_baselines() {
    let (lingua, bert) = (tiny_encoder("xlm-roberta"), tiny_encoder("roberta"));
    let (_runs, run) = finished_copy();
    let (encoder, embedding) = (named("encoder", lingua.path()), named("embedding", bert.path()));
    edit(&run.join("config.toml"), "[eval]\n", &format!("[eval]\nencoders = [{encoder:?}, {embedding:?}]\n"));
    ok(&["eval", run.to_str().unwrap(), &format!("--adapt-readers={encoder}")]);
    let summary: Summary = read_json(&run.join("summary.json")).unwrap();
    for name in [&encoder, &embedding] {
        assert!(summary.eval.compressors[name.as_str()].keep_ratio <= 4.0 / 32.0, "{name}");
    }
    let readers = fs::read_dir(run.join("eval/step_000010/readers")).unwrap();
    assert_eq!(readers.count(), 1, "one reader, in a folder of its own");

    let refused = |value: &str, words: &[&str]| {
        let runs = tempfile::tempdir().unwrap();
        let flag = format!("eval.encoders={value}");
        assert_says(&fails_as_it_says(&train(runs.path(), &["--set", &flag])), words, value);
        assert!(fs::read_dir(runs.path()).unwrap().next().is_none());
    };
    refused("[\"bert\"]", &["eval.encoders", "expected encoder:PATH, embedding:PATH or evidence:PATH, got \"bert\""]);
    refused("[\"encoder:a\", \"encoder:a\"]", &["eval.encoders[1]", "expected each once, got \"encoder:a\" twice"]);
    refused("[\"encoder:a\"]", &["a/config.json: No such file"]);
    let runs = tempfile::tempdir().unwrap();
    let absent = ["--offline", "--set", "eval.encoders=[\"encoder:a/b\"]"];
    assert_says(&fails(2, &train(runs.path(), &absent)), &["a/b"], "a repository that is not in the cache");
}
