//! One row for each ATen overload.

use super::{
    NodeCall, activation, attention, bag, compare, composite, conv, create, foreach, im2col, index,
    integer, layer_norm, loss, pointwise, pool, quantised, reduce, scan, view,
};
use crate::fusion::refusal::Refusal;
use crate::graph::builder::Builder;
use crate::graph::{Graph, Meta, Op, ValueId};
use ipex_jit::kernel::{BinaryOp as B, CmpOp, ReduceOp, UnaryOp as U};

/// A translation: the values of the call's results.
pub type Rule = fn(&mut Builder, &NodeCall) -> Result<Vec<ValueId>, Refusal>;

/// Translates a call. On `Err` the nodes that it may have left behind are dead.
pub fn translate(graph: &mut Graph, origin: u32, call: &NodeCall) -> Result<Vec<ValueId>, Refusal> {
    let rule = |target: &str| RULES.iter().find(|r| r.0 == target).map(|r| r.1);
    let of_one = foreach::EACH.iter().find(|r| r.0 == call.target);
    let mut b = Builder { graph, origin };
    let results = match (rule(call.target), of_one) {
        (Some(rule), _) => rule(&mut b, call)?,
        (None, Some((_, target))) => match rule(target) {
            Some(rule) => foreach::each(&mut b, call, target, rule)?,
            None => return call.refuse("no rule"),
        },
        (None, None) => return call.refuse("no rule"),
    };
    let shaped = results.iter().zip(call.outputs).map(|(&v, out)| match out {
        Some(out) => settle(&mut b, v, out),
        None => call.refuse("a result that is no tensor"),
    });
    shaped.collect()
}

/// Gives a value the dtype and strides that eager's result has.
fn settle(b: &mut Builder, v: ValueId, out: &Meta) -> Result<ValueId, Refusal> {
    let v = b.convert(v, out.dtype().ok_or(Refusal::Dtype(out.scalar_type))?)?;
    if b.graph.values[v].sizes != out.sizes {
        return Err(Refusal::Shapes);
    }
    // Only nodes of this call may change; a view's strides follow from its operand's.
    if b.graph.producer(v).origin == b.origin && !matches!(b.graph.producer(v).op, Op::Input(_)) {
        let dense = out.is_dense();
        if dense || matches!(b.graph.producer(v).op, Op::View(_)) {
            b.graph.values[v].strides.clone_from(&out.strides);
        }
    }
    Ok(v)
}

/// The targets that have a rule.
pub fn supported() -> impl Iterator<Item = &'static str> {
    let each = foreach::EACH.iter().map(|r| r.0);
    RULES.iter().map(|r| r.0).chain(each)
}

macro_rules! unary {
    ($op:expr) => {
        |b, c| pointwise::unary(b, c, $op)
    };
}
macro_rules! binary {
    ($op:expr) => {
        |b, c| pointwise::binary(b, c, $op)
    };
}
macro_rules! compare {
    ($op:expr) => {
        |b, c| compare::compare(b, c, $op)
    };
}
macro_rules! reduce {
    ($op:expr) => {
        |b, c| reduce::simple(b, c, $op)
    };
}

macro_rules! filled {
    ($value:expr) => {
        |b, c| create::filled(b, c, $value)
    };
}

