//! A document's graph in the graph IR.

use super::{Graph, GraphOutput, Meta, Op, Origin, ValueId, layout, pixels};
use crate::error::Error;
use crate::ops::{NodeCall, OpArg, external, translate};
use crate::protocol::Document;
use crate::protocol::document::{
    Argument, Node as DocumentNode, OptionalTensor, SymArgument, SymInt, scalar_type,
};
use crate::protocol::expr::{Number, Symbols};
use crate::protocol::schema::Schema;
use crate::protocol::symbols::Resolver;
use ipex_runtime::plan::{Callable, Scalar};
use std::collections::{HashMap, HashSet};

/// Translates a document for these values of its symbols. What has no translation becomes a call of
/// the n-th callable, for node n; so do the origins in `left`.
pub fn build(document: &Document, symbols: &Symbols, left: &HashSet<u32>) -> Result<Graph, Error> {
    let source = &document.graph_module.graph;
    let mut b = Build {
        graph: Graph {
            origins: vec![Origin::default()],
            gpu: document.options.on_gpu(),
            rounds_each: document.options.emulate_precision_casts,
            nibble_columns: document.options.nibble_columns,
            ..Graph::default()
        },
        values: HashMap::new(),
        schemas: &document.schemas,
        used: used(source),
        resolver: Resolver::new(document, symbols),
        rows: HashSet::new(),
        pixels: HashSet::new(),
        left,
    };
    b.rows = layout::rows(document, &|name| b.meta(name).ok());
    b.pixels = pixels::pixels(document, &|name| b.meta(name).ok());
    b.graph.num_inputs = source.inputs.len() as u32;
    for (n, input) in source.inputs.iter().enumerate() {
        if let Argument::AsTensor(t) = input {
            let meta = b.meta(&t.name)?;
            let v = b.graph.push(Op::Input(n as u32), vec![], meta, 0);
            b.values.insert(&t.name, v);
        }
    }
    for (n, node) in source.nodes.iter().enumerate() {
        b.node(source.first_node + n as u32, node)?;
    }
    for output in &source.outputs {
        let output = match output {
            Argument::AsTensor(t) => GraphOutput::Value(b.value(&t.name)?),
            Argument::AsNone(_) => GraphOutput::None,
            Argument::AsInt(i) => GraphOutput::Int(*i),
            Argument::AsBool(v) => GraphOutput::Bool(*v),
            Argument::AsFloat(x) => GraphOutput::Float(
                x.value()
                    .ok_or_else(|| Error::Invalid(format!("graph output {x:?} is no number")))?,
            ),
            Argument::AsSymInt(s) => GraphOutput::Int(b.int(s)?),
            Argument::AsSymFloat(s) => GraphOutput::Float(b.resolver.number(s)?.as_float()),
            Argument::AsSymBool(s) => GraphOutput::Bool(b.resolver.number(s)?.as_float() != 0.0),
            other => return Err(Error::Invalid(format!("graph output {other:?}"))),
        };
        b.graph.outputs.push(output);
    }
    Ok(b.graph)
}

/// Raises if a symbolic condition does not hold.
const ASSERT: &str = "aten._assert_scalar.default";

struct Build<'a> {
    graph: Graph,
    values: HashMap<&'a str, ValueId>,
    schemas: &'a HashMap<String, String>,
    /// Tensors that somebody reads.
    used: HashSet<&'a str>,
    resolver: Resolver<'a>,
    /// Tensors that lie row by row, whatever the document says ([`layout`]).
    rows: HashSet<&'a str>,
    /// Tensors that lie pixel by pixel ([`pixels`]).
    pixels: HashSet<&'a str>,
    left: &'a HashSet<u32>,
}

fn used(source: &crate::protocol::document::Graph) -> HashSet<&str> {
    let inputs = source.nodes.iter().flat_map(|n| &n.inputs).map(|i| &i.arg);
    inputs
        .chain(&source.outputs)
        .flat_map(Argument::tensors)
        .collect()
}

