//! Windows of contexts with facts set into them: one window a context with a probe for each fact, or, where the compressor sees
//! the probe that it is rewarded by, one window a fact.

use crate::chat::ReaderFrame;
use crate::config::choices::Condition;
use crate::config::questions::FactsSection;
use crate::data::{Document, FactsDocument, FactsShape, Probe, Split, Window, WindowShape, facts_document};
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// Tokens by which a context may be longer than its parts one by one.
const SLACK: usize = 8;

/// The texts of a split, and what is made of them.
pub struct FactsWindows {
    texts: Vec<String>,
    shape: WindowShape,
    per_context: usize,
    condition: Condition,
    frame: ReaderFrame,
    budget: usize,
    split: Split,
}

/// Setting that the windows of a split have in common beside their texts.
#[derive(Clone, Copy)]
pub struct FactsSetting<'a> {
    /// Number of facts.
    pub section: &'a FactsSection,
    /// Most tokens of context, local text in its frame, and answer.
    pub shape: WindowShape,
    /// Input of a compressor besides the prefix.
    pub condition: Condition,
    /// Frame round the texts that are read.
    pub frame: &'a ReaderFrame,
    /// Most tokens of the evidence.
    pub budget: usize,
}

impl FactsWindows {
    /// Those of a split's documents.
    pub fn new(documents: &[Document], setting: FactsSetting, split: Split) -> Self {
        let FactsSetting { section, shape, condition, frame, budget } = setting;
        let texts = documents.iter().map(|document| document.text.clone()).collect();
        Self { texts, shape, per_context: section.per_context, condition, frame: frame.clone(), budget, split }
    }

    /// The window of this index, a function of it.
    pub fn window(&self, tokenizer: &Tokenizer, index: u64) -> Result<Window> {
        let probes = self.per_context as u64;
        let (context, probe) = match self.condition {
            Condition::None => (index, None),
            Condition::Local | Condition::Query => (index / probes, Some((index % probes) as usize)),
        };
        let made = self.document(tokenizer, context)?;
        let ids = |text: &str| tokenizer.encode(text);
        let prefix = ids(&made.context)?;
        if prefix.len() > self.shape.prefix {
            return Err(too_long("prefix_tokens", prefix.len(), self.shape.prefix, &made.context));
        }
        let mut probes = Vec::new();
        for fact in
            made.facts.iter().enumerate().filter(|(i, _)| probe.is_none_or(|one| one == *i)).map(|(_, fact)| fact)
        {
            let (local, query) = (self.frame.local(tokenizer, &fact.local)?, ids(&fact.local)?);
            let future = ids(&format!("{}{}", self.frame.gap(&fact.local), fact.future.trim_start()))?;
            if local.len() > self.shape.local {
                return Err(too_long("local_tokens", local.len(), self.shape.local, &fact.local));
            }
            if future.len() > self.shape.future {
                return Err(too_long("future_tokens", future.len(), self.shape.future, &fact.future));
            }
            probes.push(Probe { local, query, future });
        }
        let evidence = match probe {
            None => made.stated(self.budget, &|text| Ok(ids(text)?.len()))?,
            Some(one) => made.facts[one].stated(),
        };
        let (frame, evidence) = (self.frame.before().to_vec(), ids(&evidence)?);
        Ok(Window { document: made.source, start: context as usize, frame, prefix, probes, evidence })
    }

    fn document(&self, tokenizer: &Tokenizer, index: u64) -> Result<FactsDocument> {
        let texts: Vec<&str> = self.texts.iter().map(String::as_str).collect();
        let shape = FactsShape { tokens: self.shape.prefix.saturating_sub(SLACK), facts: self.per_context };
        facts_document(&texts, shape, self.split, index, &|text| Ok(tokenizer.encode(text)?.len()))
    }
}

fn too_long(key: &str, got: usize, most: usize, text: &str) -> Error {
    Error::invalid(format!("data.{key}: expected at least {got} for {text:?}, got {most}"))
}
