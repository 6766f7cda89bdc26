//! `docs/scale.md`: its commands, executed in their order; its section of a file, read.

use super::arrays::sweep_file;
use crate::common::*;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Blocks of the page: the words behind the fence, and the lines.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut pieces = page.split("```").skip(1).step_by(2);
    while let Some((words, lines)) = pieces.next().and_then(|piece| piece.split_once('\n')) {
        found.push((words.trim().to_string(), lines.to_string()));
    }
    found
}

#[test]
fn every_command_of_the_page_works() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/scale.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = sweep_file(folder.path(), "sweep", 2);
    let labels =
        fs::read_to_string(&file).unwrap().replace("seeds = [0, 1]", "").replace("\nrounds = 1\n", "\nrounds = 0\n");
    let unit = "[distill]\nwindows = 96\n[compressor]\ntype = \"extractive\"\n[compressor.unit]\ntype = \"span\"\ntokens = 16\nstride = 16\n";
    fs::write(folder.path().join("labels.toml"), labels + unit).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_gist")).parent().unwrap().display().to_string();
    let path = format!("{program}:{}", std::env::var("PATH").unwrap());
    let run = |lines: &str| {
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", lines])
            .env("PATH", &path)
            .current_dir(folder.path())
            .output();
        let output = output.unwrap();
        assert!(output.status.success(), "{lines}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let has_parallel = Command::new("parallel").arg("--version").output().is_ok();
    let mut counts = [0; 5];
    for (words, lines) in blocks(&page) {
        match words.as_str() {
            "sh" => {
                run(&lines);
                counts[0] += lines.lines().count();
            }
            "sh parallel" if has_parallel => {
                run(&lines);
                counts[1] += 1;
            }
            "sh parallel" => counts[1] += 1,
            // Submitted for real by `slurm.rs`; here all but the submission.
            "sh slurm" => {
                let said = run(&lines.replace("--submit slurm", "--runs other --submit slurm --dry-run"));
                assert_says(&said, &["#SBATCH --array=1-2%8\n"], "script");
                counts[2] += 1;
            }
            "toml" => {
                let whole = fs::read_to_string(&file).unwrap() + &lines;
                fs::write(folder.path().join("section.toml"), whole).unwrap();
                run("gist validate section.toml");
                counts[3] += 1;
            }
            "sql" => {
                let index = rusqlite::Connection::open(folder.path().join("results.sqlite")).unwrap();
                let runs: i64 = index.query_row(&lines, [], |row| row.get(2)).unwrap();
                assert_eq!(runs, 2, "two seeds of one experiment");
                counts[4] += 1;
            }
            // Executed by `ranks.rs` and `launchers.rs`.
            "sh ranks" | "sh scale" | "sh torchrun" | "sh srun" | "sh submit" => {}
            other => panic!("a block of `{other}` is not tested"),
        }
    }
    assert_eq!(counts, [15, 2, 1, 2, 1], "blocks of the page");
    assert_eq!(rows(&folder.path().join("runs/sweep/results.csv")), 3);
    assert!(folder.path().join("labels/labels_0001.json").exists());
}
