//! Elementary functions that gain from what the kernel IR lacks, multiplications by powers of two, tables in registers and jumps over rare cases:
//! written in `math` like the others, but lowered directly.

use super::Refused;
use super::lir::{Lir, Mask, Reg};
use super::lower::Lower;
use super::opcode::{self as o, Logic};
use crate::kernel::{BinaryOp, CmpOp, Const, Inst, Type, UnaryOp};
use crate::math::pow_table::SIXTEENTHS;
use crate::math::tables::{self, LookUp};
use crate::math::{Emit, exp_table, log_table};

/// Whether this generator computes an instruction by itself if it is of f32.
pub fn is_own(inst: &Inst) -> bool {
    match inst {
        Inst::Unary { op, .. } => OWN.contains(op),
        Inst::Binary { op, .. } => *op == BinaryOp::Pow,
        _ => false,
    }
}

/// The functions of one operand among them.
pub const OWN: [UnaryOp; 9] = [
    UnaryOp::Exp,
    UnaryOp::Exp2,
    UnaryOp::Expm1,
    UnaryOp::Log,
    UnaryOp::Sigmoid,
    UnaryOp::Tanh,
    UnaryOp::Erf,
    UnaryOp::Sin,
    UnaryOp::Cos,
];
/// Values that one of them takes, as [`Lower::copies`](super::loops) counts them.
pub const VALUES: usize = 24;
/// Those of them that are wanted at the same time.
pub const LIVE: usize = 4;

/// The value of a function of [`OWN`].
pub fn own(lower: &mut Lower, op: UnaryOp, x: Reg) -> Result<Reg, Refused> {
    // A table in two registers, and products instead of one instruction for powers of two, would gain next to nothing.
    let masks = lower.target.has_masks();
    let result = emitted(lower, |e| match op {
        UnaryOp::Erf => Some(tables::erf(e, x)),
        UnaryOp::Tanh => Some(tables::tanh(e, x)),
        UnaryOp::Exp if masks => Some(exp_table::exp(e, x)),
        UnaryOp::Exp2 if masks => Some(exp_table::exp2(e, x)),
        UnaryOp::Log if masks => Some(log_table::log(e, x)),
        UnaryOp::Sigmoid if masks => Some(exp_table::sigmoid(e, x)),
        _ => crate::math::unary(e, op, x),
    })?;
    result.ok_or_else(|| Refused::Inst(format!("{op:?}")))
}

/// `a` to the power `b`.
pub fn pow(lower: &mut Lower, a: Reg, b: Reg) -> Result<Reg, Refused> {
    emitted(lower, |e| crate::math::pow_table::pow(e, a, b))
}

fn emitted<'l, 'k, T>(
    lower: &'l mut Lower<'k>,
    emit: impl FnOnce(&mut Vectors<'l, 'k>) -> T,
) -> Result<T, Refused> {
    let mut e = Vectors {
        lower,
        refused: None,
        halves: None,
    };
    let result = emit(&mut e);
    e.refused.map_or(Ok(result), Err)
}

/// Emits instructions on vectors. The first refusal is kept; what follows it is never run.
struct Vectors<'l, 'k> {
    lower: &'l mut Lower<'k>,
    refused: Option<Refused>,
    /// The last places that tables of two registers were looked up at, and what chooses the register.
    halves: Option<(Reg, Reg)>,
}

impl Vectors<'_, '_> {
    fn kept(&mut self, result: Result<Reg, Refused>, instead: Reg) -> Reg {
        result.unwrap_or_else(|refused| {
            self.refused.get_or_insert(refused);
            instead
        })
    }
}

impl Emit for Vectors<'_, '_> {
    type F = Reg;
    type I = Reg;
    type B = Reg;

