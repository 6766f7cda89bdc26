//! Encoders against transformers. Fixtures: `tests/fixtures/make_encoder_fixtures.py`.

use crate::support::*;
use gist::model::encoder::Encoder;
use gist::model::weights;
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Compares with the recorded hidden states `name`, rows in one padded batch and each alone.
#[track_caller]
fn assert_parity(encoder: &Encoder, ids: &Tensor, segments: Option<&Tensor>, name: &str) {
    let record = weights::read(&fixtures().join("encoders.safetensors")).unwrap();
    let sums = record["mask"].sum_dim_intlist([-1i64].as_slice(), false, Kind::Int64);
    let lengths: Vec<i64> = Vec::try_from(&sums).unwrap();
    let batch = encoder.forward(ids, &lengths, segments).unwrap();
    for (i, &length) in lengths.iter().enumerate() {
        let row = |xs: &Tensor| xs.narrow(0, i as i64, 1).narrow(1, 0, length);
        let expected = row(&record[name]);
        assert_close(&row(&batch), &expected, 3e-4);
        let alone = encoder.forward(&row(ids), &[length], segments.map(row).as_ref()).unwrap();
        assert_close(&alone, &expected, 3e-4);
    }
}

#[test]
fn tiny_encoders_give_the_hidden_states_of_transformers() {
    let record = weights::read(&fixtures().join("encoders.safetensors")).unwrap();
    for (name, segments) in [("bert", Some(&record["segments"])), ("distilbert", None)] {
        let (config, named) = Encoder::read(&fixtures().join(name)).unwrap();
        let encoder = Encoder::from_named(&config, named).unwrap();
        assert_parity(&encoder, &record["ids"], segments, name);
    }
}

/// The real weights, when `./setup --minilm` has brought them; with `GIST_NEEDS_MINILM` set they must be there.
#[test]
fn the_real_minilm_gives_the_hidden_states_of_transformers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".minilm");
    if !folder.exists() && std::env::var_os("GIST_NEEDS_MINILM").is_none() {
        eprintln!("skipped: ./setup --minilm brings the weights");
        return;
    }
    let record = weights::read(&fixtures().join("encoders.safetensors")).unwrap();
    let (config, named) = Encoder::read(&folder).unwrap();
    assert_eq!((config.hidden_size, config.num_hidden_layers), (384, 6));
    let encoder = Encoder::from_named(&config, named).unwrap();
    assert_parity(&encoder, &record["minilm_ids"], None, "minilm");
}

#[test]
fn bad_encoders_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let config = std::fs::read_to_string(fixtures().join("bert/config.json")).unwrap();
    std::fs::copy(fixtures().join("bert/model.safetensors"), folder.path().join("model.safetensors")).unwrap();
    let read = |config: String| {
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        Encoder::read(folder.path()).err().unwrap().to_string()
    };
    let roberta = read(config.replace("\"model_type\": \"bert\"", "\"model_type\": \"roberta\""));
    assert!(
        roberta.contains("config.json") && roberta.contains("expected bert or distilbert, got roberta"),
        "{roberta}"
    );
    let relu = read(config.replace("\"gelu\"", "\"relu\""));
    assert!(relu.contains("`hidden_act`: expected gelu, got relu"), "{relu}");
    let deeper = read(config.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3"));
    assert!(deeper.contains("encoder.layer.2") && deeper.contains("is missing"), "{deeper}");
    let shallower = read(config.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1"));
    assert!(shallower.contains("encoder.layer.1") && shallower.contains("is not a weight"), "{shallower}");
}
