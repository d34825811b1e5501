//! Convolutions: by our kernels, as matrix products, or else by ATen.

use super::{NodeCall, OpArg, patches};
use crate::fusion::refusal::Refusal;
use crate::graph::builder::Builder;
use crate::graph::layout::{self, by_pixels, by_rows, pixel_by_pixel};
use crate::graph::strided::row_major;
use crate::graph::{Meta, Narrow, Op, ValueId};
use ipex_jit::kernel::BinaryOp;
use ipex_runtime::DType;
use ipex_runtime::conv::{Operation, Order, Shape, last as channels_last};
use ipex_runtime::cpu::{self, Isa};
use ipex_runtime::plan::{CallArg, Route};

/// `aten.convolution`; what is refused here goes to ATen.
pub fn convolution(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    if b.dtype(c.tensor(0)?)? == DType::F16 && !b.graph.gpu && !cpu::multiplies_f16() {
        return widened(b, c);
    }
    match shape(b, c) {
        Ok(shape) => own(b, c, shape),
        Err(_) => pointwise(b, c)
            .or_else(|_| patches::product(b, c))
            .or_else(|_| last(b, c)),
    }
}

/// A convolution of f16 in f32, rounded once: ATen has no vectors for f16 where the processor has none.
fn widened(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let mut args = c.args.to_vec();
    for arg in &mut args {
        if let OpArg::Tensor(v) = arg {
            *v = b.convert(*v, DType::F32)?;
        }
    }
    let outputs = [Some(Meta {
        scalar_type: DType::F32.torch_code(),
        ..c.output(0)?.clone()
    })];
    let wide = NodeCall {
        args: &args,
        outputs: &outputs,
        ..c.clone()
    };
    let results = convolution(b, &wide)?;
    results
        .into_iter()
        .map(|v| b.convert(v, DType::F16))
        .collect()
}

/// The shape of a convolution that [`ipex_runtime::conv`] computes.
fn shape(b: &Builder, c: &NodeCall) -> Result<Shape, Refusal> {
    vectors(b, c)?;
    let (image, weight) = (c.tensor(0)?, c.tensor(1)?);
    let rank = b.sizes(image).len();
    let dtype = b.dtype(image)?;
    let typed = has_kernel(b, dtype, rank) && b.dtype(weight)? == dtype;
    let out = c.output(0)?;
    let image_meta = &b.graph.values[image];
    let layouts = match b.graph.gpu {
        true => in_order(image_meta) && in_order(out),
        // Images and results of one layout, whichever that is, may be left to others.
        false => row_major(image_meta) || row_major(out),
    };
    if !typed || !layouts {
        return c.refuse("no kernel");
    }
    let shape = sizes(b, c)?;
    if !b.graph.gpu && is_mostly_padding(&shape) {
        return c.refuse("taps on padding, which oneDNN leaves out");
    }
    Ok(shape)
}

/// Whether so many taps are on padding that leaving them out is faster (3x3 of 512 channels with dilation 12 at 28x28, where half of
/// them are: 1.9 times on Zen 5).
fn is_mostly_padding(s: &Shape) -> bool {
    let Some(result) = s.result() else {
        return false;
    };
    let inside = |d: usize| {
        let pixel = |out: usize, tap: usize| {
            (out * s.stride[d] + tap * s.dilation[d]).wrapping_sub(s.padding[d])
        };
        let taps = |out: usize| (0..s.kernel[d]).filter(move |&tap| pixel(out, tap) < s.image[d]);
        (0..result[d]).map(|out| taps(out).count()).sum::<usize>()
    };
    let all = s.taps() * result[0] * result[1];
    !s.is_depthwise() && 5 * inside(0) * inside(1) < 3 * all
}

