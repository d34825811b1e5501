//! Instructions of the kernel IR: what one element's value is made of.

use super::entities::{ParamId, ScratchId, ValueId, VarId};
use super::types::Type;

/// An affine element index, `offset + Σ stride·var + Σ stride·value`, in elements of the memory
/// it addresses. `values` are I64 SSA values: gathers. The index of every access must lie inside
/// the tensor; lowering guarantees it for the affine part and clamps or checks gathered values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Index {
    /// Loop variables with their strides; each variable once, sorted by id, no zero stride.
    pub vars: Vec<(VarId, i64)>,
    /// Gathered components with their strides.
    pub values: Vec<(ValueId, i64)>,
    /// Constant part.
    pub offset: i64,
}

/// What a load or store addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mem {
    /// A tensor argument.
    Param(ParamId),
    /// A scratch row.
    Scratch(ScratchId),
}

/// A constant; floats by bit pattern so that NaNs print, parse and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Const {
    /// f32 bits
    F32(u32),
    /// f64 bits
    F64(u64),
    /// 32-bit integer
    I32(i32),
    /// 64-bit integer
    I64(i64),
    /// truth value
    Bool(bool),
}

/// One-operand operations; result type equals operand type unless said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the mathematical functions")]
pub enum UnaryOp {
    // f32, f64, i32, i64
    Neg,
    Abs,
    // bool -> bool; i32, i64 bitwise
    Not,
    // f32, f64, in hardware
    Sqrt,
    Floor,
    Ceil,
    Trunc,
    /// Round half to even.
    Round,
    // f32, f64: expanded by `math` for f32, built-in calls for f64
    Exp,
    Exp2,
    Expm1,
    Log,
    Log2,
    Log10,
    Log1p,
    Tanh,
    Erf,
    Sin,
    Cos,
    Sigmoid,
    // f32, f64: built-in calls
    Erfc,
    Erfinv,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Asinh,
    Acosh,
    Atanh,
    Lgamma,
    Digamma,
    // f32, f64 -> bool
    IsNan,
    /// Reinterpret bits: f32 <-> i32, f64 <-> i64.
    Bitcast,
}

/// Two-operand operations; both operands and the result have one type unless said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the operations")]
pub enum BinaryOp {
    // integers wrap
    Add,
    Sub,
    Mul,
    /// True division of floats; integers: truncating. Integer division by zero gives 0 here;
    /// `i::MIN / -1` wraps. (Lowering decides whether eager would have raised.)
    Div,
    /// Floor division: `torch.div(rounding_mode="floor")` for integers and floats.
    FloorDiv,
    /// Python's remainder (sign of the divisor): `torch.remainder`.
    Rem,
    /// C's remainder (sign of the dividend): `torch.fmod`.
    Fmod,
    /// NaN if either is NaN: `torch.minimum`.
    Min,
    /// NaN if either is NaN: `torch.maximum`.
    Max,
    /// `torch.pow`; integers by repeated squaring, negative integer exponents as PyTorch's.
    Pow,
    Atan2,
    Hypot,
    Nextafter,
    Copysign,
    // bool and integers
    And,
    Or,
    Xor,
    /// Shift left, as PyTorch: counts < 0 or >= width give 0.
    Shl,
    /// Arithmetic shift right; counts out of range give the sign.
    Shr,
}

/// Comparisons; the result is Bool. Floats: ordered, but `Ne` is true for NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the comparisons")]
pub enum CmpOp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// How a loop-carried accumulator combines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the reductions")]
pub enum ReduceOp {
    Sum,
    Prod,
    /// NaN-propagating.
    Min,
    /// NaN-propagating.
    Max,
    /// bool
    Any,
    /// bool
    All,
}

impl ReduceOp {
    /// What combines two values.
    pub fn step(self) -> BinaryOp {
        match self {
            ReduceOp::Sum => BinaryOp::Add,
            ReduceOp::Prod => BinaryOp::Mul,
            ReduceOp::Min => BinaryOp::Min,
            ReduceOp::Max => BinaryOp::Max,
            ReduceOp::Any => BinaryOp::Or,
            ReduceOp::All => BinaryOp::And,
        }
    }
}

