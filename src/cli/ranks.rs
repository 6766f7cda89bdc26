//! The processes that share a run: started here, or met where a launcher says.

use crate::cli::exit;
use crate::cli::start::{PreparedRun, catch_interrupt};
use anyhow::{Context, bail};
use gist::config::train::TrainConfig;
use gist::error::Error;
use gist::parallel::place::Place;
use gist::parallel::ranks::Ranks;
use gist::parallel::standing::{RankStanding, StandingWatch};
use gist::run_dir::{Build, Hashes, RunDir, hashes_now, write_json_atomic};
use std::net::TcpListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tch::Device;

/// Time that the others have to say why they end, once one has failed.
const GRACE: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(50);

/// The place of this process that the environment gives, which `--ranks` must not contradict.
pub fn place(ranks: Option<usize>) -> anyhow::Result<Option<Place>> {
    let place = Place::of(|name| std::env::var(name).ok())?;
    if let (Some(asked), Some(place)) = (ranks, &place)
        && asked != place.count
    {
        bail!("--ranks: expected {} (the launcher's number of processes), or no such flag, got {asked}", place.count);
    }
    Ok(place)
}

/// The device of a rank: of `cuda` the GPU that is its own, or shared.
pub fn device(place: &Place, plan: &PreparedRun<TrainConfig>, share: bool) -> anyhow::Result<Device> {
    match plan.config.hardware.device.as_str() {
        "cuda" => Ok(Device::Cuda(place.gpu(tch::Cuda::device_count().max(0) as usize, share)?)),
        _ => Ok(plan.device),
    }
}

/// Meets the other ranks of a run, before anything of it is loaded.
pub fn join(place: Place, plan: &PreparedRun<TrainConfig>) -> anyhow::Result<Ranks> {
    Place::check(place.count, plan.config.parallel.grad_shards, "the launcher's number of processes")?;
    let group = Ranks::join(place, Duration::from_secs(plan.config.parallel.timeout_seconds))?;
    group.same("the experiment", &plan.toml)?;
    group.same("the program", &Build::own().to_string())?;
    Ok(group)
}

/// Refuses a rank that reads other files than rank 0, and names the first.
pub fn same_files(group: &Ranks, files: &[PathBuf]) -> anyhow::Result<()> {
    let hashes = hashes_now(files, &mut Hashes::new())?;
    let lines: Vec<String> = hashes.iter().map(|(path, hash)| format!("{} sha256 {hash}", path.display())).collect();
    Ok(group.same("the files that are read", &lines.join("\n"))?)
}

/// Keeps `ranks.json` of a run current, for `gist status`, until it is dropped.
pub struct Told {
    path: PathBuf,
    /// Whether the file may be written still.
    is_open: Arc<Mutex<bool>>,
    _watch: Option<StandingWatch>,
}

impl Told {
    /// Begins where this is one rank of a group; the file of an earlier sitting goes.
    pub fn begin(group: Option<&Ranks>, run: &RunDir) -> Self {
        let (path, is_open) = (run.ranks(), Arc::new(Mutex::new(true)));
        let _ = std::fs::remove_file(&path);
        let (to, may_write) = (path.clone(), Arc::clone(&is_open));
        let tell = move |ranks: &[RankStanding]| {
            if may_write.lock().is_ok_and(|open| *open && write_json_atomic(&to, &ranks).is_err()) {
                eprintln!("warning: {}: not written", to.display());
            }
        };
        Self { path, is_open, _watch: group.map(|group| group.watch(tell)) }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if let Ok(mut open) = self.is_open.lock() {
            *open = false;
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Starts `count` ranks of this command on this machine, with so many threads each, and waits for them. When one fails, all
/// end.
pub fn launch(count: usize, threads: usize) -> anyhow::Result<()> {
    let stop = catch_interrupt()?;
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    if count * threads > cores {
        eprintln!(
            "warning: {count} ranks with {threads} threads each share {cores} cores: a step may take many times as long"
        );
    }
    let port =
        TcpListener::bind(("127.0.0.1", 0)).and_then(|socket| socket.local_addr()).context("a free port")?.port();
    let mut ranks = (0..count).map(|rank| rank_process(rank, count, port)).collect::<anyhow::Result<Vec<_>>>()?;
    let (mut told, mut failed) = (false, None::<Instant>);
    let mut ended: Vec<Option<ExitStatus>> = vec![None; count];
    let mut of_itself = vec![true; count];
    while ended.iter().any(Option::is_none) {
        std::thread::sleep(LOOK);
        for (rank, status) in ranks.iter_mut().zip(&mut ended).filter(|(_, status)| status.is_none()) {
            *status = rank.try_wait().context("waiting for a rank")?;
            // One that stopped on request leaves rank 0 at work on a checkpoint.
            if status.is_some_and(|status| !matches!(status.code(), Some(0 | 75))) {
                failed.get_or_insert_with(Instant::now);
            }
        }
        if stop.load(Ordering::SeqCst) && !told {
            told = true;
            send(&ranks[0], libc::SIGTERM); // the ranks agree on the step after which they stop
        }
        if failed.is_some_and(|since| since.elapsed() > GRACE) {
            for rank in (0..count).filter(|&rank| ended[rank].is_none()) {
                of_itself[rank] = false;
                send(&ranks[rank], libc::SIGKILL);
            }
        }
    }
    let ended = ended.into_iter().flatten().enumerate().filter(|(rank, _)| of_itself[*rank]);
    conclude(&ended.collect::<Vec<_>>())
}

/// One rank, which ends with this process and hears the terminal's signals through it alone.
fn rank_process(rank: usize, count: usize, port: u16) -> anyhow::Result<Child> {
    let mut command = Command::new(std::env::current_exe().context("this program")?);
    command.args(std::env::args_os().skip(1)).process_group(0);
    for (name, value) in [("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", count), ("MASTER_PORT", port.into())] {
        command.env(name, value.to_string());
    }
    command.env("MASTER_ADDR", "127.0.0.1").env_remove("TORCHELASTIC_USE_AGENT_STORE");
    if std::env::var_os("GLOO_SOCKET_IFNAME").is_none() {
        command.env("GLOO_SOCKET_IFNAME", "lo");
    }
    // SAFETY: prctl is a system call, which may be made between fork and exec.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    command.spawn().with_context(|| format!("rank {rank}"))
}

fn send(rank: &Child, signal: libc::c_int) {
    // SAFETY: the process is ours and not waited for yet, so that its number is its own.
    #[allow(unsafe_code)]
    unsafe {
        libc::kill(rank.id() as libc::pid_t, signal);
    }
}

/// The outcome of the whole by those of its ranks: the one that did not merely follow another decides.
fn conclude(ended: &[(usize, ExitStatus)]) -> anyhow::Result<()> {
    let failed = || ended.iter().filter(|(_, status)| !status.success());
    let is_own = |status: &ExitStatus| status.code() != Some(i32::from(exit::RANK_FAILED));
    let Some((rank, status)) = failed().find(|(_, status)| is_own(status)).or_else(|| failed().next()) else {
        return Ok(());
    };
    match (status.code(), status.signal()) {
        (Some(code @ (2 | 3 | 75)), _) => std::process::exit(code), // it has said why
        (Some(code), _) => {
            Err(Error::Rank(format!("rank {rank} ended with exit code {code}; go on with --resume")).into())
        }
        (None, signal) => {
            let signal = signal.unwrap_or_default();
            Err(Error::Rank(format!("rank {rank} was killed by signal {signal}; go on with --resume")).into())
        }
    }
}
