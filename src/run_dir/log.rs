//! The rows of a run: `metrics.jsonl`, `timings.jsonl` and the same metrics as TensorBoard scalars.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use protobuf::Message;
use serde::Deserialize;
use serde_json::{Map, Value};
use tensorboard_proto::event::{Event, SessionLog, SessionLog_SessionStatus};
use tensorboard_proto::summary::Summary;
use tensorboard_rs::record_writer::RecordWriter;
use tensorboard_rs::summary::scalar;

use super::{Pulse, RunDir, write_atomic};
use crate::error::{Error, Result};

/// Key of the seconds of shards.
const SHARDS: &str = "time/shards_s";

/// Writes one row per step, flushed at once. A full disk is an error for the rows and a warning for TensorBoard.
pub struct Log {
    metrics: Rows,
    timings: Rows,
    tensorboard: Option<EventFile>,
    pulse: Pulse,
}

impl Log {
    /// Opens the log of a run that goes on at `from_step`: rows of that step and later ones are cut.
    pub fn open(run: &RunDir, from_step: usize) -> Result<Log> {
        let metrics = Rows::open(run.metrics(), from_step)?;
        let timings = Rows::open(run.timings(), from_step)?;
        let tensorboard = kept(EventFile::create(&run.tensorboard(), from_step), &run.tensorboard());
        Ok(Log { metrics, timings, tensorboard, pulse: Pulse::new(run) })
    }

    /// Appends the row of results of a step that is done, and has the run's status follow; a value that is not finite is
    /// written as `null`.
    pub fn metrics(&mut self, step: usize, row: &[(&str, f64)]) -> Result<()> {
        self.metrics.append(step, row, None)?;
        self.pulse.step(step + 1)?;
        self.tensorboard =
            self.tensorboard.take().and_then(|mut file| kept(file.append(step, row), &file.path).map(|()| file));
        Ok(())
    }

    /// Appends a row of times and sizes, which may differ between two runs of one configuration; with it, if there are any, the
    /// seconds of each shard in each stretch of the step.
    pub fn timings(&mut self, step: usize, row: &[(&str, f64)], shards: &[Vec<f64>]) -> Result<()> {
        self.timings.append(step, row, (!shards.is_empty()).then(|| (SHARDS, shards.into())))
    }
}

/// The value, or nothing and one warning: a run does not stop for want of its TensorBoard file.
fn kept<T>(result: std::io::Result<T>, path: &Path) -> Option<T> {
    result.map_err(|e| eprintln!("warning: {}: {e}; the run goes on without TensorBoard", path.display())).ok()
}

struct Rows {
    path: PathBuf,
    file: File,
    length: u64,
}

#[derive(Deserialize)]
struct Step {
    step: usize,
}

impl Rows {
    fn open(path: PathBuf, from_step: usize) -> Result<Rows> {
        let length = cut(&path, from_step)?;
        let file = OpenOptions::new().append(true).create(true).open(&path).map_err(|e| Error::io(&path, e))?;
        Ok(Rows { path, file, length })
    }

    fn append(&mut self, step: usize, row: &[(&str, f64)], more: Option<(&str, Value)>) -> Result<()> {
        let mut object = Map::new();
        object.insert("step".into(), step.into());
        for &(key, value) in row {
            object.insert(key.into(), Value::from(value)); // null when not finite
        }
        object.extend(more.map(|(key, value)| (key.to_string(), value)));
        let mut line = Value::Object(object).to_string();
        line.push('\n');
        if let Err(source) = self.file.write_all(line.as_bytes()) {
            let _ = self.file.set_len(self.length); // no half row
            return Err(Error::io(&self.path, source));
        }
        self.length += line.len() as u64;
        Ok(())
    }
}

