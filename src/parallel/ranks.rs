//! The group of the processes that share a run, over libtorch's own process group (`ranks.cpp`): what one has, all get; sums in
//! the order of a tree; and whoever fails or is missing is named.
//!
//! Beside each exchange a rank notes how far it has come, in the store through which all met. When an exchange fails, or lasts
//! longer than the time-out, those who have not come to it are the ones that are missing.
//!
//! A process has one group at a time: libtorch's record of exchanges (its flight recorder) is the process's, and groups in
//! several threads write to it at once (helgrind; a crash).

use crate::error::{Error, Result};
use crate::parallel::place::Place;
use crate::parallel::shim::{self, Handle, ShimResult, get, set};
use crate::parallel::standing::{RankStanding, StandingWatch, standings};
use crate::parallel::tree::TreeSum;
use std::cell::{Cell, RefCell};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

/// Time between two looks at the store, and how long a store that does not answer is waited for.
const LOOK: Duration = Duration::from_millis(20);
const ANSWER: Duration = Duration::from_secs(2);
/// Time that the others have to read why all end.
const LAST_LOOK: Duration = Duration::from_secs(1);
const FAILED: &str = "failed";
/// Bytes of a length, and bytes that go with it: what is no longer takes one exchange.
const LENGTH: usize = size_of::<u64>();
const HEAD: usize = 2048;

/// Exchanges in which `ranks` add a vector.
pub fn exchanges_of_sum(ranks: usize) -> usize {
    if ranks == 2 { 1 } else { 2 }
}

/// The group, as one of its ranks sees it.
pub struct Ranks {
    handle: Handle,
    place: Place,
    name: String,
    standing: RefCell<RankStanding>,
    met: Instant,
    /// Things that rank 0 has told so far.
    told: Cell<u64>,
    /// Time in exchanges since it was last asked for, and in all.
    waited: Cell<Duration>,
    waited_in_all: Cell<Duration>,
    is_broken: Cell<bool>,
}

impl Ranks {
    /// Meets all others; an error that names those who have not come within `timeout`.
    pub fn join(place: Place, timeout: Duration) -> Result<Self> {
        let (serves, begun) = (place.rank == 0 && !place.is_kept, Instant::now());
        let at = format!("{}:{}", place.host, place.port);
        let nobody = |words| Error::Rank(format!("rank {}: nobody to meet at {at}: {words}", place.rank));
        let handle = shim::meet(&place, serves, timeout).map_err(nobody)?;
        let host = gethostname::gethostname().to_string_lossy().into_owned();
        let standing = RankStanding { rank: place.rank, host, ..RankStanding::default() };
        let group = Self {
            handle,
            name: standing.name(),
            place,
            standing: RefCell::new(standing),
            met: begun,
            told: Cell::new(0),
            waited: Cell::new(Duration::ZERO),
            waited_in_all: Cell::new(Duration::ZERO),
            is_broken: Cell::new(false),
        };
        set(handle, &format!("here/{}", group.rank()), group.name.as_bytes()).map_err(|words| group.broken(&words))?;
        loop {
            let missing = group.ranks_for(|rank| Ok(get(handle, &format!("here/{rank}"))?.is_none()));
            let missing = missing.map_err(|words| group.broken(&words))?;
            if missing.is_empty() {
                break;
            }
            if begun.elapsed() > timeout {
                group.is_broken.set(true);
                let (seconds, missing) = (timeout.as_secs(), list(&missing));
                return Err(Error::Rank(format!("{missing} did not come to {at} within {seconds} s")));
            }
            thread::sleep(LOOK);
        }
        let interface = std::env::var("GLOO_SOCKET_IFNAME").unwrap_or_default();
        shim::connect(handle, &interface, timeout).map_err(|words| group.broken(&words))?;
        Ok(group)
    }

    /// Number of this process.
    pub fn rank(&self) -> usize {
        self.place.rank
    }

