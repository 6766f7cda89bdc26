//! Pretraining of a base model: packed rows, next-token cross-entropy, Muon and AdamW, exact resume. Prints what a
//! gist needs to know of a base: whether it uses its context (loss by position, induction, unadapted context value).
//!
//! Muon differs from Jordan et al. 2024 in that its updates are scaled by 0.2·√(longer side), so that one learning rate
//! suits both optimisers, and that embeddings, norms and the head stay with AdamW.

mod fresh;
mod held_out;
mod text;

use crate::config::pretrain::PretrainConfig;
use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::model::decoder::Decoder;
use crate::model::params::FlatParams;
use crate::model::read;
use crate::model::vocab::{self, Head};
use crate::model::weights;
use crate::rng::{self, Stream};
use crate::run_dir::{RunDir, write_atomic, write_json_atomic};
use crate::tensor::mean;
use crate::tokenizer::Tokenizer;
use crate::train::checkpoint;
use crate::train::optim::{Optimizer, StepInfo};
use crate::train::pretrain::fresh::{beginning, initial, model_config, tokenizer_config};
use crate::train::pretrain::held_out::Evaluator;
use crate::train::pretrain::text::{RowSampler, named, texts, tokenizer_for};
use crate::train::stage::{CheckpointRhythm, Counters, HeldOut, Learner, Ledger, Stage, Updated, ValidationRhythm};
use crate::train::trainee::Update;
pub use held_out::BaseFigures;
use serde::Serialize;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tch::{Device, Kind, Tensor};
pub use text::PretrainingText;

/// Record of a finished pretraining: `record.json` beside the model.
#[derive(Serialize)]
struct PretrainingRecord {
    experiment: String,
    seed: u64,
    device: String,
    threads: i32,
    parameters: i64,
    steps: usize,
    tokens_seen: usize,
    training_tokens: usize,
    epochs: f64,
    seconds: f64,
    tokens_per_second: f64,
    held_out: BaseFigures,
    loss_curve: Vec<(usize, f64)>,
}

/// Everything a step needs.
struct Pretraining<'a> {
    config: &'a PretrainConfig,
    rows: RowSampler<'a>,
    evaluator: Evaluator,
    model: ModelConfig,
    params: FlatParams,
    optim: Optimizer,
    kind: Kind,
    /// The model over views of the parameters as they are now.
    decoder: Decoder,
    run: &'a RunDir,
    ledger: Ledger<'a>,
}

/// Rows, evaluator and weights that a run starts from.
struct Ready<'a> {
    rows: RowSampler<'a>,
    evaluator: Evaluator,
    model: ModelConfig,
    params: FlatParams,
    begin: Vec<u32>,
}

/// Fresh weights, or those of `init`.
fn first_params(config: &PretrainConfig, model: &ModelConfig, device: Device) -> Result<FlatParams> {
    rng::seed_torch(config.seed, Stream::Init, 0, 0);
    let mut params = FlatParams::pack(&initial(model, device), device)?;
    if let Some(folder) = config.init_folder()? {
        params.load(&weights::read_model(&folder, model, Kind::Float, device)?)?;
    }
    Ok(params)
}

/// Trains a base into `config.output`; returns the held-out figures.
pub fn run(
    config: &PretrainConfig,
    text: PretrainingText,
    run: &RunDir,
    device: Device,
    stop: &AtomicBool,
) -> Result<BaseFigures> {
    let PretrainingText { train, valid, tokenizer } = text;
    let tokenizer = tokenizer.map_or_else(|| tokenizer_for(config, run, &train), Ok)?;
    let (tokenizer, begin) = beginning(config, tokenizer)?;
    let rows = RowSampler::new(config, &tokenizer, &train).map_err(named(&config.data.train))?;
    let valid_ids = tokenizer.encode_all(&texts(&valid))?;
    let evaluator = Evaluator::new(config, &tokenizer, &valid_ids).map_err(named(&config.data.valid))?;
    let model = model_config(config, &tokenizer, &begin);
    model.check().map_err(Error::Invalid)?;
    let ready = Ready { rows, evaluator, params: first_params(config, &model, device)?, model, begin };
    let mut session = Pretraining::open(config, ready, run, stop)?;
    let (steps, tokens) = (config.train.steps, config.train.batch_rows * config.rows.tokens);
    let stage = Stage {
        title: "pretrain",
        updates: 0..steps,
        run_seed: config.seed,
        validation: Some(ValidationRhythm { every: config.train.eval_every, from: 0 }),
        before: None,
        tokens: Some(tokens),
    };
    stage.run(&mut session, |session, number| {
        let (loss, info) = session.step(number)?;
        let figures = [("train/loss", loss), ("optim/grad_norm", info.grad_norm), ("optim/lr", info.lr)];
        Ok(Updated { metrics: figures.into(), live: format!("loss {loss:.3}") })
    })?;
    // What is written is f32, so that is what is measured.
    session.kind = Kind::Float;
    session.decoder = session.fresh_decoder()?;
    let figures = session.evaluator.measure(&session.decoder)?;
    session.export(&tokenizer, &figures)?;
    Ok(figures)
}

