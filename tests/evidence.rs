//! The encoder that finds evidence: its terms against the parts that they are made of, the sum that training begins from, and
//! what is read together.

use crate::common::tiny_bert;
use crate::compressors::tokenizer;
use gist::compressor::Request;
use gist::compressor::evidence::EvidenceEncoder;
use gist::compressor::foreign::Foreign;
use gist::compressor::scored::{Scored, Scorer};
use gist::compressor::scorers::bm25::Bm25;
use gist::compressor::scorers::evidence::FoundEvidence;
use gist::config::compressors::Unit;
use gist::model::encoder::Encoder;
use gist::model::lora::Adapter;
use gist::model::row_head::RowHead;
use gist::tensor::to_vec;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Each passage fits a row of the encoder's 32 tokens behind the question.
const TEXT: &str = "# abc\na plan of.\na man.\n\ncab\na bad cab.\n\nno title.\nthe end.\n";
const QUESTION: &str = "a man?";
/// Each unit, with the passage that it stands in.
const UNITS: [(&str, &str); 7] = [
    ("# abc", "abc. a plan of.\na man."),
    ("a plan of.", "abc. a plan of.\na man."),
    ("a man.", "abc. a plan of.\na man."),
    ("cab", "cab. a bad cab."),
    ("a bad cab.", "cab. a bad cab."),
    ("no title.", "no title.\nthe end."),
    ("the end.", "no title.\nthe end."),
];

fn network(folder: &Path) -> Encoder {
    let (config, weights) = Encoder::read(folder).unwrap();
    Encoder::from_named(&config, weights).unwrap()
}

/// Values in standard deviations (n − 1) from their mean.
fn deviations(values: &[f64]) -> Vec<f64> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64;
    values.iter().map(|x| (x - mean) / variance.sqrt()).collect()
}

#[test]
fn terms_are_cosines_and_bm25_and_the_score_begins_as_their_sum() {
    let (bert, tokenizer) = (tiny_bert(), tokenizer());
    let (prefix, query) = (tokenizer.encode(TEXT).unwrap(), tokenizer.encode(QUESTION).unwrap());
    let request = Request { prefix: &prefix, local: &[], query: &query, key: 0 };
    let scored = Scored::new(&request, Unit::Sentence {}, &tokenizer).unwrap();
    let said: Vec<&str> = scored.units.iter().map(|unit| scored.decoded.slice(unit).trim()).collect();
    // A blank line is a unit of its own, or goes with the sentence before it.
    let found: Vec<usize> = (0..said.len()).filter(|&unit| !said[unit].is_empty()).collect();
    assert_eq!(found.iter().map(|&unit| said[unit]).collect::<Vec<_>>(), UNITS.map(|(own, _)| own));

    let evidence = EvidenceEncoder::load(bert.path(), Device::Cpu).unwrap();
    let terms = evidence.terms(&scored).unwrap();
    let foreign = Foreign::load(&bert.path().join("tokenizer.json")).unwrap();
    let untouched = network(bert.path());
    let cosine = |text: &str| {
        let one = |text: &str| foreign.embed(&untouched, &[text], false).unwrap();
        (one(text) * one(QUESTION)).sum(Kind::Float).double_value(&[])
    };
    let mut last = "";
    let mut wholes = Vec::new();
    for text in &said {
        last = UNITS.iter().find(|(own, _)| own == text).map_or(last, |(_, whole)| whole);
        wholes.push(cosine(last));
    }
    let bm25 = Bm25.score(std::slice::from_ref(&scored)).unwrap().remove(0);
    let units: Vec<f64> = said.iter().map(|text| cosine(text)).collect();
    let columns = [deviations(&units), deviations(&bm25), deviations(&wholes)];
    for (unit, own) in terms.chunks(3).enumerate() {
        for (term, column) in own.iter().zip(&columns) {
            assert!((f64::from(*term) - column[unit]).abs() < 1e-3, "unit {unit}: {own:?}, {columns:?}");
        }
    }

    // A sentence encoder as it comes is the sum of its terms.
    let sums: Vec<f64> = terms.chunks(3).map(|t| f64::from(t[0]) + 0.5 * f64::from(t[1] + t[2])).collect();
    let scores = FoundEvidence::load(bert.path(), Device::Cpu).unwrap().score(&[scored]).unwrap().remove(0);
    assert!(scores.iter().zip(&sums).all(|(score, sum)| (score - sum).abs() < 1e-5), "{scores:?}, {sums:?}");
}

