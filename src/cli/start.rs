//! From a TOML file and flags to an open run: load, validate, pin threads and device, catch Ctrl-C, keep the status.
//! Nothing is written before everything that the run reads has been read ([`plan`], then [`Plan::open`]).

use crate::cli::RunArgs;
use gist::config::bases;
use gist::config::bos::Bos;
use gist::config::compressors::CompressorConfig;
use gist::config::hardware::Hardware;
use gist::config::labelled::LabelledConfig;
use gist::config::merge::{self, Tree};
use gist::config::parts::Problem;
use gist::config::pretrain::PretrainConfig;
use gist::config::sweep;
use gist::config::train::TrainConfig;
use gist::error::Error;
use gist::hub;
use gist::run_dir::{RunDir, Start, State, Status};
use gist::tokenizer;
use gist::train::pretrain;
use serde::{Serialize, de::DeserializeOwned};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use tch::Device;

/// An experiment that a subcommand can run.
pub trait Experiment: Serialize + DeserializeOwned {
    /// Its `kind`.
    const KIND: &'static str;
    /// Its name: the run directory.
    fn name(&self) -> String;
    /// Where it computes.
    fn hardware(&self) -> &Hardware;
    /// The same, to settle what the machine decides.
    fn hardware_mut(&mut self) -> &mut Hardware;
    /// Whether it would rather be slow than large.
    fn saves_memory(&self) -> bool {
        false
    }
    /// What is impossible in it.
    fn check(&self) -> Result<(), Problem>;
    /// Models that it reads, with their revisions.
    fn models(&self) -> Vec<(&Path, Option<&str>)>;
    /// `model.bos`, and the `tokenizer.json` that decides where it is "auto"; none where a tokenizer is trained.
    fn bos(&mut self) -> gist::error::Result<(&mut Bos, Option<PathBuf>)>;
}

/// What every experiment answers alike.
macro_rules! common {
    ($config:ty) => {
        fn hardware(&self) -> &Hardware {
            &self.hardware
        }
        fn hardware_mut(&mut self) -> &mut Hardware {
            &mut self.hardware
        }
        fn check(&self) -> Result<(), Problem> {
            <$config>::check(self)
        }
    };
}

impl Experiment for PretrainConfig {
    const KIND: &'static str = "pretrain";
    fn name(&self) -> String {
        self.name.clone()
    }
    common!(PretrainConfig);
    fn models(&self) -> Vec<(&Path, Option<&str>)> {
        Vec::new()
    }
    fn bos(&mut self) -> gist::error::Result<(&mut Bos, Option<PathBuf>)> {
        let tokenizer = pretrain::Text::given_tokenizer(self);
        Ok((&mut self.model.bos, tokenizer))
    }
}

impl Experiment for TrainConfig {
    const KIND: &'static str = "train";
    fn name(&self) -> String {
        format!("{}/seed={}", self.name, self.seed)
    }
    common!(TrainConfig);
    fn saves_memory(&self) -> bool {
        self.train.checkpoint_activations
    }
    fn models(&self) -> Vec<(&Path, Option<&str>)> {
        let mut all = models((&self.model.path, &self.model.revision), &self.compressor);
        all.extend(self.eval.encoders.iter().map(|frozen| (frozen.path.as_path(), frozen.revision.as_deref())));
        all
    }
    fn bos(&mut self) -> gist::error::Result<(&mut Bos, Option<PathBuf>)> {
        let folder = self.model.folder()?;
        Ok((&mut self.model.bos, Some(folder.join("tokenizer.json"))))
    }
}

impl Experiment for LabelledConfig {
    const KIND: &'static str = "distill";
    fn name(&self) -> String {
        format!("{}/seed={}", self.name, self.seed)
    }
    common!(LabelledConfig);
    fn models(&self) -> Vec<(&Path, Option<&str>)> {
        models((&self.model.path, &self.model.revision), &self.compressor)
    }
    fn bos(&mut self) -> gist::error::Result<(&mut Bos, Option<PathBuf>)> {
        let folder = self.model.folder()?;
        Ok((&mut self.model.bos, Some(folder.join("tokenizer.json"))))
    }
}

/// A base, and the encoder of a compressor that has one.
fn models<'a>(
    (path, revision): (&'a Path, &'a Option<String>),
    compressor: &'a CompressorConfig,
) -> Vec<(&'a Path, Option<&'a str>)> {
    let mut all = vec![(path, revision.as_deref())];
    if let CompressorConfig::Extractive { encoder: Some(encoder), .. } = compressor {
        all.push((&encoder.path, encoder.revision.as_deref()));
    }
    all
}

