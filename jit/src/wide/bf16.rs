//! Rounding to bf16, to nearest even.

use super::lir::{Lir, Mask, Reg, Src};
use super::lower::Lower;
use super::opcode as o;
use crate::kernel::{Const, Type};

impl Lower<'_> {
    /// f32 lanes rounded to bf16, as f32.
    pub fn rounded_bf16(&mut self, x: Reg) -> Reg {
        if !self.target.rounds_to_bf16() {
            return self.rounded_by_addition(x);
        }
        let len = self.len(Type::F32);
        let packed = self.vector_op(o::TO_BF16, len, Type::F32, None, x, None);
        let bits = self.vector_op(o::WIDEN_U16, len, Type::I32, None, packed, None);
        let rounded = self.shift(o::shift(true, Type::I32), Type::I32, bits, 16);
        self.unless_normal(x, |s, denormal| {
            let exact = s.rounded_by_addition(x);
            s.merge(rounded, exact, denormal, Type::F32);
        });
        rounded
    }

    /// The same, packed into the low half of a register. Lanes of `exact` values are bf16 already.
    pub fn packed_bf16(&mut self, x: Reg, exact: bool) -> Reg {
        let len = self.len(Type::F32);
        if exact || !self.target.rounds_to_bf16() {
            let x = match exact {
                true => x,
                false => self.with_rounded_half(x),
            };
            return self.high_halves(x);
        }
        let packed = self.vector_op(o::TO_BF16, len, Type::F32, None, x, None);
        self.unless_normal(x, |s, denormal| {
            let exact = s.with_rounded_half(x);
            let exact = s.high_halves(exact);
            s.emit(Lir::Vector {
                op: o::LOAD_16,
                len: len - 1,
                d: packed,
                a: None,
                b: Src::Reg(exact),
                imm: None,
                mask: Mask::Merge(denormal),
                store: false,
            });
        });
        packed
    }

    /// `rare` with a mask of the lanes that the rounding instruction takes for zeros, if there is one.
    fn unless_normal(&mut self, x: Reg, rare: impl FnOnce(&mut Self, Reg)) {
        let len = self.len(Type::F32);
        let denormal = self.vector_op(o::CLASS, len, Type::Bool, None, x, Some(o::DENORMAL));
        let over = self.f.label();
        self.emit(Lir::JumpIfNone {
            mask: denormal,
            to: over,
        });
        let first = self.f.code.len();
        rare(self, denormal);
        let last = self.f.code.len() - 1;
        self.f.rare.push((first, last));
        self.emit(Lir::Bind(over));
    }

    /// Rounds by an addition to the bits below the last one.
    fn rounded_by_addition(&mut self, x: Reg) -> Reg {
        let (sum, len) = (self.with_rounded_half(x), self.len(Type::F32));
        let high = self.constant(Const::I32(!0xffff));
        self.vector_op(o::AND, len, Type::I32, Some(sum), high, None)
    }

    /// The same before the bits that are rounded away are cleared: the high halves are the results.
    fn with_rounded_half(&mut self, x: Reg) -> Reg {
        let (int, len) = (Type::I32, self.len(Type::F32));
        let half = self.constant(Const::I32(0x7fff));
        let one = self.constant(Const::I32(1));
        let high = self.shift(o::SHIFT_RIGHT, int, x, 16);
        let odd = self.vector_op(o::AND, len, int, Some(high), one, None);
        let sum = self.vector_op(o::ADD_32, len, int, Some(x), half, None);
        let sum = self.vector_op(o::ADD_32, len, int, Some(sum), odd, None);
        let quiet = self.constant(Const::I32(0x7fc0_0000));
        self.merge_where_nan(sum, quiet, x, Type::F32);
        sum
    }
}
