//! Loops: scalar, in lanes, and the reductions they carry.

use super::CompileError;
use super::function::{Def, Gen, Lanes, SCALAR};
use crate::kernel::{
    self, Access, BinaryOp, Carry, CmpOp, Const, Inst, Loop, Mem, ReduceOp, Stmt, Type, UnaryOp,
};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Value, types};

/// Bodies with more statements than this are not unrolled.
const UNROLL_LIMIT: usize = 40;

impl Gen<'_, '_> {
    /// A loop from `begin` to `end` (`extent` iterations if they are known).
    pub fn loop_over(
        &mut self,
        l: &Loop,
        begin: Value,
        end: Value,
        extent: Option<i64>,
    ) -> Result<(), CompileError> {
        if extent != Some(0) {
            self.hoist(l)?;
        }
        let lanes = if l.vector && self.lanes == SCALAR {
            self.lanes_of(l)
        } else {
            None
        };
        let Some(count) = lanes else {
            let init = l
                .carries
                .iter()
                .map(|c| vec![self.start(c); self.lanes.copies]);
            let accumulators = init.collect();
            let (_, result) = self.steps(l, begin, end, 1, accumulators, self.lanes)?;
            return self.finish(l, result);
        };
        let has_loops = l.body.iter().any(|s| matches!(s, Stmt::Loop(_)));
        let small = l.body.len() <= UNROLL_LIMIT;
        let copies = if small || has_loops { 4 } else { 1 };
        let mut at = begin;
        let mut total: Option<Vec<Vec<Value>>> = None; // scalar accumulators so far
        let mut left = extent;
        for copies in if copies > 1 { vec![copies, 1] } else { vec![1] } {
            let step = i64::from(count) * copies as i64;
            if left.is_some_and(|n| n < step) {
                continue;
            }
            let lanes = Lanes {
                count,
                copies,
                var: Some(l.var),
            };
            self.lanes = lanes;
            let init: Vec<Vec<Value>> = l
                .carries
                .iter()
                .map(|c| vec![self.start(c); copies])
                .collect();
            let (next, accumulators) = self.steps(l, at, end, step, init, lanes)?;
            at = next;
            let sums = self.across_lanes(l, accumulators)?;
            total = Some(self.join(l, total, sums)?);
            left = left.map(|n| n % step);
        }
        self.lanes = SCALAR;
        if left != Some(0) {
            let init = l.carries.iter().map(|c| vec![self.start(c)]).collect();
            let (_, rest) = self.steps(l, at, end, 1, init, SCALAR)?;
            total = Some(self.join(l, total, rest)?);
        }
        self.finish(l, total.unwrap_or_default())
    }

    /// Loads in front of the loop what is the same in all of its iterations. Parameters that are
    /// only read never alias those that are written, which Cranelift cannot know.
    fn hoist(&mut self, l: &Loop) -> Result<(), CompileError> {
        for stmt in &l.body {
            if let Stmt::Let {
                value,
                inst:
                    inst @ Inst::Load {
                        mem: Mem::Param(p),
                        index,
                    },
            } = stmt
                && self.kernel.params[*p].access == Access::In
                && index.values.is_empty()
                && index.vars.iter().all(|(v, _)| *v != l.var)
            {
                self.define(*value, inst)?;
                self.hoisted.insert(*value);
            }
        }
        Ok(())
    }

    /// Binds the results of a loop.
    fn finish(&mut self, l: &Loop, accumulators: Vec<Vec<Value>>) -> Result<(), CompileError> {
        let vector = self.lanes.count > 1;
        let mut values = accumulators.into_iter();
        for carry in &l.carries {
            let Some(result) = values.next() else { break };
            self.defs[carry.result] = Def {
                values: result,
                vector,
            };
        }
        for (carry, positions) in l.carries.iter().filter(|c| c.arg.is_some()).zip(values) {
            if let Some(arg) = carry.arg {
                self.defs[arg] = Def {
                    values: positions,
                    vector,
                };
            }
        }
        Ok(())
    }

