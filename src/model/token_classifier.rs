//! Frozen encoders that others trained to classify tokens as kept or dropped:
//!
//! - token classification with two labels, of which label 1 keeps, as LLMLingua-2 has it (Pan et al. 2024, arXiv
//!   2403.12968: `XLMRobertaForTokenClassification`, `BertForTokenClassification`); the score of a token is P(label 1).
//!   ModernBERT's has a dense layer and a norm before the labels.
//! - Kompress (`chopratejas/kompress-base`, read by the compressor of `chopratejas/headroom`): ModernBERT with a token head of
//!   two labels and a span head, weights `encoder.*`, `token_head.*`, `span_conv.{0,2}.*`; a token is worth
//!   p · (0.5 + 0.5 · s). Its repository has weights alone: put ModernBERT-base's `config.json` and `tokenizer.json` beside
//!   them.

use crate::error::{Error, Result};
use crate::model::encoder::{Affine, Checkpoint, Encoder, EncoderFamily, NamedWeights, real};
use crate::model::heads::SpanHead;
use crate::model::weights;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Kind, Tensor};

const LABELS: i64 = 2;

/// An encoder with such a head.
pub struct TokenClassifier {
    encoder: Encoder,
    /// Dense layer and norm that ModernBERT has before the labels.
    dense: Option<(Affine, Affine)>,
    labels: Affine,
    spans: Option<SpanHead>,
}

impl TokenClassifier {
    /// Reads a Hugging Face folder; every weight of the head must be there in its shape, and nothing else of it.
    pub fn load(folder: &Path, device: Device) -> Result<Self> {
        let Checkpoint { config, encoder, others, path } = Checkpoint::read(folder)?;
        let is_kompress = others.contains_key("token_head.weight");
        let (stem, h) = (if is_kompress { "token_head" } else { "classifier" }, config.hidden_size);
        let Some(labels) = others.get(&format!("{stem}.weight")) else {
            let message =
                "expected a token classifier: `classifier.weight` of 2 labels, or Kompress's `token_head.weight`";
            return Err(Error::file(path, format!("{message}, got neither")));
        };
        if labels.size() != [LABELS, h] {
            let message = format!("`{stem}.weight`: expected 2 labels (drop, keep), [{LABELS}, {h}]");
            return Err(Error::file(path, format!("{message}, got {:?}", labels.size())));
        }
        let classes = config.other("architectures").and_then(Value::as_array);
        let class = classes.and_then(|all| all.first()).and_then(Value::as_str).filter(|_| !is_kompress);
        if let Some(other) = class.filter(|class| !class.ends_with("ForTokenClassification")) {
            let message = format!("`architectures`: expected one ForTokenClassification, got {other}");
            return Err(Error::file(folder.join("config.json"), message));
        }
        let act = config.other("classifier_activation").and_then(Value::as_str).unwrap_or("gelu");
        if act != "gelu" {
            let message = format!("`classifier_activation`: expected gelu, got {act}");
            return Err(Error::file(folder.join("config.json"), message));
        }
        let mut expected = vec![(format!("{stem}.weight"), vec![LABELS, h]), (format!("{stem}.bias"), vec![LABELS])];
        let flag = |key: &str| config.other(key).and_then(Value::as_bool).unwrap_or(false);
        let (dense_bias, norm_bias) = (flag("classifier_bias"), flag("norm_bias"));
        let has_dense = config.family == EncoderFamily::ModernBert && !is_kompress;
        if is_kompress {
            expected.extend(SpanHead::parameters("span_conv.", h));
        } else if has_dense {
            let all = [("dense.weight", vec![h, h], true), ("dense.bias", vec![h], dense_bias)];
            let all = all.into_iter().chain([("norm.weight", vec![h], true), ("norm.bias", vec![h], norm_bias)]);
            expected.extend(all.filter(|(.., there)| *there).map(|(name, shape, _)| (format!("head.{name}"), shape)));
        }
        let own: BTreeMap<String, Tensor> = (others.into_iter())
            .filter(|(name, _)| {
                ["classifier.", "head.", "token_head.", "span_conv."].iter().any(|o| name.starts_with(o))
            })
            .collect();
        weights::check_exact(&path, &own, &expected)?;
        let there = |all: BTreeMap<String, Tensor>| {
            NamedWeights(all.into_iter().map(|(name, tensor)| (name, tensor.to_device(device))).collect())
        };
        let mut own = there(own);
        let labels = own.affine(stem, true)?;
        let dense = match has_dense {
            true => Some((own.affine("head.dense", dense_bias)?, own.affine("head.norm", norm_bias)?)),
            false => None,
        };
        let mut conv = |name: &str| own.tensor(&format!("span_conv.{name}"));
        let spans = match is_kompress {
            true => Some(SpanHead([conv("0.weight")?, conv("0.bias")?, conv("2.weight")?, conv("2.bias")?])),
            false => None,
        };
        Ok(Self { encoder: Encoder::from_named(&config, there(encoder).0)?, dense, labels, spans })
    }

    /// The encoder under the head.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// Whether a word is worth what its best token is, as in Kompress, rather than their mean, as in LLMLingua-2.
    pub fn takes_the_best(&self) -> bool {
        self.spans.is_some()
    }

    /// Logits `[N, T, 2]` of drop and keep, and those of the span head `[N, T]` where there is one; ids and lengths as in
    /// [`Encoder::forward`].
    pub fn logits(&self, ids: &Tensor, lengths: &[i64]) -> Result<(Tensor, Option<Tensor>)> {
        let mut hidden = self.encoder.forward(ids, lengths, None)?;
        let real = real(lengths, ids.size()[1], hidden.device());
        let spans = self.spans.as_ref().map(|spans| spans.logits(&hidden, &real));
        if let Some((dense, norm)) = &self.dense {
            hidden = norm.norm(&dense.linear(&hidden).gelu("none"), self.encoder.config().eps);
        }
        Ok((self.labels.linear(&hidden), spans))
    }

    /// Score of each token, `[N, T]` f32; the values at padding mean nothing.
    pub fn worth(&self, ids: &Tensor, lengths: &[i64]) -> Result<Tensor> {
        let (labels, spans) = self.logits(ids, lengths)?;
        let keep = labels.softmax(-1, Kind::Float).select(-1, 1);
        Ok(match spans {
            Some(spans) => keep * (spans.to_kind(Kind::Float).sigmoid() * 0.5 + 0.5),
            None => keep,
        })
    }
}
