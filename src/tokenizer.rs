//! The only border between text and ids: a Hugging Face `tokenizer.json`, loaded or trained (byte-level BPE).

mod decode;
mod decoded;

pub use crate::tokenizer::decode::WindowText;
pub use crate::tokenizer::decoded::Decoded;

use crate::error::{Error, Result};
use crate::gguf::{Gguf, is_gguf};
use crate::text_file::read_text;
use rayon::prelude::*;
use serde_json::Value;
use std::path::Path;
use std::sync::OnceLock;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, TokenizerImpl};
use tokenizers::{DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper};

mod begin;
pub use begin::{begin, template};

/// End-of-text: the one special token of a trained vocabulary, which stands between documents.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// Names of the control tokens (end-of-gist, start-of-gist, separator) where a vocabulary has them, as an exported one does.
pub const CONTROLS: [&str; 3] = ["<|gist_end|>", "<|gist_start|>", "<|gist_separator|>"];

/// First byte of a token in its text, and the one after its last.
pub type Bytes = (usize, usize);

/// Tokens that an encoder reads around one text, and between the two of a pair.
#[derive(Clone, Debug, PartialEq)]
pub struct Marks {
    /// Tokens before the first text.
    pub begin: Vec<u32>,
    /// Tokens between the first text and the second.
    pub between: Vec<u32>,
    /// Tokens after the last text.
    pub end: Vec<u32>,
}

/// Tokens that begin and end a text under BERT and RoBERTa.
const MARKS: [(&str, &str); 2] = [("[CLS]", "[SEP]"), ("<s>", "</s>")];
/// Files beside `tokenizer.json` that may name them.
const NAMING: [&str; 2] = ["tokenizer_config.json", "special_tokens_map.json"];

