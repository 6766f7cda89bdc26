//! Pretraining of a base model: packed rows, next-token cross-entropy, Muon and AdamW, exact resume. Prints what a
//! gist needs to know of a base: whether it uses its context (loss by position, induction, unadapted context value).

use crate::base;
use crate::config::pretrain::PretrainConfig;
use crate::data::{self, Document, Split};
use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::model::decoder::Decoder;
use crate::model::params::FlatParams;
use crate::model::vocab::{self, Head};
use crate::model::weights;
use crate::rng::{self, Stream};
use crate::run_dir::{Log, RunDir, write_atomic, write_json_atomic};
use crate::tokenizer::Tokenizer;
use crate::train::base_eval::{self, BaseFigures};
use crate::train::checkpoint;
use crate::train::fresh::{initial, model_config};
use crate::train::optim::Optimizer;
use crate::train::progress::Progress;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tch::{Device, Kind, Tensor};

/// Where a resumed run continues.
#[derive(Serialize, Deserialize)]
struct State {
    step: usize,
    seconds: f64,
}

/// What pretraining reports at the end; `record.json` beside the model.
#[derive(Serialize)]
struct Record {
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
    stream: Vec<u32>,
    /// Where in it the documents begin that are no shorter than a row.
    starts: Vec<usize>,
    /// Ids of ordinary tokens.
    ordinary: Range<u32>,
    /// Announces a collage.
    mark: u32,
    model: ModelConfig,
    params: FlatParams,
    optim: Optimizer,
    kind: Kind,
}

/// The text of a run, and its tokenizer when one is given.
pub struct Text {
    train: Vec<Document>,
    valid: Vec<Document>,
    tokenizer: Option<Tokenizer>,
}

impl Text {
    /// Reads it.
    pub fn load(config: &PretrainConfig) -> Result<Text> {
        let tokenizer = Self::given_tokenizer(config)?.as_deref().map(Tokenizer::load_to_train).transpose()?;
        let train = read_all(&config.data.train, config, Split::Train)?;
        let valid = read_all(&config.data.valid, config, Split::Valid)?;
        Ok(Text { train, valid, tokenizer })
    }

    fn given_tokenizer(config: &PretrainConfig) -> Result<Option<PathBuf>> {
        let of_base = config.init_folder()?.map(|folder| base::file(&folder, base::TOKENIZER));
        Ok(of_base.or_else(|| config.tokenizer.path.clone()))
    }

    /// The files that it is read from.
    pub fn files(config: &PretrainConfig) -> Result<Vec<PathBuf>> {
        let weights = config.init_folder()?.into_iter().flat_map(|folder| weights::files(&folder));
        let given = Self::given_tokenizer(config)?.into_iter().chain(weights);
        Ok(config.data.train.iter().chain(&config.data.valid).cloned().chain(given).collect())
    }
}

