//! The kernels of a forward pass against their plain forms, values and gradients.

use crate::common::*;
use gist::model::kernels::{Weight, norm, rotate};
use gist::model::rope;
use tch::{Device, Kind, Tensor};

/// Largest relative error of a product in each kind of number.
const KINDS: [(Kind, f64); 2] = [(Kind::Float, 1e-5), (Kind::BFloat16, 2e-2)];

/// Noise of `kind` that gathers a gradient.
fn leaf(shape: &[i64], kind: Kind, seed: u64) -> Tensor {
    noise(shape, 1.0, seed).to_kind(kind).set_requires_grad(true)
}

/// Values of `ys` and the gradient of `xs` from fixed weights on `ys`, in float64.
fn both(ys: &Tensor, xs: &Tensor) -> [Tensor; 2] {
    let weights = noise(&ys.size(), 1.0, 99).to_kind(ys.kind());
    (ys * weights).sum(Kind::Double).backward();
    [ys.detach().to_kind(Kind::Double), xs.grad().to_kind(Kind::Double)]
}

fn close(got: [Tensor; 2], expected: [Tensor; 2], tolerance: f64) {
    for (got, expected) in got.iter().zip(&expected) {
        assert_eq!(got.size(), expected.size());
        let most = expected.abs().max().double_value(&[]);
        assert!(gap(got, expected) <= tolerance * most, "{:e} of {most:e}", gap(got, expected));
    }
}

#[test]
fn packed_products_are_products() {
    for (kind, tolerance) in KINDS {
        // Fewer rows than a vector has numbers, and widths that no block divides.
        for (rows, from, to) in [(1, 24, 17), (5, 65, 130), (130, 64, 64)] {
            let (x, w, b) = (leaf(&[rows, from], kind, 1), noise(&[to, from], 1.0, 2), noise(&[to], 1.0, 3));
            let (w, b) = (w.to_kind(kind), b.to_kind(kind));
            let weight = Weight::from(w.shallow_clone());
            let wide = |t: &Tensor| t.detach().to_kind(Kind::Double);
            let plain = wide(&x).set_requires_grad(true);
            let expected = || both(&plain.linear(&wide(&w), Some(wide(&b))), &plain);
            close(both(&weight.apply(&x, Some(&b)), &x), expected(), tolerance);
            let without = tch::no_grad(|| weight.apply(&x, None));
            assert!(!without.requires_grad());
            assert_close(&wide(&without), &wide(&x).linear(&wide(&w), None::<Tensor>), tolerance * 40.0);
            let back = weight.apply_transposed(&without);
            assert_close(&wide(&back), &wide(&without).matmul(&wide(&w)), tolerance * 2000.0);
        }
    }
}

#[test]
fn a_trained_weight_is_not_packed() {
    let w = leaf(&[6, 4], Kind::Float, 4);
    let weight = Weight::from(w.shallow_clone());
    let x = noise(&[3, 4], 1.0, 5);
    let before = weight.apply(&x, None);
    before.sum(Kind::Float).backward();
    assert!(w.grad().defined());
    // Whoever trains it changes its values, which a packed copy would not follow.
    let _ = tch::no_grad(|| w.shallow_clone().fill_(2.0));
    let expected = x.sum_dim_intlist([1i64].as_slice(), true, Kind::Float) * 2.0;
    assert_close(&weight.apply(&x, None), &expected.expand([3, 6], false), 1e-5);
}

#[test]
fn norms_are_those_of_the_definition() {
    for (kind, tolerance) in KINDS {
        for width in [7, 16, 576] {
            let (x, w) = (leaf(&[3, 5, width], kind, 6), noise(&[width], 1.0, 7).to_kind(kind));
            let plain = x.detach().to_kind(Kind::Double).set_requires_grad(true);
            let mean = plain.square().mean_dim([-1i64].as_slice(), true, Kind::Double);
            let expected = &plain * (mean + 1e-3).rsqrt() * w.to_kind(Kind::Double);
            close(both(&norm(&x, &w, 1e-3), &x), both(&expected, &plain), tolerance);
        }
    }
    let trained = leaf(&[7], Kind::Float, 8);
    norm(&noise(&[2, 7], 1.0, 9), &trained, 1e-3).sum(Kind::Float).backward();
    assert!(trained.grad().defined());
    let broken = noise(&[1, 8], 1.0, 10).fill_(f64::NAN);
    for (kind, _) in KINDS {
        let ones = Tensor::ones([8], (kind, Device::Cpu));
        assert!(norm(&broken.to_kind(kind), &ones, 1e-3).isnan().all().int64_value(&[]) == 1);
    }
}

#[test]
fn rotations_are_those_of_the_plain_form() {
    for (kind, tolerance) in KINDS {
        // Angles of each row, and angles that all rows share; heads that lie apart.
        for (rows, own) in [(3, 3), (3, 1)] {
            let all = leaf(&[rows, 2, 4, 5, 12], kind, 11);
            let x = all.narrow(3, 1, 3).narrow(4, 0, 6);
            let half = noise(&[own, 4, 3], 1.0, 12);
            let angles = Tensor::cat(&[&half, &half], -1);
            let (cos, sin) = (angles.cos().to_kind(kind), angles.sin().to_kind(kind));
            let plain = all.detach().to_kind(Kind::Double).set_requires_grad(true);
            let wide = |angles: &Tensor| angles.to_kind(Kind::Double).unsqueeze(1).unsqueeze(3);
            let expected = rope::rotate(&plain.narrow(3, 1, 3).narrow(4, 0, 6), &wide(&cos), &wide(&sin));
            close(both(&rotate(&x, &cos, &sin), &all), both(&expected, &plain), tolerance);
        }
    }
}
