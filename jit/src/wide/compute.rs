//! Arithmetic of one vector.

use super::lir::{Lir, Reg};
use super::lower::Lower;
use super::opcode::{self as o, Logic};
use super::{Refused, functions};
use crate::kernel::{self, BinaryOp, CmpOp, Const, Inst, Type, UnaryOp};
use ipex_runtime::DType;

impl Lower<'_> {
    /// The value of an instruction in a copy.
    pub fn compute(
        &mut self,
        value: kernel::ValueId,
        inst: &Inst,
        copy: usize,
    ) -> Result<Reg, Refused> {
        let ty = self.kernel.values[value];
        match inst {
            Inst::Const(c) => Ok(self.constant(*c)),
            Inst::Scan { .. } => Err(Refused::Inst(inst.to_string())),
            Inst::Var(v) => {
                let at = self.vars[*v].ok_or(Refused::Extent)?;
                let first = self.splat(ty, at);
                if self.lanes.var != Some(*v) {
                    return Ok(first);
                }
                let lanes = self.iota(Type::I64, 1, copy as i64 * self.count);
                self.binary(BinaryOp::Add, ty, first, lanes)
            }
            Inst::Load { mem, index } => self.load(*mem, index, copy),
            Inst::Unary { op, arg } => {
                let x = self.get(*arg, copy);
                self.unary(*op, self.kernel.values[*arg], x)
            }
            Inst::Binary {
                op: op @ (BinaryOp::Shl | BinaryOp::Shr),
                args: [a, n],
            } => {
                let a = self.get(*a, copy);
                let imm = match self.consts[*n] {
                    Some(Const::I32(n)) if (0..32).contains(&n) => n as u8,
                    Some(Const::I64(n)) if (0..64).contains(&n) && self.shifts_long(*op) => n as u8,
                    _ => return self.binary(*op, ty, a, self.get(*n, copy)),
                };
                Ok(self.shift(o::shift(*op == BinaryOp::Shl, ty), ty, a, imm))
            }
            Inst::Binary { op, args: [a, b] } => {
                let (a, b) = (self.get(*a, copy), self.get(*b, copy));
                self.binary(*op, ty, a, b)
            }
            Inst::Fma { args: [a, b, c] } => {
                let (a, b, c) = (self.get(*a, copy), self.get(*b, copy), self.get(*c, copy));
                let (d, len, w) = (self.reg(ty), self.len(ty), o::is_wide(ty));
                self.emit(Lir::Fma { w, len, d, a, b, c });
                Ok(d)
            }
            Inst::Compare { op, args: [a, b] } => {
                let of = self.kernel.values[*a];
                let (a, b) = (self.get(*a, copy), self.get(*b, copy));
                Ok(self.compare(*op, of, a, b))
            }
            Inst::Select {
                cond,
                on_true,
                on_false,
            } => {
                let k = self.get(*cond, copy);
                let (a, b) = (self.get(*on_true, copy), self.get(*on_false, copy));
                if ty == Type::Bool {
                    let a = self.masks(Logic::And, Some(k), a);
                    let b = self.masks(Logic::AndNot, Some(k), b);
                    return Ok(self.masks(Logic::Or, Some(a), b));
                }
                Ok(self.blend(ty, k, a, b))
            }
            Inst::Convert { arg, .. } if self.is_position(*arg) => self.position(copy),
            Inst::Convert { to, arg } => {
                let x = self.get(*arg, copy);
                let uniform = !self.varying.contains(value);
                self.convert(self.kernel.values[*arg], *to, x, uniform)
            }
            Inst::Narrow { to, arg } => {
                let x = self.get(*arg, copy);
                let len = self.len(ty);
                Ok(match to {
                    DType::F16 => {
                        let half = self.packed_f16(x);
                        self.vector_op(o::FROM_F16, len, ty, None, half, None)
                    }
                    DType::BF16 => self.rounded_bf16(x),
                    DType::U8 => {
                        let low = self.constant(Const::I32(0xff));
                        self.binary(BinaryOp::And, ty, x, low)?
                    }
                    DType::I8 | DType::I16 => {
                        let n = if *to == DType::I8 { 24 } else { 16 };
                        let high = self.shift(o::shift(true, ty), ty, x, n);
                        self.shift(o::shift(false, ty), ty, high, n)
                    }
                    _ => x,
                })
            }
        }
    }

    /// Whether a value is the lanes' variable in 32 bits.
    pub fn is_position(&self, value: kernel::ValueId) -> bool {
        self.lanes.var.is_some() && self.narrow.get(&value).copied() == self.lanes.var
    }

    /// The lanes' variable in 32 bits.
    fn position(&mut self, copy: usize) -> Result<Reg, Refused> {
        let var = self.lanes.var.ok_or(Refused::Extent)?;
        let at = self.vars[var].ok_or(Refused::Extent)?;
        let first = self.splat(Type::I32, at);
        let lanes = self.iota(Type::I32, 1, copy as i64 * self.count);
        self.binary(BinaryOp::Add, Type::I32, first, lanes)
    }

    /// `start + step * lane`
    pub fn iota(&mut self, ty: Type, step: i64, start: i64) -> Reg {
        let mut bytes = [0; 64];
        let size = if ty == Type::I64 { 8 } else { 4 };
        for (k, chunk) in bytes.chunks_exact_mut(size).enumerate() {
            let v = start + step * k as i64;
            chunk.copy_from_slice(&v.to_le_bytes()[..size]);
        }
        self.pooled(bytes)
    }

    /// A shift of every lane by a constant.
    pub fn shift(
        &mut self,
        (op, ext): (super::encode::Opcode, u8),
        ty: Type,
        a: Reg,
        imm: u8,
    ) -> Reg {
        let (d, len) = (self.reg(ty), self.len(ty));
        self.emit(Lir::Shift {
            op,
            ext,
            len,
            d,
            a,
            imm,
        });
        d
    }

    /// Whether 64-bit integers can be shifted that way.
    fn shifts_long(&self, op: BinaryOp) -> bool {
        op == BinaryOp::Shl || self.target.has_masks()
    }

    /// One operand.
    pub fn unary(&mut self, op: UnaryOp, ty: Type, x: Reg) -> Result<Reg, Refused> {
        use UnaryOp as U;
        let (len, float) = (self.len(ty), ty.is_float());
        let sign = |bits: u32, wide: u64| {
            if o::is_wide(ty) {
                Const::I64(wide as i64)
            } else {
                Const::I32(bits as i32)
            }
        };
        let round = |imm: u8| (o::of3a(ty, if o::is_wide(ty) { 9 } else { 8 }), imm);
        Ok(match op {
            U::Bitcast => x,
            U::Not if ty == Type::Bool => self.masks(Logic::Not, None, x),
            U::Not => {
                let ones = self.constant(sign(u32::MAX, u64::MAX));
                self.vector_op(o::XOR, len, ty, Some(x), ones, None)
            }
            U::Neg if float => {
                let s = self.constant(sign(1 << 31, 1 << 63));
                self.vector_op(o::XOR, len, ty, Some(x), s, None)
            }
            U::Neg => {
                let zero = self.constant(sign(0, 0));
                self.binary(BinaryOp::Sub, ty, zero, x)?
            }
            U::Abs if float => {
                let s = self.constant(sign(u32::MAX >> 1, u64::MAX >> 1));
                self.vector_op(o::AND, len, ty, Some(x), s, None)
            }
            U::Abs if ty == Type::I64 && !self.target.has_masks() => self.long_abs(x)?,
            U::Abs => {
                let op = o::of38(ty, if o::is_wide(ty) { 0x1F } else { 0x1E });
                self.vector_op(op, len, ty, None, x, None)
            }
            U::Sqrt => self.vector_op(o::float(ty, o::SQRT), len, ty, None, x, None),
            U::Round | U::Floor | U::Ceil | U::Trunc => {
                let imm = match op {
                    U::Round => 8,
                    U::Floor => 9,
                    U::Ceil => 10,
                    _ => 11,
                };
                let (op, imm) = round(imm);
                self.vector_op(op, len, ty, None, x, Some(imm))
            }
            U::IsNan => self.is_nan(ty, x),
            _ if ty == Type::F32 && functions::OWN.contains(&op) => functions::own(self, op, x)?,
            _ => return Err(Refused::Inst(format!("{op:?}"))),
        })
    }

    /// Whether a register holds a constant that is no NaN.
    fn is_number(&self, r: Reg, ty: Type) -> bool {
        self.f.regs[r].constant.is_some_and(|c| match ty {
            Type::F64 => {
                !f64::from_le_bytes([c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]]).is_nan()
            }
            _ => !f32::from_le_bytes([c[0], c[1], c[2], c[3]]).is_nan(),
        })
    }

    /// The bits of `a` where those of `c` are set, and of `b` elsewhere.
    fn choose_bits(&mut self, ty: Type, c: Reg, a: Reg, b: Reg) -> Reg {
        let len = self.len(ty);
        if self.target.has_masks() {
            let (d, a, b) = (self.reg(ty), b, a);
            self.emit(Lir::Choose { len, d, a, b, c });
            return d;
        }
        let set = self.vector_op(o::AND, len, ty, Some(c), a, None);
        let clear = self.vector_op(o::AND_NOT, len, ty, Some(c), b, None);
        self.vector_op(o::OR, len, ty, Some(set), clear, None)
    }

    /// Two operands of one type.
    pub fn binary(&mut self, op: BinaryOp, ty: Type, x: Reg, y: Reg) -> Result<Reg, Refused> {
        use BinaryOp as B;
        let len = self.len(ty);
        if ty == Type::Bool {
            let op = match op {
                B::And | B::Min | B::Mul => Logic::And,
                B::Or | B::Max | B::Add => Logic::Or,
                B::Xor => Logic::Xor,
                _ => return Err(Refused::Inst(format!("{op:?}"))),
            };
            return Ok(self.masks(op, Some(x), y));
        }
        if ty.is_float() && matches!(op, B::Min | B::Max) {
            let op = o::float(ty, if op == B::Max { o::MAX } else { o::MIN });
            // With a NaN the instruction gives its second operand.
            if self.is_number(x, ty) {
                return Ok(self.vector_op(op, len, ty, Some(x), y, None));
            }
            if self.is_number(y, ty) {
                return Ok(self.vector_op(op, len, ty, Some(y), x, None));
            }
            let d = self.vector_op(op, len, ty, Some(x), y, None);
            self.merge_where_nan(d, x, x, ty);
            return Ok(d);
        }
        if ty.is_float() && op == B::Copysign {
            let sign = match ty {
                Type::F64 => Const::F64(1 << 63),
                _ => Const::F32(1 << 31),
            };
            let c = self.constant(sign);
            return Ok(self.choose_bits(ty, c, y, x));
        }
        if ty == Type::F32 && op == B::Pow {
            return functions::pow(self, x, y);
        }
        let lacks = matches!(op, B::Mul | B::Min | B::Max | B::Shr) && !self.target.has_masks();
        if ty == Type::I64 && lacks {
            return self.long_binary(op, x, y);
        }
        let op = o::binary(op, ty).ok_or_else(|| Refused::Inst(format!("{op:?} of {ty}")))?;
        Ok(self.vector_op(op, len, ty, Some(x), y, None))
    }

    fn convert(&mut self, from: Type, to: Type, x: Reg, uniform: bool) -> Result<Reg, Refused> {
        use Type::{Bool, F32, F64, I32, I64};
        let op = match (from, to) {
            _ if from == to => return Ok(x),
            (Bool, _) => {
                let one = self.constant(match to {
                    F32 => Const::F32(1f32.to_bits()),
                    F64 => Const::F64(1f64.to_bits()),
                    I32 => Const::I32(1),
                    _ => Const::I64(1),
                });
                return Ok(self.only(x, one, to));
            }
            (_, Bool) => return Ok(self.is_set(from, x)),
            (F32, F64) => o::F32_TO_F64,
            (F64, F32) => o::F64_TO_F32,
            (I32, F32) => o::I32_TO_F32,
            (F32, I32) => return Ok(self.truncated(x)),
            (I64, F32 | F64) if !self.target.has_masks() => {
                return Err(Refused::Inst(format!("{from} to {to}")));
            }
            (I64, F32) => o::I64_TO_F32,
            (I32, F64) => o::I32_TO_F64,
            (I64, F64) => o::I64_TO_F64,
            (I32, I64) => o::WIDEN_I32,
            (I64, I32) => {
                let d = self.low_words(x);
                return Ok(self.spread(d, uniform));
            }
            _ => return Err(Refused::Inst(format!("{from} to {to}"))),
        };
        let len = if o::is_wide(from) || o::is_wide(to) {
            self.target.full()
        } else {
            self.len(to)
        };
        let d = self.vector_op(op, len, to, None, x, None);
        Ok(if to == F32 && o::is_wide(from) {
            self.spread(d, uniform)
        } else {
            d
        })
    }

    /// f32 as i32: without what comes after the point, of the nearest number that there is, and 0 of NaN. The instruction
    /// gives the least number for all that it has none for.
    fn truncated(&mut self, x: Reg) -> Reg {
        let len = self.len(Type::I32);
        let number = self.compare(CmpOp::Eq, Type::F32, x, x);
        let x = self.only(number, x, Type::F32);
        let d = self.vector_op(o::F32_TO_I32, len, Type::I32, None, x, None);
        let end = self.constant(Const::F32(2f32.powi(31).to_bits()));
        let above = self.compare(CmpOp::Ge, Type::F32, x, end);
        let most = self.constant(Const::I32(i32::MAX));
        self.merge(d, most, above, Type::I32);
        d
    }

    /// The first lane in all of them: a narrowing fills only half of the lanes.
    fn spread(&mut self, v: Reg, uniform: bool) -> Reg {
        if uniform && !self.halves() {
            self.vector_op(
                o::BROADCAST_32,
                self.target.full(),
                Type::F32,
                None,
                v,
                None,
            )
        } else {
            v
        }
    }
}
