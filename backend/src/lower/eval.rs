//! Lazy evaluation of graph values at affine indices into kernel IR.

use super::index::{AffineExpr, view_index};
use crate::fusion::refusal::Refusal;
use crate::graph::{Graph, NodeId, Op, ValueId};
use cranelift_entity::{EntitySet, PrimaryMap};
use ipex_jit::kernel::{
    self, Access, BinaryOp, Const, Index, Inst, Mem, Param, ParamId, Stmt, Type, Var, VarId,
};
use ipex_runtime::DType;
use std::collections::HashMap;

/// State of one lowering: the kernel's tables and the body of its innermost loop.
pub struct Eval<'a> {
    /// The graph.
    pub graph: &'a Graph,
    /// Nodes computed here; every other value is loaded.
    pub group: &'a EntitySet<NodeId>,
    /// The kernel's parameters.
    pub params: PrimaryMap<ParamId, Param>,
    /// The value behind each parameter.
    pub tensors: Vec<ValueId>,
    /// Loop variables.
    pub vars: PrimaryMap<VarId, Var>,
    /// Types of SSA values.
    pub values: PrimaryMap<kernel::ValueId, Type>,
    /// Statements so far.
    pub body: Vec<Stmt>,
    /// What is computed already.
    pub memo: HashMap<(ValueId, Vec<AffineExpr>), kernel::ValueId>,
    /// Parameters of loaded values.
    pub loads: HashMap<ValueId, ParamId>,
}

impl Eval<'_> {
    /// Appends an instruction.
    pub fn inst(&mut self, ty: Type, inst: Inst) -> kernel::ValueId {
        let value = self.values.push(ty);
        self.body.push(Stmt::Let { value, inst });
        value
    }

    /// Adds a parameter for `value`.
    pub fn param(&mut self, value: ValueId, access: Access) -> Result<ParamId, Refusal> {
        let meta = &self.graph.values[value];
        let dtype = meta.dtype().ok_or(Refusal::Dtype(meta.scalar_type))?;
        self.tensors.push(value);
        Ok(self.params.push(Param { dtype, access }))
    }

    /// The place of element `idx` of a materialised value.
    pub fn address(&self, value: ValueId, idx: &[AffineExpr]) -> Index {
        let strides = &self.graph.values[value].strides;
        let flat = idx
            .iter()
            .zip(strides)
            .fold(AffineExpr::default(), |sum, (e, &s)| sum.add_scaled(e, s));
        Index {
            vars: flat.terms,
            values: Vec::new(),
            offset: flat.offset,
        }
    }

    /// The element `idx` of `value`.
    pub fn eval(&mut self, value: ValueId, idx: &[AffineExpr]) -> Result<kernel::ValueId, Refusal> {
        let key = (value, idx.to_vec());
        if let Some(&v) = self.memo.get(&key) {
            return Ok(v);
        }
        let graph = self.graph;
        let meta = &graph.values[value];
        let ty = meta.ty().ok_or(Refusal::Dtype(meta.scalar_type))?;
        let id = graph.producers[value];
        let result = if self.group.contains(id) {
            self.eval_node(value, id, ty, idx)?
        } else {
            let param = match self.loads.get(&value) {
                Some(&p) => p,
                None => {
                    let p = self.param(value, Access::In)?;
                    self.loads.insert(value, p);
                    p
                }
            };
            let index = self.address(value, idx);
            let mem = Mem::Param(param);
            self.inst(ty, Inst::Load { mem, index })
        };
        self.memo.insert(key, result);
        Ok(result)
    }

    fn eval_node(
        &mut self,
        value: ValueId,
        id: NodeId,
        ty: Type,
        idx: &[AffineExpr],
    ) -> Result<kernel::ValueId, Refusal> {
        let graph = self.graph;
        let node = &graph.nodes[id];
        let meta = &graph.values[value];
        if let Op::View(view) = &node.op {
            let from = node.operands[0];
            let in_sizes = &graph.values[from].sizes;
            let inner = view_index(view, idx, &meta.sizes, in_sizes, &self.vars)?;
            return self.eval(from, &inner);
        }
        if !matches!(
            node.op,
            Op::Full(_)
                | Op::Iota { .. }
                | Op::Unary(_)
                | Op::Binary(_)
                | Op::Fma
                | Op::Compare(_)
                | Op::Select
                | Op::Convert { .. }
        ) {
            return Err(Refusal::Op(format!("{:?}", node.op)));
        }
        let mut a = Vec::with_capacity(node.operands.len());
        for &operand in &node.operands {
            a.push(self.eval(operand, idx)?);
        }
        let inst = match node.op {
            Op::Full(c) => Inst::Const(c),
            Op::Iota { dim, start, step } => {
                let e = AffineExpr::constant(start).add_scaled(&idx[dim], step);
                return Ok(self.affine(&e));
            }
            Op::Unary(op) => Inst::Unary { op, arg: a[0] },
            Op::Binary(op) => Inst::Binary {
                op,
                args: [a[0], a[1]],
            },
            Op::Fma => Inst::Fma {
                args: [a[0], a[1], a[2]],
            },
            Op::Compare(op) => Inst::Compare {
                op,
                args: [a[0], a[1]],
            },
            Op::Select => Inst::Select {
                cond: a[0],
                on_true: a[1],
                on_false: a[2],
            },
            Op::Convert { narrow } => {
                let mut v = a[0];
                if self.values[v] != ty {
                    v = self.inst(ty, Inst::Convert { to: ty, arg: v });
                }
                let to = meta.dtype().ok_or(Refusal::Dtype(meta.scalar_type))?;
                let is_narrow = matches!(
                    to,
                    DType::F16 | DType::BF16 | DType::I8 | DType::U8 | DType::I16
                );
                if narrow && is_narrow {
                    v = self.inst(ty, Inst::Narrow { to, arg: v });
                }
                return Ok(v);
            }
            _ => unreachable!("refused above"),
        };
        Ok(self.inst(ty, inst))
    }

    /// An affine expression as an I64 value.
    fn affine(&mut self, e: &AffineExpr) -> kernel::ValueId {
        let mut sum = self.inst(Type::I64, Inst::Const(Const::I64(e.offset)));
        for &(var, c) in &e.terms {
            let v = self.inst(Type::I64, Inst::Var(var));
            let c = self.inst(Type::I64, Inst::Const(Const::I64(c)));
            let mut bin = |op, args| self.inst(Type::I64, Inst::Binary { op, args });
            let product = bin(BinaryOp::Mul, [v, c]);
            sum = bin(BinaryOp::Add, [sum, product]);
        }
        sum
    }
}
