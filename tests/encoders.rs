//! Encoders and token classifiers against transformers. Fixtures: `tests/fixtures/make_encoder_fixtures.py`.

use crate::common::*;
use gist::compressor::foreign::Foreign;
use gist::model::encoder::{Encoder, EncoderConfig};
use gist::model::token_classifier::TokenClassifier;
use gist::model::weights;
use gist::tokenizer::{Marks, Tokenizer};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

type Record = BTreeMap<String, Tensor>;

fn record() -> Record {
    weights::read(&fixtures().join("encoders.safetensors")).unwrap()
}

fn encoder(folder: &Path, kind: Kind) -> Encoder {
    let (config, named) = Encoder::read(folder).unwrap();
    let named = named.into_iter().map(|(name, tensor)| (name, tensor.to_kind(kind))).collect();
    Encoder::from_named(&config, named).unwrap()
}

/// Ids, lengths and what else an encoder's rows are in the record.
fn rows(record: &Record, name: &str) -> (Tensor, Vec<i64>) {
    let (ids, mask) = match name {
        "bert" | "distilbert" => ("ids", "mask"),
        "minilm" => ("minilm_ids", "minilm_mask"),
        "modernbert" => ("long_ids", "long_mask"),
        _ => ("plain_ids", "mask"),
    };
    let sums = record[mask].sum_dim_intlist([-1i64].as_slice(), false, Kind::Int64);
    (record[ids].shallow_clone(), Vec::try_from(&sums).unwrap())
}

/// Compares what `answer` gives of ids, lengths and segments with the recorded `expected`, rows in one padded batch and each
/// alone.
#[track_caller]
fn assert_rows(
    (ids, lengths): &(Tensor, Vec<i64>),
    segments: Option<&Tensor>,
    expected: &Tensor,
    tolerance: f64,
    answer: impl Fn(&Tensor, &[i64], Option<&Tensor>) -> Tensor,
) {
    let batch = answer(ids, lengths, segments);
    assert!(lengths.iter().any(|&length| length < ids.size()[1]));
    for (i, &length) in lengths.iter().enumerate() {
        let row = |xs: &Tensor| xs.narrow(0, i as i64, 1).narrow(1, 0, length);
        assert_close(&row(&batch), &row(expected), tolerance);
        assert_close(&answer(&row(ids), &[length], segments.map(row).as_ref()), &row(expected), tolerance);
    }
}

#[track_caller]
fn assert_parity(encoder: &Encoder, name: &str) {
    let record = record();
    let segments = (name == "bert").then(|| &record["segments"]);
    let forward = |ids: &Tensor, lengths: &[i64], segments: Option<&Tensor>| encoder.forward(ids, lengths, segments);
    // DistilBERT's variances are small: in float32 transformers itself is 1e-4 from what it says in float64.
    let tolerance = if name == "distilbert" { 3e-4 } else { 3e-5 };
    assert_rows(&rows(&record, name), segments, &record[name], tolerance, |a, b, c| forward(a, b, c).unwrap());
}

const ALL: [&str; 5] = ["bert", "distilbert", "roberta", "xlm-roberta", "modernbert"];

#[test]
fn tiny_encoders_give_the_hidden_states_of_transformers() {
    for name in ALL {
        assert_parity(&encoder(&fixtures().join(name), Kind::Float), name);
    }
}

#[test]
fn in_bfloat16_they_agree_as_far_as_its_digits_go() {
    let record = record();
    for name in ["roberta", "modernbert"] {
        let encoder = encoder(&fixtures().join(name), Kind::BFloat16);
        let expected = &record[&format!("{name}_bf16")];
        assert_eq!(expected.kind(), Kind::BFloat16);
        let rows = rows(&record, name);
        assert_rows(&rows, None, expected, 0.1, |a, b, c| encoder.forward(a, b, c).unwrap());
        let mean = |xs: &Tensor| (xs - expected).abs().mean(Kind::Float).double_value(&[]);
        let own = encoder.forward(&rows.0, &rows.1, None).unwrap().narrow(1, 0, 1);
        assert!(mean(&own.expand_as(expected)) > 0.1, "a row that says nothing agrees too");
    }
}

/// The real weights, when `./setup --minilm` has brought them; with `GIST_NEEDS_MINILM` set they must be there.
pub fn minilm() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".minilm");
    if !folder.exists() && std::env::var_os("GIST_NEEDS_MINILM").is_none() {
        eprintln!("skipped: ./setup --minilm brings the weights");
        return None;
    }
    Some(folder)
}

#[test]
fn the_real_minilm_gives_the_hidden_states_of_transformers() {
    let Some(folder) = minilm() else { return };
    let minilm = encoder(&folder, Kind::Float);
    assert_eq!((minilm.config().hidden_size, minilm.config().num_hidden_layers), (384, 6));
    assert_parity(&minilm, "minilm");
}

