//! An array of a sweep under a real Slurm: a controller and two nodes in namespaces of this machine.

use super::arrays::sweep_file;
use crate::common::*;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

const SEEDS: usize = 12;
const STEPS: usize = 150;

/// Whether Slurm is installed and namespaces may be made; `GIST_NEEDS_SLURM`: they must.
pub fn has_slurm() -> bool {
    let all =
        "command -v slurmctld slurmd sbatch munged ip >/dev/null && unshare --mount --net --uts --pid --fork true";
    let found = Command::new("bash").args(["-c", all]).output().is_ok_and(|output| output.status.success());
    assert!(found || std::env::var_os("GIST_NEEDS_SLURM").is_none(), "GIST_NEEDS_SLURM is set, but there is no Slurm");
    found
}

#[test]
fn an_array_ends_whole_after_a_kill_a_signal_a_lost_node_and_a_restarted_controller() {
    if !has_slurm() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = sweep_file(folder.path(), "array", SEEDS);
    let mut text = fs::read_to_string(&file).unwrap();
    for (from, to) in [("steps = 6", "steps = 150"), ("checkpoint_every = 2", "checkpoint_every = 5")] {
        assert!(text.contains(&format!("\n{from}\n")), "{from}");
        text = text.replace(&format!("\n{from}\n"), &format!("\n{to}\n"));
    }
    fs::write(&file, text + "[submit]\ntype = \"slurm\"\ntime_limit = \"10\"\n").unwrap();
    let scale = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scale");
    let (runs, cluster) = (folder.path().join("runs"), folder.path().join("cluster"));
    fs::create_dir(&cluster).unwrap();
    let output = Command::new(scale.join("slurm-cluster"))
        .arg(&cluster)
        .arg(format!("bash '{}'", scale.join("slurm-array").display()))
        .env("GIST", env!("CARGO_BIN_EXE_gist"))
        .env("FILE", &file)
        .env("RUNS", &runs)
        .current_dir(&world().root)
        .output()
        .unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{errors}");
    assert_says(
        &said,
        &["array: job ", "12 of 12 runs", "1 of 12 runs", "all 12 runs are finished; nothing is submitted"],
        "script",
    );
    let root = runs.join("array");
    let mut resumed = 0;
    for seed in 0..SEEDS {
        let run = root.join(format!("seed={seed}"));
        assert_eq!(rows(&run.join("metrics.jsonl")), 1 + STEPS, "seed {seed}: a row a step");
        assert_eq!(timeless_summary(&run)["seed"].as_u64(), Some(seed as u64));
        let story: Value = gist::run_dir::read_json(&run.join("provenance.json")).unwrap();
        resumed += story["resumed"].as_array().map_or(0, Vec::len);
    }
    assert_eq!(resumed, 4, "killed, asked to stop, cancelled, lost with its node: each went on once\n{said}");
    // One of those that went on, against the same run left alone.
    let cut = said.lines().find_map(|line| line.strip_prefix("lost with node 2: ")).unwrap();
    let alone = folder.path().join("alone");
    let number = (cut.trim_start_matches("seed=").parse::<usize>().unwrap() + 1).to_string();
    ok(&["sweep", file.to_str().unwrap(), "--runs", alone.to_str().unwrap(), "--index", &number]);
    assert_same_files(&results(&alone.join("array").join(cut)), &results(&root.join(cut)), "a run that went on");
    ok(&["sweep", file.to_str().unwrap(), "--runs", runs.to_str().unwrap()]);
    assert_eq!(rows(&root.join("results.csv")), 1 + SEEDS);
}
