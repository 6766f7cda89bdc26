//! The base model that ships, against transformers. Fixture: `tests/fixtures/make_base_fixture.py`.

use crate::common::*;
use gist::eval::gates::roles::rounding_cost;
use gist::model::decoder::Decoder;
use gist::model::vocab::Head;
use gist::model::weights;
use gist::tokenizer::Tokenizer;
use std::path::Path;
use tch::{Device, Kind, Tensor};

#[test]
fn the_shipped_base_gives_the_ids_and_logits_of_transformers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let base = root.join("checkpoints/code-4m");
    let text = std::fs::read_to_string(root.join("tests/fixtures/snippet.txt")).unwrap();
    let record = weights::read(&root.join("tests/fixtures/code-4m-logits.safetensors")).unwrap();
    let tokenizer = Tokenizer::load(&base.join("tokenizer.json")).unwrap();
    let ids = row(&tokenizer.encode(&text).unwrap());
    assert!(ids.squeeze_dim(0).equal(&record["ids"]), "AutoTokenizer encodes the snippet otherwise");
    let decoder = Decoder::load(&base, Device::Cpu, Kind::Float).unwrap();
    tokenizer.check_model(&base, decoder.config().vocab_size).unwrap();
    let hidden = decoder.forward(&ids, &[0], None).unwrap().squeeze_dim(0);
    let logits = Head::base(decoder.head()).logits(&hidden);
    let (t, last) = (logits.size()[0], record["logits"].size()[0]);
    assert_close(&logits.narrow(0, t - last, last), &record["logits"], 1e-3);
    let nll = -log_probs(&logits.narrow(0, 0, t - 1), &record["ids"].narrow(0, 1, t - 1));
    assert_close(&nll, &record["nll"], 1e-3);
    let attention = decoder.attention(&ids, &[0], 8).unwrap();
    assert_close(&attention.squeeze_dim(0), &record["attention"], 1e-4);
    // The same behind padding.
    let padded = Tensor::cat(&[Tensor::zeros([1, 3], (Kind::Int64, Device::Cpu)), ids], 1);
    let attention = decoder.attention(&padded, &[3], 8).unwrap().squeeze_dim(0);
    assert_close(&attention.narrow(1, 3, t), &record["attention"], 1e-4);
    assert_eq!(attention.narrow(1, 0, 3).abs().max().double_value(&[]), 0.0);
}

#[test]
fn bfloat16_costs_little_of_what_a_context_is_worth() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let record = weights::read(&root.join("tests/fixtures/code-4m-logits.safetensors")).unwrap();
    let base = root.join("checkpoints/code-4m");
    let [exact, rounded] = [Kind::Float, Kind::BFloat16].map(|kind| Decoder::load(&base, Device::Cpu, kind).unwrap());
    let mean = rounding_cost(&exact, &rounded, &record["ids"].unsqueeze(0)).unwrap();
    // A hundredth of the context value of 0.3 nats a token.
    assert!(mean > 0.0 && mean < 3e-3, "KL(float32 ‖ bfloat16) {mean}");
}
