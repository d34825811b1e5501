//! The operations the functions of this folder are written in, and their two meanings: kernel IR,
//! and plain arithmetic on one number.

use crate::kernel::{BinaryOp, CmpOp, Const, Inst, Kernel, Stmt, Type, UnaryOp, ValueId};
use std::collections::HashMap;

/// 1.5·2²³: a float that is added to it is rounded to an integer, which the low bits of the sum hold.
pub const SHIFT: f32 = 12_582_912.0;

/// Straight-line 32-bit arithmetic. Integer arithmetic wraps; shift counts lie in `0..32`.
#[expect(missing_docs, reason = "the names are the operations")]
pub trait Emit {
    /// An f32 value.
    type F: Copy;
    /// An i32 value.
    type I: Copy;
    /// A truth value.
    type B: Copy;

    fn f(&mut self, c: f32) -> Self::F;
    fn i(&mut self, c: i32) -> Self::I;

    fn funary(&mut self, op: UnaryOp, x: Self::F) -> Self::F;
    fn fbinary(&mut self, op: BinaryOp, x: Self::F, y: Self::F) -> Self::F;
    fn fma(&mut self, x: Self::F, y: Self::F, z: Self::F) -> Self::F;
    fn ibinary(&mut self, op: BinaryOp, x: Self::I, y: Self::I) -> Self::I;
    fn bbinary(&mut self, op: BinaryOp, x: Self::B, y: Self::B) -> Self::B;
    fn fcmp(&mut self, op: CmpOp, x: Self::F, y: Self::F) -> Self::B;
    fn icmp(&mut self, op: CmpOp, x: Self::I, y: Self::I) -> Self::B;
    fn fsel(&mut self, c: Self::B, x: Self::F, y: Self::F) -> Self::F;
    fn isel(&mut self, c: Self::B, x: Self::I, y: Self::I) -> Self::I;
    /// The bits of a float.
    fn bits(&mut self, x: Self::F) -> Self::I;
    /// The float of some bits.
    fn as_float(&mut self, x: Self::I) -> Self::F;
    /// Nearest float of an integer.
    fn to_float(&mut self, x: Self::I) -> Self::F;

    fn not(&mut self, x: Self::B) -> Self::B;