/// Trains a base into `config.output`; returns the held-out figures.
pub fn run(
    config: &PretrainConfig,
    text: Text,
    run: &RunDir,
    device: Device,
    stop: &AtomicBool,
) -> Result<BaseFigures> {
    let Text { train, valid, tokenizer } = text;
    let tokenizer = tokenizer.map_or_else(|| tokenizer_for(config, run, &train), Ok)?;
    let valid_ids = tokenizer.encode_all(&texts(&valid))?;
    let len = config.rows.tokens + 1;
    let (stream, starts) = pack(&tokenizer, &train, len)?;
    if stream.len() < 2 * len {
        let expected = format!("at least {} tokens", 2 * len);
        return Err(named(&config.data.train)(Error::shape("text", expected, stream.len())));
    }
    if !config.rows.packed && starts.is_empty() {
        let expected = format!("a document of at least {} tokens, as rows.packed = false needs", config.rows.tokens);
        return Err(named(&config.data.train)(Error::shape("text", expected, "none")));
    }
    let evaluator = base_eval::Evaluator::new(config, &tokenizer, &valid_ids).map_err(named(&config.data.valid))?;
    let model = model_config(config, &tokenizer);
    model.check().map_err(Error::Invalid)?;
    rng::seed_torch(config.seed, Stream::Init, 0, 0);
    let mut params = FlatParams::pack(&initial(&model, device), device)?;
    if let Some(folder) = config.init_folder()? {
        params.load(&weights::read_model(&folder, &model, Kind::Float, device)?)?;
    }
    let kind = config.hardware.kind();
    let optim = match &config.muon {
        Some(muon) => Optimizer::muon(&config.optim, &params, muon.lr, kind),
        None => Optimizer::adamw(&config.optim, &params),
    };
    let ordinary = tokenizer.special_ids().len() as u32..tokenizer.vocab_size() as u32;
    let mark = tokenizer.require_end_of_text()?;
    let mut session = Pretraining { config, stream, starts, ordinary, mark, model, params, optim, kind };
    let mut state = State { step: 0, seconds: 0.0 };
    if let Some((_, folder)) = checkpoint::latest(&run.checkpoints())? {
        checkpoint::prune(&run.checkpoints(), checkpoint::KEPT)?;
        state = checkpoint::state(&folder)?;
        session.params.load(&checkpoint::tensors(&folder, "model")?)?;
        session.optim.load(&checkpoint::tensors(&folder, "optimizer")?)?;
    }
    let mut log = Log::open(run, state.step)?;
    let started = Instant::now();
    let before = state.seconds;
    let mut last_save = Instant::now();
    let progress = Progress::new("pretrain", config.train.steps, state.step);
    let mut decoder = session.decoder(None)?;
    while state.step < config.train.steps {
        let step = state.step;
        let clock = Instant::now();
        let (loss, info) = session.step(step, &mut decoder, run)?;
        let tokens = config.train.batch_rows * config.rows.tokens;
        let mut row = vec![("train/loss", loss), ("optim/grad_norm", info.grad_norm), ("optim/lr", info.lr)];
        let figures;
        let finished = step + 1 == config.train.steps;
        if (step + 1).is_multiple_of(config.train.eval_every) || finished {
            figures = evaluator.measure(&decoder)?;
            row.extend(figures.row());
            progress.note(&format!("step {}: {figures}", step + 1));
        }
        log.metrics(step, &row)?;
        let seconds = clock.elapsed().as_secs_f64();
        log.timings(step, &[("time/step_s", seconds), ("time/tokens_per_second", tokens as f64 / seconds)])?;
        progress.step(&format!("loss {loss:.3}  {:.0} tok/s", tokens as f64 / seconds));
        state.step += 1;
        state.seconds = before + started.elapsed().as_secs_f64();
        let asked = stop.load(Ordering::SeqCst);
        let due = last_save.elapsed().as_secs_f64() > config.train.checkpoint_minutes * 60.0
            || config.train.checkpoint_every.is_some_and(|n| state.step.is_multiple_of(n));
        if asked || finished || due {
            session.save(run, &state)?;
            last_save = Instant::now();
        }
        if asked && !finished {
            return Err(Error::Interrupted { step: state.step });
        }
    }
    progress.finish();
    // What is written is f32, so that is what is measured.
    session.kind = Kind::Float;
    let figures = evaluator.measure(&session.decoder(None)?)?;
    session.export(run, &tokenizer, &state, &figures)?;
    Ok(figures)
}

/// Names the files in an error about their documents.
fn named(files: &[PathBuf]) -> impl Fn(Error) -> Error {
    move |error| match (files, error) {
        ([first, ..], error @ (Error::Shape { .. } | Error::Invalid(_))) => Error::file(first, error.to_string()),
        (_, error) => error,
    }
}

fn read_all(paths: &[PathBuf], config: &PretrainConfig, split: Split) -> Result<Vec<Document>> {
    let mut all = match &config.data.recall {
        Some(section) => data::generate(section, split)?,
        None => Vec::new(),
    };
    for path in paths {
        all.extend(data::read_documents(path)?);
    }
    Ok(all)
}

fn texts(documents: &[Document]) -> Vec<&str> {
    documents.iter().map(|d| d.text.as_str()).collect()
}

