//! Instructions on values.

use super::CompileError;
use super::function::{Gen, SCALAR};
use super::loops::condition;
use crate::builtins;
use crate::kernel::{BinaryOp, CmpOp, Const, Inst, Type, UnaryOp};
use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{self, AbiParam, InstBuilder, Signature, Value, types};
use ipex_runtime::DType;

fn missing(what: impl std::fmt::Debug, ty: Type) -> CompileError {
    CompileError::Codegen(format!("{what:?} of {ty} has no code"))
}

impl Gen<'_, '_> {
    /// One instruction in one copy; `ty` is the result's type.
    pub fn compute(&mut self, ty: Type, inst: &Inst, copy: usize) -> Result<Value, CompileError> {
        let kernel = self.kernel;
        Ok(match inst {
            Inst::Const(c) => self.constant(*c),
            Inst::Load { mem, index } => self.load(*mem, index, copy),
            Inst::Scan { .. } => return Err(missing(inst, ty)),
            Inst::Var(var) => match self.vars[*var] {
                Some(v) if self.lanes == SCALAR => v,
                _ => return Err(missing(inst, ty)),
            },
            Inst::Unary { op, arg } => {
                let x = self.get(*arg, copy);
                self.unary(*op, kernel.values[*arg], x)?
            }
            Inst::Binary { op, args: [a, b] } => {
                if let (BinaryOp::Shl | BinaryOp::Shr, Some(n)) = (op, self.shift_count(*b)) {
                    let x = self.get(*a, copy);
                    return Ok(match op {
                        BinaryOp::Shl => self.b.ins().ishl_imm_s(x, n),
                        _ => self.b.ins().sshr_imm_s(x, n),
                    });
                }
                let (x, y) = (self.get(*a, copy), self.get(*b, copy));
                self.binary(*op, ty, x, y)?
            }
            Inst::Fma { args } => {
                let [x, y, z] = args.map(|v| self.get(v, copy));
                self.b.ins().fma(x, y, z)
            }
            Inst::Compare { op, args: [a, b] } => {
                let (x, y) = (self.get(*a, copy), self.get(*b, copy));
                self.compare(*op, kernel.values[*a], x, y)
            }
            Inst::Select {
                cond,
                on_true,
                on_false,
            } => {
                let c = self.get(*cond, copy);
                let (x, y) = (self.get(*on_true, copy), self.get(*on_false, copy));
                self.choose(c, x, y)
            }
            Inst::Convert { to, arg } => {
                let x = self.get(*arg, copy);
                self.convert(kernel.values[*arg], *to, x)
            }
            Inst::Narrow { to, arg } => {
                let x = self.get(*arg, copy);
                match to {
                    DType::F16 | DType::BF16 => {
                        let bits = self.round(*to, x);
                        self.widen(*to, bits)
                    }
                    DType::I8 | DType::U8 | DType::I16 => self.wrap(*to, x),
                    _ => x,
                }
            }
        })
    }

    fn unary(&mut self, op: UnaryOp, ty: Type, x: Value) -> Result<Value, CompileError> {
        use UnaryOp as U;
        let float = ty.is_float();
        Ok(match op {
            U::Neg if float => self.b.ins().fneg(x),
            U::Neg => self.b.ins().ineg(x),
            U::Abs if float => self.b.ins().fabs(x),
            U::Abs => self.b.ins().iabs(x),
            U::Not if ty == Type::Bool && self.lanes.count == 1 => self.b.ins().bxor_imm_s(x, 1),
            U::Not => self.b.ins().bnot(x),
            U::Sqrt => self.b.ins().sqrt(x),
            U::Floor => self.b.ins().floor(x),
            U::Ceil => self.b.ins().ceil(x),
            U::Trunc => self.b.ins().trunc(x),
            U::Round => self.b.ins().nearest(x),
            U::IsNan => self.b.ins().fcmp(FloatCC::Unordered, x, x),
            U::Bitcast => {
                let to = match ty {
                    Type::F32 => Type::I32,
                    Type::I32 => Type::F32,
                    Type::F64 => Type::I64,
                    _ => Type::F64,
                };
                let to = self.lane_type(to);
                self.cast(to, x)
            }
            _ => {
                let f = builtins::unary(op)
                    .filter(|_| float)
                    .ok_or_else(|| missing(op, ty))?;
                self.call(f as usize, types::F64, ty, &[x])
            }
        })
    }

