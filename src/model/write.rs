//! Writing: continuations by the bare base, greedy or sampled, several for each prompt from one prefill.

use crate::config::parts::Sampling;
use crate::error::{Error, Result};
use crate::model::decoder::Decoder;
use crate::model::read::Stem;
use crate::model::sampling;
use crate::model::site::BranchCache;
use crate::model::vocab::{self, Head};
use tch::{Device, Tensor};

/// Prompts that are read at once, and their tokens together with those that are written.
const ROWS_AT_ONCE: usize = 32;
const TOKENS_AT_ONCE: usize = 1 << 15;

/// Settings for continuing prompts by sampling.
#[derive(Clone, Copy)]
pub struct Continuation<'a> {
    /// S: continuations of each prompt.
    pub samples: usize,
    /// T: tokens of each.
    pub tokens: usize,
    /// Sampling of each token.
    pub how: &'a Sampling,
    /// Ids that none may hold.
    pub forbidden: &'a [u32],
}

/// Continuations `[N, S, T]` int64 of N prompts that the bare base has read; `uniforms(prompt, sample)` gives the T draws of
/// one.
pub fn continuations(
    decoder: &Decoder,
    prompts: &Stem,
    wanted: Continuation,
    uniforms: impl Fn(usize, usize) -> Vec<f64>,
) -> Result<Tensor> {
    let _guard = tch::no_grad_guard();
    let Continuation { samples, tokens, how, forbidden } = wanted;
    let (n, _, width) = prompts.last.size3()?;
    if samples == 0 || tokens == 0 {
        return Err(Error::shape("continuations", "at least one of at least one token", format!("{samples}×{tokens}")));
    }
    let draws: Vec<Vec<f64>> = (0..n as usize * samples).map(|r| uniforms(r / samples, r % samples)).collect();
    if let Some(bad) = draws.iter().find(|d| d.len() < tokens) {
        return Err(Error::shape("uniforms of a continuation", tokens, bad.len()));
    }
    let bias = vocab::barred(decoder.config().vocab_size, forbidden, decoder.device());
    let head = Head { bias: Some(&bias), ..Head::base(decoder.head()) };
    let s = samples as i64;
    let mut hidden = prompts.last.expand([n, s, width], false).reshape([-1, width]);
    let mut grown = BranchCache::new(tokens);
    let uniforms = sampling::by_step(&draws, tokens, decoder.device());
    let mut written = Vec::with_capacity(tokens);
    for t in 0..tokens {
        let picked = sampling::draw(&hidden, head, how, &uniforms.get(t as i64))?.action.view([n, s, 1]);
        if t + 1 < tokens {
            hidden = decoder.branches(&picked, &prompts.cache, Some(&mut grown), None)?.reshape([-1, width]);
        }
        written.push(picked);
    }
    Ok(Tensor::cat(&written, 2))
}

/// The `tokens` likeliest tokens, one after the other, behind each of `prompts` (none empty) by the bare base; none of them
/// is in `forbidden`.
pub fn greedy(decoder: &Decoder, prompts: &[Vec<u32>], tokens: usize, forbidden: &[u32]) -> Result<Vec<Vec<u32>>> {
    if tokens == 0 {
        return Ok(vec![Vec::new(); prompts.len()]);
    }
    let _guard = tch::no_grad_guard();
    let how = Sampling::greedy();
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0) + tokens;
    let mut all = Vec::with_capacity(prompts.len());
    for batch in prompts.chunks((TOKENS_AT_ONCE / longest).clamp(1, ROWS_AT_ONCE)) {
        let stem = Stem::read(decoder, None, batch)?;
        let wanted = Continuation { samples: 1, tokens, how: &how, forbidden };
        let ids = continuations(decoder, &stem, wanted, |_, _| vec![0.0; tokens])?;
        let ids = Vec::<i64>::try_from(ids.reshape([-1]).to_device(Device::Cpu))?;
        all.extend(ids.chunks(tokens).map(|row| row.iter().map(|&id| id as u32).collect::<Vec<u32>>()));
    }
    Ok(all)
}
