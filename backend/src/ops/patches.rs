//! Convolutions whose windows lie side by side, as products of the windows' pixels.

use super::NodeCall;
use super::conv::{is_row_major, mm};
use crate::fusion::refusal::Refusal;
use crate::graph::builder::Builder;
use crate::graph::strided::row_major;
use crate::graph::{Meta, Narrow, Op, ValueId};
use ipex_runtime::DType;
use ipex_runtime::cpu::Isa;

/// `aten.convolution` whose windows lie side by side (the first layer of a vision transformer, a step to half the size, or 1x1),
/// of one to three dimensions: `windows[n, in * taps] @ weight[in * taps, out]`. Only the pixels are copied, and for 1x1 of
/// images in channels-last order nothing is.
pub fn product(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let (image, weight) = (c.tensor(0)?, c.tensor(1)?);
    let (sizes, kernel) = (b.sizes(image), b.sizes(weight));
    let (n, inputs, outputs) = match (sizes.as_slice(), kernel.as_slice()) {
        (&[n, inputs, _, ..], &[outputs, _, _, ..]) if sizes.len() == kernel.len() => {
            (n, inputs, outputs)
        }
        _ => return c.refuse("no image"),
    };
    let (across, taps) = (&sizes[2..], &kernel[2..]);
    let out = c.output(0)?.clone();
    let all = |n: usize, value: i64| -> Result<bool, Refusal> {
        Ok(c.ints(n)?.iter().all(|&v| v == value))
    };
    let plain = all(4, 0)? && all(5, 1)? && !c.flag(6) && c.int(8)? == 1;
    let tiled =
        c.ints(3)? == taps && across.iter().zip(taps).all(|(n, k)| n % k == 0) && out.numel() > 0;
    let depth = inputs * taps.iter().product::<i64>();
    // Windows are copied, and a result that is row-major is turned.
    let seldom = outputs * depth < OFTEN * (outputs + depth);
    let lies = pixel_by_pixel(&out) || row_major(&out) && !seldom;
    if !(plain && tiled && lies && is_faster(b, image, weight)? && is_row_major(b, weight)) {
        return c.refuse("not a product of patches");
    }
    let windows: Vec<i64> = across.iter().zip(taps).map(|(n, k)| n / k).collect();
    let rows = n * windows.iter().product::<i64>();
    let image = windows_of(b, image, taps, [rows, depth]);
    let weight = b.reshape(weight, &[outputs, depth]);
    let weight = b.permute(weight, &[1, 0]);
    let bias = c.optional_tensor(2)?;
    let result = mm(b, image, weight, bias)?;
    let result = b.reshape(result, &[&[n], windows.as_slice(), &[outputs]].concat());
    let channels = windows.len() + 1;
    let result = b.permute(
        result,
        &[&[0, channels], &(1..channels).collect::<Vec<_>>()[..]].concat(),
    );
    Ok(vec![match pixel_by_pixel(&out) {
        true => result,
        false => b.push(Op::Convert { narrow: Narrow::No }, &[result], out),
    }])
}

/// Multiplications of a copied element from which copies pay (measured on Zen 5: 128 lose, 384 win).
const OFTEN: i64 = 256;

/// Whether products of this type are faster than ATen's convolutions.
fn is_faster(b: &Builder, image: ValueId, weight: ValueId) -> Result<bool, Refusal> {
    let dtype = b.dtype(image)?;
    let typed = match dtype {
        DType::F32 => true,
        DType::BF16 => Isa::detect() >= Isa::Avx512Bf16,
        _ => false,
    };
    Ok(typed && b.dtype(weight)? == dtype && !b.graph.gpu)
}

/// The pixels of windows of so many `taps` as the rows of a matrix, channel after channel.
fn windows_of(b: &mut Builder, image: ValueId, taps: &[i64], matrix: [i64; 2]) -> ValueId {
    let sizes = b.sizes(image);
    let dims = taps.len();
    let mut split = sizes[..2].to_vec();
    for (n, k) in sizes[2..].iter().zip(taps) {
        split.extend([n / k, *k]);
    }
    // Images, windows, channels, taps.
    let order = (0..dims).map(|d| 2 + 2 * d);
    let order: Vec<usize> = std::iter::once(0)
        .chain(order.clone())
        .chain([1])
        .chain(order.map(|d| d + 1))
        .collect();
    let image = b.reshape(image, &split);
    let image = b.permute(image, &order);
    b.reshape(image, &matrix)
}

/// Whether a tensor `[n, c, ...]` lies as `[n, ..., c]`.
fn pixel_by_pixel(meta: &Meta) -> bool {
    let last = |list: &[i64]| -> Vec<i64> { [&list[..1], &list[2..], &list[1..2]].concat() };
    row_major(&Meta {
        scalar_type: meta.scalar_type,
        sizes: last(&meta.sizes),
        strides: last(&meta.strides),
    })
}
