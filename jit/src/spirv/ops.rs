//! Instructions.

use super::Refused;
use super::function::Function;
use crate::kernel::{BinaryOp, CmpOp, Inst, Type, UnaryOp};
use rspirv::dr::Operand;
use rspirv::spirv::{Decoration, OpenclStd100Op as CLOp, Word};

impl Function<'_> {
    pub fn inst(&mut self, ty: Type, inst: &Inst) -> Result<Word, Refused> {
        let of = |f: &Self, v| (f.kernel.values[v], f.values[v]);
        match inst {
            Inst::Const(c) => Ok(self.m.constant(*c)),
            Inst::Var(v) => Ok(self.vars[*v]),
            Inst::Load { mem, index } => self.load(*mem, index),
            Inst::Scan { .. } => unreachable!("the loop around it defines it"),
            Inst::Unary { op, arg } => {
                let (from, x) = of(self, *arg);
                self.unary(*op, from, x)
            }
            Inst::Binary { op, args: [a, b] } => {
                let (a, b) = (self.values[*a], self.values[*b]);
                self.binary(*op, ty, a, b)
            }
            Inst::Fma { args } => {
                let args = args.map(|v| self.values[v]);
                self.call(CLOp::fma, ty, &args)
            }
            Inst::Compare { op, args: [a, b] } => {
                let (from, x) = of(self, *a);
                let y = self.values[*b];
                self.compare(*op, from, x, y)
            }
            Inst::Select {
                cond,
                on_true,
                on_false,
            } => {
                let [c, a, b] = [*cond, *on_true, *on_false].map(|v| self.values[v]);
                let word = self.m.ty(ty);
                Ok(self.m.b.select(word, None, c, a, b)?)
            }
            Inst::Convert { to, arg } => {
                let (from, x) = of(self, *arg);
                self.convert(*to, from, x)
            }
            Inst::Narrow { to, arg } => {
                let x = self.values[*arg];
                self.round_to(*to, x)
            }
        }
    }

    /// A function of OpenCL's.
    fn call(&mut self, op: CLOp, ty: Type, args: &[Word]) -> Result<Word, Refused> {
        let (ty, set) = (self.m.ty(ty), self.m.opencl);
        let args = args.iter().map(|&a| Operand::IdRef(a));
        Ok(self.m.b.ext_inst(ty, None, set, op as u32, args)?)
    }

    pub fn is_nan(&mut self, x: Word) -> Result<Word, Refused> {
        Ok(self.m.b.f_unord_not_equal(self.m.bool, None, x, x)?)
    }

    fn unary(&mut self, op: UnaryOp, ty: Type, x: Word) -> Result<Word, Refused> {
        use UnaryOp as U;
        let (word, float) = (self.m.ty(ty), ty.is_float());
        Ok(match op {
            U::Neg if float => self.m.b.f_negate(word, None, x)?,
            U::Neg => self.m.b.s_negate(word, None, x)?,
            U::Abs if float => self.call(CLOp::fabs, ty, &[x])?,
            U::Abs => {
                // Not OpenCL's, whose result has no sign.
                let (zero, minus) = (self.m.int(ty, 0), self.m.b.s_negate(word, None, x)?);
                let negative = self.m.b.s_less_than(self.m.bool, None, x, zero)?;
                self.m.b.select(word, None, negative, minus, x)?
            }
            U::Not if ty == Type::Bool => self.m.b.logical_not(word, None, x)?,
            U::Not => self.m.b.not(word, None, x)?,
            U::IsNan => self.is_nan(x)?,
            U::Bitcast => {
                let to = match ty {
                    Type::F32 => Type::I32,
                    Type::I32 => Type::F32,
                    Type::F64 => Type::I64,
                    _ => Type::F64,
                };
                let to = self.m.ty(to);
                self.m.b.bitcast(to, None, x)?
            }
            U::Sigmoid => {
                let (minus, one) = (self.m.b.f_negate(word, None, x)?, self.m.float(ty, 1.0));
                let exp = self.call(CLOp::exp, ty, &[minus])?;
                let sum = self.m.b.f_add(word, None, one, exp)?;
                self.m.b.f_div(word, None, one, sum)?
            }
            other => {
                let f = function(other).ok_or_else(|| Refused::Inst(other.to_string()))?;
                self.call(f, ty, &[x])?
            }
        })
    }

    pub fn binary(&mut self, op: BinaryOp, ty: Type, a: Word, b: Word) -> Result<Word, Refused> {
        match ty {
            Type::F32 | Type::F64 => self.float_binary(op, ty, a, b),
            Type::I32 | Type::I64 => self.int_binary(op, ty, a, b),
            Type::Bool => {
                let bool = self.m.bool;
                Ok(match op {
                    BinaryOp::And | BinaryOp::Min | BinaryOp::Mul => {
                        self.m.b.logical_and(bool, None, a, b)?
                    }
                    BinaryOp::Or | BinaryOp::Max | BinaryOp::Add => {
                        self.m.b.logical_or(bool, None, a, b)?
                    }
                    BinaryOp::Xor => self.m.b.logical_not_equal(bool, None, a, b)?,
                    other => return Err(Refused::Inst(format!("{other} of truth values"))),
                })
            }
        }
    }

    fn float_binary(&mut self, op: BinaryOp, ty: Type, a: Word, b: Word) -> Result<Word, Refused> {
        use BinaryOp as B;
        let (word, bool) = (self.m.ty(ty), self.m.bool);
        Ok(match op {
            B::Add => self.m.b.f_add(word, None, a, b)?,
            B::Sub => self.m.b.f_sub(word, None, a, b)?,
            B::Mul => self.m.b.f_mul(word, None, a, b)?,
            B::Div => self.m.b.f_div(word, None, a, b)?,
            B::Min | B::Max => {
                let nan = self.is_nan(a)?;
                let first = if op == B::Min {
                    self.m.b.f_ord_less_than(bool, None, a, b)?
                } else {
                    self.m.b.f_ord_greater_than(bool, None, a, b)?
                };
                let first = self.m.b.logical_or(bool, None, nan, first)?;
                self.m.b.select(word, None, first, a, b)?
            }
            B::Rem => {
                let r = self.call(CLOp::fmod, ty, &[a, b])?;
                let zero = self.m.float(ty, 0.0);
                let other = self.sign_differs(ty, r, b)?;
                let some = self.m.b.f_unord_not_equal(bool, None, r, zero)?;
                let wrong = self.m.b.logical_and(bool, None, some, other)?;
                let sum = self.m.b.f_add(word, None, r, b)?;
                self.m.b.select(word, None, wrong, sum, r)?
            }
            B::Fmod => self.call(CLOp::fmod, ty, &[a, b])?,
            B::Pow => self.call(CLOp::pow, ty, &[a, b])?,
            B::Atan2 => self.call(CLOp::atan2, ty, &[a, b])?,
            B::Hypot => self.call(CLOp::hypot, ty, &[a, b])?,
            B::Nextafter => self.call(CLOp::nextafter, ty, &[a, b])?,
            B::Copysign => self.call(CLOp::copysign, ty, &[a, b])?,
            other => return Err(Refused::Inst(format!("{other} of floats"))),
        })
    }

    /// Whether one is below zero and the other is not.
    fn sign_differs(&mut self, ty: Type, a: Word, b: Word) -> Result<Word, Refused> {
        let zero = if ty.is_float() {
            self.m.float(ty, 0.0)
        } else {
            self.m.int(ty, 0)
        };
        let a = self.compare(CmpOp::Lt, ty, a, zero)?;
        let b = self.compare(CmpOp::Lt, ty, b, zero)?;
        Ok(self.m.b.logical_not_equal(self.m.bool, None, a, b)?)
    }

    fn int_binary(&mut self, op: BinaryOp, ty: Type, a: Word, b: Word) -> Result<Word, Refused> {
        use BinaryOp as B;
        let (word, bool) = (self.m.ty(ty), self.m.bool);
        Ok(match op {
            B::Add => self.m.b.i_add(word, None, a, b)?,
            B::Sub => self.m.b.i_sub(word, None, a, b)?,
            B::Mul => self.m.b.i_mul(word, None, a, b)?,
            B::And => self.m.b.bitwise_and(word, None, a, b)?,
            B::Or => self.m.b.bitwise_or(word, None, a, b)?,
            B::Xor => self.m.b.bitwise_xor(word, None, a, b)?,
            B::Min | B::Max => {
                let better = if op == B::Min { CmpOp::Lt } else { CmpOp::Gt };
                let first = self.compare(better, ty, a, b)?;
                self.m.b.select(word, None, first, a, b)?
            }
            B::Div | B::FloorDiv | B::Rem | B::Fmod => self.divide(op, ty, a, b)?,
            B::Shl | B::Shr => {
                let bits = if ty == Type::I64 { 64 } else { 32 };
                let (limit, last, zero) = (
                    self.m.int(ty, bits),
                    self.m.int(ty, bits - 1),
                    self.m.int(ty, 0),
                );
                // Below zero is a large number without a sign.
                let inside = self.m.b.u_less_than(bool, None, b, limit)?;
                let count = self.m.b.select(word, None, inside, b, last)?;
                if op == B::Shr {
                    self.m.b.shift_right_arithmetic(word, None, a, count)?
                } else {
                    let shifted = self.m.b.shift_left_logical(word, None, a, count)?;
                    self.m.b.select(word, None, inside, shifted, zero)?
                }
            }
            other => return Err(Refused::Inst(format!("{other} of integers"))),
        })
    }

    /// Division and remainders; by zero they give 0, and what does not fit wraps.
    fn divide(&mut self, op: BinaryOp, ty: Type, a: Word, b: Word) -> Result<Word, Refused> {
        use BinaryOp as B;
        let (word, bool) = (self.m.ty(ty), self.m.bool);
        let [zero, one, minus] = [0, 1, -1].map(|n| self.m.int(ty, n));
        let by_zero = self.m.b.i_equal(bool, None, b, zero)?;
        let by_minus = self.m.b.i_equal(bool, None, b, minus)?;
        let special = self.m.b.logical_or(bool, None, by_zero, by_minus)?;
        let divisor = self.m.b.select(word, None, special, one, b)?;
        let quotient = self.m.b.s_div(word, None, a, divisor)?;
        let product = self.m.b.i_mul(word, None, quotient, divisor)?;
        let rest = self.m.b.i_sub(word, None, a, product)?;
        let negated = self.m.b.s_negate(word, None, a)?;
        let quotient = self.m.b.select(word, None, by_minus, negated, quotient)?;
        let some = self.m.b.i_not_equal(bool, None, rest, zero)?;
        let differs = match op {
            B::FloorDiv => self.sign_differs(ty, a, b)?,
            _ => self.sign_differs(ty, rest, b)?,
        };
        let adjust = self.m.b.logical_and(bool, None, some, differs)?;
        let result = match op {
            B::Div => quotient,
            B::Fmod => rest,
            B::FloorDiv => {
                let below = self.m.b.i_sub(word, None, quotient, one)?;
                self.m.b.select(word, None, adjust, below, quotient)?
            }
            _ => {
                let above = self.m.b.i_add(word, None, rest, b)?;
                self.m.b.select(word, None, adjust, above, rest)?
            }
        };
        Ok(self.m.b.select(word, None, by_zero, zero, result)?)
    }

    pub fn compare(&mut self, op: CmpOp, ty: Type, a: Word, b: Word) -> Result<Word, Refused> {
        let (bool, builder) = (self.m.bool, &mut self.m.b);
        Ok(match (ty, op) {
            (Type::F32 | Type::F64, CmpOp::Eq) => builder.f_ord_equal(bool, None, a, b)?,
            (Type::F32 | Type::F64, CmpOp::Ne) => builder.f_unord_not_equal(bool, None, a, b)?,
            (Type::F32 | Type::F64, CmpOp::Lt) => builder.f_ord_less_than(bool, None, a, b)?,
            (Type::F32 | Type::F64, CmpOp::Le) => {
                builder.f_ord_less_than_equal(bool, None, a, b)?
            }
            (Type::F32 | Type::F64, CmpOp::Gt) => builder.f_ord_greater_than(bool, None, a, b)?,
            (Type::F32 | Type::F64, CmpOp::Ge) => {
                builder.f_ord_greater_than_equal(bool, None, a, b)?
            }
            (Type::I32 | Type::I64, CmpOp::Eq) => builder.i_equal(bool, None, a, b)?,
            (Type::I32 | Type::I64, CmpOp::Ne) => builder.i_not_equal(bool, None, a, b)?,
            (Type::I32 | Type::I64, CmpOp::Lt) => builder.s_less_than(bool, None, a, b)?,
            (Type::I32 | Type::I64, CmpOp::Le) => builder.s_less_than_equal(bool, None, a, b)?,
            (Type::I32 | Type::I64, CmpOp::Gt) => builder.s_greater_than(bool, None, a, b)?,
            (Type::I32 | Type::I64, CmpOp::Ge) => builder.s_greater_than_equal(bool, None, a, b)?,
            (Type::Bool, CmpOp::Eq) => builder.logical_equal(bool, None, a, b)?,
            (Type::Bool, CmpOp::Ne) => builder.logical_not_equal(bool, None, a, b)?,
            (Type::Bool, CmpOp::Lt | CmpOp::Gt) => {
                let (low, high) = if op == CmpOp::Lt { (a, b) } else { (b, a) };
                let not = builder.logical_not(bool, None, low)?;
                builder.logical_and(bool, None, not, high)?
            }
            (Type::Bool, CmpOp::Le | CmpOp::Ge) => {
                let (low, high) = if op == CmpOp::Le { (a, b) } else { (b, a) };
                let not = builder.logical_not(bool, None, low)?;
                builder.logical_or(bool, None, not, high)?
            }
        })
    }

    fn convert(&mut self, to: Type, from: Type, x: Word) -> Result<Word, Refused> {
        if to == Type::Bool {
            return self.truth(from, x);
        }
        if to == from {
            return Ok(x);
        }
        let word = self.m.ty(to);
        Ok(match (from, to) {
            (Type::Bool, _) => {
                let (one, zero) = match to.is_float() {
                    true => (self.m.float(to, 1.0), self.m.float(to, 0.0)),
                    false => (self.m.int(to, 1), self.m.int(to, 0)),
                };
                self.m.b.select(word, None, x, one, zero)?
            }
            (Type::F32 | Type::F64, Type::F32 | Type::F64) => self.m.b.f_convert(word, None, x)?,
            (Type::F32 | Type::F64, _) => {
                let n = self.m.b.convert_f_to_s(word, None, x)?;
                self.m.b.decorate(n, Decoration::SaturatedConversion, []);
                n
            }
            (_, Type::F32 | Type::F64) => self.m.b.convert_s_to_f(word, None, x)?,
            _ => self.m.b.s_convert(word, None, x)?,
        })
    }
}

