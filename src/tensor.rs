//! Small tensor helpers: checked conversion from ids, shape checks with expected and got, and the border of float16.

use crate::error::{Error, Result};
use tch::{Device, Kind, Tensor};

/// Fails unless `xs` has exactly the shape `expected`.
pub fn check_shape(what: &str, xs: &Tensor, expected: &[i64]) -> Result<()> {
    let got = xs.size();
    if got != expected {
        return Err(Error::shape(what, format!("{expected:?}"), format!("{got:?}")));
    }
    Ok(())
}

/// Rows of equal length as an int64 tensor `[N, T]`.
pub fn ids_2d(rows: &[&[u32]], device: Device) -> Result<Tensor> {
    let width = rows.first().map_or(0, |r| r.len());
    if let Some(bad) = rows.iter().find(|r| r.len() != width) {
        return Err(Error::shape("token rows", format!("{width} tokens in every row"), bad.len()));
    }
    let flat: Vec<i64> = rows.iter().flat_map(|r| r.iter().map(|&t| t as i64)).collect();
    Ok(Tensor::from_slice(&flat).view([rows.len() as i64, width as i64]).to_device(device))
}

/// A 1-D f32 tensor.
pub fn floats(values: &[f64], device: Device) -> Tensor {
    let values: Vec<f32> = values.iter().map(|&v| v as f32).collect();
    Tensor::from_slice(&values).to_device(device)
}

/// Factor on gradients inside float16, so that small ones are not lost (loss scaling, Micikevicius et al. 2018,
/// arXiv 1710.03740): a tenth of a thousandth, as they often are, would round to few bits. They must stay below 16.
const LOSS_SCALE: f64 = 4096.0;

/// `xs` itself, with its gradient times `factor`.
fn with_gradient_times(xs: &Tensor, factor: f64) -> Tensor {
    let fixed = xs.detach();
    (xs - &fixed) * factor + fixed
}

/// The tensor in float32, in which losses are computed; from float16, gradients are scaled from here on.
pub fn widened(xs: &Tensor) -> Tensor {
    let wide = xs.to_kind(Kind::Float);
    match xs.kind() == Kind::Half && xs.requires_grad() {
        true => with_gradient_times(&wide, LOSS_SCALE),
        false => wide,
    }
}

/// The gradient of `xs`, which is of this `kind`, from that of what [`widened`] made of it.
pub fn narrowed_gradient(gradient: &Tensor, kind: Kind) -> Tensor {
    match kind == Kind::Half {
        true => (gradient * LOSS_SCALE).to_kind(kind),
        false => gradient.to_kind(kind),
    }
}

/// Parameters, which are float32, in the kind that they are used in: what comes back from float16 is scaled no more.
pub fn narrowed(parameters: &Tensor, kind: Kind) -> Tensor {
    match kind == Kind::Half && parameters.requires_grad() {
        true => with_gradient_times(parameters, 1.0 / LOSS_SCALE).to_kind(kind),
        false => parameters.to_kind(kind),
    }
}

/// The values of a tensor of any shape, flattened, as f64.
pub fn to_vec(xs: &Tensor) -> Result<Vec<f64>> {
    let xs = xs.to_device(Device::Cpu).to_kind(Kind::Double).contiguous().view([-1]);
    Ok(Vec::<f64>::try_from(&xs)?)
}

/// The values of tensors with as many elements each, in one transfer: on a GPU the host waits once.
pub fn to_vecs<const N: usize>(all: [&Tensor; N]) -> Result<[Vec<f64>; N]> {
    let rows = Tensor::f_stack(&all.map(|xs| xs.reshape([-1]).to_kind(Kind::Double)), 0)?;
    let values = to_vec(&rows)?;
    let each = values.len() / N.max(1);
    Ok(std::array::from_fn(|i| values[i * each..(i + 1) * each].to_vec()))
}

/// Arithmetic mean; NaN for no values.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Middle of the values, of an even number the mean of both middles; NaN for no values.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n => (values[(n - 1) / 2] + values[n / 2]) / 2.0,
    }
}

/// Sample standard deviation (n − 1); 0 for fewer than two values.
pub fn std_dev(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let m = mean(values);
    (values.iter().map(|v| (v - m) * (v - m)).sum::<f64>() / (values.len() - 1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0]), 2.5);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn ragged_rows_are_refused() {
        let error = ids_2d(&[&[1, 2], &[3]], Device::Cpu).unwrap_err().to_string();
        assert_eq!(error, "token rows: expected 2 tokens in every row, got 1");
    }

    #[test]
    fn std_is_the_sample_one() {
        assert!((std_dev(&[1.0, 2.0, 3.0, 4.0]) - (5.0f64 / 3.0).sqrt()).abs() < 1e-12);
    }
}
