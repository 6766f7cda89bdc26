//! Kernels of a forward pass on the CPU that tch does not offer (`kernels.cpp`): products with frozen weights that oneDNN
//! packs once, where libtorch packs them again for every product, and passes over a row for which libtorch takes up to eight.
//! Each has its plain form beside it, which every other device and kind of number takes, and trained weights too.

use crate::error::{Error, Result};
use crate::model::rope;
use std::cell::OnceCell;
use std::ffi::{CStr, c_char, c_void};
use std::ops::Deref;
use tch::{Device, Kind, Tensor};

type Handle = *const c_void;

#[allow(unsafe_code)]
unsafe extern "C" {
    fn gist_pack(out: *mut *mut c_void, weight: Handle) -> *mut c_char;
    fn gist_linear(out: *mut *mut c_void, x: Handle, forth: Handle, back: Handle, bias: Handle) -> *mut c_char;
    fn gist_norm(out: *mut *mut c_void, x: Handle, weight: Handle, eps: f64) -> *mut c_char;
    fn gist_rotate(out: *mut *mut c_void, x: Handle, cos: Handle, sin: Handle) -> *mut c_char;
}

fn handle(tensor: &Tensor) -> Handle {
    tensor.as_ptr().cast()
}

/// The tensor that `call` makes.
#[allow(unsafe_code)]
fn made(call: impl FnOnce(*mut *mut c_void) -> *mut c_char) -> Result<Tensor> {
    let mut out = std::ptr::null_mut();
    let error = call(&mut out);
    if error.is_null() {
        // SAFETY: without an error `out` is a tensor of libtorch's that nobody else holds.
        return Ok(unsafe { Tensor::from_ptr(out.cast()) });
    }
    // SAFETY: an error is a string of C's allocator, which is ours to free.
    unsafe {
        let message = CStr::from_ptr(error).to_string_lossy().into_owned();
        libc::free(error.cast());
        Err(Error::invalid(format!("kernel: {message}")))
    }
}

/// The tensor that `call` makes, where it has no reason to fail.
fn sure(call: impl FnOnce(*mut *mut c_void) -> *mut c_char) -> Tensor {
    // As every other operation on a tensor, whose errors of shape are faults of this crate.
    made(call).unwrap_or_else(|error| panic!("{error}"))
}

/// Whether the kernels know numbers of this kind on this device.
pub fn know(device: Device, kind: Kind) -> bool {
    device == Device::Cpu && matches!(kind, Kind::Float | Kind::BFloat16)
}

fn known(xs: &Tensor) -> bool {
    know(xs.device(), xs.kind())
}

/// A weight `[out, in]`, packed when it is first used: a copy for products, and, once a gradient goes through, one more for
/// those of backward.
pub struct Weight {
    plain: Tensor,
    forth: OnceCell<Option<Tensor>>,
    back: OnceCell<Option<Tensor>>,
}

impl From<Tensor> for Weight {
    fn from(plain: Tensor) -> Self {
        Self { plain, forth: OnceCell::new(), back: OnceCell::new() }
    }
}

impl Deref for Weight {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        &self.plain
    }
}

impl Weight {
    /// `weight` packed; none where it is trained, on a GPU, or of numbers that this processor has no packed product of.
    #[allow(unsafe_code)]
    fn pack(weight: &Tensor) -> Option<Tensor> {
        if weight.requires_grad() || !known(weight) {
            return None;
        }
        let _guard = tch::no_grad_guard();
        // SAFETY: `weight` lives through the call.
        made(|out| unsafe { gist_pack(out, handle(weight)) }).ok()
    }

    /// The packed weight for `xs`, and where a gradient goes through, the one of backward; none where there is no such.
    fn packed(&self, xs: &Tensor, bias: Option<&Tensor>) -> Option<(Handle, Handle)> {
        if xs.kind() != self.plain.kind() || bias.is_some_and(Tensor::requires_grad) {
            return None;
        }
        let forth = self.forth.get_or_init(|| Self::pack(&self.plain)).as_ref()?;
        let back = match xs.requires_grad() {
            true => handle(self.back.get_or_init(|| Self::pack(&self.plain.tr().contiguous())).as_ref()?),
            false => std::ptr::null(),
        };
        Some((handle(forth), back))
    }

    /// `xs` `[.., in]` times the weight, `[.., out]`, and the bias if there is one.
    #[allow(unsafe_code)]
    pub fn apply(&self, xs: &Tensor, bias: Option<&Tensor>) -> Tensor {
        let Some((forth, back)) = self.packed(xs, bias) else { return xs.linear(&self.plain, bias) };
        let bias = bias.map_or(std::ptr::null(), handle);
        // SAFETY: the tensors live through the call.
        sure(|out| unsafe { gist_linear(out, handle(xs), forth, back, bias) })
    }

    /// `ys` `[.., out]` times the transposed weight, `[.., in]`; without gradient.
    #[allow(unsafe_code)]
    pub fn apply_transposed(&self, ys: &Tensor) -> Tensor {
        let _guard = tch::no_grad_guard();
        let back = self.back.get_or_init(|| Self::pack(&self.plain.tr().contiguous()));
        match back.as_ref().filter(|_| ys.kind() == self.plain.kind()) {
            // SAFETY: the tensors live through the call.
            Some(back) => {
                sure(|out| unsafe { gist_linear(out, handle(ys), handle(back), std::ptr::null(), std::ptr::null()) })
            }
            None => ys.matmul(&self.plain),
        }
    }
}

/// RMSNorm (Zhang & Sennrich 2019, arXiv 1910.07467) of `xs` `[.., H]`, computed in float32.
#[allow(unsafe_code)]
pub fn norm(xs: &Tensor, weight: &Tensor, eps: f64) -> Tensor {
    if known(xs) && xs.kind() == weight.kind() && !weight.requires_grad() && weight.is_contiguous() {
        // SAFETY: the tensors live through the call.
        return sure(|out| unsafe { gist_norm(out, handle(xs), handle(weight), eps) });
    }
    let wide = xs.to_kind(Kind::Float);
    let scale = (wide.square().mean_dim([-1i64].as_slice(), true, Kind::Float) + eps).rsqrt();
    (wide * scale).to_kind(xs.kind()) * weight
}

/// Heads `[N, G, T, heads, D]` rotated by the angles of their places: cosines and sines `[N or 1, T, D]`, whose halves over D
/// are equal.
#[allow(unsafe_code)]
pub fn rotate(xs: &Tensor, cos: &Tensor, sin: &Tensor) -> Tensor {
    if known(xs) && xs.kind() == cos.kind() {
        // SAFETY: the tensors live through the call.
        return sure(|out| unsafe { gist_rotate(out, handle(xs), handle(cos), handle(sin)) });
    }
    let shaped = |angles: &Tensor| angles.unsqueeze(1).unsqueeze(3);
    rope::rotate(xs, &shaped(cos), &shaped(sin))
}
