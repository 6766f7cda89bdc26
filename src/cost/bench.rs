//! `bench`: how fast the parts of a co-training step run on this machine, and what share of the measured matrix-product
//! rate they reach. The scripts in `bench/` do the same work with PyTorch and transformers.

use crate::algo;
use crate::compressor::Request;
use crate::compressor::actions::{Draws, Trajectory, uniforms};
use crate::compressor::policy::Policy;
use crate::config::choices::AlgoConfig;
use crate::config::parts::Sampling;
use crate::config::train::AlgoSection;
use crate::cost::memory;
use crate::cost::work::Sizes;
use crate::error::Result;
use crate::model::decoder::Decoder;
use crate::model::lora::Adapter;
use crate::reading::{as_rows, reader_context, request};
use crate::tensor::median;
use crate::train::inputs::Inputs;
use crate::train::roles::{fresh_compressor, fresh_reader};
use crate::train::shards::Shards;
use crate::train::trainee::{Trainee, Update};
use crate::train::updates::{PolicyBatch, ReaderBatch, policy_step, reader_step};
use serde::Serialize;
use std::path::Path;
use std::time::Instant;
use tch::{Device, Kind, Tensor};

/// Seconds of one part of a step, and how close it comes to the machine's matrix-product rate.
#[derive(Clone, Debug, Serialize)]
pub struct StepPart {
    /// Name of the part.
    pub name: String,
    /// Median seconds.
    pub seconds: f64,
    /// Largest resident memory of the process while it ran, MiB.
    pub peak_rss_mib: f64,
    /// Tokens processed.
    pub tokens: f64,
    /// Share of the measured matrix-product rate that its multiply-adds account for.
    pub gemm_share: f64,
}

/// Everything `bench` measures.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Device in words.
    pub device: String,
    /// CPU threads.
    pub threads: i32,
    /// Kind of the base and its activations.
    pub dtype: String,
    /// Rate of a matrix product of 1024³, on a GPU of 8192³, GFLOP/s.
    pub gemm_gflops: f64,
    /// Sampled gist tokens a second at the configured group size.
    pub rollout_tokens_per_second: f64,
    /// Median seconds of a whole step.
    pub step_seconds: f64,
    /// Parts of a step, with the time of each.
    pub parts: Vec<StepPart>,
    /// Share of the matrix-product rate that the multiply-adds of both updates account for.
    pub training_gemm_share: f64,
    /// Sampling at some batch sizes.
    pub decoding: Vec<Decoding>,
    /// Seconds of rollouts by group size.
    pub rollout_seconds_by_group: Vec<(usize, f64)>,
    /// Resident memory of the process when everything is loaded, MiB.
    pub loaded_rss_mib: f64,
    /// Largest resident memory of the process up to the end of the step's parts, MiB.
    pub peak_rss_mib: f64,
    /// Memory of a GPU in use at that time, MiB. libtorch gives nothing back before its end, so that this is its peak, and
    /// what others use of the device.
    pub device_memory_mib: Option<f64>,
    /// Windows of a step, group size, P, L, F, K.
    pub sizes: [usize; 6],
    /// Measurements per figure.
    pub repeats: usize,
}

/// Sampling of gists for some windows, and its speed.
#[derive(Clone, Debug, Serialize)]
pub struct Decoding {
    /// Gists that are written at once.
    pub batch: usize,
    /// Windows that they are of.
    pub windows: usize,
    /// Tokens a second, reading the prompts included.
    pub tokens_per_second: f64,
    /// Tokens a second after the first token of each gist, by the difference to writing one token each.
    pub decode_tokens_per_second: f64,
}

/// Batches of [`Decoding`].
const BATCHES: [usize; 2] = [8, 64];

/// Waits until all that was asked of a device is computed.
fn synchronize(device: Device) {
    if let Device::Cuda(number) = device {
        tch::Cuda::synchronize(number as i64);
    }
}

/// Time and memory of repeated work.
#[derive(Clone, Copy)]
struct Timed {
    /// Median seconds.
    seconds: f64,
    /// Resident memory of the process at its peak, MiB.
    peak_rss_mib: f64,
}