/// The example with which Sentence Transformers' documentation begins (sbert.net, quickstart).
#[test]
fn the_real_minilm_finds_sentences_as_near_as_its_authors_do() {
    let Some(folder) = minilm() else { return };
    let foreign = Foreign::load(&folder.join("tokenizer.json")).unwrap();
    let texts = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."];
    let states = foreign.embed(&encoder(&folder, Kind::Float), &texts, false).unwrap();
    let published = [[1.0f32, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]];
    let published = Tensor::from_slice(published.as_flattened()).view([3, 3]);
    assert_close(&states.matmul(&states.tr()), &published, 1e-4);
}

#[test]
fn token_classifiers_give_the_logits_of_transformers() {
    let record = record();
    for name in ["distilbert", "xlm-roberta", "modernbert"] {
        let classifier = TokenClassifier::load(&fixtures().join(name), Device::Cpu).unwrap();
        let expected = &record[&format!("{name}_logits")];
        let rows = rows(&record, name);
        let tolerance = if name == "distilbert" { 3e-4 } else { 3e-5 };
        assert_rows(&rows, None, expected, tolerance, |ids, lengths, _| classifier.logits(ids, lengths).unwrap().0);
        let keep = expected.softmax(-1, Kind::Float).select(-1, 1);
        assert_rows(&rows, None, &keep, 1e-4, |ids, lengths, _| classifier.worth(ids, lengths).unwrap());
        assert!(!classifier.takes_the_best());
    }
}

#[test]
fn kompress_gives_the_scores_of_its_two_heads() {
    let (record, folder) = (record(), tiny_kompress());
    let classifier = TokenClassifier::load(folder.path(), Device::Cpu).unwrap();
    assert!(classifier.takes_the_best());
    // The record is of rows alone: padding changes nothing here.
    let rows = rows(&record, "modernbert");
    assert_rows(&rows, None, &record["kompress"], 1e-5, |ids, lengths, _| classifier.worth(ids, lengths).unwrap());
}

fn modernbert_config() -> serde_json::Map<String, Value> {
    serde_json::from_slice(&fs::read(fixtures().join("modernbert/config.json")).unwrap()).unwrap()
}

#[test]
fn modernbert_is_read_in_the_spelling_of_transformers_4_too() {
    let folder = tiny_encoder("modernbert");
    let mut config = modernbert_config();
    config.remove("rope_parameters").unwrap();
    config.remove("layer_types").unwrap();
    config.insert("global_rope_theta".into(), json!(900.0));
    config.insert("local_rope_theta".into(), json!(70.0));
    // As the first release has them beside its own.
    config.insert("layer_norm_eps".into(), json!(0.5));
    config.insert("hidden_act".into(), json!("relu"));
    config.insert("position_embedding_type".into(), json!("absolute"));
    let write = |config: &serde_json::Map<String, Value>| {
        fs::write(folder.path().join("config.json"), serde_json::to_string(config).unwrap()).unwrap();
        encoder(folder.path(), Kind::Float)
    };
    assert_parity(&write(&config), "modernbert");
    // Without a base of its own a window takes the other.
    let (record, mut same) = (record(), config.clone());
    same.insert("local_rope_theta".into(), Value::Null);
    config.insert("local_rope_theta".into(), json!(900.0));
    let (ids, lengths) = rows(&record, "modernbert");
    let hidden = |config| write(config).forward(&ids, &lengths, None).unwrap();
    assert_eq!(hidden(&same), hidden(&config));
    assert!(gap(&hidden(&same), &record["modernbert"]) > 1e-2);
}

#[test]
fn biases_are_read_where_the_configuration_has_them() {
    let mut config = modernbert_config();
    for key in ["attention_bias", "mlp_bias", "norm_bias"] {
        config.insert(key.into(), json!(true));
    }
    let config = EncoderConfig::from_json(config).unwrap();
    let (_, mut named) = Encoder::read(&fixtures().join("modernbert")).unwrap();
    let known = named.len();
    for (name, shape) in config.parameters() {
        named.entry(name).or_insert_with(|| Tensor::zeros(shape.as_slice(), (Kind::Float, Device::Cpu)));
    }
    // Two norms around, and in each of three blocks two (the first has one), two of attention, two of the MLP.
    assert_eq!(named.len() - known, 2 + 3 * 6 - 1);
    let copies = || named.iter().map(|(name, tensor)| (name.clone(), tensor.copy())).collect::<BTreeMap<_, _>>();
    assert_parity(&Encoder::from_named(&config, copies()).unwrap(), "modernbert");
    let (ids, lengths) = rows(&record(), "modernbert");
    let before = Encoder::from_named(&config, copies()).unwrap().forward(&ids, &lengths, None).unwrap();
    for name in named.keys().filter(|name| name.ends_with("bias")) {
        let mut other = copies();
        let _ = other.get_mut(name).unwrap().get(0).fill_(1.0);
        let after = Encoder::from_named(&config, other).unwrap().forward(&ids, &lengths, None).unwrap();
        // Softmax does not see what all keys share, but queries meet it.
        assert!(gap(&before, &after) > 1e-5, "{name} does nothing");
    }
}

