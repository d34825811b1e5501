//! Convolutions of images in channels-last order, `[images, h, w, channels]`, of f32 and bf16.
//!
//! Depthwise ones have kernels of their own ([`micro`]). Those over all channels are a product of the windows, whose
//! rows are made where they are multiplied ([`windows`]), and the weights `[outputs, kh, kw, inputs]`.

mod depthwise;
mod direct;
pub(super) mod micro;
mod padded;
mod windows;

#[cfg(test)]
mod tests;

use super::shape::Shape;
use crate::cpu::Isa;
use crate::gemm::{
    self, Columns, Engine, Math, Matrix, PackedB, Parallel, Parts, Precision, Product,
};
use crate::{DType, Error};
use depthwise::Depthwise;
use std::ops::Range;
use windows::Windows;

/// Rows of a product from which its weights are packed as a whole first, so that a split by rows costs nothing.
const ROWS: usize = 448;
/// Rows for each thread from which a product of packed weights is split by rows, so that what follows finds all channels of a
/// pixel in cache.
const ROWS_PER_THREAD: usize = 24;

/// Channels of an image that are so few that planes are turned while padding is added.
const FEW: usize = 4;
/// The last instruction set whose kernels take a few rows at a time.
const VECTORS: Isa = Isa::Avx512Bf16;

/// Pointers of a call, of the sizes that the shape says, and of one type; `bias` has `outputs` elements. Weights lie as
/// `[outputs, kh, kw, inputs / groups]`.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the fields are named by their role")]
pub struct Tensors {
    pub dtype: DType,
    pub image: *const u8,
    /// The image is row-major: only where [`reads_planes`].
    pub planes: bool,
    pub weight: *const u8,
    pub bias: Option<*const u8>,
    pub result: *mut u8,
}

/// Called for pixels of the result (of all images) whose channels are complete.
pub type Then<'a> = dyn Fn(Range<usize>) + Sync + 'a;

/// What all threads see.
struct Images<'a> {
    shape: &'a Shape,
    /// The result's height and width.
    size: [usize; 2],
    image: *const u8,
    /// The image is row-major.
    planes: bool,
    bias: Option<*const u8>,
    result: *mut u8,
    dtype: DType,
    isa: Isa,
    /// Bytes of an element.
    element: usize,
}

// SAFETY: threads write different parts of the result.
unsafe impl Sync for Images<'_> {}

/// Whether there are kernels for this shape and type, faster than oneDNN's with what is around them; if not, why.
pub fn refusal(s: &Shape, dtype: DType, isa: Isa) -> Option<&'static str> {
    let typed = match dtype {
        DType::F32 => isa >= Isa::Avx2,
        DType::BF16 => isa >= Isa::Avx512Bf16,
        _ => false,
    };
    if !typed || s.result().is_none() {
        return Some("no kernel in channels-last order for this type, or an empty result");
    }
    if s.groups > 1 && !(s.is_depthwise() && s.outputs == s.inputs) {
        return Some("channels-last order with groups of several channels");
    }
    let copied = !(is_direct(s, dtype, isa) || in_place(s));
    let seldom = s.groups == 1 && copied && few_outputs(s, dtype);
    seldom.then_some("channels-last order, and too few outputs for copies of the windows")
}

/// Whether images may as well be row-major: a first layer's.
pub fn reads_planes(s: &Shape, dtype: DType, isa: Isa) -> bool {
    s.groups == 1 && s.inputs <= FEW && is_direct(s, dtype, isa)
}

/// Weights in the form that the kernels read, for as long as they do not change.
///
/// # Safety
/// `weight` holds the shape's weights, as [`Tensors`] says; the processor has `isa`.
pub unsafe fn pack(
    shape: &Shape,
    dtype: DType,
    isa: Isa,
    weight: *const u8,
    threads: &dyn Parallel,
) -> Result<PackedB, Error> {
    let is_direct = shape.groups == 1 && is_direct(shape, dtype, isa);
    let channels = match is_direct {
        true => direct::channels(shape, dtype),
        false => shape.inputs / shape.groups,
    };
    let isa = if is_direct { isa.min(VECTORS) } else { isa };
    let own = shape.inputs / shape.groups * dtype.size();
    let mut wider = Vec::new();
    let data = match channels * dtype.size() == own {
        true => weight,
        false => {
            for n in 0..shape.outputs * shape.taps() {
                // SAFETY: by contract.
                let pixel = unsafe { std::slice::from_raw_parts(weight.add(n * own), own) };
                wider.extend_from_slice(pixel);
                wider.resize((n + 1) * channels * dtype.size(), 0);
            }
            wider.as_ptr()
        }
    };
    let depth = shape.taps() * channels;
    let b = Matrix {
        data,
        dtype,
        strides: [1, depth as isize],
    };
    let columns = [Columns {
        b,
        n: shape.outputs,
    }];
    // SAFETY: by contract.
    unsafe {
        if shape.groups == 1 {
            let math = gemm::math(dtype, dtype, Precision::Full, isa);
            return PackedB::new(&columns, depth, math, isa, threads);
        }
        PackedB::with(&columns, depth, Engine::new(isa, Math::F32)?, threads)
    }
}

