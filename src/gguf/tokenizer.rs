//! Metadata → `tokenizer.json` and `tokenizer_config.json`: byte-level BPE (`tokenizer.ggml.model` = "gpt2"), SentencePiece by
//! merges ("llama") and by likelihood ("t5").

use super::file::Gguf;
use super::pre_tokenizers::{PreTokenizer, byte_level};
use crate::error::Result;
use base64::Engine;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const SCORES: &str = "tokenizer.ggml.scores";
const CHARSMAP: &str = "tokenizer.ggml.precompiled_charsmap";
const TEMPLATE: &str = "tokenizer.chat_template";
/// A blank, as SentencePiece writes it.
const BLANK: &str = "▁";

/// Kinds of tokens, as `tokenizer.ggml.token_type` numbers them.
mod token_type {
    pub const UNKNOWN: u64 = 2;
    pub const CONTROL: u64 = 3;
    pub const USER_DEFINED: u64 = 4;
    pub const UNUSED: u64 = 5;
    pub const BYTE: u64 = 6;
}

/// Kind of vocabulary of a file.
#[derive(Clone, Copy, PartialEq)]
enum Family {
    ByteLevel,
    Merges,
    Likelihood,
}

/// Tokens in the order of their ids, with their types.
struct Vocabulary<'a> {
    tokens: Vec<&'a str>,
    types: Vec<u64>,
}

impl Gguf {
    fn family(&self) -> Result<Family> {
        match self.required(MODEL, self.text(MODEL)?)? {
            "gpt2" => Ok(Family::ByteLevel),
            "llama" => Ok(Family::Merges),
            "t5" => Ok(Family::Likelihood),
            other => Err(self.wrong(MODEL, format!("expected one of \"gpt2\", \"llama\", \"t5\", got {other:?}"))),
        }
    }

