//! Runs that several processes share: the bytes of one process, however many there are, whichever dies, and whoever starts them.

use crate::common::*;
use gist::parallel::place::Place;
use gist::parallel::ranks::Ranks;
use gist::parallel::tree::TreeSum;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};
use tch::{Kind, Tensor};

pub const SHARDS: &str = "parallel.grad_shards=4";

/// Arguments of `train`, in four shards.
fn sharded<'a>(runs: &'a Path, flags: &[&'a str]) -> Vec<&'a str> {
    train(runs, &[&["--set", SHARDS], flags].concat())
}

/// The run in four shards by one process.
pub fn alone() -> &'static Path {
    static RUN: OnceLock<PathBuf> = OnceLock::new();
    RUN.get_or_init(|| {
        let runs = world().root.join("shards");
        ok(&sharded(&runs, &[]));
        run_dir(&runs)
    })
}

pub fn free_port() -> String {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port().to_string()
}

/// A rank as a launcher would start it, in the folder `at`.
fn rank(at: &Path, arguments: &[&str], [rank, count, port]: [&str; 3]) -> Command {
    let mut command = command(arguments);
    command.current_dir(at).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, value) in [("RANK", rank), ("WORLD_SIZE", count), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", port)] {
        command.env(name, value);
    }
    command.env("GLOO_SOCKET_IFNAME", "lo");
    command
}

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Starts `--ranks`, and waits until the run has so many rows.
fn until(runs: &Path, flags: &[&str], updates: usize) -> Child {
    let mut ranks = command(&sharded(runs, flags));
    ranks.current_dir(&world().root).stdout(Stdio::null()).stderr(Stdio::piped());
    let (mut child, begun) = (ranks.spawn().unwrap(), Instant::now());
    while rows(&run_dir(runs).join("metrics.jsonl")) < updates {
        assert!(begun.elapsed() < Duration::from_secs(200) && child.try_wait().unwrap().is_none(), "never got there");
        thread::sleep(Duration::from_millis(1));
    }
    child
}

/// The process that is rank `number` of those that `launcher` started.
fn process(launcher: &Child, number: usize) -> String {
    let children = format!("/proc/{0}/task/{0}/children", launcher.id());
    let children = fs::read_to_string(children).unwrap();
    let is = |pid: &&str| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == format!("RANK={number}").as_bytes())
    };
    children.split_whitespace().find(is).unwrap().to_string()
}

fn signal(name: &str, pid: &str) {
    assert!(Command::new("kill").args([name, pid]).status().unwrap().success());
}

#[test]
fn ranks_leave_the_bytes_of_one_process() {
    assert!(fs::read(alone().join("metrics.jsonl")).unwrap() != fs::read(finished().join("metrics.jsonl")).unwrap());
    for count in ["1", "2", "4"] {
        let runs = tempfile::tempdir().unwrap();
        ok(&sharded(runs.path(), &["--ranks", count]));
        assert_same_files(&results(alone()), &results(&run_dir(runs.path())), &format!("{count} ranks"));
    }
}

#[test]
fn a_killed_rank_ends_all_and_any_number_goes_on() {
    alone();
    let (runs, mut flags) = (tempfile::tempdir().unwrap(), vec!["--ranks", "2"]);
    for (dies, updates, then) in [(1, 6, "4"), (0, 8, "1")] {
        let launcher = until(runs.path(), &flags, updates);
        let victim = process(&launcher, dies);
        signal("-KILL", &victim);
        let begun = Instant::now();
        let output = launcher.wait_with_output().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}: {}", begun.elapsed(), said(&output));
        assert_eq!(output.status.code(), Some(70), "{}", said(&output));
        assert_says(&said(&output), &[&format!("rank {dies} was killed by signal 9; go on with --resume")], "killed");
        flags = vec!["--resume", "--ranks", then];
    }
    ok(&sharded(runs.path(), &flags));
    assert_same_files(&results(alone()), &results(&run_dir(runs.path())), "2, then 4, then 1");
}

