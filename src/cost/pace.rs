//! Speed of this machine at the shapes of an experiment, before anything of it is loaded: one block of the base and its
//! output head, with weights that say nothing, for about a second. A whole model of so many blocks takes so many times as
//! long, and what a matrix product alone would leave out (norms, attention, many small operations) is in it.

use crate::config::parts::Sampling;
use crate::config::train::TrainConfig;
use crate::cost::work::{Sizes, Work, block_flops, head_flops};
use crate::error::Result;
use crate::model::config::ModelConfig;
use crate::model::decoder::Decoder;
use crate::model::kernels::Weight;
use crate::model::lora::Adapter;
use crate::model::sampling;
use crate::model::site::BranchCache;
use crate::model::vocab::{self, Head, chunk_tokens};
use crate::rng::{self, Stream};
use std::time::Instant;
use tch::{Device, Kind, Tensor};

/// Operations a second, of those that [`Work::flops`] counts.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Blocks over many tokens at once.
    pub forward: f64,
    /// Blocks there and back.
    pub update: f64,
    /// Blocks over one token of every gist.
    pub decode: f64,
    /// The head over a chunk, in a loss.
    pub head: f64,
    /// The head over one token of every gist, and a draw.
    pub draw: f64,
}

/// Tokens of a measurement, about.
const TOKENS: usize = 1536;
/// Steps of decoding measured.
const STEPS: usize = 4;
/// Runs of a measurement.
const RUNS: usize = 3;
/// Vocabulary of the block alone.
const FEW: i64 = 64;

impl Pace {
    /// Seconds of a part of a step.
    pub fn seconds(&self, work: &Work, model: &ModelConfig) -> f64 {
        let (block, head) = (block_flops(model) * model.num_hidden_layers as f64, head_flops(model));
        let blocks = work.forward as f64 / self.forward
            + 2.0 * work.update as f64 / self.update
            + work.decode as f64 / self.decode;
        let heads = (work.heads + 3 * work.update_heads) as f64 / self.head + work.decode_heads as f64 / self.draw;
        blocks * block + heads * head
    }

    /// Measures the pace of this machine.
    pub fn measure(config: &TrainConfig, model: &ModelConfig, sizes: Sizes, device: Device) -> Result<Self> {
        let kind = config.hardware.kind();
        rng::seed_torch(0, Stream::Init, 0, 0);
        let one = ModelConfig {
            num_hidden_layers: 1,
            vocab_size: FEW,
            tie_word_embeddings: true,
            layer_types: model.layer_types.as_ref().map(|kinds| kinds[..1].to_vec()),
            max_position_embeddings: (sizes.prompt + sizes.budget + sizes.row() + STEPS) as i64,
            ..model.clone()
        };
        let block = Decoder::random(&one, device, kind)?.checkpointed(config.train.checkpoint_activations);
        let adapter = Adapter::fresh(&one, &config.model.lora.compressor, block.embedding())?;
        let row = sizes.row();
        let rows = (TOKENS / row).clamp(1, config.reader_rows());
        let ids = Tensor::randint(FEW, [rows as i64, row as i64], (Kind::Int64, device));
        let pad = vec![0; rows];
        let flops = (rows * row) as f64 * block_flops(model);
        let forward = timed(|| {
            let _guard = tch::no_grad_guard();
            let hidden = block.forward(&ids, &pad, Some(&block.activate(&adapter, false)?))?;
            Ok(hidden.sum(Kind::Float).double_value(&[]))
        })?;
        let update = timed(|| {
            let active = block.activate(&adapter, true)?;
            let loss = block.forward(&ids, &pad, Some(&active))?.sum(Kind::Float);
            block.backward(&loss, &active)?;
            Ok(adapter.params().leaf().grad().norm().double_value(&[]))
        })?;
        let decode = decode(&block, &adapter, &sizes)?;
        let head: Weight = Tensor::full([model.vocab_size, model.hidden_size], 0.01, (kind, device)).into();
        let hidden = |n: i64| Tensor::randn([n, model.hidden_size], (Kind::Float, device)).to_kind(kind);
        let chunk = chunk_tokens(model.vocab_size).min((sizes.windows * sizes.group * sizes.budget) as i64);
        let (states, targets) = (hidden(chunk), Tensor::zeros([chunk], (Kind::Int64, device)));
        let losses = timed(|| {
            let weights = Tensor::ones([chunk], (Kind::Float, device));
            let states = states.detach().set_requires_grad(true);
            let (value, surrogate) = vocab::cross_entropy_surrogate(&states, &targets, Head::base(&head), &weights)?;
            surrogate.f_backward()?;
            Ok(value)
        })?;
        let drawn = (sizes.windows * sizes.group) as i64;
        let last = hidden(drawn);
        let draws = timed(|| {
            let _guard = tch::no_grad_guard();
            let uniforms = Tensor::full([drawn], 0.5, (Kind::Double, device));
            let picked = sampling::draw(&last, Head::base(&head), &Sampling::default(), &uniforms)?;
            Ok(picked.action.sum(Kind::Float).double_value(&[]))
        })?;
        Ok(Self {
            forward: flops / forward,
            update: 2.0 * flops / update,
            decode,
            // Forward, and back to the hidden states.
            head: 2.0 * chunk as f64 * head_flops(model) / losses,
            draw: drawn as f64 * head_flops(model) / draws,
        })
    }
}

fn decode(block: &Decoder, adapter: &Adapter, sizes: &Sizes) -> Result<f64> {
    let _guard = tch::no_grad_guard();
    let device = block.device();
    let windows = (2 * TOKENS / sizes.prompt).clamp(1, sizes.windows);
    let (n, g) = (windows as i64, sizes.group as i64);
    let active = block.activate(adapter, false)?;
    let prompt = Tensor::randint(FEW, [n, sizes.prompt as i64], (Kind::Int64, device));
    let (_, cache) = block.prefill(&prompt, &vec![0; windows], Some(&active))?;
    let next = Tensor::randint(FEW, [n, g, 1], (Kind::Int64, device));
    // Half of the gists are there: so many they read on the mean.
    let written = (sizes.budget / 2).max(1);
    let half = Tensor::randint(FEW, [n, g, written as i64], (Kind::Int64, device));
    let mut grown = BranchCache::new(written + RUNS * STEPS / 2);
    let _ = block.branches(&half, &cache, Some(&mut grown), Some(&active))?;
    let seconds = timed(|| {
        for _ in 0..STEPS / 2 {
            let _ = block.branches(&next, &cache, Some(&mut grown), Some(&active))?;
        }
        Ok(0.0)
    })?;
    Ok((windows * sizes.group * (STEPS / 2)) as f64 * block_flops(block.config()) / seconds)
}

/// Seconds of `work`: the least of a few runs, the first of which warms up.
fn timed(mut work: impl FnMut() -> Result<f64>) -> Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..RUNS {
        let clock = Instant::now();
        work()?;
        least = least.min(clock.elapsed().as_secs_f64());
    }
    Ok(least)
}
