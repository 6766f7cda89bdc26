//! Adapters in PEFT's layout (`adapter_config.json`, `adapter_model.safetensors`; checked against peft 0.21.2), in and out.
//!
//! In checkpoints the rows of the control tokens are tensors of their own (`gist.*`), which peft passes over: low-rank weights
//! alone, without control tokens, are what it makes of a checkpoint. An export has them as peft's *trainable tokens*
//! (`trainable_token_indices`), at ids of the vocabulary: peft replaces those rows of the embedding and, in a base whose
//! head is the embedding, of the head. End-of-gist is only ever written and the other two are only ever read, so that one
//! row each suffices there too; a base with a head of its own gets end-of-gist's row in that. What peft has no place for: a
//! copy head, which stays a `gist.*` tensor, and the bar on logits that mean nothing (start-of-gist, separator), which is
//! `suppress_tokens` of the generation.
//!
//! The safetensors header names the base: `gist.base_sha256` ([`crate::model::weights::identity`]), and where its rows began
//! with a beginning-of-text token, that: `gist.begin`.
//!
//! Some ways of peft to begin an adapter (`init_lora_weights`) change the base too, and what was trained belongs to that
//! other base: PiSSA, OLoRA, CorDA and LoRA-GA subtract their beginning from the weights, LoftQ quantises them. Such adapters
//! are refused. When it saves one with `path_initial_model_for_weight_conversion`, peft makes a plain one of it, over the
//! unchanged base and of twice the rank, and says so in `init_lora_weights`. EVA, MiCA, `gaussian` and `orthogonal` leave the
//! base as it is.

use crate::config::parts::LoraConfig;
use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::model::copy_head;
use crate::model::heads;
use crate::model::lora::{Adapter, CONTROL, COPY, END, Extra, HEADS, specs};
use crate::model::params::FlatParams;
use crate::model::peft_config::{CONFIG, EMBEDDING, HEAD, PeftConfig, TOKENS, last_names};
use crate::model::weights::{self, ADAPTER};
use crate::run_dir::{read_json, write_json_atomic};
use crate::tokenizer::{CONTROLS, Tokenizer};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Kind, Tensor};

const BASE: &str = "gist.base_sha256";
const BEGIN: &str = "gist.begin";

/// Base model that an adapter is made for.
#[derive(Clone, Debug, Default)]
pub struct Base {
    /// Folder or repository.
    pub name: String,
    /// [`weights::identity`] of its weights, when known.
    pub sha256: Option<String>,
    /// Tokens that each of its rows began with ([`crate::model::decoder::Decoder::begin`]).
    pub begin: Vec<u32>,
}

/// Name of the rows that peft's trainable tokens put into a table.
fn rows_of(table: &str) -> String {
    let module = if table == EMBEDDING { "model.embed_tokens" } else { table };
    format!("base_model.model.{module}.token_adapter.trainable_tokens_delta")
}

