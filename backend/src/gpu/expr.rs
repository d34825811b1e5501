//! What a kernel without loops of its own computes of an element, in a normal form.

use ipex_jit::kernel::{
    BinaryOp, CmpOp, Const, Index, Inst, Kernel, Mem, ParamId, Stmt, UnaryOp, ValueId,
};
use std::cmp::Ordering;
use std::collections::HashMap;

/// A value: sums and products are flat, their constants joined and their operands sorted, so that two
/// ways to write one function are the same. Rounding to a narrow type in between is left out.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
pub enum Expr {
    /// An element of a parameter.
    Load(ParamId),
    /// A constant and what is added to it.
    Sum(f64, Vec<Expr>),
    /// A constant and what it is multiplied by.
    Product(f64, Vec<Expr>),
    /// The larger one of a value and a constant.
    Max(Box<Expr>, f64),
    /// The smaller one of a value and a constant.
    Min(Box<Expr>, f64),
    /// A value, times this slope where it is no larger than 0.
    Leaky(Box<Expr>, f64),
    /// Whether a value is larger than 0.
    Positive(Box<Expr>),
    /// A function of a value.
    Call(Function, Box<Expr>),
}

/// Functions that occur in activations.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub enum Function {
    Erf,
    Tanh,
    Sigmoid,
}

/// Relative difference of constants that are taken for the same: they were rounded to f32.
const SAME: f64 = 1e-6;

impl Expr {
    /// The sum of some values.
    pub fn sum(terms: impl IntoIterator<Item = Expr>) -> Expr {
        let (mut constant, mut all) = (0.0, Vec::new());
        for term in terms {
            match term {
                Expr::Sum(c, more) => {
                    constant += c;
                    all.extend(more);
                }
                other => all.push(other),
            }
        }
        if constant == 0.0 && all.len() == 1 {
            return all.remove(0);
        }
        sort(&mut all);
        Expr::Sum(constant, all)
    }

    /// The product of some values.
    pub fn product(factors: impl IntoIterator<Item = Expr>) -> Expr {
        let (mut constant, mut all) = (1.0, Vec::new());
        for factor in factors {
            match factor {
                Expr::Product(c, more) => {
                    constant *= c;
                    all.extend(more);
                }
                Expr::Sum(c, terms) if terms.is_empty() => constant *= c,
                other => all.push(other),
            }
        }
        match all.len() {
            0 => return Expr::constant(constant),
            1 if constant == 1.0 => return all.remove(0),
            _ => sort(&mut all),
        }
        Expr::Product(constant, all)
    }

    /// A number.
    pub fn constant(x: f64) -> Expr {
        Expr::Sum(x, Vec::new())
    }

    /// The number that a value is.
    fn as_constant(&self) -> Option<f64> {
        match self {
            Expr::Sum(c, terms) if terms.is_empty() => Some(*c),
            _ => None,
        }
    }

    /// Whether both are the same, but for the rounding of constants.
    pub fn is_like(&self, other: &Expr) -> bool {
        let near = |a: f64, b: f64| (a - b).abs() <= SAME * a.abs().max(b.abs());
        let all = |a: &[Expr], b: &[Expr]| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is_like(b))
        };
        match (self, other) {
            (Expr::Load(a), Expr::Load(b)) => a == b,
            (Expr::Sum(a, x), Expr::Sum(b, y)) | (Expr::Product(a, x), Expr::Product(b, y)) => {
                near(*a, *b) && all(x, y)
            }
            (Expr::Max(x, a), Expr::Max(y, b))
            | (Expr::Min(x, a), Expr::Min(y, b))
            | (Expr::Leaky(x, a), Expr::Leaky(y, b)) => near(*a, *b) && x.is_like(y),
            (Expr::Positive(x), Expr::Positive(y)) => x.is_like(y),
            (Expr::Call(f, x), Expr::Call(g, y)) => f == g && x.is_like(y),
            _ => false,
        }
    }

    /// The value and all that it is made of.
    pub fn parts(&self) -> Vec<&Expr> {
        let mut all = vec![self];
        match self {
            Expr::Load(_) => {}
            Expr::Sum(_, of) | Expr::Product(_, of) => all.extend(of.iter().flat_map(Expr::parts)),
            Expr::Max(of, _)
            | Expr::Min(of, _)
            | Expr::Leaky(of, _)
            | Expr::Positive(of)
            | Expr::Call(_, of) => all.extend(of.parts()),
        }
        all
    }

    /// Whether it reads a parameter.
    pub fn reads(&self, param: ParamId) -> bool {
        self.parts().contains(&&Expr::Load(param))
    }
}

