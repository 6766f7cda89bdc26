//! Metadata → `config.json`.

use super::file::Gguf;
use crate::error::Result;
use serde_json::{Map, Value, json};
use std::f64::consts::TAU;

/// The architectures, with the type and class of transformers that compute them.
const ARCHITECTURES: [(&str, &str, &str); 3] = [
    ("llama", "llama", "LlamaForCausalLM"),
    ("qwen2", "qwen2", "Qwen2ForCausalLM"),
    ("qwen3", "qwen3", "Qwen3ForCausalLM"),
];
/// Number keys below the architecture's name that change the network in ways that are not computed here, and the value with
/// which they do not.
const NEUTRAL: [(&str, f64); 9] = [
    ("expert_count", 0.0),
    ("attention.clamp_kqv", 0.0),
    ("attention.max_alibi_bias", 0.0),
    ("attn_logit_softcapping", 0.0),
    ("final_logit_softcapping", 0.0),
    ("logit_scale", 1.0),
    ("embedding_scale", 1.0),
    ("residual_scale", 1.0),
    ("rope.scaling.yarn_ext_factor", 1.0),
];
/// Divisors of the rotary frequencies, one each, as Llama 3.1 and later have them.
const ROPE_FACTORS: &str = "rope_freqs.weight";
/// Turns below which Llama 3 slows a frequency in full, and above which not at all.
const LLAMA3_TURNS: (f64, f64) = (1.0, 4.0);

impl Gguf {
    /// Value of `general.architecture`; an error if this decoder does not compute that architecture.
    pub fn architecture(&self) -> Result<&str> {
        let key = "general.architecture";
        let name = self.required(key, self.text(key)?)?;
        let known = ARCHITECTURES.map(|(known, ..)| known);
        match known.contains(&name) {
            true => Ok(name),
            false => Err(self.wrong(key, format!("expected one of {known:?}, got {name:?}"))),
        }
    }

    /// The metadata as a `config.json`: keys as transformers has them, weights as float32. What this decoder does not compute
    /// (experts, partial rotations, windows, other scalings) is an error that names the key.
    pub fn config(&self) -> Result<Value> {
        let arch = self.architecture()?;
        let key = |name: &str| format!("{arch}.{name}");
        self.check_neutral(arch)?;
        let count = |name: &str| self.required(&key(name), self.integer(&key(name))?);
        let (hidden, heads) = (count("embedding_length")?, count("attention.head_count")?);
        if heads == 0 {
            return Err(self.wrong(&key("attention.head_count"), "expected at least 1, got 0"));
        }
        let blocks = count("block_count")?;
        if blocks as usize > self.tensors().len() {
            let message = format!("expected no more blocks than the {} tensors, got {blocks}", self.tensors().len());
            return Err(self.wrong(&key("block_count"), message));
        }
        let head_dim = self.head_dim(arch, hidden, heads)?;
        let positions = count("context_length")?;
        if let Some(window) =
            self.integer(&key("attention.sliding_window"))?.filter(|&window| window > 0 && window < positions)
        {
            let message = format!("expected attention over all {positions} positions, got a window of {window}");
            return Err(self.wrong(&key("attention.sliding_window"), message));
        }
        let theta = self.float(&key("rope.freq_base"))?.unwrap_or(10_000.0);
        let rows = self.tensor("token_embd.weight")?.shape[0];
        let has = |name: &str| self.tensors().contains_key(name);
        let attention_bias = has("blk.0.attn_q.bias") && has("blk.0.attn_output.bias");
        // A Llama with biases on queries, keys and values alone is what transformers calls Qwen2.
        let as_qwen2 = arch == "llama" && has("blk.0.attn_q.bias") && !attention_bias;
        let computed = if as_qwen2 { "qwen2" } else { arch };
        let class = ARCHITECTURES.iter().find(|(name, ..)| *name == computed);
        let (model_type, class) = class.map_or((arch, ""), |(_, model_type, class)| (*model_type, *class));
        let epsilon = key("attention.layer_norm_rms_epsilon");
        let mut config = json!({
            "architectures": [class],
            "model_type": model_type,
            "vocab_size": rows,
            "hidden_size": hidden,
            "intermediate_size": count("feed_forward_length")?,
            "num_hidden_layers": blocks,
            "num_attention_heads": heads,
            "num_key_value_heads": self.integer(&key("attention.head_count_kv"))?.unwrap_or(heads),
            "head_dim": head_dim,
            "hidden_act": "silu",
            "rms_norm_eps": self.required(&epsilon, self.float(&epsilon)?)?,
            "rope_theta": theta,
            "max_position_embeddings": positions,
            "tie_word_embeddings": !has("output.weight"),
            "attention_bias": attention_bias,
            "mlp_bias": has("blk.0.ffn_gate.bias"),
            "torch_dtype": "float32",
        });
        let special = self.special_ids()?;
        if let Some(all) = config.as_object_mut() {
            if let Some(scaling) = self.scaling(arch, head_dim, theta)? {
                all.insert("rope_scaling".into(), scaling);
            }
            if model_type != "llama" {
                all.insert("use_sliding_window".into(), json!(false));
            }
            all.extend(special);
        }
        Ok(config)
    }

    /// Width of a head; all of it is rotated, and values are as wide as keys.
    fn head_dim(&self, arch: &str, hidden: u64, heads: u64) -> Result<u64> {
        let key = format!("{arch}.attention.key_length");
        let head_dim = match self.integer(&key)? {
            Some(width) => width,
            None if hidden.is_multiple_of(heads) => hidden / heads,
            None => {
                let message = format!("expected a divisor of embedding_length = {hidden}, got {heads}");
                return Err(self.wrong(&format!("{arch}.attention.head_count"), message));
            }
        };
        for name in ["attention.value_length", "rope.dimension_count"] {
            let key = format!("{arch}.{name}");
            if let Some(other) = self.integer(&key)?.filter(|&other| other != head_dim) {
                return Err(self.wrong(&key, format!("expected the width of a head, {head_dim}, got {other}")));
            }
        }
        Ok(head_dim)
    }