/// Runs `work` on `device` `repeats` times after one warm-up.
fn timed<T>(device: Device, repeats: usize, mut work: impl FnMut() -> Result<T>) -> Result<Timed> {
    memory::forget_peak();
    work()?;
    synchronize(device);
    let mut seconds = Vec::with_capacity(repeats);
    for _ in 0..repeats {
        let clock = Instant::now();
        work()?;
        synchronize(device);
        seconds.push(clock.elapsed().as_secs_f64());
    }
    Ok(Timed { seconds: median(seconds), peak_rss_mib: memory::peak_rss_mib() })
}

/// A policy that samples, and how often it is timed.
struct Sampler<'a> {
    decoder: &'a Decoder,
    policy: &'a Policy<'a>,
    adapter: &'a Adapter,
    repeats: usize,
}

/// Sampled groups, their tokens, and what it took.
struct SampledGroups {
    groups: Vec<Vec<Trajectory>>,
    tokens: f64,
    time: Timed,
}

impl Sampler<'_> {
    fn sample(&self, requests: &[Request], group: usize, budget: usize) -> Result<Vec<Vec<Trajectory>>> {
        let active = self.decoder.activate(self.adapter, false)?;
        let uniforms = |r: usize, s: usize| uniforms(0, 0, r as u64, s as u64, budget);
        let draws = Draws { group, budget, how: &Sampling::default(), uniforms: &uniforms };
        self.policy.sample(&active, requests, draws)
    }

    fn timed(&self, requests: &[Request], group: usize, budget: usize) -> Result<SampledGroups> {
        let groups = self.sample(requests, group, budget)?;
        let tokens = groups.iter().flatten().map(|gist| gist.actions() as f64).sum();
        let time = timed(self.decoder.device(), self.repeats, || self.sample(requests, group, budget))?;
        Ok(SampledGroups { groups, tokens, time })
    }

    /// Speed at some batch sizes; `group` is that of the experiment, K its budget.
    fn decoding(&self, inputs: Inputs, group: usize) -> Result<Vec<Decoding>> {
        let one = |batch: usize| {
            let windows = inputs.training_windows(1, (batch / group).max(1))?;
            let requests: Vec<_> = windows.iter().map(|w| request(w, inputs.config.condition, 0)).collect();
            let group = batch / requests.len();
            let first = self.timed(&requests, group, 1)?;
            let whole = self.timed(&requests, group, inputs.budget())?;
            Ok(Decoding {
                batch: group * requests.len(),
                windows: requests.len(),
                tokens_per_second: whole.tokens / whole.time.seconds,
                decode_tokens_per_second: (whole.tokens - first.tokens) / (whole.time.seconds - first.time.seconds),
            })
        };
        BATCHES.into_iter().map(one).collect()
    }
}

/// The rate of a square matrix product, GFLOP/s.
fn gemm_gflops(device: Device, kind: Kind, repeats: usize) -> Result<f64> {
    let side = if device.is_cuda() { 8192 } else { 1024 };
    let square = Tensor::randn([side, side], (Kind::Float, device)).to_kind(kind);
    let time = timed(device, repeats.max(5), || Ok(square.matmul(&square)))?;
    Ok(2.0 * (side as f64).powi(3) / time.seconds / 1e9)
}

