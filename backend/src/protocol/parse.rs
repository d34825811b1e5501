//! Recursive-descent parser of sympy's text form, with Python's precedences.

use super::expr::{Elementary, Expr, Function, Number};

/// A byte offset and what was expected there.
type Failure = (usize, String);

/// Deepest nesting that is read: a document may not exhaust the stack.
const DEEPEST: usize = 200;
/// Most operators in an expression, for the same reason.
const LONGEST: usize = 4000;

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    operators: usize,
}

/// Reads a whole expression.
pub fn parse(text: &str) -> Result<Expr, Failure> {
    let mut p = Parser {
        text,
        at: 0,
        depth: 0,
        operators: 0,
    };
    let expr = p.either()?;
    p.spaces();
    if p.at < text.len() {
        return Err((p.at, "the end or an operator was expected".into()));
    }
    Ok(expr)
}

impl Parser<'_> {
    fn spaces(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    /// Consumes the first of these tokens that comes next.
    fn token<'t>(&mut self, tokens: &[&'t str]) -> Option<&'t str> {
        self.spaces();
        let rest = &self.text[self.at..];
        let found = tokens.iter().copied().find(|t| rest.starts_with(t))?;
        self.at += found.len();
        Some(found)
    }

    fn expect(&mut self, token: &str) -> Result<(), Failure> {
        match self.token(&[token]) {
            Some(_) => Ok(()),
            None => Err((self.at, format!("{token:?} was expected"))),
        }
    }

    /// Parses with `inner`, one level deeper.
    fn nested(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<Expr, Failure>,
    ) -> Result<Expr, Failure> {
        if self.depth == DEEPEST {
            return Err((self.at, "the expression is nested too deeply".into()));
        }
        self.depth += 1;
        let expr = inner(self)?;
        self.depth -= 1;
        Ok(expr)
    }

    fn either(&mut self) -> Result<Expr, Failure> {
        self.nested(|p| {
            let mut left = p.one_of_two()?;
            while p.token(&["|"]).is_some() {
                let right = p.one_of_two()?;
                left = p.call(Function::Or, left, right)?;
            }
            Ok(left)
        })
    }

    fn one_of_two(&mut self) -> Result<Expr, Failure> {
        let mut left = self.both()?;
        while self.token(&["^"]).is_some() {
            let right = self.both()?;
            left = self.call(Function::Xor, left, right)?;
        }
        Ok(left)
    }

    fn both(&mut self) -> Result<Expr, Failure> {
        let mut left = self.comparison()?;
        while self.token(&["&"]).is_some() {
            let right = self.comparison()?;
            left = self.call(Function::And, left, right)?;
        }
        Ok(left)
    }

    fn comparison(&mut self) -> Result<Expr, Failure> {
        let left = self.sum()?;
        let function = match self.token(&["<=", ">=", "==", "!=", "<", ">"]) {
            None => return Ok(left),
            Some("<=") => Function::Le,
            Some(">=") => Function::Ge,
            Some("==") => Function::Eq,
            Some("!=") => Function::Ne,
            Some("<") => Function::Lt,
            Some(_) => Function::Gt,
        };
        let right = self.sum()?;
        self.call(function, left, right)
    }

    fn sum(&mut self) -> Result<Expr, Failure> {
        let mut left = self.product()?;
        while let Some(sign) = self.token(&["+", "-"]) {
            let right = self.product()?;
            let right = if sign == "-" {
                Expr::Call(Function::Neg, vec![right])
            } else {
                right
            };
            left = self.call(Function::Add, left, right)?;
        }
        Ok(left)
    }

    fn product(&mut self) -> Result<Expr, Failure> {
        let mut left = self.signed()?;
        while let Some(operator) = self.token(&["//", "*", "/", "%"]) {
            let function = match operator {
                "//" => Function::FloorDiv,
                "*" => Function::Mul,
                "/" => Function::Ratio,
                _ => Function::Mod,
            };
            let right = self.signed()?;
            left = self.call(function, left, right)?;
        }
        Ok(left)
    }

    fn signed(&mut self) -> Result<Expr, Failure> {
        let mut negative = false;
        while let Some(sign) = self.token(&["-", "~"]) {
            if sign == "~" {
                return Ok(Expr::Call(Function::Not, vec![self.power()?]));
            }
            negative = !negative;
        }
        let value = self.power()?;
        Ok(if negative {
            Expr::Call(Function::Neg, vec![value])
        } else {
            value
        })
    }

    fn power(&mut self) -> Result<Expr, Failure> {
        let base = self.atom()?;
        if self.token(&["**"]).is_none() {
            return Ok(base);
        }
        let exponent = self.nested(Self::signed)?;
        self.call(Function::Pow, base, exponent)
    }

    fn atom(&mut self) -> Result<Expr, Failure> {
        if self.token(&["("]).is_some() {
            let inner = self.either()?;
            self.expect(")")?;
            return Ok(inner);
        }
        let start = self.at;
        let rest = &self.text[start..];
        let exponent = |at: usize| matches!(rest.as_bytes().get(at.wrapping_sub(1)), Some(b'e'));
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != 'e');
        let mut len = number.unwrap_or(rest.len());
        if exponent(len) && rest[len..].starts_with(['-', '+']) {
            let digits = rest[len + 1..].find(|c: char| !c.is_ascii_digit());
            len = digits.map_or(rest.len(), |d| len + 1 + d);
        }
        if rest.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            self.at += len;
            return self.number(start, &rest[..len]);
        }
        let name = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let name = &rest[..name.unwrap_or(rest.len())];
        if name.is_empty() {
            return Err((
                start,
                "a number, a symbol or a function was expected".into(),
            ));
        }
        self.at += name.len();
        if self.token(&["("]).is_none() {
            return Ok(match name {
                "True" => Expr::Number(Number::int(1)),
                "False" => Expr::Number(Number::int(0)),
                "oo" | "int_oo" => Expr::Number(Number::Float(f64::INFINITY)),
                "nan" => Expr::Number(Number::Float(f64::NAN)),
                "pi" => Expr::Number(Number::Float(std::f64::consts::PI)),
                _ => Expr::Symbol(name.into()),
            });
        }
        let function = function(name).ok_or((start, format!("unknown function {name}")))?;
        let mut args = Vec::new();
        loop {
            if function == Function::Piecewise {
                self.pair(&mut args)?;
            } else {
                args.push(self.either()?);
            }
            if self.token(&[","]).is_none() {
                break;
            }
        }
        self.expect(")")?;
        Ok(Expr::Call(function, args))
    }

    /// `(value, condition)`
    fn pair(&mut self, args: &mut Vec<Expr>) -> Result<(), Failure> {
        self.expect("(")?;
        args.push(self.either()?);
        self.expect(",")?;
        args.push(self.either()?);
        self.expect(")")
    }

    fn call(&mut self, function: Function, left: Expr, right: Expr) -> Result<Expr, Failure> {
        self.operators += 1;
        if self.operators > LONGEST {
            return Err((self.at, "the expression is too long".into()));
        }
        Ok(Expr::Call(function, vec![left, right]))
    }

    fn number(&self, start: usize, text: &str) -> Result<Expr, Failure> {
        if let Ok(i) = text.parse::<i128>() {
            return Ok(Expr::Number(Number::Exact(i, 1)));
        }
        match text.parse::<f64>() {
            Ok(x) => Ok(Expr::Number(Number::Float(x))),
            Err(_) => Err((start, format!("{text} is no number"))),
        }
    }
}