    /// Number of processes.
    pub fn count(&self) -> usize {
        self.place.count
    }

    /// Whether this is rank 0, which alone writes, validates and evaluates.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Seconds spent in exchanges since the last call.
    pub fn take_waited(&self) -> f64 {
        self.waited.take().as_secs_f64()
    }

    /// The ranks for which `holds`.
    fn ranks_for(&self, mut holds: impl FnMut(usize) -> ShimResult<bool>) -> ShimResult<Vec<usize>> {
        let mut found = Vec::new();
        for rank in 0..self.count() {
            if holds(rank)? {
                found.push(rank);
            }
        }
        Ok(found)
    }

    /// The bytes of every rank, in their order; `phase` says what for.
    pub fn gather(&self, phase: &str, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        let (head, rest) = own.split_at(own.len().min(HEAD));
        let mut first = [&(own.len() as u64).to_le_bytes(), head].concat();
        first.resize(LENGTH + HEAD, 0);
        let mut heads = vec![0u8; first.len() * self.count()];
        self.gather_equal(phase, &first, &mut heads)?;
        let length = |head: &[u8]| head.first_chunk::<LENGTH>().map_or(0, |bytes| u64::from_le_bytes(*bytes) as usize);
        let mut found: Vec<Vec<u8>> =
            heads.chunks(first.len()).map(|head| head[LENGTH..][..length(head).min(HEAD)].to_vec()).collect();
        let lengths: Vec<usize> = heads.chunks(first.len()).map(length).collect();
        let longest = lengths.iter().max().map_or(0, |longest| longest.saturating_sub(HEAD));
        if longest > 0 {
            let (mut padded, mut rests) = (rest.to_vec(), vec![0u8; longest * self.count()]);
            padded.resize(longest, 0);
            self.gather_equal(phase, &padded, &mut rests)?;
            for ((whole, rest), length) in found.iter_mut().zip(rests.chunks(longest)).zip(lengths) {
                whole.extend(&rest[..length.saturating_sub(HEAD)]);
            }
        }
        Ok(found)
    }

    /// The numbers of every rank, those of rank 0 first.
    pub fn gather_numbers(&self, phase: &str, own: &[f64]) -> Result<Vec<f64>> {
        let bytes: Vec<u8> = own.iter().flat_map(|number| number.to_le_bytes()).collect();
        Ok(numbers(&self.gather(phase, &bytes)?.concat()))
    }

    /// Whether any rank wishes it.
    pub fn any(&self, phase: &str, wish: bool) -> Result<bool> {
        Ok(self.gather_numbers(phase, &[f64::from(wish)])?.contains(&1.0))
    }

    /// Gathers pieces of one size from every rank, in their order, into `all`.
    fn gather_equal<T: Copy>(&self, phase: &str, own: &[T], all: &mut [T]) -> Result<()> {
        self.exchange(phase, || shim::gather(self.handle, own, all))
    }

    /// The sum of every rank's tensor, f32, of one shape, in the order of a tree over the ranks. Each rank adds its stretch of
    /// the vector and gives it to all: the traffic of a ring, and the same bits for every number of ranks. Two ranks give each
    /// other the whole: as many bytes, in one exchange ([`exchanges_of_sum`]).
    pub fn sum(&self, phase: &str, own: &Tensor) -> Result<Tensor> {
        let (length, count) = (own.numel(), self.count());
        let none = || Error::shape("ranks", "a power of two", count);
        if exchanges_of_sum(count) == 1 {
            let (mut sent, mut all) = (vec![0f32; length], vec![0f32; length * count]);
            own.to_device(Device::Cpu).to_kind(Kind::Float).contiguous().f_copy_data(&mut sent, length)?;
            self.gather_equal(phase, &sent, &mut all)?;
            let mut sum = TreeSum::default();
            all.chunks(length).for_each(|term| sum.push(Tensor::from_slice(term)));
            return Ok(sum.finish().ok_or_else(none)?.view(own.size().as_slice()).to_device(own.device()));
        }
        let stretch = length.div_ceil(count);
        let mut sent = vec![0f32; stretch * count];
        own.to_device(Device::Cpu).to_kind(Kind::Float).contiguous().f_copy_data(&mut sent, length)?;
        let mut received = vec![0f32; stretch * count];
        self.exchange(phase, || shim::exchange(self.handle, &sent, &mut received, count))?;
        let mut sum = TreeSum::default();
        received.chunks(stretch).for_each(|piece| sum.push(Tensor::from_slice(piece)));
        let mut piece = vec![0f32; stretch];
        sum.finish().ok_or_else(none)?.f_copy_data(&mut piece, stretch)?;
        self.gather_equal(phase, &piece, &mut sent)?;
        Ok(Tensor::from_slice(&sent[..length]).view(own.size().as_slice()).to_device(own.device()))
    }

