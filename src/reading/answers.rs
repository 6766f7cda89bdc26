//! The teacher's own answers as the futures of probes: what a reader of the whole context would say.

use crate::config::parts::Sampling;
use crate::data::{Probe, Window};
use crate::error::Result;
use crate::model::decoder::Decoder;
use crate::model::read::Stem;
use crate::model::write::{Continuation, continuations};
use crate::reading::ROWS_AT_ONCE;
use crate::rng::{self, Stream};
use crate::tokenizer::Tokenizer;
use tch::Device;

/// Number of the step that names the draws of sampled answers, with the document behind it; no other draw of the teacher has it.
const ANSWER_STEP: u64 = 1 << 45;

/// Settings for the teacher's answers.
#[derive(Clone, Copy, Debug)]
pub struct AnswerShape {
    /// Most tokens of an answer.
    pub tokens: usize,
    /// Sampled answers a probe; 0 = one, the likeliest token at each place.
    pub samples: usize,
}

/// Puts the teacher's own answers into the probes of windows, each up to its first end of text or turn, which is part of it; of
/// several samples each becomes a probe. The draws of a sample are a function of its window and probe.
pub fn answer(decoder: &Decoder, windows: &mut [Window], how: AnswerShape) -> Result<()> {
    let _guard = tch::no_grad_guard();
    let AnswerShape { tokens, samples } = how;
    let ends = decoder.config().end_ids();
    let mut asked: Vec<(usize, Vec<u32>)> = Vec::new();
    let mut draws: Vec<[u64; 3]> = Vec::new();
    for (w, window) in windows.iter().enumerate() {
        let before = [&window.frame[..], &window.prefix].concat();
        for (p, probe) in window.probes.iter().enumerate() {
            asked.push((w, [&before[..], &probe.local].concat()));
            draws.push([ANSWER_STEP + window.document as u64, window.start as u64, (p * samples.max(1)) as u64]);
        }
    }
    let sampling = if samples == 0 { Sampling::greedy() } else { Sampling::default() };
    let each = samples.max(1);
    let mut answers: Vec<Vec<u32>> = Vec::with_capacity(asked.len() * each);
    for (asked, draws) in asked.chunks(ROWS_AT_ONCE / 4).zip(draws.chunks(ROWS_AT_ONCE / 4)) {
        let prompts: Vec<Vec<u32>> = asked.iter().map(|(_, prompt)| prompt.clone()).collect();
        let stem = Stem::read(decoder, None, &prompts)?;
        let wanted = Continuation { samples: each, tokens, how: &sampling, forbidden: &[] };
        let uniforms = |row: usize, sample: usize| {
            let [step, example, first] = draws[row];
            let mut draw = rng::rng(0, Stream::Imagined, step, example, first + sample as u64);
            (0..tokens).map(|_| rng::uniform(&mut draw)).collect()
        };
        let written = continuations(decoder, &stem, wanted, uniforms)?;
        let written = Vec::<i64>::try_from(written.to_device(Device::Cpu).reshape([-1]))?;
        answers.extend(written.chunks(tokens).map(|ids| {
            let length = ids.iter().position(|id| ends.contains(id)).map_or(tokens, |end| end + 1);
            ids[..length].iter().map(|&id| id as u32).collect::<Vec<u32>>()
        }));
    }
    let mut answers = answers.into_iter();
    for window in windows {
        let probes = std::mem::take(&mut window.probes);
        window.probes = (probes.into_iter())
            .flat_map(|probe| {
                let own: Vec<Vec<u32>> = answers.by_ref().take(each).collect();
                own.into_iter().map(move |future| Probe { future, ..probe.clone() })
            })
            .collect();
    }
    Ok(())
}

/// The answers to the probes of a window as text; none where nobody asks.
pub fn answer_texts(tokenizer: &Tokenizer, window: &Window) -> Result<Vec<String>> {
    window.probes.iter().filter(|probe| !probe.query.is_empty()).map(|probe| tokenizer.decode(&probe.future)).collect()
}
