//! Pre-tokenizers of byte-level vocabularies: the rules that cut a text into words before bytes are merged.
//! `tokenizer.ggml.pre` names the rules, which the `tokenizer.json` of each family spells out.

use serde_json::{Value, json};

/// Llama 3: contractions, words with one sign before them, up to three digits, signs, blanks.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen2: the same with single digits.
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Seed-Coder: line breaks do not join the signs before them.
const SEED_CODER: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Mistral Nemo: words are cut where small letters are followed by capitals.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// GPT-4o and Llama 4: the same with contractions and up to three digits.
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// DeepSeek-Coder: line breaks, words, punctuation, CJK, each cut out of what the one before left.
const DEEPSEEK_CODER: [&str; 4] = [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+"];

/// Rules that cut a text into words.
enum Words {
    /// GPT-2's pattern.
    Gpt2,
    /// Digits one by one, then GPT-2's pattern.
    DigitsThenGpt2,
    /// Pieces that match a pattern, and what is between them.
    Pattern(&'static str),
    /// Several patterns one after the other, then digits one by one.
    PatternsThenDigits(&'static [&'static str]),
}

/// A pre-tokenizer, with the names that `tokenizer.ggml.pre` has for it.
pub struct PreTokenizer {
    names: &'static [&'static str],
    words: Words,
    /// Whether texts are brought to NFC first.
    nfc: bool,
    /// Whether a word that is in the vocabulary is a token even where no merges lead to it.
    pub ignore_merges: bool,
    /// Whether a beginning-of-text token is added where the file does not say.
    pub adds_bos: bool,
}

const PLAIN: PreTokenizer =
    PreTokenizer { names: &[], words: Words::Gpt2, nfc: false, ignore_merges: false, adds_bos: false };

const KNOWN: [PreTokenizer; 10] = [
    PreTokenizer { names: &["gpt-2", "phi-2", "mellum", "a.x-4.0"], ..PLAIN },
    PreTokenizer {
        names: &["smollm", "starcoder", "refact", "codeshell", "minerva-7b"],
        words: Words::DigitsThenGpt2,
        ..PLAIN
    },
    PreTokenizer {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "midm-2.0"],
        words: Words::Pattern(LLAMA3),
        ignore_merges: true,
        adds_bos: true,
        ..PLAIN
    },
    PreTokenizer { names: &["smaug-bpe", "dbrx"], words: Words::Pattern(LLAMA3), ..PLAIN },
    PreTokenizer { names: &["qwen2"], words: Words::Pattern(QWEN2), nfc: true, ..PLAIN },
    PreTokenizer { names: &["deepseek-r1-qwen", "megrez", "kormo"], words: Words::Pattern(QWEN2), ..PLAIN },
    PreTokenizer { names: &["tekken"], words: Words::Pattern(TEKKEN), ignore_merges: true, adds_bos: true, ..PLAIN },
    PreTokenizer { names: &["gpt-4o", "llama4"], words: Words::Pattern(GPT4O), ..PLAIN },
    PreTokenizer { names: &["seed-coder"], words: Words::Pattern(SEED_CODER), ..PLAIN },
    PreTokenizer { names: &["deepseek-coder"], words: Words::PatternsThenDigits(&DEEPSEEK_CODER), ..PLAIN },
];

impl PreTokenizer {
    /// The rules with this name; an error says which there are.
    pub fn named(name: &str) -> Result<Self, String> {
        let found = KNOWN.into_iter().find(|known| known.names.contains(&name));
        found.ok_or_else(|| {
            let names: Vec<&str> = KNOWN.iter().flat_map(|known| known.names).copied().collect();
            format!("expected one of {}, got {name:?}", names.join(", "))
        })
    }

    /// `normalizer` of `tokenizer.json`.
    pub fn normalizer(&self) -> Value {
        if self.nfc { json!({"type": "NFC"}) } else { Value::Null }
    }

    /// `pre_tokenizer` of `tokenizer.json`.
    pub fn pre_tokenizer(&self) -> Value {
        let digits = || json!({"type": "Digits", "individual_digits": true});
        let split = |pattern: &str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        let steps: Vec<Value> = match self.words {
            Words::Gpt2 => return byte_level(true),
            Words::DigitsThenGpt2 => vec![digits(), byte_level(true)],
            Words::Pattern(pattern) => vec![split(pattern), byte_level(false)],
            Words::PatternsThenDigits(patterns) => {
                patterns.iter().map(|pattern| split(pattern)).chain([digits(), byte_level(false)]).collect()
            }
        };
        json!({"type": "Sequence", "pretokenizers": steps})
    }
}

/// Bytes as printable letters, with or without GPT-2's pattern before it; as a decoder, the way back.
pub fn byte_level(pattern: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": pattern})
}
