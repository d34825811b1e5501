//! Lazy evaluation of graph values at affine indices into kernel IR.

use super::body::{Body, Place};
use super::index::{AffineExpr, view_index};
use super::rounding;
use crate::fusion::refusal::Refusal;
use crate::graph::strided::strided;
use crate::graph::{Graph, Narrow, NodeId, Op, ValueId, index_place};
use cranelift_entity::EntitySet;
use ipex_jit::kernel::{self, BinaryOp, Carry, Const, Inst, Mem, ReduceOp, Type};
use ipex_runtime::DType;
use std::collections::HashMap;

/// State of one lowering.
pub struct Eval<'a> {
    /// The graph.
    pub graph: &'a Graph,
    /// Nodes computed here. Views and constants are computed wherever they are used; every other
    /// value is loaded.
    pub group: &'a EntitySet<NodeId>,
    /// The kernel so far.
    pub body: Body<'a>,
    /// Values that this kernel stores, or that have memory in other ways.
    stored: EntitySet<ValueId>,
    memo: HashMap<(ValueId, Vec<AffineExpr>), kernel::ValueId>,
    levels: HashMap<ValueId, usize>,
}

/// Operations that cost too much to be repeated.
pub fn is_expensive(op: &Op) -> bool {
    use ipex_jit::kernel::UnaryOp as U;
    match op {
        Op::Unary(op) => !matches!(
            op,
            U::Neg
                | U::Abs
                | U::Not
                | U::Floor
                | U::Ceil
                | U::Trunc
                | U::Round
                | U::IsNan
                | U::Bitcast
        ),
        Op::Binary(op) => matches!(
            op,
            BinaryOp::Div
                | BinaryOp::FloorDiv
                | BinaryOp::Rem
                | BinaryOp::Fmod
                | BinaryOp::Pow
                | BinaryOp::Atan2
                | BinaryOp::Hypot
        ),
        Op::Scan { .. } => true,
        _ => false,
    }
}

impl<'a> Eval<'a> {
    /// An empty kernel over the body's space, which is to store `roots`.
    pub fn new(
        graph: &'a Graph,
        group: &'a EntitySet<NodeId>,
        body: Body<'a>,
        roots: impl Iterator<Item = ValueId>,
    ) -> Self {
        Eval {
            graph,
            group,
            body,
            stored: rounding::stored(graph, roots),
            memo: HashMap::new(),
            levels: HashMap::new(),
        }
    }

    fn is_inline(&self, id: NodeId) -> bool {
        self.group.contains(id) || self.graph.is_free(id)
    }

    /// How many levels of this kernel's reductions `value` depends on.
    pub fn level(&mut self, value: ValueId) -> usize {
        if let Some(&level) = self.levels.get(&value) {
            return level;
        }
        let graph = self.graph;
        let id = graph.producers[value];
        let node = &graph.nodes[id];
        let mut level = 0;
        if self.is_inline(id) {
            level = node
                .operands
                .iter()
                .map(|&v| self.level(v))
                .max()
                .unwrap_or(0);
            level += usize::from(matches!(node.op, Op::Reduce { .. } | Op::ArgReduce { .. }));
        }
        self.levels.insert(value, level);
        level
    }

    /// The element `idx` of `value`.
    pub fn eval(&mut self, value: ValueId, idx: &[AffineExpr]) -> Result<kernel::ValueId, Refusal> {
        let graph = self.graph;
        let id = graph.producers[value];
        let zero = vec![AffineExpr::default(); idx.len()];
        // The same everywhere, so computed in the outermost place.
        let idx = if matches!(graph.nodes[id].op, Op::Full(_)) {
            &zero
        } else {
            idx
        };
        let key = (value, idx.to_vec());
        if let Some(&v) = self.memo.get(&key) {
            return Ok(v);
        }
        let result = if !self.is_inline(id) {
            let mem = Mem::Param(self.body.input(graph, value)?);
            let index = self.body.address(&graph.values[value].strides, idx);
            let place = self.body.place(idx, 0);
            let ty = self.ty(value)?;
            self.body.inst(place, ty, Inst::Load { mem, index })
        } else if let Some(v) = self.kept_by_earlier_pass(value, id, idx)? {
            v
        } else {
            self.eval_node(value, id, idx)?
        };
        self.memo.insert(key, result);
        Ok(result)
    }

