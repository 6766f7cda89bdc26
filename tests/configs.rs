//! Every TOML file in the tree, and what a TOML file may not say.

use crate::common::{assert_says, command, message};
use gist::config::experiment::Experiment;
use gist::config::labelled::LabelledConfig;
use gist::config::merge::{Tree, load_tree, to_toml};
use gist::config::pretrain::PretrainConfig;
use gist::config::span_reader::SpanReaderConfig;
use gist::config::train::TrainConfig;
use std::path::{Path, PathBuf};

fn tomls(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    found.sort();
    assert!(!found.is_empty(), "{folder}");
    found
}

/// The resolved configuration, or why there is none.
fn resolved(path: &Path) -> Result<String, String> {
    let tree = load_tree(path, &[]).map_err(|e| e.to_string())?;
    match tree.get_str("kind") {
        Some("distill") => whole::<LabelledConfig>(&tree),
        Some("span_reader") => whole::<SpanReaderConfig>(&tree),
        Some("pretrain") => whole::<PretrainConfig>(&tree),
        _ => whole::<TrainConfig>(&tree),
    }
}

fn whole<T: Experiment>(tree: &Tree) -> Result<String, String> {
    let invalid = |(key, message): (String, String)| tree.invalid(&key, message).to_string();
    let under_hardware = |(key, message): (String, String)| invalid((format!("hardware.{key}"), message));
    let config: T = tree.resolve().map_err(|e| e.to_string())?;
    config.check().map_err(invalid)?;
    config.hardware().check().map_err(under_hardware)?;
    Ok(to_toml(&config).unwrap())
}

#[test]
fn every_file_is_valid() {
    let files = [tomls("configs"), tomls("experiments"), tomls("experiments/ablations")].concat();
    let names: Vec<&str> = files.iter().map(|path| path.to_str().unwrap()).collect();
    let output = command(&[&["validate"], &names[..]].concat()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    for name in names {
        assert!(said.lines().any(|line| line.starts_with("ok ") && line.contains(name)), "{name}: {said}");
    }
}

#[test]
fn every_experiment_is_whole_and_every_base_is_named_by_one() {
    for path in tomls("experiments") {
        resolved(&path).unwrap();
    }
    let files = [tomls("experiments"), tomls("experiments/ablations")].concat();
    let texts: String = files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    for path in tomls("configs") {
        let end = format!("../configs/{}\"\n", path.file_name().unwrap().to_str().unwrap());
        assert!(texts.lines().any(|line| line.starts_with("base = ") && format!("{line}\n").ends_with(&end)), "{end}");
    }
}

#[test]
fn a_dry_run_prints_the_whole_configuration_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for path in tomls("experiments") {
        let direct = resolved(&path).unwrap();
        let kind = ["pretrain", "distill"].into_iter().find(|kind| direct.starts_with(&format!("kind = {kind:?}")));
        let kind = kind.unwrap_or("train");
        let dry = command(&[kind, path.to_str().unwrap(), "--dry-run"]).current_dir(folder.path()).output().unwrap();
        assert!(dry.status.success(), "{}", String::from_utf8_lossy(&dry.stderr));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{}", path.display());
        let printed = String::from_utf8(dry.stdout).unwrap();
        // The only key that a file says: what the base's rows begin with.
        let bos = ["bos = false\n", ""].iter().find(|line| printed.contains(*line)).unwrap();
        assert_eq!(printed.replace(bos, ""), direct);
        let again = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        std::fs::write(again.path(), &printed).unwrap();
        assert_eq!(resolved(again.path()).unwrap().replace(bos, ""), direct, "{}", path.display());
    }
}

