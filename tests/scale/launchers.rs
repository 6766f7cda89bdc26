//! Ranks that others start, and ranks that others are: torchrun, Slurm's srun on two nodes, two hosts whose cable is cut, a rank
//! in Python.

use super::ranks::{SHARDS, TOLD, alone, free_port, member, said};
use super::slurm::has_slurm;
use crate::common::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Python with PyTorch, which `tests/python/check` installs; `GIST_NEEDS_PYTHON`: it must be there.
fn python() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/.venv/bin/python");
    assert!(
        python.exists() || std::env::var_os("GIST_NEEDS_PYTHON").is_none(),
        "GIST_NEEDS_PYTHON is set, and tests/python/.venv is not there"
    );
    python.exists().then_some(python)
}

fn told(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix(TOLD));
    line.unwrap_or_else(|| panic!("{:?}: {text}{}", output.status, said(output))).to_string()
}

#[test]
fn a_rank_in_python_and_ours_find_the_same_sum() {
    let Some(python) = python() else { return };
    let port = free_port();
    let ours = member(0, "2", &port, "sum").spawn().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/join_ranks.py");
    let mut theirs = Command::new(python);
    theirs.arg(script).env("TORCH_USE_RTLD_GLOBAL", "1").env("RANK", "1").env("WORLD_SIZE", "2");
    theirs.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", &port).env("GLOO_SOCKET_IFNAME", "lo");
    // Its own libtorch, not the one that these tests are linked to.
    let theirs = theirs.env_remove("LD_LIBRARY_PATH").output().unwrap();
    let ours = ours.wait_with_output().unwrap();
    assert_eq!(told(&ours), told(&theirs));
}

/// The command of a block of `docs/scale.md`, without the program that it names first.
fn page(block: &str) -> Vec<String> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/scale.md")).unwrap();
    let (_, rest) = page.split_once(&format!("```sh {block}\n")).unwrap();
    rest.lines().next().unwrap().split_whitespace().skip(1).map(String::from).collect()
}

#[test]
fn torchrun_starts_them_as_the_page_says() {
    let Some(python) = python() else { return };
    let runs = tempfile::tempdir().unwrap();
    let mut words = page("torchrun");
    let program = words.iter_mut().find(|word| *word == "gist").unwrap();
    *program = env!("CARGO_BIN_EXE_gist").into();
    words.extend(["--runs".into(), runs.path().to_str().unwrap().into()]);
    let mut torchrun = Command::new(python);
    torchrun.args(["-m", "torch.distributed.run", "--master-port", &free_port()]).args(words);
    torchrun.env("TORCH_USE_RTLD_GLOBAL", "1").env("GLOO_SOCKET_IFNAME", "lo").current_dir(&world().root);
    let output = torchrun.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_same_files(&results(alone()), &results(&run_dir(runs.path())), "started by torchrun");
}

#[test]
fn the_script_of_a_run_says_what_the_section_asks() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("submitted.toml");
    let section = "[submit]\ntype = \"slurm\"\nnodes = 2\ntime_limit = \"04:00:00\"\ngpus_per_task = 1\n";
    let base = world().root.join("tiny.toml");
    fs::write(&file, format!("base = \"{}\"\n{section}", base.display())).unwrap();
    let runs = folder.path().join("my runs");
    let flags = ["train", file.to_str().unwrap(), "--runs", runs.to_str().unwrap(), "--set", SHARDS];
    let said = ok(&[&flags[..], &["--ranks=2", "--submit", "slurm", "--dry-run"]].concat());
    let expected = [
        "#SBATCH --nodes=2\n#SBATCH --ntasks=2\n#SBATCH --cpus-per-task=1\n#SBATCH --gpus-per-task=1\n",
        "#SBATCH --time=04:00:00\n",
        "srun --kill-on-bad-exit=1 ",
        "my runs' --set parallel.grad_shards=4 --resume &\n",
        "-%j.log\"\n",
    ];
    assert_says(&said, &expected, "script");
    assert!(!said.contains("--array") && !said.contains("--ranks") && !said.contains("--dry-run"), "{said}");
    for (more, expected) in [
        (&["--submit", "slurm"][..], "submit.nodes: expected at most 1 (--ranks), got 2"),
        (
            &["--submit", "slurm", "--ranks", "8"],
            "--ranks: expected a power of two up to parallel.grad_shards (4), got 8",
        ),
    ] {
        assert_says(&fails(2, &[&flags[..], more].concat()), &[expected], "refused");
    }
    assert!(!runs.exists());
    let no_path = |arguments: &[&str]| command(arguments).current_dir(&world().root).env("PATH", "").output().unwrap();
    let output = no_path(&[&flags[..], &["--ranks", "2", "--submit", "slurm"]].concat());
    assert_eq!(output.status.code(), Some(1), "{}", super::ranks::said(&output));
    assert_says(
        &super::ranks::said(&output),
        &["expected `sbatch` on the PATH, got none; the script is kept: "],
        "no sbatch",
    );
    assert!(runs.join("tiny/submit/seed=0.sh").exists());
}