/// What a convolution computes, if that is one over one or two dimensions.
fn sizes(b: &Builder, c: &NodeCall) -> Result<Shape, Refusal> {
    let (sizes, kernel) = (b.sizes(c.tensor(0)?), b.sizes(c.tensor(1)?));
    if c.flag(6) || !(3..=4).contains(&sizes.len()) {
        return c.refuse("transposed, or of three dimensions");
    }
    let out = c.output(0)?;
    let natural = |n: i64| usize::try_from(n).or_else(|_| c.refuse("a negative size"));
    // One dimension is one row.
    let pair = |list: &[i64], above: i64| -> Result<[usize; 2], Refusal> {
        match *list {
            [x] => Ok([natural(above)?, natural(x)?]),
            [y, x] => Ok([natural(y)?, natural(x)?]),
            _ => c.refuse("not two dimensions"),
        }
    };
    let shape = Shape {
        images: natural(sizes[0])?,
        groups: natural(c.int(8)?)?,
        inputs: natural(sizes[1])?,
        outputs: natural(kernel[0])?,
        image: pair(&sizes[2..], 1)?,
        kernel: pair(&kernel[2..], 1)?,
        stride: pair(&c.ints(3)?, 1)?,
        padding: pair(&c.ints(4)?, 0)?,
        dilation: pair(&c.ints(5)?, 1)?,
    };
    let Some([h, w]) = shape.result() else {
        return c.refuse("an empty result");
    };
    let planes = shape.images * shape.outputs;
    if out.numel() != (planes * h * w) as i64 || !out.is_dense() {
        return c.refuse("another layout");
    }
    Ok(shape)
}

/// Images in channels-last order, by the kernels for these, where they win; of bf16 also those that have to be turned.
fn last(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let shape = sizes(b, c)?;
    let (image, weight) = (c.tensor(0)?, c.tensor(1)?);
    let bias = c.optional_tensor(2)?;
    let (dtype, out) = (b.dtype(image)?, c.output(0)?.clone());
    let turned = [&b.graph.values[image], &out].map(|meta| !pixel_by_pixel(meta));
    let typed = |v: ValueId| b.dtype(v) == Ok(dtype);
    let same = typed(weight) && bias.is_none_or(typed);
    let ordered = turned == [false; 2] || dtype == DType::BF16 && out.sizes.len() == 4;
    if b.graph.gpu || !ordered || !same {
        return c.refuse("no kernel for this layout");
    }
    if is_mostly_padding(&shape) {
        return c.refuse("taps on padding, which oneDNN leaves out");
    }
    if let Some(reason) = channels_last::refusal(&shape, dtype, Isa::detect()) {
        return c.refuse(reason);
    }
    let planes = channels_last::reads_planes(&shape, dtype, Isa::detect());
    if turned == [true; 2] && !planes {
        return c.refuse("images and results that would have to be turned");
    }
    let image = match planes && is_row_major(b, image) {
        true => image,
        false => in_pixels(b, image),
    };
    let weight = in_pixels(b, weight);
    let operands: Vec<ValueId> = [image, weight].into_iter().chain(bias).collect();
    let op = Op::External {
        name: c.target.into(),
        route: Route::Convolution(Order::Pixels, Operation::Sum, shape),
        args: b.graph.tensor_arguments(&operands),
    };
    let result = b.push(op, &operands, by_pixels(out.clone()));
    Ok(vec![match turned[1] {
        true => b.push(Op::Convert { narrow: Narrow::No }, &[result], out),
        false => result,
    }])
}

/// The same tensor as it lies in channels-last order: a copy, unless it does.
fn in_pixels(b: &mut Builder, v: ValueId) -> ValueId {
    let meta = &b.graph.values[v];
    if pixel_by_pixel(meta) {
        return v;
    }
    let meta = by_pixels(meta.clone());
    b.push(Op::Convert { narrow: Narrow::No }, &[v], meta)
}

fn own(b: &mut Builder, c: &NodeCall, shape: Shape) -> Result<Vec<ValueId>, Refusal> {
    let [image, weight] = [c.tensor(0)?, c.tensor(1)?].map(|v| in_rows(b, v));
    let mut operands = vec![image, weight];
    operands.extend(c.optional_tensor(2)?);
    let out = c.output(0)?.clone();
    let op = Op::External {
        name: c.target.into(),
        route: Route::Convolution(order(b, &out), Operation::Sum, shape),
        args: b.graph.tensor_arguments(&operands),
    };
    if b.graph.gpu {
        return Ok(vec![b.push(op, &operands, out)]);
    }
    let result = b.push(op, &operands, by_rows(out.clone()));
    Ok(vec![match row_major(&out) {
        true => result,
        false => b.push(Op::Convert { narrow: Narrow::No }, &[result], out),
    }])
}

/// The order of such a result: a GPU's kernels write both.
fn order(b: &Builder, out: &Meta) -> Order {
    match b.graph.gpu && layout::channels_last(out) {
        true => Order::Pixels,
        false => Order::Planes,
    }
}

/// The same tensor as it lies row by row: a copy, unless it does.
fn in_rows(b: &mut Builder, v: ValueId) -> ValueId {
    let meta = &b.graph.values[v];
    if row_major(meta) || b.graph.gpu {
        return v;
    }
    let meta = by_rows(meta.clone());
    b.push(Op::Convert { narrow: Narrow::No }, &[v], meta)
}