/// The metadata that a document states of a tensor.
pub fn meta(resolver: &Resolver, name: &str) -> Result<Meta, Error> {
    let meta = resolver.tensor(name);
    let meta = meta.ok_or_else(|| Error::Invalid(format!("tensor_values lacks {name}")))?;
    let unsupported = |reason: &str| Error::Unsupported {
        node: name.into(),
        reason: reason.into(),
    };
    let ints = |list: &[SymInt]| -> Result<Vec<i64>, Error> {
        list.iter().map(|s| resolver.int(s)).collect()
    };
    Ok(Meta {
        scalar_type: scalar_type(meta.dtype).ok_or_else(|| unsupported("unknown dtype"))?,
        sizes: ints(&meta.sizes)?,
        strides: ints(&meta.strides)?,
    })
}

fn int(resolver: &Resolver, s: &SymArgument) -> Result<i64, Error> {
    let n = resolver.number(s)?;
    n.as_int()
        .ok_or_else(|| Error::Invalid(format!("{s:?} is {n}, no integer")))
}

/// The values of a call's symbolic numbers, in order.
pub fn numbers(resolver: &Resolver, node: &DocumentNode) -> Result<Vec<Scalar>, Error> {
    let mut found = Vec::new();
    for input in &node.inputs {
        let list = match &input.arg {
            Argument::AsSymInt(s) | Argument::AsSymFloat(s) | Argument::AsSymBool(s) => {
                std::slice::from_ref(s)
            }
            Argument::AsSymInts(list) => list,
            _ => continue,
        };
        for s in list.iter().filter(|s| matches!(s, SymArgument::AsName(_))) {
            let value = resolver.number(s)?;
            found.push(match (&input.arg, value) {
                (Argument::AsSymBool(_), v) => Scalar::Bool(v.as_float() != 0.0),
                (Argument::AsSymFloat(_), v) | (_, v @ Number::Float(_)) => {
                    Scalar::Float(v.as_float())
                }
                _ => Scalar::Int(int(resolver, s)?),
            });
        }
    }
    Ok(found)
}

impl<'a> Build<'a> {
    fn value(&self, name: &str) -> Result<ValueId, Error> {
        let found = self.values.get(name).copied();
        found.ok_or_else(|| Error::Invalid(format!("{name} is used before its definition")))
    }

    fn meta(&self, name: &str) -> Result<Meta, Error> {
        meta(&self.resolver, name)
    }

    /// A symbolic integer's value.
    fn int(&self, s: &SymArgument) -> Result<i64, Error> {
        int(&self.resolver, s)
    }