    fn ty(&self, value: ValueId) -> Result<Type, Refusal> {
        let meta = &self.graph.values[value];
        meta.ty().ok_or(Refusal::Dtype(meta.scalar_type))
    }

    /// An expensive value that an earlier pass over the row could compute goes through scratch.
    fn kept_by_earlier_pass(
        &mut self,
        value: ValueId,
        id: NodeId,
        idx: &[AffineExpr],
    ) -> Result<Option<kernel::ValueId>, Refusal> {
        let level = self.level(value);
        let Place::Pass(pass) = self.body.place(idx, level) else {
            return Ok(None);
        };
        if level >= pass || !is_expensive(&self.graph.nodes[id].op) {
            return Ok(None);
        }
        let ty = self.ty(value)?;
        let earlier = self.body.in_pass(idx, pass, level);
        let slot = match self.body.scratch_of(value, &earlier) {
            Some(slot) => slot,
            None => {
                let Some(slot) = self.body.new_scratch(value, &earlier, ty) else {
                    return Ok(None);
                };
                let v = self.eval(value, &earlier)?;
                let at = self.body.flat(level);
                self.body
                    .store(Place::Pass(level), Mem::Scratch(slot), at, v);
                slot
            }
        };
        let (mem, index) = (Mem::Scratch(slot), self.body.flat(pass));
        Ok(Some(self.body.inst(
            Place::Pass(pass),
            ty,
            Inst::Load { mem, index },
        )))
    }

    fn eval_node(
        &mut self,
        value: ValueId,
        id: NodeId,
        idx: &[AffineExpr],
    ) -> Result<kernel::ValueId, Refusal> {
        let graph = self.graph;
        let node = &graph.nodes[id];
        let meta = &graph.values[value];
        match &node.op {
            Op::View(view) => {
                let from = node.operands[0];
                let in_sizes = &graph.values[from].sizes;
                let inner = view_index(view, idx, &meta.sizes, in_sizes, &self.body.vars);
                match inner.map_err(|r| self.body.only_loops(r, in_sizes, &meta.sizes)) {
                    Ok(inner) => self.eval(from, &inner),
                    Err(refusal) => self.stored(value, idx)?.ok_or(refusal),
                }
            }
            Op::Assign => self.eval(node.operands[0], idx),
            Op::Reduce { op, dims } => self.reduce(value, *op, dims, node.operands[0], idx, false),
            Op::ArgReduce { op, dims } => {
                self.reduce(value, *op, dims, node.operands[0], idx, true)
            }
            Op::Scan { op, dim } => self.scan(value, *op, *dim, node.operands[0], idx),
            Op::IndexSelect { dims, .. } => {
                let (source, indices) = (node.operands[0], &node.operands[1..]);
                let (first, rank) = (index_place(dims), graph.values[indices[0]].sizes.len());
                let (at, mut inner) = (&idx[first..first + rank], idx.to_vec());
                inner.drain(first..first + rank);
                for (&dim, &index) in dims.iter().zip(indices) {
                    let v = self.eval(index, at)?;
                    let place = self.body.place(at, self.levels[&index]);
                    let n = graph.values[source].sizes[dim];
                    inner.insert(dim, self.body.gathered(v, n, place));
                }
                self.eval(source, &inner)
            }
            Op::Gather { dim, .. } => {
                let (source, index) = (node.operands[0], node.operands[1]);
                let at = self.eval(index, idx)?;
                let place = self.body.place(idx, self.levels[&index]);
                let n = graph.values[source].sizes[*dim];
                let mut inner = idx.to_vec();
                inner[*dim] = self.body.gathered(at, n, place);
                self.eval(source, &inner)
            }
            _ => self.elementwise(value, id, idx),
        }
    }