    fn f(&mut self, c: f32) -> Reg {
        self.lower.constant(Const::F32(c.to_bits()))
    }
    fn i(&mut self, c: i32) -> Reg {
        self.lower.constant(Const::I32(c))
    }
    fn funary(&mut self, op: UnaryOp, x: Reg) -> Reg {
        let result = self.lower.unary(op, Type::F32, x);
        self.kept(result, x)
    }
    fn fbinary(&mut self, op: BinaryOp, x: Reg, y: Reg) -> Reg {
        let result = self.lower.binary(op, Type::F32, x, y);
        self.kept(result, x)
    }
    fn fma(&mut self, a: Reg, b: Reg, c: Reg) -> Reg {
        let (d, len, w) = (self.lower.reg(Type::F32), self.lower.len(Type::F32), false);
        self.lower.emit(Lir::Fma { w, len, d, a, b, c });
        d
    }
    fn ibinary(&mut self, op: BinaryOp, x: Reg, y: Reg) -> Reg {
        let result = self.lower.binary(op, Type::I32, x, y);
        self.kept(result, x)
    }
    fn bbinary(&mut self, op: BinaryOp, x: Reg, y: Reg) -> Reg {
        let result = self.lower.binary(op, Type::Bool, x, y);
        self.kept(result, x)
    }
    fn fcmp(&mut self, op: CmpOp, x: Reg, y: Reg) -> Reg {
        self.lower.compare(op, Type::F32, x, y)
    }
    fn icmp(&mut self, op: CmpOp, x: Reg, y: Reg) -> Reg {
        self.lower.compare(op, Type::I32, x, y)
    }
    fn fsel(&mut self, c: Reg, x: Reg, y: Reg) -> Reg {
        self.lower.blend(Type::F32, c, x, y)
    }
    fn isel(&mut self, c: Reg, x: Reg, y: Reg) -> Reg {
        self.lower.blend(Type::I32, c, x, y)
    }
    fn not(&mut self, x: Reg) -> Reg {
        self.lower.masks(Logic::Not, None, x)
    }
    fn bits(&mut self, x: Reg) -> Reg {
        x
    }
    fn as_float(&mut self, x: Reg) -> Reg {
        x
    }
    fn to_float(&mut self, x: Reg) -> Reg {
        let len = self.lower.len(Type::F32);
        self.lower
            .vector_op(o::I32_TO_F32, len, Type::F32, None, x, None)
    }
    fn ic(&mut self, op: BinaryOp, x: Reg, c: i32) -> Reg {
        match op {
            BinaryOp::Shl | BinaryOp::Shr => {
                let left = op == BinaryOp::Shl;
                self.lower
                    .shift(o::shift(left, Type::I32), Type::I32, x, c as u8)
            }
            _ => {
                let c = self.i(c);
                self.ibinary(op, x, c)
            }
        }
    }
    fn lshr(&mut self, x: Reg, n: i32) -> Reg {
        self.lower.shift(o::SHIFT_RIGHT, Type::I32, x, n as u8)
    }
    fn at_most(&mut self, x: Reg, c: f32) -> Reg {
        let c = self.f(c);
        // With a NaN the instruction gives its second operand.
        let len = self.lower.len(Type::F32);
        let op = o::float(Type::F32, o::MIN);
        self.lower.vector_op(op, len, Type::F32, Some(c), x, None)
    }
    fn at_least(&mut self, x: Reg, c: f32) -> Reg {
        let c = self.f(c);
        let len = self.lower.len(Type::F32);
        let op = o::float(Type::F32, o::MAX);
        self.lower.vector_op(op, len, Type::F32, Some(c), x, None)
    }
    fn scale(&mut self, x: Reg, k: Reg, shifted: Reg) -> Reg {
        if !self.lower.target.has_masks() {
            return self.scale_in_two(x, shifted);
        }
        let len = self.lower.len(Type::F32);
        self.lower
            .vector_op(o::SCALE, len, Type::F32, Some(x), k, None)
    }
    fn scale_above(&mut self, y: Reg, (k, shifted): (Reg, Reg), x: Reg, least: f32) -> Reg {
        let least = self.f(least);
        // Also of a NaN.
        let above = self.fcmp(CmpOp::Ne, x, least);
        let y = self.only(above, y);
        self.scale(y, k, shifted)
    }
    fn scale_near(&mut self, m: Reg, k: Reg, shifted: Reg) -> Reg {
        if !self.lower.target.has_masks() {
            return self.scale_at_once(m, shifted);
        }
        let x = self.addc(m, 1.0);
        self.scale(x, k, shifted)
    }
    fn scale_sixteenths(&mut self, x: Reg, k: Reg, shifted: Reg) -> Reg {
        if !self.lower.target.has_masks() {
            let whole = self.sixteenths(shifted);
            return self.scale_in_two(x, whole);
        }
        // The instruction rounds down.
        self.scale(x, k, shifted)
    }
    fn scale_sixteenths_up(&mut self, x: Reg, shifted: Reg) -> Reg {
        if !self.lower.target.has_masks() {
            let up = self.addc(shifted, 0.9375);
            return self.scale_sixteenths(x, up, up);
        }
        let k = self.addc(shifted, 0.9375 - SIXTEENTHS);
        self.scale(x, k, shifted)
    }
    fn scale_sixteenths_near(&mut self, x: Reg, k: Reg, shifted: Reg) -> Reg {
        match self.lower.target.has_masks() {
            true => self.scale(x, k, shifted),
            false => self.scale_sixteenths_at_once(x, shifted),
        }
    }
    fn power_below_64(&mut self, shifted: Reg) -> Reg {
        // By a biased exponent.
        let bias = self.i(64 + 127);
        let up = self.ibinary(BinaryOp::Sub, bias, shifted);
        let up = self.ic(BinaryOp::Shl, up, 23);
        self.mulc(up, 1.0 / 18_446_744_073_709_551_616.0)
    }
    fn is_above(&mut self, x: Reg, c: f32) -> Reg {
        let c = self.f(c);
        self.lower.is_above(Type::F32, x, c)
    }
    fn only(&mut self, c: Reg, x: Reg) -> Reg {
        let masks = self.lower.target.has_masks();
        match self.lower.f.code.last_mut() {
            Some(Lir::Vector { d, mask, .. }) if masks && *d == x && *mask == Mask::All => {
                *mask = Mask::Zero(c);
                x
            }
            _ => self.lower.only(c, x, Type::F32),
        }
    }
    fn any_bit(&mut self, x: Reg, bits: i32) -> Reg {
        let bits = self.i(bits);
        self.lower.any_bit(Type::I32, x, bits)
    }
    fn rarely(
        &mut self,
        c: Reg,
        usual: (Reg, Reg),
        rare: impl FnOnce(&mut Self) -> (Reg, Reg),
    ) -> (Reg, Reg) {
        let over = self.lower.f.label();
        self.lower.emit(Lir::JumpIfNone { mask: c, to: over });
        let first = self.lower.f.code.len();
        let (n, x) = rare(self);
        self.lower.merge(usual.0, n, c, Type::I32);
        self.lower.merge(usual.1, x, c, Type::F32);
        let last = self.lower.f.code.len() - 1;
        self.lower.f.rare.push((first, last));
        self.lower.emit(Lir::Bind(over));
        usual
    }
}

