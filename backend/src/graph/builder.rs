//! Appends primitives to a graph, with PyTorch's conversions.

use super::strided::contiguous;
use super::{Graph, Meta, Narrow, Op, ValueId, View};
use crate::fusion::refusal::Refusal;
use ipex_jit::kernel::{BinaryOp, CmpOp, Const, ReduceOp, Type, UnaryOp};
use ipex_runtime::DType;

/// Nodes of one ATen call.
pub struct Builder<'a> {
    /// The graph.
    pub graph: &'a mut Graph,
    /// The call's origin.
    pub origin: u32,
}

impl Builder<'_> {
    /// A node with one result. What has memory of its own fills it: strides with gaps (a copy with the
    /// strides of a slice) become contiguous ones.
    pub fn push(&mut self, op: Op, operands: &[ValueId], mut meta: Meta) -> ValueId {
        if op.owns_memory() && !meta.is_dense() {
            meta.strides = contiguous(&meta.sizes);
        }
        self.graph.push(op, operands.to_vec(), meta, self.origin)
    }

    /// The sizes of a value.
    pub fn sizes(&self, v: ValueId) -> Vec<i64> {
        self.graph.values[v].sizes.clone()
    }

    /// The element type of a value.
    pub fn dtype(&self, v: ValueId) -> Result<DType, Refusal> {
        let meta = &self.graph.values[v];
        meta.dtype().ok_or(Refusal::Dtype(meta.scalar_type))
    }

    /// Metadata of a contiguous value.
    pub fn meta(&self, dtype: DType, sizes: &[i64]) -> Meta {
        Meta {
            scalar_type: dtype.torch_code(),
            sizes: sizes.to_vec(),
            strides: contiguous(sizes),
        }
    }

    /// Metadata like another value's, of another dtype.
    fn like(&self, v: ValueId, dtype: DType) -> Meta {
        Meta {
            scalar_type: dtype.torch_code(),
            ..self.graph.values[v].clone()
        }
    }

    /// A constant of this dtype and shape.
    pub fn full(&mut self, dtype: DType, sizes: &[i64], value: f64) -> ValueId {
        let c = match Type::of(dtype) {
            Type::F32 => Const::F32((value as f32).to_bits()),
            Type::F64 => Const::F64(value.to_bits()),
            Type::I32 => Const::I32(value as i32),
            Type::I64 => Const::I64(value as i64),
            Type::Bool => Const::Bool(value != 0.0),
        };
        let meta = self.meta(dtype, sizes);
        self.push(Op::Full(c), &[], meta)
    }

    /// `start + step * index[dim]` as i64.
    pub fn iota(&mut self, sizes: &[i64], dim: usize, start: i64, step: i64) -> ValueId {
        let meta = self.meta(DType::I64, sizes);
        self.push(Op::Iota { dim, start, step }, &[], meta)
    }

    /// `v` in another dtype; values of narrow dtypes are rounded.
    pub fn convert(&mut self, v: ValueId, dtype: DType) -> Result<ValueId, Refusal> {
        if self.dtype(v)? == dtype {
            return Ok(v);
        }
        let meta = self.like(v, dtype);
        let narrow = Narrow::Cast;
        Ok(self.push(Op::Convert { narrow }, &[v], meta))
    }

    /// Broadcasts to these sizes.
    pub fn expand(&mut self, v: ValueId, sizes: &[i64]) -> ValueId {
        let mut from = self.sizes(v);
        if from == sizes {
            return v;
        }
        let dtype = DType::from_torch(self.graph.values[v].scalar_type).unwrap_or(DType::F32);
        let mut v = v;
        if from.len() < sizes.len() {
            let mut padded = vec![1; sizes.len() - from.len()];
            padded.extend(&from);
            v = self.reshape(v, &padded);
            from = padded;
        }
        if from == sizes {
            return v;
        }
        let meta = self.meta(dtype, sizes);
        self.push(Op::View(View::Expand), &[v], meta)
    }

    /// Another shape of the same elements.
    pub fn reshape(&mut self, v: ValueId, sizes: &[i64]) -> ValueId {
        let meta = Meta {
            sizes: sizes.to_vec(),
            strides: contiguous(sizes),
            ..self.graph.values[v].clone()
        };
        self.push(Op::View(View::Reshape), &[v], meta)
    }

    /// `out.dim[k] = v.dim[perm[k]]`
    pub fn permute(&mut self, v: ValueId, perm: &[usize]) -> ValueId {
        let of = &self.graph.values[v];
        let meta = Meta {
            scalar_type: of.scalar_type,
            sizes: perm.iter().map(|&p| of.sizes[p]).collect(),
            strides: perm.iter().map(|&p| of.strides[p]).collect(),
        };
        self.push(Op::View(View::Permute(perm.to_vec())), &[v], meta)
    }

    /// A one-operand operation in the operand's dtype, rounded to it.
    pub fn unary(&mut self, op: UnaryOp, v: ValueId) -> Result<ValueId, Refusal> {
        let dtype = self.dtype(v)?;
        let meta = self.like(
            v,
            if op == UnaryOp::IsNan {
                DType::Bool
            } else {
                dtype
            },
        );
        Ok(self.push(Op::Unary(op), &[v], meta))
    }

    /// A two-operand operation on operands of one dtype and shape.
    pub fn binary(&mut self, op: BinaryOp, a: ValueId, b: ValueId) -> Result<ValueId, Refusal> {
        let meta = self.like(a, self.dtype(a)?);
        Ok(self.push(Op::Binary(op), &[a, b], meta))
    }

    /// A comparison of operands of one dtype and shape.
    pub fn compare(&mut self, op: CmpOp, a: ValueId, b: ValueId) -> ValueId {
        let meta = self.like(a, DType::Bool);
        self.push(Op::Compare(op), &[a, b], meta)
    }

    /// `c ? a : b`
    pub fn select(&mut self, c: ValueId, a: ValueId, b: ValueId) -> ValueId {
        let meta = self.graph.values[a].clone();
        self.push(Op::Select, &[c, a, b], meta)
    }

    /// An operation with a number.
    pub fn with(&mut self, op: BinaryOp, v: ValueId, number: f64) -> Result<ValueId, Refusal> {
        let (dtype, sizes) = (self.dtype(v)?, self.sizes(v));
        let c = self.full(dtype, &sizes, number);
        self.binary(op, v, c)
    }

    /// A reduction over `dims`; the result has no such dims.
    pub fn reduce(&mut self, op: ReduceOp, v: ValueId, dims: &[usize]) -> Result<ValueId, Refusal> {
        let sizes = self.sizes(v);
        let kept: Vec<i64> = (0..sizes.len())
            .filter(|d| !dims.contains(d))
            .map(|d| sizes[d])
            .collect();
        let meta = self.meta(self.dtype(v)?, &kept);
        Ok(self.push(
            Op::Reduce {
                op,
                dims: dims.to_vec(),
            },
            &[v],
            meta,
        ))
    }

    /// The elements along `dim` combined up to each of them, in order.
    pub fn scan(&mut self, op: ReduceOp, v: ValueId, dim: usize) -> ValueId {
        let meta = self.graph.values[v].clone();
        self.push(Op::Scan { op, dim }, &[v], meta)
    }

    /// A reduction's result, broadcast back over the reduced dims.
    pub fn spread(&mut self, v: ValueId, dims: &[usize], sizes: &[i64]) -> ValueId {
        let mut ones = sizes.to_vec();
        dims.iter().for_each(|&d| ones[d] = 1);
        let v = self.reshape(v, &ones);
        self.expand(v, sizes)
    }
}
