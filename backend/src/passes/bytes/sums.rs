//! The nodes in the place of a product of dequantised matrices.

use super::operand::{Bytes, Factor, Spread};
use super::{Found, NAME, Product};
use crate::graph::builder::Builder;
use crate::graph::{Meta, Narrow, Op, ValueId};
use cranelift_entity::SecondaryMap;
use ipex_jit::kernel::{BinaryOp, ReduceOp};
use ipex_runtime::DType;
use ipex_runtime::plan::{OfBytes, Route};

/// Which side of a product: its factors belong to rows of the result, or to columns.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Left,
    Right,
}

/// Makes them.
pub struct Sums<'a> {
    /// The new graph.
    pub b: Builder<'a>,
    /// What became of the old graph's values.
    pub map: &'a SecondaryMap<ValueId, Option<ValueId>>,
    /// Of the result.
    pub sizes: [i64; 2],
}

impl Sums<'_> {
    /// The product, as the old one's result.
    pub fn product(mut self, p: &Product, found: &Found, meta: Meta) -> ValueId {
        let w = self.bytes(&found.b);
        let mut v = match &found.a {
            Some(left) => {
                let x = self.bytes(left);
                let sums = self.call(&[x, w], OfBytes::All, DType::I32);
                let sums = self.of_integers(sums, [x, w], [left, &found.b]);
                let sums = self.cast(sums, DType::F32);
                self.scaled(sums, left, Side::Left)
            }
            None if found.b.group.is_some() => self.of_groups(p, &found.b),
            None => {
                let x = self.at(p.a);
                let sums = self.call(&[x, w], OfBytes::All, DType::F32);
                self.of_floats(sums, x, &found.b)
            }
        };
        v = self.scaled(v, &found.b, Side::Right);
        if let Some(bias) = p.bias {
            let bias = self.cast(self.at(bias), DType::F32);
            let bias = self.b.expand(bias, &self.sizes);
            v = self.op(BinaryOp::Add, v, bias);
        }
        if meta.dtype() != Some(DType::F32) {
            let narrow = Narrow::Result;
            v = self.b.push(Op::Convert { narrow }, &[v], meta);
        }
        v
    }

    fn at(&self, old: ValueId) -> ValueId {
        self.map[old].expect("values come before their uses")
    }

    fn cast(&mut self, v: ValueId, to: DType) -> ValueId {
        let of = &self.b.graph.values[v];
        if of.dtype() == Some(to) {
            return v;
        }
        let meta = Meta {
            scalar_type: to.torch_code(),
            ..of.clone()
        };
        let narrow = Narrow::Cast;
        self.b.push(Op::Convert { narrow }, &[v], meta)
    }

    fn op(&mut self, op: BinaryOp, x: ValueId, y: ValueId) -> ValueId {
        let meta = self.b.graph.values[x].clone();
        self.b.push(Op::Binary(op), &[x, y], meta)
    }

    fn call(&mut self, operands: &[ValueId], of: OfBytes, dtype: DType) -> ValueId {
        let call = Op::External {
            name: NAME.into(),
            route: Route::Bytes(of),
            args: self.b.graph.tensor_arguments(operands),
        };
        let meta = self.b.meta(dtype, &self.sizes);
        self.b.push(call, operands, meta)
    }

    /// The bytes as the matrix that the product reads.
    fn bytes(&mut self, of: &Bytes) -> ValueId {
        let mut v = self.at(of.value);
        for (view, meta) in of.views.iter().rev() {
            let meta = Meta {
                scalar_type: self.b.graph.values[v].scalar_type,
                ..meta.clone()
            };
            v = self.b.push(Op::View(view.clone()), &[v], meta);
        }
        v
    }

    /// A factor for each element of the result.
    fn factor(&mut self, factor: &Factor, side: Side, dtype: DType) -> ValueId {
        let [m, n] = self.sizes;
        match *factor {
            Factor::Number(x) => self.b.full(dtype, &[m, n], x),
            Factor::Tensor {
                source,
                spread,
                integers,
            } => {
                let source = match dtype {
                    DType::I32 => integers.unwrap_or(source),
                    _ => source,
                };
                let of = match side {
                    _ if spread == Spread::One => [1, 1],
                    Side::Left => [m, 1],
                    Side::Right => [1, n],
                };
                let v = self.cast(self.at(source), dtype);
                let v = self.b.reshape(v, &of);
                self.b.expand(v, &[m, n])
            }
        }
    }

    fn scaled(&mut self, mut v: ValueId, by: &Bytes, side: Side) -> ValueId {
        for scale in by.scales.iter().filter(|s| !s.is_of_groups()) {
            let scale = self.factor(scale, side, DType::F32);
            v = self.op(BinaryOp::Mul, v, scale);
        }
        v
    }

    /// Sums along K of the rows of the left matrix, or the columns of the right one, for each element of the result.
    fn totals(&mut self, of: ValueId, side: Side, dtype: DType) -> ValueId {
        let v = self.cast(of, dtype);
        let [m, n] = self.sizes;
        let (dims, kept, spread) = match side {
            Side::Left => (vec![1], m, [m, 1]),
            Side::Right => (vec![0], n, [1, n]),
        };
        let meta = self.b.meta(dtype, &[kept]);
        let op = ReduceOp::Sum;
        let v = self.b.push(Op::Reduce { op, dims }, &[v], meta);
        let v = self.b.reshape(v, &spread);
        self.b.expand(v, &[m, n])
    }

    /// `sum x (w - z) s`, whose zero points and scales of groups the kernel applies.
    fn of_groups(&mut self, p: &Product, right: &Bytes) -> ValueId {
        let k = self.b.graph.values[self.at(p.a)].sizes[1];
        let (n, size) = (self.sizes[1], right.group.unwrap_or(k));
        let groups = k / size.max(1);
        let w = self.b.reshape(self.at(right.value), &[n, k]);
        let w = self.b.permute(w, &[1, 0]);
        let one = Factor::Number(1.0);
        let scale = right.scales.iter().find(|s| s.is_of_groups());
        let scale = self.by_group(scale.unwrap_or(&one), [n, groups]);
        let mut operands = vec![self.at(p.a), w, scale];
        if let Some(z) = &right.zero {
            operands.push(self.by_group(z, [n, groups]));
        }
        let group = size as usize;
        self.call(&operands, OfBytes::Groups(group), DType::F32)
    }

    /// A factor for each column and group, as the kernel reads it.
    fn by_group(&mut self, factor: &Factor, [n, groups]: [i64; 2]) -> ValueId {
        let (v, of) = match *factor {
            Factor::Number(x) => (self.b.full(DType::F32, &[1, 1], x), [1, 1]),
            Factor::Tensor { source, spread, .. } => {
                let v = self.at(source);
                let columns = self.b.graph.values[v].numel() / groups.max(1);
                let of = match spread {
                    Spread::One => [1, 1],
                    Spread::Each => [n, 1],
                    Spread::Groups => [columns, groups],
                };
                (v, of)
            }
        };
        let dtype = self.b.graph.values[v].dtype();
        let v = match dtype {
            Some(DType::F32 | DType::BF16 | DType::F16) => v,
            _ => self.cast(v, DType::F32),
        };
        let v = self.b.reshape(v, &of);
        self.b.expand(v, &[n, groups])
    }

    /// `sum x (w - z)` of `sum x w`.
    fn of_floats(&mut self, v: ValueId, x: ValueId, right: &Bytes) -> ValueId {
        let Some(z) = &right.zero else {
            return v;
        };
        let total = self.totals(x, Side::Left, DType::F32);
        let z = self.factor(z, Side::Right, DType::F32);
        let less = self.op(BinaryOp::Mul, total, z);
        self.op(BinaryOp::Sub, v, less)
    }

    /// `sum (x - y) (w - z)` of `sum x w`, which may overflow where the result does not: sums wrap.
    fn of_integers(
        &mut self,
        mut v: ValueId,
        [x, w]: [ValueId; 2],
        [left, right]: [&Bytes; 2],
    ) -> ValueId {
        let y = left.zero.as_ref();
        let y = y.map(|y| self.factor(y, Side::Left, DType::I32));
        if let Some(y) = y {
            let total = self.totals(w, Side::Right, DType::I32);
            let less = self.op(BinaryOp::Mul, y, total);
            v = self.op(BinaryOp::Sub, v, less);
        }
        if let Some(z) = &right.zero {
            let mut total = self.totals(x, Side::Left, DType::I32);
            if let Some(y) = y {
                let k = self.b.graph.values[x].sizes[1];
                let k = self.b.full(DType::I32, &self.sizes, k as f64);
                let all = self.op(BinaryOp::Mul, y, k);
                total = self.op(BinaryOp::Sub, total, all);
            }
            let z = self.factor(z, Side::Right, DType::I32);
            let less = self.op(BinaryOp::Mul, z, total);
            v = self.op(BinaryOp::Sub, v, less);
        }
        v
    }
}
