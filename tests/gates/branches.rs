//! Adapters that change nothing, cached and batched forward passes, branches that share a prefix.

use crate::common::*;
use gist::config::parts::LoraConfig;
use gist::eval::gates::checkpoints::{Ways, ways};
use gist::model::config::ModelConfig;
use gist::model::copy_head::features;
use gist::model::decoder::Decoder;
use gist::model::encoder::Encoder;
use gist::model::lora::{ActiveAdapter, Adapter};
use gist::model::read::{control, future_hidden, left_pad};
use gist::model::site::BranchCache;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// Hidden states `[T, H]` of one row alone.
fn alone(decoder: &Decoder, ids: &[u32], adapter: Option<&ActiveAdapter>) -> Tensor {
    decoder.forward(&row(ids), &[0], adapter).unwrap().squeeze_dim(0)
}

/// Prefixes of different lengths, the shortest a single token.
fn prefixes() -> Vec<Vec<u32>> {
    vec![ids(11, VOCAB as usize, 1), ids(1, VOCAB as usize, 2), ids(6, VOCAB as usize, 3)]
}

#[test]
fn start_of_gist_may_begin_as_words() {
    let decoder = decoder(3);
    let plain = fresh_adapter(&decoder, &LoraConfig::default());
    let before = plain.params().named().into_iter().collect::<BTreeMap<_, _>>();
    let words = decoder.embedding().narrow(0, 5, 2);
    let after = plain.starting_like(&words).unwrap().params().named().into_iter().collect::<BTreeMap<_, _>>();
    for (name, value) in &before {
        if name == "gist.control_tokens.weight" {
            assert_close(&after[name].get(1), &((words.get(0) + words.get(1)) / 2.0), 1e-6);
            assert!(after[name].get(0).equal(&value.get(0)) && after[name].get(2).equal(&value.get(2)));
        } else {
            assert!(after[name].equal(value), "{name}");
        }
    }
}

#[test]
fn a_fresh_adapter_is_the_base_exactly() {
    let decoder = decoder(1);
    let targets = ["q_proj", "v_proj", "down_proj"].map(String::from).to_vec();
    let fresh = fresh_adapter(&decoder, &LoraConfig { dropout: 0.5, target_modules: targets, ..LoraConfig::default() });
    let (batch, pad) = left_pad(&prefixes()).unwrap();
    let base = decoder.forward(&batch, &pad, None).unwrap();
    for training in [false, true] {
        let _guard = torch_generator(); // dropout draws
        let active = decoder.activate(&fresh, training).unwrap();
        assert!(decoder.forward(&batch, &pad, Some(&active)).unwrap().equal(&base));
    }
    let learned = decoder.activate(&adapter(&decoder, 2), false).unwrap();
    assert!(gap(&decoder.forward(&batch, &pad, Some(&learned)).unwrap(), &base) > 0.1);
}

#[test]
fn an_adapter_of_another_architecture_is_refused() {
    let base = decoder(1);
    let over = |blocks: i64| {
        let config = ModelConfig { num_hidden_layers: blocks, ..tiny(true) };
        Decoder::from_named(&config, weights(&config, 1).into_iter().collect()).unwrap()
    };
    let fewer = fresh_adapter(&over(1), &LoraConfig::default());
    let message = base.activate(&fewer, false).err().unwrap().to_string();
    assert!(message.contains("layers.1.self_attn.q_proj.lora_A.weight"), "{message}");
    let folder = tiny_bert();
    let (config, weights) = Encoder::read(folder.path()).unwrap();
    let encoder = Adapter::of_encoder(&config, weights, features(base.config()), 0, Device::Cpu).unwrap();
    let active = base.activate(&encoder, false).unwrap();
    let message = base.forward(&row(&[1, 2]), &[0], Some(&active)).err().unwrap().to_string();
    assert_eq!(message, "blocks of an adapter: expected 2, got 0");
}

#[test]
fn control_ids_belong_to_an_adapter() {
    let decoder = decoder(1);
    let learned = adapter(&decoder, 2);
    let with_control = [3, control::separator(VOCAB), 5, control::start(VOCAB), control::end(VOCAB)];
    let error = decoder.forward(&row(&with_control), &[0], None).unwrap_err().to_string();
    assert_eq!(error, "token id: expected 0..48, got 50");
    let active = decoder.activate(&learned, false).unwrap();
    let before = alone(&decoder, &with_control, Some(&active));
    // Each control token has its own row: swapping two of them must show.
    let swapped = [3, control::start(VOCAB), 5, control::separator(VOCAB), control::end(VOCAB)];
    assert!(gap(&before.get(1), &alone(&decoder, &swapped, Some(&active)).get(1)) > 0.1);
    assert!(decoder.forward(&row(&[VOCAB as u32 + 3]), &[0], Some(&active)).is_err());
    assert!(decoder.forward(&row(&ids(97, 40, 1)), &[0], None).unwrap_err().to_string().contains("at most 96"));
}

