//! Truth values: comparisons, logic on them, and what is chosen by them.
//!
//! They are mask registers where there are such. Elsewhere they are vectors of ones and zeros in lanes of 32 bits, or of 64 if
//! 32-bit elements take half a register.

use super::lir::{Lir, Mask, Reg, Src};
use super::lower::Lower;
use super::opcode::{self as o, Logic};
use crate::kernel::{CmpOp, Const, Type};

impl Lower<'_> {
    /// A truth value in all lanes.
    pub fn truth(&mut self, v: bool) -> Reg {
        if !self.target.has_masks() {
            return self.constant(Const::I64(-i64::from(v)));
        }
        let d = self.reg(Type::Bool);
        let op = if v { Logic::Same } else { Logic::Xor };
        let (a, b) = (None, None);
        self.emit(Lir::Mask { op, d, a, b });
        d
    }

    /// `a op b` on truth values.
    pub fn masks(&mut self, op: Logic, a: Option<Reg>, b: Reg) -> Reg {
        if !self.target.has_masks() {
            return self.vector_masks(op, a, b);
        }
        let d = self.reg(Type::Bool);
        let b = Some(b);
        self.emit(Lir::Mask { op, d, a, b });
        d
    }

    fn vector_masks(&mut self, op: Logic, a: Option<Reg>, b: Reg) -> Reg {
        let (op, inverted) = match op {
            Logic::And => (o::AND, false),
            Logic::AndNot => (o::AND_NOT, false),
            Logic::Or => (o::OR, false),
            Logic::Xor => (o::XOR, false),
            Logic::Same => (o::XOR, true),
            Logic::Not => return self.inverted(b),
        };
        let d = self.vector_op(op, self.target.full(), Type::Bool, a, b, None);
        if inverted { self.inverted(d) } else { d }
    }

    fn inverted(&mut self, k: Reg) -> Reg {
        let ones = self.truth(true);
        self.vector_op(o::XOR, self.target.full(), Type::Bool, Some(k), ones, None)
    }

    /// `d = a` where the mask is set.
    pub fn merge(&mut self, d: Reg, a: Reg, k: Reg, ty: Type) {
        if self.target.has_masks() {
            return self.move_under(d, a, Mask::Merge(k), ty);
        }
        let k = self.mask_for(k, ty);
        self.choose_lanes(d, k, a, d, ty);
    }

    /// `x` where the mask is set, and 0 elsewhere.
    pub fn only(&mut self, k: Reg, x: Reg, ty: Type) -> Reg {
        if self.target.has_masks() {
            let d = self.reg(ty);
            self.move_under(d, x, Mask::Zero(k), ty);
            return d;
        }
        let k = self.mask_for(k, ty);
        self.vector_op(o::AND, self.len(ty), ty, Some(k), x, None)
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
        if !self.target.has_masks() {
            let k = self.mask_for(k, ty);
            self.choose_lanes(d, k, a, b, ty);
            return d;
        }
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

    /// `d = k ? a : b` where masks are vectors, and `k` has lanes like the others.
    pub fn choose_lanes(&mut self, d: Reg, k: Reg, a: Reg, b: Reg, ty: Type) {
        let (len, a, b) = (self.len(ty), b, a);
        self.emit(Lir::Blend { len, d, a, b, k });
    }

    /// Whether one of these bits is set.
    pub fn any_bit(&mut self, ty: Type, x: Reg, bits: Reg) -> Reg {
        let len = self.len(ty);
        if self.target.has_masks() {
            return self.vector_op(o::of38(ty, o::TEST), len, Type::Bool, Some(x), bits, None);
        }
        let both = self.vector_op(o::AND, len, ty, Some(x), bits, None);
        let zero = self.constant(Const::I64(0));
        self.compare(CmpOp::Ne, ty, both, zero)
    }

    /// Whether floats are above others, or one of both is NaN.
    pub fn is_above(&mut self, ty: Type, x: Reg, y: Reg) -> Reg {
        let (op, len) = (o::float(ty, o::CMP), self.len(ty));
        let k = self.vector_op(op, len, Type::Bool, Some(x), y, Some(0x16));
        self.spread_mask(k, ty)
    }

    /// Whether floats are NaN.
    pub fn is_nan(&mut self, ty: Type, x: Reg) -> Reg {
        let k = self.nan_lanes(ty, x);
        self.spread_mask(k, ty)
    }

    /// `d = a` where `x` is NaN.
    pub fn merge_where_nan(&mut self, d: Reg, a: Reg, x: Reg, ty: Type) {
        let k = self.nan_lanes(ty, x);
        match self.target.has_masks() {
            true => self.merge(d, a, k, ty),
            false => self.choose_lanes(d, k, a, d, ty),
        }
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
        if !ty.is_float() && !self.target.has_masks() {
            return self.compare_integers(op, ty, x, y);
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

    /// Comparisons made of the two that give vectors.
    fn compare_integers(&mut self, op: CmpOp, ty: Type, x: Reg, y: Reg) -> Reg {
        use CmpOp as C;
        let (code, swapped, inverted) = match op {
            C::Eq => (o::equal(ty), false, false),
            C::Ne => (o::equal(ty), false, true),
            C::Gt => (o::greater(ty), false, false),
            C::Le => (o::greater(ty), false, true),
            C::Lt => (o::greater(ty), true, false),
            C::Ge => (o::greater(ty), true, true),
        };
        let (x, y) = if swapped { (y, x) } else { (x, y) };
        let k = self.vector_op(code, self.len(ty), Type::Bool, Some(x), y, None);
        let k = self.spread_mask(k, ty);
        if inverted { self.inverted(k) } else { k }
    }

    /// Numbers that are not 0.
    pub fn is_set(&mut self, ty: Type, x: Reg) -> Reg {
        if ty.is_float() || !self.target.has_masks() {
            let zero = self.constant(Const::I64(0));
            return self.compare(CmpOp::Ne, ty, x, zero);
        }
        let k = self.any_bit(ty, x, x);
        self.spread_mask(k, ty)
    }

    /// Numbers above 0 among words that are not below it.
    pub fn is_positive(&mut self, x: Reg) -> Reg {
        if self.target.has_masks() {
            return self.any_bit(Type::I32, x, x);
        }
        let zero = self.constant(Const::I64(0));
        self.compare(CmpOp::Gt, Type::I32, x, zero)
    }

    /// The mask that a comparison of numbers of a type gave, as one of all lanes. With mask registers: a comparison of 64-bit
    /// elements that are the same everywhere sets half of the lanes that are wanted.
    fn spread_mask(&mut self, k: Reg, of: Type) -> Reg {
        match (self.halves(), o::is_wide(of)) {
            (true, false) if !self.target.has_masks() => {
                self.vector_op(o::WIDEN_I32, self.target.full(), Type::Bool, None, k, None)
            }
            (false, true) if self.target.has_masks() => {
                let ones = self.constant(Const::I64(-1));
                let (d, len) = (self.only(k, ones, Type::I64), self.target.full());
                let d = self.vector_op(o::BROADCAST_32, len, Type::I32, None, d, None);
                self.any_bit(Type::I32, d, d)
            }
            _ => k,
        }
    }

    /// A mask that is a vector in lanes of a type.
    pub fn mask_for(&mut self, k: Reg, ty: Type) -> Reg {
        match self.halves() && !o::is_wide(ty) {
            true => self.low_words(k),
            false => k,
        }
    }
}
