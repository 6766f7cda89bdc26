//! Memory of this process and of its device.

use tch::Device;

/// Bytes of a MiB.
pub const MIB: f64 = (1u64 << 20) as f64;

fn status_mib(key: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).map_or(f64::NAN, |kib| kib / 1024.0)
}

/// Largest resident memory of this process so far, or since [`forget_peak`].
pub fn peak_rss_mib() -> f64 {
    status_mib("VmHWM:")
}

/// Has [`peak_rss_mib`] begin anew, where the system allows it.
pub fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Resident memory of this process now: `VmRSS:`, or of it `RssAnon:` or `RssFile:`.
pub fn rss_mib(which: &str) -> f64 {
    status_mib(which)
}

/// Memory that is free on `device`, and all that it has; none where that cannot be told. What libtorch once took of a GPU
/// it keeps until its end, so that there the difference after some work is the peak of it.
pub fn free_and_total_mib(device: Device) -> Option<(f64, f64)> {
    match device {
        Device::Cuda(number) => cuda(number as i32).map(|(free, total)| (free as f64 / MIB, total as f64 / MIB)),
        _ => host(),
    }
}

/// Memory that the system could still give, and all that this process may use: of the machine, or of its control group.
fn host() -> Option<(f64, f64)> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let value = |key: &str| {
        let line = info.lines().find(|line| line.starts_with(key))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kib| kib / 1024.0)
    };
    let (free, total) = (value("MemAvailable:")?, value("MemTotal:")?);
    let read = |file: &str| std::fs::read_to_string(format!("/sys/fs/cgroup/{file}")).ok()?.trim().parse::<f64>().ok();
    let limit = read("memory.max").map_or(total, |bytes| total.min(bytes / MIB));
    let used = read("memory.current").map_or(0.0, |bytes| bytes / MIB);
    Some((if limit < total { free.min(limit - used) } else { free }, limit))
}

/// Memory of a GPU, from the CUDA runtime that libtorch has opened; tch does not show it.
#[allow(unsafe_code)]
fn cuda(number: i32) -> Option<(usize, usize)> {
    let find = |name: &std::ffi::CStr| {
        // SAFETY: only looks a symbol up among the libraries that are open.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        (!found.is_null()).then_some(found)
    };
    let (set, get) = (find(c"cudaSetDevice")?, find(c"cudaMemGetInfo")?);
    let (mut free, mut total) = (0usize, 0usize);
    // SAFETY: the signatures are those of the CUDA runtime: an int, and two places for sizes; 0 is success.
    let failed = unsafe {
        let set: extern "C" fn(i32) -> i32 = std::mem::transmute(set);
        let get: extern "C" fn(*mut usize, *mut usize) -> i32 = std::mem::transmute(get);
        set(number) != 0 || get(&mut free, &mut total) != 0
    };
    (!failed).then_some((free, total))
}
