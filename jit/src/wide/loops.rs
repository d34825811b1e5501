//! Loops: one instruction stream for full vectors, one for the last lanes under a mask.

use super::encode::Cond;
use super::lanes::stride;
use super::lir::{Bound, Lir, Mask, Reg, Src};
use super::lower::{Lanes, Lower, Part, Stream, UNIFORM};
use super::{Refused, functions, opcode};
use crate::kernel::{
    BinaryOp, Carry, CmpOp, Index, Inst, Loop, Mem, ReduceOp, Stmt, Type, ValueId, VarId,
};
use std::collections::HashSet;

/// Mask registers that copies share.
const MASKS: usize = 4;
/// Vectors in flight, of a loop over columns and of other loops.
const MOST: [usize; 2] = [16, 4];

impl Lower<'_> {
    /// The outermost loop, over a range that is known at run time.
    pub fn root(&mut self, l: &Loop, begin: Reg, end: Reg) -> Result<(), Refused> {
        self.loop_over(l, Some(begin), Bound::Reg(end))
    }

    /// A loop over all of its variable's range.
    pub fn inner(&mut self, l: &Loop) -> Result<(), Refused> {
        if let Some(turn) = self.turn(l) {
            return self.turned(&turn);
        }
        let extent = i32::try_from(self.kernel.vars[l.var].extent).map_err(|_| Refused::Extent)?;
        self.loop_over(l, None, Bound::Imm(extent))
    }

    fn loop_over(&mut self, l: &Loop, begin: Option<Reg>, end: Bound) -> Result<(), Refused> {
        if l.carries
            .iter()
            .any(|c| c.arg.is_some() || self.kernel.values[c.result] == Type::Bool)
        {
            return Err(Refused::Reduction);
        }
        self.hoist(l)?;
        let outer_streams = std::mem::take(&mut self.streams);
        let at = self.general();
        self.emit(match begin {
            Some(b) => Lir::Move { d: at, a: b },
            None => Lir::Set { d: at, value: 0 },
        });
        self.prepare_streams(l)?;
        self.vars[l.var] = Some(at);
        self.ends[l.var] = Some(end);
        let outer = self.current.replace(l.var);
        if l.vector && self.lanes.var.is_none() {
            self.in_lanes(l, at, end)?;
        } else {
            let acc = self.accumulators(l, self.lanes.copies);
            self.repeat(l, at, end, 1, &acc)?;
            for (carry, regs) in l.carries.iter().zip(acc) {
                self.defs[carry.result] = regs;
            }
        }
        self.vars[l.var] = None;
        self.current = outer;
        self.streams = outer_streams;
        Ok(())
    }

    fn in_lanes(&mut self, l: &Loop, at: Reg, end: Bound) -> Result<(), Refused> {
        let copies = self.copies(l, end);
        let step = self.count * copies as i64;
        let mut acc = self.accumulators(l, copies);
        let mut left = match end {
            Bound::Imm(n) => Some(i64::from(n)),
            Bound::Reg(_) => None,
        };
        if left.is_none_or(|n| n >= step) {
            self.enter(l, copies, Part::Full);
            self.past_caches(l, at, end, step as i32, &acc)?;
            self.repeat(l, at, end, step as i32, &acc)?;
            left = left.map(|n| n % step);
        }
        self.lanes = UNIFORM;
        for (carry, regs) in l.carries.iter().zip(&mut acc) {
            let ty = self.kernel.values[carry.result];
            while regs.len() > 1 {
                let (b, a) = (regs.remove(1), regs[0]);
                regs[0] = self.combine(carry.op, ty, a, b)?;
            }
        }
        if copies > MOST[1] && left.is_none_or(|n| n >= self.count * MOST[1] as i64) {
            self.enter(l, MOST[1], Part::Full);
            let step = self.count * MOST[1] as i64;
            self.repeat(l, at, end, step as i32, &acc)?;
            left = left.map(|n| n % step);
        }
        let part = self.last_part(l);
        // Whole vectors that are fewer than the copies: masks that are vectors cost, and the tail by itself more.
        if !self.target.has_masks() && copies > 1 && left.is_none_or(|n| n >= self.count) {
            self.enter(l, 1, Part::Full);
            self.repeat(l, at, end, self.count as i32, &acc)?;
            left = left.map(|n| n % self.count);
        }
        if left != Some(0) {
            self.enter(l, 1, part);
            let step = if part == Part::One { 1 } else { self.count };
            self.repeat(l, at, end, step as i32, &acc)?;
        }
        self.lanes = UNIFORM;
        self.tail = None;
        for (carry, regs) in l.carries.iter().zip(acc) {
            let ty = self.kernel.values[carry.result];
            let whole = self.across_lanes(carry.op, ty, regs[0])?;
            self.defs[carry.result] = vec![whole];
        }
        Ok(())
    }

    /// The same loop with stores that go past the caches, if it has any and they are aligned. What it leaves is done after it.
    fn past_caches(
        &mut self,
        l: &Loop,
        at: Reg,
        end: Bound,
        step: i32,
        acc: &[Vec<Reg>],
    ) -> Result<(), Refused> {
        if l.body.iter().any(|s| matches!(s, Stmt::Loop(_))) {
            return Ok(());
        }
        let first = self.streams_of(l)?;
        if first.is_empty() {
            return Ok(());
        }
        let over = self.f.label();
        for (m, to) in first {
            self.emit(Lir::JumpIfUnaligned { m, to, over });
        }
        self.streaming = true;
        let done = self.repeat(l, at, end, step, acc);
        self.streaming = false;
        self.emit(Lir::Bind(over));
        done
    }

    fn enter(&mut self, l: &Loop, copies: usize, part: Part) {
        let var = Some(l.var);
        self.lanes = Lanes { var, copies, part };
    }

    /// How the last lanes of a loop run: all at once, or one by one if there is no instruction for those of a vector.
    fn last_part(&self, l: &Loop) -> Part {
        let alone = !self.target.has_masks() && self.goes_by_elements(&l.body, l.var);
        if alone { Part::One } else { Part::Tail }
    }

    /// Whether there are narrow elements, or some that are stored apart.
    fn goes_by_elements(&self, body: &[Stmt], lanes: VarId) -> bool {
        body.iter().any(|stmt| match stmt {
            Stmt::Let {
                inst: Inst::Load { mem, index },
                ..
            } => self.element_size(*mem) < 4 && stride(index, Some(lanes)) != 0,
            Stmt::Let { .. } => false,
            Stmt::Store { mem, index, .. } => {
                self.element_size(*mem) < 4 || stride(index, Some(lanes)) != 1
            }
            Stmt::Loop(inner) => self.goes_by_elements(&inner.body, lanes),
        })
    }

    /// The lanes of the last iterations, or the first alone, as a vector.
    fn tail_lanes(&mut self, at: Reg, end: Bound) -> Reg {
        let ty = if self.halves() { Type::I64 } else { Type::I32 };
        if self.lanes.part == Part::One {
            let mut first = [0; 64];
            first[..32 / self.count as usize].fill(0xFF);
            return self.pooled(first);
        }
        let d = self.general();
        self.emit(Lir::Left { d, at, end });
        let (left, lanes) = (self.splat(ty, d), self.iota(ty, 1, 0));
        self.compare(CmpOp::Gt, ty, left, lanes)
    }

    /// How many vectors to have in flight: as many as registers allow, up to 4, or 16 of loops over columns, which read
    /// further along a row the more there are.
    fn copies(&self, l: &Loop, end: Bound) -> usize {
        let mut values = l.carries.len();
        let has_loops = l.body.iter().any(|s| matches!(s, Stmt::Loop(_)));
        let mut live = 0usize;
        for stmt in &l.body {
            match stmt {
                Stmt::Let {
                    inst: Inst::Const(_),
                    ..
                } => {}
                Stmt::Let { inst, .. } if functions::is_own(inst) => live += functions::VALUES,
                Stmt::Let { .. } => live += 1,
                Stmt::Loop(inner) => values += inner.carries.len() + self.within(inner),
                Stmt::Store { .. } => {}
            }
        }
        // Long straight-line bodies hold about a sixth of their values at a time.
        values += if has_loops {
            live
        } else {
            live.div_ceil(6) + 2
        };
        let most = MOST[usize::from(!has_loops || !l.carries.is_empty())];
        let mut copies = (self.target.for_copies() / values.max(1)).clamp(1, most);
        let (registers, live) = match self.target.has_masks() {
            true => (MASKS, most_live(l, |v| self.kernel.values[v] == Type::Bool)),
            false => {
                let live = most_live(l, |v| self.varying.contains(v));
                (self.target.vectors() as usize, live + l.carries.len())
            }
        };
        copies = copies.min(registers.checked_div(live).map_or(most, |n| n.max(1)));
        if let Bound::Imm(n) = end {
            copies = copies.min((i64::from(n) / self.count).max(1) as usize);
        }
        1 << copies.ilog2()
    }

    /// Registers that a copy of an inner loop wants at a time, besides those of its sums: none for what is loaded and added.
    fn within(&self, inner: &Loop) -> usize {
        let folded = |v: ValueId| {
            let load =
                |s: &Stmt| matches!(s, Stmt::Let { value, inst: Inst::Load { .. } } if *value == v);
            let added = |c: &Carry| c.op == ReduceOp::Sum && c.value == v;
            inner.carries.iter().any(added) && inner.body.iter().any(load)
        };
        let deeper = inner.body.iter().any(|s| matches!(s, Stmt::Loop(_)));
        match deeper {
            true => inner.carries.len().max(1),
            false => most_live(inner, |v| self.varying.contains(v) && !folded(v)),
        }
    }

    /// `while at + step <= end`, or under the tail mask `while at < end`.
    fn repeat(
        &mut self,
        l: &Loop,
        at: Reg,
        end: Bound,
        step: i32,
        acc: &[Vec<Reg>],
    ) -> Result<(), Refused> {
        let last = self.lanes.var == Some(l.var) && self.lanes.part != Part::Full;
        let masked = last && self.lanes.part == Part::Tail;
        let (top, exit) = (self.f.label(), self.f.label());
        let (limit, stop, again) = if masked {
            (end, Cond::GreaterEqual, Cond::Less)
        } else {
            let limit = match end {
                Bound::Imm(n) => Bound::Imm(n - step),
                Bound::Reg(a) => {
                    let d = self.general();
                    self.emit(Lir::Limit { d, a, by: step });
                    Bound::Reg(d)
                }
            };
            (limit, Cond::Greater, Cond::LessEqual)
        };
        self.emit(Lir::JumpIf {
            cond: stop,
            a: at,
            b: limit,
            to: exit,
        });
        let first = self.f.code.len();
        self.emit(Lir::Bind(top));
        if last {
            match self.target.has_masks() {
                true => self.emit(Lir::TailMask { at, end }),
                false => self.tail = Some(self.tail_lanes(at, end)),
            }
        }
        self.statements(&l.body)?;
        for (carry, regs) in l.carries.iter().zip(acc) {
            for (copy, &r) in regs.iter().enumerate() {
                if let Some(factors) = self.factors(carry.value) {
                    self.accumulate_product(carry, r, factors, copy, last);
                    continue;
                }
                let v = self.get(carry.value, copy);
                self.accumulate(carry, r, v, last)?;
            }
        }
        self.emit(Lir::Advance { d: at, by: step });
        self.emit(Lir::JumpIf {
            cond: again,
            a: at,
            b: limit,
            to: top,
        });
        let last = self.f.code.len() - 1;
        self.f.loops.push((first, last));
        self.emit(Lir::Bind(exit));
        Ok(())
    }

    fn accumulators(&mut self, l: &Loop, copies: usize) -> Vec<Vec<Reg>> {
        let one = |s: &mut Self, c: &Carry| {
            let ty = s.kernel.values[c.result];
            let identity = s.constant(crate::kernel::identity(c.op, ty));
            let d = s.reg(ty);
            let len = s.target.full();
            s.emit(copy_of(d, identity, Mask::All, len, false));
            d
        };
        l.carries
            .iter()
            .map(|c| (0..copies).map(|_| one(self, c)).collect())
            .collect()
    }

    fn accumulate(&mut self, carry: &Carry, acc: Reg, v: Reg, last: bool) -> Result<(), Refused> {
        let ty = self.kernel.values[carry.result];
        let sum = self.combine(carry.op, ty, acc, v)?;
        if let (Some(k), true) = (self.tail, last) {
            self.merge(acc, sum, k, ty);
            return Ok(());
        }
        let mask = match last {
            true => Mask::TailMerge,
            false => Mask::All,
        };
        let len = self.len(ty);
        // An addition can write where it reads; other combinations end in a copy.
        if let Some(Lir::Vector { d, mask: m, .. }) = self.f.code.last_mut()
            && *d == sum
            && *m == Mask::All
        {
            *d = acc;
            *m = mask;
        } else {
            self.emit(copy_of(acc, sum, mask, len, opcode::is_wide(ty)));
        }
        Ok(())
    }

    fn combine(&mut self, op: ReduceOp, ty: Type, a: Reg, b: Reg) -> Result<Reg, Refused> {
        let op = match op {
            ReduceOp::Sum => BinaryOp::Add,
            ReduceOp::Prod => BinaryOp::Mul,
            ReduceOp::Min => BinaryOp::Min,
            ReduceOp::Max => BinaryOp::Max,
            ReduceOp::Any | ReduceOp::All => return Err(Refused::Reduction),
        };
        self.binary(op, ty, a, b)
    }

    /// Combines all lanes; the result is in all of them.
    fn across_lanes(&mut self, op: ReduceOp, ty: Type, v: Reg) -> Result<Reg, Refused> {
        let len = self.len(ty);
        let wide = opcode::is_wide(ty);
        let halves = match self.target.has_masks() {
            true => opcode::of3a(ty, opcode::QUARTERS),
            false => opcode::PERMUTE_HALVES,
        };
        let within = match wide {
            true => opcode::of3a(ty, opcode::SHUFFLE_64),
            false => opcode::of3a(ty, opcode::SHUFFLE_32),
        };
        let mut steps = Vec::new();
        match len {
            2 => steps.extend([(halves, 0x4E), (halves, 0xB1)]),
            1 => steps.push((halves, 0x01)),
            _ => {}
        }
        if wide {
            steps.push((within, 0x55));
        } else {
            steps.push((within, 0x4E));
            steps.push((within, 0xB1));
        }
        let mut v = v;
        for (shuffle, imm) in steps {
            let a = (shuffle == halves).then_some(v);
            let other = self.vector_op(shuffle, len, ty, a, v, Some(imm));
            v = self.combine(op, ty, v, other)?;
        }
        Ok(v)
    }

    /// Computes in front of a loop the base addresses of the accesses in its body.
    pub fn prepare_streams(&mut self, l: &Loop) -> Result<(), Refused> {
        let inside: HashSet<ValueId> = (l.body.iter())
            .flat_map(|s| match s {
                Stmt::Let { value, .. } if self.hoisted.contains(*value) => Vec::new(),
                Stmt::Let { value, .. } => vec![*value],
                Stmt::Loop(inner) => (inner.carries.iter())
                    .flat_map(|c| [Some(c.result), c.arg])
                    .flatten()
                    .collect(),
                Stmt::Store { .. } => Vec::new(),
            })
            .collect();
        for stmt in &l.body {
            let (mem, index) = match stmt {
                Stmt::Let {
                    value,
                    inst: Inst::Load { mem, index },
                } if !self.hoisted.contains(*value) => (mem, index),
                Stmt::Store { mem, index, .. } => (mem, index),
                _ => continue,
            };
            let mut stream = stream_of(*mem, index, l);
            // Others are added where they are used.
            (stream.values).retain(|(v, _)| !self.varying.contains(*v) && !inside.contains(v));
            if !self.streams.contains_key(&stream) {
                let base = self.stream_base(&stream)?;
                self.streams.insert(stream, base);
            }
        }
        Ok(())
    }

    /// The address of a stream's first element.
    pub fn stream_base(&mut self, stream: &Stream) -> Result<Reg, Refused> {
        let mut base = self.pointers[&stream.mem];
        for &(var, stride) in &stream.vars {
            let index = self.vars[var].ok_or(Refused::Extent)?;
            base = self.further(stream.mem, base, index, stride)?;
        }
        for &(value, stride) in &stream.values {
            let index = self.general();
            let a = self.get(value, 0);
            self.emit(Lir::FirstLane { d: index, a });
            base = self.further(stream.mem, base, index, stride)?;
        }
        Ok(base)
    }

    /// The address `stride` times an index of elements behind another one.
    pub fn further(
        &mut self,
        mem: Mem,
        base: Reg,
        index: Reg,
        stride: i64,
    ) -> Result<Reg, Refused> {
        let by = stride * self.element_size(mem);
        let by = i32::try_from(by).map_err(|_| Refused::Extent)?;
        let d = self.general();
        self.emit(Lir::AddScaled { d, base, index, by });
        Ok(d)
    }
}

