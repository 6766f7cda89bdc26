//! Adapters of the roles: `[model.lora]` is what they share, `[model.lora.compressor]` and `[model.lora.generator]` set what
//! differs. The empty reader always has the generator's: context_value compares two readers that differ in what they read
//! and in nothing else. A resolved configuration holds one table where both are the same, else both in full.

use crate::config::parts::{LoraConfig, Problem, under};
use serde::{Deserialize, Serialize};

/// Rank, scaling, dropout and targets of each role.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct RoleLoras {
    /// Adapter of the compressor.
    pub compressor: LoraConfig,
    /// Adapter of the generator, the empty reader and every reader adapted for comparison.
    pub generator: LoraConfig,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    rank: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alpha: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dropout: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_modules: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compressor: Option<Own>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generator: Option<Own>,
}

/// Keys that a role sets for itself.
#[derive(Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Own {
    rank: Option<i64>,
    alpha: Option<f64>,
    dropout: Option<f64>,
    target_modules: Option<Vec<String>>,
}

impl Own {
    fn over(self, shared: &LoraConfig) -> LoraConfig {
        LoraConfig {
            rank: self.rank.unwrap_or(shared.rank),
            alpha: self.alpha.unwrap_or(shared.alpha),
            dropout: self.dropout.unwrap_or(shared.dropout),
            target_modules: self.target_modules.unwrap_or_else(|| shared.target_modules.clone()),
        }
    }
}

impl From<LoraConfig> for Own {
    fn from(all: LoraConfig) -> Self {
        let LoraConfig { rank, alpha, dropout, target_modules } = all;
        Self { rank: Some(rank), alpha: Some(alpha), dropout: Some(dropout), target_modules: Some(target_modules) }
    }
}

impl From<Written> for RoleLoras {
    fn from(written: Written) -> Self {
        let Written { rank, alpha, dropout, target_modules, compressor, generator } = written;
        let shared = Own { rank, alpha, dropout, target_modules }.over(&LoraConfig::default());
        let role = |own: Option<Own>| own.unwrap_or_default().over(&shared);
        Self { compressor: role(compressor), generator: role(generator) }
    }
}

impl From<RoleLoras> for Written {
    fn from(roles: RoleLoras) -> Self {
        if roles.compressor != roles.generator {
            let (compressor, generator) = (Some(roles.compressor.into()), Some(roles.generator.into()));
            return Self { compressor, generator, ..Self::default() };
        }
        let Own { rank, alpha, dropout, target_modules } = roles.generator.into();
        Self { rank, alpha, dropout, target_modules, compressor: None, generator: None }
    }
}

impl RoleLoras {
    /// Says what is impossible, naming the key.
    pub fn check(&self) -> Result<(), Problem> {
        match (self.compressor.check(), self.generator.check()) {
            (Err(one), Err(other)) if one == other => Err(one),
            (compressor, generator) => {
                compressor.map_err(under("compressor"))?;
                generator.map_err(under("generator"))
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &str) -> RoleLoras {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_role_sets_what_differs_and_what_runs_is_written_in_full() {
        let both = read("rank = 4\nalpha = 6.0\n");
        assert_eq!(both.compressor, LoraConfig { rank: 4, alpha: 6.0, ..LoraConfig::default() });
        assert_eq!(both.compressor, both.generator);
        let written = toml::to_string(&both).unwrap();
        assert!(written.starts_with("rank = 4\nalpha = 6.0\ndropout = 0.0\ntarget_modules = "), "{written}");
        assert!(!written.contains('[') || !written.contains("\n["), "{written}");

        let apart =
            read("rank = 4\n[compressor]\nrank = 2\ndropout = 0.1\n[generator]\ntarget_modules = [\"q_proj\"]\n");
        assert_eq!((apart.compressor.rank, apart.compressor.dropout, apart.generator.rank), (2, 0.1, 4));
        assert_eq!((apart.compressor.target_modules.len(), apart.generator.target_modules.len()), (7, 1));
        let written = toml::to_string(&apart).unwrap();
        assert!(written.starts_with("[compressor]\nrank = 2\nalpha = 32.0\ndropout = 0.1\n"), "{written}");
        assert!(written.contains("\n[generator]\nrank = 4\n"), "{written}");
        assert_eq!(read(&written), apart);
    }

    #[test]
    fn what_is_impossible_is_named_where_it_holds() {
        let key = |text: &str| read(text).check().unwrap_err().0;
        assert_eq!(key("rank = 0"), "rank");
        assert_eq!(key("rank = 0\n[compressor]\nrank = 1"), "generator.rank");
        assert_eq!(key("[compressor]\ntarget_modules = [\"query\"]"), "compressor.target_modules");
        assert!(toml::from_str::<RoleLoras>("[reader]\nrank = 1").unwrap_err().message().contains("unknown field"));
    }
}
