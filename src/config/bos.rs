//! Whether the rows of a base begin with its beginning-of-text token.

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// The key `model.bos`: `"auto"`, `true` or `false`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bos {
    /// The base's tokenizer decides: see [`crate::tokenizer::begin`].
    #[default]
    Auto,
    /// Every row that the base reads begins with the token.
    Yes,
    /// No row begins with the token.
    No,
}

impl Bos {
    /// Whether the tokenizer decides.
    pub fn is_auto(&self) -> bool {
        *self == Bos::Auto
    }
}

impl From<bool> for Bos {
    fn from(begins: bool) -> Self {
        if begins { Bos::Yes } else { Bos::No }
    }
}

impl Serialize for Bos {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Bos::Auto => serializer.serialize_str("auto"),
            Bos::Yes => serializer.serialize_bool(true),
            Bos::No => serializer.serialize_bool(false),
        }
    }
}

struct Told;

impl Visitor<'_> for Told {
    type Value = Bos;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("\"auto\", true or false")
    }

    fn visit_bool<E: Error>(self, begins: bool) -> Result<Bos, E> {
        Ok(begins.into())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Bos, E> {
        match text {
            "auto" => Ok(Bos::Auto),
            other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
        }
    }
}

impl<'de> Deserialize<'de> for Bos {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Told)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn three_values_there_and_back() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Table {
            bos: Bos,
        }
        for (text, bos) in [("bos = \"auto\"\n", Bos::Auto), ("bos = true\n", Bos::Yes), ("bos = false\n", Bos::No)] {
            assert_eq!(toml::from_str::<Table>(text).unwrap(), Table { bos });
            assert_eq!(toml::to_string(&Table { bos }).unwrap(), text);
        }
        for text in ["bos = \"yes\"", "bos = 1"] {
            let said = toml::from_str::<Table>(text).unwrap_err().to_string();
            assert!(said.contains("expected \"auto\", true or false"), "{said}");
        }
    }
}