fn sort(all: &mut [Expr]) {
    all.sort_by(|a, b| a.partial_cmp(b).unwrap_or(Ordering::Equal));
}

/// What a kernel stores, where, and where it loads each parameter; none if it is more than that.
pub struct Element<'a> {
    /// The value.
    pub value: Expr,
    /// Where it is stored.
    pub store: (ParamId, &'a Index),
    /// Where parameters are loaded.
    pub loads: HashMap<ParamId, &'a Index>,
}

/// The element that a nest of loops around one store computes.
pub fn element(kernel: &Kernel) -> Option<Element<'_>> {
    let mut values: HashMap<ValueId, Expr> = HashMap::new();
    let mut loads: HashMap<ParamId, &Index> = HashMap::new();
    let (mut body, mut nest) = (&kernel.root.body, &kernel.root);
    loop {
        if !nest.carries.is_empty() {
            return None;
        }
        let (last, before) = body.split_last()?;
        for stmt in before {
            let Stmt::Let { value, inst } = stmt else {
                return None;
            };
            if let Inst::Load {
                mem: Mem::Param(p),
                index,
            } = inst
                && *loads.entry(*p).or_insert(index) != index
            {
                return None;
            }
            // What is no such value may still be the index of something; then it is not found below.
            if let Some(e) = expr(inst, &values) {
                values.insert(*value, e);
            }
        }
        match last {
            Stmt::Loop(inner) => (body, nest) = (&inner.body, inner),
            Stmt::Store {
                mem: Mem::Param(p),
                index,
                value,
            } => {
                return Some(Element {
                    value: values.remove(value)?,
                    store: (*p, index),
                    loads,
                });
            }
            _ => return None,
        }
    }
}

/// `x > 0 ? x : slope * x`
fn leaky(cond: Expr, on_true: Expr, on_false: &Expr) -> Option<Expr> {
    let Expr::Product(slope, factors) = on_false else {
        return None;
    };
    let same = cond == Expr::Positive(Box::new(on_true.clone())) && *factors == [on_true.clone()];
    same.then(|| Expr::Leaky(Box::new(on_true), *slope))
}

fn expr(inst: &Inst, values: &HashMap<ValueId, Expr>) -> Option<Expr> {
    let of = |v: &ValueId| values.get(v).cloned();
    let negative = |e: Expr| Expr::product([Expr::constant(-1.0), e]);
    Some(match inst {
        Inst::Const(Const::F32(bits)) => Expr::constant(f32::from_bits(*bits).into()),
        Inst::Load {
            mem: Mem::Param(p), ..
        } => Expr::Load(*p),
        Inst::Narrow { arg, .. } => of(arg)?,
        Inst::Unary { op, arg } => {
            let function = match op {
                UnaryOp::Neg => return Some(negative(of(arg)?)),
                UnaryOp::Erf => Function::Erf,
                UnaryOp::Tanh => Function::Tanh,
                UnaryOp::Sigmoid => Function::Sigmoid,
                _ => return None,
            };
            Expr::Call(function, Box::new(of(arg)?))
        }
        Inst::Compare {
            op: CmpOp::Gt,
            args: [a, b],
        } if of(b)?.as_constant() == Some(0.0) => Expr::Positive(Box::new(of(a)?)),
        Inst::Select {
            cond,
            on_true,
            on_false,
        } => leaky(of(cond)?, of(on_true)?, &of(on_false)?)?,
        Inst::Fma { args: [a, b, c] } => Expr::sum([Expr::product([of(a)?, of(b)?]), of(c)?]),
        Inst::Binary { op, args: [a, b] } => {
            let (a, b) = (of(a)?, of(b)?);
            match (op, b.as_constant()) {
                (BinaryOp::Add, _) => Expr::sum([a, b]),
                (BinaryOp::Sub, _) => Expr::sum([a, negative(b)]),
                (BinaryOp::Mul, _) => Expr::product([a, b]),
                (BinaryOp::Div, Some(c)) => Expr::product([a, Expr::constant(1.0 / c)]),
                (BinaryOp::Pow, Some(3.0)) => Expr::product([a.clone(), a.clone(), a]),
                (BinaryOp::Max, Some(c)) => Expr::Max(Box::new(a), c),
                (BinaryOp::Min, Some(c)) => Expr::Min(Box::new(a), c),
                _ => return None,
            }
        }
        _ => return None,
    })
}
