//! `gist check`: what ships passes every gate, a spoilt checkpoint does not, and a device that is not there is named.

use crate::common::{assert_says, command, copy};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Output;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs the gates on the CPU; what it printed, and the gates.
fn check(root: &Path, flags: &[&str]) -> (Output, Vec<Value>) {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("check.json");
    let fixed = [
        "check",
        "--device",
        "cpu",
        "--threads",
        "1",
        "--json",
        json.to_str().unwrap(),
        "--root",
        root.to_str().unwrap(),
    ];
    let output = command(&[&fixed, flags].concat()).output().unwrap();
    let found: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    assert_eq!(found["device"], "cpu");
    (output, found["gates"].as_array().unwrap().clone())
}

#[test]
fn what_ships_passes_every_gate_in_both_kinds() {
    let (output, gates) = check(root(), &[]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_says(&said, &["KL(sampling ‖ training)", &format!("all {} gates hold on cpu", gates.len())], "check");
    let seen: BTreeSet<[&str; 3]> =
        gates.iter().map(|gate| ["name", "on", "dtype"].map(|key| gate[key].as_str().unwrap())).collect();
    assert_eq!(seen.len(), gates.len());
    for name in ["llama3", "llama-linear", "mistral", "qwen2", "qwen2-window", "qwen3"] {
        assert!(seen.contains(&["logits = transformers", name, "float32"]), "{name}");
        assert!(seen.contains(&["greedy tokens unlike transformers", name, "float32"]), "{name}");
        assert!(seen.contains(&["logits / its own rounding", name, "bfloat16"]), "{name}");
    }
    for dtype in ["float32", "bfloat16"] {
        for [name, on] in [
            ["logits = transformers", "tied"],
            ["logits = transformers", "untied"],
            ["logits = peft", "tied_lora"],
            ["logits = transformers", "code-4m"],
            ["fresh adapter = base exactly", "code-4m"],
            ["D of the whole prefix as gist", "code-4m"],
            ["D of no gist = local window alone", "code-4m"],
            ["KL(sampling ‖ training)", "compressor"],
            ["gradient of training = plain", "generator"],
        ] {
            assert!(seen.contains(&[name, on, dtype]), "{name}, {on}, {dtype}");
        }
        for name in ["row in a padded batch = row alone", "growing cache = read at once", "shared prefix = whole rows"]
        {
            assert!(seen.iter().any(|gate| gate[0] == name && gate[2] == dtype), "{name}, {dtype}");
        }
    }
}

#[test]
fn a_spoilt_checkpoint_fails_its_gates_and_no_other() {
    let tree = tempfile::tempdir().unwrap();
    for folder in ["checkpoints", "data"] {
        std::os::unix::fs::symlink(root().join(folder), tree.path().join(folder)).unwrap();
    }
    let fixtures = tree.path().join("tests/fixtures");
    copy(&root().join("tests/fixtures"), &fixtures);
    // The sign of one weight.
    let path = fixtures.join("decoders/llama3/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 0x80;
    fs::write(&path, bytes).unwrap();
    let (output, gates) = check(tree.path(), &["--dtype", "float32"]);
    assert_eq!(output.status.code(), Some(1));
    let failed: Vec<&str> =
        (gates.iter().filter(|gate| gate["ok"] == false)).map(|g| g["on"].as_str().unwrap()).collect();
    assert!(!failed.is_empty() && failed.iter().all(|on| *on == "llama3"), "{failed:?}");
    let message = String::from_utf8_lossy(&output.stderr);
    let fails = format!("{} of {} gates fail on cpu", failed.len(), gates.len());
    assert_says(&message, &[&fails, "logits = transformers (llama3, float32)"], "check");
    assert_says(&String::from_utf8_lossy(&output.stdout), &["NO"], "the table");
}

#[test]
fn what_is_not_there_is_named() {
    let says = |code: i32, arguments: &[&str], words: &[&str]| {
        let output = command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert_says(&String::from_utf8_lossy(&output.stderr), words, &format!("{arguments:?}"));
    };
    says(2, &["check", "--device", "cuda:77"], &["cuda:77", "CUDA devices"]);
    says(2, &["check", "--device", "tpu"], &["--device", "expected \"cpu\"", "\"tpu\""]);
    says(2, &["check", "--dtype", "int8"], &["--dtype", "\"int8\""]);
    let empty = tempfile::tempdir().unwrap();
    let folder = empty.path().to_str().unwrap();
    says(1, &["check", "--device", "cpu", "--root", folder], &["tests/fixtures/decoders.safetensors"]);
}
