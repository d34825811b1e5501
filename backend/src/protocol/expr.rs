//! Symbolic sizes: the text form that sympy gives to PyTorch's expressions, read and evaluated.

pub use super::number::Number;
use super::number::{
    add, ceil, dense, equal, floor, inverse, less, modulo, mul, pow, round_decimal, truth, whole,
};
use super::parse::parse;
use std::collections::HashMap;

/// An expression over symbols (`s0`, `s77`, ...).
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// A number.
    Number(Number),
    /// A symbol.
    Symbol(String),
    /// A function or operator by sympy's or PyTorch's name.
    Call(Function, Vec<Expr>),
}

/// What an expression may apply; named as in `torch/utils/_sympy/functions.py`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "sympy's and PyTorch's names")]
pub enum Function {
    Add,
    Mul,
    /// Division of exact numbers: `s0/2`.
    Ratio,
    Neg,
    Pow,
    FloorDiv,
    CeilDiv,
    Mod,
    ModularIndexing,
    Max,
    Min,
    /// `Where(c, a, b)`, and sympy's `ITE`
    Where,
    /// value, condition, value, condition, ...: the value of the first condition that holds
    Piecewise,
    Abs,
    Sign,
    FloorToInt,
    CeilToInt,
    TruncToInt,
    RoundToInt,
    RoundDecimal,
    TruncToFloat,
    ToFloat,
    TrueDiv,
    Elementary(Elementary),
    Identity,
    LShift,
    RShift,
    BitAnd,
    BitOr,
    BitXor,
    /// sizes, then strides: whether they fill their memory
    IsNonOverlappingAndDense,
    Lt,
    Le,
    Gt,
    Ge,
    Eq,
    Ne,
    And,
    Or,
    Xor,
    Not,
}

/// Functions of Python's `math`: PyTorch's `OpaqueUnaryFn_sin` and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "Python's names")]
pub enum Elementary {
    Sqrt,
    Exp,
    Log,
    Log2,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Tanh,
    Asinh,
}

impl Elementary {
    /// The function of that name.
    pub fn named(name: &str) -> Option<Elementary> {
        use Elementary as E;
        Some(match name {
            "sqrt" => E::Sqrt,
            "exp" => E::Exp,
            "log" => E::Log,
            "log2" => E::Log2,
            "sin" => E::Sin,
            "cos" => E::Cos,
            "tan" => E::Tan,
            "asin" => E::Asin,
            "acos" => E::Acos,
            "atan" => E::Atan,
            "sinh" => E::Sinh,
            "cosh" => E::Cosh,
            "tanh" => E::Tanh,
            "asinh" => E::Asinh,
            _ => return None,
        })
    }

    fn of(self, x: f64) -> f64 {
        use Elementary as E;
        match self {
            E::Sqrt => x.sqrt(),
            E::Exp => x.exp(),
            E::Log => x.ln(),
            E::Log2 => x.log2(),
            E::Sin => x.sin(),
            E::Cos => x.cos(),
            E::Tan => x.tan(),
            E::Asin => x.asin(),
            E::Acos => x.acos(),
            E::Atan => x.atan(),
            E::Sinh => x.sinh(),
            E::Cosh => x.cosh(),
            E::Tanh => x.tanh(),
            E::Asinh => x.asinh(),
        }
    }
}

/// Values of symbols.
pub type Symbols = HashMap<String, Number>;

impl Expr {
    /// Reads sympy's text. An error says what was expected and where.
    pub fn parse(text: &str) -> Result<Expr, String> {
        parse(text).map_err(|(at, expected)| format!("{text:?}, column {}: {expected}", at + 1))
    }

    /// The value for these symbols; an error names a symbol without a value, or says that a
    /// function is undefined there.
    pub fn value(&self, symbols: &Symbols) -> Result<Number, String> {
        match self {
            Expr::Number(n) => Ok(*n),
            Expr::Symbol(s) => {
                let value = symbols.get(s).copied();
                value.ok_or_else(|| format!("the size {s} is known at run time only"))
            }
            // What is not chosen may be undefined.
            Expr::Call(Function::Where, args) if args.len() == 3 => {
                let chosen = if args[0].value(symbols)?.truth() {
                    1
                } else {
                    2
                };
                args[chosen].value(symbols)
            }
            Expr::Call(Function::Piecewise, args) => {
                for pair in args.chunks_exact(2) {
                    if pair[1].value(symbols)?.truth() {
                        return pair[0].value(symbols);
                    }
                }
                Err("no condition of a Piecewise holds".into())
            }
            Expr::Call(f, args) => {
                let values: Vec<Number> = args
                    .iter()
                    .map(|a| a.value(symbols))
                    .collect::<Result<_, _>>()?;
                apply(*f, &values).ok_or_else(|| format!("{f:?} of {values:?} is undefined"))
            }
        }
    }