/// Text ↔ ids.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Tokenizer for texts in which special tokens are meant; made when it is first wanted, for a copy takes its time.
    control: OnceLock<tokenizers::Tokenizer>,
    special: Vec<u32>,
    /// Number of ids: one more than the highest.
    ids: usize,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`, or the tokenizer of a GGUF file. Texts are encoded whole, whatever the file says of truncation
    /// and padding. An error where an id below the highest has no token: it could be written, and nothing could be said of it.
    pub fn load(path: &Path) -> Result<Self> {
        let tokenizer = Self::load_encoder(path)?;
        match tokenizer.hole().map(|id| (tokenizer.ids, id)).or(begin::moved(path, |token| tokenizer.id_of(token))?) {
            None => Ok(tokenizer),
            Some((ids, id)) => {
                let expected = format!("expected a token for every id below {ids}");
                Err(Error::file(path, format!("vocabulary: {expected}, got none for {id}")))
            }
        }
    }

    /// A tokenizer for a model that only reads ([`Tokenizer::check_model`] tells whether it has a row for every id): ids
    /// without a token do no harm there.
    pub fn load_encoder(path: &Path) -> Result<Self> {
        let bytes = if is_gguf(path) { Gguf::open(path)?.tokenizer()?.to_string() } else { read_text(path)? };
        let inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(|e| Error::file(path, e.to_string()))?;
        Self::wrap(inner).map_err(|error| Error::file(path, error.to_string()))
    }

    /// [`Tokenizer::load`] for a base that is trained on documents, between which [`END_OF_TEXT`] stands.
    pub fn load_to_train(path: &Path) -> Result<Self> {
        let tokenizer = Self::load(path)?;
        tokenizer.require_end_of_text().map_err(|error| Error::file(path, error.to_string()))?;
        Ok(tokenizer)
    }

    /// The lowest id without a token below one that has one.
    fn hole(&self) -> Option<u32> {
        let mut has_token = vec![false; self.ids];
        self.inner.get_vocab(true).into_values().for_each(|id| has_token[id as usize] = true);
        has_token.iter().position(|has| !has).map(|id| id as u32)
    }

    /// Trains a byte-level BPE with `vocab_size` entries, [`END_OF_TEXT`] first. The same texts give the same vocabulary.
    pub fn train<'a>(texts: impl Iterator<Item = &'a str> + Send, vocab_size: usize) -> Result<Self> {
        type Impl = TokenizerImpl<BPE, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;
        let mut inner: Impl = TokenizerImpl::new(BPE::default());
        let level = ByteLevel::new(false, true, true);
        inner.with_pre_tokenizer(Some(PreTokenizerWrapper::ByteLevel(level)));
        inner.with_decoder(Some(DecoderWrapper::ByteLevel(level)));
        let mut trainer = BpeTrainerBuilder::new()
            .vocab_size(vocab_size)
            .min_frequency(2)
            .show_progress(false)
            .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        inner.train(&mut trainer, texts).map_err(|e| Error::invalid(format!("training the tokenizer: {e}")))?;
        let json = inner.to_string(false).map_err(|e| Error::invalid(format!("tokenizer to JSON: {e}")))?;
        let inner = tokenizers::Tokenizer::from_bytes(json)
            .map_err(|e| Error::invalid(format!("tokenizer from its own JSON: {e}")))?;
        Self::wrap(inner)
    }

    fn wrap(mut inner: tokenizers::Tokenizer) -> Result<Self> {
        // A document that contains the text of a special token is text, not control.
        inner.set_encode_special_tokens(true);
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| Error::invalid(format!("truncation: {e}")))?;
        let mut special: Vec<u32> =
            inner.get_added_tokens_decoder().iter().filter(|(_, t)| t.special).map(|(id, _)| *id).collect();
        special.sort_unstable();
        let ids = inner.get_vocab(true).into_values().max().map_or(0, |highest| highest as usize + 1);
        Ok(Self { inner, control: OnceLock::new(), special, ids })
    }

    /// The tokenizer with these tokens before a text in what [`Tokenizer::to_json`] says: nothing here puts them there.
    pub fn beginning(mut self, begin: &[u32]) -> Result<Self> {
        let template = template(&self.named(begin)?);
        let template: Option<PostProcessorWrapper> = serde_json::from_value(template)
            .map_err(|e| Error::invalid(format!("template of the tokens before a text: {e}")))?;
        self.inner.with_post_processor(template);
        Ok(self)
    }

    /// Ids with their tokens.
    pub fn named(&self, ids: &[u32]) -> Result<Vec<(String, u32)>> {
        let none = |id: u32| Error::invalid(format!("expected a token of the vocabulary, got the id {id}"));
        ids.iter().map(|&id| Ok((self.inner.id_to_token(id).ok_or_else(|| none(id))?, id))).collect()
    }

    /// `tokenizer.json` as text.
    pub fn to_json(&self) -> Result<String> {
        self.inner.to_string(false).map_err(|e| Error::invalid(format!("tokenizer to JSON: {e}")))
    }

    /// Number of ids, special ones included.
    pub fn vocab_size(&self) -> usize {
        self.ids
    }

    /// Ids that are not ordinary text, ascending: no compressor may emit them.
    pub fn special_ids(&self) -> &[u32] {
        &self.special
    }

    /// Id of [`END_OF_TEXT`], when the vocabulary has it.
    pub fn end_of_text(&self) -> Option<u32> {
        self.inner.token_to_id(END_OF_TEXT)
    }

    /// The end-of-text token where there is no doing without it: between the documents that a base is trained on.
    pub fn require_end_of_text(&self) -> Result<u32> {
        let missing = || format!("expected the token {END_OF_TEXT:?} between documents, got none");
        self.end_of_text().ok_or_else(|| Error::invalid(missing()))
    }

    /// Fails unless every id fits a model with `rows` embedding rows, by the `config.json` at `path`.
    pub fn check_model(&self, path: &Path, rows: i64) -> Result<()> {
        if self.vocab_size() as i64 > rows {
            let message =
                format!("vocab_size: expected at least the tokenizer's {} entries, got {rows}", self.vocab_size());
            return Err(Error::file(path, message));
        }
        Ok(())
    }

    /// Ids of one text, nothing added.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding =
            self.inner.encode_fast(text, false).map_err(|e| Error::invalid(format!("encoding a text: {e}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Ids of a text in which special tokens are meant.
    pub fn encode_control(&self, text: &str) -> Result<Vec<u32>> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let control = self.control.get_or_init(|| {
            let mut control = self.inner.clone();
            control.set_encode_special_tokens(false);
            control
        });
        let encoding = control.encode_fast(text, false).map_err(|e| Error::invalid(format!("encoding a text: {e}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Ids of `text` between two texts in which special tokens are meant, as those of one text: tokens may join both, but no
    /// special token is read in `text`, where its letters are letters.
    pub fn encode_between(&self, before: &str, text: &str, behind: &str) -> Result<Vec<u32>> {
        let tokens = self.inner.get_added_tokens_decoder();
        let special = || tokens.values().filter(|token| token.special).map(|token| token.content.as_str());
        let first = special().filter_map(|token| Some(before.rfind(token)? + token.len())).max().unwrap_or(0);
        let last = special().filter_map(|token| behind.find(token)).min().unwrap_or(behind.len());
        let middle = [&before[first..], text, &behind[..last]].concat();
        let parts =
            [self.encode_control(&before[..first])?, self.encode(&middle)?, self.encode_control(&behind[last..])?];
        Ok(parts.concat())
    }

    /// Ids of one text with the bytes of it that each stands for, nothing added.
    pub fn aligned(&self, text: &str) -> Result<(Vec<u32>, Vec<Bytes>)> {
        let encoding = self.inner.encode(text, false).map_err(|e| Error::invalid(format!("encoding a text: {e}")))?;
        Ok((encoding.get_ids().to_vec(), encoding.get_offsets().to_vec()))
    }

    /// The id of a token, when the vocabulary has it.
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Tokens that the file at `path` puts around texts for an encoder: as its template of a pair has it, or else the tokens
    /// that it or a file beside it names, `</s>` doubled between the two of a pair as RoBERTa has it.
    pub fn marks(&self, path: &Path) -> Result<Marks> {
        if let Some(marks) = self.template()? {
            return Ok(marks);
        }
        let named = |key: &str| -> Option<String> {
            let read = |file: &&str| std::fs::read(path.with_file_name(file)).ok();
            let parsed =
                NAMING.iter().filter_map(read).filter_map(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
            let text = |all: Value| {
                let value = &all[key];
                value.as_str().or(value["content"].as_str()).map(String::from)
            };
            parsed.filter_map(text).next()
        };
        let given = named("cls_token").zip(named("sep_token"));
        let known = MARKS.map(|(begin, end)| (begin.to_string(), end.to_string()));
        let found = given.into_iter().chain(known).find_map(|(begin, end)| {
            let doubled = if begin == MARKS[1].0 { 2 } else { 1 };
            Some((self.id_of(&begin)?, self.id_of(&end)?, doubled))
        });
        let (begin, end, doubled) = found.ok_or_else(|| {
            let message = "expected tokens around a text, as encoders have them: [CLS] and [SEP], <s> and </s>, or \
                           `cls_token` and `sep_token` of tokenizer_config.json";
            Error::file(path, format!("{message}; got none"))
        })?;
        Ok(Marks { begin: vec![begin], between: vec![end; doubled], end: vec![end] })
    }

    /// Marks that the file's own template adds to a pair of texts, when it adds something in all three places.
    fn template(&self) -> Result<Option<Marks>> {
        let pair = self.inner.encode(("a", "b"), true).map_err(|e| Error::invalid(format!("encoding a pair: {e}")))?;
        let mask = pair.get_special_tokens_mask();
        let runs: Vec<&[u32]> = mask.chunk_by(|a, b| a == b).collect();
        let [begin, first, between, second, end] = runs[..] else { return Ok(None) };
        if begin[0] != 1 {
            return Ok(None);
        }
        let mut ids = pair.get_ids().iter().copied();
        let mut take = |run: &[u32]| ids.by_ref().take(run.len()).collect::<Vec<u32>>();
        let (begin, _, between, _, end) = (take(begin), take(first), take(between), take(second), take(end));
        Ok(Some(Marks { begin, between, end }))
    }

    /// Ids of many texts, in parallel.
    pub fn encode_all(&self, texts: &[&str]) -> Result<Vec<Vec<u32>>> {
        texts.par_iter().map(|text| self.encode(text)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "def add(first, second):\n    return first + second\n\ndef sub(first, second):\n    return first - second\n";

    #[test]
    fn round_trip_of_any_text() {
        let tokenizer = Tokenizer::train([TEXT].into_iter(), 300).unwrap();
        for text in [TEXT, "", " ", "ünïcödé 漢字 🦀", "a<|endoftext|>b", "\u{0}\r\n\t"] {
            let ids = tokenizer.encode(text).unwrap();
            assert_eq!(tokenizer.decode(&ids).unwrap(), text);
            assert!(ids.iter().all(|id| !tokenizer.special_ids().contains(id)));
        }
    }

    #[test]
    fn training_is_repeatable_and_merges() {
        let a = Tokenizer::train([TEXT; 3].into_iter(), 300).unwrap();
        let b = Tokenizer::train([TEXT; 3].into_iter(), 300).unwrap();
        assert_eq!(a.to_json().unwrap(), b.to_json().unwrap());
        assert!(a.encode(TEXT).unwrap().len() < TEXT.len() / 2);
        assert_eq!(a.end_of_text(), Some(0));
    }
}
