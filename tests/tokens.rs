//! Text of tokens: for every shape of tokenizer, the text is that of its own decoder, every token has its place in it, and
//! nothing that is made of tokens cuts a character.

use gist::compressor::Request;
use gist::compressor::scored::Scored;
use gist::config::compressors::Unit;
use gist::text::character_borders;
use gist::tokenizer::{Decoded, Tokenizer};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// A tokenizer beside the crate that it is made with.
struct Shape {
    name: &'static str,
    ours: Tokenizer,
    own: tokenizers::Tokenizer,
    /// Whether bytes are tokens such as `<0xE6>`.
    falls_back: bool,
}

fn load(name: &'static str, path: &Path) -> Shape {
    let mut own = tokenizers::Tokenizer::from_file(path).unwrap();
    own.with_padding(None).with_truncation(None).unwrap();
    let falls_back = own.token_to_id("<0xE6>").is_some();
    Shape { name, ours: Tokenizer::load(path).unwrap(), own, falls_back }
}

fn added(id: usize, content: &str, special: bool) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": special})
}

/// SentencePiece as Llama and others have it: bytes, some pieces, `<s>` and a token that a user added.
fn sentence_piece(normalizer: Value, pre_tokenizer: Value, decoder: Value) -> Value {
    let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    let pieces = ["▁", "▁T", "h", "e", "T", "▁r", "r", "d", "he", "▁re", "東", "ก", ".", "\u{301}", "👩", "é"];
    let words: Vec<String> =
        ["<unk>", "<s>"].into_iter().map(String::from).chain(bytes).chain(pieces.map(String::from)).collect();
    let vocab: serde_json::Map<String, Value> =
        words.iter().enumerate().map(|(id, word)| (word.clone(), id.into())).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "post_processor": null,
        "added_tokens": [added(0, "<unk>", true), added(1, "<s>", true), added(words.len(), "<tool>", false)],
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "decoder": decoder,
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": true, "byte_fallback": true, "ignore_merges": false, "vocab": vocab,
            "merges": ["▁ T", "h e", "▁ r", "▁r e"]},
    })
}

fn metaspace(scheme: &str) -> Value {
    json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": true})
}

fn word_piece(decoder: Value) -> Value {
    let letters = "abcdehrt.,'".chars().flat_map(|c| [c.to_string(), format!("##{c}")]);
    let words: Vec<String> =
        ["[UNK]", "red", "##ed", "東", "京"].map(String::from).into_iter().chain(letters).collect();
    let vocab: serde_json::Map<String, Value> =
        words.iter().enumerate().map(|(id, word)| (word.clone(), id.into())).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "post_processor": null, "decoder": decoder,
        "added_tokens": [added(0, "[UNK]", true)],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocab},
    })
}

/// Letters with `</w>` at the ends of words, as GPT-1 and CLIP have it.
fn word_ends(decoder: Value) -> Value {
    let letters = "abcdehrt.,é東".chars().flat_map(|c| [c.to_string(), format!("{c}</w>")]);
    let words: Vec<String> = ["<unk>".to_string()].into_iter().chain(letters).chain(["red</w>".to_string()]).collect();
    let vocab: serde_json::Map<String, Value> =
        words.iter().enumerate().map(|(id, word)| (word.clone(), id.into())).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "post_processor": null, "decoder": decoder, "normalizer": null,
        "added_tokens": [added(0, "<unk>", true)], "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null, "end_of_word_suffix": "</w>",
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": []},
    })
}

