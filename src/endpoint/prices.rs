//! Prices of models, by a dated list that ships and lists of the user's own, which come first. A model that is in none has no
//! price: nothing is guessed.

use crate::error::{Error, Result};
use crate::text_file::read_text;
use serde::Deserialize;
use std::path::Path;
use toml::value::Datetime;

const SHIPPED: &str = include_str!("prices.toml");

/// Price of a model.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Name with its protocol, such as `openai:gpt-4o-mini`.
    pub model: String,
    /// Dollars for a million tokens of requests.
    pub input_usd_per_million: f64,
    /// Dollars for a million tokens of answers.
    pub output_usd_per_million: f64,
    /// Day on which that was the price.
    pub as_of: Datetime,
}

impl Price {
    /// Dollars for so many tokens.
    pub fn usd(&self, input_tokens: usize, output_tokens: usize) -> f64 {
        let input = input_tokens as f64 * self.input_usd_per_million;
        (input + output_tokens as f64 * self.output_usd_per_million) / 1e6
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PriceList {
    price: Vec<Price>,
}

/// Lists of prices.
pub struct Prices {
    own: Vec<Price>,
    shipped: Vec<Price>,
}

impl Prices {
    /// The list that ships, and before it that of a file.
    ///
    /// # Errors
    /// A file that cannot be read, or a price that is none; the error names file and key.
    pub fn load(own: Option<&Path>) -> Result<Self> {
        let shipped = read(Path::new("prices.toml"), SHIPPED)?;
        let own = own.map(|path| read(path, &read_text(path)?)).transpose()?.unwrap_or_default();
        Ok(Self { own, shipped })
    }

    /// The price of a model. Those that ship are of the providers' own servers, and say nothing of others.
    pub fn of(&self, model: &str, at_own_server: bool) -> Option<&Price> {
        let shipped = self.shipped.iter().filter(|_| at_own_server);
        self.own.iter().chain(shipped).find(|price| price.model == model)
    }
}

fn read(path: &Path, text: &str) -> Result<Vec<Price>> {
    let deserializer = toml::Deserializer::parse(text).map_err(|e| Error::file(path, e.to_string()))?;
    let list: PriceList = serde_path_to_error::deserialize(deserializer)
        .map_err(|e| Error::config(path, e.path().to_string(), e.inner().message()))?;
    for (number, price) in list.price.iter().enumerate() {
        let values = [
            ("input_usd_per_million", price.input_usd_per_million),
            ("output_usd_per_million", price.output_usd_per_million),
        ];
        if let Some((key, value)) = values.into_iter().find(|(_, value)| !(value.is_finite() && *value >= 0.0)) {
            let message = format!("expected dollars, 0 or more, got {value}");
            return Err(Error::config(path, format!("price.{number}.{key}"), message));
        }
    }
    Ok(list.price)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_prices_come_first_and_others_are_unknown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        let entry = |model: &str, input: &str| {
            format!(
                "[[price]]\nmodel = \"{model}\"\ninput_usd_per_million = {input}\noutput_usd_per_million = 4.0\nas_of = 2026-01-31\n"
            )
        };
        std::fs::write(&path, entry("openai:gpt-4o-mini", "2.0") + &entry("openai:mine", "0.0")).unwrap();
        let prices = Prices::load(Some(&path)).unwrap();
        let own = prices.of("openai:gpt-4o-mini", true).unwrap();
        assert_eq!((own.usd(1_000_000, 500_000), own.as_of.to_string().as_str()), (4.0, "2026-01-31"));
        assert_eq!(prices.of("openai:mine", false).unwrap().usd(1_000_000, 0), 0.0);
        assert!(prices.of("openai:other", true).is_none());
        let shipped = Prices::load(None).unwrap();
        assert!(shipped.of("openai:gpt-4o-mini", true).is_some() && shipped.of("openai:gpt-4o-mini", false).is_none());
        for (text, key) in [
            (entry("a", "-1.0"), "price.0.input_usd_per_million"),
            (entry("a", "1.0").replace("2026-01-31", "\"today\""), "price[0].as_of"),
            (entry("a", "1.0") + "cents = 1\n", "price[0].cents"),
        ] {
            std::fs::write(&path, text).unwrap();
            let said = Prices::load(Some(&path)).err().unwrap().to_string();
            assert!(said.contains("mine.toml") && said.contains(key), "{said}");
        }
    }
}
