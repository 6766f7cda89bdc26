//! `check`: does this device compute rightly? Runs the gates on what ships, prints a table, fails when one does.

use crate::cli::exit::Failed;
use clap::Args;
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use gist::config::hardware::Hardware;
use gist::device;
use gist::eval::gates::{self, Gate, GatePlace};
use gist::run_dir::write_json_atomic;
use std::path::PathBuf;
use std::time::Instant;

/// Flags of `check`.
#[derive(Args)]
pub struct CheckArgs {
    /// The device: cpu, cuda, cuda:N, or auto.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Kinds of number: float32, bfloat16, or auto, the one that experiments use there.
    #[arg(long, value_name = "KIND,..", value_delimiter = ',', default_value = "float32,bfloat16")]
    dtype: Vec<String>,
    /// CPU threads.
    #[arg(long, default_value_t = 1)]
    threads: i32,
    /// The folder that holds checkpoints, data and tests.
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
    /// Write the figures here too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs every gate in every kind asked for.
pub fn run(args: &CheckArgs) -> anyhow::Result<()> {
    let clock = Instant::now();
    let mut all: Vec<Gate> = Vec::new();
    let mut settled: Vec<Hardware> = Vec::new();
    for dtype in &args.dtype {
        let mut hardware = Hardware { device: args.device.clone(), threads: args.threads, dtype: dtype.clone() };
        hardware.check().map_err(|(key, message)| anyhow::anyhow!("--{key}: {message}"))?;
        device::settle(&mut hardware);
        if !settled.contains(&hardware) {
            settled.push(hardware);
        }
    }
    let Some(device) = settled.first().map(|hardware| device::open(hardware, false)).transpose()? else {
        return Ok(());
    };
    for hardware in &settled {
        all.extend(gates::all(GatePlace { root: &args.root, device, kind: hardware.kind() })?);
    }
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED);
    table.set_header(["gate", "on", "dtype", "measured", "allowed", "ok"]);
    for gate in &all {
        table.add_row([
            gate.name.clone(),
            gate.on.clone(),
            gate.dtype.to_string(),
            format!("{:.1e}", gate.measured),
            format!("{:.1e}", gate.allowed),
            if gate.ok { "yes" } else { "NO" }.to_string(),
        ]);
    }
    println!("{table}");
    let device = settled.first().map_or("", |hardware| hardware.device.as_str());
    if let Some(path) = &args.json {
        write_json_atomic(path, &serde_json::json!({"device": device, "gates": all}))?;
    }
    let failed: Vec<String> =
        all.iter().filter(|gate| !gate.ok).map(|g| format!("{} ({}, {})", g.name, g.on, g.dtype)).collect();
    if !failed.is_empty() {
        let (count, all) = (failed.len(), all.len());
        return Err(Failed(format!("{count} of {all} gates fail on {device}: {}", failed.join("; "))).into());
    }
    println!("all {} gates hold on {device}; {:.1} s", all.len(), clock.elapsed().as_secs_f64());
    Ok(())
}
