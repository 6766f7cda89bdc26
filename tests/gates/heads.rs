//! The heads of an encoder against sums written out.

use crate::common::*;
use gist::model::heads::{Heads, parameters};
use tch::{Kind, Tensor};

const H: i64 = 6;
const FEATURES: i64 = 3;

fn heads() -> (Heads, std::collections::BTreeMap<String, Tensor>) {
    let draw = |(i, (name, shape)): (usize, (String, Vec<i64>))| (name, noise(&shape, 0.3, 50 + i as u64));
    let named: std::collections::BTreeMap<_, _> = parameters(H, FEATURES).into_iter().enumerate().map(draw).collect();
    let copies = named.iter().map(|(name, tensor)| (name.clone(), tensor.copy())).collect();
    (Heads::from_named(copies).unwrap(), named)
}

#[test]
fn the_span_head_is_two_convolutions_over_real_tokens() {
    let (heads, named) = heads();
    let (t, real) = (7i64, 5i64);
    let hidden = noise(&[1, t, H], 1.0, 9);
    let mask = Tensor::from_slice(&[1.0f32, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0]).view([1, t]);
    let logits = heads.logits(&hidden, &mask);
    let at = |name: &str, place: &[i64]| named[name].double_value(place);
    let gelu = |x: f64| Tensor::from_slice(&[x]).gelu("none").double_value(&[0]);
    let channel = |c: i64, place: i64| {
        let mut sum = at("span_head.0.bias", &[c]);
        for step in 0..5 {
            let from = place + step - 2;
            if (0..real).contains(&from) {
                let products =
                    (0..H).map(|h| hidden.double_value(&[0, from, h]) * at("span_head.0.weight", &[c, h, step]));
                sum += products.sum::<f64>();
            }
        }
        gelu(sum)
    };
    for place in 0..real {
        let mut expected = at("span_head.2.bias", &[0]);
        for step in (0..3).filter(|step| (0..real).contains(&(place + step - 1))) {
            let weights = (0..256).map(|c| channel(c, place + step - 1) * at("span_head.2.weight", &[0, c, step]));
            expected += weights.sum::<f64>();
        }
        assert!((logits.span.double_value(&[0, place]) - expected).abs() < 1e-3, "{place}");
        let keep: f64 = (0..H).map(|h| hidden.double_value(&[0, place, h]) * at("token_head.weight", &[0, h])).sum();
        assert!((logits.keep.double_value(&[0, place]) - keep - at("token_head.bias", &[0])).abs() < 1e-5);
        let p = 1.0 / (1.0 + (-logits.keep.double_value(&[0, place])).exp());
        let s = 1.0 / (1.0 + (-expected).exp());
        assert!((logits.worth().double_value(&[0, place]).exp() - p * (0.5 + 0.5 * s)).abs() < 1e-3);
    }
    // Padding changes nothing.
    let alone = heads.logits(&hidden.narrow(1, 0, real), &Tensor::ones([1, real], (Kind::Float, hidden.device())));
    assert_close(&alone.span, &logits.span.narrow(1, 0, real), 1e-5);
}

#[test]
fn the_place_head_weighs_features_by_hidden_states() {
    let (heads, named) = heads();
    let (hidden, features) = (noise(&[2, H], 1.0, 3), noise(&[2, FEATURES], 1.0, 4));
    let found = heads.places(&hidden, &features);
    for unit in 0..2 {
        let weight = |f: i64| {
            let dot: f64 = (0..H)
                .map(|h| hidden.double_value(&[unit, h]) * named["place_head.weight"].double_value(&[f, h]))
                .sum();
            dot + named["place_head.bias"].double_value(&[f])
        };
        let expected: f64 = (0..FEATURES).map(|f| weight(f) * features.double_value(&[unit, f])).sum();
        assert!((found.double_value(&[unit]) - expected).abs() < 1e-5);
    }
}
