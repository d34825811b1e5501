//! Functions that generated code calls for what it has no instructions for.

use crate::kernel::{BinaryOp, UnaryOp};

/// `f64 -> f64`
pub type Unary = extern "C" fn(f64) -> f64;
/// `(f64, f64) -> f64`
pub type Binary = extern "C" fn(f64, f64) -> f64;
/// `(i64, i64) -> i64`
pub type IntBinary = extern "C" fn(i64, i64) -> i64;

macro_rules! unary {
    ($op:expr, $($name:ident => $f:expr),* $(,)?) => {
        match $op {
            $(UnaryOp::$name => {
                extern "C" fn f(x: f64) -> f64 { let f: fn(f64) -> f64 = $f; f(x) }
                Some(f as Unary)
            })*
            _ => None,
        }
    };
}

/// The function for an operation on floats (f32 by way of f64).
pub fn unary(op: UnaryOp) -> Option<Unary> {
    unary!(op,
        Exp => f64::exp, Exp2 => f64::exp2, Expm1 => f64::exp_m1, Log => f64::ln,
        Log2 => f64::log2, Log10 => f64::log10, Log1p => f64::ln_1p, Tanh => f64::tanh,
        Erf => libm::erf, Sin => f64::sin, Cos => f64::cos, Sigmoid => |x| 1.0 / (1.0 + (-x).exp()),
        Erfc => libm::erfc, Tan => f64::tan, Asin => f64::asin, Acos => f64::acos, Atan => f64::atan,
        Sinh => f64::sinh, Cosh => f64::cosh, Asinh => libm::asinh, Acosh => libm::acosh,
        Atanh => libm::atanh, Lgamma => libm::lgamma,
    )
}

macro_rules! binary {
    ($ty:ty, $fn:ty, $op:expr, $($name:ident => $f:expr),* $(,)?) => {
        match $op {
            $(BinaryOp::$name => {
                extern "C" fn f(x: $ty, y: $ty) -> $ty { let f: fn($ty, $ty) -> $ty = $f; f(x, y) }
                Some(f as $fn)
            })*
            _ => None,
        }
    };
}

/// The function for an operation on two floats (f32 by way of f64).
pub fn binary(op: BinaryOp) -> Option<Binary> {
    binary!(f64, Binary, op,
        FloorDiv => floor_div, Rem => |x, y| { let r = x % y; if r != 0.0 && (r < 0.0) != (y < 0.0) { r + y } else { r } },
        Fmod => |x, y| x % y, Pow => f64::powf, Atan2 => f64::atan2, Hypot => f64::hypot,
        Nextafter => libm::nextafter,
    )
}

/// `torch.div(rounding_mode="floor")`: exact where the rounded quotient would not be.
fn floor_div(x: f64, y: f64) -> f64 {
    if y == 0.0 {
        return x / y;
    }
    let r = x % y;
    let mut q = (x - r) / y;
    if r != 0.0 && (y < 0.0) != (r < 0.0) {
        q -= 1.0;
    }
    if q == 0.0 {
        return (0.0f64).copysign(x / y);
    }
    let floor = q.floor();
    if q - floor > 0.5 { floor + 1.0 } else { floor }
}

/// The function for an operation on two integers.
pub fn int_binary(op: BinaryOp) -> Option<IntBinary> {
    binary!(i64, IntBinary, op,
        Div => |x, y| if y == 0 { 0 } else { x.wrapping_div(y) },
        FloorDiv => |x, y| {
            if y == 0 { return 0; }
            let q = x.wrapping_div(y);
            if x.wrapping_rem(y) != 0 && (x < 0) != (y < 0) { q - 1 } else { q }
        },
        Rem => |x, y| {
            if y == 0 { return 0; }
            let r = x.wrapping_rem(y);
            if r != 0 && (r < 0) != (y < 0) { r + y } else { r }
        },
        Fmod => |x, y| if y == 0 { 0 } else { x.wrapping_rem(y) },
        Pow => |x, y| match y {
            0.. => x.wrapping_pow(y as u32),
            _ if x == 1 => 1,
            _ if x == -1 => if y % 2 == 0 { 1 } else { -1 },
            _ => 0,
        },
        Shl => |x, y| if (0..64).contains(&y) { x << y } else { 0 },
        Shr => |x, y| x >> if (0..64).contains(&y) { y } else { 63 },
    )
}