/// Brings the models that an experiment names by repository, unless they are there.
pub fn bring<T: Experiment>(config: &T, offline: bool) -> anyhow::Result<()> {
    for (path, revision) in config.models() {
        hub::fetch(path, revision, offline)?;
    }
    Ok(())
}

/// A run that may start: nothing is written yet.
pub struct Plan<T> {
    /// The experiment.
    pub config: T,
    /// Where it computes.
    pub device: Device,
    root: PathBuf,
    toml: String,
    start: Start,
}

/// An open run.
pub struct Session {
    /// Its directory.
    pub run: RunDir,
    /// Where it computes.
    pub device: Device,
    /// Set by Ctrl-C.
    pub stop: &'static AtomicBool,
    device_name: String,
}

static STOP: AtomicBool = AtomicBool::new(false);

/// Reads and checks an experiment file.
pub fn load<T: Experiment>(path: &Path, set: &[String]) -> anyhow::Result<T> {
    resolve(&merge::load_tree(path, set)?)
}

/// The experiment that a merged file describes.
pub fn resolve<T: Experiment>(tree: &Tree) -> anyhow::Result<T> {
    match tree.get_str("kind") {
        Some(kind) if kind != T::KIND => Err(wrong_kind(tree, &format!("{:?}", T::KIND)))?,
        _ => {}
    }
    let config: T = tree.resolve()?;
    config.check().map_err(|(key, message)| tree.invalid(&key, message))?;
    config.hardware().check().map_err(|(key, message)| tree.invalid(&format!("hardware.{key}"), message))?;
    Ok(config)
}

fn wrong_kind(tree: &Tree, expected: &str) -> Error {
    let got = tree.get("kind").map_or("nothing".to_string(), ToString::to_string);
    tree.invalid("kind", format!("expected {expected}, got {got}"))
}

/// Loads the experiment and makes sure that its run directory can be opened; nothing after `--dry-run`, which prints the
/// configuration.
pub fn plan<T: Experiment>(args: &RunArgs) -> anyhow::Result<Option<Plan<T>>> {
    let mut config = load::<T>(&args.experiment, &args.device.after(&args.set))?;
    if args.dry_run {
        settle_bos(&mut config)?;
        print!("{}", merge::to_toml(&config)?);
        return Ok(None);
    }
    settle(config.hardware_mut());
    let toml = merge::to_toml(&config)?;
    let start = match (args.resume, args.overwrite) {
        (true, _) => Start::Resume,
        (_, true) => Start::Overwrite,
        _ => Start::Fresh,
    };
    let root = args.at.clone().unwrap_or_else(|| args.runs.join(config.name()));
    RunDir::check(&root, &toml, start)?;
    bring(&config, args.offline)?;
    let device = prepare(&config)?;
    Ok(Some(Plan { config, device, root, toml, start }))
}

impl<T: Experiment> Plan<T> {
    /// Opens the run directory and catches Ctrl-C.
    pub fn open(&self) -> anyhow::Result<Session> {
        let run = RunDir::open(&self.root, &self.toml, self.start)?;
        let stop = catch_interrupt()?;
        let device_name = self.config.hardware().device.clone();
        Ok(Session { run, device: self.device, stop, device_name })
    }
}

/// Replaces `model.bos = "auto"` by what it comes to, where the tokenizer that decides is there.
fn settle_bos<T: Experiment>(config: &mut T) -> anyhow::Result<()> {
    let Ok((bos, tokenizer)) = config.bos() else {
        eprintln!(
            "model.bos: \"auto\", which the base's tokenizer decides; it is not there yet (gist fetch brings it)"
        );
        return Ok(());
    };
    if bos.is_auto() {
        let found = tokenizer.map(|path| tokenizer::begin(&path, *bos)).transpose()?;
        *bos = (!found.unwrap_or_default().is_empty()).into();
    }
    Ok(())
}

/// Replaces what the machine decides by what it decides.
pub fn settle(hardware: &mut Hardware) {
    hardware.settle(hardware.device == "auto" && has_gpu());
}

/// Where an experiment computes, the process made ready for it.
pub fn prepare<T: Experiment>(config: &T) -> anyhow::Result<Device> {
    device(config.hardware(), config.saves_memory())
}