#[test]
fn a_token_of_a_long_row_sees_its_window_and_no_more() {
    let mut config = modernbert_config();
    config.insert("layer_types".into(), json!(vec!["sliding_attention"; 3]));
    config.insert("max_position_embeddings".into(), json!(8192));
    let config = EncoderConfig::from_json(config).unwrap();
    let (_, named) = Encoder::read(&fixtures().join("modernbert")).unwrap();
    let encoder = Encoder::from_named(&config, named).unwrap();
    let long = row(&ids(8192, 48, 3));
    let hidden = encoder.forward(&long, &[8192], None).unwrap();
    // Three blocks of 4 tokens to either side; what is farther changes nothing, and rotary positions are relative.
    for place in [0, 5, 300, 4095, 8180, 8191] {
        let (from, to) = ((place - 12).max(0), (place + 13).min(8192));
        let near = encoder.forward(&long.narrow(1, from, to - from), &[to - from], None).unwrap();
        assert_close(&near.select(1, place - from), &hidden.select(1, place), 1e-3);
        if (5..8180).contains(&place) {
            let nearer = encoder.forward(&long.narrow(1, place - 4, 9), &[9], None).unwrap();
            assert!(gap(&nearer.select(1, 4), &hidden.select(1, place)) > 1e-2, "blocks reach no farther than one");
        }
    }
    let padded = encoder.forward(&Tensor::cat(&[&long, &long], 0), &[8192, 3000], None).unwrap();
    assert_close(&padded.get(0).unsqueeze(0), &hidden, 1e-4);
    let alone = encoder.forward(&long.narrow(1, 0, 3000), &[3000], None).unwrap();
    assert_close(&padded.get(1).narrow(0, 0, 3000).unsqueeze(0), &alone, 1e-4);
    assert_eq!(padded.isfinite().all().int64_value(&[]), 1, "not even at padding");
}

#[test]
fn an_encoder_in_shards_is_the_same() {
    let folder = tiny_encoder("xlm-roberta");
    let all: Vec<(String, Tensor)> =
        weights::read(&folder.path().join("model.safetensors")).unwrap().into_iter().collect();
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    let mut map = serde_json::Map::new();
    for (i, half) in all.chunks(all.len().div_ceil(2)).enumerate() {
        let file = format!("model-0000{}-of-00002.safetensors", i + 1);
        weights::write(&folder.path().join(&file), half).unwrap();
        map.extend(half.iter().map(|(name, _)| (name.clone(), json!(file))));
    }
    let index = folder.path().join("model.safetensors.index.json");
    let write =
        |map: &serde_json::Map<String, Value>| fs::write(&index, json!({"weight_map": map}).to_string()).unwrap();
    write(&map);
    assert_parity(&encoder(folder.path(), Kind::Float), "xlm-roberta");
    assert!(TokenClassifier::load(folder.path(), Device::Cpu).is_ok());
    map.remove("roberta.embeddings.LayerNorm.bias").unwrap();
    write(&map);
    let said = Encoder::read(folder.path()).err().unwrap().to_string();
    assert_says(&said, &["00001-of-00002", "`roberta.embeddings.LayerNorm.bias`: the index has it nowhere"], "index");
}

#[test]
fn what_stands_around_texts_is_the_tokenizers_own() {
    let marks =
        |begin: u32, between: &[u32], end: u32| Marks { begin: vec![begin], between: between.to_vec(), end: vec![end] };
    for (name, expected) in [
        ("bert", marks(2, &[3], 3)),
        ("roberta", marks(0, &[2, 2], 2)),
        ("xlm-roberta", marks(0, &[2, 2], 2)),
        ("modernbert", marks(2, &[3], 3)),
    ] {
        let folder = tiny_encoder(name);
        let path = folder.path().join("tokenizer.json");
        assert_eq!(Tokenizer::load_encoder(&path).unwrap().marks(&path).unwrap(), expected, "{name}");
    }
    let folder = tiny_encoder("bert");
    let path = folder.path().join("tokenizer.json");
    for (from, to) in [("[CLS]", "<first>"), ("[SEP]", "<last>")] {
        edit(&path, from, to);
    }
    let said = Foreign::load(&path).err().unwrap().to_string();
    assert_says(&said, &["tokenizer.json: expected tokens around a text", "[CLS] and [SEP], <s> and </s>"], "no marks");
    let names = json!({"cls_token": {"content": "<first>"}, "sep_token": "<last>"});
    fs::write(path.with_file_name("tokenizer_config.json"), names.to_string()).unwrap();
    assert_eq!(Tokenizer::load_encoder(&path).unwrap().marks(&path).unwrap(), marks(2, &[3], 3));
}