    /// Fails on what the file says of a network that is not computed here.
    fn check_neutral(&self, arch: &str) -> Result<()> {
        for (name, neutral) in NEUTRAL {
            let key = format!("{arch}.{name}");
            if let Some(value) = self.float(&key)?.filter(|value| *value != neutral) {
                return Err(self.wrong(&key, format!("expected {neutral}, which changes nothing, got {value}")));
            }
        }
        let key = format!("{arch}.attention.causal");
        if self.bool(&key)? == Some(false) {
            return Err(self.wrong(&key, "expected a decoder, which does not see ahead, got false"));
        }
        let key = format!("{arch}.attention.scale");
        if let Some(scale) = self.float(&key)? {
            return Err(self.wrong(&key, format!("expected none, for 1 / sqrt(width of a head), got {scale}")));
        }
        Ok(())
    }

    /// `rope_scaling` of `config.json`, where frequencies are scaled.
    fn scaling(&self, arch: &str, head_dim: u64, theta: f64) -> Result<Option<Value>> {
        let key = |name: &str| format!("{arch}.rope.scaling.{name}");
        for long in ["rope_factors_long.weight", "rope_factors_short.weight"] {
            if self.tensors().contains_key(long) {
                return Err(
                    self.wrong(long, "expected no factors for long contexts (rope_type \"longrope\"), got some")
                );
            }
        }
        let legacy = self.float(&format!("{arch}.rope.scale_linear"))?;
        let factor = self.float(&key("factor"))?.or(legacy).filter(|factor| *factor != 0.0);
        let by_table = self.llama3(head_dim, theta)?;
        let kind = match (self.text(&key("type"))?, factor) {
            (Some(kind), _) => kind,
            (None, Some(_)) => "linear",
            (None, None) => "none",
        };
        let factor = || self.required(&key("factor"), factor);
        let scaling = match kind {
            "none" => None,
            "linear" if factor()? == 1.0 => None,
            "linear" => Some(json!({"rope_type": "linear", "factor": factor()?})),
            "yarn" => Some(self.yarn(arch, factor()?)?),
            other => {
                let message = format!("expected \"none\", \"linear\" or \"yarn\", got {other:?}");
                return Err(self.wrong(&key("type"), message));
            }
        };
        match (scaling, by_table) {
            (Some(_), Some(_)) => {
                Err(self.wrong(ROPE_FACTORS, format!("expected none beside {} = {kind:?}, got some", key("type"))))
            }
            (scaling, by_table) => Ok(scaling.or(by_table)),
        }
    }

    fn yarn(&self, arch: &str, factor: f64) -> Result<Value> {
        let key = |name: &str| format!("{arch}.rope.scaling.{name}");
        let original = key("original_context_length");
        let mut yarn = Map::from_iter([
            ("rope_type".into(), json!("yarn")),
            ("factor".into(), json!(factor)),
            ("original_max_position_embeddings".into(), json!(self.required(&original, self.integer(&original)?)?)),
        ]);
        for (name, theirs) in [("yarn_beta_fast", "beta_fast"), ("yarn_beta_slow", "beta_slow")] {
            if let Some(turns) = self.float(&key(name))? {
                yarn.insert(theirs.into(), json!(turns));
            }
        }
        let attention = self.float(&key("yarn_attn_factor"))?.or(self.float(&key("attn_factor"))?);
        if let Some(attention) = attention.filter(|attention| *attention != 1.0) {
            // llama.cpp multiplies by it what transformers has in its place.
            yarn.insert("attention_factor".into(), json!(attention * (0.1 * factor.ln() + 1.0)));
        }
        Ok(Value::Object(yarn))
    }

    /// The scaling of Llama 3.1 and later, which a file holds as a table of divisors: found again from them, or refused.
    fn llama3(&self, head_dim: u64, theta: f64) -> Result<Option<Value>> {
        let Some(tensor) = self.tensors().get(ROPE_FACTORS) else { return Ok(None) };
        let pairs = head_dim / 2;
        if tensor.shape != [pairs as i64] {
            return Err(self.wrong(ROPE_FACTORS, format!("expected shape [{pairs}], got {:?}", tensor.shape)));
        }
        let mut table = vec![0.0; pairs as usize];
        self.read(tensor, 0, &mut table);
        let factor = f64::from(table.iter().copied().fold(1.0, f32::max));
        if table.iter().all(|&divisor| divisor == 1.0) {
            return Ok(None);
        }
        let (low, high) = LLAMA3_TURNS;
        let fits = |original: f64| {
            table.iter().enumerate().all(|(i, &divisor)| {
                let turns = original * theta.powf(-2.0 * i as f64 / head_dim as f64) / TAU;
                let smooth = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                let expected = 1.0 / ((1.0 - smooth) / factor + smooth);
                (f64::from(divisor) - expected).abs() <= 1e-3 * expected
            })
        };
        let originals = (2..=20).map(|power| f64::from(1 << power));
        let original = originals.into_iter().find(|&original| fits(original));
        let original = original.ok_or_else(|| {
            let expected =
                "expected the divisors of rope_type \"llama3\" with low_freq_factor 1 and high_freq_factor 4";
            self.wrong(ROPE_FACTORS, format!("{expected}, got {:?}", &table[..table.len().min(8)]))
        })?;
        Ok(Some(json!({
            "rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high,
            "original_max_position_embeddings": original as u64,
        })))
    }
}
