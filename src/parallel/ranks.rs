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
use crate::parallel::tree::TreeSum;
use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

type Handle = *mut c_void;

#[allow(unsafe_code)]
unsafe extern "C" {
    fn gist_ranks_meet(
        out: *mut Handle,
        host: *const c_char,
        port: c_int,
        serves: bool,
        rank: c_int,
        count: c_int,
        timeout_ms: i64,
    ) -> *mut c_char;
    fn gist_ranks_connect(group: Handle, interface: *const c_char, timeout_ms: i64) -> *mut c_char;
    fn gist_ranks_set(group: Handle, key: *const c_char, value: *const u8, length: i64) -> *mut c_char;
    fn gist_ranks_get(group: Handle, key: *const c_char, value: *mut u8, room: i64, length: *mut i64) -> *mut c_char;
    fn gist_ranks_gather(group: Handle, out: *mut u8, own: *const u8, length: i64) -> *mut c_char;
    fn gist_ranks_exchange(group: Handle, out: *mut u8, own: *const u8, length: i64) -> *mut c_char;
    fn gist_ranks_leave(group: Handle);
}

/// Time between two looks at the store, and how long a store that does not answer is waited for.
const LOOK: Duration = Duration::from_millis(20);
const ANSWER: Duration = Duration::from_secs(2);
/// Time that the others have to read why all end.
const LAST_LOOK: Duration = Duration::from_secs(1);
/// Longest value in the store, in bytes.
const LONGEST: usize = 1 << 14;
const FAILED: &str = "failed";

/// The group, as one of its ranks sees it.
pub struct Ranks {
    handle: Handle,
    place: Place,
    name: String,
    /// Exchanges so far.
    turn: Cell<u64>,
    /// Things that rank 0 has told so far.
    told: Cell<u64>,
    waited: Cell<Duration>,
    is_broken: Cell<bool>,
}

/// The outcome of a call of the shim.
#[allow(unsafe_code)]
fn outcome(message: *mut c_char) -> std::result::Result<(), String> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: a message is a string of C's allocator, which is ours to free.
    unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        libc::free(message.cast());
        Err(text)
    }
}

fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', " ")).unwrap_or_default()
}

fn set(handle: Handle, key: &str, value: &[u8]) -> std::result::Result<(), String> {
    let (key, value) = (c_string(key), &value[..value.len().min(LONGEST)]);
    // SAFETY: the shim copies what it is given.
    #[allow(unsafe_code)]
    outcome(unsafe { gist_ranks_set(handle, key.as_ptr(), value.as_ptr(), value.len() as i64) })
}

fn get(handle: Handle, key: &str) -> std::result::Result<Option<Vec<u8>>, String> {
    let (key, mut value, mut length) = (c_string(key), vec![0u8; LONGEST], 0i64);
    // SAFETY: the shim writes at most as many bytes as there is room for.
    #[allow(unsafe_code)]
    outcome(unsafe { gist_ranks_get(handle, key.as_ptr(), value.as_mut_ptr(), LONGEST as i64, &mut length) })?;
    value.truncate(length.max(0) as usize);
    Ok((length >= 0).then_some(value))
}

