//! Average pooling as sums of strided slices, which fuse with what surrounds them.

use super::pointwise::round;
use super::view::part;
use super::{NodeCall, OpArg};
use crate::fusion::refusal::Refusal;
use crate::graph::builder::Builder;
use crate::graph::{Op, ValueId};
use ipex_jit::kernel::{BinaryOp as B, Const};
use ipex_runtime::DType;

/// Most elements of a window: each is a load in the kernel.
pub const MOST_TAPS: i64 = 64;

/// Windows over the last two dims.
struct Windows {
    kernel: [i64; 2],
    stride: [i64; 2],
    padding: [i64; 2],
    /// Sizes of the result.
    out: [i64; 2],
}

/// `aten.avg_pool2d(input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)`
pub fn average(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let image = c.tensor(0)?;
    let kernel = pair(c, 1)?;
    let stride = if c.ints(2)?.is_empty() {
        kernel
    } else {
        pair(c, 2)?
    };
    let w = Windows {
        kernel,
        stride,
        padding: pair(c, 3)?,
        out: last_two(c, &c.output(0)?.sizes)?,
    };
    let image_size = last_two(c, &b.sizes(image))?;
    let leaves = (0..2).any(|d| {
        let end = (w.out[d] - 1) * w.stride[d] + w.kernel[d];
        end > image_size[d] + 2 * w.padding[d]
    });
    if leaves {
        return c.refuse("windows that leave the image");
    }
    let dtype = wide(b, c, image, &w)?;
    let image = b.convert(image, dtype)?;
    let sum = window_sums(b, image, &w)?;
    let whole = w.padding == [0, 0] || c.flag(5);
    let mean = if !matches!(c.arg(6), OpArg::None) || whole {
        let area = match c.arg(6) {
            OpArg::None => (w.kernel[0] * w.kernel[1]) as f64,
            _ => c.number(6)?,
        };
        b.with(B::Div, sum, area)?
    } else {
        let ones = b.full(dtype, &image_size, 1.0);
        let count = window_sums(b, ones, &w)?;
        let count = b.expand(count, &c.output(0)?.sizes);
        b.binary(B::Div, sum, count)?
    };
    Ok(vec![round(b, mean)?])
}

/// `aten._adaptive_avg_pool2d(input, output_size)` to a size that divides the image's.
pub fn adaptive_average(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let image = c.tensor(0)?;
    let (from, to) = (
        last_two(c, &b.sizes(image))?,
        last_two(c, &c.output(0)?.sizes)?,
    );
    if (0..2).any(|d| to[d] == 0 || from[d] % to[d] != 0) {
        return c.refuse("windows of different sizes");
    }
    let kernel = [from[0] / to[0], from[1] / to[1]];
    let w = Windows {
        kernel,
        stride: kernel,
        padding: [0, 0],
        out: to,
    };
    let dtype = wide(b, c, image, &w)?;
    let image = b.convert(image, dtype)?;
    let sum = window_sums(b, image, &w)?;
    let mean = b.with(B::Div, sum, (kernel[0] * kernel[1]) as f64)?;
    Ok(vec![round(b, mean)?])
}

/// The type to sum in; refuses what is left to ATen.
fn wide(b: &Builder, c: &NodeCall, image: ValueId, w: &Windows) -> Result<DType, Refusal> {
    let taps = w.kernel[0] * w.kernel[1];
    if !(1..=MOST_TAPS).contains(&taps) || c.output(0)?.numel() == 0 {
        return c.refuse("a large window, or no elements");
    }
    match b.dtype(image)? {
        DType::F16 | DType::BF16 => Ok(DType::F32),
        dtype if dtype.is_float() => Ok(dtype),
        _ => c.refuse("integers"),
    }
}

/// The sum of each window, in row-major order as in eager.
fn window_sums(b: &mut Builder, image: ValueId, w: &Windows) -> Result<ValueId, Refusal> {
    let padded = pad(b, image, w.padding)?;
    let rank = b.sizes(padded).len();
    let mut sum: Option<ValueId> = None;
    for y in 0..w.kernel[0] {
        let rows = part(b, padded, rank - 2, y, w.stride[0], w.out[0])?;
        for x in 0..w.kernel[1] {
            let tap = part(b, rows, rank - 1, x, w.stride[1], w.out[1])?;
            sum = Some(match sum {
                Some(sum) => b.binary(B::Add, sum, tap)?,
                None => tap,
            });
        }
    }
    sum.ok_or(Refusal::Shapes)
}

/// Zeros around the last two dims.
pub fn pad(b: &mut Builder, image: ValueId, padding: [i64; 2]) -> Result<ValueId, Refusal> {
    if padding == [0, 0] {
        return Ok(image);
    }
    let (mut sizes, dtype) = (b.sizes(image), b.dtype(image)?);
    let mut around = vec![0; sizes.len()];
    for (d, n) in (sizes.len() - 2..).zip(padding) {
        around[d] = n;
        sizes[d] += 2 * n;
    }
    let value = if dtype == DType::F64 {
        Const::F64(0)
    } else {
        Const::F32(0)
    };
    let meta = b.meta(dtype, &sizes);
    let (before, after) = (around.clone(), around);
    let op = Op::Pad {
        before,
        after,
        value,
    };
    Ok(b.push(op, &[image], meta))
}

/// A number for each of two dimensions; one number is for both.
pub fn pair(c: &NodeCall, n: usize) -> Result<[i64; 2], Refusal> {
    match *c.ints(n)?.as_slice() {
        [x] => Ok([x, x]),
        [y, x] => Ok([y, x]),
        _ => c.refuse("not two dimensions"),
    }
}

/// The sizes of the last two of at least three dims.
pub fn last_two(c: &NodeCall, sizes: &[i64]) -> Result<[i64; 2], Refusal> {
    match *sizes {
        [.., y, x] if sizes.len() > 2 => Ok([y, x]),
        _ => c.refuse("not an image"),
    }
}
