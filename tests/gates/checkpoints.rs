//! Checkpoints: whole ones come back, unfinished ones are passed over, damaged ones are named.

use crate::common::*;
use gist::train::checkpoint::{self, Groups};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct State {
    step: usize,
}

fn groups(seed: u64) -> Groups {
    vec![("model".into(), vec![("w".into(), noise(&[3, 4], 1.0, seed))]), ("optimizer".into(), Vec::new())]
}

fn folder(root: &Path, step: usize) -> PathBuf {
    root.join(format!("step_{step:06}"))
}

fn save(root: &Path, step: usize) {
    let extra = |folder: &Path| -> gist::error::Result<()> {
        gist::run_dir::write_atomic(&folder.join("compressor/notes.txt"), b"kept")
    };
    checkpoint::save(&folder(root, step), step, &groups(step as u64), &State { step }, extra).unwrap();
}

fn steps(root: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(root).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_latest_whole_one_comes_back() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    assert!(checkpoint::latest(&root.join("absent")).unwrap().is_none());
    assert!(checkpoint::latest(root).unwrap().is_none());
    for step in [9, 10, 100] {
        save(root, step);
    }
    let (step, found) = checkpoint::latest(root).unwrap().unwrap();
    assert_eq!((step, found.as_path()), (100, folder(root, 100).as_path()));
    assert_eq!(checkpoint::state::<State>(&found).unwrap(), State { step: 100 });
    assert!(checkpoint::tensors(&found, "model").unwrap()["w"].equal(&noise(&[3, 4], 1.0, 100)));
    assert!(checkpoint::tensors(&found, "optimizer").unwrap().is_empty());
    // Saved again, it is replaced.
    fs::write(found.join("stray"), "x").unwrap();
    save(root, 100);
    assert!(!found.join("stray").exists());
    checkpoint::latest(root).unwrap();
}

#[test]
fn one_without_a_manifest_never_finished() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    save(root, 5);
    save(root, 6);
    fs::remove_file(folder(root, 6).join("manifest.json")).unwrap();
    fs::create_dir(root.join("step_000007")).unwrap();
    fs::create_dir(root.join("notes")).unwrap();
    assert_eq!(checkpoint::latest(root).unwrap().unwrap().0, 5);
}

#[test]
fn pruning_keeps_the_last_whole_ones() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    for step in [1, 2, 3, 4] {
        save(root, step);
    }
    fs::remove_file(folder(root, 4).join("manifest.json")).unwrap();
    checkpoint::prune(root, 2).unwrap();
    assert_eq!(steps(root), ["step_000002", "step_000003"]);
}

#[test]
fn a_damaged_file_is_named() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let error = || checkpoint::latest(root).unwrap_err().to_string();
    for name in ["model.safetensors", "state.json", "compressor/notes.txt"] {
        save(root, 3);
        save(root, 4);
        let path = folder(root, 4).join(name);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(error().contains(&path.display().to_string()), "{}", error());
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        fs::write(&path, flipped).unwrap();
        assert!(error().contains(&path.display().to_string()), "{}", error());
        fs::remove_file(&path).unwrap();
        assert!(error().contains(&path.display().to_string()), "{}", error());
    }
    save(root, 4);
    let manifest = folder(root, 4).join("manifest.json");
    fs::write(&manifest, &fs::read(&manifest).unwrap()[..20]).unwrap();
    assert!(error().contains(&manifest.display().to_string()), "{}", error());
}