    /// `tokenizer.json`: the tokens under their ids, those that stand unused at the end left out.
    pub fn tokenizer(&self) -> Result<Value> {
        let family = self.family()?;
        let vocabulary = self.vocabulary()?;
        let special = |(id, (token, kind)): (usize, (&&str, &u64))| {
            use token_type::*;
            let special = matches!(*kind, CONTROL | UNKNOWN);
            (special || *kind == USER_DEFINED).then(|| {
                json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": special})
            })
        };
        let added = vocabulary.tokens.iter().zip(&vocabulary.types).enumerate().filter_map(special);
        let mut tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": added.collect::<Vec<_>>(),
            "normalizer": null, "pre_tokenizer": null,
            "post_processor": self.post_processor(&vocabulary)?,
            "decoder": null, "model": null,
        });
        let parts = match family {
            Family::ByteLevel => self.by_bytes(&vocabulary)?,
            Family::Merges => self.by_merges(&vocabulary)?,
            Family::Likelihood => self.by_likelihood(&vocabulary)?,
        };
        if let (Some(all), Value::Object(parts)) = (tokenizer.as_object_mut(), parts) {
            all.extend(parts);
        }
        Ok(tokenizer)
    }

    /// `tokenizer_config.json`: special tokens, whether texts begin with one, the chat template.
    pub fn tokenizer_config(&self) -> Result<Value> {
        let vocabulary = self.vocabulary()?;
        let (bos, eos) = self.adds()?;
        let mut config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false,
            "add_bos_token": bos, "add_eos_token": eos,
        });
        let Some(all) = config.as_object_mut() else { return Ok(config) };
        if let Some(positions) = self.integer(&format!("{}.context_length", self.architecture()?))? {
            all.insert("model_max_length".into(), json!(positions));
        }
        for name in ["bos", "eos", "unknown", "padding"] {
            if let Some(id) = self.special_id(name)? {
                let short = name.replace("unknown", "unk").replace("padding", "pad");
                let token = vocabulary.tokens.get(id as usize).copied();
                all.insert(format!("{short}_token"), json!(self.required(&special_key(name), token)?));
            }
        }
        if let Some(template) = self.text(TEMPLATE)? {
            all.insert("chat_template".into(), json!(template));
        }
        Ok(config)
    }

    /// `bos_token_id`, `eos_token_id` and `pad_token_id` of `config.json`; several ids end a text where the file names an
    /// end of turn beside the end of text.
    pub(super) fn special_ids(&self) -> Result<Map<String, Value>> {
        let mut all = Map::new();
        all.insert("bos_token_id".into(), json!(self.special_id("bos")?));
        let ends = (self.special_id("eos")?, self.special_id("eot")?);
        let ends = match ends {
            (Some(text), Some(turn)) if text != turn => json!([text, turn]),
            (text, turn) => json!(text.or(turn)),
        };
        all.insert("eos_token_id".into(), ends);
        if let Some(id) = self.special_id("padding")? {
            all.insert("pad_token_id".into(), json!(id));
        }
        Ok(all)
    }

    /// The id under `tokenizer.ggml.<name>_token_id`, or the one that SentencePiece gives it.
    fn special_id(&self, name: &str) -> Result<Option<u64>> {
        let key = special_key(name);
        let usual = match (self.family()?, name) {
            (Family::Merges, "unknown") => Some(0),
            (Family::Merges, "bos") => Some(1),
            (Family::Merges, "eos") => Some(2),
            _ => None,
        };
        let id = self.integer(&key)?.or(usual);
        let count = self.required(TOKENS, self.texts(TOKENS)?)?.len() as u64;
        match id {
            Some(id) if id >= count => Err(self.wrong(&key, format!("expected an id below {count}, got {id}"))),
            id => Ok(id),
        }
    }

    fn vocabulary(&self) -> Result<Vocabulary<'_>> {
        let mut tokens = self.required(TOKENS, self.texts(TOKENS)?)?;
        let mut types: Vec<u64> = match self.numbers(TYPES)? {
            Some(types) if types.len() != tokens.len() => {
                let message = format!("expected {} entries, as {TOKENS} has, got {}", tokens.len(), types.len());
                return Err(self.wrong(TYPES, message));
            }
            Some(types) => types.into_iter().map(|kind| kind as u64).collect(),
            None => vec![1; tokens.len()],
        };
        while types.last() == Some(&token_type::UNUSED) {
            types.pop();
            tokens.pop();
        }
        if tokens.is_empty() {
            return Err(self.wrong(TOKENS, "expected tokens, got none"));
        }
        let mut ids = BTreeMap::new();
        for (id, token) in tokens.iter().enumerate() {
            if let Some(first) = ids.insert(*token, id) {
                return Err(self.wrong(TOKENS, format!("expected each once, got {token:?} as {first} and as {id}")));
            }
        }
        Ok(Vocabulary { tokens, types })
    }

    /// Whether a beginning and an end are put around each text.
    fn adds(&self) -> Result<(bool, bool)> {
        let by_kind = match self.family()? {
            Family::ByteLevel => (self.pre()?.adds_bos, false),
            Family::Merges => (true, false),
            Family::Likelihood => (false, true),
        };
        let said = |name: &str| self.bool(&format!("tokenizer.ggml.add_{name}_token"));
        Ok((said("bos")?.unwrap_or(by_kind.0), said("eos")?.unwrap_or(by_kind.1)))
    }

    /// Puts the beginning and the end around a text for whoever asks for special tokens.
    fn post_processor(&self, vocabulary: &Vocabulary) -> Result<Value> {
        let (bos, eos) = self.adds()?;
        let mut special = Map::new();
        let mut mark = |name: &str, wanted: bool| -> Result<Option<String>> {
            if !wanted {
                return Ok(None);
            }
            let key = special_key(name);
            let id = self.required(&key, self.special_id(name)?)?;
            let token = self.required(&key, vocabulary.tokens.get(id as usize))?.to_string();
            special.insert(token.clone(), json!({"id": token, "ids": [id], "tokens": [token]}));
            Ok(Some(token))
        };
        let (bos, eos) = (mark("bos", bos)?, mark("eos", eos)?);
        if special.is_empty() {
            return Ok(Value::Null);
        }
        let around = |name: &str, turn: u8| -> Vec<Value> {
            let token = |token: &String| json!({"SpecialToken": {"id": token, "type_id": turn}});
            let text = json!({"Sequence": {"id": name, "type_id": turn}});
            bos.iter().map(token).chain([text]).chain(eos.iter().map(token)).collect()
        };
        let pair = [around("A", 0), around("B", 1)].concat();
        Ok(json!({"type": "TemplateProcessing", "single": around("A", 0), "pair": pair, "special_tokens": special}))
    }

    fn pre(&self) -> Result<PreTokenizer> {
        let name = self.required(PRE, self.text(PRE)?)?;
        PreTokenizer::named(name).map_err(|message| self.wrong(PRE, message))
    }

    fn by_bytes(&self, vocabulary: &Vocabulary) -> Result<Value> {
        let pre = self.pre()?;
        let ids = vocabulary.ids();
        let given = self.required(MERGES, self.texts(MERGES)?)?;
        let mut merges = Vec::with_capacity(given.len());
        for (rank, merge) in given.into_iter().enumerate() {
            let parts = merge.split_once(' ').filter(|(left, right)| {
                let known = |token: &str| ids.contains_key(token);
                known(left) && known(right) && known(&format!("{left}{right}"))
            });
            let Some((left, right)) = parts else {
                let message = format!("expected two tokens that make a third in entry {rank}, got {merge:?}");
                return Err(self.wrong(MERGES, message));
            };
            merges.push(json!([left, right]));
        }
        Ok(json!({
            "normalizer": pre.normalizer(),
            "pre_tokenizer": pre.pre_tokenizer(),
            "decoder": byte_level(true),
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                "ignore_merges": pre.ignore_merges, "vocab": vocabulary.json(), "merges": merges,
            },
        }))
    }

    /// SentencePiece's BPE: of all neighbours those merge first whose token has the highest score.
    fn by_merges(&self, vocabulary: &Vocabulary) -> Result<Value> {
        let (ids, scores) = (vocabulary.ids(), self.scores(vocabulary)?);
        let unknown = self.required(&special_key("unknown"), self.special_id("unknown")?)? as usize;
        let mut merges = Vec::new();
        for (id, token) in vocabulary.tokens.iter().enumerate().filter(|(id, _)| vocabulary.is_text(*id)) {
            let cuts = token.char_indices().skip(1).map(|(at, _)| token.split_at(at));
            let pairs = cuts.filter_map(|(left, right)| Some((*ids.get(left)?, *ids.get(right)?)));
            let mut pairs: Vec<(usize, usize)> = pairs.collect();
            pairs.sort_unstable();
            merges.extend(pairs.into_iter().map(|pair| (id, pair)));
        }
        merges.sort_by(|(a, _), (b, _)| scores[*b].total_cmp(&scores[*a]));
        let token = |id: usize| vocabulary.tokens[id];
        let merges: Vec<Value> = merges.iter().map(|(_, (left, right))| json!([token(*left), token(*right)])).collect();
        let blank = |content: &str| json!({"type": "Replace", "pattern": {"String": content}, "content": BLANK});
        let prefixed = self.bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
        let mut normalizers = vec![blank(" ")];
        let mut decoders = vec![
            json!({"type": "Replace", "pattern": {"String": BLANK}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        if prefixed {
            normalizers.insert(0, json!({"type": "Prepend", "prepend": BLANK}));
            decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        Ok(json!({
            "normalizer": {"type": "Sequence", "normalizers": normalizers},
            "decoder": {"type": "Sequence", "decoders": decoders},
            "model": {
                "type": "BPE", "dropout": null, "unk_token": token(unknown), "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": vocabulary.has_bytes(),
                "ignore_merges": false, "vocab": vocabulary.json(), "merges": merges,
            },
        }))
    }

    /// SentencePiece's unigram model: the most likely of all ways to cut a text.
    fn by_likelihood(&self, vocabulary: &Vocabulary) -> Result<Value> {
        let scores = self.scores(vocabulary)?;
        let unknown = self.required(&special_key("unknown"), self.special_id("unknown")?)?;
        // Text that looks like a control token or a byte is text: those are less likely than any way to cut it.
        let least = scores.iter().copied().fold(0.0, f64::min) - 1000.0;
        let score = |id: usize| if vocabulary.is_text(id) { scores[id] } else { least };
        let pieces = vocabulary.tokens.iter().enumerate().map(|(id, token)| json!([token, score(id)]));
        let pieces: Vec<Value> = pieces.collect();
        let mut normalizers = Vec::new();
        if let Some(map) = self.numbers(CHARSMAP)? {
            let bytes: Vec<u8> = map.into_iter().map(|byte| byte as i16 as u8).collect();
            let text = base64::engine::general_purpose::STANDARD.encode(bytes);
            normalizers.push(json!({"type": "Precompiled", "precompiled_charsmap": text}));
        }
        if self.bool("tokenizer.ggml.remove_extra_whitespaces")?.unwrap_or(false) {
            // Blanks only: line breaks are kept.
            for (pattern, content) in [(r"\A +| +\z", ""), (" {2,}", " ")] {
                normalizers.push(json!({"type": "Replace", "pattern": {"Regex": pattern}, "content": content}));
            }
        }
        let prefixed = self.bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
        let scheme = if prefixed { "always" } else { "never" };
        let blanks = json!({"type": "Metaspace", "replacement": BLANK, "prepend_scheme": scheme, "split": true});
        Ok(json!({
            "normalizer": {"type": "Sequence", "normalizers": normalizers},
            "pre_tokenizer": blanks,
            "decoder": blanks,
            "model": {
                "type": "Unigram", "unk_id": unknown, "vocab": pieces, "byte_fallback": vocabulary.has_bytes(),
            },
        }))
    }

    fn scores(&self, vocabulary: &Vocabulary) -> Result<Vec<f64>> {
        let scores = self.required(SCORES, self.numbers(SCORES)?)?;
        match scores.len() >= vocabulary.tokens.len() {
            true => Ok(scores),
            false => {
                let message =
                    format!("expected one for each of {} tokens, got {}", vocabulary.tokens.len(), scores.len());
                Err(self.wrong(SCORES, message))
            }
        }
    }
}

fn special_key(name: &str) -> String {
    format!("tokenizer.ggml.{name}_token_id")
}

impl Vocabulary<'_> {
    fn ids(&self) -> BTreeMap<&str, usize> {
        self.tokens.iter().enumerate().map(|(id, token)| (*token, id)).collect()
    }

    /// Token → id, in the order of ids.
    fn json(&self) -> Map<String, Value> {
        self.tokens.iter().enumerate().map(|(id, token)| (token.to_string(), json!(id))).collect()
    }

    /// Whether a token stands for a piece of text, not for a byte, a control or what is unknown.
    fn is_text(&self, id: usize) -> bool {
        use token_type::*;
        !matches!(self.types[id], UNKNOWN | CONTROL | BYTE)
    }

    /// Whether characters that are no tokens are written as bytes.
    fn has_bytes(&self) -> bool {
        self.types.contains(&token_type::BYTE)
    }
}