/// Removes the rows at or after `from_step` and a last row that was never finished; returns the bytes left.
fn cut(path: &Path, from_step: usize) -> Result<u64> {
    if !path.is_file() {
        return Ok(0);
    }
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    let mut rows = String::with_capacity(text.len());
    for (number, line) in text.split_inclusive('\n').enumerate().filter(|(_, line)| line.ends_with('\n')) {
        let row: Step = serde_json::from_str(line)
            .map_err(|e| Error::file(path, format!("line {}: expected a row with a step, got {e}", number + 1)))?;
        if row.step < from_step {
            rows.push_str(line);
        }
    }
    if rows.len() < text.len() {
        write_atomic(path, rows.as_bytes())?;
    }
    Ok(rows.len() as u64)
}

/// An event file, written synchronously: the writer thread of tensorboard-rs would panic on a full disk.
struct EventFile {
    path: PathBuf,
    records: RecordWriter<BufWriter<File>>,
}

impl EventFile {
    /// A new file in `folder`, named so that TensorBoard reads it after the older ones.
    fn create(folder: &Path, from_step: usize) -> std::io::Result<EventFile> {
        std::fs::create_dir_all(folder)?;
        let (now, process) = (since_1970(), std::process::id());
        let name = format!("events.out.tfevents.{:010}.{:09}.{process}", now.as_secs(), now.subsec_nanos());
        let path = folder.join(name);
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        EventFile::begin(path, file, from_step)
    }

    fn begin(path: PathBuf, file: File, from_step: usize) -> std::io::Result<EventFile> {
        let mut file = EventFile { path, records: RecordWriter::new(BufWriter::new(file)) };
        let mut version = Event::new();
        version.set_file_version("brain.Event:2".into());
        file.write(version, 0)?;
        let mut session = SessionLog::new(); // TensorBoard drops what older files hold of this step and later
        session.set_status(SessionLog_SessionStatus::START);
        let mut start = Event::new();
        start.set_session_log(session);
        file.write(start, from_step)?;
        Ok(file)
    }

    fn append(&mut self, step: usize, row: &[(&str, f64)]) -> std::io::Result<()> {
        let mut summary = Summary::new();
        for &(key, value) in row {
            summary.mut_value().extend(scalar(key, value as f32).take_value());
        }
        let mut event = Event::new();
        event.set_summary(summary);
        self.write(event, step)
    }

    fn write(&mut self, mut event: Event, step: usize) -> std::io::Result<()> {
        event.set_wall_time(since_1970().as_secs_f64());
        event.set_step(i64::try_from(step).unwrap_or(i64::MAX));
        self.records.write(&event.write_to_bytes().map_err(std::io::Error::other)?)?;
        self.records.flush()
    }
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::super::Start;
    use super::*;
    use tensorboard_rs::masked_crc32c::masked_crc32c;

    fn run(folder: &Path) -> RunDir {
        RunDir::open(&folder.join("run"), "seed = 1\n", Start::Resume).unwrap()
    }

