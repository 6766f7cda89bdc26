//! `scale`: what more processes make of a step of co-training. `bench` measures the link between ranks, `measure` the steps
//! themselves and how much processes disturb one another that do not talk, `simulate` predicts more ranks than there are.

use crate::cli::ranks;
use anyhow::{Context, bail, ensure};
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use gist::config::experiment;
use gist::config::train::TrainConfig;
use gist::cost::scaling::{Link, RankTimes, StepTimes, measure_sums, sharded_steps, simulate};
use gist::eval::schema::summary::Summary;
use gist::parallel::place::Place;
use gist::parallel::ranks::{Ranks, exchanges_of_sum};
use gist::report::scaling::{Curve, figure};
use gist::run_dir::{RunDir, read_json, write_atomic, write_json_atomic};
use gist::tensor::median;
use gist::train::checkpoint;
use gist::train::roles::ROLES;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Lengths of the vectors whose sums tell what a link costs: up to the gradient of an adapter of ten million weights.
const LENGTHS: [usize; 6] = [256, 16_384, 262_144, 1_048_576, 4_194_304, 10_485_760];
const TIMEOUT: Duration = Duration::from_secs(60);
/// Efficiency below which another seed is the better use of a machine.
const WORTH_IT: f64 = 0.8;

/// Commands of `scale`.
#[derive(clap::Subcommand)]
pub enum ScaleCommand {
    /// Measure the link between ranks: sums of vectors of six sizes.
    Bench(LinkArgs),
    /// Measure a step of an experiment on several numbers of ranks of this machine, and how much as many processes disturb one
    /// another that do not talk.
    Measure(MeasureArgs),
    /// Predict the step on more ranks from the seconds of each shard that a run of one process noted.
    Simulate(SimulateArgs),
}

