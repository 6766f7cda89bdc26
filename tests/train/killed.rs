//! Runs that are killed or interrupted, and go on.

use super::*;

fn start(runs: &Path, stderr: Stdio) -> Child {
    let mut command = command(&train(runs, &[]));
    command.current_dir(&world().root).stdout(Stdio::null()).stderr(stderr).spawn().unwrap()
}

/// Waits until `reached` holds for the run, which must not end before.
fn wait_for(child: &mut Child, run: &Path, reached: impl Fn(&Path) -> bool) {
    let begun = Instant::now();
    while !reached(run) {
        if let Some(status) = child.try_wait().unwrap() {
            panic!("ended before it could be stopped: {status}");
        }
        assert!(begun.elapsed() < Duration::from_secs(300), "never got there");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Kills a run with SIGKILL when it has come to `reached`, resumes it, and compares it with one that was left alone.
fn kill_and_resume(reached: impl Fn(&Path) -> bool) {
    finished();
    let runs = tempfile::tempdir().unwrap();
    let run = run_dir(runs.path());
    let mut child = start(runs.path(), Stdio::null());
    wait_for(&mut child, &run, reached);
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    assert!(!run.join("summary.json").exists(), "it was already done");
    ok(&train(runs.path(), &["--resume"]));
    assert_same_files(&results(finished()), &results(&run), "killed and resumed");
    let status: Status = read_json(&run.join("status.json")).unwrap();
    assert_eq!(status.state, State::Done);
}

#[test]
fn killed_in_the_search() {
    kill_and_resume(|run| run.join("warm_start/round_1").exists());
}

#[test]
fn killed_in_the_warm_start() {
    kill_and_resume(|run| metrics(run) >= 3);
}

#[test]
fn killed_between_warm_start_and_cotraining() {
    kill_and_resume(|run| run.join("checkpoints/step_000004/manifest.json").exists());
}

#[test]
fn killed_in_cotraining() {
    kill_and_resume(|run| metrics(run) >= 7);
}

#[test]
fn killed_in_the_last_evaluation() {
    kill_and_resume(|run| run.join("checkpoints/step_000010/manifest.json").exists());
}

#[test]
fn killed_twice() {
    let runs = tempfile::tempdir().unwrap();
    let run = run_dir(runs.path());
    for updates in [2, 6] {
        let mut resumed = command(&train(runs.path(), &["--resume"]));
        resumed.current_dir(&world().root).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = resumed.spawn().unwrap();
        wait_for(&mut child, &run, |run| metrics(run) >= updates);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    ok(&train(runs.path(), &["--resume"]));
    assert_same_files(&results(finished()), &results(&run), "killed twice");
}

#[test]
fn interrupted_it_saves_and_goes_on() {
    finished();
    let runs = tempfile::tempdir().unwrap();
    let run = run_dir(runs.path());
    let said = runs.path().join("stderr");
    let mut child = start(runs.path(), File::create(&said).unwrap().into());
    wait_for(&mut child, &run, |run| metrics(run) >= 6);
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(75));
    let said = fs::read_to_string(said).unwrap();
    let status: Status = read_json(&run.join("status.json")).unwrap();
    assert_eq!(status.state, State::Interrupted);
    let message = format!("interrupted at step {}; continue with --resume", status.step);
    assert_eq!(status.message, message);
    assert_says(&said, &["stopping after this step with a checkpoint", &format!("error: {message}\n")], "stderr");
    assert!((6..UPDATES).contains(&status.step), "{message}");
    assert_eq!(metrics(&run), status.step);
    assert!(run.join(format!("checkpoints/step_{:06}/manifest.json", status.step)).exists());
    ok(&train(runs.path(), &["--resume"]));
    assert_same_files(&results(finished()), &results(&run), "interrupted and resumed");
}