/// Times the parts of a step of an experiment with fresh adapters; gists run to the cap.
pub fn run(inputs: Inputs, folder: &Path, repeats: usize) -> Result<Figures> {
    let Inputs { config, models, windows: text } = inputs;
    let (decoder, model) = (&models.decoder, models.decoder.config());
    let device = decoder.device();
    let loaded_rss_mib = memory::rss_mib("VmRSS:");
    let gemm_gflops = gemm_gflops(device, config.hardware.kind(), repeats)?;

    let mut compressor = Trainee::new("compressor", fresh_compressor(config, models)?, &config.optim.compressor);
    let mut generator = Trainee::new("generator", fresh_reader(config, models)?, &config.optim.generator);
    // What a run holds besides: the empty reader, and adapters as they were or on the mean.
    let empty_reader = Trainee::new("empty_reader", fresh_reader(config, models)?, &config.optim.generator);
    let frozen: Vec<Adapter> = [&compressor, &compressor, &generator].map(|role| role.adapter.duplicate()).into();
    let policy = models.policy(&config.compressor)?;
    let windows = inputs.training_windows(0, config.train.windows_per_step)?;
    let (n, g, k) = (windows.len(), config.rollout.group_size, inputs.budget());
    let requests: Vec<_> = windows.iter().enumerate().map(|(i, w)| request(w, config.condition, i as u64)).collect();
    let sampler = Sampler { decoder, policy: &policy, adapter: &frozen[0], repeats };
    let SampledGroups { groups, tokens: gist_tokens, time: rollouts } = sampler.timed(&requests, g, k)?;

    let teacher = timed(device, repeats, || inputs.taught(0, &windows))?;
    let taught = inputs.taught(0, &windows)?;
    let contexts: Vec<(usize, Vec<u32>)> = (groups.iter().enumerate())
        .flat_map(|(w, group)| group.iter().map(move |gist| (w, reader_context(&gist.ids, true, model.vocab_size))))
        .collect();
    let rows = as_rows(&contexts);
    let read = timed(device, repeats, || {
        let active = decoder.activate(&generator.adapter, false)?;
        taught.measure(decoder, Some(&active), &rows)
    })?;

    let sliced: Vec<&[Trajectory]> = groups.iter().map(Vec::as_slice).collect();
    let advantages: Vec<Vec<f64>> = (0..n).map(|_| (0..g).map(|i| i as f64 - (g - 1) as f64 / 2.0).collect()).collect();
    let batch = PolicyBatch {
        policy: &policy,
        reference: None,
        requests: &requests,
        groups: &sliced,
        advantages: &algo::per_action(&advantages, &sliced, None),
        micro: config.train.micro_windows,
        divisor: (n * g * k) as f64,
    };
    // The same work in every repeat: no weight moves.
    let update = Update { number: 0, lr_factor: 0.0, root: folder, batch: &windows };
    let shards = Shards::WHOLE;
    let whole = shards.pass(0);
    let section = AlgoSection { estimator: AlgoConfig::Rloo {}, ..AlgoSection::default() };
    let policy_update = timed(device, repeats, || {
        policy_step(decoder, &mut compressor, (whole, std::slice::from_ref(&batch)), &section, &update)
    })?;
    let learned = rows.iter().enumerate().filter(|(i, _)| i % g < config.generator.gists_per_window);
    let learned: Vec<(usize, &[u32])> = learned.map(|(_, row)| *row).collect();
    let batch = [ReaderBatch { taught: &taught, rows: &learned, at_once: config.reader_rows(), of: learned.len() }];
    let reader_update = timed(device, repeats, || reader_step(decoder, &mut generator, (whole, &batch), &update))?;
    let in_use = |(free, total): (f64, f64)| total - free;
    let device_memory_mib = memory::free_and_total_mib(device).filter(|_| device.is_cuda()).map(in_use);
    drop(empty_reader);
    let mut rollout_seconds_by_group = Vec::new();
    for group in [4, 16] {
        rollout_seconds_by_group.push((group, sampler.timed(&requests, group, k)?.time.seconds));
    }
    let decoding = sampler.decoding(inputs, g)?;
    let measured = [teacher, rollouts, read, policy_update, reader_update];
    let parts =
        Sizes::new(config, decoder.begin().len()).parts().into_iter().zip(measured).map(|(work, time)| StepPart {
            name: work.name.into(),
            seconds: time.seconds,
            peak_rss_mib: time.peak_rss_mib,
            tokens: work.tokens() as f64,
            gemm_share: work.flops(model) / time.seconds / (gemm_gflops * 1e9),
        });
    let parts: Vec<StepPart> = parts.collect();
    let updates = || parts.iter().filter(|part| part.name.ends_with("update"));
    let training_gemm_share =
        updates().map(|p| p.gemm_share * p.seconds).sum::<f64>() / updates().map(|p| p.seconds).sum::<f64>();
    let peak_rss_mib = parts.iter().map(|part| part.peak_rss_mib).fold(loaded_rss_mib, f64::max);
    Ok(Figures {
        device: config.hardware.device.clone(),
        threads: config.hardware.threads,
        dtype: config.hardware.dtype.clone(),
        gemm_gflops,
        rollout_tokens_per_second: gist_tokens / rollouts.seconds,
        step_seconds: parts.iter().map(|p| p.seconds).sum(),
        parts,
        training_gemm_share,
        decoding,
        rollout_seconds_by_group,
        loaded_rss_mib,
        peak_rss_mib,
        device_memory_mib,
        sizes: [n, g, text.shape.prefix, text.shape.local, text.shape.future, k],
        repeats,
    })
}
