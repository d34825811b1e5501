//! Truth values: comparisons, logic on them, and what is chosen by them.

use super::lir::{Lir, Mask, Reg, Src};
use super::lower::Lower;
use super::opcode::{self as o, Logic};
use crate::kernel::{CmpOp, Const, Type};

impl Lower<'_> {
    /// A truth value in all lanes.
    pub fn truth(&mut self, v: bool) -> Reg {
        let d = self.reg(Type::Bool);
        let op = if v { Logic::Same } else { Logic::Xor };
        let (a, b) = (None, None);
        self.emit(Lir::Mask { op, d, a, b });
        d
    }

    /// `a op b` on truth values.
    pub fn masks(&mut self, op: Logic, a: Option<Reg>, b: Reg) -> Reg {
        let d = self.reg(Type::Bool);
        let b = Some(b);
        self.emit(Lir::Mask { op, d, a, b });
        d
    }

    /// `d = a` where the mask is set.
    pub fn merge(&mut self, d: Reg, a: Reg, k: Reg, ty: Type) {
        self.move_under(d, a, Mask::Merge(k), ty);
    }

    /// `x` where the mask is set, and 0 elsewhere.
    pub fn only(&mut self, k: Reg, x: Reg, ty: Type) -> Reg {
        let d = self.reg(ty);
        self.move_under(d, x, Mask::Zero(k), ty);
        d
    }

    fn move_under(&mut self, d: Reg, a: Reg, mask: Mask, ty: Type) {
        let wide = if o::is_wide(ty) { Type::F64 } else { Type::F32 };
        let (op, len) = (o::float(wide, o::MOVE), self.len(ty));
        self.emit(Lir::Vector {
            op,
            len,
            d,
            a: None,
            b: Src::Reg(a),
            imm: None,
            mask,
            store: false,
        });
    }

    /// `k ? a : b`
    pub fn blend(&mut self, ty: Type, k: Reg, a: Reg, b: Reg) -> Reg {
        let (d, len) = (self.reg(ty), self.len(ty));
        let (op, mask) = (o::of38(ty, 0x65), Mask::Blend(k));
        self.emit(Lir::Vector {
            op,
            len,
            d,
            a: Some(b),
            b: Src::Reg(a),
            imm: None,
            mask,
            store: false,
        });
        d
    }

    /// Whether one of these bits is set.
    pub fn any_bit(&mut self, ty: Type, x: Reg, bits: Reg) -> Reg {
        let len = self.len(ty);
        self.vector_op(o::of38(ty, o::TEST), len, Type::Bool, Some(x), bits, None)
    }

    /// Whether floats are NaN.
    pub fn is_nan(&mut self, ty: Type, x: Reg) -> Reg {
        let k = self.nan_lanes(ty, x);
        self.spread_mask(k, ty)
    }

    /// `d = a` where `x` is NaN.
    pub fn merge_where_nan(&mut self, d: Reg, a: Reg, x: Reg, ty: Type) {
        let k = self.nan_lanes(ty, x);
        self.merge(d, a, k, ty);
    }

    fn nan_lanes(&mut self, ty: Type, x: Reg) -> Reg {
        let (op, len) = (o::float(ty, o::CMP), self.len(ty));
        self.vector_op(op, len, Type::Bool, Some(x), x, Some(3))
    }

    /// A mask of comparisons.
    pub fn compare(&mut self, op: CmpOp, ty: Type, x: Reg, y: Reg) -> Reg {
        use CmpOp as C;
        if ty == Type::Bool {
            return self.compare_masks(op, x, y);
        }
        let (float, int) = match op {
            C::Eq => (0x00, 0),
            C::Ne => (0x04, 4),
            C::Lt => (0x11, 1),
            C::Le => (0x12, 2),
            C::Gt => (0x1E, 6),
            C::Ge => (0x1D, 5),
        };
        let (code, imm) = if ty.is_float() {
            (o::float(ty, o::CMP), float)
        } else {
            (o::of3a(ty, 0x1F), int)
        };
        let k = self.vector_op(code, self.len(ty), Type::Bool, Some(x), y, Some(imm));
        self.spread_mask(k, ty)
    }

    fn compare_masks(&mut self, op: CmpOp, x: Reg, y: Reg) -> Reg {
        use CmpOp as C;
        let (x, y) = if matches!(op, C::Gt | C::Ge) {
            (y, x)
        } else {
            (x, y)
        };
        match op {
            C::Eq => self.masks(Logic::Same, Some(x), y),
            C::Ne => self.masks(Logic::Xor, Some(x), y),
            C::Lt | C::Gt => self.masks(Logic::AndNot, Some(x), y),
            C::Le | C::Ge => {
                let x = self.masks(Logic::Not, None, x);
                self.masks(Logic::Or, Some(x), y)
            }
        }
    }

    /// Numbers that are not 0.
    pub fn is_set(&mut self, ty: Type, x: Reg) -> Reg {
        if ty.is_float() {
            let zero = self.constant(Const::I64(0));
            return self.compare(CmpOp::Ne, ty, x, zero);
        }
        let k = self.any_bit(ty, x, x);
        self.spread_mask(k, ty)
    }

    /// The first lane's truth in all lanes: a comparison of 64-bit elements that are the same
    /// everywhere sets 8 lanes, where 16 are wanted.
    fn spread_mask(&mut self, k: Reg, of: Type) -> Reg {
        if self.halves() || !o::is_wide(of) {
            return k;
        }
        let ones = self.constant(Const::I64(-1));
        let d = self.only(k, ones, Type::I64);
        let d = self.vector_op(o::BROADCAST_32, 2, Type::I32, None, d, None);
        self.any_bit(Type::I32, d, d)
    }
}