/// Lines over the default experiment, the key at fault, and words of the message.
const REFUSED: &[(&str, &str, &str)] = &[
    // Unknown keys, also where a variant has none of its own.
    ("[train]\nstpes = 3", "train.stpes", "unknown key `stpes` (did you mean `steps`?)"),
    ("[trian]\nsteps = 3", "trian", "did you mean `train`?"),
    ("[algo.estimator]\ntype = \"rloo\"\nclip = 1", "algo.estimator.clip", "unknown key `clip`"),
    ("[algo.estimator]\ntype = \"ppo\"\nclip = 1", "algo.estimator.clip", "expected one of `clip_low`, `clip_high`"),
    ("[train.schedule]\ntype = \"constant\"\nfloor = 0.1", "train.schedule.floor", "unknown key `floor`"),
    ("[reward.reader]\ntype = \"current\"\ndecay = 0.9", "reward.reader.decay", "unknown key `decay`"),
    ("[reward.reader]\ntype = \"frozen\"\ndecay = 0.9", "reward.reader.decay", "unknown key `decay`"),
    ("[reward.length]\ntype = \"fixed\"\nlambda = 0.1\ntarget = 0.1", "reward.length.target", "unknown key `target`"),
    // Wrong types and variants.
    ("[train]\nsteps = -1", "train.steps", "expected a non-negative integer, got integer `-1`"),
    ("[train]\nsteps = \"many\"", "train.steps", "expected a non-negative integer, got string \"many\""),
    ("[algo.estimator]\ntype = \"a2c\"", "algo.estimator.type", "expected one of `rloo`, `grpo`, `reinforce`, `ppo`"),
    ("[algo]\ntoken_credit = \"some\"", "algo.token_credit", "expected one of `uniform`, `leave_one_out`"),
    ("kind = \"trian\"", "kind", "expected \"train\", got \"trian\""),
    // Values out of range.
    ("[budget]\nkeep_ratio = 0.0", "budget.keep_ratio", "expected a budget of at least 1 token, got 0"),
    ("[budget]\nkeep_ratio = 0.003", "budget.keep_ratio", "expected a budget of at least 1 token, got 0"),
    ("[budget]\nkeep_ratio = nan", "budget.keep_ratio", "expected a budget of at least 1 token, got 0"),
    ("[budget]\nkeep_ratio = 1.0", "budget.keep_ratio", "expected a budget below the prefix's 256 tokens, got 256"),
    ("[warm_start]\nrounds = 1\nrecent = 1.5", "warm_start.recent", "expected a share in [0, 1], got 1.5"),
    ("[data]\nfuture_tokens = 0", "data.future_tokens", "expected at least 1, got 0"),
    ("[train]\ncheckpoint_every = 0", "train.checkpoint_every", "expected at least 1, got 0"),
    ("[train]\ncheckpoint_minutes = -1", "train.checkpoint_minutes", "expected a finite number of at least 0, got -1"),
    ("[generator]\nstale_refresh_steps = 0", "generator.stale_refresh_steps", "expected at least 1, got 0"),
    ("[reward.length]\ntype = \"target_keep_ratio\"\ntarget = 2.0", "reward.length.target", "in (0, 1), got 2"),
    ("[reward.reader]\ntype = \"ema\"\ndecay = 1.0", "reward.reader.decay", "in [0, 1), got 1"),
    ("[algo]\nentropy_coef = nan", "algo.entropy_coef", "finite number of at least 0, got NaN"),
    ("[train]\naverage_decay = 1.0", "train.average_decay", "expected a number in [0, 1), got 1"),
    ("[algo]\nrecent_coef = -1.0", "algo.recent_coef", "finite number of at least 0, got -1"),
    ("[algo.estimator]\ntype = \"ppo\"\nepochs = 0", "algo.estimator.epochs", "expected at least 1, got 0"),
    ("[optim.compressor]\nlr = -1.0", "optim.compressor.lr", "finite number of at least 0e0, got -1"),
    ("[model.lora]\nrank = 0", "model.lora.rank", "expected at least 1, got 0"),
    ("[model.lora]\ntarget_modules = [\"query\"]", "model.lora.target_modules", "got \"query\""),
    ("[train.schedule]\ntype = \"wsd\"\ndecay_frac = 2.0", "train.schedule.decay_frac", "in [0, 1], got 2"),
    ("[eval.sampling]\ntop_p = 0.0", "eval.sampling.top_p", "in (0, 1], got 0"),
    (
        "[hardware]\ndevice = \"tpu\"",
        "hardware.device",
        "expected \"cpu\", \"cuda\", \"cuda:N\" or \"auto\", got \"tpu\"",
    ),
    ("[hardware]\nthreads = 0", "hardware.threads", "expected at least 1, got 0"),
    ("name = \"../elsewhere\"", "name", "letters, digits"),
    // Keys that contradict each other.
    (
        "[warm_start]\nfresh_readers = true\nfresh_compressor = true",
        "warm_start.fresh_readers",
        "expected warm_start.from beside it, and no fresh_compressor",
    ),
    (
        "[warm_start]\nreader_evidence = 0.5",
        "warm_start.reader_evidence",
        "expected 0 (only data.facts and data.qa have evidence), got 0.5",
    ),
    (
        "[compressor]\ntype = \"gist\"\nlikeliest = { samples = 0 }",
        "compressor.likeliest.samples",
        "expected at least 1, got 0",
    ),
    (
        "[compressor]\ntype = \"gist\"\nlikeliest = { below = 1.5 }",
        "compressor.likeliest.below",
        "expected a probability in (0, 1], got 1.5",
    ),
    (
        "[warm_start.output_rank]\ngenerator = 17",
        "warm_start.output_rank.generator",
        "expected 1 to 16, the rank that is trained, got 17",
    ),
    ("[budget]\ntokens = 20", "budget.tokens", "expected either tokens or keep_ratio, got both"),
    ("[generator]\ncurrent = 0.9", "generator", "sum to 1, got 0.9 + "),
    ("[generator]\ncurrent = nan", "generator", "sum to 1, got NaN + "),
    ("[generator]\ncurrent = 1.6\nempty = -1.0", "generator", "at least 0"),
    ("[rollout]\ngroup_size = 1", "rollout.group_size", "expected at least 2, got 1"),
    (
        "[train]\nimagined_futures = 2\n[reward]\nsignal = \"logprob\"",
        "train.imagined_futures",
        "expected 0 under reward.signal = \"logprob\"",
    ),
    ("condition = \"query\"", "condition", "expected \"none\" or \"local\""),
];

