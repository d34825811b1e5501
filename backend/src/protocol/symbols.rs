//! The symbols of a document: where a call's arguments give their values, and what its sizes and
//! numbers are for given values.

use super::document::{
    Argument, Document, Graph, SymArgument, SymBool, SymExpr, SymFloat, SymInt, TensorMeta,
};
use super::expr::{Expr, Number, Symbols};
use crate::error::Error;

/// Where a symbol's value is found in a call's arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The n-th argument is a number.
    Argument(usize),
    /// A size of the n-th argument.
    Size(usize, usize),
    /// A stride of the n-th argument.
    Stride(usize, usize),
}

/// A symbol with its source and its value when the graph was traced.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// `s0`
    pub symbol: String,
    /// Where calls give it.
    pub source: Source,
    /// Its value when traced.
    pub hint: Option<Number>,
}

/// The bindings of all symbols that arguments give, each once: numbers first, then sizes, then
/// strides.
pub fn bindings(document: &Document) -> Vec<Binding> {
    let graph = &document.graph_module.graph;
    let mut found: Vec<Binding> = Vec::new();
    let mut bind = |expr: &SymExpr, source: Source| {
        if let Expr::Symbol(symbol) = &expr.expr
            && found.iter().all(|b| b.symbol != *symbol)
        {
            found.push(Binding {
                symbol: symbol.clone(),
                source,
                hint: expr.hint,
            });
        }
    };
    for (n, input) in graph.inputs.iter().enumerate() {
        if let Some(expr) = number_of(graph, input) {
            bind(expr, Source::Argument(n));
        }
    }
    for strides in [false, true] {
        for (n, input) in graph.inputs.iter().enumerate() {
            let Argument::AsTensor(t) = input else {
                continue;
            };
            let Some(meta) = graph.tensor_values.get(&t.name) else {
                continue;
            };
            let list = if strides { &meta.strides } else { &meta.sizes };
            for (d, size) in list.iter().enumerate() {
                if let SymInt::AsExpr(expr) = size {
                    let source = if strides {
                        Source::Stride(n, d)
                    } else {
                        Source::Size(n, d)
                    };
                    bind(expr, source);
                }
            }
        }
    }
    found
}

/// The values that the symbols had when the graph was traced.
pub fn hints(document: &Document) -> Symbols {
    bindings(document)
        .into_iter()
        .filter_map(|b| Some((b.symbol, b.hint?)))
        .collect()
}

/// The expression of an argument that is a symbolic number.
fn number_of<'a>(graph: &'a Graph, input: &Argument) -> Option<&'a SymExpr> {
    let (Argument::AsSymInt(SymArgument::AsName(name))
    | Argument::AsSymFloat(SymArgument::AsName(name))) = input
    else {
        return None;
    };
    if let Some(SymInt::AsExpr(expr)) = graph.sym_int_values.get(name) {
        return Some(expr);
    }
    match graph.sym_float_values.get(name)? {
        SymFloat::AsExpr(expr) => Some(expr),
        SymFloat::AsFloat(_) => None,
    }
}

/// The numbers of a document for given values of its symbols.
pub struct Resolver<'a> {
    graph: &'a Graph,
    symbols: &'a Symbols,
}

impl<'a> Resolver<'a> {
    /// Of this document, for these values.
    pub fn new(document: &'a Document, symbols: &'a Symbols) -> Self {
        Resolver {
            graph: &document.graph_module.graph,
            symbols,
        }
    }

    /// What the document states of a tensor.
    pub fn tensor(&self, name: &str) -> Option<&'a TensorMeta> {
        self.graph.tensor_values.get(name)
    }

    /// A size or stride.
    pub fn int(&self, value: &SymInt) -> Result<i64, Error> {
        match value {
            SymInt::AsInt(i) => Ok(*i),
            SymInt::AsExpr(e) => {
                let n = self.value(e)?;
                n.as_int()
                    .ok_or_else(|| Error::Invalid(format!("{:?} is {n}, no integer", e.expr)))
            }
        }
    }

    /// A number that an argument names or states.
    pub fn number(&self, argument: &SymArgument) -> Result<Number, Error> {
        let name = match argument {
            SymArgument::AsInt(i) => return Ok(Number::int(*i)),
            SymArgument::AsBool(b) => return Ok(Number::int((*b).into())),
            SymArgument::AsFloat(x) => {
                let x = x.value();
                return x
                    .map(Number::Float)
                    .ok_or_else(|| Error::Invalid(format!("{argument:?} is no number")));
            }
            SymArgument::AsName(name) => name,
        };
        if let Some(value) = self.graph.sym_int_values.get(name) {
            return self.int(value).map(Number::int);
        }
        match (
            self.graph.sym_float_values.get(name),
            self.graph.sym_bool_values.get(name),
        ) {
            (Some(SymFloat::AsExpr(e)), _) => Ok(Number::Float(self.value(e)?.as_float())),
            (Some(SymFloat::AsFloat(x)), _) if x.value().is_some() => {
                Ok(Number::Float(x.value().unwrap_or_default()))
            }
            (_, Some(SymBool::AsExpr(e))) => self.value(e),
            (_, Some(SymBool::AsBool(b))) => Ok(Number::int((*b).into())),
            _ => Err(Error::Invalid(format!(
                "no symbolic value is called {name}"
            ))),
        }
    }

    fn value(&self, e: &SymExpr) -> Result<Number, Error> {
        e.expr
            .value(self.symbols)
            .map_err(|reason| Error::Unsupported {
                node: format!("{:?}", e.expr),
                reason,
            })
    }
}