    /// `while at + step <= end`; returns where it stopped, and the accumulators. Positions of
    /// extrema follow the accumulators, and what scans have combined follows those.
    #[expect(
        clippy::needless_range_loop,
        reason = "two rows of accumulators change together"
    )]
    fn steps(
        &mut self,
        l: &Loop,
        begin: Value,
        end: Value,
        step: i64,
        mut init: Vec<Vec<Value>>,
        lanes: Lanes,
    ) -> Result<(Value, Vec<Vec<Value>>), CompileError> {
        let args = l.carries.iter().filter(|c| c.arg.is_some()).count();
        for _ in 0..args {
            let zero = self.constant(Const::I64(0));
            init.push(vec![zero; lanes.copies]);
        }
        for (value, op, _) in l.scans() {
            let identity = self.identity(op, self.kernel.values[value]);
            init.push(vec![identity; lanes.copies]);
        }
        let (body, exit) = (self.b.create_block(), self.b.create_block());
        let flat: Vec<Value> = init.iter().flatten().copied().collect();
        let mut incoming = vec![begin];
        incoming.extend(&flat);
        for block in [body, exit] {
            for &v in &incoming {
                let ty = self.b.func.dfg.value_type(v);
                self.b.append_block_param(block, ty);
            }
        }
        self.branch_while(incoming, end, step, body, exit);
        self.b.switch_to_block(body);
        let params = self.b.block_params(body).to_vec();
        let saved = std::mem::replace(&mut self.lanes, lanes);
        self.vars[l.var] = Some(params[0]);
        let mut accumulators: Vec<Vec<Value>> = params[1..]
            .chunks(lanes.copies)
            .map(<[Value]>::to_vec)
            .collect();
        let running = accumulators.split_off(l.carries.len() + args);
        for ((value, ..), before) in l.scans().zip(running) {
            self.running[value] = before;
        }
        self.statements(&l.body)?;
        let mut position = l.carries.len();
        for (k, carry) in l.carries.iter().enumerate() {
            for copy in 0..lanes.copies {
                let (acc, v) = (accumulators[k][copy], self.get(carry.value, copy));
                if carry.arg.is_some() {
                    let better = self.is_better(carry, acc, v);
                    let old = accumulators[position][copy];
                    accumulators[position][copy] = self.b.ins().select(better, params[0], old);
                    accumulators[k][copy] = self.b.ins().select(better, v, acc);
                } else {
                    accumulators[k][copy] = self.add_to(carry, acc, v)?;
                }
            }
            position += usize::from(carry.arg.is_some());
        }
        let next = self.b.ins().iadd_imm_s(params[0], step);
        let mut outgoing = vec![next];
        outgoing.extend(accumulators.iter().flatten());
        for (value, ..) in l.scans() {
            outgoing.extend((0..lanes.copies).map(|copy| self.get(value, copy)));
        }
        self.branch_while(outgoing, end, step, body, exit);
        self.b.switch_to_block(exit);
        self.lanes = saved;
        let params = self.b.block_params(exit).to_vec();
        let results = params[1..]
            .chunks(lanes.copies)
            .map(<[Value]>::to_vec)
            .collect();
        self.lanes = lanes;
        Ok((params[0], results))
    }

    fn branch_while(
        &mut self,
        values: Vec<Value>,
        end: Value,
        step: i64,
        body: cranelift_codegen::ir::Block,
        exit: cranelift_codegen::ir::Block,
    ) {
        let last = self.b.ins().iadd_imm_s(values[0], step);
        let more = self.b.ins().icmp(IntCC::SignedLessThanOrEqual, last, end);
        let args: Vec<_> = values.into_iter().map(Into::into).collect();
        self.b.ins().brif(more, body, &args, exit, &args);
    }

    fn identity(&mut self, op: ReduceOp, ty: Type) -> Value {
        self.constant(kernel::identity(op, ty))
    }

    fn start(&mut self, carry: &Carry) -> Value {
        self.identity(carry.op, self.kernel.values[carry.result])
    }

    fn add_to(&mut self, carry: &Carry, a: Value, b: Value) -> Result<Value, CompileError> {
        self.combine(carry.op, self.kernel.values[carry.result], a, b)
    }

    /// One step of a reduction.
    pub fn combine(
        &mut self,
        op: ReduceOp,
        ty: Type,
        a: Value,
        b: Value,
    ) -> Result<Value, CompileError> {
        self.binary(op.step(), ty, a, b)
    }

    /// Whether `v` replaces `acc` as the first extremum. The first element always does: it is
    /// compared with an identity that only equals it, so `or equal` decides at position 0.
    fn is_better(&mut self, carry: &Carry, acc: Value, v: Value) -> Value {
        let ty = self.kernel.values[carry.result];
        if ty.is_float() {
            let cc = if carry.op == ReduceOp::Max {
                FloatCC::GreaterThan
            } else {
                FloatCC::LessThan
            };
            let better = self.b.ins().fcmp(cc, v, acc);
            let (v_nan, acc_ok) = (
                self.b.ins().fcmp(FloatCC::Unordered, v, v),
                self.b.ins().fcmp(FloatCC::Ordered, acc, acc),
            );
            let first_nan = self.b.ins().band(v_nan, acc_ok);
            self.b.ins().bor(better, first_nan)
        } else {
            let cc = match (carry.op, ty) {
                (ReduceOp::Max, Type::Bool) => IntCC::UnsignedGreaterThan,
                (ReduceOp::Max, _) => IntCC::SignedGreaterThan,
                (_, Type::Bool) => IntCC::UnsignedLessThan,
                _ => IntCC::SignedLessThan,
            };
            self.b.ins().icmp(cc, v, acc)
        }
    }

    /// Combines copies and lanes into one scalar for each carry.
    fn across_lanes(
        &mut self,
        l: &Loop,
        accumulators: Vec<Vec<Value>>,
    ) -> Result<Vec<Vec<Value>>, CompileError> {
        let count = self.lanes.count;
        let mut sums = Vec::with_capacity(accumulators.len());
        for (carry, copies) in l.carries.iter().zip(accumulators) {
            let mut copies = copies.into_iter();
            let Some(mut vector) = copies.next() else {
                continue;
            };
            for copy in copies {
                vector = self.add_to(carry, vector, copy)?;
            }
            let lanes = std::mem::replace(&mut self.lanes, SCALAR);
            let ty = self.kernel.values[carry.result];
            let mut sum: Option<Value> = None;
            for lane in 0..count {
                let mut v = self.b.ins().extractlane(vector, lane as u8);
                if ty == Type::Bool {
                    v = self.b.ins().ireduce(types::I8, v);
                    v = self.b.ins().band_imm_s(v, 1);
                }
                sum = Some(match sum {
                    Some(s) => self.add_to(carry, s, v)?,
                    None => v,
                });
            }
            self.lanes = lanes;
            sums.push(sum.into_iter().collect());
        }
        Ok(sums)
    }

    fn join(
        &mut self,
        l: &Loop,
        total: Option<Vec<Vec<Value>>>,
        more: Vec<Vec<Value>>,
    ) -> Result<Vec<Vec<Value>>, CompileError> {
        let Some(total) = total else { return Ok(more) };
        let lanes = std::mem::replace(&mut self.lanes, SCALAR);
        let mut joined = Vec::with_capacity(more.len());
        for ((carry, a), b) in l.carries.iter().zip(total).zip(more) {
            joined.push(vec![self.add_to(carry, a[0], b[0])?]);
        }
        self.lanes = lanes;
        Ok(joined)
    }

    /// Lanes of a vector loop: 4 of 32 bits or 2 of 64; none if its values mix widths or need
    /// what vectors lack.
    fn lanes_of(&self, l: &Loop) -> Option<u32> {
        let mut widths = (false, false);
        if l.carries.iter().any(|c| c.arg.is_some()) || !self.fits(&l.body, &mut widths) {
            return None;
        }
        match widths {
            (true, true) => None,
            (false, true) => Some(2),
            _ => Some(4),
        }
    }

    fn fits(&self, body: &[Stmt], widths: &mut (bool, bool)) -> bool {
        body.iter().all(|stmt| match stmt {
            Stmt::Let { value, inst } => {
                let mut note = |ty| note_width(ty, widths);
                note(self.kernel.values[*value]);
                match inst {
                    Inst::Load { mem, index } => {
                        // Truth values and bytes in 64-bit lanes would need more conversions.
                        widths.0 |= self.kernel.dtype(*mem).size() < 4;
                        index.values.is_empty()
                    }
                    Inst::Convert { arg, .. } | Inst::Compare { args: [arg, _], .. } => {
                        note(self.kernel.values[*arg]);
                        true
                    }
                    Inst::Var(_) => false,
                    Inst::Unary { op, arg } => {
                        note(self.kernel.values[*arg]);
                        vector_unary(*op, self.kernel.values[*value])
                    }
                    Inst::Binary {
                        op: BinaryOp::Shl | BinaryOp::Shr,
                        args: [_, n],
                    } => self.shift_count(*n).is_some(),
                    Inst::Binary { op, .. } => vector_binary(*op, self.kernel.values[*value]),
                    Inst::Scan { op, .. } => vector_binary(op.step(), self.kernel.values[*value]),
                    _ => true,
                }
            }
            Stmt::Store { mem, index, value } => {
                // The value may come from outside of the loop.
                note_width(self.kernel.values[*value], widths);
                widths.0 |= self.kernel.dtype(*mem).size() < 4;
                index.values.is_empty()
            }
            Stmt::Loop(inner) => {
                inner.carries.iter().all(|c| c.arg.is_none()) && self.fits(&inner.body, widths)
            }
        })
    }
}