/// An instruction that defines one SSA value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the fields are named by their role")]
pub enum Inst {
    Const(Const),
    /// The loop variable as I64.
    Var(VarId),
    /// The element at `index`, converted to the compute type of the memory's dtype
    /// ([`Type::of`]).
    Load {
        mem: Mem,
        index: Index,
    },
    Unary {
        op: UnaryOp,
        arg: ValueId,
    },
    Binary {
        op: BinaryOp,
        args: [ValueId; 2],
    },
    /// `args[0]*args[1] + args[2]`, one rounding. f32, f64.
    Fma {
        args: [ValueId; 3],
    },
    Compare {
        op: CmpOp,
        args: [ValueId; 2],
    },
    /// `cond ? on_true : on_false`
    Select {
        cond: ValueId,
        on_true: ValueId,
        on_false: ValueId,
    },
    /// Numeric conversion: float -> int truncates (saturating, NaN -> 0, except to the width
    /// eager wraps), int -> float rounds to nearest, x -> Bool is `x != 0`.
    Convert {
        to: Type,
        arg: ValueId,
    },
    /// Wrap to the value range of a narrow storage dtype, staying in its compute type:
    /// i8, i16, u8 by bits; f16, bf16 by rounding to nearest even.
    Narrow {
        to: ipex_runtime::DType,
        arg: ValueId,
    },
    /// `arg` combined over the iterations of the loop so far, this one included, in their order. Only in
    /// a loop whose iterations have an order: neither the outermost nor a vector loop.
    Scan {
        op: ReduceOp,
        arg: ValueId,
    },
}

impl Inst {
    /// The values that it takes, without those of an index.
    pub fn operands(&self) -> Vec<ValueId> {
        match self {
            Inst::Const(_) | Inst::Var(_) | Inst::Load { .. } => Vec::new(),
            Inst::Unary { arg, .. }
            | Inst::Convert { arg, .. }
            | Inst::Narrow { arg, .. }
            | Inst::Scan { arg, .. } => vec![*arg],
            Inst::Binary { args, .. } | Inst::Compare { args, .. } => args.to_vec(),
            Inst::Fma { args } => args.to_vec(),
            Inst::Select {
                cond,
                on_true,
                on_false,
            } => vec![*cond, *on_true, *on_false],
        }
    }
}

impl Inst {
    /// Calls `f` with every value that it takes, without those of an index.
    pub fn each_operand(&mut self, mut f: impl FnMut(&mut ValueId)) {
        match self {
            Inst::Const(_) | Inst::Var(_) | Inst::Load { .. } => {}
            Inst::Unary { arg, .. }
            | Inst::Convert { arg, .. }
            | Inst::Narrow { arg, .. }
            | Inst::Scan { arg, .. } => f(arg),
            Inst::Binary { args, .. } | Inst::Compare { args, .. } => args.iter_mut().for_each(f),
            Inst::Fma { args } => args.iter_mut().for_each(f),
            Inst::Select {
                cond,
                on_true,
                on_false,
            } => [cond, on_true, on_false].into_iter().for_each(f),
        }
    }
}

/// The value that an accumulator starts from.
pub fn identity(op: ReduceOp, ty: Type) -> Const {
    use ReduceOp as R;
    let float = match op {
        R::Sum | R::Any => 0.0,
        R::Prod | R::All => 1.0,
        R::Min => f64::INFINITY,
        R::Max => f64::NEG_INFINITY,
    };
    let int = |min: i64, max: i64| match op {
        R::Sum | R::Any => 0,
        R::Prod | R::All => 1,
        R::Min => max,
        R::Max => min,
    };
    match ty {
        Type::F32 => Const::F32((float as f32).to_bits()),
        Type::F64 => Const::F64(float.to_bits()),
        Type::I32 => Const::I32(int(i32::MIN.into(), i32::MAX.into()) as i32),
        Type::I64 => Const::I64(int(i64::MIN, i64::MAX)),
        Type::Bool => Const::Bool(matches!(op, R::Min | R::Prod | R::All)),
    }
}