    fn argument(&self, arg: &Argument) -> Result<OpArg, Error> {
        let number = |x: &crate::protocol::document::Number| {
            x.value()
                .ok_or_else(|| Error::Invalid(format!("{x:?} is no number")))
        };
        Ok(match arg {
            Argument::AsNone(_) => OpArg::None,
            Argument::AsTensor(t) => OpArg::Tensor(self.value(&t.name)?),
            Argument::AsTensors(list) => OpArg::Tensors(
                list.iter()
                    .map(|t| self.value(&t.name).map(Some))
                    .collect::<Result<_, _>>()?,
            ),
            Argument::AsOptionalTensors(list) => {
                let one = |t: &OptionalTensor| match t {
                    OptionalTensor::AsTensor(t) => self.value(&t.name).map(Some),
                    OptionalTensor::AsNone(_) => Ok(None),
                };
                OpArg::Tensors(list.iter().map(one).collect::<Result<_, _>>()?)
            }
            Argument::AsInt(i) => OpArg::Int(*i),
            Argument::AsInts(list) => OpArg::Ints(list.clone()),
            Argument::AsFloat(x) => OpArg::Float(number(x)?),
            Argument::AsFloats(list) => {
                OpArg::Floats(list.iter().map(number).collect::<Result<_, _>>()?)
            }
            Argument::AsBool(b) => OpArg::Bool(*b),
            Argument::AsBools(list) => OpArg::Bools(list.clone()),
            Argument::AsSymInt(s) => OpArg::Int(self.int(s)?),
            Argument::AsSymInts(list) => {
                OpArg::Ints(list.iter().map(|s| self.int(s)).collect::<Result<_, _>>()?)
            }
            Argument::AsSymFloat(s) => OpArg::Float(self.resolver.number(s)?.as_float()),
            Argument::AsSymBool(s) => OpArg::Bool(self.resolver.number(s)?.as_float() != 0.0),
            Argument::AsString(s) => OpArg::Str(s.clone()),
            Argument::AsScalarType(t) => OpArg::ScalarType(
                scalar_type(*t).ok_or_else(|| Error::Invalid(format!("ScalarType {t}")))?,
            ),
            Argument::AsLayout(l) => OpArg::Layout(*l),
            Argument::AsMemoryFormat(m) => OpArg::MemoryFormat(*m),
            Argument::AsOpaque(_) => OpArg::Opaque,
            Argument::AsDevice(d) => {
                OpArg::Device(i32::from(d.r#type != "cpu"), d.index.unwrap_or(-1))
            }
        })
    }

    fn node(&mut self, n: u32, node: &'a DocumentNode) -> Result<(), Error> {
        let args: Vec<OpArg> = node
            .inputs
            .iter()
            .map(|a| self.argument(&a.arg))
            .collect::<Result<_, _>>()?;
        let mut names: Vec<&str> = Vec::new();
        for output in &node.outputs {
            match output {
                Argument::AsTensor(t) => names.push(&t.name),
                Argument::AsTensors(list) => names.extend(list.iter().map(|t| t.name.as_str())),
                Argument::AsNone(_) => {}
                other => return Err(Error::Invalid(format!("{}: output {other:?}", node.target))),
            }
        }
        let target = node.target.trim_start_matches("torch.ops.");
        if target == ASSERT && matches!(args.first(), Some(OpArg::Bool(true) | OpArg::Float(1.0))) {
            return Ok(());
        }
        let laid_out = |name: &&str| {
            let meta = self.meta(name)?;
            Ok(
                match (self.rows.contains(name), self.pixels.contains(name)) {
                    (true, _) => layout::by_rows(meta),
                    (_, true) => layout::by_pixels(meta),
                    _ => meta,
                },
            )
        };
        let metas: Vec<Meta> = names.iter().map(laid_out).collect::<Result<_, Error>>()?;
        let origin = self.graph.origins.len() as u32;
        let used = names.iter().filter(|name| !name.contains("_unused"));
        let used: Vec<&str> = used.copied().collect();
        self.graph.origins.push(Origin {
            node: format!("{} = {target}", used.join(", ")),
            source: node.metadata.get("stack_trace").cloned(),
        });
        let outputs: Vec<Option<Meta>> = metas.iter().cloned().map(Some).collect();
        let used: Vec<bool> = names.iter().map(|n| self.used.contains(n)).collect();
        let callable = Callable {
            index: n,
            numbers: numbers(&self.resolver, node)?,
        };
        let call = NodeCall {
            target,
            args: &args,
            outputs: &outputs,
            used: &used,
            callable: &callable,
        };
        let translated = (!self.left.contains(&origin))
            .then(|| translate(&mut self.graph, origin, &call).ok())
            .flatten();
        let results = match translated {
            Some(results) => results,
            None => {
                let schema = self.schemas.get(&node.target);
                let schema = schema.map(|text| Schema::parse(text)).transpose()?;
                self.external(callable, target, &args, schema.as_ref(), metas, origin)
            }
        };
        // Later uses of an argument see what was assigned to it.
        if let [result] = results[..]
            && self.graph.producer(result).op == Op::Assign
            && let Some(input) = node.inputs.first()
            && let [name] = input.arg.tensors()[..]
        {
            self.values.insert(name, result);
        }
        self.values.extend(names.into_iter().zip(results));
        Ok(())
    }

    fn external(
        &mut self,
        callable: Callable,
        target: &str,
        args: &[OpArg],
        schema: Option<&Schema>,
        metas: Vec<Meta>,
        origin: u32,
    ) -> Vec<ValueId> {
        let mut operands = Vec::new();
        for arg in args {
            match arg {
                OpArg::Tensor(v) => operands.push(*v),
                OpArg::Tensors(list) => operands.extend(list.iter().flatten()),
                _ => {}
            }
        }
        let mut call_args = self.graph.tensor_arguments(&operands);
        let route = external::route(callable, target, args, schema, &metas, &mut call_args);
        let op = Op::External {
            name: target.into(),
            route,
            args: call_args,
        };
        self.graph.push_all(op, operands, metas, origin)
    }
}
