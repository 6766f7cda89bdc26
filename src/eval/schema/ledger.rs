//! The ledger of a run: how far the readers are from the teacher at each stage of what they are given, in KL and in the
//! likelihood of the true future. "Tenfold" is said of K_e/K_g alone: only there do two readers differ in nothing but the
//! gist.

use crate::eval::schema::undefined::{number, pair};
use serde::{Deserialize, Serialize};

/// Figures of one reader on the windows, means in nats a future token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Level {
    /// KL(teacher ‖ reader), nats a token.
    #[serde(deserialize_with = "number")]
    pub kl: f64,
    /// Negative log-likelihood of the true future under the reader, nats a token.
    #[serde(deserialize_with = "number")]
    pub nll: f64,
}

/// A ratio or share with its 95 % bootstrap interval over clusters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// The figure, without unit.
    #[serde(deserialize_with = "number")]
    pub mean: f64,
    /// Its 95 % interval.
    #[serde(deserialize_with = "pair")]
    pub ci95: [f64; 2],
}

/// The ledger. KL and NLL are means in nats a future token, all on the same windows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KlLedger {
    /// NLL of the true future under the teacher, which reads the whole prefix, nats a token.
    #[serde(deserialize_with = "number")]
    pub teacher_nll: f64,
    /// K_0, nats a token: the untrained pair, the generator of before any training on the gist of its time; none where it
    /// was not measured.
    pub k_0: Option<Level>,
    /// K_u, nats a token: the bare base, adapters off, that has read nothing.
    pub k_u: Level,
    /// K_e, nats a token: the reader adapted to nothing, that has read nothing (the context value).
    pub k_e: Level,
    /// K_recent, nats a token: the run's generator with the most recent tokens; none where they were not evaluated.
    pub k_recent: Option<Level>,
    /// K_g, nats a token: the run's generator with the greedy gist, of an extractive run what its compressor keeps.
    pub k_g: Level,
    /// K_u/K_g, without unit: what adaptation and gist save together.
    #[serde(deserialize_with = "number")]
    pub ku_over_kg: f64,
    /// K_e/K_g, without unit: what the gist alone saves. Tenfold means that this is at least 10.
    pub ke_over_kg: Share,
    /// 1 − K_g/K_e, without unit.
    pub gap_closed: Share,
    /// 1 − (NLL_g − NLL_teacher) / (NLL_e − NLL_teacher), without unit: the gap closed in the likelihood of what came true.
    pub nll_gap_closed: Share,
    /// (NLL_e − NLL_teacher) / K_e, without unit: 1 where the teacher is as right as it is sure, less where it is too sure.
    #[serde(deserialize_with = "number")]
    pub teacher_calibration: f64,
}

/// Levels of one window that belong to no compressor, as `windows.jsonl` has them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowLevels {
    /// NLL of the true future under the teacher, nats a token.
    #[serde(deserialize_with = "number")]
    pub teacher_nll: f64,
    /// The untrained pair; none where it was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untrained: Option<Level>,
    /// The bare base that has read nothing.
    pub unadapted: Level,
    /// NLL of the reader adapted to nothing; its KL is `context_value_kl`.
    #[serde(deserialize_with = "number")]
    pub empty_nll: f64,
}
