//! Gates on what training relies on, with the shipped base, adapters and text: a fresh adapter is the base, the whole prefix as
//! gist costs nothing, no gist is the local window alone, what is sampled has the log-probability that training gives it, and
//! training's gradient through a shared prefix is the gradient of every gist read alone.

use crate::compressor::Request;
use crate::compressor::actions::{Draws, Trajectory, uniforms};
use crate::compressor::gist::GistPolicy;
use crate::config::parts::{LoraConfig, Sampling};
use crate::data::{Split, Window, WindowShape, held_out_windows, split_documents};
use crate::error::Result;
use crate::eval::gates::gate::{Gate, GatePlace, far, logits, worse};
use crate::model::decoder::Decoder;
use crate::model::lora::{ActiveAdapter, Adapter};
use crate::model::vocab::{TokenGrads, token_stats};
use crate::reading::Taught;
use crate::rng::{self, Stream};
use crate::tensor::{floats, mean, to_vec};
use crate::tokenizer::Tokenizer;
use std::path::Path;
use tch::{Kind, Tensor};

const SHAPE: WindowShape = WindowShape { prefix: 64, local: 16, future: 8 };
const WINDOWS: usize = 4;
/// Documents that the windows come from.
const DOCUMENTS: usize = 24;
const GROUP: usize = 3;
const BUDGET: usize = 8;

fn row(ids: &[u32]) -> Tensor {
    Tensor::from_slice(&ids.iter().map(|&id| i64::from(id)).collect::<Vec<_>>()).unsqueeze(0)
}

fn windows(root: &Path, tokenizer: &Tokenizer) -> Result<Vec<Window>> {
    let mut documents = split_documents(Some(&root.join("data/code/valid.jsonl.zst")), None, Split::Valid)?;
    documents.truncate(DOCUMENTS);
    let texts: Vec<&str> = documents.iter().map(|d| d.text.as_str()).collect();
    held_out_windows(&tokenizer.encode_all(&texts)?, SHAPE, WINDOWS, 1, 0)
}

/// Distance of hidden states with a fresh adapter from those without; must be 0. Draws from libtorch's
/// generator.
pub fn fresh(decoder: &Decoder, ids: &Tensor) -> Result<f64> {
    rng::seed_torch(0, Stream::Init, 0, 0);
    let adapter = Adapter::fresh(decoder.config(), &LoraConfig::default(), decoder.embedding())?;
    let with = decoder.forward(ids, &vec![0; ids.size2()?.0 as usize], Some(&decoder.activate(&adapter, false)?))?;
    let without = decoder.forward(ids, &vec![0; ids.size2()?.0 as usize], None)?;
    Ok(far(&with, &without))
}

/// Largest KL(teacher ‖ bare base with the whole prefix as gist), nats a token.
pub fn identity(decoder: &Decoder, windows: &[Window]) -> Result<f64> {
    let rows: Vec<(usize, &[u32])> = windows.iter().enumerate().map(|(i, w)| (i, w.prefix.as_slice())).collect();
    let readings = Taught::new(decoder, windows)?.measure(decoder, None, &rows)?;
    Ok(readings.iter().fold(0.0, |worst, reading| worse(reading.kl.abs(), worst)))
}

/// Largest difference in nats a token between KL(teacher ‖ bare base with an empty gist) and −log p of the future, measured
/// in a batch with longer contexts, and the same from plain forward passes over whole windows and over what is left
/// without the prefix.
pub fn empty(decoder: &Decoder, windows: &[Window]) -> Result<f64> {
    let _guard = tch::no_grad_guard();
    let mut rows: Vec<(usize, &[u32])> = vec![(0, &windows[0].prefix[..windows[0].prefix.len() / 3])];
    rows.extend((0..windows.len()).map(|i| (i, &[] as &[u32])));
    let readings = Taught::new(decoder, windows)?.measure(decoder, None, &rows)?;
    let mut worst = 0.0;
    for (w, reading) in windows.iter().zip(&readings[1..]) {
        let future = w.probe().future.len() as i64;
        let logp = |context: &[u32]| -> Result<Tensor> {
            let whole = [decoder.begin(), context, &w.probe().local, &w.probe().future].concat();
            let all = logits(decoder, &row(&whole), &[0], None)?.squeeze_dim(0);
            Ok(all.narrow(0, whole.len() as i64 - future - 1, future).log_softmax(-1, Kind::Float))
        };
        let (p, q) = (logp(&w.prefix)?, logp(&[])?);
        let kl = (p.exp() * (&p - &q)).sum(Kind::Float).double_value(&[]) / future as f64;
        let truth = row(&w.probe().future).to_device(decoder.device()).tr();
        let nll = -q.gather(1, &truth, false).mean(Kind::Float).double_value(&[]);
        worst = worse((reading.kl - kl).abs(), worse((reading.nll - nll).abs(), worst));
    }
    Ok(worst)
}