fn function(name: &str) -> Option<Function> {
    use Function as F;
    Some(match name {
        "FloorDiv" | "CleanDiv" => F::FloorDiv,
        "CeilDiv" => F::CeilDiv,
        "Mod" | "PythonMod" => F::Mod,
        "ModularIndexing" => F::ModularIndexing,
        "Max" => F::Max,
        "Min" => F::Min,
        "Where" | "ITE" => F::Where,
        "Piecewise" => F::Piecewise,
        "Abs" => F::Abs,
        "sign" => F::Sign,
        "FloorToInt" | "floor" => F::FloorToInt,
        "CeilToInt" | "ceiling" => F::CeilToInt,
        "TruncToInt" => F::TruncToInt,
        "RoundToInt" => F::RoundToInt,
        "RoundDecimal" => F::RoundDecimal,
        "TruncToFloat" => F::TruncToFloat,
        "ToFloat" => F::ToFloat,
        "FloatTrueDiv" | "IntTrueDiv" => F::TrueDiv,
        "PowByNatural" | "FloatPow" => F::Pow,
        "BitwiseFn_bitwise_and" => F::BitAnd,
        "BitwiseFn_bitwise_or" => F::BitOr,
        "BitwiseFn_bitwise_xor" => F::BitXor,
        "IsNonOverlappingAndDenseIndicator" => F::IsNonOverlappingAndDense,
        "Identity" => F::Identity,
        "LShift" => F::LShift,
        "RShift" => F::RShift,
        "Eq" => F::Eq,
        "Ne" => F::Ne,
        "And" => F::And,
        "Or" => F::Or,
        "Xor" => F::Xor,
        "Not" => F::Not,
        _ => {
            let bare = name.strip_prefix("OpaqueUnaryFn_").unwrap_or(name);
            F::Elementary(Elementary::named(bare)?)
        }
    })
}