impl Adapter {
    fn write(&self, folder: &Path, base: &Base, named: &[(String, Tensor)], tokens: Option<Value>) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        let told = base.sha256.iter().map(|sha256| (BASE.to_string(), sha256.clone()));
        let begin = (!base.begin.is_empty()).then(|| (BEGIN.to_string(), json!(base.begin).to_string()));
        let told = told.chain(begin);
        weights::write_telling(&folder.join(ADAPTER), named, told)?;
        let peft = PeftConfig {
            peft_type: "LORA".into(),
            task_type: Some(if self.encoder.is_some() { "FEATURE_EXTRACTION" } else { "CAUSAL_LM" }.into()),
            base_model_name_or_path: Some(base.name.clone()),
            r: self.config.rank,
            lora_alpha: self.config.alpha,
            lora_dropout: self.config.dropout,
            bias: "none".into(),
            fan_in_fan_out: false,
            inference_mode: true,
            target_modules: self.config.target_modules.clone(),
            rest: tokens.map(|tokens| (TOKENS.to_string(), tokens)).into_iter().collect(),
        };
        write_json_atomic(&folder.join(CONFIG), &peft)
    }

    /// Writes `adapter_config.json` and `adapter_model.safetensors` into `folder`, as checkpoints have them; an encoder as
    /// a model of its own.
    pub fn save(&self, folder: &Path, base: &Base) -> Result<()> {
        self.save_as(folder, base, Kind::Float)
    }

    /// [`Adapter::save`] in this kind of number; an encoder keeps its own.
    pub fn save_as(&self, folder: &Path, base: &Base, kind: Kind) -> Result<()> {
        let rounded = |(name, tensor): (String, Tensor)| (name, tensor.to_kind(kind));
        match &self.encoder {
            Some(encoder) if encoder.learns() => self.save_encoder(&encoder.config, folder),
            Some(_) | None => {
                self.write(folder, base, &self.params.named().into_iter().map(rounded).collect::<Vec<_>>(), None)
            }
        }
    }

    /// Writes the files of [`Adapter::save`] so that peft loads the control tokens too; these take the ids from `first` on. A
    /// base without so many rows has to be given them first (`resize_token_embeddings(first + 3)`; `AutoPeftModelForCausalLM`
    /// does it where the tokenizer is beside the adapter).
    pub fn export(&self, folder: &Path, base: &Base, first: i64, tied: bool) -> Result<()> {
        let (rows, end) = self.vocabulary_rows(tied)?;
        let mut named = self.params.named();
        named.retain(|(name, _)| name != CONTROL && name != END);
        named.push((rows_of(EMBEDDING), rows));
        let mut tokens = json!({EMBEDDING: [first, first + 1, first + 2]});
        if let Some(end) = end {
            named.push((rows_of(HEAD), end));
            tokens[HEAD] = json!([first]);
        }
        self.write(folder, base, &named, Some(tokens))
    }

    /// Rows of the control tokens in a vocabulary: `[3, H]` of the embedding (end-of-gist, start-of-gist, separator)
    /// and, unless that is the output head too, end-of-gist's row `[1, H]` of the head.
    pub fn vocabulary_rows(&self, tied: bool) -> Result<(Tensor, Option<Tensor>)> {
        if self.is_extractive() {
            let message = "expected the adapter of a model that writes or reads, got an extractive one";
            return Err(Error::invalid(message));
        }
        let mut own: BTreeMap<String, Tensor> = self.params.named().into_iter().collect();
        let mut take = |name: &str| own.remove(name).ok_or_else(|| Error::shape(name, "a tensor", "none"));
        let (control, end) = (take(CONTROL)?, take(END)?);
        // End-of-gist is never read: in a tied base its row is free for the output.
        Ok(match tied {
            true => (Tensor::cat(&[end, control.narrow(0, 1, 2)], 0), None),
            false => (control, Some(end)),
        })
    }

    /// Reads a PEFT folder; weights must fit `model`. Control rows are those of a checkpoint or peft's trainable tokens; where
    /// there are none they become zeros, so that the separator says nothing and end-of-gist has a logit of 0 until they are
    /// trained.
    pub fn load(folder: &Path, model: &ModelConfig, device: Device) -> Result<Self> {
        if folder.join("config.json").exists() {
            return Self::load_encoder(folder, copy_head::features(model), device);
        }
        let path = folder.join(CONFIG);
        let mut peft = PeftConfig::read(folder)?;
        let refuse = |message: String| Error::file(&path, message);
        peft.target_modules = last_names(&peft.target_modules);
        let tokens = peft.trained_tokens().map_err(refuse)?;
        let config = LoraConfig {
            rank: peft.r,
            alpha: peft.lora_alpha,
            dropout: peft.lora_dropout,
            target_modules: peft.target_modules,
        };
        config.check().map_err(|(key, message)| {
            let theirs = [("rank", "r"), ("alpha", "lora_alpha"), ("dropout", "lora_dropout")];
            let key = theirs.iter().find(|(ours, _)| *ours == key).map_or(key.as_str(), |(_, theirs)| theirs);
            refuse(format!("`{key}`: {message}"))
        })?;
        let path = folder.join(ADAPTER);
        let mut found = weights::read(&path)?;
        if !tokens.is_empty() {
            take_tokens(folder, &tokens, model, &mut found)?;
        }
        let copy_rows = found.get(COPY).map_or(0, |rows| rows.size().first().copied().unwrap_or(0));
        if copy_rows > 0 && copy_head::longest(copy_rows as usize, model) == 0 {
            let least = copy_head::rows(1, model);
            return Err(Error::file(&path, format!("`{COPY}`: expected at least {least} rows, got {copy_rows}")));
        }
        let extra = match found.keys().any(|name| name.starts_with(HEADS)) {
            true => {
                let features = heads::stored_features(&found, HEADS);
                Extra::Heads { hints: (features - copy_head::features(model)).max(0) }
            }
            false => Extra::CopyHead(copy_rows as usize),
        };
        let expected = specs(model, &config, extra);
        for (name, shape) in expected.iter().filter(|(name, _)| name == CONTROL || name == END) {
            let zeros = || Tensor::zeros(shape.as_slice(), (Kind::Float, Device::Cpu));
            found.entry(name.clone()).or_insert_with(zeros);
        }
        weights::check_exact(&path, &found, &expected)?;
        let named: Vec<_> = expected.iter().map(|(name, _)| (name.clone(), found[name].shallow_clone())).collect();
        Ok(Self { config, params: FlatParams::pack(&named, device)?, encoder: None })
    }
}