#[rustfmt::skip]
static RULES: &[(&str, Rule)] = &[
    ("aten.abs.default", unary!(U::Abs)), ("aten.neg.default", unary!(U::Neg)),
    ("aten.exp.default", unary!(U::Exp)), ("aten.log.default", unary!(U::Log)),
    ("aten.tanh.default", unary!(U::Tanh)), ("aten.erf.default", unary!(U::Erf)),
    ("aten.sin.default", unary!(U::Sin)), ("aten.cos.default", unary!(U::Cos)),
    ("aten.sqrt.default", unary!(U::Sqrt)), ("aten.sigmoid.default", unary!(U::Sigmoid)),
    ("aten.expm1.default", unary!(U::Expm1)), ("aten.log1p.default", unary!(U::Log1p)),
    ("aten.floor.default", unary!(U::Floor)), ("aten.ceil.default", unary!(U::Ceil)),
    ("aten.trunc.default", unary!(U::Trunc)), ("aten.round.default", unary!(U::Round)),
    ("aten.exp2.default", unary!(U::Exp2)), ("aten.log2.default", unary!(U::Log2)),
    ("aten.log10.default", unary!(U::Log10)), ("aten.erfc.default", unary!(U::Erfc)),
    ("aten.tan.default", unary!(U::Tan)), ("aten.asin.default", unary!(U::Asin)),
    ("aten.acos.default", unary!(U::Acos)), ("aten.atan.default", unary!(U::Atan)),
    ("aten.sinh.default", unary!(U::Sinh)), ("aten.cosh.default", unary!(U::Cosh)),
    ("aten.asinh.default", unary!(U::Asinh)), ("aten.acosh.default", unary!(U::Acosh)),
    ("aten.atanh.default", unary!(U::Atanh)),
    ("aten.rsqrt.default", pointwise::rsqrt), ("aten.reciprocal.default", pointwise::reciprocal),
    ("aten.relu.default", activation::relu), ("aten.gelu.default", activation::gelu),
    ("aten.silu.default", activation::silu), ("aten.hardtanh.default", activation::hardtanh),
    ("aten.hardsigmoid.default", activation::hardsigmoid), ("aten.hardswish.default", activation::hardswish),
    ("aten.add.Tensor", binary!(B::Add)), ("aten.sub.Tensor", binary!(B::Sub)),
    ("aten.mul.Tensor", binary!(B::Mul)), ("aten.div.Tensor", binary!(B::Div)),
    ("aten.add.Scalar", binary!(B::Add)), ("aten.sub.Scalar", binary!(B::Sub)),
    ("aten.mul.Scalar", binary!(B::Mul)), ("aten.div.Scalar", binary!(B::Div)),
    ("aten.maximum.default", binary!(B::Max)), ("aten.minimum.default", binary!(B::Min)),
    ("aten.bitwise_and.Tensor", binary!(B::And)), ("aten.bitwise_or.Tensor", binary!(B::Or)),
    ("aten.bitwise_xor.Tensor", binary!(B::Xor)),
    ("aten.logical_and.default", |b, c| composite::logical(b, c, B::And)),
    ("aten.logical_or.default", |b, c| composite::logical(b, c, B::Or)),
    ("aten.logical_xor.default", |b, c| composite::logical(b, c, B::Xor)),
    ("aten.pow.Tensor_Scalar", pointwise::pow_scalar), ("aten.logical_not.default", composite::not),
    ("aten.bitwise_not.default", composite::not), ("aten.sign.default", composite::sign),
    ("aten.isnan.default", composite::isnan), ("aten.isinf.default", composite::isinf),
    ("aten.clamp.default", composite::clamp), ("aten.clamp_min.default", composite::clamp),
    ("aten.clamp_max.default", composite::clamp), ("aten.clamp.Tensor", composite::clamp),
    ("aten.clamp_min.Tensor", composite::clamp), ("aten.clamp_max.Tensor", composite::clamp),
    ("aten.fmax.default", |b, c| composite::ignoring_nan(b, c, B::Max)),
    ("aten.fmin.default", |b, c| composite::ignoring_nan(b, c, B::Min)),
    ("aten.signbit.default", composite::signbit), ("aten.round.decimals", composite::round_decimals),
    ("aten.isposinf.default", |b, c| compare::is_infinity(b, c, f64::INFINITY)),
    ("aten.isneginf.default", |b, c| compare::is_infinity(b, c, f64::NEG_INFINITY)),
    ("aten.div.Tensor_mode", integer::divide), ("aten.div.Scalar_mode", integer::divide),
    ("aten.floor_divide.default", integer::divide),
    ("aten.bitwise_left_shift.Tensor", |b, c| integer::shift(b, c, B::Shl)),
    ("aten.bitwise_left_shift.Tensor_Scalar", |b, c| integer::shift(b, c, B::Shl)),
    ("aten.bitwise_right_shift.Tensor", |b, c| integer::shift(b, c, B::Shr)),
    ("aten.bitwise_right_shift.Tensor_Scalar", |b, c| integer::shift(b, c, B::Shr)),
    ("aten.flip.default", composite::flip),
    ("aten.full_like.default", create::full), ("aten.zeros_like.default", filled!(0.0)),
    ("aten.ones_like.default", filled!(1.0)), ("aten.zeros.default", filled!(0.0)),
    ("aten.ones.default", filled!(1.0)),
    ("aten.fill.Scalar", create::copy), ("aten.fill.Tensor", create::copy),
    ("aten.copy.default", create::copy), ("aten.copy_.default", create::assign), ("aten.eye.default", create::eye), ("aten.eye.m", create::eye),
    ("aten.pow.Tensor_Tensor", |b, c| composite::float_binary(b, c, B::Pow)),
    ("aten.pow.Scalar", pointwise::scalar_pow), ("prims.fma.default", pointwise::fma),
    ("aten.fmod.Tensor", |b, c| integer::remainder(b, c, B::Fmod)),
    ("aten.fmod.Scalar", |b, c| integer::remainder(b, c, B::Fmod)),
    ("aten.remainder.Tensor", |b, c| integer::remainder(b, c, B::Rem)),
    ("aten.remainder.Scalar", |b, c| integer::remainder(b, c, B::Rem)),
    ("aten.atan2.default", |b, c| composite::float_binary(b, c, B::Atan2)),
    ("aten.hypot.default", |b, c| composite::float_binary(b, c, B::Hypot)),
    ("aten.copysign.Tensor", |b, c| composite::float_binary(b, c, B::Copysign)),
    ("aten.copysign.Scalar", |b, c| composite::float_binary(b, c, B::Copysign)),
    ("aten.eq.Tensor", compare!(CmpOp::Eq)), ("aten.eq.Scalar", compare!(CmpOp::Eq)),
    ("aten.ne.Tensor", compare!(CmpOp::Ne)), ("aten.ne.Scalar", compare!(CmpOp::Ne)),
    ("aten.lt.Tensor", compare!(CmpOp::Lt)), ("aten.lt.Scalar", compare!(CmpOp::Lt)),
    ("aten.le.Tensor", compare!(CmpOp::Le)), ("aten.le.Scalar", compare!(CmpOp::Le)),
    ("aten.gt.Tensor", compare!(CmpOp::Gt)), ("aten.gt.Scalar", compare!(CmpOp::Gt)),
    ("aten.ge.Tensor", compare!(CmpOp::Ge)), ("aten.ge.Scalar", compare!(CmpOp::Ge)),
    ("aten.where.self", pointwise::where_self),
    ("aten.lerp.Scalar", foreach::lerp), ("aten.lerp.Tensor", foreach::lerp),
    ("aten.addcmul.default", |b, c| foreach::with_product(b, c, B::Mul)),
    ("aten.addcdiv.default", |b, c| foreach::with_product(b, c, B::Div)),
    ("aten._to_copy.default", pointwise::to_copy), ("prims.convert_element_type.default", pointwise::to_copy),
    ("aten.clone.default", pointwise::to_copy), ("aten.lift_fresh_copy.default", pointwise::to_copy),
    ("aten.full.default", create::full), ("aten.scalar_tensor.default", create::scalar_tensor),
    ("aten.arange.start_step", create::arange), ("aten.arange.start", create::arange),
    ("aten.arange.default", create::arange),
    ("aten.sum.default", reduce!(ReduceOp::Sum)), ("aten.sum.dim_IntList", reduce!(ReduceOp::Sum)),
    ("aten.amax.default", reduce!(ReduceOp::Max)), ("aten.amin.default", reduce!(ReduceOp::Min)),
    ("aten.max.default", reduce!(ReduceOp::Max)), ("aten.min.default", reduce!(ReduceOp::Min)),
    ("aten.max.dim", |b, c| reduce::extremum(b, c, ReduceOp::Max)),
    ("aten.min.dim", |b, c| reduce::extremum(b, c, ReduceOp::Min)),
    ("aten.prod.default", reduce!(ReduceOp::Prod)), ("aten.prod.dim_int", reduce!(ReduceOp::Prod)),
    ("aten.any.default", |b, c| reduce::truth(b, c, ReduceOp::Any)),
    ("aten.any.dim", |b, c| reduce::truth(b, c, ReduceOp::Any)),
    ("aten.any.dims", |b, c| reduce::truth(b, c, ReduceOp::Any)),
    ("aten.all.default", |b, c| reduce::truth(b, c, ReduceOp::All)),
    ("aten.all.dim", |b, c| reduce::truth(b, c, ReduceOp::All)),
    ("aten.all.dims", |b, c| reduce::truth(b, c, ReduceOp::All)),
    ("aten.argmax.default", |b, c| reduce::position(b, c, ReduceOp::Max)),
    ("aten.argmin.default", |b, c| reduce::position(b, c, ReduceOp::Min)),
    ("aten.cumsum.default", |b, c| scan::cumulative(b, c, ReduceOp::Sum)),
    ("aten.cumprod.default", |b, c| scan::cumulative(b, c, ReduceOp::Prod)),
    ("aten.var.correction", reduce::var), ("aten.std.correction", reduce::var),
    ("aten.linalg_vector_norm.default", reduce::vector_norm),
    ("aten.var_mean.correction", reduce::var_mean), ("aten.std_mean.correction", reduce::var_mean),
    ("aten.mean.default", reduce::mean), ("aten.mean.dim", reduce::mean),
    ("aten._softmax.default", reduce::softmax), ("aten._log_softmax.default", reduce::log_softmax),
    ("aten.native_layer_norm.default", layer_norm::forward),
    ("aten.native_layer_norm_backward.default", layer_norm::backward),
    ("aten._fused_rms_norm.default", reduce::rms_norm),
    ("aten._native_batch_norm_legit_no_training.default", reduce::batch_norm),
    ("aten.nll_loss_forward.default", loss::nll_forward),
    ("aten.nll_loss_backward.default", loss::nll_backward), ("aten.nll_loss2d_backward.default", loss::nll_backward),
    ("aten.view.default", view::reshape), ("aten._unsafe_view.default", view::reshape),
    ("aten.reshape.default", view::reshape), ("aten.unsqueeze.default", view::reshape),
    ("aten.squeeze.dim", view::reshape), ("aten.squeeze.dims", view::reshape),
    ("aten.squeeze.default", view::reshape), ("aten.alias.default", view::reshape),
    ("aten.detach.default", view::reshape), ("aten.as_strided.default", view::as_strided),
    ("aten.expand.default", view::expand), ("aten.permute.default", view::permute),
    ("aten.t.default", view::t), ("aten.transpose.int", view::transpose),
    ("aten.select.int", view::select), ("aten.slice.Tensor", view::slice),
    ("aten.split.Tensor", view::split), ("aten.split_with_sizes.default", view::split),
    ("aten._scaled_dot_product_flash_attention_for_cpu.default", attention::flash),
    ("aten._scaled_dot_product_fused_attention_overrideable.default", attention::fused),
    ("aten._scaled_dot_product_flash_attention.default", attention::flash_on_device),
    ("aten.convolution.default", conv::convolution), ("aten.max_pool2d_with_indices.default", conv::max_pool),
    ("aten.avg_pool2d.default", pool::average), ("aten._adaptive_avg_pool2d.default", pool::adaptive_average),
    ("quantized_decomposed.quantize_per_tensor.default", quantised::quantize),
    ("quantized_decomposed.quantize_per_tensor.tensor", quantised::quantize),
    ("quantized_decomposed.quantize_per_channel.default", quantised::quantize),
    ("quantized_decomposed.dequantize_per_tensor.default", quantised::dequantize),
    ("quantized_decomposed.dequantize_per_tensor.tensor", quantised::dequantize),
    ("quantized_decomposed.dequantize_per_channel.default", quantised::dequantize),
    ("quantized_decomposed.dequantize_per_channel_group.default", quantised::dequantize_groups),
    ("aten._weight_int4pack_mm_for_cpu.default", quantised::weight_int4pack_mm),
    ("aten._weight_int8pack_mm.default", quantised::weight_int8pack_mm),
    ("aten.im2col.default", im2col::im2col), ("aten._embedding_bag.default", bag::bag), ("aten._embedding_bag_forward_only.default", bag::bag),
    ("aten.cat.default", index::cat), ("aten.embedding.default", index::embedding),
    ("aten.index_select.default", index::index_select), ("aten.gather.default", index::gather),
    ("aten.index.Tensor", index::index), ("aten._unsafe_index.Tensor", index::index),
    ("aten.repeat.default", index::repeat), ("aten.roll.default", index::roll),
    ("aten.slice_scatter.default", index::slice_scatter),
    ("aten.select_scatter.default", index::select_scatter),
    ("aten.constant_pad_nd.default", index::pad),
];
