//! Programs saved by `torch.export.save`, as protocol documents. The differences:
//!
//! - the envelope is torch.export's `ExportedProgram` (`torch/_export/serde/schema.py`), schema version 8;
//! - calls leave out arguments that have their default. Those of operators in `defaults.json` are completed; every other
//!   operator has no rule and becomes an external call, whose missing arguments do not matter;
//! - integers may be symbolic, with the value that the program was traced with as a hint. The program is
//!   specialised to the hints, and each is reported; one without a hint (a size that depends on data) is refused.
//!   Nodes that compute sizes, and checks of them, disappear;
//! - parameters and buffers are inputs, as in a document. Their contents are not read;
//! - arguments that the protocol has no word for (submodules, custom objects, complex numbers, symbolic floats
//!   and truth values, lists of texts or of lists) are refused.

use super::defaults::Schemas;
use super::document::{
    self, Argument, Device, Document, Kind, Name, NamedArgument, Number, OptionalTensor, Options,
};
use super::places;
use crate::error::Error;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::{BTreeMap, HashMap};

/// Major version of torch.export's schema that this module reads.
const SCHEMA: u32 = 8;

/// A program as a document.
pub struct Exported {
    /// The document.
    pub document: Document,
    /// Symbolic expressions, and the numbers they were specialised to.
    pub specialised: BTreeMap<String, i64>,
}

#[derive(Deserialize)]
struct Program {
    graph_module: GraphModule,
    schema_version: Version,
    torch_version: String,
}

#[derive(Deserialize)]
struct Version {
    major: u32,
    minor: u32,
}

#[derive(Deserialize)]
struct GraphModule {
    graph: Graph,
}

#[derive(Deserialize)]
struct Graph {
    inputs: Vec<Arg>,
    outputs: Vec<Arg>,
    nodes: Vec<Node>,
    tensor_values: HashMap<String, Meta>,
    sym_int_values: HashMap<String, SymInt>,
}

#[derive(Deserialize)]
struct Node {
    target: String,
    inputs: Vec<Named>,
    outputs: Vec<Arg>,
    metadata: HashMap<String, String>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    arg: Arg,
}