    /// One exchange, noted before it begins.
    fn exchange(&self, phase: &str, call: impl FnOnce() -> ShimResult) -> Result<()> {
        let begun = Instant::now();
        let done = self.note(phase).and_then(|()| call());
        for waited in [&self.waited, &self.waited_in_all] {
            waited.set(waited.get() + begun.elapsed());
        }
        done.map_err(|words| self.broken(&words))
    }

    /// Notes in the store that this rank comes to its next exchange.
    fn note(&self, phase: &str) -> ShimResult {
        let mut standing = self.standing.borrow_mut();
        standing.exchanges += 1;
        standing.phase = phase.into();
        standing.waiting = self.waited_in_all.get().as_secs_f64() / self.met.elapsed().as_secs_f64();
        standing.tell(self.handle)
    }

    /// Says that so many updates are done.
    pub fn completed(&self, step: usize) {
        self.standing.borrow_mut().step = step;
    }

    /// Has `tell` told how far all ranks have come, now and then, until what it returns is dropped.
    pub fn watch(&self, tell: impl FnMut(&[RankStanding]) + Send + 'static) -> StandingWatch {
        StandingWatch::begin(self.place.clone(), tell)
    }

    /// Figures that rank 0 finds, on every rank; `phase` says what for. The others wait as long as it takes, or until rank 0 is
    /// gone.
    pub fn from_first(&self, phase: &str, find: impl FnOnce() -> Result<Vec<f64>>) -> Result<Vec<f64>> {
        self.note(phase).map_err(|words| self.broken(&words))?;
        let key = format!("told/{}", self.told.replace(self.told.get() + 1));
        if self.is_first() {
            let found = find()?;
            let bytes: Vec<u8> = found.iter().flat_map(|number| number.to_le_bytes()).collect();
            set(self.handle, &key, &bytes).map_err(|words| self.broken(&words))?;
            return Ok(found);
        }
        loop {
            match get(self.handle, &key).and_then(|told| Ok((told, get(self.handle, FAILED)?))) {
                Ok((Some(told), _)) => return Ok(numbers(&told)),
                Ok((None, None)) => thread::sleep(LOOK),
                Ok((None, Some(_))) | Err(_) => return Err(self.broken(&format!("waiting for rank 0, {phase}"))),
            }
        }
    }

    /// Fails unless every rank says the same of `what`, line by line; the first difference is named.
    pub fn same(&self, what: &str, own: &str) -> Result<()> {
        let all = self.gather(what, own.as_bytes())?;
        let names = self.gather(what, self.name.as_bytes())?;
        let text = |rank: usize| String::from_utf8_lossy(&all[rank]).into_owned();
        let Some(other) = (1..self.count()).find(|&rank| all[rank] != all[0]) else { return Ok(()) };
        let (expected, got) = (text(0), text(other));
        let pairs = expected.lines().zip(got.lines()).find(|(a, b)| a != b);
        let (expected, got) = pairs.unwrap_or(("as many lines", "another number of them"));
        let [first, other] = [0, other].map(|rank| String::from_utf8_lossy(&names[rank]).into_owned());
        Err(Error::invalid(format!("{other}: {what}: expected {expected:?}, as {first} has it, got {got:?}")))
    }

