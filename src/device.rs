//! Makes the process ready to compute where an experiment says: threads, memory that is freed, GPU.

use crate::config::experiment::Experiment;
use crate::config::hardware::Hardware;
use crate::error::{Error, Result};
use std::sync::OnceLock;
use tch::Device;

/// Replaces `auto` by what this machine offers.
pub fn settle(hardware: &mut Hardware) {
    hardware.settle(hardware.device == "auto" && has_gpu());
}

/// The device of an experiment, the process made ready for it; an error where there is no such device.
pub fn prepare<T: Experiment>(config: &T) -> Result<Device> {
    open(config.hardware(), config.saves_memory())
}

/// Pins threads, says what becomes of freed memory, and picks the device; an error where there is no such device.
/// `saves_memory` has large tensors handed back to the system as soon as they are freed, at a sixth of the speed of a step.
pub fn open(hardware: &Hardware, saves_memory: bool) -> Result<Device> {
    freed_memory(saves_memory);
    tch::set_num_threads(hardware.threads);
    tch::set_num_interop_threads(1);
    match hardware.device() {
        Some(Device::Cuda(number)) => {
            let count = if has_gpu() { tch::Cuda::device_count() } else { 0 };
            if number as i64 >= count {
                let help = "./setup --cuda brings the libraries, the system's driver the device";
                let expected = format!("hardware.device: expected {:?}", hardware.device);
                return Err(Error::invalid(format!("{expected}, got {count} CUDA devices ({help})")));
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
/// again costs a sixth of a step. Kept pieces do not always fit the next request, and a step comes to hold more than it needs
/// (the factor `KEPT` of the memory plan); `back` has large tensors handed back instead.
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