/// Notes whether elements of 32 and of 64 bits occur.
fn note_width(ty: Type, widths: &mut (bool, bool)) {
    match ty {
        Type::F32 | Type::I32 => widths.0 = true,
        Type::F64 | Type::I64 => widths.1 = true,
        Type::Bool => {}
    }
}

fn vector_unary(op: UnaryOp, ty: Type) -> bool {
    use UnaryOp as U;
    match op {
        U::Neg | U::Not | U::Bitcast | U::IsNan => true,
        U::Abs => ty.is_float() || ty == Type::I32,
        U::Sqrt | U::Floor | U::Ceil | U::Trunc | U::Round => true,
        _ => false,
    }
}

fn vector_binary(op: BinaryOp, ty: Type) -> bool {
    use BinaryOp as B;
    match op {
        B::Add | B::Sub | B::And | B::Or | B::Xor | B::Copysign => true,
        B::Mul | B::Min | B::Max => ty.is_float() || ty == Type::I32,
        B::Div => ty.is_float(),
        _ => false,
    }
}

/// Condition codes of a comparison.
pub fn condition(op: CmpOp) -> (FloatCC, IntCC) {
    match op {
        CmpOp::Eq => (FloatCC::Equal, IntCC::Equal),
        CmpOp::Ne => (FloatCC::NotEqual, IntCC::NotEqual),
        CmpOp::Lt => (FloatCC::LessThan, IntCC::SignedLessThan),
        CmpOp::Le => (FloatCC::LessThanOrEqual, IntCC::SignedLessThanOrEqual),
        CmpOp::Gt => (FloatCC::GreaterThan, IntCC::SignedGreaterThan),
        CmpOp::Ge => (FloatCC::GreaterThanOrEqual, IntCC::SignedGreaterThanOrEqual),
    }
}
