//! Needs of an experiment, from its configuration and the base's `config.json` alone: memory, counted tensor by
//! tensor, and seconds of a step, from [`crate::cost::pace`].

use crate::config::choices::Reader;
use crate::config::parts::LoraConfig;
use crate::config::train::{DataSection, TrainConfig};
use crate::cost::memory::{MIB, rss_mib};
use crate::cost::pace::Pace;
use crate::cost::work::Sizes;
use crate::error::Result;
use crate::model::config::ModelConfig;
use crate::model::kernels;
use crate::model::lora::{self, Extra};
use crate::model::sampling::rows_at_once;
use crate::model::vocab::chunk_tokens;
use crate::reading::ROWS_AT_ONCE;
use crate::train::roles::extra;
use serde::Serialize;
use serde_json::{Value, json};
use std::path::PathBuf;
use tch::{Device, Kind, Tensor};

/// Memory that one thing takes.
#[derive(Clone, Debug, Serialize)]
pub struct MemoryUse {
    /// Name of the thing.
    pub name: String,
    /// Bytes.
    pub bytes: f64,
}

/// A part of a step with what it needs while it lasts.
#[derive(Clone, Debug, Serialize)]
pub struct Moment {
    /// Name of the part.
    pub name: &'static str,
    /// Memory that it needs.
    pub needs: Vec<MemoryUse>,
    /// Seconds of the part.
    pub seconds: f64,
}

/// Memory and time of a step of an experiment.
#[derive(Clone, Debug)]
pub struct CostPlan {
    /// Memory that is held all the time.
    pub held: Vec<MemoryUse>,
    /// Parts of a step, one after the other.
    pub moments: Vec<Moment>,
    /// Memory that the process comes to hold for a part, as a multiple of what the part needs.
    pub kept: f64,
}

fn sum(parts: &[MemoryUse]) -> f64 {
    parts.iter().map(|part| part.bytes).sum()
}

impl Moment {
    /// Bytes that the part needs.
    pub fn bytes(&self) -> f64 {
        sum(&self.needs)
    }
}

impl CostPlan {
    /// The part of a step that needs most.
    pub fn largest(&self) -> Option<&Moment> {
        self.moments.iter().max_by(|a, b| a.bytes().total_cmp(&b.bytes()))
    }

    /// Bytes held all the time, and the largest of what comes and goes.
    pub fn peak(&self) -> f64 {
        sum(&self.held) + self.kept * self.largest().map_or(0.0, Moment::bytes)
    }

    /// Seconds of a step.
    pub fn seconds(&self) -> f64 {
        self.moments.iter().map(|moment| moment.seconds).sum()
    }

    /// The plan's figures as JSON, for other programs.
    pub fn figures(&self) -> Value {
        json!({
            "peak_mib": self.peak() / MIB,
            "step_seconds": self.seconds(),
            "kept": self.kept,
            "held": self.held,
            "parts": self.moments,
        })
    }

    /// Plan of an experiment over a base of this architecture whose rows begin with `begin` tokens, on this machine.
    pub fn new(config: &TrainConfig, model: &ModelConfig, begin: usize, device: Device) -> Result<Self> {
        // libtorch's threads and buffers come with its first product.
        let _ =
            Tensor::ones([256, 256], (Kind::Float, device)).matmul(&Tensor::ones([256, 256], (Kind::Float, device)));
        let anonymous = rss_mib("RssAnon:");
        let kind = config.hardware.kind();
        let kernels = kernels::know(device, kind);
        let tensors = Tensors { config, model, sizes: Sizes::new(config, begin), kind, kernels };
        let pace = Pace::measure(config, model, tensors.sizes, device)?;
        let mut held = Vec::new();
        if !device.is_cuda() {
            // By now the code that a step runs is in memory.
            let fixed = (anonymous + rss_mib("RssFile:")) * MIB;
            held.push(MemoryUse { name: "libtorch and program".into(), bytes: fixed });
            held.push(bytes("documents", documents(&config.data)));
        }
        held.extend(tensors.held());
        let needs = [tensors.teacher(), tensors.rollouts(), tensors.reading(), tensors.policy(), tensors.reader()];
        let moments = (tensors.sizes.parts().into_iter().zip(needs)).map(|(work, needs)| Moment {
            name: work.name,
            needs,
            seconds: pace.seconds(&work, model),
        });
        // A GPU's memory is pooled by libtorch, in blocks by size.
        let keeps = !device.is_cuda() && !config.train.checkpoint_activations;
        Ok(Self { held, moments: moments.collect(), kept: if keeps { KEPT } else { 1.0 } })
    }
}

