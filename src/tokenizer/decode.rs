//! Ids to text: the steps of the decoder in `tokenizer.json`, taken so that it stays known what each token adds.
//!
//! The text is that of the tokenizer's own decoder but for one case. Where a run of byte tokens (`<0xE6>`) is no UTF-8, as when
//! a window ends inside a character, the decoder makes a replacement character of every byte of the run, and whole
//! characters beside the cut one are lost. Here they stay.

use crate::data::Window;
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use crate::tokenizer::decoded::Decoded;
use tokenizers::decoders::strip::Strip;
use tokenizers::{Decoder, DecoderWrapper};

/// The texts of a window.
pub struct WindowText {
    /// Text of the prefix.
    pub prefix: String,
    /// Text of the local window; of several probes a line each.
    pub local: String,
    /// Text of the future; of several probes a line each.
    pub future: String,
}

/// The part of a text that one token adds.
struct TokenBytes {
    bytes: Vec<u8>,
    /// Whether they are part of a character, maybe, which steps that work on text pass by.
    raw: bool,
}

impl AsRef<[u8]> for TokenBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl TokenBytes {
    fn text(&self) -> String {
        if self.raw { String::new() } else { String::from_utf8_lossy(&self.bytes).into_owned() }
    }
}

impl Tokenizer {
    /// The text of a sequence of tokens and the place of each in it. Ids that the vocabulary does not have say nothing.
    pub fn read(&self, ids: &[u32]) -> Result<Decoded> {
        if ids.is_empty() {
            return Ok(Decoded::default());
        }
        let mut steps = Vec::new();
        if let Some(decoder) = self.inner.get_decoder() {
            flatten(decoder, &mut steps);
        }
        let tokens: Vec<Option<String>> = ids.iter().map(|&id| self.inner.id_to_token(id)).collect();
        let known = tokens.iter().flatten().map(|token| TokenBytes { bytes: token.clone().into_bytes(), raw: false });
        let mut parts: Vec<TokenBytes> = known.collect();
        let followed = follow(&steps, &mut parts)?;
        let mut parts = parts.into_iter();
        let mut bytes =
            |token: &Option<String>| token.as_ref().and_then(|_| parts.next()).map_or(Vec::new(), |p| p.bytes);
        let decoded = Decoded::of(&tokens.iter().map(&mut bytes).collect::<Vec<_>>());
        // Nothing but the bytes of tokens, or not comparable.
        let certain = || {
            matches!(steps[..], [DecoderWrapper::ByteLevel(_)]) || decoded.text().contains(char::REPLACEMENT_CHARACTER)
        };
        match followed && (certain() || self.own(ids)? == decoded.text()) {
            true => Ok(decoded),
            false => self.by_heads(ids),
        }
    }

    /// The text of ids; bytes that are no UTF-8 become replacement characters.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        Ok(self.read(ids)?.text().to_string())
    }

    /// The texts of sequences that follow one another, such as prefix, local window and future: together the text of all. A
    /// character that goes across a border belongs to where it begins.
    pub fn texts<const N: usize>(&self, parts: [&[u32]; N]) -> Result<[String; N]> {
        let decoded = self.read(&parts.concat())?;
        let mut end = 0;
        Ok(parts.map(|part| {
            let start = end;
            end += part.len();
            decoded.slice(&(decoded.ceil(start)..decoded.ceil(end))).to_string()
        }))
    }

    /// The texts of a window; of several probes a line each.
    pub fn window(&self, window: &Window) -> Result<WindowText> {
        if let [probe] = &window.probes[..] {
            let [prefix, local, future] = self.texts([&window.prefix, &probe.local, &probe.future])?;
            return Ok(WindowText { prefix, local, future });
        }
        let mut text = WindowText { prefix: self.decode(&window.prefix)?, local: String::new(), future: String::new() };
        for probe in &window.probes {
            let [local, future] = self.texts([&probe.local, &probe.future])?;
            text.local += &format!("{}\n", local.trim());
            text.future += &format!("{}\n", future.trim());
        }
        Ok(text)
    }

    fn own(&self, ids: &[u32]) -> Result<String> {
        self.inner.decode(ids, false).map_err(|e| Error::invalid(format!("decoding ids: {e}")))
    }

    /// Decodes where the decoder's steps cannot be followed token by token: a token begins where the text of the tokens before
    /// it, decoded alone, is no longer the beginning of the whole text.
    fn by_heads(&self, ids: &[u32]) -> Result<Decoded> {
        let text = self.own(ids)?;
        let mut borders = vec![0];
        for count in 1..ids.len() {
            let head = self.own(&ids[..count])?;
            let common = head.bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
            borders.push(common.max(borders[count - 1]));
        }
        borders.push(text.len());
        Ok(Decoded::new(text, borders, 0))
    }
}

