//! Graphs with sizes that data decide: plans, and between them the calls that give those sizes.

use crate::error::Error;
use crate::graph::build::{meta, numbers};
use crate::protocol::document::Argument;
use crate::protocol::expr::{Number, Symbols};
use crate::protocol::stages::{Kind, Part};
use crate::protocol::symbols::Resolver;
use crate::specialise::{Ready, Specialisations};
use ipex_runtime::aten::{Aten, Tensor};
use ipex_runtime::plan::{self, Callable, Host, Value};
use std::sync::Arc;

/// Why a call did not come to its end.
pub enum Failure {
    /// A part could not be compiled for the sizes that it met.
    Compile(Error),
    /// A part failed.
    Run(ipex_runtime::Error),
}

impl From<ipex_runtime::Error> for Failure {
    fn from(e: ipex_runtime::Error) -> Failure {
        Failure::Run(e)
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Failure {
        Failure::Compile(e)
    }
}

/// The parts of a document, each of them compiled when its sizes are known.
pub struct Staged {
    steps: Vec<Step>,
    aten: &'static Aten,
}

enum Step {
    Plan {
        plans: Specialisations,
        inputs: Vec<usize>,
    },
    Other(Part),
}

impl Staged {
    /// Of these parts.
    pub fn new(parts: Vec<Part>, aten: &'static Aten) -> Staged {
        let step = |part: Part| match part.kind {
            Kind::Graph => Step::Plan {
                plans: Specialisations::new(part.document, part.symbols, aten),
                inputs: part.inputs,
            },
            _ => Step::Other(part),
        };
        Staged {
            steps: parts.into_iter().map(step).collect(),
            aten,
        }
    }

    /// Compiles the plan of the first part for these values of its symbols, if it is one, so that
    /// what cannot be compiled is known early.
    pub fn first(&self, symbols: &Symbols) -> Result<Option<Arc<Ready>>, Error> {
        match self.steps.first() {
            Some(Step::Plan { plans, .. }) => plan(plans, symbols).map(Some),
            _ => Ok(None),
        }
    }

    /// Runs all parts. `symbols` are those that the arguments give. An input among the results is
    /// one of the arguments.
    pub fn call(
        &self,
        mut tensors: Vec<Option<Tensor>>,
        mut symbols: Symbols,
        host: &mut dyn Host,
    ) -> Result<Vec<Value>, Failure> {
        let arguments = tensors.len();
        let mut results = Vec::new();
        for (n, step) in self.steps.iter().enumerate() {
            match step {
                Step::Plan { plans, inputs } => {
                    let ready = plan(plans, &symbols)?;
                    let taken = inputs.iter().map(|&slot| shared(&tensors, slot));
                    let taken = taken.map(|t| t.map(|t| t.map(plan::Argument::Tensor)));
                    let taken = taken.collect::<Result<_, _>>()?;
                    let found = ready.executable.call(taken, host)?;
                    let mut values = Vec::with_capacity(found.len());
                    for value in found {
                        values.push(match value {
                            Value::Input(k) if inputs[k as usize] < arguments => {
                                Value::Input(inputs[k as usize] as u32)
                            }
                            Value::Input(k) => Value::Tensor(owned(&tensors, inputs[k as usize])?),
                            other => other,
                        });
                    }
                    if n + 1 == self.steps.len() {
                        results = values;
                        break;
                    }
                    for value in values {
                        let tensor = match value {
                            Value::Tensor(t) => Some(t),
                            Value::Input(k) => shared(&tensors, k as usize)?,
                            _ => None,
                        };
                        tensors.push(tensor);
                    }
                }
                Step::Other(part) => match &part.kind {
                    Kind::Item { symbol, float } => {
                        let tensor = owned(&tensors, part.inputs[0])?;
                        let number = if *float {
                            Number::Float(tensor.float()?)
                        } else {
                            Number::int(tensor.int()?)
                        };
                        symbols.insert(symbol.clone(), number);
                    }
                    _ => {
                        let call = || self.node(part, &tensors, &mut symbols, host);
                        let given = self.aten.without_grad(call)?;
                        tensors.extend(given.into_iter().map(Some));
                    }
                },
            }
        }
        Ok(results)
    }

    /// Calls the only node of a part; its results in memory as the document says.
    fn node(
        &self,
        part: &Part,
        tensors: &[Option<Tensor>],
        symbols: &mut Symbols,
        host: &mut dyn Host,
    ) -> Result<Vec<Tensor>, Failure> {
        let graph = &part.document.graph_module.graph;
        let [node] = graph.nodes.as_slice() else {
            return Err(Error::Internal("a call of several nodes".into()).into());
        };
        let places = |name: &str| {
            let is_it = |a: &Argument| a.tensors() == [name];
            graph.inputs.iter().position(is_it).map(|k| part.inputs[k])
        };
        let operands = node.inputs.iter().flat_map(|i| i.arg.tensors());
        let operands = operands.map(|name| owned(tensors, places(name).unwrap_or(usize::MAX)));
        let operands = operands.collect::<Result<Vec<_>, _>>()?;
        let callable = Callable {
            index: graph.first_node,
            numbers: numbers(&Resolver::new(&part.document, symbols), node)?,
        };
        let found = host.call(&callable, operands)?;
        let names: Vec<&str> = node.outputs.iter().flat_map(Argument::tensors).collect();
        for (name, tensor) in names.iter().zip(&found) {
            let sizes = &graph.tensor_values.get(*name).map(|m| &m.sizes);
            let (actual, _) = tensor.layout()?;
            for (size, &actual) in sizes.iter().flat_map(|s| s.iter()).zip(actual) {
                if let Some(symbol) = size.symbol() {
                    let known = symbols.entry(symbol.into());
                    known.or_insert(Number::int(actual));
                }
            }
        }
        let mut given = Vec::with_capacity(part.results.len());
        for (name, tensor) in names.into_iter().zip(found) {
            if !graph.outputs.iter().any(|o| o.tensors() == [name]) {
                continue;
            }
            let want = meta(&Resolver::new(&part.document, symbols), name)?;
            let (sizes, strides) = tensor.layout()?;
            if sizes != want.sizes {
                let text = format!("{name} has sizes {sizes:?}, not {:?}", want.sizes);
                return Err(ipex_runtime::Error::Plan(text).into());
            }
            let as_said = strides == want.strides && tensor.scalar_type()? == want.scalar_type;
            given.push(if as_said {
                tensor
            } else {
                tensor.copied(&want.strides, want.scalar_type)?
            });
        }
        Ok(given)
    }
}

fn plan(plans: &Specialisations, symbols: &Symbols) -> Result<Arc<Ready>, Error> {
    let value = |s: &String| {
        let known = symbols.get(s).copied();
        known.ok_or_else(|| Error::Internal(format!("the size {s} is not known yet")))
    };
    let values = plans.symbols().iter().map(value);
    plans.plan(&values.collect::<Result<Vec<_>, _>>()?)
}

/// Another reference to a tensor; none where an argument is a number.
fn shared(tensors: &[Option<Tensor>], slot: usize) -> Result<Option<Tensor>, ipex_runtime::Error> {
    let found = tensors.get(slot).and_then(Option::as_ref);
    found.map(Tensor::share).transpose()
}

fn owned(tensors: &[Option<Tensor>], slot: usize) -> Result<Tensor, ipex_runtime::Error> {
    let missing = || ipex_runtime::Error::Plan(format!("tensor {slot} is missing"));
    shared(tensors, slot)?.ok_or_else(missing)
}