impl<'a> Pretraining<'a> {
    /// Starts from the ready weights, or from those of the run's last checkpoint.
    fn open(config: &'a PretrainConfig, ready: Ready<'a>, run: &'a RunDir, stop: &'a AtomicBool) -> Result<Self> {
        let Ready { rows, evaluator, model, mut params, begin } = ready;
        let kind = config.hardware.kind();
        let mut optim = match &config.muon {
            Some(muon) => Optimizer::muon(&config.optim, &params, muon.lr, kind),
            None => Optimizer::adamw(&config.optim, &params),
        };
        let mut counters = Counters::default();
        if let Some((_, folder)) = checkpoint::latest(&run.checkpoints())? {
            checkpoint::prune(&run.checkpoints(), checkpoint::KEPT)?;
            counters = checkpoint::state(&folder)?;
            params.load(&checkpoint::tensors(&folder, "model")?)?;
            optim.load(&checkpoint::tensors(&folder, "optimizer")?)?;
        }
        let pause = Duration::try_from_secs_f64(config.train.checkpoint_minutes * 60.0).ok();
        let rhythm = CheckpointRhythm { every: config.train.checkpoint_every, pause };
        let mut ledger = Ledger::new(Some(run), counters, rhythm, stop);
        ledger.open_log()?;
        let decoder = Decoder::from_named(&model, params.views_in(kind))?.beginning(begin)?;
        Ok(Self { config, rows, evaluator, model, params, optim, kind, decoder, run, ledger })
    }

    /// A decoder over fresh views of the parameters: backward spends them.
    fn fresh_decoder(&self) -> Result<Decoder> {
        let begin = self.decoder.begin().to_vec();
        Decoder::from_named(&self.model, self.params.views_in(self.kind))?.beginning(begin)
    }

    /// One update; returns its loss, nats a token.
    fn step(&mut self, number: usize) -> Result<(f64, StepInfo)> {
        let config = self.config;
        let (count, t) = (config.train.batch_rows, (self.decoder.begin().len() + config.rows.tokens) as i64);
        let rows: Vec<Vec<u32>> = (0..count).map(|r| self.rows.row(number * count + r)).collect();
        let device = self.decoder.device();
        let weight = 1.0 / (rows.len() as f64 * t as f64);
        let mut loss = 0.0;
        for micro in rows.chunks(config.train.micro_rows) {
            let (ids, pad) = read::rows(&self.decoder, micro)?;
            let hidden = self.decoder.forward(&ids.narrow(1, 0, t), &pad, None)?;
            let flat = hidden.reshape([-1, self.model.hidden_size]);
            let targets = ids.narrow(1, 1, t).reshape([-1]).to_device(device);
            let weights = Tensor::full([targets.size()[0]], weight, (Kind::Float, device));
            let head = Head::base(self.decoder.head());
            let (value, surrogate) = vocab::cross_entropy_surrogate(&flat, &targets, head, &weights)?;
            surrogate.f_backward()?;
            loss += value;
            self.decoder = self.fresh_decoder()?;
        }
        let factor = config.schedule.factor(number, config.train.steps, config.optim.warmup_steps);
        let taken = if loss.is_finite() { self.optim.step(&self.params, factor)? } else { Err(loss) };
        match taken {
            Ok(info) => {
                self.decoder = self.fresh_decoder()?;
                Ok((loss, info))
            }
            Err(_) => {
                let update = Update { number, lr_factor: factor, root: self.run.root(), batch: &rows };
                Err(update.non_finite(format!("loss ({loss}) or its gradient")))
            }
        }
    }

    /// Writes the finished model in Hugging Face layout, with its record.
    fn export(&self, tokenizer: &Tokenizer, figures: &BaseFigures) -> Result<()> {
        let folder = &self.config.output;
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        weights::write(&folder.join("model.safetensors"), &self.params.named())?;
        write_json_atomic(&folder.join("config.json"), &self.model)?;
        write_atomic(&folder.join("tokenizer.json"), tokenizer.to_json()?.as_bytes())?;
        let told = tokenizer_config(tokenizer, self.decoder.begin())?;
        write_json_atomic(&folder.join("tokenizer_config.json"), &told)?;
        let Counters { update: steps, seconds } = self.ledger.counters();
        let tokens_seen = steps * self.config.train.batch_rows * self.config.rows.tokens;
        let record = PretrainingRecord {
            experiment: self.config.name.clone(),
            seed: self.config.seed,
            device: self.config.hardware.device.clone(),
            threads: self.config.hardware.threads,
            parameters: self.params.numel(),
            steps,
            tokens_seen,
            training_tokens: self.rows.stream.len(),
            epochs: tokens_seen as f64 / self.rows.stream.len() as f64,
            seconds,
            tokens_per_second: tokens_seen as f64 / seconds,
            held_out: figures.clone(),
            loss_curve: loss_curve(self.run)?,
        };
        write_json_atomic(&folder.join("record.json"), &record)
    }
}

impl<'a> Learner<'a> for Pretraining<'a> {
    fn ledger(&mut self) -> &mut Ledger<'a> {
        &mut self.ledger
    }

    fn validate(&mut self) -> Result<HeldOut> {
        let figures = self.evaluator.measure(&self.decoder)?;
        Ok(HeldOut { metrics: figures.metrics(), said: figures.to_string() })
    }

    fn save(&mut self) -> Result<()> {
        let groups = vec![("model".to_string(), self.params.named()), ("optimizer".to_string(), self.optim.state())];
        let counters = self.ledger.counters();
        checkpoint::save(&self.run.checkpoint(counters.update), counters.update, &groups, &counters, |_| Ok(()))?;
        checkpoint::prune(&self.run.checkpoints(), checkpoint::KEPT)
    }
}

/// Training loss averaged over about a hundred stretches of `metrics.jsonl`.
fn loss_curve(run: &RunDir) -> Result<Vec<(usize, f64)>> {
    let path = run.metrics();
    let text = std::fs::read_to_string(&path).map_err(|e| Error::io(&path, e))?;
    let losses: Vec<f64> = text
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()?.get("train/loss")?.as_f64())
        .collect();
    let stretch = losses.len().div_ceil(100).max(1);
    Ok(losses.chunks(stretch).enumerate().map(|(i, c)| (i * stretch + c.len(), mean(c))).collect())
}