impl LookUp for Vectors<'_, '_> {
    fn parts(&mut self, x: Reg) -> (Reg, Reg) {
        if !self.lower.target.has_masks() {
            (self.refused).get_or_insert(Refused::Inst("exponents and mantissas".into()));
            return (x, x);
        }
        let len = self.lower.len(Type::F32);
        let mut part = |op, x, imm| self.lower.vector_op(op, len, Type::F32, None, x, imm);
        let m = part(o::MANTISSA, x, Some(o::AROUND_1));
        let (k, of_m) = (part(o::EXPONENT, x, None), part(o::EXPONENT, m, None));
        (self.sub(k, of_m), m)
    }
    fn look_up(&mut self, table: &[f32; 16], at: Reg) -> Reg {
        // All of the table's register, also for lanes in half of one.
        let full = self.lower.target.full();
        let found = table.chunks(self.lower.target.bytes() / 4).map(|part| {
            let mut bytes = [0; 64];
            for (to, c) in bytes.chunks_exact_mut(4).zip(part) {
                to.copy_from_slice(&c.to_le_bytes());
            }
            let part = self.lower.pooled(bytes);
            let op = o::PERMUTE;
            self.lower
                .vector_op(op, full, Type::F32, Some(at), part, None)
        });
        let found: Vec<Reg> = found.collect();
        let [low, high] = found[..] else {
            return found[0];
        };
        // The place's bit that chooses the half, as a sign.
        let known = self.halves.filter(|h| h.0 == at);
        let (_, half) = known.unwrap_or_else(|| {
            let shift = o::shift(true, Type::I32);
            (at, self.lower.shift(shift, Type::I32, at, 28))
        });
        self.halves = Some((at, half));
        let d = self.lower.reg(Type::F32);
        self.lower.choose_lanes(d, half, high, low, Type::F32);
        d
    }
}
