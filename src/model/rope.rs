//! Rotary positions (Su et al. 2021, arXiv 2104.09864) in the rotate-half layout of Hugging Face, with the scalings that
//! its configurations name: `linear` (Chen et al. 2023, arXiv 2306.15595), `llama3` (Llama 3.1's), `yarn` (Peng et al.
//! 2023, arXiv 2309.00071).

use serde_json::Value;
use std::f64::consts::PI;
use tch::{Device, Kind, Tensor};

/// Scaling of a model's rotary frequencies, which are θ^(−2i/D) without one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scaling {
    /// No scaling.
    None,
    /// All frequencies are divided by `factor`.
    Linear {
        /// Divisor of the frequencies.
        factor: f64,
    },
    /// Slow frequencies are divided by `factor`, fast ones are kept, those between are interpolated by turns.
    Llama3 {
        /// Divisor of the slow frequencies.
        factor: f64,
        /// Turns within `original` below which a frequency is slow.
        low: f64,
        /// Turns above which it is fast.
        high: f64,
        /// Positions that the model was first trained on.
        original: f64,
    },
    /// As [`Scaling::Llama3`], but interpolated by dimension, and cosines and sines are scaled too.
    Yarn {
        /// Divisor of the slow frequencies.
        factor: f64,
        /// Turns within `original` above which a frequency is fast.
        fast: f64,
        /// Turns below which it is slow.
        slow: f64,
        /// Positions that the model was first trained on.
        original: f64,
        /// Whether the ramp begins and ends at whole dimensions.
        truncate: bool,
        /// Factor on cosines and sines.
        attention: f64,
    },
}

/// Names of the scalings.
const KNOWN: [&str; 4] = ["default", "linear", "llama3", "yarn"];

impl Scaling {
    /// Reads `rope_scaling` or `rope_parameters` of a configuration; an error says what is wrong below the key.
    pub fn from_json(value: Option<&Value>) -> Result<Self, String> {
        let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(Scaling::None) };
        let said = |key: &str| value.get(key).filter(|kind| !kind.is_null());
        let kind = match said("rope_type").or(said("type")) {
            None => "default",
            Some(Value::String(kind)) => kind,
            Some(other) => return Err(format!("`rope_type`: expected one of {KNOWN:?}, got {other}")),
        };
        let optional = |key: &str| value.get(key).and_then(Value::as_f64);
        let number = |key: &str| match optional(key) {
            Some(x) if x > 0.0 && x.is_finite() => Ok(x),
            _ => Err(format!("`{key}`: rope_type {kind:?} needs a number above 0, got {:?}", value.get(key))),
        };
        match kind {
            "default" => Ok(Scaling::None),
            "linear" => Ok(Scaling::Linear { factor: number("factor")? }),
            "llama3" => Ok(Scaling::Llama3 {
                factor: number("factor")?,
                low: number("low_freq_factor")?,
                high: number("high_freq_factor")?,
                original: number("original_max_position_embeddings")?,
            }),
            "yarn" => {
                let factor = number("factor")?;
                let strength = |m: f64| if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
                let given = |key: &str| optional(key).filter(|x| *x != 0.0);
                let by_scales =
                    given("mscale").zip(given("mscale_all_dim")).map(|(m, all)| strength(m) / strength(all));
                Ok(Scaling::Yarn {
                    factor,
                    fast: given("beta_fast").unwrap_or(32.0),
                    slow: given("beta_slow").unwrap_or(1.0),
                    original: number("original_max_position_embeddings")?,
                    truncate: value.get("truncate").and_then(Value::as_bool).unwrap_or(true),
                    attention: optional("attention_factor").or(by_scales).unwrap_or(strength(1.0)),
                })
            }
            other => Err(format!("`rope_type`: expected one of {KNOWN:?}, got {other:?}")),
        }
    }

    /// The `plain` frequencies of heads of width `d`, D/2 of them, scaled, and the factor on cosines and sines.
    fn frequencies(self, plain: Vec<f64>, d: i64, theta: f64) -> (Vec<f64>, f64) {
        match self {
            Scaling::None => (plain, 1.0),
            Scaling::Linear { factor } => (plain.into_iter().map(|f| f / factor).collect(), 1.0),
            Scaling::Llama3 { factor, low, high, original } => {
                let scaled = |f: f64| {
                    let turns = original * f / (2.0 * PI);
                    let smooth = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    f * smooth + f / factor * (1.0 - smooth)
                };
                (plain.into_iter().map(scaled).collect(), 1.0)
            }
            Scaling::Yarn { factor, fast, slow, original, truncate, attention } => {
                let place = |turns: f64| d as f64 * (original / (turns * 2.0 * PI)).ln() / (2.0 * theta.ln());
                let whole = |from: f64, to: f64| if truncate { (from.floor(), to.ceil()) } else { (from, to) };
                let (from, to) = whole(place(fast), place(slow));
                let (from, to) = (from.max(0.0), to.min(d as f64 - 1.0));
                let to = if from == to { to + 0.001 } else { to };
                let scaled = |(i, f): (usize, f64)| {
                    let ramp = ((i as f64 - from) / (to - from)).clamp(0.0, 1.0);
                    f / factor * ramp + f * (1.0 - ramp)
                };
                (plain.into_iter().enumerate().map(scaled).collect(), attention)
            }
        }
    }
}