#[derive(Deserialize)]
struct Meta {
    dtype: i32,
    sizes: Vec<SymInt>,
    strides: Vec<SymInt>,
    device: Device,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SymInt {
    AsInt(i64),
    AsExpr(Expr),
}

#[derive(Clone, Deserialize)]
struct Expr {
    expr_str: String,
    hint: Option<Hint>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(
    clippy::enum_variant_names,
    reason = "named as in torch.export's schema"
)]
enum Hint {
    AsInt(i64),
    AsBool(IgnoredAny),
    AsFloat(IgnoredAny),
}

/// An integer among arguments: the name of a symbolic one, or a number.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum SymIntArg {
    AsInt(i64),
    AsName(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(
    clippy::enum_variant_names,
    reason = "named as in torch.export's schema"
)]
enum Arg {
    AsNone(bool),
    AsTensor(Name),
    AsTensors(Vec<Name>),
    AsOptionalTensor(OptionalTensor),
    AsOptionalTensors(Vec<OptionalTensor>),
    AsInt(i64),
    AsInts(Vec<i64>),
    AsSymInt(SymIntArg),
    AsSymInts(Vec<SymIntArg>),
    AsFloat(Number),
    AsFloats(Vec<Number>),
    AsBool(bool),
    AsBools(Vec<bool>),
    AsString(String),
    AsScalarType(i32),
    AsLayout(i32),
    AsMemoryFormat(i32),
    AsDevice(Device),
    AsComplex(IgnoredAny),
    AsCustomObj(IgnoredAny),
    AsFloatLists(IgnoredAny),
    AsGraph(IgnoredAny),
    AsIntLists(IgnoredAny),
    AsNestedTensors(IgnoredAny),
    AsOperator(IgnoredAny),
    AsStringToArgument(IgnoredAny),
    AsStrings(IgnoredAny),
    AsSymBool(IgnoredAny),
    AsSymBools(IgnoredAny),
    AsSymFloat(IgnoredAny),
    AsSymFloats(IgnoredAny),
}

/// The operator whose arguments the compiler reads again where it is left to PyTorch.
const CONVOLUTION: (&str, &str) = (
    "torch.ops.aten.convolution.default",
    "aten::convolution(Tensor input, Tensor weight, Tensor? bias, SymInt[] stride, SymInt[] padding, SymInt[] dilation, bool transposed, SymInt[] output_padding, SymInt groups) -> Tensor",
);

/// Decodes the JSON of a program. An error names line and column, or the node and the argument.
pub fn decode(json: &[u8]) -> Result<Exported, Error> {
    let program: Program =
        serde_json::from_slice(json).map_err(|e| Error::Invalid(e.to_string()))?;
    let Version { major, minor } = program.schema_version;
    if major != SCHEMA {
        return Err(Error::Invalid(format!(
            "schema version {major}.{minor} of torch.export instead of {SCHEMA}.x"
        )));
    }
    let mut reader = Reader {
        schemas: Schemas::load()?,
        symbols: program.graph_module.graph.sym_int_values.clone(),
        specialised: BTreeMap::new(),
    };
    let graph = reader.graph(program.graph_module.graph)?;
    let document = Document {
        options: Options::default(),
        protocol: document::VERSION,
        producer: HashMap::from([("torch".into(), program.torch_version)]),
        kind: Kind::Inference,
        graph_module: document::GraphModule { graph },
        schemas: HashMap::from([(CONVOLUTION.0.into(), CONVOLUTION.1.into())]),
    };
    places::check(&document)?;
    Ok(Exported {
        document,
        specialised: reader.specialised,
    })
}

impl Node {
    /// Whether it only computes symbolic numbers, or checks them.
    fn is_about_sizes(&self) -> bool {
        let is_number = |arg: &Arg| {
            matches!(
                arg,
                Arg::AsSymInt(_) | Arg::AsSymBool(_) | Arg::AsSymFloat(_)
            )
        };
        let is_tensor = |arg: &Arg| {
            matches!(
                arg,
                Arg::AsTensor(_)
                    | Arg::AsTensors(_)
                    | Arg::AsOptionalTensor(_)
                    | Arg::AsOptionalTensors(_)
            )
        };
        if self.outputs.is_empty() {
            return self.inputs.iter().any(|i| is_number(&i.arg))
                && !self.inputs.iter().any(|i| is_tensor(&i.arg));
        }
        self.outputs.iter().all(is_number)
    }
}

/// An expression without the words that sympy adds: `Symbol('s77', positive=True, integer=True)` is `s77`.
fn readable(expression: &str) -> String {
    let mut out = String::new();
    let mut rest = expression;
    while let Some(at) = rest.find("Symbol('") {
        out += &rest[..at];
        let name = &rest[at + 8..];
        let quote = name.find('\'').unwrap_or(name.len());
        out += &name[..quote];
        rest = name[quote..].split_once(')').map_or("", |(_, rest)| rest);
    }
    out + rest
}

struct Reader {
    schemas: Schemas,
    symbols: HashMap<String, SymInt>,
    specialised: BTreeMap<String, i64>,
}

fn unsupported(place: &str, reason: String) -> Error {
    Error::Unsupported {
        node: place.into(),
        reason,
    }
}

impl Reader {
    fn graph(&mut self, graph: Graph) -> Result<document::Graph, Error> {
        let mut tensor_values = HashMap::with_capacity(graph.tensor_values.len());
        for (name, meta) in graph.tensor_values {
            let meta = document::TensorMeta {
                dtype: meta.dtype,
                sizes: self.sizes(&name, &meta.sizes)?,
                strides: self.sizes(&name, &meta.strides)?,
                device: meta.device,
            };
            tensor_values.insert(name, meta);
        }
        let nodes = graph.nodes.into_iter().filter(|n| !n.is_about_sizes());
        let nodes = nodes.map(|n| self.node(n));
        Ok(document::Graph {
            first_node: 0,
            nodes: nodes.collect::<Result<_, _>>()?,
            inputs: self.arguments("inputs", graph.inputs)?,
            outputs: self.arguments("outputs", graph.outputs)?,
            tensor_values,
            sym_int_values: HashMap::new(),
            sym_float_values: HashMap::new(),
            sym_bool_values: HashMap::new(),
        })
    }

    fn arguments(&mut self, place: &str, args: Vec<Arg>) -> Result<Vec<Argument>, Error> {
        args.into_iter().map(|a| self.argument(place, a)).collect()
    }

    fn sizes(&mut self, place: &str, sizes: &[SymInt]) -> Result<Vec<document::SymInt>, Error> {
        let resolved = sizes.iter().map(|n| self.resolve(place, n));
        resolved.map(|n| n.map(document::SymInt::AsInt)).collect()
    }

    /// The number, or the hint of a symbolic expression.
    fn resolve(&mut self, place: &str, n: &SymInt) -> Result<i64, Error> {
        match n {
            SymInt::AsInt(n) => Ok(*n),
            SymInt::AsExpr(Expr { expr_str, hint }) => {
                let Some(Hint::AsInt(n)) = hint else {
                    let reason = format!("the symbolic size {expr_str} has no hint");
                    return Err(unsupported(place, reason));
                };
                self.specialised.insert(readable(expr_str), *n);
                Ok(*n)
            }
        }
    }

    fn sym_int(&mut self, place: &str, n: SymIntArg) -> Result<i64, Error> {
        match n {
            SymIntArg::AsInt(n) => Ok(n),
            SymIntArg::AsName(name) => {
                let symbol = self.symbols.get(&name).cloned();
                let symbol = symbol.ok_or_else(|| {
                    Error::Invalid(format!("{place}: sym_int_values lacks {name}"))
                })?;
                self.resolve(place, &symbol)
            }
        }
    }