/// Pins threads, says what becomes of freed memory, and picks the device.
pub fn device(hardware: &Hardware, saves_memory: bool) -> anyhow::Result<Device> {
    freed_memory(saves_memory);
    tch::set_num_threads(hardware.threads);
    tch::set_num_interop_threads(1);
    match hardware.device() {
        Some(Device::Cuda(number)) => {
            let count = if has_gpu() { tch::Cuda::device_count() } else { 0 };
            if number as i64 >= count {
                let help = "./setup --cuda brings the libraries, the system's driver the device";
                anyhow::bail!("hardware.device: expected {:?}, got {count} CUDA devices ({help})", hardware.device);
            }
            Ok(Device::Cuda(number))
        }
        device => Ok(device.unwrap_or(Device::Cpu)),
    }
}

/// Whether libtorch sees a GPU. The program is linked without CUDA, so that it starts anywhere: where the library is, opening
/// it registers the device.
#[allow(unsafe_code)]
pub fn has_gpu() -> bool {
    static SEEN: OnceLock<bool> = OnceLock::new();
    *SEEN.get_or_init(|| {
        // SAFETY: opens a library by name and keeps it; its initialisers are libtorch's own.
        unsafe { libc::dlopen(c"libtorch_cuda.so".as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
        tch::Cuda::is_available()
    })
}

/// Lets the allocator keep what libtorch frees: handing every large tensor back to the system and faulting its pages in
/// again costs a sixth of a step. What is kept does not always fit what comes next, and a step comes to hold
/// [`gist::train::plan::KEPT`] times what it needs; whoever would rather have the memory has large tensors handed back.
#[allow(unsafe_code)]
fn freed_memory(back: bool) {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` only sets the allocator's own tunables.
    unsafe {
        if back {
            libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20);
            return;
        }
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_TOP_PAD, 64 << 20);
    }
}

/// Makes Ctrl-C set the flag that it returns; a second one ends the program.
pub fn catch_interrupt() -> anyhow::Result<&'static AtomicBool> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        eprintln!("stopping after this step with a checkpoint; press again to stop at once");
    })?;
    Ok(&STOP)
}

impl Session {
    /// Runs `work` with provenance written before and the status kept current.
    pub fn guard(
        &self,
        inputs: &[PathBuf],
        work: impl FnOnce(&Session) -> anyhow::Result<usize>,
    ) -> anyhow::Result<()> {
        self.run.write_provenance(inputs, &self.device_name)?;
        let status = |state, step, message: String| self.run.set_status(&Status { state, step, message });
        status(State::Running, 0, String::new())?;
        match work(self) {
            Ok(step) => Ok(status(State::Done, step, String::new())?),
            Err(error) => {
                // The error itself says more than one about the status (both have one cause on a full disk).
                let _ = match error.downcast_ref::<Error>() {
                    Some(Error::Interrupted { step }) => status(State::Interrupted, *step, error.to_string()),
                    _ => status(State::Failed, 0, format!("{error:#}")),
                };
                Err(error)
            }
        }
    }
}

/// Checks files of any kind, printing a line each.
pub fn validate(files: &[PathBuf]) -> anyhow::Result<()> {
    let mut failed = 0;
    for path in files {
        match check(path) {
            Ok(kind) => println!("ok  {}  ({kind})", path.display()),
            Err(error) => {
                failed += 1;
                println!("bad {error:#}");
            }
        }
    }
    if failed > 0 {
        anyhow::bail!("{failed} of {} files are not valid", files.len());
    }
    Ok(())
}

/// A file without `name` is taken for the base of others, which may leave out keys.
fn check(path: &Path) -> anyhow::Result<String> {
    let tree = merge::load_tree(path, &[])?;
    if sweep::KEYS.iter().any(|key| tree.get(key).is_some()) {
        return Ok(format!("sweep of {} runs", crate::cli::sweep::plan(path, &[])?.members.len()));
    }
    let is_base = tree.get("name").is_none();
    let kind = match (tree.get_str("kind"), is_base) {
        (Some("pretrain"), false) => resolve::<PretrainConfig>(&tree).map(|_| "pretrain")?,
        (Some("distill"), false) => resolve::<LabelledConfig>(&tree).map(|_| "distill")?,
        (Some("train"), false) => resolve::<TrainConfig>(&tree).map(|_| "train")?,
        (Some("pretrain"), true) => bases::check_pretrain(tree).map(|()| "base of pretrain")?,
        (Some("train"), true) => bases::check_train(tree).map(|()| "base of train")?,
        _ => Err(wrong_kind(&tree, "\"pretrain\", \"distill\" or \"train\""))?,
    };
    Ok(kind.to_string())
}