/// Mean KL(float32 ‖ bfloat16) of two copies of one base on a row of ids, nats a token.
pub fn rounding_cost(exact: &Decoder, rounded: &Decoder, ids: &Tensor) -> Result<f64> {
    let _guard = tch::no_grad_guard();
    let logp = |decoder: &Decoder| -> Result<Tensor> {
        Ok(logits(decoder, ids, &[0], None)?.squeeze_dim(0).log_softmax(-1, Kind::Float))
    };
    let (p, q) = (logp(exact)?, logp(rounded)?);
    let kl = (p.exp() * (p - q)).sum_dim_intlist([-1i64].as_slice(), false, Kind::Float);
    Ok(kl.mean(Kind::Float).double_value(&[]))
}

/// Hidden states `[actions, H]` of one gist's actions by one plain forward pass over prompt and gist, nothing shared.
pub fn plain_states(decoder: &Decoder, active: &ActiveAdapter, prompt: &[u32], gist: &Trajectory) -> Result<Tensor> {
    let before = [decoder.begin(), prompt].concat();
    let hidden = decoder.forward(&row(&[&before[..], &gist.ids].concat()), &[0], Some(active))?.squeeze_dim(0);
    Ok(hidden.narrow(0, before.len() as i64 - 1, gist.actions() as i64))
}

/// A policy with its requests and the gists that it sampled for them.
struct Sampled<'a> {
    policy: GistPolicy<'a>,
    requests: Vec<Request<'a>>,
    groups: Vec<Vec<Trajectory>>,
}

impl<'a> Sampled<'a> {
    fn new(policy: GistPolicy<'a>, active: &ActiveAdapter, windows: &'a [Window]) -> Result<Self> {
        let request = |(key, w): (usize, &'a Window)| Request {
            prefix: &w.prefix[..w.prefix.len() - 7 * key], // rows of different lengths
            local: &w.probe().local,
            query: &[],
            key: key as u64,
        };
        let requests: Vec<Request> = windows.iter().enumerate().map(request).collect();
        let uniforms = |r: usize, s: usize| uniforms(0, 0, r as u64, s as u64, BUDGET);
        let draws = Draws { group: GROUP, budget: BUDGET, how: &Sampling::default(), uniforms: &uniforms };
        let groups = policy.sample(active, &requests, draws)?;
        Ok(Self { policy, requests, groups })
    }

    fn slices(&self) -> Vec<&[Trajectory]> {
        self.groups.iter().map(Vec::as_slice).collect()
    }

    /// Mean over actions of KL(sampling ‖ training), as estimated by k3 (Schulman 2020), nats.
    fn mismatch(&self, active: &ActiveAdapter) -> Result<f64> {
        let states = self.policy.action_states(active, &self.requests, &self.slices())?;
        let head = self.policy.head(active, states.matches.as_ref());
        let now = to_vec(&token_stats(&states.hidden, &states.targets, head, None)?.logprob)?;
        let then = self.groups.iter().flatten().flat_map(|gist| &gist.behavior_logprobs);
        let k3: Vec<f64> = now.iter().zip(then).map(|(now, then)| (now - then).exp() - 1.0 - (now - then)).collect();
        Ok(mean(&k3))
    }