    fn add(&mut self, x: Self::F, y: Self::F) -> Self::F {
        self.fbinary(BinaryOp::Add, x, y)
    }
    fn sub(&mut self, x: Self::F, y: Self::F) -> Self::F {
        self.fbinary(BinaryOp::Sub, x, y)
    }
    fn mul(&mut self, x: Self::F, y: Self::F) -> Self::F {
        self.fbinary(BinaryOp::Mul, x, y)
    }
    fn div(&mut self, x: Self::F, y: Self::F) -> Self::F {
        self.fbinary(BinaryOp::Div, x, y)
    }
    fn copysign(&mut self, x: Self::F, y: Self::F) -> Self::F {
        self.fbinary(BinaryOp::Copysign, x, y)
    }
    fn neg(&mut self, x: Self::F) -> Self::F {
        self.funary(UnaryOp::Neg, x)
    }
    fn abs(&mut self, x: Self::F) -> Self::F {
        self.funary(UnaryOp::Abs, x)
    }
    /// `x*y - z`
    fn fms(&mut self, x: Self::F, y: Self::F, z: Self::F) -> Self::F {
        let z = self.neg(z);
        self.fma(x, y, z)
    }
    /// `x*c`
    fn mulc(&mut self, x: Self::F, c: f32) -> Self::F {
        let c = self.f(c);
        self.mul(x, c)
    }
    /// `x*c + y`
    fn fmac(&mut self, x: Self::F, c: f32, y: Self::F) -> Self::F {
        let c = self.f(c);
        self.fma(x, c, y)
    }
    /// `x + c`
    fn addc(&mut self, x: Self::F, c: f32) -> Self::F {
        let c = self.f(c);
        self.add(x, c)
    }
    /// `x op c`
    fn fcmpc(&mut self, op: CmpOp, x: Self::F, c: f32) -> Self::B {
        let c = self.f(c);
        self.fcmp(op, x, c)
    }
    /// `x op c`
    fn ic(&mut self, op: BinaryOp, x: Self::I, c: i32) -> Self::I {
        let c = self.i(c);
        self.ibinary(op, x, c)
    }
    /// Logical shift right by a constant in `1..32`.
    fn lshr(&mut self, x: Self::I, n: i32) -> Self::I {
        let x = self.ic(BinaryOp::Shr, x, n);
        self.ic(BinaryOp::And, x, (u32::MAX >> n).cast_signed())
    }
    /// `x` where a condition holds, else 0. What was computed last is not even computed elsewhere by generators that can do so: Intel's
    /// processors take hundreds of cycles for a vector with a product that rounds to 0.
    fn only(&mut self, c: Self::B, x: Self::F) -> Self::F {
        let zero = self.f(0.0);
        self.fsel(c, x, zero)
    }
    /// Whether one of these bits is set.
    fn any_bit(&mut self, x: Self::I, bits: i32) -> Self::B {
        let x = self.ic(BinaryOp::And, x, bits);
        let zero = self.i(0);
        self.icmp(CmpOp::Ne, x, zero)
    }
    /// What `rare` gives where `c` holds, else `usual`, which nothing else may use afterwards. Generators with jumps
    /// compute `rare` only if `c` holds somewhere.
    fn rarely(
        &mut self,
        c: Self::B,
        usual: (Self::I, Self::F),
        rare: impl FnOnce(&mut Self) -> (Self::I, Self::F),
    ) -> (Self::I, Self::F) {
        let (n, x) = rare(self);
        (self.isel(c, n, usual.0), self.fsel(c, x, usual.1))
    }
    /// Whether `x` is above `c` or NaN.
    fn is_above(&mut self, x: Self::F, c: f32) -> Self::B {
        let not = self.fcmpc(CmpOp::Le, x, c);
        self.not(not)
    }
    /// `x` where it is not above `c`; NaN stays NaN.
    fn at_most(&mut self, x: Self::F, c: f32) -> Self::F {
        let c = self.f(c);
        let above = self.fcmp(CmpOp::Gt, x, c);
        self.fsel(above, c, x)
    }
    /// `x` where it is not below `c`; NaN stays NaN.
    fn at_least(&mut self, x: Self::F, c: f32) -> Self::F {
        let c = self.f(c);
        let below = self.fcmp(CmpOp::Lt, x, c);
        self.fsel(below, c, x)
    }
    /// `x·2^k` for a whole `|k| < 250`, which comes with `shifted`, the sum of `k` and [`SHIFT`], and an `x` in 0.5..4.
    fn scale(&mut self, x: Self::F, k: Self::F, shifted: Self::F) -> Self::F {
        let _ = k;
        self.scale_in_two(x, shifted)
    }
    /// [`Emit::scale`] by two factors, since 2^k itself may be no float.
    fn scale_in_two(&mut self, x: Self::F, shifted: Self::F) -> Self::F {
        // Powers take no more than the low bits, where the shift has none, nor its half.
        let k = self.bits(shifted);
        let half = self.ic(BinaryOp::Shr, k, 1);
        let other = self.ibinary(BinaryOp::Sub, k, half);
        let (half, other) = (self.power(half), self.power(other));
        let x = self.mul(x, half);
        self.mul(x, other)
    }
    /// As [`Emit::scale`], where `k` is of an `x` that is `least` or more; for `least` the product rounds to 0. Intel's
    /// processors take hundreds of cycles for a vector with a product that small, so that it had better not be computed.
    fn scale_above(
        &mut self,
        y: Self::F,
        (k, shifted): (Self::F, Self::F),
        x: Self::F,
        least: f32,
    ) -> Self::F {
        let _ = (x, least);
        self.scale(y, k, shifted)
    }
    /// `(1 + m)·2^k`, as [`Emit::scale`], where `2^k` is a normal number.
    fn scale_near(&mut self, m: Self::F, k: Self::F, shifted: Self::F) -> Self::F {
        let _ = k;
        self.scale_at_once(m, shifted)
    }
    /// [`Emit::scale_near`] by one factor.
    fn scale_at_once(&mut self, m: Self::F, shifted: Self::F) -> Self::F {
        let k = self.bits(shifted);
        let by = self.power(k);
        self.fma(m, by, by)
    }
    /// `x·2^⌊k⌋` for a `|k| < 250`, a multiple of 1/16 that comes with its sum with `SHIFT / 16`, and an `x` in 0.5..4.
    fn scale_sixteenths(&mut self, x: Self::F, k: Self::F, shifted: Self::F) -> Self::F {
        let _ = k;
        let whole = self.sixteenths(shifted);
        let whole = self.as_float(whole);
        self.scale_in_two(x, whole)
    }
    /// [`Emit::scale_sixteenths`] where `2^⌊k⌋` is a normal number.
    fn scale_sixteenths_near(&mut self, x: Self::F, k: Self::F, shifted: Self::F) -> Self::F {
        let _ = k;
        self.scale_sixteenths_at_once(x, shifted)
    }
    /// [`Emit::scale_sixteenths_near`] by one factor.
    fn scale_sixteenths_at_once(&mut self, x: Self::F, shifted: Self::F) -> Self::F {
        let whole = self.sixteenths(shifted);
        let by = self.power(whole);
        self.mul(x, by)
    }
    /// `x·2^⌈k⌉`, of the sum alone.
    fn scale_sixteenths_up(&mut self, x: Self::F, shifted: Self::F) -> Self::F {
        let up = self.addc(shifted, 0.9375);
        self.scale_sixteenths(x, up, up)
    }
    /// The low bits of `⌊k⌋`.
    fn sixteenths(&mut self, shifted: Self::F) -> Self::I {
        let bits = self.bits(shifted);
        self.ic(BinaryOp::Shr, bits, 4)
    }
    /// `2^k` for a whole k of -160 to 63, also where that is below the least normal number; `shifted` is [`SHIFT`] - k.
    fn power_below_64(&mut self, shifted: Self::F) -> Self::F {
        let bits = self.bits(shifted);
        let more = self.i(64);
        let up = self.ibinary(BinaryOp::Sub, more, bits);
        let up = self.power(up);
        self.mulc(up, 1.0 / 18_446_744_073_709_551_616.0)
    }
    /// `2^k` for `-127 < k < 128`, of which the low nine bits count.
    fn power(&mut self, k: Self::I) -> Self::F {
        let biased = self.ic(BinaryOp::Add, k, 127);
        let bits = self.ic(BinaryOp::Shl, biased, 23);
        self.as_float(bits)
    }
    /// `c[0] + c[1] x + c[2] x² + …`
    fn poly(&mut self, c: &[f32], x: Self::F) -> Self::F {
        let (last, rest) = c.split_last().expect("a coefficient");
        let mut sum = self.f(*last);
        for &c in rest.iter().rev() {
            let c = self.f(c);
            sum = self.fma(sum, x, c);
        }
        sum
    }
}

