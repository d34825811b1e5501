//! Names of operations in the text form.

use super::inst::{BinaryOp, CmpOp, ReduceOp, UnaryOp};
use super::types::Type;

/// Gives an enum its list of variants, and each of them a name; a variant left out does not compile.
macro_rules! names {
    ($ty:ident: $($variant:ident $name:literal),* $(,)?) => {
        impl $ty {
            /// Every variant.
            pub const ALL: &[$ty] = &[$($ty::$variant),*];

            /// The name in the text form.
            pub fn name(self) -> &'static str {
                match self {
                    $($ty::$variant => $name,)*
                }
            }

            /// The inverse of `name`.
            pub fn from_name(name: &str) -> Option<$ty> {
                Self::ALL.iter().copied().find(|v| v.name() == name)
            }
        }

        impl std::fmt::Display for $ty {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

names!(Type: F32 "f32", F64 "f64", I32 "i32", I64 "i64", Bool "bool");

names!(UnaryOp:
    Neg "neg", Abs "abs", Not "not", Sqrt "sqrt", Floor "floor", Ceil "ceil", Trunc "trunc",
    Round "round", Exp "exp", Exp2 "exp2", Expm1 "expm1", Log "log", Log2 "log2", Log10 "log10",
    Log1p "log1p", Tanh "tanh", Erf "erf", Sin "sin", Cos "cos", Sigmoid "sigmoid", Erfc "erfc",
    Erfinv "erfinv", Tan "tan", Asin "asin", Acos "acos", Atan "atan", Sinh "sinh", Cosh "cosh",
    Asinh "asinh", Acosh "acosh", Atanh "atanh", Lgamma "lgamma", Digamma "digamma",
    IsNan "is_nan", Bitcast "bitcast",
);

names!(BinaryOp:
    Add "add", Sub "sub", Mul "mul", Div "div", FloorDiv "floor_div", Rem "rem", Fmod "fmod",
    Min "min", Max "max", Pow "pow", Atan2 "atan2", Hypot "hypot", Nextafter "nextafter",
    Copysign "copysign", And "and", Or "or", Xor "xor", Shl "shl", Shr "shr",
);

names!(CmpOp: Eq "eq", Ne "ne", Lt "lt", Le "le", Gt "gt", Ge "ge");

names!(ReduceOp: Sum "sum", Prod "prod", Min "min", Max "max", Any "any", All "all");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_instructions_share_a_name() {
        let unary = UnaryOp::ALL.iter().map(|op| op.name());
        let binary = BinaryOp::ALL.iter().map(|op| op.name());
        let compare = CmpOp::ALL.iter().map(|op| op.name());
        let other = ["const", "var", "load", "fma", "select", "convert", "narrow"];
        let mut names: Vec<&str> = unary.chain(binary).chain(compare).chain(other).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