#[test]
fn what_is_refused_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.toml");
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/code.toml");
    for (text, key, words) in REFUSED {
        std::fs::write(&path, format!("base = {:?}\n{text}\n", base.to_str().unwrap())).unwrap();
        let said = resolved(&path).expect_err(text);
        let place = format!("{}: `{key}`: ", path.display());
        assert_says(&said, &[&place, words], text);
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn every_bad_file_is_said_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_string()
    };
    let cases = [
        (write("syntax.toml", b"kind = \"train\"\nname = = 1"), "syntax.toml: line 2, column 8: "),
        (write("latin.toml", b"kind = \"tr\xe9in\""), "latin.toml:1: expected UTF-8, got byte 0xe9"),
        (
            write("kind.toml", b"name = \"x\""),
            "kind.toml: `kind`: expected \"pretrain\", \"distill\", \"span_reader\" or \"train\", got nothing",
        ),
        (write("missing.toml", b"kind = \"train\"\nname = \"x\""), "missing.toml: `model`: missing; it has no default"),
        (write("above.toml", b"base = \"gone.toml\""), "above.toml: `base`: cannot read "),
        (write("base.toml", b"kind = \"train\"\n[data]\nprefix = 3"), "base.toml: `data.prefix`: unknown key `prefix`"),
        (folder.path().join("gone.toml").to_str().unwrap().to_string(), "gone.toml: No such file"),
    ];
    let names: Vec<&str> = cases.iter().map(|(name, _)| name.as_str()).collect();
    let output = command(&[&["validate"], &names[..]].concat()).output().unwrap();
    assert_says(&message(2, &output, "validate"), &["7 of 7 files are not valid"], "validate");
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said.lines().count(), cases.len(), "{said}");
    for ((_, words), line) in cases.iter().zip(said.lines()) {
        assert_says(line, &["bad ", words], "validate");
    }
}
