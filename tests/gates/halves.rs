//! float16 against float32: the same network within its precision, and gradients that do not vanish on the way.

use crate::common::*;
use gist::model::decoder::Decoder;
use gist::model::vocab::{self, Head};
use tch::{Kind, Tensor};

fn bases() -> [Decoder; 2] {
    [Kind::Float, Kind::Half].map(|kind| {
        let config = tiny(true);
        let named = weights(&config, 3).into_iter().map(|(name, tensor)| (name, tensor.to_kind(kind)));
        Decoder::from_named(&config, named.collect()).unwrap()
    })
}

#[test]
fn logits_are_those_of_float32_to_two_digits() {
    let [whole, half] = bases().map(|decoder| {
        let adapter = adapter(&decoder, 4);
        let hidden =
            decoder.forward(&row(&ids(20, 48, 1)), &[0], Some(&decoder.activate(&adapter, false).unwrap())).unwrap();
        assert_eq!(hidden.kind(), decoder.head().kind());
        Head::base(decoder.head()).logits(&hidden.squeeze_dim(0))
    });
    assert_eq!(half.kind(), Kind::Float);
    assert_close(&half, &whole, 1e-2 * whole.abs().max().double_value(&[]));
    assert!(gap(&half, &whole) > 0.0);
}

#[test]
fn small_gradients_pass_through_float16() {
    // Of a loss so small that float16 has no number for what it sends to a hidden state.
    let tiny_weight = 1e-7;
    let gradients = |checkpointing: bool| {
        bases().map(|decoder| {
            let decoder = decoder.checkpointed(checkpointing);
            let adapter = adapter(&decoder, 4);
            let active = decoder.activate(&adapter, true).unwrap();
            let hidden = decoder.forward(&row(&ids(20, 48, 1)), &[0], Some(&active)).unwrap().squeeze_dim(0);
            let teacher = noise(&[20, 32], 1.0, 8).to_kind(hidden.kind());
            let weights = Tensor::full([20], tiny_weight, (Kind::Float, tch::Device::Cpu));
            let (_, surrogate) = vocab::kl_surrogate(decoder.head(), &teacher, &hidden, &weights).unwrap();
            decoder.backward(&surrogate, &active).unwrap();
            adapter.params().leaf().grad()
        })
    };
    for checkpointing in [false, true] {
        let [whole, half] = gradients(checkpointing);
        let norm = whole.norm().double_value(&[]);
        assert!(norm > 0.0 && (&half - &whole).norm().double_value(&[]) < 0.02 * norm);
    }
}