#[test]
fn padded_cached_and_shared_reading_is_reading_alone() {
    let decoder = decoder(1);
    let active = decoder.activate(&adapter(&decoder, 2), false).unwrap();
    for adapter in [None, Some(&active)] {
        let Ways { padded, cached, shared } = ways(&decoder, adapter).unwrap();
        assert!(padded < 5e-6 && cached < 5e-6 && shared < 5e-6, "{padded:e} {cached:e} {shared:e}");
        let (batch, pad) = left_pad(&prefixes()).unwrap();
        let together = decoder.forward(&batch, &pad, adapter).unwrap();
        assert!(decoder.prefill(&batch, &pad, adapter).unwrap().0.equal(&together));
    }
}

#[test]
fn a_growing_cache_has_room_for_what_was_said() {
    let decoder = decoder(1);
    let (_, cache) = decoder.prefill(&row(&ids(9, VOCAB as usize, 1)), &[0], None).unwrap();
    let mut grown = BranchCache::new(3);
    let mut write = |tokens: i64| {
        let written = Tensor::ones([1, 2, tokens], (Kind::Int64, Device::Cpu));
        decoder.branches(&written, &cache, Some(&mut grown), None)
    };
    let _ = write(2).unwrap();
    assert_eq!(write(2).unwrap_err().to_string(), "tokens of a branch: expected at most 3, got 4");
    let _ = write(1).unwrap();
}

#[test]
fn branches_do_not_see_each_other() {
    let decoder = decoder(1);
    let (_, cache) = decoder.prefill(&row(&ids(9, VOCAB as usize, 1)), &[0], None).unwrap();
    let write = |second: u32| {
        let written = Tensor::from_slice(&[1i64, 2, 3, second as i64, 5, 6]).view([1, 2, 3]);
        decoder.branches(&written, &cache, None, None).unwrap()
    };
    let (before, after) = (write(4), write(40));
    assert!(before.get(0).get(0).equal(&after.get(0).get(0)));
    assert!(gap(&before.get(0).get(1).get(2), &after.get(0).get(1).get(2)) > 1e-3);
}

#[test]
fn the_future_is_read_where_it_is_predicted() {
    let decoder = decoder(1);
    let active = decoder.activate(&adapter(&decoder, 2), false).unwrap();
    let contexts = [ids(7, VOCAB as usize, 1), Vec::new(), ids(2, VOCAB as usize, 2)];
    let tails: Vec<Vec<u32>> = (0..3).map(|i| ids(8, VOCAB as usize, 20 + i)).collect();
    let slices = |rows: &[Vec<u32>]| -> Vec<Vec<u32>> { rows.to_vec() };
    let (c, t) = (slices(&contexts), slices(&tails));
    let (c, t): (Vec<&[u32]>, Vec<&[u32]>) = (c.iter().map(|r| &r[..]).collect(), t.iter().map(|r| &r[..]).collect());
    let future = 5;
    let read = future_hidden(&decoder, Some(&active), &c, &t, future).unwrap(); // [N, F, H]
    for i in 0..3 {
        let whole = [&contexts[i][..], &tails[i]].concat();
        let full = alone(&decoder, &whole, Some(&active));
        let first = (whole.len() - future - 1) as i64; // its hidden state predicts the first future token
        assert_close(&read.get(i as i64), &full.narrow(0, first, future as i64), 1e-5);
    }
    assert!(future_hidden(&decoder, None, &c, &t, 8).is_err(), "no token is left to predict the first from");
}

#[test]
fn as_an_encoder_every_token_sees_every_other_and_no_padding() {
    let decoder = decoder(1);
    let (batch, pad) = left_pad(&prefixes()).unwrap();
    let together = decoder.encode(&batch, &pad, None, None).unwrap();
    for (r, prefix) in prefixes().iter().enumerate() {
        let alone = decoder.encode(&row(prefix), &[0], None, None).unwrap().squeeze_dim(0);
        assert_close(&together.get(r as i64).narrow(0, pad[r], prefix.len() as i64), &alone, 1e-5);
        let mut other = prefix.clone();
        *other.last_mut().unwrap() = (prefix[prefix.len() - 1] + 1) % VOCAB as u32;
        let changed = decoder.encode(&row(&other), &[0], None, None).unwrap().squeeze_dim(0);
        assert!(gap(&changed.get(0), &alone.get(0)) > 1e-3, "the first of {} tokens", prefix.len());
    }
}
