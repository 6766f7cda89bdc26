//! The part of the warm start in which the readers alone learn.

use super::*;
use std::collections::BTreeMap;
use tch::Tensor;

fn weights(folder: &Path, role: &str) -> BTreeMap<String, Tensor> {
    let path = folder.join(role).join("adapter_model.safetensors");
    gist::model::weights::read(&path).unwrap().into_iter().collect()
}

#[test]
fn the_compressor_stays_and_fresh_readers_learn_to_read_it() {
    let (from, runs) = (finished().join("warm_start"), tempfile::tempdir().unwrap());
    let begin = format!("warm_start.from={:?}", from.to_str().unwrap());
    let settings = [
        begin.as_str(),
        "warm_start.fresh_readers=true",
        "warm_start.rounds=0",
        "warm_start.reader_updates=24",
        "model.lora.generator.rank=3",
        "train.steps=0",
        "train.eval_every=12",
        "eval.windows=4",
        "eval.search_windows=0",
    ];
    let flags: Vec<&str> = settings.iter().flat_map(|setting| ["--set", *setting]).collect();
    ok(&train(runs.path(), &flags));
    let run = run_dir(runs.path());
    let made = run.join("warm_start");
    let (before, after) = (weights(&from, "compressor"), weights(&made, "compressor"));
    assert!(before.iter().all(|(name, tensor)| tensor.equal(&after[name])), "the compressor learned too");
    for role in ["generator", "empty_reader"] {
        let rank = weights(&made, role).iter().find(|(name, _)| name.contains("lora_A")).unwrap().1.size()[0];
        assert_eq!(rank, 3, "{role} is not fresh");
    }
    let rows = lines(&run.join("metrics.jsonl"));
    assert_eq!(rows.len(), 24);
    for key in ["generator/kl", "empty_reader/kl"] {
        let kl: Vec<f64> = rows.iter().map(|row| row[key].as_f64().unwrap()).collect();
        let (first, last): (f64, f64) = (kl[..6].iter().sum(), kl[18..].iter().sum());
        assert!(last < first, "{key}: {last} after, {first} at first");
    }
    assert_eq!(rows.iter().filter(|row| row.get("eval/kl").is_some()).count(), 2);
    let record: Value = read_json(&made.join("record.json")).unwrap();
    assert_eq!(record["updates"], 24, "updates of each reader, none of which are those of `from`");
}