impl Ranks {
    /// Meets all others; an error that names those who have not come within `timeout`.
    pub fn join(place: Place, timeout: Duration) -> Result<Self> {
        let (host, milliseconds) = (c_string(&place.host), timeout.as_millis() as i64);
        let serves = place.rank == 0 && !place.is_kept;
        let mut handle = std::ptr::null_mut();
        // SAFETY: without an error `handle` is the shim's group, which `drop` gives back.
        #[allow(unsafe_code)]
        let met = outcome(unsafe {
            let (port, rank, count) = (c_int::from(place.port), place.rank as c_int, place.count as c_int);
            gist_ranks_meet(&mut handle, host.as_ptr(), port, serves, rank, count, milliseconds)
        });
        let at = format!("{}:{}", place.host, place.port);
        met.map_err(|words| Error::Rank(format!("rank {}: nobody to meet at {at}: {words}", place.rank)))?;
        let machine = gethostname::gethostname().to_string_lossy().into_owned();
        let group = Self {
            handle,
            name: format!("rank {} on {machine}", place.rank),
            place,
            turn: Cell::new(0),
            told: Cell::new(0),
            waited: Cell::new(Duration::ZERO),
            is_broken: Cell::new(false),
        };
        let begun = Instant::now();
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
        let interface = c_string(&std::env::var("GLOO_SOCKET_IFNAME").unwrap_or_default());
        // SAFETY: the handle is open.
        #[allow(unsafe_code)]
        let connected = outcome(unsafe { gist_ranks_connect(handle, interface.as_ptr(), milliseconds) });
        connected.map_err(|words| group.broken(&words))?;
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
    fn ranks_for(
        &self,
        mut holds: impl FnMut(usize) -> std::result::Result<bool, String>,
    ) -> std::result::Result<Vec<usize>, String> {
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
        let mut lengths = vec![0u64; self.count()];
        self.gather_equal(phase, &[own.len() as u64], &mut lengths)?;
        let longest = lengths.iter().max().copied().unwrap_or(0) as usize;
        if longest == 0 {
            return Ok(vec![Vec::new(); self.count()]);
        }
        let (mut padded, mut all) = (own.to_vec(), vec![0u8; longest * self.count()]);
        padded.resize(longest, 0);
        self.gather_equal(phase, &padded, &mut all)?;
        Ok(all.chunks(longest).zip(lengths).map(|(bytes, length)| bytes[..length as usize].to_vec()).collect())
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
        let length = size_of_val(own) as i64;
        // SAFETY: `all` has room for what every rank has, and T is plain numbers.
        #[allow(unsafe_code)]
        self.exchange(phase, || unsafe {
            gist_ranks_gather(self.handle, all.as_mut_ptr().cast(), own.as_ptr().cast(), length)
        })
    }

    /// The sum of every rank's tensor, f32, of one shape, in the order of a tree over the ranks. Each rank adds its stretch of
    /// the vector and gives it to all: the traffic of a ring, and the same bits for every number of ranks.
    pub fn sum(&self, phase: &str, own: &Tensor) -> Result<Tensor> {
        let (length, count) = (own.numel(), self.count());
        let stretch = length.div_ceil(count);
        let mut sent = vec![0f32; stretch * count];
        own.to_device(Device::Cpu).to_kind(Kind::Float).contiguous().f_copy_data(&mut sent, length)?;
        let (mut received, bytes) = (vec![0f32; stretch * count], (stretch * size_of::<f32>()) as i64);
        // SAFETY: both have room for a stretch of every rank.
        #[allow(unsafe_code)]
        self.exchange(phase, || unsafe {
            gist_ranks_exchange(self.handle, received.as_mut_ptr().cast(), sent.as_ptr().cast(), bytes)
        })?;
        let mut sum = TreeSum::default();
        received.chunks(stretch).for_each(|piece| sum.push(Tensor::from_slice(piece)));
        let none = || Error::shape("ranks", "a power of two", count);
        let mut piece = vec![0f32; stretch];
        sum.finish().ok_or_else(none)?.f_copy_data(&mut piece, stretch)?;
        self.gather_equal(phase, &piece, &mut sent)?;
        Ok(Tensor::from_slice(&sent[..length]).view(own.size().as_slice()).to_device(own.device()))
    }

    /// One exchange, noted before it begins.
    fn exchange(&self, phase: &str, call: impl FnOnce() -> *mut c_char) -> Result<()> {
        let turn = self.turn.get() + 1;
        self.turn.set(turn);
        let begun = Instant::now();
        let note = format!("{turn} {} ({phase})", self.name);
        let done = set(self.handle, &format!("at/{}", self.rank()), note.as_bytes()).and_then(|()| outcome(call()));
        self.waited.set(self.waited.get() + begun.elapsed());
        done.map_err(|words| self.broken(&words))
    }

    /// Figures that rank 0 finds, on every rank. The others wait as long as it takes, or until rank 0 is gone.
    pub fn from_first(&self, find: impl FnOnce() -> Result<Vec<f64>>) -> Result<Vec<f64>> {
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
                Ok((None, Some(_))) | Err(_) => return Err(self.broken("waiting for rank 0")),
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
        let (handle, count, turn) = (self.handle as usize, self.count(), self.turn.get());
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
fn cause(handle: Handle, count: usize, turn: u64) -> std::result::Result<Option<String>, String> {
    for _ in 0..25 {
        if let Some(told) = get(handle, FAILED)? {
            return Ok(Some(String::from_utf8_lossy(&told).into_owned()));
        }
        thread::sleep(LOOK);
    }
    let mut missing = Vec::new();
    for rank in 0..count {
        let note = get(handle, &format!("at/{rank}"))?.unwrap_or_default();
        let note = String::from_utf8_lossy(&note).into_owned();
        let (at, who) = note.split_once(' ').unwrap_or(("0", ""));
        if at.parse().unwrap_or(0) < turn {
            let who = if who.is_empty() { format!("rank {rank}") } else { who.to_string() };
            missing.push(format!("{who}, which is gone or does not answer since exchange {at} of {turn}"));
        }
    }
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
            // SAFETY: nobody uses the handle after this.
            #[allow(unsafe_code)]
            unsafe {
                gist_ranks_leave(self.handle);
            }
        }
    }
}
