//! Exact fractions and floats, with Python's arithmetic; nothing where it is undefined.

use std::fmt;

/// A value: an exact fraction (sizes are whole ones) or a float.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// numerator, denominator > 0, reduced
    Exact(i128, i128),
    /// a Python float
    Float(f64),
}

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
        Some(Number::Exact(
            (n / gcd).checked_mul(sign)?,
            (d / gcd).checked_mul(sign).filter(|&d| d != 0)?,
        ))
    }

    /// Whether it counts as true.
    pub fn truth(self) -> bool {
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

/// 1 or 0.
pub fn truth(b: bool) -> Number {
    Number::int(b.into())
}

/// `a + b`
pub fn add(a: Number, b: Number) -> Option<Number> {
    match (a, b) {
        (Number::Exact(n, d), Number::Exact(m, e)) => Number::ratio(
            n.checked_mul(e)?.checked_add(m.checked_mul(d)?)?,
            d.checked_mul(e)?,
        ),
        _ => Some(Number::Float(a.as_float() + b.as_float())),
    }
}

/// `a * b`
pub fn mul(a: Number, b: Number) -> Option<Number> {
    match (a, b) {
        (Number::Exact(n, d), Number::Exact(m, e)) => {
            Number::ratio(n.checked_mul(m)?, d.checked_mul(e)?)
        }
        _ => Some(Number::Float(a.as_float() * b.as_float())),
    }
}

/// `1 / a`
pub fn inverse(a: Number) -> Option<Number> {
    match a {
        Number::Exact(n, d) => Number::ratio(d, n),
        Number::Float(x) => Some(Number::Float(1.0 / x)),
    }
}

/// `a ** b`
pub fn pow(a: Number, b: Number) -> Option<Number> {
    match (a, b) {
        (Number::Exact(n, d), Number::Exact(m, 1)) => {
            let power = u32::try_from(m.checked_abs()?).ok()?;
            let p = Number::ratio(n.checked_pow(power)?, d.checked_pow(power)?)?;
            if m < 0 { inverse(p) } else { Some(p) }
        }
        _ => Some(Number::Float(a.as_float().powf(b.as_float()))),
    }
}

/// A float without a fraction as a whole number.
pub fn whole(x: f64) -> Option<Number> {
    (x.abs() < i64::MAX as f64).then(|| Number::int(x as i64))
}

/// As Python's `round(x, digits)`: the nearest decimal fraction, which the text of a float is.
pub fn round_decimal(x: f64, digits: i64) -> Option<Number> {
    if digits >= 0 && x.is_finite() {
        let text = format!("{x:.*}", usize::try_from(digits.min(400)).ok()?);
        return text.parse().ok().map(Number::Float);
    }
    let unit = 10f64.powi(i32::try_from(digits.checked_neg()?).ok()?);
    Some(Number::Float((x / unit).round_ties_even() * unit))
}

/// Whether sizes (the first half) with strides (the second) fill their memory.
pub fn dense(args: &[Number]) -> Option<bool> {
    let ints: Vec<i64> = args.iter().map(|a| a.as_int()).collect::<Option<_>>()?;
    let (sizes, strides) = ints.split_at(ints.len() / 2);
    let dims = strides.iter().copied().zip(sizes.iter().copied());
    let mut dims: Vec<(i64, i64)> = dims.filter(|d| d.1 != 1).collect();
    dims.sort_unstable();
    let mut expected = 1i64;
    for (stride, size) in dims {
        if stride != expected {
            return Some(false);
        }
        expected = expected.checked_mul(size)?;
    }
    Some(true)
}

/// The largest whole number that is at most `a`.
pub fn floor(a: Number) -> Option<Number> {
    match a {
        Number::Exact(n, d) => Some(Number::Exact(n.div_euclid(d), 1)),
        Number::Float(x) => whole(x.floor()),
    }
}

/// The smallest whole number that is at least `a`.
pub fn ceil(a: Number) -> Option<Number> {
    mul(floor(mul(a, Number::int(-1))?)?, Number::int(-1))
}

/// `a - b * floor(a / b)`, as Python's.
pub fn modulo(a: Number, b: Number) -> Option<Number> {
    let q = floor(mul(a, inverse(b)?)?)?;
    add(a, mul(mul(b, q)?, Number::int(-1))?)
}

/// `a < b`
pub fn less(a: Number, b: Number) -> Option<bool> {
    match (a, b) {
        (Number::Exact(n, d), Number::Exact(m, e)) => Some(n.checked_mul(e)? < m.checked_mul(d)?),
        _ => Some(a.as_float() < b.as_float()),
    }
}

/// `a == b`; false for NaN
pub fn equal(a: Number, b: Number) -> Option<bool> {
    Some(!less(a, b)? && !less(b, a)?)
}