static SHAPES: LazyLock<Vec<Shape>> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let llama = json!([{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}]);
    let sequence = |decoders: Value| json!({"type": "Sequence", "decoders": decoders});
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let prepend = json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace]});
    let spaced = |scheme: &str| {
        let both = sequence(json!([{"type": "ByteFallback"}, metaspace(scheme)]));
        sentence_piece(Value::Null, metaspace(scheme), both)
    };
    let made = [
        ("llama", sentence_piece(prepend, Value::Null, sequence(llama.clone()))),
        ("gemma", sentence_piece(replace.clone(), Value::Null, sequence(json!([llama[0], llama[1], llama[2]])))),
        ("metaspace, first", spaced("first")),
        ("metaspace, always", spaced("always")),
        ("metaspace, never", spaced("never")),
        ("word pieces", word_piece(json!({"type": "WordPiece", "prefix": "##", "cleanup": true}))),
        ("ends of words", word_ends(json!({"type": "BPEDecoder", "suffix": "</w>"}))),
        ("no decoder", word_ends(Value::Null)),
        // Steps that cannot be followed token by token.
        (
            "a step after all are one",
            word_ends(sequence(
                json!([{"type": "Fuse"}, {"type": "Replace", "pattern": {"String": "e</w>r"}, "content": "-"}]),
            )),
        ),
        (
            "one token for equal ones",
            word_ends(json!({"type": "CTC", "pad_token": "a", "word_delimiter_token": "b", "cleanup": true})),
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    let mut all: Vec<Shape> = Vec::new();
    for (i, (name, tokenizer)) in made.into_iter().enumerate() {
        let path = folder.path().join(format!("{i}.json"));
        std::fs::write(&path, tokenizer.to_string()).unwrap();
        all.push(load(name, &path));
    }
    let mut byte_level: Value =
        serde_json::from_slice(&std::fs::read(root.join("checkpoints/code-4m/tokenizer.json")).unwrap()).unwrap();
    let size = all_ids(&byte_level);
    let tokens = [added(size, "<tool>", false), added(size + 1, " two words ", true), added(size + 2, "東", false)];
    byte_level["added_tokens"].as_array_mut().unwrap().extend(tokens);
    let path = folder.path().join("added.json");
    std::fs::write(&path, byte_level.to_string()).unwrap();
    all.push(load("byte level with added tokens", &path));
    let shipped: [(&str, PathBuf); 3] = [
        ("code-4m", root.join("checkpoints/code-4m/tokenizer.json")),
        ("recall-1m", root.join("checkpoints/recall-1m/tokenizer.json")),
        ("minilm", root.join(".minilm/tokenizer.json")),
    ];
    all.extend(shipped.iter().filter(|(_, path)| path.exists()).map(|(name, path)| load(name, path)));
    all
});

fn all_ids(tokenizer: &Value) -> usize {
    let known = tokenizer["model"]["vocab"].as_object().unwrap().values();
    let added = tokenizer["added_tokens"].as_array().unwrap().iter().map(|token| &token["id"]);
    known.chain(added).filter_map(Value::as_u64).max().unwrap() as usize + 1
}

/// Text of many scripts, with what makes characters of several code points.
fn texts() -> impl Strategy<Value = String> {
    let parts = prop_oneof![
        8 => "[a-z]{1,6}",
        4 => Just(" ".to_string()),
        2 => "The red, red|red\\.|\\(x_1\\)|2024|<tool>|<s>| two words ",
        2 => "[东京東京大学はカ]{1,4}|[ก-๙]{1,5}|[ក-ឳ្]{1,5}|[가-힣]{1,3}|[अ-ह्िी]{1,5}|[ا-ي]{1,5}",
        1 => "e\u{301}|\u{1112}\u{1161}\u{11ab}|🇸🇬|👩\u{200d}👩\u{200d}👧|👍🏽|☀\u{fe0f}|1\u{fe0f}\u{20e3}",
        1 => "\r\n|\n|\t|  |\u{200b}|\u{0}|▁|\u{fffd}|\\PC",
    ];
    prop::collection::vec(parts, 0..14).prop_map(|parts| parts.concat())
}

#[track_caller]
fn tiles(decoded: &Decoded, name: &str) {
    let mut end = 0;
    for bytes in decoded.ranges() {
        assert!(bytes.start == end && bytes.end >= end, "{name}: {bytes:?} after {end}");
        end = bytes.end;
    }
    assert_eq!(end, decoded.text().len(), "{name}");
    assert_eq!(decoded.pieces().concat(), decoded.text(), "{name}");
}

