//! Figures that may be undefined: NaN is `null` in JSON.

use serde::{Deserialize, Deserializer};

/// A figure, or `null` for NaN.
pub fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// An interval, each bound a figure or `null` for NaN.
pub fn pair<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[f64; 2], D::Error> {
    Ok(<[Option<f64>; 2]>::deserialize(deserializer)?.map(|bound| bound.unwrap_or(f64::NAN)))
}
