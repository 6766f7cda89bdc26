//! Rows of benchmarks, read from a file and written in the common form.

use gist::data::task::{TaskRow, TaskRows, benchmark, read_task};
use gist::run_dir::write_atomic_by;
use std::io::Write;
use std::path::Path;

/// Rows of a benchmark; those passed over are told on stderr.
pub fn read(name: &str, path: &Path) -> anyhow::Result<TaskRows> {
    let found = read_task(benchmark(name)?, path)?;
    let passed = [(found.empty, "without a context or a question"), (found.without_answer, "without a reference")];
    for (count, kind) in passed.into_iter().filter(|(count, _)| *count > 0) {
        eprintln!("{}: {count} rows {kind} are passed over", path.display());
    }
    if found.not_in_context > 0 {
        eprintln!("{}: of {} rows no reference stands in the context", path.display(), found.not_in_context);
    }
    Ok(found)
}

/// Writes rows in the common form, all or none.
pub fn write_rows<'a>(path: &Path, rows: impl Iterator<Item = &'a TaskRow>) -> anyhow::Result<()> {
    Ok(write_atomic_by(path, |file| {
        let mut out = std::io::BufWriter::new(file);
        for row in rows {
            serde_json::to_writer(&mut out, row)?;
            out.write_all(b"\n")?;
        }
        out.flush()
    })?)
}