/// Emits kernel IR.
pub struct Ir<'a> {
    /// The kernel whose value table grows.
    kernel: &'a mut Kernel,
    /// Where the statements go.
    out: &'a mut Vec<Stmt>,
    /// The constants that `out` defines.
    consts: &'a mut HashMap<Const, ValueId>,
}

impl<'a> Ir<'a> {
    /// Appends to `out`, which already defines `consts`; new values get their types in `kernel`.
    pub fn new(
        kernel: &'a mut Kernel,
        out: &'a mut Vec<Stmt>,
        consts: &'a mut HashMap<Const, ValueId>,
    ) -> Self {
        Ir {
            kernel,
            out,
            consts,
        }
    }

    fn push(&mut self, ty: Type, inst: Inst) -> ValueId {
        let value = self.kernel.values.push(ty);
        self.out.push(Stmt::Let { value, inst });
        value
    }

    fn constant(&mut self, ty: Type, c: Const) -> ValueId {
        if let Some(&value) = self.consts.get(&c) {
            return value;
        }
        let value = self.push(ty, Inst::Const(c));
        self.consts.insert(c, value);
        value
    }

    fn select(&mut self, ty: Type, cond: ValueId, on_true: ValueId, on_false: ValueId) -> ValueId {
        self.push(
            ty,
            Inst::Select {
                cond,
                on_true,
                on_false,
            },
        )
    }
}