/// `aten.max_pool2d_with_indices` whose indices nobody reads.
pub fn max_pool(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    vectors(b, c)?;
    let image = c.tensor(0)?;
    let (sizes, out) = (b.sizes(image), c.output(0)?);
    let indices = c.used.get(1).copied().unwrap_or(true);
    let lies = match b.graph.gpu {
        true => in_order,
        false => row_major,
    };
    let fits = sizes.len() == 4 && lies(&b.graph.values[image]) && lies(out);
    if indices || !fits || !has_kernel(b, b.dtype(image)?, sizes.len()) {
        return c.refuse("indices, another layout or dtype");
    }
    let natural = |n: i64| usize::try_from(n).or_else(|_| c.refuse("a negative size"));
    // One number is for both dimensions; no stride is the kernel's size.
    let pair = |n: usize| -> Result<[usize; 2], Refusal> {
        match *c.ints(n)?.as_slice() {
            [x] => Ok([natural(x)?; 2]),
            [y, x] => Ok([natural(y)?, natural(x)?]),
            _ => c.refuse("not two dimensions"),
        }
    };
    let kernel = pair(1)?;
    let channels = natural(sizes[1])?;
    let shape = Shape {
        images: natural(sizes[0])?,
        groups: channels,
        inputs: channels,
        outputs: channels,
        image: [natural(sizes[2])?, natural(sizes[3])?],
        kernel,
        stride: if c.ints(2)?.is_empty() {
            kernel
        } else {
            pair(2)?
        },
        padding: pair(3)?,
        dilation: pair(4)?,
    };
    // `ceil_mode` may make the result larger.
    let Some([h, w]) = shape.result().filter(|_| shape.taps() > 1) else {
        return c.refuse("an empty result, or a window of one pixel");
    };
    if out.sizes[2..] != [h as i64, w as i64] {
        return c.refuse("windows that leave the image");
    }
    let op = Op::External {
        name: c.target.into(),
        route: Route::Convolution(order(b, out), Operation::Max, shape),
        args: b.graph.tensor_arguments(&[image]),
    };
    let meta = out.clone();
    Ok(vec![b.push(op, &[image], meta)])
}

/// Whether there are kernels for images of this type: on the CPU for f32 alone.
fn has_kernel(b: &Builder, dtype: DType, rank: usize) -> bool {
    let narrow = matches!(dtype, DType::F16 | DType::BF16);
    dtype == DType::F32 || narrow && b.graph.gpu && rank == 4
}

/// Refuses where our kernels are plain Rust: oneDNN is faster then.
fn vectors(b: &Builder, c: &NodeCall) -> Result<(), Refusal> {
    if Isa::detect() < Isa::Avx2 && !b.graph.gpu {
        return c.refuse("no vector instructions");
    }
    Ok(())
}

/// `aten.convolution` of one image with a 1x1 kernel: `weight[out, in] @ image[in, pixels]`. It needs
/// no blocked layout and no copy; for what has no kernel of ours.
fn pointwise(b: &mut Builder, c: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
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
    let product = mm(b, weight, image, None)?;
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

/// Whether the kernels of a GPU read and write images that lie so.
fn in_order(meta: &Meta) -> bool {
    row_major(meta) || pixel_by_pixel(meta)
}

pub(super) fn is_row_major(b: &Builder, v: ValueId) -> bool {
    row_major(&b.graph.values[v])
}

/// `p @ q`, and perhaps a bias for each column, as a call into memory of the plan.
pub(super) fn mm(
    b: &mut Builder,
    p: ValueId,
    q: ValueId,
    bias: Option<ValueId>,
) -> Result<ValueId, Refusal> {
    let operands: Vec<ValueId> = bias.into_iter().chain([p, q]).collect();
    let mut args = b.graph.tensor_arguments(&operands);
    let (name, symbol) = match bias {
        Some(_) => {
            // beta and alpha
            args.extend([CallArg::Float(1.0), CallArg::Float(1.0)]);
            ("aten.addmm.default", "aoti_torch_cpu_addmm_out")
        }
        None => ("aten.mm.default", "aoti_torch_cpu_mm_out"),
    };
    let op = Op::External {
        name: name.into(),
        route: Route::OutFunction { symbol },
        args,
    };
    let meta = b.meta(b.dtype(p)?, &[b.sizes(p)[0], b.sizes(q)[1]]);
    Ok(b.push(op, &operands, meta))
}
