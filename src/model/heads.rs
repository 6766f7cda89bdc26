//! Heads over an encoder's hidden states: keep or drop each token (LLMLingua-2, Pan et al. 2024, arXiv 2403.12968), and a
//! span head of two convolutions that lifts borderline tokens inside important spans (the shape of Kompress: five tokens
//! wide to 256 channels, GELU, three wide to one). The score of a token is p · (0.5 + 0.5 · s). Beside them a place head:
//! features of a unit that need no encoder, each weighted by the unit's mean hidden state.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

const CHANNELS: i64 = 256;
const WIDE: i64 = 5;
const NARROW: i64 = 3;

/// Names and shapes of the heads' weights over hidden states of width `h` and `f` features of a place.
pub fn parameters(h: i64, f: i64) -> Vec<(String, Vec<i64>)> {
    let named = |name: &str, shape: Vec<i64>| (name.to_string(), shape);
    let mut all = vec![named("token_head.weight", vec![1, h]), named("token_head.bias", vec![1])];
    all.extend(SpanHead::parameters("span_head.", h));
    all.extend([named("place_head.weight", vec![f, h]), named("place_head.bias", vec![f])]);
    all
}

/// F of stored heads, whose names begin with `stem`; 0 where there are none.
pub fn stored_features(named: &BTreeMap<String, Tensor>, stem: &str) -> i64 {
    let bias = named.get(&format!("{stem}place_head.bias"));
    bias.and_then(|bias| bias.size().first().copied()).unwrap_or(0)
}

/// Fresh weights: small draws from libtorch's generator (seed it first), biases and the place head 0, except that the last
/// `hints` features count 1.
pub fn initial(h: i64, f: i64, hints: i64, device: Device) -> Vec<(String, Tensor)> {
    let draw = |(name, shape): (String, Vec<i64>)| {
        let inputs: i64 = shape[1..].iter().product::<i64>().max(1);
        let value = match name.ends_with("bias") || name.starts_with("place") {
            true => Tensor::zeros(shape.as_slice(), (Kind::Float, device)),
            false => Tensor::randn(shape.as_slice(), (Kind::Float, device)) / (inputs as f64).sqrt(),
        };
        if name == "place_head.bias" {
            let _ = value.narrow(0, f - hints, hints).fill_(1.0);
        }
        (name, value)
    };
    parameters(h, f).into_iter().map(draw).collect()
}

/// Heads over views of their weights.
pub struct Heads {
    token: [Tensor; 2],
    spans: SpanHead,
    places: [Tensor; 2],
}

/// Weight and bias of the wide convolution, then of the narrow one.
pub(super) struct SpanHead(pub [Tensor; 4]);

impl SpanHead {
    /// Names and shapes below `stem`.
    pub fn parameters(stem: &str, h: i64) -> Vec<(String, Vec<i64>)> {
        [
            ("0.weight", vec![CHANNELS, h, WIDE]),
            ("0.bias", vec![CHANNELS]),
            ("2.weight", vec![1, CHANNELS, NARROW]),
            ("2.bias", vec![1]),
        ]
        .map(|(name, shape)| (format!("{stem}{name}"), shape))
        .into()
    }

    /// Logits `[N, T]`; see [`Heads::logits`].
    pub fn logits(&self, hidden: &Tensor, real: &Tensor) -> Tensor {
        let [wide, wide_bias, narrow, narrow_bias] = &self.0;
        let real = real.to_kind(hidden.kind()).unsqueeze(-1);
        let rows = (hidden * &real).transpose(1, 2); // [N, H, T]
        let real = real.transpose(1, 2);
        let seen = rows.conv1d(wide, Some(wide_bias), 1, WIDE / 2, 1, 1).gelu("none") * real;
        seen.conv1d(narrow, Some(narrow_bias), 1, NARROW / 2, 1, 1).squeeze_dim(1)
    }
}

/// Logits of both heads, `[N, T]` each.
pub struct HeadLogits {
    /// Logits that a token is kept.
    pub keep: Tensor,
    /// Logits that a token stands in an important span.
    pub span: Tensor,
}

impl HeadLogits {
    /// log of p · (0.5 + 0.5 · s), which ranks as that does.
    pub fn worth(&self) -> Tensor {
        self.keep.log_sigmoid() + (self.span.sigmoid() * 0.5 + 0.5).log()
    }
}

impl Heads {
    /// Heads with these tensors as weights, which may require gradients.
    pub fn from_named(mut named: BTreeMap<String, Tensor>) -> Result<Self> {
        let mut take = |name: &str| {
            named.remove(name).ok_or_else(|| Error::shape("weights of the heads", format!("`{name}`"), "none"))
        };
        let token = [take("token_head.weight")?, take("token_head.bias")?];
        let first = [take("span_head.0.weight")?, take("span_head.0.bias")?];
        let [w, b] = first;
        let spans = SpanHead([w, b, take("span_head.2.weight")?, take("span_head.2.bias")?]);
        Ok(Self { token, spans, places: [take("place_head.weight")?, take("place_head.bias")?] })
    }

    /// Logits for hidden states `[N, T, H]`; `real` `[N, T]` is 1 at tokens and 0 at padding, which is zero to the
    /// convolutions, as is everything beyond a row.
    pub fn logits(&self, hidden: &Tensor, real: &Tensor) -> HeadLogits {
        let [weight, bias] = &self.token;
        let keep = hidden.linear(weight, Some(bias)).squeeze_dim(-1);
        HeadLogits { keep, span: self.spans.logits(hidden, real) }
    }

    /// F: number of features of a unit.
    pub fn features(&self) -> i64 {
        self.places[1].size()[0]
    }

    /// Score `[U]` that the features `[U, F]` add to units with these mean hidden states `[U, H]`.
    pub fn places(&self, hidden: &Tensor, features: &Tensor) -> Tensor {
        let [weight, bias] = &self.places;
        (hidden.linear(weight, Some(bias)) * features).sum_dim_intlist([-1i64].as_slice(), false, Kind::Float)
    }
}