#[test]
fn a_learned_term_does_not_depend_on_what_is_read_beside_it() {
    let (bert, tokenizer) = (tiny_bert(), tokenizer());
    let (config, weights) = Encoder::read(bert.path()).unwrap();
    let mut adapter = Adapter::of_rows(&config, weights, RowHead::Evidence, Device::Cpu).unwrap();
    let named = adapter.params().named().into_iter();
    // A last layer that says something.
    let spoken = |(name, weight): (String, Tensor)| match name == "gist.evidence.2.weight" {
        true => (name, weight.ones_like()),
        false => (name, weight),
    };
    let named = named.map(spoken).collect();
    adapter.params_mut().load(&named).unwrap();
    let (encoder, head) = adapter.evidence(Kind::Float).unwrap();
    let evidence = EvidenceEncoder::load(bert.path(), Device::Cpu).unwrap().remembering();

    let long = "a plan of a canal. ".repeat(40) + "\n\n" + TEXT;
    let texts = [TEXT, long.as_str(), "one.\n"].map(|text| tokenizer.encode(text).unwrap());
    let query = tokenizer.encode(QUESTION).unwrap();
    let requests = texts.each_ref().map(|prefix| Request { prefix, local: &[], query: &query, key: 0 });
    let scored = || requests.iter().map(|own| Scored::new(own, Unit::Sentence {}, &tokenizer).unwrap());
    let together = evidence.scores(&encoder, &head, &scored().collect::<Vec<_>>()).unwrap();
    for (own, beside) in scored().zip(&together) {
        let alone = evidence.scores(&encoder, &head, &[own]).unwrap().remove(0);
        assert_eq!(alone.size(), beside.size());
        assert!((alone - beside).abs().max().double_value(&[]) < 1e-4);
    }
    let sum = FoundEvidence::load(bert.path(), Device::Cpu).unwrap().score(&scored().collect::<Vec<_>>()).unwrap();
    assert!(to_vec(&together[0]).unwrap().iter().zip(&sum[0]).any(|(own, sum)| (own - sum).abs() > 1e-3));

    // Saved and read again, it is the same.
    let folder = tempfile::tempdir().unwrap();
    adapter.save(folder.path(), &gist::model::peft::Base::default()).unwrap();
    let again = Adapter::load_rows(folder.path(), RowHead::Evidence, bert.path(), Device::Cpu).unwrap();
    assert_eq!(again.params().leaf(), adapter.params().leaf());
    let other = Adapter::load_rows(bert.path(), RowHead::Evidence, bert.path(), Device::Cpu).err().unwrap().to_string();
    assert!(other.contains("model.safetensors"), "{other}");
}

#[test]
fn low_rank_weights_beside_an_encoder_are_their_product_added_to_its_own() {
    let bert = tiny_bert();
    let read = || Encoder::read(bert.path()).unwrap();
    let (config, weights) = read();
    gist::rng::seed_torch(0, gist::rng::Stream::Init, 0, 0);
    let mut low = Adapter::of_low_rank_rows(&config, weights, RowHead::Evidence, 2, Device::Cpu).unwrap();
    assert!(low.params().numel() < read().1.values().map(|weight| weight.numel() as i64).sum::<i64>());
    let drawn = |(name, weight): (String, Tensor)| (name, weight.rand_like() - 0.5);
    let drawn: BTreeMap<String, Tensor> = low.params().named().into_iter().map(drawn).collect();
    low.params_mut().load(&drawn).unwrap();

    // The same encoder with the products added: alpha / r is 2.
    let (_, mut merged) = read();
    for (name, down) in drawn.iter().filter(|(name, _)| name.ends_with("lora_A.weight")) {
        let up = &drawn[&name.replace("lora_A", "lora_B")];
        let plain = name.trim_start_matches("base_model.model.").replace("lora_A.weight", "weight");
        let weight = merged.get_mut(&plain).unwrap();
        *weight = weight.shallow_clone() + up.matmul(down) * 2.0;
    }
    let mut full = Adapter::of_rows(&config, merged, RowHead::Evidence, Device::Cpu).unwrap();
    let own = |(name, weight): (String, Tensor)| {
        let drawn = drawn.get(&name).map_or_else(|| weight.shallow_clone(), Tensor::shallow_clone);
        (name, drawn)
    };
    let named = full.params().named().into_iter().map(own).collect();
    full.params_mut().load(&named).unwrap();

    let tokenizer = tokenizer();
    let (prefix, query) = (tokenizer.encode(TEXT).unwrap(), tokenizer.encode(QUESTION).unwrap());
    let request = Request { prefix: &prefix, local: &[], query: &query, key: 0 };
    let evidence = EvidenceEncoder::load(bert.path(), Device::Cpu).unwrap();
    let scores = |adapter: &Adapter| {
        let (encoder, head) = adapter.evidence(Kind::Float).unwrap();
        let scored = Scored::new(&request, Unit::Sentence {}, &tokenizer).unwrap();
        evidence.scores(&encoder, &head, &[scored]).unwrap().remove(0)
    };
    let found = scores(&low);
    assert!((&found - scores(&full)).abs().max().double_value(&[]) < 1e-4);
    let loss = found.sum(Kind::Float);
    loss.backward();
    let gradient = low.params().leaf().grad();
    assert!(gradient.ne(0.0).sum(Kind::Int64).int64_value(&[]) > low.params().numel() / 2);

    let folder = tempfile::tempdir().unwrap();
    let base = gist::model::peft::Base { name: "bert".into(), ..Default::default() };
    low.save(folder.path(), &base).unwrap();
    let again = Adapter::load_rows(folder.path(), RowHead::Evidence, bert.path(), Device::Cpu).unwrap();
    assert_eq!(again.params().leaf(), low.params().leaf());
    let peft: serde_json::Value = gist::run_dir::read_json(&folder.path().join("adapter_config.json")).unwrap();
    assert_eq!(
        (&peft["r"], &peft["lora_alpha"], &peft["task_type"]),
        (&2.into(), &4.0.into(), &"FEATURE_EXTRACTION".into())
    );
    let targets = "attention.output.dense, attention.self.key, attention.self.query, attention.self.value, intermediate.dense, output.dense";
    let found = peft["target_modules"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
    assert_eq!(found.collect::<Vec<_>>().join(", "), targets);
}