/// Rank, scaling and targets of a folder's adapter, whatever it is over.
pub(super) fn low_rank(folder: &Path) -> Result<LoraConfig> {
    let peft = PeftConfig::read(folder)?;
    match peft.r {
        ..1 => Err(Error::file(folder.join(CONFIG), format!("`r`: expected at least 1, got {}", peft.r))),
        rank => Ok(LoraConfig {
            rank,
            alpha: peft.lora_alpha,
            dropout: peft.lora_dropout,
            target_modules: peft.target_modules,
        }),
    }
}

/// Turns the rows of peft's trainable tokens into those of the control tokens.
fn take_tokens(
    folder: &Path,
    tokens: &BTreeMap<String, Vec<i64>>,
    model: &ModelConfig,
    found: &mut BTreeMap<String, Tensor>,
) -> Result<()> {
    let ids = control_ids(folder, model.vocab_size)?;
    let nothing = Vec::new();
    let (embedded, written) = (tokens.get(EMBEDDING).unwrap_or(&nothing), tokens.get(HEAD));
    let place = |list: &[i64], id: i64| list.iter().position(|&other| other == id).map(|at| at as i64);
    let at: Vec<i64> = ids.iter().filter_map(|&id| place(embedded, id)).collect();
    let end_at = written.map_or(Some(0), |list| place(list, ids[0]));
    let strange = written.is_some_and(|list| list.iter().any(|id| !ids.contains(id)));
    let (Some(end_at), 3, 3, false) = (end_at, at.len(), embedded.len(), strange) else {
        let message = format!(
            "`{TOKENS}`: expected the ids {ids:?} of the control tokens (those of {CONTROLS:?} in a tokenizer.json beside \
             it, or else the three behind the base's rows), got {tokens:?}"
        );
        return Err(Error::file(folder.join(CONFIG), message));
    };
    let path = folder.join(ADAPTER);
    let mut take = |table: &str, count: usize| -> Result<Tensor> {
        let name = rows_of(table);
        let rows = found.remove(&name).ok_or_else(|| Error::file(&path, format!("`{name}` is missing")))?;
        let shape = [count as i64, model.hidden_size];
        match rows.size() == shape {
            true => Ok(rows),
            false => Err(Error::file(&path, format!("`{name}`: expected shape {shape:?}, got {:?}", rows.size()))),
        }
    };
    let control = take(EMBEDDING, 3)?.index_select(0, &Tensor::from_slice(&at));
    let end = match written {
        Some(list) => Some(take(HEAD, list.len())?.narrow(0, end_at, 1)),
        None => model.tie_word_embeddings.then(|| control.narrow(0, 0, 1)),
    };
    // peft saves the rows of a tied head once more and, after a resize, the base's own tables, which trainable tokens leave
    // as they are.
    found.retain(|name, _| name != &rows_of(HEAD) && !name.ends_with(".token_adapter.base_layer.weight"));
    found.extend(end.map(|end| (END.to_string(), end)));
    found.insert(CONTROL.into(), control);
    Ok(())
}

/// Ids of end-of-gist, start-of-gist and separator in the vocabulary that an adapter was trained with.
fn control_ids(folder: &Path, rows: i64) -> Result<[i64; 3]> {
    let path = folder.join("tokenizer.json");
    if path.exists() {
        let tokenizer = Tokenizer::load(&path)?;
        if let [Some(end), Some(start), Some(separator)] = CONTROLS.map(|name| tokenizer.id_of(name)) {
            return Ok([end, start, separator].map(i64::from));
        }
    }
    Ok([rows, rows + 1, rows + 2])
}

/// Fails if the adapter in `folder` says that it was made for a base with other weights than those of identity `sha256`, or
/// whose rows began otherwise than with `begin`; one that says nothing, as peft's own, passes.
pub fn check_base(folder: &Path, sha256: &str, begin: &[u32]) -> Result<()> {
    let path = folder.join(ADAPTER);
    let told = if path.exists() { weights::metadata(&path)? } else { BTreeMap::new() };
    let (own, other) = (json!(begin).to_string(), told.get(BEGIN).map_or("[]", String::as_str));
    if told.contains_key(BASE) && own != other {
        let message = format!("`{BEGIN}`: expected {own}, what rows begin with under this model.bos, got {other}");
        return Err(Error::file(path, message));
    }
    match told.get(BASE) {
        Some(other) if other != sha256 => {
            let name = read_json::<Value>(&folder.join(CONFIG)).ok();
            let name = name.and_then(|config| Some(config.get("base_model_name_or_path")?.to_string()));
            let of = name.map(|name| format!(" (its `base_model_name_or_path` is {name})")).unwrap_or_default();
            let message =
                format!("`{BASE}`: expected {sha256}, the base that was loaded, got that of another, {other}{of}");
            Err(Error::file(path, message))
        }
        _ => Ok(()),
    }
}
