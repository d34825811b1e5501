//! Loads and stores, with conversion between memory and compute types.

use super::Refused;
use super::encode::Opcode;
use super::lanes::stride;
use super::lir::{Lir, Mask, Mem as Operand, Reg, Src};
use super::lower::Lower;
use super::opcode as o;
use crate::kernel::{Access, BinaryOp, Const, Index, Loop, Mem, Stmt, Type, ValueId};
use ipex_runtime::DType;

impl Lower<'_> {
    /// The element type in memory.
    pub fn dtype(&self, mem: Mem) -> DType {
        match mem {
            Mem::Param(p) => self.kernel.params[p].dtype,
            Mem::Scratch(s) => match self.kernel.scratch[s].ty {
                Type::F32 => DType::F32,
                Type::F64 => DType::F64,
                Type::I32 => DType::I32,
                Type::I64 => DType::I64,
                Type::Bool => DType::Bool,
            },
        }
    }

    /// Bytes of an element.
    pub fn element_size(&self, mem: Mem) -> i64 {
        self.dtype(mem).size() as i64
    }

    /// The address of the first lane of a copy.
    fn operand(&mut self, mem: Mem, index: &Index, copy: usize) -> Result<Operand, Refused> {
        let size = self.element_size(mem);
        let current = self.current;
        let others: Vec<_> = index
            .vars
            .iter()
            .filter(|(v, _)| Some(*v) != current)
            .copied()
            .collect();
        let stream = (mem, others);
        let mut base = match self.streams.get(&stream) {
            Some(&base) => base,
            None => self.stream_base(&stream)?,
        };
        for &(value, step) in &index.values {
            if self.varying.contains(value) {
                continue;
            }
            let (d, lane) = (self.general(), self.general());
            let by = i32::try_from(step * size).map_err(|_| Refused::Extent)?;
            self.emit(Lir::FirstLane {
                d: lane,
                a: self.get(value, copy),
            });
            self.emit(Lir::AddScaled {
                d,
                base,
                index: lane,
                by,
            });
            base = d;
        }
        let scale = stride(index, current) * size;
        let at = current.and_then(|v| self.vars[v]).filter(|_| scale != 0);
        let along = copy as i64 * self.count * stride(index, self.lanes.var);
        let disp = i32::try_from((index.offset + along) * size).map_err(|_| Refused::Extent)?;
        let index = match at {
            Some(at) if matches!(scale, 1 | 2 | 4 | 8) => Some((at, scale as u8)),
            Some(index) => {
                let d = self.general();
                let by = i32::try_from(scale).map_err(|_| Refused::Extent)?;
                self.emit(Lir::AddScaled { d, base, index, by });
                base = d;
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

    fn masked(&mut self, op: Opcode, len: u8, m: Operand) -> Reg {
        let d = self.reg(Type::F32);
        let mask = if self.lanes.tail {
            Mask::Tail
        } else {
            Mask::All
        };
        self.emit(Lir::Vector {
            op,
            len,
            d,
            a: None,
            b: Src::Mem(m),
            imm: None,
            mask,
            store: false,
        });
        d
    }

    /// The elements of one copy.
    pub fn load(&mut self, mem: Mem, index: &Index, copy: usize) -> Result<Reg, Refused> {
        let (dtype, step) = (self.dtype(mem), stride(index, self.lanes.var));
        let ty = Type::of(dtype);
        let m = self.operand(mem, index, copy)?;
        if index.values.iter().any(|(v, _)| self.varying.contains(*v)) {
            return self.gather_at(dtype, index, copy, m);
        }
        if step != 0 && step != 1 {
            return self.gather(dtype, step, m, None);
        }
        if step == 1 {
            self.fetch_ahead(mem, index, copy, m)?;
            return Ok(self.load_vector(dtype, m));
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
                2 => (o::BROADCAST_16, len - 1),
                _ => (o::BROADCAST_8, 0),
            };
            self.vector_op(op, len, Type::I32, None, Src::Mem(m), None)
        };
        Ok(self.widened(dtype, len, Src::Reg(packed)))
    }

    /// Neighbouring elements, in their compute type.
    pub fn load_vector(&mut self, dtype: DType, m: Operand) -> Reg {
        self.widened(dtype, self.len(Type::of(dtype)), Src::Mem(m))
    }

    fn widened(&mut self, dtype: DType, len: u8, packed: Src) -> Reg {
        let widen = match dtype {
            DType::F32 | DType::I32 => o::float(Type::F32, o::LOAD),
            DType::F64 | DType::I64 => o::float(Type::F64, o::LOAD),
            DType::U8 | DType::Bool => o::WIDEN_U8,
            DType::I8 => o::WIDEN_I8,
            DType::BF16 => o::WIDEN_U16,
            DType::I16 => o::WIDEN_I16,
            DType::F16 => o::FROM_F16,
        };
        let wide = match packed {
            Src::Mem(m) => self.masked(widen, len, m),
            Src::Reg(r) => self.vector_op(widen, len, Type::I32, None, r, None),
        };
        match dtype {
            DType::BF16 => self.shift(o::shift(true, Type::I32), Type::I32, wide, 16),
            DType::Bool => self.any_bit(Type::I32, wide, wide),
            _ => wide,
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
        let (len, tail) = (self.len(ty), self.lanes.tail);
        self.emit(Lir::Gather {
            op,
            len,
            d,
            base,
            index,
            scale: size as u8,
            disp,
            tail,
            store,
        });
        Ok(d)
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
            if !self.varying.contains(v) {
                continue;
            }
            let step = self.constant(Const::I64(step));
            let scaled = self.binary(BinaryOp::Mul, Type::I64, self.get(v, copy), step)?;
            at = self.binary(BinaryOp::Add, Type::I64, at, scaled)?;
        }
        let (base, disp) = self.flat(m)?;
        let ty = Type::of(dtype);
        let (d, tail) = (self.reg(ty), self.lanes.tail);
        let (op, scale) = (o::of38(ty, 0x93), dtype.size() as u8);
        self.emit(Lir::Gather {
            op,
            len: self.target.full(),
            d,
            base,
            index: at,
            scale,
            disp,
            tail,
            store: false,
        });
        Ok(d)
    }

    /// Writes all copies.
    pub fn store(&mut self, mem: Mem, index: &Index, value: ValueId) -> Result<(), Refused> {
        let dtype = self.dtype(mem);
        let step = stride(index, self.lanes.var);
        if !index.values.is_empty() || (self.lanes.var.is_some() && step == 0) {
            return Err(Refused::Stride);
        }
        let streams = self.streaming && self.streams_to(mem);
        let exact = self.rounded.get(&value) == Some(&dtype);
        for copy in 0..self.lanes.copies {
            let v = self.get(value, copy);
            let m = self.operand(mem, index, copy)?;
            if streams {
                self.stream_vector(dtype, m, v, exact);
            } else if step == 0 || step == 1 {
                self.store_vector(dtype, m, v, exact);
            } else {
                self.gather(dtype, step, m, Some(v))?;
            }
        }
        Ok(())
    }

    /// Writes neighbouring elements; those of an `exact` value are numbers of the type already.
    pub fn store_vector(&mut self, dtype: DType, m: Operand, v: Reg, exact: bool) {
        let mut len = self.len(Type::of(dtype));
        let (mut imm, mut v) = (None, v);
        let store = |ty: Type| Opcode {
            byte: o::LOAD + 1,
            ..o::float(ty, o::LOAD)
        };
        let op = match dtype {
            DType::F32 | DType::I32 => store(Type::F32),
            DType::F64 | DType::I64 => store(Type::F64),
            DType::BF16 => {
                v = self.packed_bf16(v, exact);
                len -= 1;
                Opcode {
                    byte: o::LOAD_16.byte + 0x10,
                    ..o::LOAD_16
                }
            }
            DType::F16 => {
                imm = Some(0);
                o::TO_F16
            }
            DType::I16 => o::NARROW_16,
            DType::I8 | DType::U8 => o::NARROW_8,
            DType::Bool => {
                let one = self.constant(Const::I32(1));
                len = self.len(Type::I32);
                v = self.only(v, one, Type::I32);
                o::NARROW_8
            }
        };
        let mask = match (self.lanes.var, self.lanes.tail) {
            (None, _) => Mask::First,
            (_, true) => Mask::Tail,
            _ => Mask::All,
        };
        self.emit(Lir::Vector {
            op,
            len,
            d: v,
            a: None,
            b: Src::Mem(m),
            imm,
            mask,
            store: true,
        });
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
            if stride(index, Some(l.var)) != 1 || !index.values.is_empty() || bytes < 32 {
                return Ok(Vec::new());
            }
            found.push((self.operand(*mem, index, 0)?, bytes as i32));
        }
        Ok(found)
    }

    /// Writes a full vector past the caches.
    fn stream_vector(&mut self, dtype: DType, m: Operand, v: Reg, exact: bool) {
        let len = self.len(Type::of(dtype));
        let (v, len) = match dtype {
            DType::BF16 => (self.packed_bf16(v, exact), len - 1),
            DType::I16 => (self.narrowed_16(v), len - 1),
            DType::F16 => {
                let (op, d, imm) = (o::TO_F16, self.reg(Type::I32), Some(0));
                self.emit(Lir::Down {
                    op,
                    len,
                    d,
                    s: v,
                    imm,
                });
                (d, len - 1)
            }
            _ => (v, len),
        };
        self.emit(Lir::Vector {
            op: o::STREAM,
            len,
            d: v,
            a: None,
            b: Src::Mem(m),
            imm: None,
            mask: Mask::All,
            store: true,
        });
        self.f.streams = true;
    }
}