impl Emit for Ir<'_> {
    type F = ValueId;
    type I = ValueId;
    type B = ValueId;

    fn f(&mut self, c: f32) -> ValueId {
        self.constant(Type::F32, Const::F32(c.to_bits()))
    }
    fn i(&mut self, c: i32) -> ValueId {
        self.constant(Type::I32, Const::I32(c))
    }
    fn funary(&mut self, op: UnaryOp, arg: ValueId) -> ValueId {
        self.push(Type::F32, Inst::Unary { op, arg })
    }
    fn fbinary(&mut self, op: BinaryOp, x: ValueId, y: ValueId) -> ValueId {
        self.push(Type::F32, Inst::Binary { op, args: [x, y] })
    }
    fn fma(&mut self, x: ValueId, y: ValueId, z: ValueId) -> ValueId {
        self.push(Type::F32, Inst::Fma { args: [x, y, z] })
    }
    fn ibinary(&mut self, op: BinaryOp, x: ValueId, y: ValueId) -> ValueId {
        self.push(Type::I32, Inst::Binary { op, args: [x, y] })
    }
    fn bbinary(&mut self, op: BinaryOp, x: ValueId, y: ValueId) -> ValueId {
        self.push(Type::Bool, Inst::Binary { op, args: [x, y] })
    }
    fn fcmp(&mut self, op: CmpOp, x: ValueId, y: ValueId) -> ValueId {
        self.push(Type::Bool, Inst::Compare { op, args: [x, y] })
    }
    fn icmp(&mut self, op: CmpOp, x: ValueId, y: ValueId) -> ValueId {
        self.fcmp(op, x, y)
    }
    fn fsel(&mut self, c: ValueId, x: ValueId, y: ValueId) -> ValueId {
        self.select(Type::F32, c, x, y)
    }
    fn isel(&mut self, c: ValueId, x: ValueId, y: ValueId) -> ValueId {
        self.select(Type::I32, c, x, y)
    }
    fn not(&mut self, arg: ValueId) -> ValueId {
        let op = UnaryOp::Not;
        self.push(Type::Bool, Inst::Unary { op, arg })
    }
    fn bits(&mut self, arg: ValueId) -> ValueId {
        let op = UnaryOp::Bitcast;
        self.push(Type::I32, Inst::Unary { op, arg })
    }
    fn as_float(&mut self, arg: ValueId) -> ValueId {
        self.funary(UnaryOp::Bitcast, arg)
    }
    fn to_float(&mut self, arg: ValueId) -> ValueId {
        let to = Type::F32;
        self.push(Type::F32, Inst::Convert { to, arg })
    }
}

/// Computes on one number, for tests and constant folding.
pub struct Plain;

impl Emit for Plain {
    type F = f32;
    type I = i32;
    type B = bool;

