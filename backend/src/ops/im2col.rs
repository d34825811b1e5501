//! The windows of an image as columns.

use super::NodeCall;
use super::index::join;
use super::pointwise::copy;
use super::pool::{MOST_TAPS, last_two, pad, pair};
use super::view::part;
use crate::fusion::refusal::Refusal;
use crate::graph::ValueId;
use crate::graph::builder::Builder;

/// `aten.im2col(image, kernel_size, dilation, padding, stride)`: [.., C, H, W] to [.., C·kh·kw, windows], one strided slice for
/// each place in the window.
pub fn im2col(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let image = c.tensor(0)?;
    let sizes = b.sizes(image);
    let [kernel, dilation, padding, stride] = [pair(c, 1)?, pair(c, 2)?, pair(c, 3)?, pair(c, 4)?];
    let taps = kernel[0] * kernel[1];
    if !b.dtype(image)?.is_float() || !(1..=MOST_TAPS).contains(&taps) {
        return c.refuse("integers, or a large window");
    }
    let from = last_two(c, &sizes)?;
    let reach = |d: usize| from[d] + 2 * padding[d] - dilation[d] * (kernel[d] - 1) - 1;
    let out = [0, 1].map(|d| reach(d) / stride[d] + 1);
    let (image, rank) = (pad(b, image, padding)?, sizes.len());
    let mut column = sizes[..rank - 2].to_vec();
    column.extend([1, out[0] * out[1]]);
    let mut columns = Vec::new();
    for y in 0..kernel[0] {
        let rows = part(b, image, rank - 2, y * dilation[0], stride[0], out[0])?;
        for x in 0..kernel[1] {
            let tap = part(b, rows, rank - 1, x * dilation[1], stride[1], out[1])?;
            columns.push(b.reshape(tap, &column));
        }
    }
    let all = join(b, &columns, rank - 2)?;
    let all = b.reshape(all, &c.output(0)?.sizes);
    if taps == 1 {
        return copy(b, c, all);
    }
    Ok(vec![all])
}