/// Steps of a run that is long enough for a cable to be cut in the middle.
const STEPS: &str = "train.steps=120";

#[test]
fn two_nodes_share_a_run_and_one_goes_on_when_the_cable_is_cut() {
    if !has_slurm() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (runs, cluster) = (at("runs"), at("cluster"));
    fs::create_dir(&cluster).unwrap();
    ok(&train(&at("alone"), &["--set", SHARDS, "--set", STEPS]));
    let words = page("srun");
    assert_eq!(words[..3], ["--kill-on-bad-exit=1", "gist", "train"]);
    let scale = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scale");
    let output = Command::new(scale.join("slurm-cluster"))
        .arg(&cluster)
        .arg(format!("bash '{}'", scale.join("slurm-ranks").display()))
        .envs([("GIST", env!("CARGO_BIN_EXE_gist")), ("PAGE", &words[2..].join(" ")), ("STEPS", STEPS)])
        .env("SUBMIT", page("submit").split(|word| word == "--dry-run").next().unwrap().join(" "))
        .env("RUNS", &runs)
        .current_dir(&world().root)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stdout), said(&output));
    let text = fs::read_to_string(runs.join("rank0.err")).unwrap();
    // Cut within an exchange, to which both had come, it is the exchange that is named.
    let named = ["ended, because of rank 1 on node2", "an exchange with the other ranks failed: "];
    assert!(named.iter().any(|words| text.contains(&format!("error: rank 0 on node1: {words}"))), "{text}");
    let story: serde_json::Value =
        gist::run_dir::read_json(&run_dir(&runs.join("job")).join("provenance.json")).unwrap();
    assert_eq!(story["resumed"].as_array().map_or(0, Vec::len), 1, "asked to stop, and queued again: {story}");
    for name in ["srun", "job", "cut"] {
        let [mut alone, mut shared] = [at("alone"), runs.join(name)].map(|runs| results(&run_dir(&runs)));
        if name == "cut" {
            // It says how long a rank is waited for, which is no part of what a run computes.
            for files in [&mut alone, &mut shared] {
                files.remove(Path::new("config.toml"));
            }
        }
        assert_same_files(&alone, &shared, name);
    }
}

/// A full disk under the run directory of two ranks ends both, with the file named, and nothing of the last checkpoint is lost.
#[test]
fn a_full_disk_ends_all_ranks_and_the_last_checkpoint_stays() {
    let mount = "unshare --mount true";
    if !Command::new("bash").args(["-c", mount]).output().is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("GIST_NEEDS_NAMESPACES").is_none(), "GIST_NEEDS_NAMESPACES is set: {mount} fails");
        return;
    }
    alone();
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scale/full-disk");
    let output = Command::new(script)
        .arg(folder.path())
        .envs([("GIST", env!("CARGO_BIN_EXE_gist")), ("SHARDS", SHARDS)])
        .current_dir(&world().root)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", said(&output));
    assert_says(&text, &["full: 70", "No space left on device", "/runs/tiny/seed=0/"], "a full disk");
    assert_same_files(&results(alone()), &results(&folder.path().join("saved")), "gone on with");
}