    fn argument(&mut self, place: &str, arg: Arg) -> Result<Argument, Error> {
        let kind = match arg {
            Arg::AsNone(v) => return Ok(Argument::AsNone(v)),
            Arg::AsTensor(v) => return Ok(Argument::AsTensor(v)),
            Arg::AsTensors(v) => return Ok(Argument::AsTensors(v)),
            Arg::AsOptionalTensor(OptionalTensor::AsTensor(v)) => return Ok(Argument::AsTensor(v)),
            Arg::AsOptionalTensor(OptionalTensor::AsNone(v)) => return Ok(Argument::AsNone(v)),
            Arg::AsOptionalTensors(v) => return Ok(Argument::AsOptionalTensors(v)),
            Arg::AsInt(v) => return Ok(Argument::AsInt(v)),
            Arg::AsInts(v) => return Ok(Argument::AsInts(v)),
            Arg::AsSymInt(v) => return self.sym_int(place, v).map(Argument::AsInt),
            Arg::AsSymInts(v) => {
                let ints = v.into_iter().map(|n| self.sym_int(place, n));
                return ints.collect::<Result<_, _>>().map(Argument::AsInts);
            }
            Arg::AsFloat(v) => return Ok(Argument::AsFloat(v)),
            Arg::AsFloats(v) => return Ok(Argument::AsFloats(v)),
            Arg::AsBool(v) => return Ok(Argument::AsBool(v)),
            Arg::AsBools(v) => return Ok(Argument::AsBools(v)),
            Arg::AsString(v) => return Ok(Argument::AsString(v)),
            Arg::AsScalarType(v) => return Ok(Argument::AsScalarType(v)),
            Arg::AsLayout(v) => return Ok(Argument::AsLayout(v)),
            Arg::AsMemoryFormat(v) => return Ok(Argument::AsMemoryFormat(v)),
            Arg::AsDevice(v) => return Ok(Argument::AsDevice(v)),
            Arg::AsComplex(_) => "as_complex",
            Arg::AsCustomObj(_) => "as_custom_obj",
            Arg::AsFloatLists(_) => "as_float_lists",
            Arg::AsGraph(_) => "as_graph",
            Arg::AsIntLists(_) => "as_int_lists",
            Arg::AsNestedTensors(_) => "as_nested_tensors",
            Arg::AsOperator(_) => "as_operator",
            Arg::AsStringToArgument(_) => "as_string_to_argument",
            Arg::AsStrings(_) => "as_strings",
            Arg::AsSymBool(_) => "as_sym_bool",
            Arg::AsSymBools(_) => "as_sym_bools",
            Arg::AsSymFloat(_) => "as_sym_float",
            Arg::AsSymFloats(_) => "as_sym_floats",
        };
        Err(unsupported(place, format!("an argument of kind {kind}")))
    }

    fn node(&mut self, node: Node) -> Result<document::Node, Error> {
        let place = node.target.trim_start_matches("torch.ops.").to_string();
        let mut given = Vec::with_capacity(node.inputs.len());
        for Named { name, arg } in node.inputs {
            let arg = self.argument(&format!("{place}, {name}"), arg)?;
            given.push(NamedArgument { name, arg });
        }
        Ok(document::Node {
            inputs: self.complete(&place, given)?,
            outputs: self.arguments(&place, node.outputs)?,
            target: node.target,
            metadata: node.metadata,
        })
    }

    /// All of an operator's arguments, in the order of its schema.
    fn complete(
        &self,
        target: &str,
        mut given: Vec<NamedArgument>,
    ) -> Result<Vec<NamedArgument>, Error> {
        let Some(arguments) = self.schemas.arguments(target) else {
            return Ok(given);
        };
        let mut complete = Vec::with_capacity(arguments.len());
        for argument in arguments {
            let name = &argument.name;
            let at = given.iter().position(|g| g.name == *name);
            complete.push(match (at, argument.default()) {
                (Some(n), _) => given.swap_remove(n),
                (None, Some(arg)) => NamedArgument {
                    name: name.clone(),
                    arg,
                },
                (None, None) => {
                    return Err(Error::Invalid(format!(
                        "{target} lacks its argument {name}"
                    )));
                }
            });
        }
        match given.first() {
            Some(NamedArgument { name, .. }) => {
                Err(Error::Invalid(format!("{target} has no argument {name}")))
            }
            None => Ok(complete),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::readable;

    #[test]
    fn expressions_are_readable() {
        let symbol = "Symbol('s77', positive=True, integer=True)";
        assert_eq!(readable(symbol), "s77");
        let product = format!("Mul(Integer(3), {symbol})");
        assert_eq!(readable(&product), "Mul(Integer(3), s77)");
        assert_eq!(readable("2*s0"), "2*s0");
        assert_eq!(readable("Symbol('s"), "s");
    }
}
