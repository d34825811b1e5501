//! Which types each operation takes and gives, in kernels and in graphs.

use super::{BinaryOp, Const, Inst, ReduceOp, Type, UnaryOp, ValueId};
use ipex_runtime::DType;

/// Whether an instruction that defines a value of type `result` is well-typed. Loads and variables
/// depend on more than types.
pub fn fits(inst: &Inst, result: Type, ty: impl Fn(ValueId) -> Type) -> bool {
    let all = |args: &[ValueId], t: Type| args.iter().all(|&v| ty(v) == t);
    match inst {
        Inst::Const(c) => constant(*c) == result,
        Inst::Var(_) => result == Type::I64,
        Inst::Load { .. } => true,
        Inst::Unary { op, arg } => unary(*op, ty(*arg)) == Some(result),
        Inst::Binary { op, args } => all(args, result) && binary(*op, result),
        Inst::Fma { args } => all(args, result) && result.is_float(),
        Inst::Compare { args: [a, b], .. } => ty(*a) == ty(*b) && result == Type::Bool,
        Inst::Select {
            cond,
            on_true,
            on_false,
        } => ty(*cond) == Type::Bool && all(&[*on_true, *on_false], result),
        Inst::Convert { to, .. } => *to == result,
        Inst::Narrow { to, arg } => {
            use DType::{BF16, F16, I8, I16, U8};
            matches!(to, BF16 | F16 | I8 | I16 | U8)
                && Type::of(*to) == result
                && ty(*arg) == result
        }
        Inst::Scan { op, arg } => ty(*arg) == result && reduces(*op, result),
    }
}

/// The type of a constant.
pub fn constant(c: Const) -> Type {
    match c {
        Const::F32(_) => Type::F32,
        Const::F64(_) => Type::F64,
        Const::I32(_) => Type::I32,
        Const::I64(_) => Type::I64,
        Const::Bool(_) => Type::Bool,
    }
}

/// The result's type, if `op` takes this one.
pub fn unary(op: UnaryOp, arg: Type) -> Option<Type> {
    use UnaryOp as U;
    match (op, arg) {
        (U::Neg | U::Abs, Type::Bool) => None,
        (U::Neg | U::Abs, ty) => Some(ty),
        (U::Not, ty) => (!ty.is_float()).then_some(ty),
        (U::IsNan, ty) => ty.is_float().then_some(Type::Bool),
        (U::Bitcast, Type::F32) => Some(Type::I32),
        (U::Bitcast, Type::I32) => Some(Type::F32),
        (U::Bitcast, Type::F64) => Some(Type::I64),
        (U::Bitcast, Type::I64) => Some(Type::F64),
        (U::Bitcast, Type::Bool) => None,
        (_, ty) => ty.is_float().then_some(ty),
    }
}

/// Whether both operands and the result may have this type.
pub fn binary(op: BinaryOp, ty: Type) -> bool {
    use BinaryOp as B;
    match op {
        B::Min | B::Max => true,
        B::Add | B::Sub | B::Mul | B::Div | B::FloorDiv | B::Rem | B::Fmod | B::Pow => {
            ty != Type::Bool
        }
        B::Atan2 | B::Hypot | B::Nextafter | B::Copysign => ty.is_float(),
        B::And | B::Or | B::Xor => !ty.is_float(),
        B::Shl | B::Shr => matches!(ty, Type::I32 | Type::I64),
    }
}

/// Whether values of this type can be combined by `op`.
pub fn reduces(op: ReduceOp, ty: Type) -> bool {
    match op {
        ReduceOp::Sum | ReduceOp::Prod => ty != Type::Bool,
        ReduceOp::Min | ReduceOp::Max => true,
        ReduceOp::Any | ReduceOp::All => ty == Type::Bool,
    }
}