/// Tables of cosines and sines, `[max_positions, D]`.
pub struct Rope {
    cos: Tensor,
    sin: Tensor,
}

impl Rope {
    /// Tables for `positions` positions and heads of width `d`.
    pub fn new(positions: i64, d: i64, (theta, scaling): (f64, Scaling), kind: Kind, device: Device) -> Self {
        let options = (Kind::Float, device);
        // In float32, as everybody computes them: what a bfloat16 table rounds to depends on it.
        let plain = (Tensor::arange_start_step(0, d, 2, (Kind::Float, Device::Cpu)) * (-(theta.ln()) / d as f64)).exp();
        let plain: Vec<f64> = Vec::<f32>::try_from(&plain).unwrap_or_default().into_iter().map(f64::from).collect();
        let (frequencies, factor) = scaling.frequencies(plain, d, theta);
        let frequencies: Vec<f32> = frequencies.into_iter().map(|f| f as f32).collect();
        let angles = Tensor::arange(positions, options).outer(&Tensor::from_slice(&frequencies).to_device(device));
        let angles = Tensor::cat(&[&angles, &angles], -1);
        Self { cos: (angles.cos() * factor).to_kind(kind), sin: (angles.sin() * factor).to_kind(kind) }
    }

    /// Number of positions in the tables.
    pub fn positions(&self) -> i64 {
        self.cos.size()[0]
    }

    /// Cosine and sine at `positions` of any shape: `[.., D]`.
    pub fn at(&self, positions: &Tensor) -> (Tensor, Tensor) {
        let mut shape = positions.size();
        shape.push(self.cos.size()[1]);
        let flat = positions.reshape([-1]);
        (self.cos.index_select(0, &flat).view(shape.as_slice()), self.sin.index_select(0, &flat).view(shape.as_slice()))
    }
}

/// Rotates `xs` `[.., D]` by angles that broadcast against it.
pub fn rotate(xs: &Tensor, cos: &Tensor, sin: &Tensor) -> Tensor {
    let halves = xs.chunk(2, -1);
    let turned = Tensor::cat(&[&-&halves[1], &halves[0]], -1);
    xs * cos + turned * sin
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scalings_are_read_or_refused_by_name() {
        let read = |value: Value| Scaling::from_json(Some(&value));
        assert_eq!(Scaling::from_json(None), Ok(Scaling::None));
        assert_eq!(read(Value::Null), Ok(Scaling::None));
        assert_eq!(read(json!({"type": "linear", "factor": 2.0})), Ok(Scaling::Linear { factor: 2.0 }));
        assert!(
            read(json!({"rope_type": "linear"})).is_err_and(|e| e.contains("`factor`: rope_type \"linear\" needs"))
        );
        let refused = read(json!({"rope_type": "longrope", "factor": 2.0}));
        assert!(refused.is_err_and(|e| e.contains("expected one of [\"default\", \"linear\", \"llama3\", \"yarn\"]")));
    }

    #[test]
    fn fast_frequencies_stay_and_slow_ones_are_divided() {
        let llama3 = Scaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 8192.0 };
        let yarn =
            Scaling::Yarn { factor: 8.0, fast: 32.0, slow: 1.0, original: 8192.0, truncate: true, attention: 1.2 };
        let plain: Vec<f64> = (0..64).map(|i| 500_000f64.powf(-i as f64 / 64.0)).collect();
        let (same, one) = Scaling::None.frequencies(plain.clone(), 128, 500_000.0);
        assert_eq!(same, plain);
        for scaling in [llama3, yarn] {
            let (scaled, _) = scaling.frequencies(plain.clone(), 128, 500_000.0);
            assert_eq!(scaled[0], plain[0]);
            assert!((scaled[63] * 8.0 - plain[63]).abs() < 1e-15);
            assert!(scaled.iter().zip(&plain).all(|(s, p)| *s <= *p && *s * 8.0 >= p * (1.0 - 1e-12)));
        }
        assert_eq!((one, yarn.frequencies(plain, 128, 500_000.0).1), (1.0, 1.2));
    }
}
