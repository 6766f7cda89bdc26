//! Windows of contexts with facts set into them: one window a context with a probe for each fact, or, where the compressor sees
//! the probe that it is rewarded by, one window a fact.

use crate::chat::ReaderFrame;
use crate::config::choices::Condition;
use crate::data::{Document, FactsDocument, FactsShape, Probe, Split, Window, WindowShape, facts_document};
use crate::error::{Error, Result};
use crate::retention::names_and_numbers;
use crate::tokenizer::Tokenizer;

/// Tokens by which a context may be longer than its parts one by one.
const SLACK: usize = 8;

/// Setting that the windows of all splits have in common.
#[derive(Clone)]
pub struct FactsSetting {
    /// Facts in a context.
    pub per_context: usize,
    /// Most tokens of context, local text in its frame, and answer.
    pub shape: WindowShape,
    /// Input of a compressor besides the prefix.
    pub condition: Condition,
    /// Frame round the texts that are read.
    pub frame: ReaderFrame,
    /// Most tokens of the evidence.
    pub budget: usize,
}

/// Windows made of the texts of a split.
pub struct FactsWindows {
    texts: Vec<String>,
    setting: FactsSetting,
    split: Split,
}

impl FactsWindows {
    /// Those of a split's documents.
    pub fn new(documents: &[Document], setting: &FactsSetting, split: Split) -> Self {
        let texts = documents.iter().map(|document| document.text.clone()).collect();
        Self { texts, setting: setting.clone(), split }
    }

    /// The window of this index, a function of it.
    pub fn window(&self, tokenizer: &Tokenizer, index: u64) -> Result<Window> {
        Ok(self.made(tokenizer, index)?.0)
    }

    /// The window of this index, and the document that it is made of.
    fn made(&self, tokenizer: &Tokenizer, index: u64) -> Result<(Window, FactsDocument)> {
        let probes = self.setting.per_context as u64;
        let (context, probe) = match self.setting.condition {
            Condition::None => (index, None),
            Condition::Local | Condition::Query => (index / probes, Some((index % probes) as usize)),
        };
        let made = self.document(tokenizer, context)?;
        let ids = |text: &str| tokenizer.encode(text);
        let prefix = ids(&made.context)?;
        if prefix.len() > self.setting.shape.prefix {
            return Err(too_long("prefix_tokens", prefix.len(), self.setting.shape.prefix, &made.context));
        }
        let mut probes = Vec::new();
        for fact in
            made.facts.iter().enumerate().filter(|(i, _)| probe.is_none_or(|one| one == *i)).map(|(_, fact)| fact)
        {
            let probe = self.probe(tokenizer, &fact.local, &fact.future)?;
            if probe.local.len() > self.setting.shape.local {
                return Err(too_long("local_tokens", probe.local.len(), self.setting.shape.local, &fact.local));
            }
            if probe.future.len() > self.setting.shape.future {
                return Err(too_long("future_tokens", probe.future.len(), self.setting.shape.future, &fact.future));
            }
            probes.push(probe);
        }
        let evidence = match probe {
            None => made.stated(self.setting.budget, &|text| Ok(ids(text)?.len()))?,
            Some(one) => made.facts[one].stated(),
        };
        let (frame, evidence) = (self.setting.frame.before().to_vec(), ids(&evidence)?);
        let window = Window { document: made.source, start: context as usize, frame, prefix, probes, evidence };
        Ok((window, made))
    }

    /// A text that asks, in its frame, and the answer.
    fn probe(&self, tokenizer: &Tokenizer, local: &str, future: &str) -> Result<Probe> {
        let future = format!("{}{}", self.setting.frame.gap(local), future.trim_start());
        Ok(Probe {
            local: self.setting.frame.local(tokenizer, local)?,
            query: tokenizer.encode(local)?,
            future: tokenizer.encode(&future)?,
        })
    }

    /// The window of this index with probes that ask for the text round its facts, as many as there are facts, spread over
    /// it; none where the text has no cloze that fits.
    pub fn unasked(&self, tokenizer: &Tokenizer, index: u64) -> Result<Option<Window>> {
        let (window, made) = self.made(tokenizer, index)?;
        let shape = self.setting.shape;
        let mut fitting = Vec::new();
        for (local, future) in made.unasked(&names_and_numbers) {
            let probe = self.probe(tokenizer, &local, &future)?;
            if probe.local.len() <= shape.local && probe.future.len() <= shape.future {
                fitting.push(probe);
            }
        }
        let count = self.setting.per_context.min(fitting.len());
        let probes = (0..count).map(|i| fitting[i * fitting.len() / count].clone()).collect();
        Ok((count > 0).then_some(Window { probes, ..window }))
    }

    fn document(&self, tokenizer: &Tokenizer, index: u64) -> Result<FactsDocument> {
        let texts: Vec<&str> = self.texts.iter().map(String::as_str).collect();
        let shape =
            FactsShape { tokens: self.setting.shape.prefix.saturating_sub(SLACK), facts: self.setting.per_context };
        facts_document(&texts, shape, self.split, index, &|text| Ok(tokenizer.encode(text)?.len()))
    }
}

fn too_long(key: &str, got: usize, most: usize, text: &str) -> Error {
    Error::invalid(format!("data.{key}: expected at least {got} for {text:?}, got {most}"))
}