    fn f(&mut self, c: f32) -> f32 {
        c
    }
    fn i(&mut self, c: i32) -> i32 {
        c
    }
    #[inline]
    fn funary(&mut self, op: UnaryOp, x: f32) -> f32 {
        match op {
            UnaryOp::Neg => -x,
            UnaryOp::Abs => x.abs(),
            UnaryOp::Trunc => x.trunc(),
            UnaryOp::Round => x.round_ties_even(),
            _ => unreachable!("{op:?} is not used here"),
        }
    }
    #[inline]
    fn fbinary(&mut self, op: BinaryOp, x: f32, y: f32) -> f32 {
        match op {
            BinaryOp::Add => x + y,
            BinaryOp::Sub => x - y,
            BinaryOp::Mul => x * y,
            BinaryOp::Div => x / y,
            BinaryOp::Copysign => x.copysign(y),
            _ => unreachable!("{op:?} is not used here"),
        }
    }
    #[inline]
    fn fma(&mut self, x: f32, y: f32, z: f32) -> f32 {
        x.mul_add(y, z)
    }
    #[inline]
    fn ibinary(&mut self, op: BinaryOp, x: i32, y: i32) -> i32 {
        match op {
            BinaryOp::Add => x.wrapping_add(y),
            BinaryOp::Sub => x.wrapping_sub(y),
            BinaryOp::Mul => x.wrapping_mul(y),
            BinaryOp::And => x & y,
            BinaryOp::Or => x | y,
            BinaryOp::Xor => x ^ y,
            BinaryOp::Shl => x << y,
            BinaryOp::Shr => x >> y,
            _ => unreachable!("{op:?} is not used here"),
        }
    }
    #[inline]
    fn bbinary(&mut self, op: BinaryOp, x: bool, y: bool) -> bool {
        match op {
            BinaryOp::And => x & y,
            BinaryOp::Or => x | y,
            BinaryOp::Xor => x ^ y,
            _ => unreachable!("{op:?} is not used here"),
        }
    }
    #[inline]
    fn fcmp(&mut self, op: CmpOp, x: f32, y: f32) -> bool {
        compare(op, x, y)
    }
    #[inline]
    fn icmp(&mut self, op: CmpOp, x: i32, y: i32) -> bool {
        compare(op, x, y)
    }
    fn fsel(&mut self, c: bool, x: f32, y: f32) -> f32 {
        if c { x } else { y }
    }
    fn isel(&mut self, c: bool, x: i32, y: i32) -> i32 {
        if c { x } else { y }
    }
    fn not(&mut self, x: bool) -> bool {
        !x
    }
    fn bits(&mut self, x: f32) -> i32 {
        x.to_bits().cast_signed()
    }
    fn as_float(&mut self, x: i32) -> f32 {
        f32::from_bits(x.cast_unsigned())
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "rounds to nearest, as the IR does"
    )]
    fn to_float(&mut self, x: i32) -> f32 {
        x as f32
    }
}

impl super::tables::LookUp for Plain {
    fn look_up(&mut self, table: &[f32; 16], at: i32) -> f32 {
        table[(at & 15) as usize]
    }
    #[expect(clippy::cast_precision_loss, reason = "exponents are small")]
    fn parts(&mut self, x: f32) -> (f32, f32) {
        if x == 0.0 || x == f32::INFINITY {
            return (if x == 0.0 { -f32::INFINITY } else { x }, 1.0);
        }
        if x.is_nan() || x < 0.0 {
            return (0.0, f32::NAN);
        }
        // From 0.5 to 1.
        let (m, k) = libm::frexpf(x);
        match m < 0.75 {
            true => ((k - 1) as f32, 2.0 * m),
            false => (k as f32, m),
        }
    }
}

#[inline]
fn compare<T: PartialOrd>(op: CmpOp, x: T, y: T) -> bool {
    match op {
        CmpOp::Eq => x == y,
        CmpOp::Ne => x != y,
        CmpOp::Lt => x < y,
        CmpOp::Le => x <= y,
        CmpOp::Gt => x > y,
        CmpOp::Ge => x >= y,
    }
}