/// The steps of a decoder, those of sequences one by one.
fn flatten<'a>(decoder: &'a DecoderWrapper, steps: &mut Vec<&'a DecoderWrapper>) {
    match decoder {
        DecoderWrapper::Sequence(sequence) => sequence.get_decoders().iter().for_each(|step| flatten(step, steps)),
        step => steps.push(step),
    }
}

/// Takes the steps on the parts, and says whether it is known how.
fn follow(steps: &[&DecoderWrapper], parts: &mut [TokenBytes]) -> Result<bool> {
    if steps.is_empty() {
        parts.iter_mut().skip(1).for_each(|part| part.bytes.insert(0, b' '));
    }
    let mut fused = false;
    for step in steps {
        match step {
            DecoderWrapper::ByteLevel(_) => {
                for part in parts.iter_mut().filter(|part| !part.raw) {
                    let bytes: Option<Vec<u8>> = part.text().chars().map(byte_level).collect();
                    *part = TokenBytes { bytes: bytes.unwrap_or(std::mem::take(&mut part.bytes)), raw: true };
                }
            }
            DecoderWrapper::ByteFallback(_) => {
                for part in parts.iter_mut().filter(|part| !part.raw) {
                    if let Some(byte) = byte_fallback(&part.bytes) {
                        *part = TokenBytes { bytes: vec![byte], raw: true };
                    }
                }
            }
            DecoderWrapper::Fuse(_) => fused = true,
            DecoderWrapper::Strip(strip) if fused => strip_ends(strip, parts),
            DecoderWrapper::Strip(strip) => {
                parts
                    .iter_mut()
                    .filter(|part| !part.raw)
                    .for_each(|part| strip_ends(strip, std::slice::from_mut(part)));
            }
            DecoderWrapper::CTC(_) => return Ok(false),
            DecoderWrapper::BPE(_)
            | DecoderWrapper::WordPiece(_)
            | DecoderWrapper::Metaspace(_)
            | DecoderWrapper::Replace(_)
            | DecoderWrapper::Sequence(_) => {
                let made = step.decode_chain(parts.iter().map(TokenBytes::text).collect());
                let made = made.map_err(|e| Error::invalid(format!("decoding ids: {e}")))?;
                if made.len() != parts.len() {
                    return Ok(false);
                }
                for (part, text) in parts.iter_mut().zip(made).filter(|(part, _)| !part.raw) {
                    part.bytes = text.into_bytes();
                }
            }
        }
    }
    Ok(true)
}

/// The byte that a character of a byte-level vocabulary stands for (GPT-2): itself where it can be seen, or else the n-th of
/// the others as U+0100 + n.
fn byte_level(c: char) -> Option<u8> {
    match u32::from(c) {
        seen @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => Some(seen as u8),
        low @ 0x100..=0x120 => Some((low - 0x100) as u8),
        0x121 => Some(0x7f),
        high @ 0x122..=0x142 => Some((high - 0x122 + 0x80) as u8),
        0x143 => Some(0xad),
        _ => None,
    }
}

/// The byte of a token such as `<0xE6>`.
fn byte_fallback(token: &[u8]) -> Option<u8> {
    let digits = token.strip_prefix(b"<0x")?.strip_suffix(b">").filter(|digits| digits.len() == 2)?;
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Takes what is to be stripped from the first of some parts that has text, and from the last.
fn strip_ends(strip: &Strip, parts: &mut [TokenBytes]) {
    let content = strip.content.to_string();
    for _ in 0..strip.start {
        let first = parts.iter_mut().find(|part| !part.bytes.is_empty());
        let Some(part) = first.filter(|part| part.bytes.starts_with(content.as_bytes())) else { break };
        part.bytes.drain(..content.len());
    }
    for _ in 0..strip.stop {
        let last = parts.iter_mut().rfind(|part| !part.bytes.is_empty());
        let Some(part) = last.filter(|part| part.bytes.ends_with(content.as_bytes())) else { break };
        part.bytes.truncate(part.bytes.len() - content.len());
    }
}
