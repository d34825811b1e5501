//! Symbolic sizes: the text form that sympy gives to PyTorch's expressions, read and evaluated.

use super::parse::parse;
use std::collections::HashMap;
use std::fmt;

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
    Where,
    Abs,
    FloorToInt,
    CeilToInt,
    TruncToInt,
    RoundToInt,
    TruncToFloat,
    ToFloat,
    TrueDiv,
    Sqrt,
    Identity,
    LShift,
    RShift,
    Lt,
    Le,
    Gt,
    Ge,
    Eq,
    Ne,
    And,
    Or,
    Not,
}

/// A value: an exact fraction (sizes are whole ones) or a float.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// numerator, denominator > 0, reduced
    Exact(i128, i128),
    /// a Python float
    Float(f64),
}

/// Values of symbols.
pub type Symbols = HashMap<String, Number>;

impl Number {
    /// A whole number.
    pub fn int(i: i64) -> Number {
        Number::Exact(i.into(), 1)
    }

    /// As a whole number, if it is one.
    pub fn as_int(self) -> Option<i64> {
        match self {
            Number::Exact(n, 1) => i64::try_from(n).ok(),
            _ => None,
        }
    }

    /// As a float.
    pub fn as_float(self) -> f64 {
        match self {
            Number::Exact(n, d) => n as f64 / d as f64,
            Number::Float(x) => x,
        }
    }

    fn ratio(n: i128, d: i128) -> Option<Number> {
        let (mut a, mut b) = (n.unsigned_abs(), d.unsigned_abs());
        while b != 0 {
            (a, b) = (b, a % b);
        }
        let gcd = i128::try_from(a).ok().filter(|&g| g != 0)?;
        let sign = if d < 0 { -1 } else { 1 };
        (d != 0).then(|| Number::Exact(sign * n / gcd, sign * d / gcd))
    }

    fn truth(self) -> bool {
        self.as_float() != 0.0
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Number::Exact(n, 1) => write!(f, "{n}"),
            Number::Exact(n, d) => write!(f, "{n}/{d}"),
            Number::Float(x) => write!(f, "{x:?}"),
        }
    }
}

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
        (F::Where, &[c, a, b]) => Some(if c.truth() { a } else { b }),
        (F::FloorToInt, &[a]) => floor(a),
        (F::CeilToInt, &[a]) => ceil(a),
        (F::TruncToInt, &[a]) if a.as_float() < 0.0 => ceil(a),
        (F::TruncToInt, &[a]) => floor(a),
        (F::RoundToInt, &[a]) => whole(a.as_float().round_ties_even()),
        (F::TruncToFloat, &[a]) => Some(Number::Float(a.as_float().trunc())),
        (F::ToFloat, &[a]) => Some(Number::Float(a.as_float())),
        (F::TrueDiv, &[a, b]) => Some(Number::Float(a.as_float() / b.as_float())),
        (F::Sqrt, &[a]) => Some(Number::Float(a.as_float().sqrt())),
        (F::Identity, &[a]) => Some(a),
        (F::LShift, &[a, b]) => mul(a, pow(Number::int(2), b)?),
        (F::RShift, &[a, b]) => floor(mul(a, inverse(pow(Number::int(2), b)?)?)?),
        (F::Lt, &[a, b]) => less(a, b).map(truth),
        (F::Gt, &[a, b]) => less(b, a).map(truth),
        (F::Le, &[a, b]) => less(b, a).map(|l| truth(!l)),
        (F::Ge, &[a, b]) => less(a, b).map(|l| truth(!l)),
        (F::Eq, &[a, b]) => Some(truth(equal(a, b)?)),
        (F::Ne, &[a, b]) => Some(truth(!equal(a, b)?)),
        _ => None,
    }
}

fn truth(b: bool) -> Number {
    Number::int(b.into())
}

fn add(a: Number, b: Number) -> Option<Number> {
    match (a, b) {
        (Number::Exact(n, d), Number::Exact(m, e)) => Number::ratio(
            n.checked_mul(e)?.checked_add(m.checked_mul(d)?)?,
            d.checked_mul(e)?,
        ),
        _ => Some(Number::Float(a.as_float() + b.as_float())),
    }
}

fn mul(a: Number, b: Number) -> Option<Number> {
    match (a, b) {
        (Number::Exact(n, d), Number::Exact(m, e)) => {
            Number::ratio(n.checked_mul(m)?, d.checked_mul(e)?)
        }
        _ => Some(Number::Float(a.as_float() * b.as_float())),
    }
}

fn inverse(a: Number) -> Option<Number> {
    match a {
        Number::Exact(n, d) => Number::ratio(d, n),
        Number::Float(x) => Some(Number::Float(1.0 / x)),
    }
}

fn pow(a: Number, b: Number) -> Option<Number> {
    match (a, b) {
        (Number::Exact(n, d), Number::Exact(m, 1)) => {
            let power = u32::try_from(m.checked_abs()?).ok()?;
            let p = Number::ratio(n.checked_pow(power)?, d.checked_pow(power)?)?;
            if m < 0 { inverse(p) } else { Some(p) }
        }
        _ => Some(Number::Float(a.as_float().powf(b.as_float()))),
    }
}

fn whole(x: f64) -> Option<Number> {
    (x.abs() < i64::MAX as f64).then(|| Number::int(x as i64))
}

fn floor(a: Number) -> Option<Number> {
    match a {
        Number::Exact(n, d) => Some(Number::Exact(n.div_euclid(d), 1)),
        Number::Float(x) => whole(x.floor()),
    }
}

fn ceil(a: Number) -> Option<Number> {
    mul(floor(mul(a, Number::int(-1))?)?, Number::int(-1))
}

/// `a - b * floor(a / b)`, as Python's.
fn modulo(a: Number, b: Number) -> Option<Number> {
    let q = floor(mul(a, inverse(b)?)?)?;
    add(a, mul(mul(b, q)?, Number::int(-1))?)
}

fn less(a: Number, b: Number) -> Option<bool> {
    match (a, b) {
        (Number::Exact(n, d), Number::Exact(m, e)) => Some(n.checked_mul(e)? < m.checked_mul(d)?),
        _ => Some(a.as_float() < b.as_float()),
    }
}

fn equal(a: Number, b: Number) -> Option<bool> {
    Some(!less(a, b)? && !less(b, a)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Number {
        let symbols = [("s0", 7), ("s77", 12), ("u1", 3)];
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
        ];
        for (text, want) in cases {
            assert_eq!(value(text), Number::int(want), "{text}");
        }
        assert_eq!(
            value("FloatTrueDiv(1.0, ToFloat(s77))").as_float(),
            1.0 / 12.0
        );
        assert_eq!(value("OpaqueUnaryFn_sqrt(s77)").as_float(), 12f64.sqrt());
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