    /// Tells the others why this rank ends.
    pub fn fail(&self, cause: &str) {
        if self.is_broken.replace(true) {
            return;
        }
        if get(self.handle, FAILED).is_ok_and(|told| told.is_none()) {
            let _ = set(self.handle, FAILED, format!("{}: {cause}", self.name).as_bytes()); // they see it is gone anyway
        }
        self.linger();
    }

    /// Leaves the others time to read why all end, where the store ends with this process.
    fn linger(&self) {
        if self.is_first() {
            thread::sleep(LAST_LOOK);
        }
    }

    /// Waits until no rank needs another any more.
    pub fn finish(&self) {
        let begun = Instant::now();
        let mut left = set(self.handle, &format!("end/{}", self.rank()), &[]);
        while left.is_ok() && begun.elapsed() < ANSWER {
            // Whoever finds no store any more was the last.
            match self.ranks_for(|rank| Ok(get(self.handle, &format!("end/{rank}"))?.is_none())) {
                Ok(waited_for) if !waited_for.is_empty() => thread::sleep(LOOK),
                Ok(_) => break,
                Err(words) => left = Err(words),
            }
        }
    }

    /// The error of an exchange that failed with these words: whoever failed says why, or is missing.
    fn broken(&self, words: &str) -> Error {
        self.is_broken.set(true);
        let (handle, count, turn) = (self.handle as usize, self.count(), self.standing.borrow().exchanges);
        let (send, receive) = mpsc::channel();
        // In a thread, since a store whose process is stopped never answers.
        thread::spawn(move || send.send(cause(handle as Handle, count, turn)));
        let found = receive.recv_timeout(ANSWER);
        self.linger();
        let own = &self.name;
        Error::Rank(match found {
            Ok(Ok(Some(cause))) => format!("{own}: ended, because of {cause}"),
            Ok(Ok(None)) => format!("{own}: an exchange with the other ranks failed: {words}"),
            Ok(Err(_)) => format!("{own}: rank 0, at which all met, is gone ({words})"),
            Err(_) => format!("{own}: rank 0, at which all met, does not answer ({words})"),
        })
    }
}

/// Why an exchange failed, as far as the store says: the rank that told a cause, or those that have not come to `turn`.
fn cause(handle: Handle, count: usize, turn: u64) -> ShimResult<Option<String>> {
    for _ in 0..25 {
        if let Some(told) = get(handle, FAILED)? {
            return Ok(Some(String::from_utf8_lossy(&told).into_owned()));
        }
        thread::sleep(LOOK);
    }
    let behind = standings(handle, count)?.into_iter().filter(|standing| standing.exchanges < turn);
    let missing: Vec<String> = behind
        .map(|rank| {
            let phase = if rank.phase.is_empty() { String::new() } else { format!(" ({})", rank.phase) };
            let RankStanding { exchanges, .. } = rank;
            format!("{}{phase}, which is gone or does not answer since exchange {exchanges} of {turn}", rank.name())
        })
        .collect();
    Ok((!missing.is_empty()).then(|| missing.join("; ")))
}

fn numbers(bytes: &[u8]) -> Vec<f64> {
    let (whole, _) = bytes.as_chunks::<8>();
    whole.iter().map(|number| f64::from_le_bytes(*number)).collect()
}

fn list(ranks: &[usize]) -> String {
    let names: Vec<String> = ranks.iter().map(usize::to_string).collect();
    format!("rank{} {}", if ranks.len() == 1 { "" } else { "s" }, names.join(", "))
}

impl Drop for Ranks {
    fn drop(&mut self) {
        if thread::panicking() {
            self.fail("a fault of the program");
        }
        // One that is broken may wait for those who are gone: the end of the process takes it.
        if !self.is_broken.get() {
            shim::leave(self.handle);
        }
    }
}