    /// Distance of log-probabilities under a shared prefix from those of each gist alone; and distance of the gradients of a
    /// weighted sum of them: training's, in chunks over the vocabulary, from libtorch's own. For adapters without a copy
    /// head.
    fn against_plain(&self, decoder: &Decoder, adapter: &Adapter) -> Result<(f64, f64)> {
        let mut leaf = adapter.params().leaf().shallow_clone();
        let mut gradient = |loss: Tensor| -> Result<Tensor> {
            loss.f_backward()?;
            let found = leaf.grad().copy();
            leaf.zero_grad();
            Ok(found)
        };
        let actions: usize = self.groups.iter().flatten().map(Trajectory::actions).sum();
        let mut draw = rng::rng(0, Stream::Data, 0, 0, 0);
        let weights: Vec<f64> = (0..actions).map(|_| rng::uniform(&mut draw) - 0.5).collect();
        let weights = floats(&weights, decoder.device());

        let active = decoder.activate(adapter, false)?;
        let mut shared = Tensor::new();
        let surrogate = self.policy.surrogate(&active, None, &self.requests, &self.slices(), |stats| {
            shared = stats.logprob;
            Ok(TokenGrads { logprob: weights.shallow_clone(), entropy: None, kl_reference: None })
        })?;
        let trained = gradient(surrogate)?;

        let active = decoder.activate(adapter, false)?;
        let mut plain = Vec::new();
        for (request, group) in self.requests.iter().zip(&self.groups) {
            let prompt = self.policy.prompt(request);
            for gist in group {
                let hidden = plain_states(decoder, &active, &prompt, gist)?;
                let logp = self.policy.head(&active, None).logits(&hidden).log_softmax(-1, Kind::Float);
                let end = gist.ended.then_some(decoder.config().vocab_size);
                let taken: Vec<i64> = gist.ids.iter().map(|&id| i64::from(id)).chain(end).collect();
                let taken = Tensor::from_slice(&taken).to_device(decoder.device()).unsqueeze(1);
                plain.push(logp.gather(1, &taken, false).squeeze_dim(1));
            }
        }
        let plain = Tensor::cat(&plain, 0);
        Ok((far(&shared, &plain), far(&trained, &gradient((plain * weights).sum(Kind::Float))?)))
    }
}

/// All gates on the roles.
pub fn gates(place: GatePlace) -> Result<Vec<Gate>> {
    let folder = place.root.join("checkpoints/code-4m");
    let decoder = Decoder::load(&folder, place.device, place.kind)?;
    let tokenizer = Tokenizer::load(&folder.join("tokenizer.json"))?;
    let windows = windows(place.root, &tokenizer)?;
    let on = "code-4m";
    let whole: Vec<u32> = windows.iter().flat_map(Window::whole).collect();
    let ids = row(&whole).view([windows.len() as i64, -1]);
    let mut gates = vec![
        place.gate("fresh adapter = base exactly", on, fresh(&decoder, &ids)?, (0.0, 0.0)),
        place.gate("D of the whole prefix as gist", on, identity(&decoder, &windows)?, (1e-5, 1e-4)),
        place.gate("D of no gist = local window alone", on, empty(&decoder, &windows)?, (1e-4, 3e-2)),
    ];
    if !place.is_exact() {
        let exact = Decoder::load(&folder, place.device, Kind::Float)?;
        let cost = rounding_cost(&exact, &decoder, &ids.narrow(0, 0, 1))?;
        // A hundredth of the context value of 0.3 nats a token.
        gates.push(place.gate("KL(float32 ‖ bfloat16)", on, cost, (f64::NAN, 3e-3)));
    }
    let load = |role: &str| Adapter::load(&folder.join("warm-start").join(role), decoder.config(), place.device);
    let policy = || GistPolicy::new(&decoder, tokenizer.special_ids());

    let compressor = load("compressor")?;
    let active = decoder.activate(&compressor, false)?;
    let sampled = Sampled::new(policy(), &active, &windows)?;
    gates.push(place.gate("KL(sampling ‖ training)", "compressor", sampled.mismatch(&active)?, (1e-3, 1e-3)));

    let reader = load("generator")?;
    let sampled = Sampled::new(policy(), &decoder.activate(&reader, false)?, &windows)?;
    let (apart, gradient) = sampled.against_plain(&decoder, &reader)?;
    gates.push(place.gate("log-probs, shared prefix = alone", "generator", apart, (1e-5, 0.05)));
    gates.push(place.gate("gradient of training = plain", "generator", gradient, (1e-4, 0.2)));
    Ok(gates)
}