/// Memory held for a step's tensors by a process that keeps what is freed, as a multiple of what the step needs: measured on
/// the shipped bases and one of 0.6 billion parameters, where free pieces do not always fit.
pub const KEPT: f64 = 1.65;
/// Bytes of text for a compressed byte, and bytes of memory for a byte of text: ids, and what tokenising leaves behind.
const UNPACKED: usize = 6;
const PER_TEXT_BYTE: usize = 3;
/// Bytes of a generated word.
const WORD: usize = 7;
/// f32 copies of a chunk's logits that a loss holds at its widest, and a comparison without gradient.
const LOSS_COPIES: usize = 10;
const STATS_COPIES: usize = 6;
/// Bytes for a logit from which a token is drawn: f32 and f64 copies.
const DRAWN_BYTES: usize = 48;
/// Copies of an adapter's parameters that an optimiser works with: they, gradient, two moments, decay.
const OPTIMISER_COPIES: usize = 5;

struct Tensors<'a> {
    config: &'a TrainConfig,
    model: &'a ModelConfig,
    sizes: Sizes,
    kind: Kind,
    /// Whether norms and products are those of [`kernels`].
    kernels: bool,
}

/// Bytes that the documents come to hold.
fn documents(data: &DataSection) -> usize {
    let size = |path: &PathBuf| {
        let packed = path.extension().is_some_and(|extension| extension == "zst");
        let len = std::fs::metadata(path).map_or(0, |file| file.len()) as usize;
        len * if packed { UNPACKED } else { 1 }
    };
    let files = [&data.train, &data.valid, &data.test].into_iter().flatten().map(size).sum::<usize>();
    let recall = data.recall.as_ref().map_or(0, |r| (r.train_documents + 2 * r.held_out_documents) * r.words * WORD);
    PER_TEXT_BYTE * (files + recall)
}

fn bytes(name: &str, count: usize) -> MemoryUse {
    MemoryUse { name: name.into(), bytes: count as f64 }
}