proptest! {
    #[test]
    fn the_text_is_the_decoders_and_every_token_has_its_place(text in texts(), window in (0..40usize, 0..40usize)) {
        for Shape { name, ours, own, falls_back } in SHAPES.iter() {
            let ids = ours.encode(&text).unwrap();
            let decoded = ours.read(&ids).unwrap();
            prop_assert_eq!(decoded.len(), ids.len());
            prop_assert_eq!(decoded.text(), own.decode(&ids, false).unwrap(), "{}", name);
            prop_assert_eq!(ours.decode(&ids).unwrap(), decoded.text());
            tiles(&decoded, name);
            // A window that begins and ends anywhere.
            let start = window.0.min(ids.len());
            let part = &ids[start..(start + window.1).min(ids.len())];
            let decoded = ours.read(part).unwrap();
            tiles(&decoded, name);
            let cut = decoded.text().contains(char::REPLACEMENT_CHARACTER);
            prop_assert!((cut && *falls_back) || decoded.text() == own.decode(part, false).unwrap(), "{}: {:?}", name, part);
        }
    }

    #[test]
    fn no_unit_cuts_a_character(text in texts(), window in (0..40usize, 0..40usize), tokens in 1..9usize, stride in 1..9usize) {
        let units = [Unit::Token {}, Unit::Word {}, Unit::Sentence {}, Unit::Span { tokens, stride }];
        for Shape { name, ours, .. } in SHAPES.iter() {
            let ids = ours.encode(&text).unwrap();
            let start = window.0.min(ids.len());
            let prefix = &ids[start..(start + window.1).min(ids.len())];
            let request = Request { prefix, local: &[], query: &[], key: 0 };
            for unit in units {
                let Scored { units, decoded, .. } = Scored::new(&request, unit, ours).unwrap();
                let characters = character_borders(decoded.text());
                for range in &units {
                    let bytes = decoded.bytes(range);
                    prop_assert!(characters.contains(&bytes.start) && characters.contains(&bytes.end), "{}: {:?}", name, unit);
                }
                if !matches!(unit, Unit::Span { .. }) {
                    let all: Vec<usize> = units.iter().cloned().flatten().collect();
                    prop_assert_eq!(all, (0..prefix.len()).collect::<Vec<_>>(), "{}: {:?}", name, unit);
                } else if stride <= tokens {
                    prop_assert!((0..prefix.len()).all(|at| units.iter().any(|unit| unit.contains(&at))), "{}", name);
                }
            }
        }
    }
}

fn shape(name: &str) -> &'static Tokenizer {
    &SHAPES.iter().find(|shape| shape.name == name).unwrap().ours
}

#[test]
fn blanks_of_sentencepiece_are_where_the_text_has_them() {
    let pieces = |name: &str, text: &str| {
        let tokenizer = shape(name);
        tokenizer.read(&tokenizer.encode(text).unwrap()).unwrap().pieces()
    };
    for name in ["llama", "metaspace, first", "metaspace, always"] {
        assert_eq!(pieces(name, "The red red"), ["T", "he", " re", "d", " re", "d"], "{name}");
    }
    assert_eq!(pieces("gemma", "The red"), ["T", "he", " re", "d"]);
    assert_eq!(pieces("metaspace, never", " The red"), [" T", "he", " re", "d"]);
}

#[test]
fn whole_characters_beside_a_cut_one_stay() {
    let tokenizer = shape("gemma");
    let ids = tokenizer.encode("京京").unwrap();
    assert_eq!(ids.len(), 6, "a token a byte");
    let window = tokenizer.read(&ids[1..]).unwrap();
    assert_eq!((window.text(), window.pieces()), ("��京", ["�", "�", "京", "", ""].map(String::from).to_vec()));
    assert_eq!(window.groups().collect::<Vec<_>>(), [0..2, 2..5]);
    assert_eq!(tokenizer.read(&ids[..5]).unwrap().text(), "京�");
}

#[test]
fn ids_that_nobody_knows_say_nothing() {
    for Shape { name, ours, .. } in SHAPES.iter() {
        let ids = ours.encode("red red").unwrap();
        let [first, rest @ ..] = &ids[..] else { panic!("{name}") };
        let strange = ours.read(&[&[*first], &[4_000_000][..], rest].concat()).unwrap();
        assert_eq!(strange.text(), ours.decode(&ids).unwrap(), "{name}");
        assert_eq!((strange.len(), strange.bytes(&(1..2)).len()), (ids.len() + 1, 0), "{name}");
        assert!(ours.read(&[]).unwrap().is_empty());
    }
}

#[test]
fn texts_that_follow_one_another_keep_their_blanks_and_characters() {
    let tokenizer = shape("llama");
    let ids = tokenizer.encode("The red 京 red").unwrap();
    let at = tokenizer.read(&ids).unwrap().pieces().iter().position(|piece| piece == "京").unwrap();
    let [one, two, three] = tokenizer.texts([&ids[..2], &ids[2..at + 1], &ids[at + 1..]]).unwrap();
    assert_eq!([one, two, three], ["The", " red 京", " red"]);
    assert_eq!(tokenizer.texts([&[], &[]]).unwrap(), ["", ""]);
}
