//! The functions of `ranks.cpp`: a key-value store at which all ranks meet, and exchanges among them. Keys and values are copied;
//! an error is the words of libtorch.

#![allow(unsafe_code)]

use crate::parallel::place::Place;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::time::Duration;

/// A connection to the store, with or without the group; closed by [`leave`].
pub type Handle = *mut c_void;
/// The outcome of a call, with libtorch's words where it failed.
pub type ShimResult<T = ()> = std::result::Result<T, String>;

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

/// Longest value in the store, in bytes.
const LONGEST: usize = 1 << 14;

fn outcome(message: *mut c_char) -> ShimResult {
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

/// Connects to the store; the process that `serves` keeps it.
pub fn meet(place: &Place, serves: bool, timeout: Duration) -> ShimResult<Handle> {
    let (host, port) = (c_string(&place.host), c_int::from(place.port));
    let (rank, count, timeout) = (place.rank as c_int, place.count as c_int, timeout.as_millis() as i64);
    let mut handle = std::ptr::null_mut();
    // SAFETY: without an error `handle` is the shim's.
    outcome(unsafe { gist_ranks_meet(&mut handle, host.as_ptr(), port, serves, rank, count, timeout) })?;
    Ok(handle)
}

/// Connects to all other ranks, through the network interface of this name, or the usual one where it is empty.
pub fn connect(handle: Handle, interface: &str, timeout: Duration) -> ShimResult {
    let interface = c_string(interface);
    // SAFETY: the handle is open.
    outcome(unsafe { gist_ranks_connect(handle, interface.as_ptr(), timeout.as_millis() as i64) })
}

/// Puts a value, or its first bytes where it is too long, into the store.
pub fn set(handle: Handle, key: &str, value: &[u8]) -> ShimResult {
    let (key, value) = (c_string(key), &value[..value.len().min(LONGEST)]);
    // SAFETY: the shim copies what it is given.
    outcome(unsafe { gist_ranks_set(handle, key.as_ptr(), value.as_ptr(), value.len() as i64) })
}

/// The value of a key; none where there is no such key.
pub fn get(handle: Handle, key: &str) -> ShimResult<Option<Vec<u8>>> {
    let (key, mut value, mut length) = (c_string(key), vec![0u8; LONGEST], 0i64);
    // SAFETY: the shim writes at most as many bytes as there is room for.
    outcome(unsafe { gist_ranks_get(handle, key.as_ptr(), value.as_mut_ptr(), LONGEST as i64, &mut length) })?;
    value.truncate(length.max(0) as usize);
    Ok((length >= 0).then_some(value))
}

/// Gathers pieces of one size from every rank, in their order, into `all`, which has room for them. T is plain numbers.
pub fn gather<T: Copy>(handle: Handle, own: &[T], all: &mut [T]) -> ShimResult {
    // SAFETY: `all` has room for what every rank has.
    outcome(unsafe { gist_ranks_gather(handle, all.as_mut_ptr().cast(), own.as_ptr().cast(), size_of_val(own) as i64) })
}

/// Sends the r-th of equal pieces to rank r, and receives one from each.
pub fn exchange(handle: Handle, sent: &[f32], received: &mut [f32], count: usize) -> ShimResult {
    let bytes = (size_of_val(sent) / count) as i64;
    // SAFETY: both have room for a piece of every rank.
    outcome(unsafe { gist_ranks_exchange(handle, received.as_mut_ptr().cast(), sent.as_ptr().cast(), bytes) })
}

/// Closes a handle, which nobody uses after this.
pub fn leave(handle: Handle) {
    // SAFETY: the handle is open, and was not closed before.
    unsafe { gist_ranks_leave(handle) }
}
