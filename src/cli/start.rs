//! From a TOML file and flags to an open run: load, validate, pin threads and device, catch Ctrl-C, keep the status.
//! Nothing is written before everything that the run reads has been read ([`plan`], then [`PreparedRun::open`]).

use crate::cli::args::RunArgs;
use gist::config::experiment::{Experiment, load};
use gist::config::merge;
use gist::device;
use gist::error::Error;
use gist::hub;
use gist::run_dir::{Provenance, RunDir, Sitting, Start, State, Status, settle};
use gist::tokenizer;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use tch::Device;

/// Brings the models that an experiment names by repository, unless they are there.
pub fn bring<T: Experiment>(config: &T, offline: bool) -> anyhow::Result<()> {
    for model in config.models() {
        hub::fetch(model.path, model.revision, offline)?;
    }
    Ok(())
}

/// A run that may start: nothing is written yet.
pub struct PreparedRun<T> {
    /// The experiment.
    pub config: T,
    /// Device that it computes on.
    pub device: Device,
    /// Directory of the run.
    pub root: PathBuf,
    /// The experiment with every default written out.
    pub toml: String,
    start: Start,
    accept_changes: bool,
}

/// An open run.
pub struct OpenRun {
    /// Directory of the run.
    pub run: RunDir,
    /// Device that it computes on.
    pub device: Device,
    /// Set by Ctrl-C, TERM, HUP or USR1.
    pub stop: &'static AtomicBool,
    device_name: String,
    /// Whether differences from what a run was made from pass.
    pub accept_changes: bool,
}

static STOP: AtomicBool = AtomicBool::new(false);
static PRESSED: AtomicBool = AtomicBool::new(false);

/// Loads the experiment and makes sure that its run directory can be opened; nothing after `--dry-run`, which prints the
/// configuration.
pub fn plan<T: Experiment>(args: &RunArgs) -> anyhow::Result<Option<PreparedRun<T>>> {
    plan_as(args, true)
}

/// [`plan`], for a process that `writes` the run directory, or shares a run that another writes.
pub fn plan_as<T: Experiment>(args: &RunArgs, writes: bool) -> anyhow::Result<Option<PreparedRun<T>>> {
    let mut config = load::<T>(&args.experiment, &args.device.after(&args.set))?;
    if args.dry_run {
        settle_bos(&mut config)?;
        print!("{}", merge::to_toml(&config)?);
        return Ok(None);
    }
    device::settle(config.hardware_mut());
    let toml = merge::to_toml(&config)?;
    let start = match (args.resume, args.overwrite) {
        (true, _) => Start::Resume,
        (_, true) => Start::Overwrite,
        _ => Start::Fresh,
    };
    let root = args.at.clone().unwrap_or_else(|| args.runs.join(config.name()));
    if writes {
        RunDir::check(&root, &toml, start)?;
    }
    bring(&config, args.offline)?;
    let device = device::prepare(&config)?;
    Ok(Some(PreparedRun { config, device, root, toml, start, accept_changes: args.accept.accept_changes }))
}

/// Replaces `model.bos = "auto"` by `true` or `false`, where the tokenizer that decides is there.
fn settle_bos<T: Experiment>(config: &mut T) -> anyhow::Result<()> {
    let (bos, tokenizer) = match config.bos() {
        Ok(None) => return Ok(()),
        Ok(Some((bos, tokenizer))) if tokenizer.as_ref().is_none_or(|path| path.exists()) => (bos, tokenizer),
        Ok(Some(_)) | Err(_) => {
            eprintln!(
                "model.bos = \"auto\" stays as it is: the base's tokenizer, which decides it, is not there yet (`gist fetch` brings it)"
            );
            return Ok(());
        }
    };
    if bos.is_auto() {
        let found = tokenizer.map(|path| tokenizer::begin(&path, *bos)).transpose()?;
        *bos = (!found.unwrap_or_default().is_empty()).into();
    }
    Ok(())
}

impl<T: Experiment> PreparedRun<T> {
    /// Opens the run directory and catches Ctrl-C.
    pub fn open(&self) -> anyhow::Result<OpenRun> {
        let run = RunDir::open(&self.root, &self.toml, self.start)?;
        let stop = catch_interrupt()?;
        let device_name = self.config.hardware().device.clone();
        Ok(OpenRun { run, device: self.device, stop, device_name, accept_changes: self.accept_changes })
    }
}

/// Makes Ctrl-C, and the signals TERM, HUP and USR1 by which schedulers announce the end, set the flag that it returns. A second
/// Ctrl-C ends the program; schedulers may repeat themselves.
pub fn catch_interrupt() -> anyhow::Result<&'static AtomicBool> {
    extern "C" fn stop(_: libc::c_int) {
        STOP.store(true, Ordering::SeqCst);
    }
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1] {
        // SAFETY: the handler only stores a flag, which a signal handler may do.
        #[allow(unsafe_code)]
        unsafe {
            libc::signal(signal, stop as extern "C" fn(libc::c_int) as libc::sighandler_t);
        }
    }
    ctrlc::set_handler(|| {
        STOP.store(true, Ordering::SeqCst);
        if PRESSED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        eprintln!("stopping after this step with a checkpoint; press again to stop at once");
    })?;
    Ok(&STOP)
}

impl OpenRun {
    /// Runs `work` with provenance written before and the status kept current. A run that goes on must have been made from
    /// these inputs by this program, unless the user accepts what has changed.
    pub fn guard(
        &self,
        inputs: &[PathBuf],
        work: impl FnOnce(&OpenRun) -> anyhow::Result<usize>,
    ) -> anyhow::Result<()> {
        let run = &self.run;
        let mut now = Sitting::now(inputs, &self.device_name)?;
        if run.provenance().exists() {
            let changes = Provenance::read(run)?.changes(&now.inputs());
            let refused = format!("{}: not resumed, it was made from other things", run.root().display());
            now = now.accepting(settle(changes, self.accept_changes, &refused)?);
        }
        Provenance::add_training(run, now)?;
        Status::turn(run, State::Running, "")?;
        match work(self) {
            Ok(step) => Ok(Status::write(run, State::Done, step, "")?),
            Err(error) => {
                // The error itself says more than one about the status (both have one cause on a full disk).
                let _ = match error.downcast_ref::<Error>() {
                    Some(Error::Interrupted { step }) => {
                        Status::write(run, State::Interrupted, *step, &error.to_string())
                    }
                    _ => Status::turn(run, State::Failed, &format!("{error:#}")),
                };
                Err(error)
            }
        }
    }
}
