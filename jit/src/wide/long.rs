//! Arithmetic on 64-bit integers that AVX-512 has instructions for and AVX2 does not.

use super::Refused;
use super::lir::Reg;
use super::lower::Lower;
use super::opcode as o;
use crate::kernel::{BinaryOp, Const, Type};

const LONG: Type = Type::I64;

impl Lower<'_> {
    /// Two operands.
    pub fn long_binary(&mut self, op: BinaryOp, x: Reg, y: Reg) -> Result<Reg, Refused> {
        match op {
            BinaryOp::Mul => Ok(self.long_product(x, y)),
            BinaryOp::Min => Ok(self.where_greater(x, y, y, x)),
            BinaryOp::Max => Ok(self.where_greater(x, y, x, y)),
            BinaryOp::Shr => Ok(self.long_shift(x, y)),
            _ => Err(Refused::Inst(format!("{op:?} of i64"))),
        }
    }

    /// `x > y ? a : b`
    fn where_greater(&mut self, x: Reg, y: Reg, a: Reg, b: Reg) -> Reg {
        let (op, full) = (o::greater(LONG), self.target.full());
        let k = self.vector_op(op, full, LONG, Some(x), y, None);
        let d = self.reg(LONG);
        self.choose_lanes(d, k, a, b, LONG);
        d
    }

    /// By halves; the product of the high ones is beyond 64 bits.
    fn long_product(&mut self, x: Reg, y: Reg) -> Reg {
        let full = self.target.full();
        let product =
            |s: &mut Self, x: Reg, y: Reg| s.vector_op(o::MUL_LOW, full, LONG, Some(x), y, None);
        let plus =
            |s: &mut Self, x: Reg, y: Reg| s.vector_op(o::ADD_64, full, LONG, Some(x), y, None);
        let low = product(self, x, y);
        let high = self.shift(o::SHIFT_RIGHT_64, LONG, x, 32);
        let a = product(self, high, y);
        let high = self.shift(o::SHIFT_RIGHT_64, LONG, y, 32);
        let b = product(self, x, high);
        let crossed = plus(self, a, b);
        let crossed = self.shift(o::shift(true, LONG), LONG, crossed, 32);
        plus(self, low, crossed)
    }

    /// To the right, signs first: what is below 0 is inverted before and after a shift that brings in zeros. Counts that
    /// are out of range leave the sign.
    fn long_shift(&mut self, x: Reg, n: Reg) -> Reg {
        let full = self.target.full();
        let zero = self.constant(Const::I64(0));
        let below = self.vector_op(o::greater(LONG), full, LONG, Some(zero), x, None);
        let flipped = self.vector_op(o::XOR, full, LONG, Some(x), below, None);
        let shifted = self.vector_op(o::of38(LONG, 0x45), full, LONG, Some(flipped), n, None);
        self.vector_op(o::XOR, full, LONG, Some(shifted), below, None)
    }

    /// Without the sign: `(x ^ s) - s`, where `s` is all ones below 0.
    pub fn long_abs(&mut self, x: Reg) -> Result<Reg, Refused> {
        let full = self.target.full();
        let zero = self.constant(Const::I64(0));
        let below = self.vector_op(o::greater(LONG), full, LONG, Some(zero), x, None);
        let flipped = self.vector_op(o::XOR, full, LONG, Some(x), below, None);
        self.binary(BinaryOp::Sub, LONG, flipped, below)
    }
}