#[test]
fn ranks_stop_together_at_a_checkpoint() {
    alone();
    let runs = tempfile::tempdir().unwrap();
    let launcher = until(runs.path(), &["--ranks", "2"], 5);
    signal("-TERM", &launcher.id().to_string());
    let output = launcher.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(75), "{}", said(&output));
    ok(&sharded(runs.path(), &["--resume"]));
    assert_same_files(&results(alone()), &results(&run_dir(runs.path())), "stopped, and gone on with by one");
}

/// `gist status` says of a run in progress which rank came where, and when.
fn status_names_its_ranks(run: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let rows = folder.path().join("rows.json");
    let said = ok(&["status", run.to_str().unwrap(), "--json", rows.to_str().unwrap()]);
    let rows: serde_json::Value = gist::run_dir::read_json(&rows).unwrap();
    let ranks = rows[0]["ranks"].as_array().unwrap();
    assert_eq!(ranks.len(), 2, "{rows}");
    for (number, rank) in ranks.iter().enumerate() {
        assert_eq!(rank["rank"], number);
        assert!(rank["step"].as_u64().unwrap() >= 5 && rank["exchanges"].as_u64().unwrap() > 6, "{rank}");
        let (phase, host) = (rank["phase"].as_str().unwrap(), rank["host"].as_str().unwrap());
        assert!(!phase.is_empty() && !host.is_empty());
        assert_says(&said, &[phase, host, "last exchange"], "ranks");
        let waiting = rank["waiting"].as_f64().unwrap();
        assert!(waiting > 0.0 && waiting < 1.0, "{waiting}");
    }
}

#[test]
fn a_rank_that_hangs_is_waited_for_and_named() {
    alone();
    let runs = tempfile::tempdir().unwrap();
    let mut launcher = until(runs.path(), &["--ranks", "2"], 6);
    let hung = process(&launcher, 1);
    signal("-STOP", &hung);
    thread::sleep(Duration::from_secs(5));
    status_names_its_ranks(&run_dir(runs.path()));
    signal("-CONT", &hung);
    assert!(launcher.wait().unwrap().success());
    assert_same_files(&results(alone()), &results(&run_dir(runs.path())), "stopped for a while");

    let runs = tempfile::tempdir().unwrap();
    let launcher = until(runs.path(), &["--ranks", "2", "--set", "parallel.timeout_seconds=2"], 6);
    signal("-STOP", &process(&launcher, 1));
    let output = launcher.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(70), "{}", said(&output));
    assert_says(&said(&output), &["error: rank 0 on "], "hung");
    // Stopped within an exchange it has come as far as the other, and only the exchange is named.
    let named = ["ended, because of rank 1 on ", "an exchange with the other ranks failed"];
    assert!(named.iter().any(|words| said(&output).contains(words)), "{}", said(&output));
}

#[test]
fn a_launcher_of_another_kind_starts_them() {
    let (runs, port) = (tempfile::tempdir().unwrap(), free_port());
    let arguments = sharded(runs.path(), &[]);
    let start = |number: &str| rank(&world().root, &arguments, [number, "2", &port]).spawn().unwrap();
    let both = ["0", "1"].map(start).map(|rank| rank.wait_with_output().unwrap());
    both.iter().for_each(|output| assert!(output.status.success(), "{}", said(output)));
    assert_same_files(&results(alone()), &results(&run_dir(runs.path())), "started by hand");
    assert!(both[1].stdout.is_empty(), "rank 1 prints nothing");
}