#[test]
fn bad_encoders_are_refused_by_name() {
    let refused = |name: &str, from: &str, to: &str, words: &[&str]| {
        let folder = tiny_encoder(name);
        edit(&folder.path().join("config.json"), from, to);
        let said = Encoder::read(folder.path()).err().unwrap().to_string();
        assert_says(&said, words, &format!("{name}: {to}"));
    };
    let known = "expected one of bert, distilbert, roberta, xlm-roberta, modernbert, got t5";
    refused("bert", "\"model_type\": \"bert\"", "\"model_type\": \"t5\"", &["config.json: `model_type`", known]);
    refused("bert", "\"gelu\"", "\"relu\"", &["`hidden_act`: expected gelu, got relu"]);
    refused("bert", "\"is_decoder\": false", "\"is_decoder\": true", &["`is_decoder`: expected false, got true"]);
    let more = ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3");
    refused("bert", more.0, more.1, &["model.safetensors: `encoder.layer.2", "is missing"]);
    refused("roberta", more.0, "\"num_hidden_layers\": 1", &["`encoder.layer.1", "is not a weight of this model"]);
    refused("roberta", "\"vocab_size\": 48", "\"vocab_size\": 49", &["expected shape [49, 16], got [48, 16]"]);
    refused("roberta", "\"max_position_embeddings\": 36", "\"max_position_embeddings\": 4", &["above 0"]);
    refused("modernbert", "\"sliding_attention\",", "\"chunked\",", &["`layer_types`: expected 3 of", "chunked"]);
    refused("modernbert", "\"local_attention\": 8", "\"local_attention\": 0", &["`local_attention`", "got 2 and 0"]);
    refused(
        "modernbert",
        "\"hidden_activation\": \"gelu\"",
        "\"hidden_activation\": \"silu\"",
        &["`hidden_activation`"],
    );
    let rope = "`rope_parameters.full_attention`: `rope_type`: expected one of";
    refused("modernbert", "\"rope_type\": \"default\"", "\"rope_type\": \"dynamic\"", &[rope]);
    refused("modernbert", "\"norm_bias\": false", "\"norm_bias\": true", &["`embeddings.norm.bias` is missing"]);
}

#[test]
fn what_is_no_classifier_of_two_labels_is_refused_by_name() {
    let said = |folder: &Path| TokenClassifier::load(folder, Device::Cpu).err().unwrap().to_string();
    let plain = tiny_encoder("roberta");
    assert_says(&said(plain.path()), &["model.safetensors", "`classifier.weight` of 2 labels", "got neither"], "none");
    let changed = |change: &dyn Fn(&mut Record)| {
        let folder = tiny_encoder("xlm-roberta");
        let path = folder.path().join("model.safetensors");
        let mut named = weights::read(&path).unwrap();
        change(&mut named);
        weights::write(&path, &named.into_iter().collect::<Vec<_>>()).unwrap();
        said(folder.path())
    };
    let wide =
        changed(&|named| _ = named.insert("classifier.weight".into(), Tensor::zeros([9, 16], tch::kind::FLOAT_CPU)));
    assert_says(&wide, &["`classifier.weight`: expected 2 labels (drop, keep), [2, 16], got [9, 16]"], "9 labels");
    let bare = changed(&|named| _ = named.remove("classifier.bias").unwrap());
    assert_says(&bare, &["model.safetensors: `classifier.bias` is missing"], "no bias");
    let more =
        changed(&|named| _ = named.insert("classifier.dense.weight".into(), Tensor::zeros([1], tch::kind::FLOAT_CPU)));
    assert_says(&more, &["`classifier.dense.weight` is not a weight of this model"], "a head of another kind");
    let folder = tiny_encoder("xlm-roberta");
    edit(&folder.path().join("config.json"), "ForTokenClassification", "ForSequenceClassification");
    let other = said(folder.path());
    assert_says(&other, &["config.json: `architectures`", "got XLMRobertaForSequenceClassification"], "of sentences");
    let kompress = tiny_kompress();
    let path = kompress.path().join("model.safetensors");
    let mut named = weights::read(&path).unwrap();
    let _ = named.remove("span_conv.2.bias").unwrap();
    weights::write(&path, &named.into_iter().collect::<Vec<_>>()).unwrap();
    assert_says(&said(kompress.path()), &["`span_conv.2.bias` is missing"], "half of Kompress");
}