/// Computes a convolution. `packed` are the weights as [`pack`] made them; `then` follows, if possible on pixels that the
/// thread has just computed.
///
/// # Safety
/// The pointers hold what the shape says; the result overlaps nothing else.
pub unsafe fn run(
    shape: &Shape,
    isa: Isa,
    tensors: Tensors,
    packed: Option<&PackedB>,
    threads: &dyn Parallel,
    then: Option<&Then>,
) -> Result<(), Error> {
    let Some(size) = shape.result().filter(|_| isa <= Isa::of_processor()) else {
        return Err(Error::Plan(format!(
            "a convolution without results: {shape:?}"
        )));
    };
    let images = Images {
        shape,
        size,
        image: tensors.image,
        planes: tensors.planes,
        isa,
        bias: tensors.bias,
        result: tensors.result,
        dtype: tensors.dtype,
        element: tensors.dtype.size(),
    };
    let pack = || unsafe {
        // SAFETY: by contract.
        pack(shape, tensors.dtype, isa, tensors.weight, threads)
    };
    if shape.groups == 1 && !is_direct(shape, tensors.dtype, isa) {
        // SAFETY: by contract.
        return unsafe { product(&images, isa, tensors.weight, packed, threads, then) };
    }
    let made = match packed {
        Some(_) => None,
        None => Some(pack()?),
    };
    let Some(weights) = packed.or(made.as_ref()) else {
        return Ok(());
    };
    if shape.groups == 1 {
        // SAFETY: by contract.
        return unsafe { direct::run(&images, weights, threads, then) };
    }
    let depthwise = shape.is_depthwise() && shape.outputs == shape.inputs;
    let kernels = micro::kernels(isa, tensors.dtype).filter(|_| depthwise);
    let kernels = kernels.ok_or_else(|| Error::Plan(format!("no kernel for {shape:?}")))?;
    let work = Depthwise {
        images: &images,
        kernels,
        weights,
    };
    // SAFETY: by contract.
    unsafe { work.run(threads, then) }
}

/// Whether the image is read in place. Else its windows are copied, which pays if many outputs use the copy, leaves a split by
/// columns, and suits tile registers, which want many rows.
fn is_direct(s: &Shape, dtype: DType, isa: Isa) -> bool {
    (isa <= VECTORS || s.inputs <= FEW) && few_outputs(s, dtype) && !in_place(s)
}

/// So few outputs that copied windows are used too seldom (measured on Zen 5).
fn few_outputs(s: &Shape, dtype: DType) -> bool {
    s.outputs * dtype.size() <= 512
}

/// Windows of one pixel: the image is the left side of a product as it is.
fn in_place(s: &Shape) -> bool {
    s.taps() == 1 && s.stride == [1, 1] && s.padding == [0, 0]
}

/// A convolution over all channels.
unsafe fn product(
    images: &Images,
    isa: Isa,
    weight: *const u8,
    packed: Option<&PackedB>,
    threads: &dyn Parallel,
    then: Option<&Then>,
) -> Result<(), Error> {
    let (s, dtype) = (images.shape, images.dtype);
    let depth = s.taps() * s.inputs;
    let rows = s.images * images.size[0] * images.size[1];
    let matrix = |data: *const u8, strides| Matrix {
        data,
        dtype,
        strides,
    };
    let in_place = in_place(s);
    let p = Product {
        input: images.bias.map(|b| matrix(b, [0, 1])),
        beta: 1.0,
        ..Product::new(
            [rows, s.outputs, depth],
            matrix(images.image, [if in_place { depth as isize } else { 0 }, 1]),
            matrix(weight, [1, depth as isize]),
            matrix(images.result, [s.outputs as isize, 1]),
        )
    };
    let windows = Windows {
        shape: s,
        size: images.size,
        image: images.image,
        element: images.element,
        isa,
    };
    let whole = rows >= ROWS || packed.is_some() && rows >= ROWS_PER_THREAD * threads.threads();
    let epilogue = |_, rows, _| {
        if let Some(then) = then {
            then(rows);
        }
    };
    let call = gemm::Call {
        isa,
        threads,
        packed,
        made: if in_place { None } else { Some(&windows) },
        groups: None,
        epilogue: Some(&epilogue),
        parts: match then {
            None => Parts::Any,
            Some(_) if whole => Parts::Rows,
            Some(_) => Parts::RowsIfSo,
        },
    };
    // SAFETY: by contract.
    let followed = unsafe { gemm::multiply(&p, &call) }?;
    match then.filter(|_| !followed) {
        Some(then) => after(images, threads, then),
        None => Ok(()),
    }
}

/// What follows on all pixels.
fn after(images: &Images, threads: &dyn Parallel, then: &Then) -> Result<(), Error> {
    /// Elements that are worth a second thread.
    const ELEMENTS: usize = 1 << 14;
    let pixels = images.shape.images * images.size[0] * images.size[1];
    let tasks = (pixels * images.shape.outputs / ELEMENTS).clamp(1, threads.threads());
    threads.run(tasks, &|n| then(gemm::part(pixels, tasks, n)))
}
