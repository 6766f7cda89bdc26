//! Zero-shot prompting: the bare base is asked for a summary of the prefix, or for dense notes of it, and what it writes is cut
//! to the budget. It is what one would try first with an instruct model, so a trained compressor must be better.
//!
//! ```text
//! template: user   prefix [ASKED question]  instruction, with the budget in words
//! template: model  ──► gist, greedy, up to the end of the turn or the budget
//! ```
//! A base without a chat template reads the same as plain text. What is too long for the base loses its beginning.

use crate::chat::Frame;
use crate::compressor::contract::{Compressed, Compressor, Request};
use crate::error::{Error, Result};
use crate::model::decoder::Decoder;
use crate::model::write::greedy;
use crate::tokenizer::Tokenizer;

/// Instruction of [`Prompt::Summary`], behind the text.
const SUMMARY: &str = "\n\nSummarize the text above in at most {words} words.";
/// Instruction of [`Prompt::DenseNotes`], behind the text.
const DENSE_NOTES: &str =
    "\n\nWrite dense notes of the text above in at most {words} words: all names, numbers, dates and codes.";
/// Stands between the text and the question that the compressor may see.
const ASKED: &str = "\n\nKeep what is needed for this:\n";
/// Stands for the budget, in words.
const WORDS: &str = "{words}";

/// Words of English text that a budget of tokens holds, by the usual rule of three words in four tokens.
fn words(budget: usize) -> usize {
    (budget.saturating_mul(3) / 4).max(1)
}

/// The wish that the base is prompted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// A summary.
    Summary,
    /// Notes that keep names, numbers, dates and codes.
    DenseNotes,
}

impl Prompt {
    /// All prompts, in the order of the tables.
    pub const ALL: [Prompt; 2] = [Prompt::Summary, Prompt::DenseNotes];

    /// Name in tables, files and flags.
    pub fn name(self) -> &'static str {
        match self {
            Prompt::Summary => "summary",
            Prompt::DenseNotes => "dense_notes",
        }
    }

    /// The prompt of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|prompt| prompt.name() == name)
    }

    /// The end of the message to the base, behind the text, for a budget in tokens.
    pub fn instruction(self, budget: usize) -> String {
        let text = match self {
            Prompt::Summary => SUMMARY,
            Prompt::DenseNotes => DENSE_NOTES,
        };
        text.replace(WORDS, &words(budget).to_string())
    }
}

/// The bare base, prompted.
pub struct Prompted<'a> {
    prompt: Prompt,
    decoder: &'a Decoder,
    tokenizer: &'a Tokenizer,
    forbidden: &'a [u32],
    frame: Frame,
}

impl<'a> Prompted<'a> {
    /// A base with the ids that it may not write; `frame` stands around the whole message. An error where frame and instruction
    /// leave no room for a text.
    pub fn new(
        prompt: Prompt,
        decoder: &'a Decoder,
        tokenizer: &'a Tokenizer,
        forbidden: &'a [u32],
        frame: Frame,
    ) -> Result<Self> {
        let room = decoder.room();
        let own = frame.len() + tokenizer.encode(&prompt.instruction(room))?.len();
        // Half of the positions are for the gist at most.
        if own >= room / 2 {
            let expected = format!("max_position_embeddings: expected at least {}", 2 * (own + 1));
            return Err(Error::invalid(format!("{expected} for the prompt of `{}`, got {room}", prompt.name())));
        }
        Ok(Self { prompt, decoder, tokenizer, forbidden, frame })
    }

    /// Token ids that the base reads before it writes a gist of at most `budget` tokens for each request.
    pub fn prompts(&self, requests: &[Request], budget: usize) -> Result<Vec<Vec<u32>>> {
        let instruction = self.tokenizer.encode(&self.prompt.instruction(budget))?;
        let asked = self.tokenizer.encode(ASKED)?;
        let most = self.decoder.room().saturating_sub(budget + self.frame.len() + instruction.len());
        let one = |request: &Request| {
            // Control tokens around a question would end the user's turn.
            let question = request.question().iter().filter(|id| !self.forbidden.contains(id)).copied();
            let mut text = request.prefix.to_vec();
            if !request.question().is_empty() {
                text.extend(asked.iter().copied().chain(question));
            }
            text.drain(..text.len().saturating_sub(most));
            [&self.frame.before[..], &text, &instruction, &self.frame.after].concat()
        };
        Ok(requests.iter().map(one).collect())
    }
}

impl Compressor for Prompted<'_> {
    fn name(&self) -> &str {
        self.prompt.name()
    }

    fn reads_at_once(&self, budget: usize) -> Option<usize> {
        let room = self.decoder.room();
        // Where the tokenizer fails on the instruction, it fails on the text too, and says so there.
        let instruction = self.tokenizer.encode(&self.prompt.instruction(budget)).map_or(0, |ids| ids.len());
        let asked = self.tokenizer.encode(ASKED).map_or(0, |ids| ids.len());
        Some(room.saturating_sub(budget.min(room / 2) + self.frame.len() + instruction + asked))
    }

    fn compress(&self, requests: &[Request], budget: usize) -> Result<Vec<Compressed>> {
        let budget = budget.min(self.decoder.room() / 2);
        let ends = self.decoder.config().end_ids();
        let is_end = |id: &u32| ends.contains(&i64::from(*id));
        let barred: Vec<u32> = self.forbidden.iter().filter(|id| !is_end(id)).copied().collect();
        let (rows, filled): (Vec<usize>, Vec<Request>) =
            (0..).zip(requests.iter().copied()).filter(|(_, request)| !request.prefix.is_empty()).unzip();
        let mut written = vec![Compressed::default(); requests.len()];
        let answers = greedy(self.decoder, &self.prompts(&filled, budget)?, budget, &barred)?;
        for (row, mut ids) in rows.into_iter().zip(answers) {
            ids.truncate(ids.iter().position(is_end).unwrap_or(budget));
            written[row].ids = ids;
        }
        Ok(written)
    }
}