/// Flags of `scale bench`.
#[derive(clap::Args)]
pub struct LinkArgs {
    /// Processes to start on this machine; a launcher's own number where one has started this.
    #[arg(long, value_name = "N", default_value_t = 2)]
    ranks: usize,
    /// Repeats of each sum, of which the median counts.
    #[arg(long, default_value_t = 15)]
    repeats: usize,
    /// Write the figures here too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Flags of `scale measure`.
#[derive(clap::Args)]
pub struct MeasureArgs {
    /// The experiment's TOML file.
    experiment: PathBuf,
    /// Override a key (repeatable).
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Numbers of ranks, 1 among them.
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1,2")]
    ranks: Vec<usize>,
    /// Steps of co-training of each run; the first and the last are not counted.
    #[arg(long, default_value_t = 22)]
    steps: usize,
    /// Runs of each kind, one kind after the other.
    #[arg(long, default_value_t = 3)]
    repeats: usize,
    /// Write the figures here too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Flags of `scale simulate`.
#[derive(clap::Args)]
pub struct SimulateArgs {
    /// Directory of a run of one process with parallel.grad_shards above 1.
    run: PathBuf,
    /// Numbers of ranks; divisors of the run's shards [default: the powers of two among them].
    #[arg(long, value_name = "N,..", value_delimiter = ',')]
    ranks: Vec<usize>,
    /// Gigabits a second of the link between two ranks.
    #[arg(long, default_value_t = 10.0)]
    gbit: f64,
    /// Microseconds of a message that holds nothing.
    #[arg(long, default_value_t = 50.0)]
    latency_us: f64,
    /// Figures of `scale bench`, in place of --gbit and --latency-us.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["gbit", "latency_us"])]
    link: Option<PathBuf>,
    /// Write the figures here too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw them here, as SVG.
    #[arg(long, value_name = "FILE")]
    figure: Option<PathBuf>,
}

/// Figures of `scale bench`.
#[derive(Serialize, Deserialize)]
struct Measured {
    ranks: usize,
    link: Link,
    /// Bytes of a vector, and seconds of its sum.
    sums: Vec<(f64, f64)>,
}

/// Runs a command of `scale`.
pub fn run(command: &ScaleCommand) -> anyhow::Result<()> {
    match command {
        ScaleCommand::Bench(args) => bench(args),
        ScaleCommand::Measure(args) => measure(args),
        ScaleCommand::Simulate(args) => predict(args),
    }
}

fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header(head);
    table
}

fn bench(args: &LinkArgs) -> anyhow::Result<()> {
    ensure!(args.repeats > 0, "--repeats: expected at least 1, got 0");
    let Some(place) = ranks::place(None)? else {
        ensure!(args.ranks > 1 && args.ranks.is_power_of_two(), "--ranks: expected 2, 4, 8, …, got {}", args.ranks);
        return ranks::launch(args.ranks, 1);
    };
    let group = Ranks::join(place, TIMEOUT)?;
    let sums = measure_sums(&group, &LENGTHS, args.repeats)?;
    group.finish();
    if !group.is_first() {
        return Ok(());
    }
    let link = Link::fit(&sums, group.count());
    let mut shown = table(&["bytes", "ms of a sum", "by the link"]);
    for &(bytes, seconds) in &sums {
        let fitted = link.seconds(exchanges_of_sum(group.count()), 2.0 * bytes, group.count());
        shown.add_row([format!("{bytes:.0}"), format!("{:.3}", 1e3 * seconds), format!("{:.3}", 1e3 * fitted)]);
    }
    println!("{shown}\n{} ranks: {}", group.count(), in_words(link));
    let found = Measured { ranks: group.count(), link, sums };
    args.json.iter().try_for_each(|path| Ok(write_json_atomic(path, &found)?))
}

fn in_words(link: Link) -> String {
    format!("{:.0} µs a message, {:.2} Gbit/s", 1e6 * link.latency_s, 8e-9 * link.bytes_per_s)
}

/// A command of this program in the background, silent.
fn start(arguments: &[String]) -> anyhow::Result<Child> {
    let mut command = Command::new(std::env::current_exe().context("this program")?);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().context("another process of this program")
}

fn finish(child: Child) -> anyhow::Result<()> {
    let output = child.wait_with_output().context("another process of this program")?;
    ensure!(output.status.success(), "a run failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Runs of an experiment that are measured.
struct Bed<'a> {
    args: &'a MeasureArgs,
    config: TrainConfig,
    folder: tempfile::TempDir,
}

impl Bed<'_> {
    /// A run of 1/`part` of the batch in the folder of this name, begun; its steps are shared by `ranks`.
    fn begin(&self, name: &str, part: usize, ranks: usize) -> anyhow::Result<(Child, PathBuf)> {
        let root = self.folder.path().join(name);
        let (train, steps) = (&self.config.train, self.args.steps);
        let windows = train.windows_per_step / part;
        let mut set = self.args.set.clone();
        set.extend([
            format!("train.steps={steps}"),
            format!("train.eval_every={steps}"),
            format!("train.windows_per_step={windows}"),
            format!("train.micro_windows={}", train.micro_windows.min(windows)),
            format!("parallel.grad_shards={}", self.config.parallel.grad_shards / part),
            "eval.windows=2".into(),
            "eval.valid_windows=2".into(),
            "eval.baselines=recent".into(),
        ]);
        // Weights decide no seconds but by the length of gists.
        set.extend(["rounds", "copy_updates", "reader_updates"].map(|key| format!("warm_start.{key}=0")));
        if self.config.warm_start.pairs.is_some() {
            set.push("unset=warm_start.pairs".into());
        }
        let mut words = vec!["train".into(), self.args.experiment.display().to_string()];
        words.extend(["--at".into(), root.display().to_string(), "--ranks".into(), ranks.to_string()]);
        words.extend(set.into_iter().flat_map(|set| ["--set".into(), set]));
        Ok((start(&words)?, root))
    }

    /// A run when it has finished, and its steps that count.
    fn end(&self, (child, root): (Child, PathBuf)) -> anyhow::Result<(Vec<StepTimes>, RunDir)> {
        finish(child)?;
        let run = RunDir::at(&root)?;
        let text = std::fs::read_to_string(run.timings()).with_context(|| run.timings().display().to_string())?;
        let rows = text.lines().map(serde_json::from_str).collect::<Result<Vec<StepTimes>, _>>()?;
        // Before them stand those of supervised stages, if the experiment has any.
        let first = rows.len().saturating_sub(self.args.steps);
        Ok((rows[first + 1..rows.len() - 1].to_vec(), run))
    }

    /// Seconds of a step of 1/`ranks` of the batch by `count` processes at once.
    fn apart(&self, name: &str, ranks: usize, count: usize) -> anyhow::Result<f64> {
        let begun =
            (0..count).map(|i| self.begin(&format!("{name}-{i}"), ranks, 1)).collect::<anyhow::Result<Vec<_>>>()?;
        let mut seconds = Vec::new();
        for run in begun {
            seconds.extend(self.end(run)?.0.iter().map(|step| step.seconds));
        }
        Ok(median(seconds))
    }

    fn link(&self, ranks: usize) -> anyhow::Result<Link> {
        let path = self.folder.path().join(format!("link-{ranks}.json"));
        let words = ["scale", "bench", "--ranks", &ranks.to_string(), "--json", &path.display().to_string()];
        finish(start(&words.map(String::from))?)?;
        Ok(read_json::<Measured>(&path)?.link)
    }
}

fn measure(args: &MeasureArgs) -> anyhow::Result<()> {
    let config = experiment::load::<TrainConfig>(&args.experiment, &args.set)?;
    ensure!(args.ranks.contains(&1), "--ranks: expected 1 among them, got {:?}", args.ranks);
    for &ranks in &args.ranks {
        Place::check(ranks, config.parallel.grad_shards, "--ranks")?;
    }
    ensure!(args.steps > 2 && args.repeats > 0, "expected --steps of at least 3 and --repeats of at least 1");
    let bed = Bed { args, config, folder: tempfile::tempdir().context("a temporary folder")? };
    let (mut found, mut one) = (Vec::new(), Vec::new());
    for ranks in args.ranks.iter().copied().collect::<BTreeSet<_>>() {
        let (mut times, mut alone, mut at_once) = (Vec::new(), Vec::new(), Vec::new());
        let (mut repeats_s, mut last) = (Vec::new(), None);
        for repeat in 0..args.repeats {
            eprintln!("{ranks} ranks, repeat {} of {}", repeat + 1, args.repeats);
            let (steps, run) = bed.end(bed.begin(&format!("{ranks}-{repeat}"), 1, ranks)?)?;
            let seconds = median(steps.iter().map(|step| step.seconds).collect());
            for (name, count, times) in [("alone", 1, &mut alone), ("at-once", ranks, &mut at_once)] {
                times.push(match ranks {
                    1 => seconds,
                    _ => bed.apart(&format!("{ranks}-{repeat}-{name}"), ranks, count)?,
                });
            }
            repeats_s.push(seconds);
            times.extend(steps);
            last = Some(run);
        }
        let run = last.context("a run that was measured")?;
        if ranks == 1 {
            one = times.iter().filter(|step| !step.shards.is_empty()).cloned().collect();
        }
        let link = (ranks > 1 && !one.is_empty()).then(|| bed.link(ranks)).transpose()?;
        let bytes = gradient_bytes(&run)?;
        let predicted = link.map(|link| predicted(&one, ranks, bytes, link)).transpose()?;
        let exchanged = times.iter().map(|step| step.in_exchanges.unwrap_or(0.0)).sum::<f64>();
        found.push(RankTimes {
            ranks,
            step_s: median(times.iter().map(|step| step.seconds).collect()),
            repeats_s,
            in_exchanges: exchanged / times.iter().map(|step| step.seconds).sum::<f64>(),
            alone_s: median(alone),
            at_once_s: median(at_once),
            peak_rss_mib: read_json::<Summary>(&run.summary())?.peak_rss_mib,
            predicted_s: predicted,
        });
    }
    show(args, &bed.config, &found)
}

fn show(args: &MeasureArgs, config: &TrainConfig, found: &[RankTimes]) -> anyhow::Result<()> {
    let one = found.iter().find(|scaling| scaling.ranks == 1).map_or(f64::NAN, |scaling| scaling.step_s);
    let mut shown =
        table(&["ranks", "step, s", "predicted, s", "E", "C", "E/C", "in exchanges", "peak of rank 0, MiB"]);
    for scaling in found {
        let (efficiency, contention) = (scaling.efficiency(one), scaling.contention());
        shown.add_row([
            scaling.ranks.to_string(),
            format!("{:.3}", scaling.step_s),
            scaling.predicted_s.map_or(String::new(), |seconds| format!("{seconds:.3}")),
            format!("{efficiency:.3}"),
            format!("{contention:.3}"),
            format!("{:.3}", efficiency / contention),
            format!("{:.1} %", 100.0 * scaling.in_exchanges),
            format!("{:.0}", scaling.peak_rss_mib),
        ]);
    }
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let (shards, threads) = (config.parallel.grad_shards, config.hardware.threads);
    println!("{shown}\n{cores} cores, {threads} threads a rank, {shards} shards, medians of {} runs", args.repeats);
    println!("E = T(1) / (W · T(W)); C = 1/W of the batch by one process alone / by W at once that do not talk");
    let figures = json!({
        "experiment": config.name, "set": args.set, "cores": cores, "threads": threads, "grad_shards": shards,
        "steps": args.steps, "repeats": args.repeats, "scaling": found,
    });
    args.json.iter().try_for_each(|path| Ok(write_json_atomic(path, &figures)?))
}

/// Bytes of the gradients of all roles of a run, f32.
fn gradient_bytes(run: &RunDir) -> anyhow::Result<f64> {
    let Some((_, folder)) = checkpoint::latest(&run.checkpoints())? else {
        bail!("{}: expected a run with a checkpoint, got one without", run.root().display());
    };
    let mut weights = 0usize;
    for role in ROLES {
        let path = folder.join(role).join("adapter_model.safetensors");
        let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let tensors = SafeTensors::deserialize(&bytes).with_context(|| path.display().to_string())?;
        weights += tensors.iter().map(|(_, tensor)| tensor.shape().iter().product::<usize>()).sum::<usize>();
    }
    Ok((weights * size_of::<f32>()) as f64)
}

/// The median over steps of what they would take.
fn predicted(steps: &[StepTimes], ranks: usize, bytes: f64, link: Link) -> gist::error::Result<f64> {
    let seconds = steps.iter().map(|step| simulate(step, ranks, bytes, link)).collect::<Result<Vec<_>, _>>()?;
    Ok(median(seconds))
}

fn predict(args: &SimulateArgs) -> anyhow::Result<()> {
    for (flag, value) in [("--gbit", args.gbit), ("--latency-us", args.latency_us)] {
        ensure!(value > 0.0 && value.is_finite(), "{flag}: expected a number above 0, got {value}");
    }
    let link = match &args.link {
        Some(path) => read_json::<Measured>(path)?.link,
        None => Link { latency_s: 1e-6 * args.latency_us, bytes_per_s: args.gbit * 1e9 / 8.0 },
    };
    let run = RunDir::at(&args.run)?;
    let steps = sharded_steps(&run.timings())?;
    let path = run.timings().display().to_string();
    ensure!(
        steps.iter().all(|step| step.in_exchanges.is_none()),
        "{path}: expected the seconds of all shards, as one process notes them, got those of a rank among several"
    );
    let shards = steps.first().map_or(0, |step| step.shards[0].len());
    ensure!(shards > 1, "{path}: expected seconds of shards (parallel.grad_shards above 1), got none");
    let steps = &steps[usize::from(steps.len() > 1)..]; // the first step warms up
    let all = (0..).map(|power| 1 << power).take_while(|ranks| *ranks <= shards).collect();
    let ranks: Vec<usize> = if args.ranks.is_empty() { all } else { args.ranks.clone() };
    let bytes = gradient_bytes(&run)?;
    let one = predicted(steps, 1, bytes, link)?;
    let mut shown = table(&["ranks", "step, s", "times as fast", "E"]);
    let (mut points, mut worth_it) = (Vec::new(), 1);
    for ranks in ranks {
        let seconds = predicted(steps, ranks, bytes, link)?;
        let efficiency = one / (ranks as f64 * seconds);
        if efficiency >= WORTH_IT {
            worth_it = worth_it.max(ranks);
        }
        let figures = [format!("{seconds:.3}"), format!("{:.2}", one / seconds), format!("{efficiency:.3}")];
        shown.add_row([ranks.to_string()].into_iter().chain(figures));
        points.push((ranks, seconds));
    }
    let (link_in_words, percent) = (in_words(link), 100.0 * WORTH_IT);
    println!(
        "{shown}\n{} steps of {shards} shards · {:.1} MB of gradients · {link_in_words}",
        steps.len(),
        1e-6 * bytes
    );
    println!("up to {worth_it} ranks are at least {percent:.0} % efficient; more machines are better spent on seeds");
    let figures = json!({
        "shards": shards, "steps": steps.len(), "gradient_bytes": bytes, "link": link,
        "step_s": points.iter().map(|(ranks, seconds)| json!({"ranks": ranks, "seconds": seconds})).collect::<Vec<_>>(),
    });
    if let Some(path) = &args.json {
        write_json_atomic(path, &figures)?;
    }
    args.figure
        .iter()
        .try_for_each(|path: &PathBuf| draw(path, &Curve { link: link_in_words.clone(), points: points.clone() }))
}

fn draw(path: &Path, curve: &Curve) -> anyhow::Result<()> {
    Ok(write_atomic(path, figure(curve)?.standalone().as_bytes())?)
}