/// Values of a loop's own body, of those that count, that are wanted at the same time.
fn most_live(l: &Loop, counts: impl Fn(ValueId) -> bool) -> usize {
    let carried = l.carries.iter().map(|c| c.value);
    let mut live: HashSet<ValueId> = carried.filter(|v| counts(*v)).collect();
    let mut most = 0;
    for stmt in l.body.iter().rev() {
        match stmt {
            Stmt::Let { value, inst } => {
                live.remove(value);
                live.extend(inst.operands().into_iter().filter(|v| counts(*v)));
            }
            Stmt::Store { value, .. } => live.extend(Some(*value).filter(|v| counts(*v))),
            Stmt::Loop(_) => {}
        }
        let within = match stmt {
            Stmt::Let { value, inst } if functions::is_own(inst) && counts(*value) => {
                functions::LIVE
            }
            _ => 0,
        };
        most = most.max(live.len() + within);
    }
    most
}

/// The stream of an access in the body of a loop.
pub fn stream_of(mem: Mem, index: &Index, l: &Loop) -> Stream {
    let others = index.vars.iter().filter(|(v, _)| *v != l.var);
    debug_assert!(stride(index, None) == 0);
    Stream {
        mem,
        vars: others.copied().collect(),
        values: index.values.clone(),
    }
}

/// `d = a` in some lanes.
pub fn copy_of(d: Reg, a: Reg, mask: Mask, len: u8, wide: bool) -> Lir {
    let ty = if wide { Type::F64 } else { Type::F32 };
    Lir::Vector {
        op: opcode::float(ty, opcode::MOVE),
        len,
        d,
        a: None,
        b: Src::Reg(a),
        imm: None,
        mask,
        store: false,
    }
}