#[test]
fn who_is_missing_or_differs_is_named() {
    let runs = tempfile::tempdir().unwrap();
    let arguments = sharded(runs.path(), &["--set", "parallel.timeout_seconds=2"]);
    let waiting = rank(&world().root, &arguments, ["0", "2", &free_port()]).output().unwrap();
    assert_eq!(waiting.status.code(), Some(70), "{}", said(&waiting));
    assert_says(&said(&waiting), &["rank 1 did not come to 127.0.0.1:", "within 2 s"], "missing");

    let elsewhere = tempfile::tempdir().unwrap();
    for name in ["tiny.toml", "valid.jsonl", "test.jsonl"] {
        fs::copy(world().root.join(name), elsewhere.path().join(name)).unwrap();
    }
    copy(&world().root.join("base"), &elsewhere.path().join("base"));
    let text = fs::read_to_string(world().root.join("train.jsonl")).unwrap();
    fs::write(elsewhere.path().join("train.jsonl"), text.replacen("hid", "had", 1)).unwrap();
    let seed = sharded(runs.path(), &["--set", "train.steps=7"]);
    let same = sharded(runs.path(), &[]);
    for (at, second, what) in [
        (world().root.as_path(), &seed, ["the experiment: expected \"steps = 6\"", "got \"steps = 7\""]),
        (
            elsewhere.path(),
            &same,
            ["the files that are read: expected \"train.jsonl sha256 ", "got \"train.jsonl sha256 "],
        ),
    ] {
        let port = free_port();
        let first = rank(&world().root, &same, ["0", "2", &port]).spawn().unwrap();
        let second = rank(at, second, ["1", "2", &port]).spawn().unwrap();
        for output in [first, second].map(|rank| rank.wait_with_output().unwrap()) {
            assert_eq!(output.status.code(), Some(2), "{}", said(&output));
            assert_says(&said(&output), &[&["error: rank 1 on "], &what[..]].concat(), "differs");
        }
    }
    assert!(!run_dir(runs.path()).exists(), "nothing is written");
}