/// The tokenizer of the run: trained by an earlier sitting, or trained now and kept in the run.
fn tokenizer_for(config: &PretrainConfig, run: &RunDir, documents: &[Document]) -> Result<Tokenizer> {
    let path = run.root().join("tokenizer.json");
    if path.exists() {
        return Tokenizer::load(&path);
    }
    let tokenizer = Tokenizer::train(documents.iter().map(|d| d.text.as_str()), config.tokenizer.vocab_size)?;
    write_atomic(&path, tokenizer.to_json()?.as_bytes())?;
    Tokenizer::load(&path)
}

/// All documents as one stream, an end-of-text after each, and where those begin that hold a row of `len`.
fn pack(tokenizer: &Tokenizer, documents: &[Document], len: usize) -> Result<(Vec<u32>, Vec<usize>)> {
    let end = tokenizer.require_end_of_text()?;
    let (mut stream, mut starts) = (Vec::new(), Vec::new());
    for ids in tokenizer.encode_all(&texts(documents))? {
        if ids.len() + 1 >= len {
            starts.push(stream.len());
        }
        stream.extend(ids);
        stream.push(end);
    }
    Ok((stream, starts))
}

impl Pretraining<'_> {
    /// A decoder over fresh views of the parameters.
    fn decoder(&self, old: Option<Decoder>) -> Result<Decoder> {
        let views = self.params.views_in(self.kind);
        match old {
            Some(decoder) => decoder.rebind(views),
            None => Decoder::from_named(&self.model, views),
        }
    }

    /// The `index`-th training row ever: epochs are permutations of the rows; packed ones have an offset an epoch.
    fn row(&self, index: usize) -> Vec<u32> {
        let len = self.config.rows.tokens + 1;
        let rows = if self.config.rows.packed { (self.stream.len() - len) / len } else { self.starts.len() };
        let (epoch, place) = (index / rows, index % rows);
        let place = permuted(place, rows, rng::seed(self.config.seed, Stream::Data, epoch as u64, 1, 0));
        let offset = || rng::below(&mut rng::rng(self.config.seed, Stream::Data, epoch as u64, 0, 0), len);
        let start = if self.config.rows.packed { offset() + place * len } else { self.starts[place] };
        let mut row = self.stream[start..start + len].to_vec();
        let mut draw = rng::rng(self.config.seed, Stream::Mix, index as u64, 0, 0);
        let (kind, rows) = (rng::uniform(&mut draw), &self.config.rows);
        if kind < rows.repeated_span_frac + rows.repeated_noise_frac {
            let noise = (kind >= rows.repeated_span_frac).then(|| self.ordinary.clone());
            data::with_repeated_span(&mut row, noise, &mut draw);
        } else if kind < rows.repeated_span_frac + rows.repeated_noise_frac + rows.collage_frac {
            data::with_collage(&mut row, self.mark, &mut draw);
        }
        row
    }

    fn step(
        &mut self,
        step: usize,
        decoder: &mut Decoder,
        run: &RunDir,
    ) -> Result<(f64, crate::train::optim::StepInfo)> {
        let loop_config = &self.config.train;
        let rows: Vec<Vec<u32>> =
            (0..loop_config.batch_rows).map(|r| self.row(step * loop_config.batch_rows + r)).collect();
        let t = self.config.rows.tokens as i64;
        let device = decoder.device();
        let weight = 1.0 / (rows.len() as f64 * t as f64);
        let mut loss = 0.0;
        for micro in rows.chunks(loop_config.micro_rows) {
            let slices: Vec<&[u32]> = micro.iter().map(Vec::as_slice).collect();
            let ids = crate::tensor::ids_2d(&slices, device)?;
            let hidden = decoder.forward(&ids.narrow(1, 0, t), &vec![0; micro.len()], None)?;
            let flat = hidden.reshape([-1, self.model.hidden_size]);
            let targets = ids.narrow(1, 1, t).reshape([-1]);
            let weights = Tensor::full([targets.size()[0]], weight, (Kind::Float, device));
            let (value, surrogate) =
                vocab::cross_entropy_surrogate(&flat, &targets, Head::base(decoder.head()), &weights)?;
            surrogate.f_backward()?;
            loss += value;
            // Views are spent by backward: cut new ones.
            let fresh = self.decoder(None)?;
            *decoder = fresh;
        }
        let factor = self.config.schedule.factor(step, loop_config.steps, self.config.optim.warmup_steps);
        let taken = if loss.is_finite() { self.optim.step(&self.params, factor)? } else { Err(loss) };
        match taken {
            Ok(info) => {
                *decoder = self.decoder(None)?;
                Ok((loss, info))
            }
            Err(_) => {
                let saved = run.root().join(format!("non_finite_step_{step:06}.json"));
                write_json_atomic(&saved, &rows)?;
                Err(Error::NonFinite { what: format!("loss ({loss}) or its gradient"), step, saved })
            }
        }
    }

    fn save(&self, run: &RunDir, state: &State) -> Result<()> {
        let groups = vec![("model".to_string(), self.params.named()), ("optimizer".to_string(), self.optim.state())];
        checkpoint::save(&run.checkpoint(state.step), state.step, &groups, state, |_| Ok(()))?;
        checkpoint::prune(&run.checkpoints(), checkpoint::KEPT)
    }

    /// Writes the finished model in Hugging Face layout, with its record.
    fn export(&self, run: &RunDir, tokenizer: &Tokenizer, state: &State, figures: &BaseFigures) -> Result<()> {
        let folder = &self.config.output;
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        weights::write(&folder.join("model.safetensors"), &self.params.named())?;
        write_json_atomic(&folder.join("config.json"), &self.model)?;
        write_atomic(&folder.join("tokenizer.json"), tokenizer.to_json()?.as_bytes())?;
        write_json_atomic(
            &folder.join("tokenizer_config.json"),
            &serde_json::json!({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": crate::tokenizer::END_OF_TEXT,
                "bos_token": crate::tokenizer::END_OF_TEXT, "clean_up_tokenization_spaces": false}),
        )?;
        let tokens_seen = state.step * self.config.train.batch_rows * self.config.rows.tokens;
        let record = Record {
            experiment: self.config.name.clone(),
            seed: self.config.seed,
            device: self.config.hardware.device.clone(),
            threads: self.config.hardware.threads,
            parameters: self.params.numel(),
            steps: state.step,
            tokens_seen,
            training_tokens: self.stream.len(),
            epochs: tokens_seen as f64 / self.stream.len() as f64,
            seconds: state.seconds,
            tokens_per_second: tokens_seen as f64 / state.seconds,
            held_out: figures.clone(),
            loss_curve: loss_curve(run)?,
        };
        write_json_atomic(&folder.join("record.json"), &record)
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
    Ok(losses.chunks(stretch).enumerate().map(|(i, c)| (i * stretch + c.len(), crate::tensor::mean(c))).collect())
}