impl Tensors<'_> {
    /// Bytes of a number that the base computes with.
    fn width(&self) -> usize {
        self.kind.elt_size_in_bytes()
    }

    /// Whether norms and softmaxes hold a wider copy beside it.
    fn narrow(&self) -> bool {
        self.width() < 4
    }

    /// H, I, all query heads, all key/value heads, blocks.
    fn dims(&self) -> [usize; 5] {
        let m = self.model;
        let d = m.head_width();
        [m.hidden_size, m.intermediate_size, m.num_attention_heads * d, m.kv_heads() * d, m.num_hidden_layers]
            .map(|x| x as usize)
    }

    fn held(&self) -> Vec<MemoryUse> {
        let (config, model, lora) = (self.config, self.model, &self.config.model.lora);
        let count = |shapes: Vec<(String, Vec<i64>)>| -> usize {
            shapes.iter().map(|(_, shape)| shape.iter().product::<i64>() as usize).sum()
        };
        let reader = count(lora::specs(model, &lora.generator, Extra::Nothing));
        let compressor = extra(config, model).map_or(0, |extra| count(lora::specs(model, &lora.compressor, extra)));
        let averaged = usize::from(matches!(config.reward.reader, Reader::Ema { .. }));
        let smoothed = usize::from(config.train.average_decay > 0.0);
        let positions = model.positions() as usize;
        vec![
            bytes("weights of the base", count(model.parameters()) * self.width()),
            bytes("packed weights", if self.kernels { 2 * count(model.parameters()) * self.width() } else { 0 }),
            bytes("rotary tables", 2 * positions * model.head_width() as usize * self.width()),
            bytes("adapters, gradients, moments", 4 * OPTIMISER_COPIES * (compressor + 2 * reader)),
            // As the warm start left them, some steps ago, averaged.
            bytes("frozen and averaged adapters", 4 * ((2 + smoothed) * compressor + (1 + averaged) * reader)),
        ]
    }

    /// Keys and values of so many tokens.
    fn cache(&self, tokens: usize) -> usize {
        let [.., kv, layers] = self.dims();
        tokens * 2 * kv * layers * self.width()
    }

    /// Bytes that a pass without gradient holds of so many tokens in one block.
    fn passing(&self, tokens: usize) -> usize {
        let [h, i, q, kv, _] = self.dims();
        let wide = if self.narrow() { 8 * h } else { 0 };
        tokens * (self.width() * (3 * h + (3 * i).max(2 * q + 2 * kv)) + wide)
    }

    /// Bytes that backward needs of so many tokens in one block.
    fn saved(&self, tokens: usize) -> usize {
        let [h, i, q, kv, _] = self.dims();
        let roles = &self.config.model.lora;
        let inner = |lora: &LoraConfig| lora.rank as usize * lora.target_modules.len();
        let lora = inner(&roles.compressor).max(inner(&roles.generator));
        let normed = if self.model.has_head_norms() { q + kv } else { 0 };
        let norms = match self.narrow() {
            _ if self.kernels => self.width() * (4 * h + normed),
            true => 4 * (2 * h + normed) + self.width() * 2 * h,
            false => 4 * (4 * h + normed),
        };
        tokens * (norms + self.width() * (2 * q + 2 * kv + 4 * i + lora))
    }

    /// Bytes that attention of so many branch tokens saves in one block: weights over what stands before each.
    fn branch_weights(&self, tokens: usize, before: usize) -> usize {
        let each = 4 + if self.narrow() { self.width() } else { 0 };
        tokens * self.model.num_attention_heads as usize * before * each
    }

    /// An update of so many tokens, a share of them predicted: all blocks, and in backward one block's gradients; under
    /// activation checkpointing the inputs of the blocks, and first the loss, then one block at a time.
    fn updating(&self, tokens: usize, predicted: usize, weights: usize) -> Vec<MemoryUse> {
        let [h, .., layers] = self.dims();
        let one = self.saved(tokens) + weights;
        let gradients = bytes("gradients of one block", self.passing(tokens) + 2 * weights);
        let chunk = self.vocabulary(predicted, LOSS_COPIES);
        if !self.config.train.checkpoint_activations {
            return vec![bytes("activations", one * layers), gradients, chunk];
        }
        let inputs = bytes("inputs of the blocks", tokens * h * self.width() * layers);
        match one as f64 + gradients.bytes > chunk.bytes {
            true => vec![inputs, bytes("activations of one block", one), gradients],
            false => vec![inputs, chunk],
        }
    }

    fn vocabulary(&self, tokens: usize, copies: usize) -> MemoryUse {
        let v = self.model.vocab_size as usize;
        let chunk = tokens.min(chunk_tokens(v as i64) as usize);
        bytes("vocabulary chunk", chunk * v * 4 * copies)
    }

    fn drawing(&self, rows: usize) -> MemoryUse {
        let rows = rows.min(rows_at_once(self.model.vocab_size) as usize);
        bytes("logits of a draw", rows * self.model.vocab_size as usize * DRAWN_BYTES)
    }

    fn teacher(&self) -> Vec<MemoryUse> {
        let s = self.sizes;
        let (rows, before) = (s.windows.min(ROWS_AT_ONCE), s.begin + s.prefix + s.local);
        let kept = if s.imagined > 0 { self.cache(rows * (before + s.imagined * s.future)) } else { 0 };
        let drawn = if s.imagined > 0 { rows * s.imagined } else { 0 };
        vec![
            bytes("keys and values", kept),
            bytes("one block", self.passing(rows * before.max(s.futures()))),
            self.drawing(drawn),
        ]
    }

    fn rollouts(&self) -> Vec<MemoryUse> {
        let s = self.sizes;
        let kept = if s.writes { self.cache(s.windows * (s.prompt + s.group * s.budget)) } else { 0 };
        vec![
            bytes("keys and values", kept),
            bytes("one block", self.passing(s.windows * s.prompt)),
            self.drawing(if s.writes { s.windows * s.group } else { 0 }),
        ]
    }

    fn reading(&self) -> Vec<MemoryUse> {
        let s = self.sizes;
        let rows = (s.windows * s.group).min(ROWS_AT_ONCE);
        let before = s.begin + s.budget + 1 + s.local;
        vec![
            bytes("keys and values", if s.imagined > 0 { self.cache(rows * before) } else { 0 }),
            bytes("one block", self.passing(rows * before.max(s.futures()))),
            self.vocabulary(rows * s.futures(), STATS_COPIES),
        ]
    }

    fn policy(&self) -> Vec<MemoryUse> {
        let s = self.sizes;
        let windows = s.windows.min(self.config.train.micro_windows);
        let written = if s.writes { s.group * s.budget } else { 0 };
        let tokens = windows * (s.prompt + written);
        let weights = self.branch_weights(windows * written, s.prompt + s.budget);
        self.updating(tokens, windows * written, weights)
    }

    fn reader(&self) -> Vec<MemoryUse> {
        let s = self.sizes;
        let rows = (s.windows * s.read).min(self.config.reader_rows());
        let tokens = rows * s.row();
        // Several futures of a row are branches of it.
        let futures = if s.imagined > 0 { rows * s.futures() } else { 0 };
        let weights = self.branch_weights(futures, s.begin + s.budget + 1 + s.local + s.future);
        self.updating(tokens, rows * s.futures(), weights)
    }
}
