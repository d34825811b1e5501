//! Elements of 8 and 16 bits, which are computed with as 32: widened by loads, packed by stores.

use super::Refused;
use super::lir::{Lir, Mask, Mem as Operand, Reg, Src};
use super::lower::{Lower, Part};
use super::opcode as o;
use crate::kernel::{Const, Type};
use ipex_runtime::DType;

impl Lower<'_> {
    /// Elements of memory, or packed ones of a register, in their compute type.
    pub fn widened(&mut self, dtype: DType, packed: Src) -> Reg {
        let len = self.len(Type::of(dtype));
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
            Src::Mem(m) => self.load_lanes(widen, Type::of(dtype), m),
            Src::Reg(r) => self.vector_op(widen, len, Type::I32, None, r, None),
        };
        match dtype {
            DType::BF16 => self.shift(o::shift(true, Type::I32), Type::I32, wide, 16),
            DType::Bool => self.is_positive(wide),
            _ => wide,
        }
    }

    /// Writes the first lane alone.
    pub fn store_first(&mut self, dtype: DType, m: Operand, v: Reg, exact: bool) {
        let (op, imm, v) = match dtype {
            DType::F64 | DType::I64 => (o::STORE_64, None, v),
            DType::F32 | DType::I32 => (o::STORE_32, None, v),
            DType::BF16 if exact => (o::STORE_16, Some(1), v),
            DType::BF16 => (o::STORE_16, Some(1), self.rounded_bf16(v)),
            DType::F16 => (o::STORE_16, Some(0), self.packed_f16(v)),
            DType::I16 => (o::STORE_16, Some(0), v),
            DType::I8 | DType::U8 => (o::STORE_8, Some(0), v),
            DType::Bool => (o::STORE_8, Some(0), self.as_bytes(v)),
        };
        self.store_op(op, 0, v, m, imm, Mask::All);
    }

    /// Writes neighbouring elements; those of an `exact` value are numbers of the type already.
    pub fn store_vector(&mut self, dtype: DType, m: Operand, v: Reg, exact: bool) {
        let tail = self.lanes.part == Part::Tail;
        if self.target.has_masks() {
            let mask = if tail { Mask::Tail } else { Mask::All };
            return self.store_masked(dtype, m, v, exact, mask);
        }
        if tail {
            return self.store_words(Type::of(dtype), m, v);
        }
        let v = self.packed(dtype, v, exact);
        let (op, len) = match self.count as usize * dtype.size() {
            32 => (o::STORE, 1),
            16 => (o::STORE, 0),
            8 => (o::STORE_64, 0),
            _ => (o::STORE_32, 0),
        };
        self.store_op(op, len, v, m, None, Mask::All);
    }

    /// Instructions that pack and store at once, or store packed lanes, under a mask.
    fn store_masked(&mut self, dtype: DType, m: Operand, v: Reg, exact: bool, mask: Mask) {
        let len = self.len(Type::of(dtype));
        let (op, len, v, imm) = match dtype {
            DType::F32 | DType::I32 => (o::STORE, len, v, None),
            DType::F64 | DType::I64 => (o::float_store(Type::F64), len, v, None),
            DType::BF16 => (o::STORE_WORDS, len - 1, self.packed_bf16(v, exact), None),
            DType::F16 => (o::TO_F16, len, v, Some(0)),
            DType::I16 => (o::NARROW_16, len, v, None),
            DType::I8 | DType::U8 => (o::NARROW_8, len, v, None),
            DType::Bool => (o::NARROW_8, self.len(Type::I32), self.as_bytes(v), None),
        };
        self.store_op(op, len, v, m, imm, mask);
    }

    /// Writes a full vector past the caches.
    pub fn stream_vector(&mut self, dtype: DType, m: Operand, v: Reg, exact: bool) {
        let v = self.packed(dtype, v, exact);
        let bytes = self.count as usize * dtype.size();
        let len = (bytes / 16).trailing_zeros() as u8;
        self.store_op(o::STREAM, len, v, m, None, Mask::All);
        self.f.streams = true;
    }

    /// Elements as memory has them, in the low part of a register.
    fn packed(&mut self, dtype: DType, v: Reg, exact: bool) -> Reg {
        match dtype {
            DType::BF16 => self.packed_bf16(v, exact),
            DType::F16 => self.packed_f16(v),
            DType::I16 => self.low_halves(v),
            DType::I8 | DType::U8 => self.low_bytes(v),
            DType::Bool => {
                let bytes = self.as_bytes(v);
                self.low_bytes(bytes)
            }
            _ => v,
        }
    }

    /// Truth values as 0 and 1.
    fn as_bytes(&mut self, k: Reg) -> Reg {
        let one = self.constant(Const::I32(1));
        self.only(k, one, Type::I32)
    }

    /// f32 lanes as f16, packed.
    pub fn packed_f16(&mut self, s: Reg) -> Reg {
        let len = self.len(Type::F32);
        self.down(o::TO_F16, len, s, Some(0))
    }

    /// The low 16 bits of 32-bit lanes, packed.
    pub fn low_halves(&mut self, s: Reg) -> Reg {
        if self.target.has_masks() {
            let len = self.len(Type::I32);
            return self.down(o::NARROW_16, len, s, None);
        }
        self.gather_bytes(s, [0, 1, 4, 5, 8, 9, 12, 13])
    }

    /// The high 16 bits of 32-bit lanes, packed.
    pub fn high_halves(&mut self, x: Reg) -> Reg {
        if self.target.has_masks() {
            let bits = self.shift(o::SHIFT_RIGHT, Type::I32, x, 16);
            return self.low_halves(bits);
        }
        self.gather_bytes(x, [2, 3, 6, 7, 10, 11, 14, 15])
    }

    fn low_bytes(&mut self, s: Reg) -> Reg {
        if self.target.has_masks() {
            let len = self.len(Type::I32);
            return self.down(o::NARROW_8, len, s, None);
        }
        self.gather_bytes(s, [0, 4, 8, 12])
    }

    /// These bytes of each 128 bits, packed.
    fn gather_bytes<const N: usize>(&mut self, s: Reg, which: [u8; N]) -> Reg {
        let mut order = [0x80; 64];
        for quarter in order.chunks_exact_mut(16) {
            quarter[..N].copy_from_slice(&which);
        }
        let (order, len) = (self.pooled(order), self.len(Type::I32));
        let low = self.vector_op(o::BYTES, len, Type::I32, Some(s), order, None);
        if len == 0 {
            return low;
        }
        match N {
            // Of four quarters of 64 bits, the first and the third.
            8 => self.vector_op(o::PERMUTE_64, 1, Type::I32, None, low, Some(0x08)),
            _ => {
                let high = self.down(o::HIGH_HALF, 1, low, Some(1));
                let pair = o::float(Type::F32, o::UNPACK);
                self.vector_op(pair, 0, Type::I32, Some(low), high, None)
            }
        }
    }

    /// The low 32 bits of 64-bit lanes, in half a register.
    pub fn low_words(&mut self, x: Reg) -> Reg {
        if self.target.has_masks() {
            return self.down(o::NARROW_64, self.target.full(), x, None);
        }
        let high = self.down(o::HIGH_HALF, 1, x, Some(1));
        let op = o::float(Type::F32, o::SHUFFLE);
        self.vector_op(op, 0, Type::I32, Some(x), high, Some(0x88))
    }

    /// `op(s, imm)` whose result is shorter than its operand.
    fn down(&mut self, op: super::encode::Opcode, len: u8, s: Reg, imm: Option<u8>) -> Reg {
        let d = self.reg(Type::I32);
        self.emit(Lir::Down { op, len, d, s, imm });
        d
    }

    /// Writes lanes, one by one, `step` bytes apart.
    pub fn scatter_words(
        &mut self,
        ty: Type,
        step: i64,
        m: Operand,
        v: Reg,
    ) -> Result<(), Refused> {
        let op = o::of3a(ty, o::EXTRACT);
        let in_half = if o::is_wide(ty) { 2 } else { 4 };
        let mut part = v;
        for lane in 0..self.count {
            if lane == in_half {
                part = self.down(o::HIGH_HALF, 1, v, Some(1));
            }
            let disp = i64::from(m.disp) + lane * step;
            let disp = i32::try_from(disp).map_err(|_| Refused::Extent)?;
            let (m, imm) = (Operand { disp, ..m }, (lane % in_half) as u8);
            self.store_op(op, 0, part, m, Some(imm), Mask::All);
        }
        Ok(())
    }
}