    /// The element `idx` of a view in memory that strides express, though its index is not affine in the operand's
    /// dims: loops run across them, or end in the middle of one that a reshape has joined.
    fn stored(
        &mut self,
        value: ValueId,
        idx: &[AffineExpr],
    ) -> Result<Option<kernel::ValueId>, Refusal> {
        let graph = self.graph;
        let in_memory = |v: ValueId| !self.is_inline(graph.producers[v]);
        let Some(at) = strided(graph, value, &in_memory) else {
            return Ok(None);
        };
        let mem = Mem::Param(self.body.input(graph, at.base)?);
        let mut index = self.body.address(&at.strides, idx);
        index.offset += at.offset;
        let (place, ty) = (self.body.place(idx, 0), self.ty(value)?);
        Ok(Some(self.body.inst(place, ty, Inst::Load { mem, index })))
    }

    fn reduce(
        &mut self,
        value: ValueId,
        op: ReduceOp,
        dims: &[usize],
        operand: ValueId,
        idx: &[AffineExpr],
        position: bool,
    ) -> Result<kernel::ValueId, Refusal> {
        let level = self.level(operand);
        if matches!(self.body.place(idx, 0), Place::Pass(_)) {
            return Err(Refusal::ReductionInColumns);
        }
        let cols = self.body.pass(level).index.clone();
        let sizes = &self.graph.values[operand].sizes;
        let inner = self.body.space.join(idx, &cols, sizes, dims)?;
        let v = match position {
            true => self.rounded(operand, &inner)?,
            false => self.eval(operand, &inner)?,
        };
        let place = Place::Pass(level);
        let operand_ty = self.body.values[v];
        let ty = if position {
            operand_ty
        } else {
            self.ty(value)?
        };
        let v = if operand_ty == ty {
            v
        } else {
            self.body.inst(place, ty, Inst::Convert { to: ty, arg: v })
        };
        // A value that does not depend on the columns is defined outside the loop, but a carry
        // wants one of the loop's own.
        let v = self.body.own(level, v);
        let result = self.body.values.push(ty);
        let arg = position.then(|| self.body.values.push(Type::I64));
        if position && self.body.pass(level).vars.len() != 1 {
            return Err(Refusal::Op("argmax over several loops".into()));
        }
        self.body.pass(level).carries.push(Carry {
            op,
            value: v,
            result,
            arg,
        });
        Ok(arg.unwrap_or(result))
    }

    /// An element of a scan, in a pass over exactly its dim, whose loop carries it.
    fn scan(
        &mut self,
        value: ValueId,
        op: ReduceOp,
        dim: usize,
        operand: ValueId,
        idx: &[AffineExpr],
    ) -> Result<kernel::ValueId, Refusal> {
        let sizes = &self.graph.values[operand].sizes;
        let level = self.level(operand);
        let place = self.body.place(idx, level);
        let in_order = Refusal::ScanOrder { dim };
        let Place::Pass(pass) = place else {
            return Err(in_order);
        };
        let own = self.body.pass(pass);
        if pass < level || own.vars.len() != 1 || own.index[0] != idx[dim] {
            return Err(in_order);
        }
        let (column, rows) = (own.vars[0], [&idx[..dim], &idx[dim + 1..]].concat());
        let crosses = |e: &AffineExpr| e.terms.iter().any(|t| t.0 == column);
        if self.body.space.dims != [dim]
            || self.body.space.cols != [sizes[dim]]
            || rows.iter().any(crosses)
        {
            return Err(in_order);
        }
        let times = self.body.repetitions(place, idx);
        if times > 1 {
            let op = format!("scan {op}");
            return Err(Refusal::Recompute { op, times });
        }
        let arg = self.eval(operand, idx)?;
        let ty = self.ty(value)?;
        Ok(self.body.inst(place, ty, Inst::Scan { op, arg }))
    }