    fn events(path: &Path) -> Vec<Event> {
        let bytes = std::fs::read(path).unwrap();
        let (mut rest, mut events) = (bytes.as_slice(), Vec::new());
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            let crc = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
            let data = &rest[12..12 + length];
            assert_eq!(crc(8), masked_crc32c(&rest[..8]));
            assert_eq!(crc(12 + length), masked_crc32c(data));
            events.push(Event::parse_from_bytes(data).unwrap());
            rest = &rest[16 + length..];
        }
        events
    }

    fn event_files(run: &RunDir) -> Vec<PathBuf> {
        let mut files: Vec<_> = std::fs::read_dir(run.tensorboard()).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        files
    }

    #[test]
    fn rows_keep_their_order_and_null_stands_for_not_finite() {
        let folder = tempfile::tempdir().unwrap();
        let run = run(folder.path());
        let mut log = Log::open(&run, 0).unwrap();
        log.metrics(0, &[("rollout/kl", 0.1), ("algo/b", f64::NAN), ("a", f64::NEG_INFINITY)]).unwrap();
        log.timings(0, &[("step/seconds", 2.0)], &[vec![0.5, 1.0]]).unwrap();
        let text = std::fs::read_to_string(run.metrics()).unwrap();
        assert_eq!(text, "{\"step\":0,\"rollout/kl\":0.1,\"algo/b\":null,\"a\":null}\n");
        assert_eq!(
            std::fs::read_to_string(run.timings()).unwrap(),
            "{\"step\":0,\"step/seconds\":2.0,\"time/shards_s\":[[0.5,1.0]]}\n"
        );
    }

    #[test]
    fn resume_cuts_later_and_unfinished_rows() {
        let folder = tempfile::tempdir().unwrap();
        let run = run(folder.path());
        let mut log = Log::open(&run, 0).unwrap();
        for step in 0..5 {
            log.metrics(step, &[("loss", step as f64)]).unwrap();
            log.timings(step, &[("seconds", 1.0)], &[]).unwrap();
        }
        let whole = std::fs::read_to_string(run.metrics()).unwrap();
        std::fs::write(run.metrics(), format!("{whole}{{\"step\":1,\"lo")).unwrap(); // killed in mid-row
        let mut log = Log::open(&run, 3).unwrap();
        for step in 3..5 {
            log.metrics(step, &[("loss", step as f64)]).unwrap();
        }
        assert_eq!(std::fs::read_to_string(run.metrics()).unwrap(), whole);
        assert_eq!(std::fs::read_to_string(run.timings()).unwrap().lines().count(), 3);

        std::fs::write(run.metrics(), "{\"step\":0}\nnonsense\n").unwrap();
        let error = Log::open(&run, 3).err().unwrap().to_string();
        assert!(error.contains("metrics.jsonl: line 2"), "{error}");
    }

    #[test]
    fn tensorboard_reads_the_same_rows() {
        let folder = tempfile::tempdir().unwrap();
        let run = run(folder.path());
        let mut log = Log::open(&run, 0).unwrap();
        log.metrics(0, &[("loss", 0.5), ("kl", 2.0)]).unwrap();
        log.metrics(1, &[("loss", 0.25)]).unwrap();
        drop(log);
        let mut log = Log::open(&run, 1).unwrap();
        log.metrics(1, &[("loss", 0.125)]).unwrap();
        let files = event_files(&run);
        assert_eq!(files.len(), 2);
        let first = events(&files[0]);
        assert_eq!(first.len(), 4); // version, start, two rows
        assert_eq!(first[0].get_file_version(), "brain.Event:2");
        let values = first[2].get_summary().get_value();
        let read: Vec<_> = values.iter().map(|v| (v.get_tag(), v.get_simple_value())).collect();
        assert_eq!(read, [("loss", 0.5), ("kl", 2.0)]);
        let second = events(&files[1]);
        assert_eq!(second[1].get_session_log().get_status(), SessionLog_SessionStatus::START);
        assert_eq!((second[1].get_step(), second[2].get_step()), (1, 1));
    }

    #[test]
    fn a_full_disk_stops_the_rows_but_not_for_tensorboard() {
        let folder = tempfile::tempdir().unwrap();
        let run = run(folder.path());
        let mut log = Log::open(&run, 0).unwrap();
        let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert!(EventFile::begin("/dev/full".into(), full(), 0).is_err());
        log.tensorboard =
            Some(EventFile { path: "/dev/full".into(), records: RecordWriter::new(BufWriter::new(full())) });
        log.metrics(0, &[("loss", 1.0)]).unwrap();
        assert!(log.tensorboard.is_none());
        log.metrics(1, &[("loss", 1.0)]).unwrap();
        log.metrics.file = full();
        let error = log.metrics(2, &[("loss", 1.0)]).unwrap_err().to_string();
        assert!(error.contains("metrics.jsonl") && error.contains("space"), "{error}");
        assert_eq!(std::fs::read_to_string(run.metrics()).unwrap().lines().count(), 2);

        std::fs::remove_dir_all(run.tensorboard()).unwrap();
        std::fs::write(run.tensorboard(), "a file in the way").unwrap();
        Log::open(&run, 2).unwrap().metrics(2, &[("loss", 1.0)]).unwrap();
    }
}