    /// Two operands of one type.
    pub fn binary(
        &mut self,
        op: BinaryOp,
        ty: Type,
        x: Value,
        y: Value,
    ) -> Result<Value, CompileError> {
        use BinaryOp as B;
        let float = ty.is_float();
        Ok(match op {
            B::Add if float => self.b.ins().fadd(x, y),
            B::Sub if float => self.b.ins().fsub(x, y),
            B::Mul if float => self.b.ins().fmul(x, y),
            B::Div if float => self.b.ins().fdiv(x, y),
            B::Add => self.b.ins().iadd(x, y),
            B::Sub => self.b.ins().isub(x, y),
            B::Mul => self.b.ins().imul(x, y),
            B::And => self.b.ins().band(x, y),
            B::Or => self.b.ins().bor(x, y),
            B::Xor => self.b.ins().bxor(x, y),
            B::Min | B::Max if ty == Type::Bool => {
                if op == B::Min {
                    self.b.ins().band(x, y)
                } else {
                    self.b.ins().bor(x, y)
                }
            }
            B::Min if !float => self.b.ins().smin(x, y),
            B::Max if !float => self.b.ins().smax(x, y),
            B::Min | B::Max => {
                // x if it is beyond y or NaN; else y, which may be NaN.
                let cc = if op == B::Min {
                    FloatCC::LessThan
                } else {
                    FloatCC::GreaterThan
                };
                let beyond = self.b.ins().fcmp(cc, x, y);
                let nan = self.b.ins().fcmp(FloatCC::Unordered, x, x);
                let first = self.b.ins().bor(beyond, nan);
                self.choose(first, x, y)
            }
            B::Copysign if self.lanes.count == 1 => self.b.ins().fcopysign(x, y),
            B::Copysign => {
                let sign = match ty {
                    Type::F32 => Const::F32(1 << 31),
                    _ => Const::F64(1 << 63),
                };
                let sign = self.constant(sign);
                self.b.ins().bitselect(sign, y, x)
            }
            _ if float => {
                let f = builtins::binary(op).ok_or_else(|| missing(op, ty))?;
                self.call(f as usize, types::F64, ty, &[x, y])
            }
            _ => {
                let f = builtins::int_binary(op).ok_or_else(|| missing(op, ty))?;
                self.call(f as usize, types::I64, ty, &[x, y])
            }
        })
    }

    fn compare(&mut self, op: CmpOp, ty: Type, x: Value, y: Value) -> Value {
        let (float, int) = condition(op);
        match ty {
            Type::F32 | Type::F64 => self.b.ins().fcmp(float, x, y),
            Type::Bool if self.lanes.count == 1 => self.b.ins().icmp(int.unsigned(), x, y),
            // A mask of ones is -1: less than zero, so the order turns round.
            Type::Bool => self.b.ins().icmp(int, y, x),
            _ => self.b.ins().icmp(int, x, y),
        }
    }

    fn convert(&mut self, from: Type, to: Type, x: Value) -> Value {
        use Type::{Bool, F32, F64, I32, I64};
        let clif = self.lane_type(to);
        match (from, to) {
            _ if from == to => x,
            (F32, F64) => self.b.ins().fpromote(clif, x),
            (F64, F32) => self.b.ins().fdemote(clif, x),
            (F32 | F64, I32 | I64) => self.b.ins().fcvt_to_sint_sat(clif, x),
            (I32 | I64, F32 | F64) => self.b.ins().fcvt_from_sint(clif, x),
            (I32, I64) => self.b.ins().sextend(clif, x),
            (I64, I32) => self.b.ins().ireduce(clif, x),
            (_, Bool) => {
                let zero = match from {
                    F32 => Const::F32(0),
                    F64 => Const::F64(0),
                    I32 => Const::I32(0),
                    _ => Const::I64(0),
                };
                let zero = self.constant(zero);
                self.compare(CmpOp::Ne, from, x, zero)
            }
            (Bool, _) => {
                let (one, zero) = match to {
                    F32 => (Const::F32(1f32.to_bits()), Const::F32(0)),
                    F64 => (Const::F64(1f64.to_bits()), Const::F64(0)),
                    I32 => (Const::I32(1), Const::I32(0)),
                    _ => (Const::I64(1), Const::I64(0)),
                };
                let (one, zero) = (self.constant(one), self.constant(zero));
                self.choose(x, one, zero)
            }
            _ => x,
        }
    }

    /// Calls a builtin on scalars; `wide` is its operand and result type.
    fn call(&mut self, address: usize, wide: ir::Type, ty: Type, args: &[Value]) -> Value {
        let args: Vec<Value> = args
            .iter()
            .map(|&v| match ty {
                Type::F32 => self.b.ins().fpromote(wide, v),
                Type::I32 => self.b.ins().sextend(wide, v),
                _ => v,
            })
            .collect();
        let mut signature = Signature::new(self.b.func.signature.call_conv);
        signature.params = vec![AbiParam::new(wide); args.len()];
        signature.returns = vec![AbiParam::new(wide)];
        let signature = self.b.import_signature(signature);
        let f = self.b.ins().iconst(types::I64, address as i64);
        let call = self.b.ins().call_indirect(signature, f, &args);
        let result = self.b.inst_results(call)[0];
        match ty {
            Type::F32 => self.b.ins().fdemote(types::F32, result),
            Type::I32 => self.b.ins().ireduce(types::I32, result),
            _ => result,
        }
    }
}