#[test]
fn worlds_that_cannot_be_are_refused() {
    let runs = tempfile::tempdir().unwrap();
    let refused =
        |flags: &[&str], expected: &str| assert_says(&fails(2, &train(runs.path(), flags)), &[expected], "refused");
    refused(&["--ranks", "2"], "--ranks: expected a power of two up to parallel.grad_shards (1), got 2");
    refused(
        &["--ranks", "3", "--set", SHARDS],
        "--ranks: expected a power of two up to parallel.grad_shards (4), got 3",
    );
    let eight = "`parallel.grad_shards`: expected a power of two that divides train.windows_per_step (4), got 8";
    refused(&["--set", "parallel.grad_shards=8"], eight);
    refused(&["--set", "parallel.grad_shards=3"], "`parallel.grad_shards`: expected a power of two");
    for (flags, expected) in [
        (&["--set", SHARDS, "--ranks", "4"][..], "--ranks: expected 2 (the launcher's number of processes)"),
        (&[][..], "the launcher's number of processes: expected a power of two up to parallel.grad_shards (1), got 2"),
    ] {
        let output = rank(&world().root, &train(runs.path(), flags), ["0", "2", "1"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert_says(&said(&output), &[expected], "refused");
    }
    assert!(!run_dir(runs.path()).exists());
}

/// Environment variable that tells a process of this test what to do as a rank.
const PART: &str = "GIST_TEST_PART";
/// Begins the line of what a rank found.
pub const TOLD: &str = "a rank told: ";

/// One process of [`group`], not started yet.
pub fn member(rank: usize, count: &str, port: &str, part: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "scale::ranks::one_rank", "--nocapture"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.envs([("RANK", rank.to_string().as_str()), ("WORLD_SIZE", count), ("MASTER_PORT", port)]);
    command.env("MASTER_ADDR", "127.0.0.1").env("GLOO_SOCKET_IFNAME", "lo").env(PART, part);
    command
}

/// Lines that `count` ranks tell of a part of [`one_rank`], by rank. Each is a process: libtorch keeps one record of exchanges for all
/// groups of a process, and locks it for each group by itself.
fn group(count: usize, part: &str) -> Vec<String> {
    let (port, count) = (free_port(), count.to_string());
    let start = |rank: usize| member(rank, &count, &port, part).spawn().unwrap();
    let ranks: Vec<Child> = (0..count.parse().unwrap()).map(start).collect();
    let told = |rank: Child| {
        let output = rank.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find_map(|line| line.split_once(TOLD));
        line.unwrap_or_else(|| panic!("{:?}: {text}{}", output.status, said(&output))).1.to_string()
    };
    ranks.into_iter().map(told).collect()
}

/// One process of [`group`]; by itself it has nothing to do.
#[test]
fn one_rank() {
    let Ok(part) = std::env::var(PART) else { return };
    let place = Place::of(|name| std::env::var(name).ok()).unwrap().unwrap();
    let group = Ranks::join(place, Duration::from_secs(60)).unwrap();
    let told = match part.as_str() {
        "sum" => {
            let (rank, each) = (group.rank() as i64, 8 / group.count() as i64);
            bits(&group.sum("sum", &terms(rank * each..(rank + 1) * each)).unwrap())
        }
        "words" => words(&group),
        other => panic!("{other}"),
    };
    group.finish();
    println!("\n{TOLD}{told}");
}

/// The sum of these shards' vectors by a tree. Their sizes are powers of ten apart, so that another order gives other bits.
fn terms(shards: std::ops::Range<i64>) -> Tensor {
    let mut sum = TreeSum::default();
    shards.for_each(|shard| sum.push(term(shard)));
    sum.finish().unwrap()
}

fn term(shard: i64) -> Tensor {
    let steps = Tensor::arange(1001, (Kind::Float, tch::Device::Cpu));
    (steps * (shard + 1) * 0.37).sin() * 10f64.powi(((shard * 5) % 8) as i32)
}

fn bits(tensor: &Tensor) -> String {
    Vec::<f32>::try_from(tensor).unwrap().iter().map(|x| format!("{:08x}", x.to_bits())).collect()
}

#[test]
fn a_group_sums_in_the_order_of_the_tree() {
    let whole = bits(&terms(0..8));
    for count in [2, 4, 8] {
        assert!(group(count, "sum").iter().all(|found| *found == whole), "{count} ranks");
    }
    let in_a_row = (0..8).fold(Tensor::zeros([1001], (Kind::Float, tch::Device::Cpu)), |sum, shard| sum + term(shard));
    assert_ne!(bits(&in_a_row), whole);
}

/// Tells, gathers and compares; returns how ranks that differ are told apart.
fn words(group: &Ranks) -> String {
    let own = vec![group.rank() as u8; group.rank() * 3];
    assert_eq!(group.gather("bytes", &own).unwrap().concat(), [1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3]);
    assert_eq!(group.gather_numbers("numbers", &[group.rank() as f64 / 3.0]).unwrap()[2], 2.0 / 3.0);
    assert!(group.any("wish", group.rank() == 3).unwrap() && !group.any("wish", false).unwrap());
    let found = group.from_first("a figure", || Ok(vec![f64::NAN, 0.1])).unwrap();
    assert!(found[0].is_nan() && found[1] == 0.1 && found.len() == 2);
    group.same("words", "a\nb").unwrap();
    let own = if group.rank() == 2 { "a\nc" } else { "a\nb" };
    group.same("words", own).unwrap_err().to_string()
}

#[test]
fn a_group_tells_gathers_and_compares() {
    let expected = "words: expected \"b\", as rank 0 on ";
    for said in group(4, "words") {
        assert!(said.starts_with("rank 2 on ") && said.contains(expected) && said.ends_with("got \"c\""), "{said}");
    }
}

#[test]
fn the_page_says_how() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/scale.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for name in ["tiny.toml", "train.jsonl", "valid.jsonl", "test.jsonl"] {
        fs::copy(world().root.join(name), folder.path().join(name)).unwrap();
    }
    copy(&world().root.join("base"), &folder.path().join("base"));
    let block = |name: &str| page.split_once(&format!("```sh {name}\n")).unwrap().1.split_once("```").unwrap().0;
    let commands = [block("ranks"), block("scale")].concat();
    for (line, _) in commands.lines().filter_map(|line| line.split_once('#')) {
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        let output = command(&words).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{line}: {}", said(&output));
    }
    // Two ranks have noted two of the four shards.
    let output = command(&["scale", "simulate", "runs/tiny/seed=0"]).current_dir(folder.path()).output().unwrap();
    assert_says(&said(&output), &["timings.jsonl: expected the seconds of all shards"], "of a rank");
    assert_same_files(&results(alone()), &results(&folder.path().join("runs/tiny/seed=0")), "as the page says");
}
