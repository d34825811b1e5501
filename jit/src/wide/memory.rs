//! Loads and stores, with conversion between memory and compute types.

use super::Refused;
use super::encode::Opcode;
use super::lanes::stride;
use super::lir::{Lir, Mask, Mem as Operand, Reg, Src};
use super::lower::{Lower, Part, Stream};
use super::opcode as o;
use crate::kernel::{Access, BinaryOp, Const, Index, Loop, Mem, Stmt, Type, ValueId};
use ipex_runtime::DType;

impl Lower<'_> {
    /// The element type in memory.
    pub fn dtype(&self, mem: Mem) -> DType {
        self.kernel.dtype(mem)
    }

    /// Bytes of an element.
    pub fn element_size(&self, mem: Mem) -> i64 {
        self.dtype(mem).size() as i64
    }

    /// The address of the first lane of a copy.
    fn operand(&mut self, mem: Mem, index: &Index, copy: usize) -> Result<Operand, Refused> {
        let size = self.element_size(mem);
        let current = self.current;
        let others = index.vars.iter().filter(|(v, _)| Some(*v) != current);
        let same = index.values.iter().filter(|(v, _)| !self.differs(*v));
        let mut stream = Stream {
            mem,
            vars: others.copied().collect(),
            values: same.copied().collect(),
        };
        let mut base = match self.streams.get(&stream) {
            Some(&base) => base,
            None => {
                let values = std::mem::take(&mut stream.values);
                let mut base = match self.streams.get(&stream) {
                    Some(&base) => base,
                    None => self.stream_base(&stream)?,
                };
                for (value, step) in values {
                    let lane = self.general();
                    let a = self.get(value, copy);
                    self.emit(Lir::FirstLane { d: lane, a });
                    base = self.further(mem, base, lane, step)?;
                }
                base
            }
        };
        let scale = stride(index, current) * size;
        let at = current.and_then(|v| self.vars[v]).filter(|_| scale != 0);
        let along = copy as i64 * self.count * stride(index, self.lanes.var);
        let disp = i32::try_from((index.offset + along) * size).map_err(|_| Refused::Extent)?;
        let index = match at {
            Some(at) if matches!(scale, 1 | 2 | 4 | 8) => Some((at, scale as u8)),
            Some(index) => {
                base = self.strided(base, index, scale, copy)?;
                None
            }
            None => None,
        };
        Ok(Operand {
            base: Some(base),
            index,
            disp,
        })
    }

    /// The address so many bytes for each iteration behind another one, which all copies of an access share.
    fn strided(&mut self, base: Reg, index: Reg, by: i64, copy: usize) -> Result<Reg, Refused> {
        let by = i32::try_from(by).map_err(|_| Refused::Extent)?;
        let wanted = (base, index, by);
        if let Some((_, d)) = self.strided.filter(|s| copy > 0 && s.0 == wanted) {
            return Ok(d);
        }
        let d = self.general();
        self.emit(Lir::AddScaled { d, base, index, by });
        self.strided = Some((wanted, d));
        Ok(d)
    }

    /// One address register for a gather or scatter, and a displacement.
    fn flat(&mut self, m: Operand) -> Result<(Reg, i32), Refused> {
        let base = m.base.ok_or(Refused::Extent)?;
        let Some((index, scale)) = m.index else {
            return Ok((base, m.disp));
        };
        let d = self.general();
        self.emit(Lir::AddScaled {
            d,
            base,
            index,
            by: i32::from(scale),
        });
        Ok((d, m.disp))
    }

    /// The lanes that run, in words or double words, by an instruction that loads all.
    pub fn load_lanes(&mut self, op: Opcode, ty: Type, m: Operand) -> Reg {
        let (d, len) = (self.reg(Type::F32), self.len(ty));
        let tail = self.lanes.part == Part::Tail;
        let (op, a, mask) = match self.tail {
            Some(k) if tail => (o::LOAD_LANES, Some(self.mask_for(k, ty)), Mask::All),
            _ if tail => (op, None, Mask::Tail),
            _ => (op, None, Mask::All),
        };
        self.emit(Lir::Vector {
            op,
            len,
            d,
            a,
            b: Src::Mem(m),
            imm: None,
            mask,
            store: false,
        });
        d
    }

    /// Writes the tail's words or double words, where masks are vectors.
    pub fn store_words(&mut self, ty: Type, m: Operand, v: Reg) {
        let k = self.tail.map(|k| self.mask_for(k, ty));
        self.emit(Lir::Vector {
            op: o::STORE_LANES,
            len: self.len(ty),
            d: v,
            a: k,
            b: Src::Mem(m),
            imm: None,
            mask: Mask::All,
            store: true,
        });
    }

    /// The elements of one copy.
    pub fn load(&mut self, mem: Mem, index: &Index, copy: usize) -> Result<Reg, Refused> {
        let (dtype, step) = (self.dtype(mem), self.step(index));
        let ty = Type::of(dtype);
        let m = self.operand(mem, index, copy)?;
        if index.values.iter().any(|(v, _)| self.differs(*v)) {
            return self.gather_at(dtype, index, copy, m);
        }
        if step != 0 && step != 1 {
            return self.gather(dtype, step, m, None);
        }
        if step == 1 {
            self.fetch_ahead(mem, index, copy, m)?;
            return Ok(self.widened(dtype, Src::Mem(m)));
        }
        let len = self.len(ty);
        let packed = {
            let (op, len) = match dtype.size() {
                8 => {
                    return Ok(self.vector_op(
                        o::BROADCAST_64,
                        self.target.full(),
                        ty,
                        None,
                        Src::Mem(m),
                        None,
                    ));
                }
                4 => return Ok(self.vector_op(o::BROADCAST_32, len, ty, None, Src::Mem(m), None)),
                2 => (o::BROADCAST_16, len.saturating_sub(1)),
                _ => (o::BROADCAST_8, 0),
            };
            self.vector_op(op, len, Type::I32, None, Src::Mem(m), None)
        };
        Ok(self.widened(dtype, Src::Reg(packed)))
    }

    /// Whether a value is not the same in all lanes that run.
    fn differs(&self, v: ValueId) -> bool {
        self.varying.contains(v) && self.lanes.part != Part::One
    }

    /// Elements between neighbouring lanes.
    fn step(&self, index: &Index) -> i64 {
        match self.lanes.part {
            Part::One => 0,
            _ => stride(index, self.lanes.var),
        }
    }

    /// Lanes `step` elements apart; `stored` are written instead.
    fn gather(
        &mut self,
        dtype: DType,
        step: i64,
        m: Operand,
        stored: Option<Reg>,
    ) -> Result<Reg, Refused> {
        let size = dtype.size();
        if size < 4 || step.abs() > 1 << 24 {
            return Err(Refused::Stride);
        }
        let (base, disp) = self.flat(m)?;
        let index = self.iota(Type::I32, step, 0);
        let ty = Type::of(dtype);
        let d = stored.unwrap_or_else(|| self.reg(ty));
        let store = stored.is_some();
        let op = o::of38(ty, if store { 0xA2 } else { 0x92 });
        let (len, scale) = (self.len(ty), size as u8);
        let (mask, tail) = self.gathered_lanes(ty);
        self.emit(Lir::Gather {
            op,
            len,
            d,
            base,
            index,
            scale,
            disp,
            mask,
            tail,
            store,
        });
        Ok(d)
    }

    /// The lanes that a gather takes: a mask where masks are vectors, else whether it is the tail's.
    fn gathered_lanes(&mut self, ty: Type) -> (Option<Reg>, bool) {
        let tail = self.lanes.part == Part::Tail;
        let mask = self.tail.filter(|_| tail);
        (mask.map(|k| self.mask_for(k, ty)), tail)
    }

    /// Lanes at indices that are values.
    fn gather_at(
        &mut self,
        dtype: DType,
        index: &Index,
        copy: usize,
        m: Operand,
    ) -> Result<Reg, Refused> {
        if dtype.size() < 4 || !self.halves() {
            return Err(Refused::Stride);
        }
        let mut at = self.iota(Type::I64, stride(index, self.lanes.var), 0);
        for &(v, step) in &index.values {
            if !self.differs(v) {
                continue;
            }
            let mut scaled = self.get(v, copy);
            if step != 1 {
                let step = self.constant(Const::I64(step));
                scaled = self.binary(BinaryOp::Mul, Type::I64, scaled, step)?;
            }
            at = self.binary(BinaryOp::Add, Type::I64, at, scaled)?;
        }
        let (base, disp) = self.flat(m)?;
        let ty = Type::of(dtype);
        let d = self.reg(ty);
        let (mask, tail) = self.gathered_lanes(ty);
        let (op, scale) = (o::of38(ty, 0x93), dtype.size() as u8);
        self.emit(Lir::Gather {
            op,
            len: self.target.full(),
            d,
            base,
            index: at,
            scale,
            disp,
            mask,
            tail,
            store: false,
        });
        Ok(d)
    }

    /// Writes all copies.
    pub fn store(&mut self, mem: Mem, index: &Index, value: ValueId) -> Result<(), Refused> {
        let dtype = self.dtype(mem);
        let step = self.step(index);
        let spread = self.lanes.var.is_some() && stride(index, self.lanes.var) == 0;
        if !index.values.is_empty() || spread {
            return Err(Refused::Stride);
        }
        let streams = self.streaming && self.streams_to(mem);
        let exact = self.rounded.get(&value) == Some(&dtype);
        for copy in 0..self.lanes.copies {
            let v = self.get(value, copy);
            let m = self.operand(mem, index, copy)?;
            match step {
                0 => self.store_first(dtype, m, v, exact),
                1 if streams => self.stream_vector(dtype, m, v, exact),
                1 => self.store_vector(dtype, m, v, exact),
                _ if self.target.has_masks() => _ = self.gather(dtype, step, m, Some(v))?,
                _ if dtype.size() < 4 => return Err(Refused::Stride),
                _ => {
                    let step = step * dtype.size() as i64;
                    self.scatter_words(Type::of(dtype), step, m, v)?;
                }
            }
        }
        Ok(())
    }

    /// Whether what is written there is not read again while it could lie in a cache.
    pub fn streams_to(&self, mem: Mem) -> bool {
        matches!(mem, Mem::Param(p) if self.kernel.params[p].access == Access::Stream)
    }

    /// The stores of a loop that can go past the caches: the places of their first vectors, and the multiple of bytes
    /// at which these must be.
    pub fn streams_of(&mut self, l: &Loop) -> Result<Vec<(Operand, i32)>, Refused> {
        let mut found = Vec::new();
        for stmt in &l.body {
            let Stmt::Store { mem, index, .. } = stmt else {
                continue;
            };
            if !self.streams_to(*mem) {
                continue;
            }
            let bytes = self.count * self.element_size(*mem);
            if stride(index, Some(l.var)) != 1
                || !index.values.is_empty()
                || bytes * 2 < self.target.bytes() as i64
            {
                return Ok(Vec::new());
            }
            found.push((self.operand(*mem, index, 0)?, bytes as i32));
        }
        Ok(found)
    }
}