    fn elementwise(
        &mut self,
        value: ValueId,
        id: NodeId,
        idx: &[AffineExpr],
    ) -> Result<kernel::ValueId, Refusal> {
        let graph = self.graph;
        let node = &graph.nodes[id];
        let ty = self.ty(value)?;
        let level = self.level(value);
        let place = self.body.place(idx, level);
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
        let times = self.body.repetitions(place, idx);
        if times > 1 && is_expensive(&node.op) {
            return Err(Refusal::Recompute {
                op: format!("{:?}", node.op),
                times,
            });
        }
        let mut a = Vec::with_capacity(node.operands.len());
        for &operand in &node.operands {
            a.push(match rounding::decides(graph, &node.op, value) {
                true => self.rounded(operand, idx)?,
                false => self.eval(operand, idx)?,
            });
        }
        let inst = match node.op {
            Op::Full(c) => Inst::Const(c),
            Op::Iota { dim, start, step } => {
                let e = AffineExpr::constant(start).add_scaled(&idx[dim], step);
                return Ok(self.affine(place, &e));
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
            Op::Convert {
                narrow: Narrow::Result,
            } if self.stays_wide(value, node.operands[0]) => {
                return Ok(a[0]);
            }
            Op::Convert { narrow } => {
                let to = graph.values[value]
                    .dtype()
                    .ok_or(Refusal::Op("convert".into()))?;
                return Ok(self.convert(place, ty, a[0], (narrow != Narrow::No).then_some(to)));
            }
            _ => unreachable!("refused above"),
        };
        Ok(self.body.inst(place, ty, inst))
    }

    /// Whether this conversion is an operator's rounding of a result that stays in the kernel.
    fn stays_wide(&self, value: ValueId, operand: ValueId) -> bool {
        let of = |v: ValueId| self.graph.values[v].dtype();
        rounding::is_narrow_float(of(value))
            && of(value) == of(operand)
            && !self.graph.rounds_each
            && !self.stored.contains(value)
    }

    /// The element `idx` of `value` as memory would hold it.
    fn rounded(&mut self, value: ValueId, idx: &[AffineExpr]) -> Result<kernel::ValueId, Refusal> {
        let v = self.eval(value, idx)?;
        let graph = self.graph;
        let id = graph.producers[value];
        let dtype = graph.values[value].dtype();
        let known = !self.is_inline(id) || matches!(graph.nodes[id].op, Op::Full(_));
        let (Some(to), true) = (dtype, rounding::is_narrow_float(dtype)) else {
            return Ok(v);
        };
        if known || graph.rounds_each {
            return Ok(v);
        }
        let level = self.level(value);
        let (place, ty) = (self.body.place(idx, level), self.body.values[v]);
        Ok(self.body.inst(place, ty, Inst::Narrow { to, arg: v }))
    }

    fn convert(
        &mut self,
        place: Place,
        ty: Type,
        arg: kernel::ValueId,
        narrow: Option<DType>,
    ) -> kernel::ValueId {
        let mut v = arg;
        if self.body.values[v] != ty {
            v = self.body.inst(place, ty, Inst::Convert { to: ty, arg: v });
        }
        use DType::{BF16, F16, I8, I16, U8};
        match narrow {
            Some(to) if matches!(to, F16 | BF16 | I8 | U8 | I16) => {
                self.body.inst(place, ty, Inst::Narrow { to, arg: v })
            }
            _ => v,
        }
    }

    /// An affine expression as an I64 value.
    fn affine(&mut self, place: Place, e: &AffineExpr) -> kernel::ValueId {
        let body = &mut self.body;
        let position = |body: &mut Body, var| match body.gathers.get(&var) {
            Some(&(v, _)) => v,
            None => body.inst(place, Type::I64, Inst::Var(var)),
        };
        if let (0, &[(var, 1)]) = (e.offset, e.terms.as_slice()) {
            return position(body, var);
        }
        let mut sum = body.inst(place, Type::I64, Inst::Const(Const::I64(e.offset)));
        for &(var, c) in &e.terms {
            let v = position(body, var);
            let c = body.inst(place, Type::I64, Inst::Const(Const::I64(c)));
            let mut bin = |op, args| body.inst(place, Type::I64, Inst::Binary { op, args });
            let product = bin(BinaryOp::Mul, [v, c]);
            sum = bin(BinaryOp::Add, [sum, product]);
        }
        sum
    }
}