/// OpenCL's name of a function.
fn function(op: UnaryOp) -> Option<CLOp> {
    use UnaryOp as U;
    Some(match op {
        U::Sqrt => CLOp::sqrt,
        U::Floor => CLOp::floor,
        U::Ceil => CLOp::ceil,
        U::Trunc => CLOp::trunc,
        U::Round => CLOp::rint,
        U::Exp => CLOp::exp,
        U::Exp2 => CLOp::exp2,
        U::Expm1 => CLOp::expm1,
        U::Log => CLOp::log,
        U::Log2 => CLOp::log2,
        U::Log10 => CLOp::log10,
        U::Log1p => CLOp::log1p,
        U::Tanh => CLOp::tanh,
        U::Erf => CLOp::erf,
        U::Sin => CLOp::sin,
        U::Cos => CLOp::cos,
        U::Erfc => CLOp::erfc,
        U::Tan => CLOp::tan,
        U::Asin => CLOp::asin,
        U::Acos => CLOp::acos,
        U::Atan => CLOp::atan,
        U::Sinh => CLOp::sinh,
        U::Cosh => CLOp::cosh,
        U::Asinh => CLOp::asinh,
        U::Acosh => CLOp::acosh,
        U::Atanh => CLOp::atanh,
        U::Lgamma => CLOp::lgamma,
        _ => return None,
    })
}
