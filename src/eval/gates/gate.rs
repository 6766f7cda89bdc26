//! A gate, where it is run, and the comparisons that all gates use.

use crate::error::Result;
use crate::model::decoder::Decoder;
use crate::model::lora::ActiveAdapter;
use crate::model::vocab::Head;
use serde::Serialize;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// A figure that must not pass what is allowed.
#[derive(Clone, Debug, Serialize)]
pub struct Gate {
    /// Names of the two sides that are compared.
    pub name: String,
    /// The checkpoint, or of several the one that is farthest off.
    pub on: String,
    /// Kind of the weights and activations.
    pub dtype: &'static str,
    /// The figure; NaN where something is no number.
    pub measured: f64,
    /// The most it may be.
    pub allowed: f64,
    /// Whether it is no more than that.
    pub ok: bool,
}

/// Files, device and kind of number that the gates are run with.
#[derive(Clone, Copy)]
pub struct GatePlace<'a> {
    /// The folder that holds `checkpoints`, `data` and `tests`.
    pub root: &'a Path,
    /// The device.
    pub device: Device,
    /// Kind of the weights and activations.
    pub kind: Kind,
}

impl GatePlace<'_> {
    pub(super) fn is_exact(&self) -> bool {
        self.kind == Kind::Float
    }

    /// A gate with what float32 and bfloat16 are allowed. A GPU sums in another order than the processor on which the
    /// answers were recorded and the limits set: it is allowed five times as much in float32, in bfloat16 twice.
    pub(super) fn gate(&self, name: &str, on: &str, measured: f64, (exact, rounded): (f64, f64)) -> Gate {
        let (dtype, allowed) = match (self.is_exact(), self.device) {
            (true, Device::Cpu) => ("float32", exact),
            (true, _) => ("float32", 5.0 * exact),
            (false, Device::Cpu) => ("bfloat16", rounded),
            (false, _) => ("bfloat16", 2.0 * rounded),
        };
        Gate { name: name.into(), on: on.into(), dtype, measured, allowed, ok: measured <= allowed }
    }
}

/// ‖got − expected‖ / ‖expected‖.
pub fn far(got: &Tensor, expected: &Tensor) -> f64 {
    let exact = |xs: &Tensor| xs.detach().to_device(Device::Cpu).to_kind(Kind::Double);
    let (got, expected) = (exact(got), exact(expected));
    if got.size() != expected.size() {
        return f64::INFINITY;
    }
    (got - &expected).norm().double_value(&[]) / expected.norm().double_value(&[])
}

/// The larger, or NaN if either is: `f64::max` passes over it.
pub(super) fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

/// Logits `[N, T, V]` of the base vocabulary, f32.
pub fn logits(decoder: &Decoder, ids: &Tensor, pad: &[i64], adapter: Option<&ActiveAdapter>) -> Result<Tensor> {
    Ok(Head::base(decoder.head()).logits(&decoder.forward(ids, pad, adapter)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_passes_no_gate() {
        let place = |device, kind| GatePlace { root: Path::new("."), device, kind };
        let passes = |measured: f64| place(Device::Cpu, Kind::Float).gate("x", "y", measured, (1.0, 9.0)).ok;
        assert!(passes(1.0) && !passes(1.1) && !passes(f64::NAN));
        assert_eq!(place(Device::Cuda(0), Kind::Float).gate("x", "y", 0.0, (1.0, 9.0)).allowed, 5.0);
        assert_eq!(place(Device::Cuda(0), Kind::BFloat16).gate("x", "y", 0.0, (1.0, 9.0)).allowed, 18.0);
        assert!(worse(f64::NAN, 1.0).is_nan() && worse(1.0, f64::NAN).is_nan() && worse(1.0, 2.0) == 2.0);
        let (a, b) = (Tensor::from_slice(&[1.0, f64::NAN]), Tensor::from_slice(&[1.0, 2.0]));
        assert!(far(&a, &b).is_nan() && far(&b, &b) == 0.0 && far(&b, &b.narrow(0, 0, 1)) == f64::INFINITY);
    }
}