    /// Adds the symbols in it to a list.
    pub fn symbols<'a>(&'a self, found: &mut Vec<&'a str>) {
        match self {
            Expr::Number(_) => {}
            Expr::Symbol(s) => found.push(s),
            Expr::Call(_, args) => args.iter().for_each(|a| a.symbols(found)),
        }
    }
}

fn apply(f: Function, args: &[Number]) -> Option<Number> {
    use Function as F;
    let fold = |op: fn(Number, Number) -> Option<Number>| {
        let (first, rest) = args.split_first()?;
        rest.iter().try_fold(*first, |a, &b| op(a, b))
    };
    match (f, args) {
        (F::Add, _) => fold(add),
        (F::Mul, _) => fold(mul),
        (F::Max, _) => fold(|a, b| Some(if less(b, a)? { a } else { b })),
        (F::Min, _) => fold(|a, b| Some(if less(b, a)? { b } else { a })),
        (F::And, _) => Some(truth(args.iter().all(|a| a.truth()))),
        (F::Or, _) => Some(truth(args.iter().any(|a| a.truth()))),
        (F::Xor, _) => Some(truth(args.iter().filter(|a| a.truth()).count() % 2 == 1)),
        (F::Not, &[a]) => Some(truth(!a.truth())),
        (F::Neg, &[a]) => mul(a, Number::int(-1)),
        (F::Abs, &[a]) => Some(match a {
            Number::Exact(n, d) => Number::Exact(n.checked_abs()?, d),
            Number::Float(x) => Number::Float(x.abs()),
        }),
        (F::Ratio, &[a, b]) => mul(a, inverse(b)?),
        (F::Pow, &[a, b]) => pow(a, b),
        (F::FloorDiv, &[a, b]) => floor(mul(a, inverse(b)?)?),
        (F::CeilDiv, &[a, b]) => ceil(mul(a, inverse(b)?)?),
        (F::Mod, &[a, b]) => modulo(a, b),
        (F::ModularIndexing, &[a, b, c]) => modulo(floor(mul(a, inverse(b)?)?)?, c),
        (F::FloorToInt, &[a]) => floor(a),
        (F::CeilToInt, &[a]) => ceil(a),
        (F::TruncToInt, &[a]) if a.as_float() < 0.0 => ceil(a),
        (F::TruncToInt, &[a]) => floor(a),
        (F::RoundToInt, &[a]) => whole(a.as_float().round_ties_even()),
        (F::RoundDecimal, &[a, b]) => round_decimal(a.as_float(), b.as_int()?),
        (F::Sign, &[a]) => Some(Number::int(
            i64::from(less(Number::int(0), a)?) - i64::from(less(a, Number::int(0))?),
        )),
        (F::TruncToFloat, &[a]) => Some(Number::Float(a.as_float().trunc())),
        (F::ToFloat, &[a]) => Some(Number::Float(a.as_float())),
        (F::TrueDiv, &[a, b]) => Some(Number::Float(a.as_float() / b.as_float())),
        (F::Elementary(e), &[a]) => Some(Number::Float(e.of(a.as_float()))),
        (F::Identity, &[a]) => Some(a),
        (F::LShift, &[a, b]) => mul(a, pow(Number::int(2), b)?),
        (F::RShift, &[a, b]) => floor(mul(a, inverse(pow(Number::int(2), b)?)?)?),
        (F::BitAnd, &[a, b]) => Some(Number::int(a.as_int()? & b.as_int()?)),
        (F::BitOr, &[a, b]) => Some(Number::int(a.as_int()? | b.as_int()?)),
        (F::BitXor, &[a, b]) => Some(Number::int(a.as_int()? ^ b.as_int()?)),
        (F::IsNonOverlappingAndDense, _) => dense(args).map(truth),
        (F::Lt, &[a, b]) => less(a, b).map(truth),
        (F::Gt, &[a, b]) => less(b, a).map(truth),
        (F::Le, &[a, b]) => less(b, a).map(|l| truth(!l)),
        (F::Ge, &[a, b]) => less(a, b).map(|l| truth(!l)),
        (F::Eq, &[a, b]) => Some(truth(equal(a, b)?)),
        (F::Ne, &[a, b]) => Some(truth(!equal(a, b)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Number {
        let symbols = [("s0", 7), ("s77", 12), ("u1", 3), ("s1", 1)];
        let symbols = symbols.map(|(s, i)| (s.to_string(), Number::int(i)));
        Expr::parse(text).unwrap().value(&symbols.into()).unwrap()
    }

    #[test]
    fn values_are_pythons() {
        let cases = [
            ("s0", 7),
            ("2*s0 + 1", 15),
            ("s0**2 - s77", 37),
            ("(s0//2)", 3),
            ("-((-s0)//2)", 4),
            ("s77/2 - 1", 5),
            ("Max(1, (s0*s77//((s77//2))))", 14),
            ("Mod(s0, 4) + PythonMod(-s0, 4)", 4),
            ("ModularIndexing(s77, 2, 4)", 2),
            ("Min(s0, s77, u1)", 3),
            ("CeilToInt(IntTrueDiv(s0, 2))", 4),
            ("TruncToInt(-3.5)", -3),
            ("RoundToInt(2.5)", 2),
            ("FloorToInt(1.5*ToFloat(s0))", 10),
            ("PowByNatural(2, u1)", 8),
            ("Where(s0 >= 7, 1, 2)", 1),
            ("Eq(s0, 7) & Ne(u1, 4)", 1),
            ("-s0 + 10", 3),
            ("-s0**2", -49),
            ("2*s0//4", 3),
            (
                "Piecewise((1, s0 > 7), (2, (s77 < 4) | Eq(u1, 3)), (3, True))",
                2,
            ),
            ("Piecewise((s0//0, s0 < 7), (s77, True))", 12),
            ("Where(s0 > 7, s77 % 0, 5)", 5),
            ("ITE(s0 < 8, s0 > 7, s0 > 6)", 0),
            (
                "BitwiseFn_bitwise_and(s77, s0) + BitwiseFn_bitwise_or(s77, u1)",
                19,
            ),
            ("BitwiseFn_bitwise_xor(s77, s0)", 11),
            ("(s0 > 2) ^ (s77 > 3) ^ ~(u1 < 3)", 1),
            ("IsNonOverlappingAndDenseIndicator(s0, 1, u1, u1, 99, 1)", 1),
            ("IsNonOverlappingAndDenseIndicator(s0, 1, u1, 4, 99, 1)", 0),
            ("sign(u1 - 5) + sign(s0)", 0),
            (
                "CeilDiv(s0, 2) + (s1*0 + s0) + LShift(1, u1) + RShift(s77, 2)",
                22,
            ),
            ("Abs(u1 - s0)", 4),
            ("(PowByNatural(2, s0)) + ((s0)) + 1", 136),
            ("Min(oo, s0)", 7),
            ("TruncToInt(TruncToFloat(ToFloat(s0)/2))", 3),
            ("12345678901234567890123*s0 - 12345678901234567890122*s0", 7),
        ];
        for (text, want) in cases {
            assert_eq!(value(text), Number::int(want), "{text}");
        }
        assert_eq!(
            value("FloatTrueDiv(1.0, ToFloat(s77))").as_float(),
            1.0 / 12.0
        );
        assert_eq!(value("OpaqueUnaryFn_sqrt(s77)").as_float(), 12f64.sqrt());
        assert_eq!(
            value("OpaqueUnaryFn_log2(ToFloat(s77)*1.5)").as_float(),
            18f64.log2()
        );
        assert_eq!(value("RoundDecimal(ToFloat(s0)/3, 2)").as_float(), 2.33);
        assert_eq!(value("RoundDecimal(2.675, 2)").as_float(), 2.67);
        assert_eq!(value("RoundDecimal(1250.0, -2)").as_float(), 1200.0);
        assert_eq!(value("-oo").as_float(), f64::NEG_INFINITY);
        assert!(value("nan").as_float().is_nan());
        assert_eq!(value("s77**0.5").as_float(), 12f64.powf(0.5));
    }

    #[test]
    fn errors_name_the_place() {
        let error = |text: &str| Expr::parse(text).unwrap_err();
        assert!(error("s0 + ").contains("column 6"), "{}", error("s0 + "));
        assert!(error("Foo(s0)").contains("Foo"));
        assert!(error("s0 s1").contains("column 4"));
        assert!(
            Expr::parse("u9")
                .unwrap()
                .value(&Symbols::new())
                .unwrap_err()
                .contains("u9")
        );
        let division = Expr::parse("s0//0").unwrap();
        assert!(
            division
                .value(&[("s0".into(), Number::int(1))].into())
                .is_err()
        );
        let deep = "(".repeat(100_000);
        assert!(Expr::parse(&deep).is_err());
    }
}