/// A bijection of `0..n` that needs no table: a Feistel network on the next power of four, walked until inside.
fn permuted(index: usize, n: usize, key: u64) -> usize {
    let half = (usize::BITS - (n.max(2) - 1).leading_zeros()).div_ceil(2);
    let mask = (1u64 << half) - 1;
    let mut x = index as u64;
    loop {
        let (mut left, mut right) = (x >> half, x & mask);
        for round in 0..4 {
            let mixed = rng::seed(key, Stream::Data, round, right, 0) & mask;
            (left, right) = (right, left ^ mixed);
        }
        x = (left << half) | right;
        if (x as usize) < n {
            return x as usize;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpacked_rows_begin_where_documents_do() {
        let documents: Vec<Document> = ["one two three", "one", "two three one two"]
            .map(|text| Document { id: text.into(), text: text.into(), source: String::new() })
            .into();
        let tokenizer = Tokenizer::train(texts(&documents).into_iter(), 300).unwrap();
        let lengths: Vec<usize> = tokenizer.encode_all(&texts(&documents)).unwrap().iter().map(Vec::len).collect();
        let (stream, starts) = pack(&tokenizer, &documents, lengths[0] + 1).unwrap();
        assert_eq!(stream.len(), lengths.iter().sum::<usize>() + 3);
        assert_eq!(starts, [0, lengths[0] + lengths[1] + 2]);
    }

    #[test]
    fn permuted_is_a_bijection() {
        for n in [1, 2, 3, 10, 257, 1000] {
            let mut seen: Vec<usize> = (0..n).map(|i| permuted(i, n, 7)).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..n).collect::<Vec<_>>());
        }
    }
}
