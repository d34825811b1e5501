//! Sizes that data decide: where a document is cut, so that each part knows all its sizes.
//!
//! `nonzero` and boolean masks give tensors, and `item` gives numbers, whose symbols no argument of
//! the graph gives. Such a node becomes a part of its own, and what follows is compiled when its
//! result is there.

use super::document::{
    Argument, Document, Graph, GraphModule, Name, Node, SymArgument, SymBool, SymExpr, SymFloat,
    SymInt,
};
use super::expr::Expr;
use super::symbols::{Binding, bindings};
use crate::error::Error;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;

/// What a part does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nodes that are compiled together.
    Graph,
    /// One node, called as it is; its results' sizes give symbols.
    Call,
    /// The only element of the part's only input is a symbol's value.
    Item {
        /// The symbol.
        symbol: String,
        /// Whether it is a float; an integer otherwise.
        float: bool,
    },
}

/// Part of a document. Its tensors are the whole call's: the arguments come first, then what the
/// parts give, in order.
#[derive(Debug)]
pub struct Part {
    /// What it does.
    pub kind: Kind,
    /// Its nodes; the results of the last part are the graph's.
    pub document: Document,
    /// Which tensors its graph's inputs are.
    pub inputs: Vec<usize>,
    /// Which tensors its results are; nothing for the last part.
    pub results: Vec<usize>,
    /// The symbols in it, all of which are known when it starts, but for those that a call gives.
    pub symbols: Vec<String>,
}

/// The operator behind `Tensor.item`.
const ITEM: &str = "torch.ops.aten._local_scalar_dense.default";

/// A document, cut where it has to be.
#[derive(Debug)]
pub enum Split {
    /// The arguments give all symbols.
    Whole(Box<Document>),
    /// In the order in which they run; the last is a graph.
    Parts(Vec<Part>),
}

/// Cuts a document.
pub fn split(document: Document) -> Result<Split, Error> {
    let cuts = cuts(&document)?;
    if cuts.len() == 1 {
        return Ok(Split::Whole(Box::new(document)));
    }
    let parts = Splitting::new(&document, &cuts).parts(document, cuts);
    Ok(Split::Parts(parts))
}

/// The parts' nodes; the last part is a graph, with or without nodes.
fn cuts(document: &Document) -> Result<Vec<(Kind, Range<usize>)>, Error> {
    let graph = &document.graph_module.graph;
    let bound = bindings(document);
    let mut known: HashSet<&str> = bound.iter().map(|b: &Binding| b.symbol.as_str()).collect();
    let (mut cuts, mut begin) = (Vec::new(), 0);
    for (n, node) in graph.nodes.iter().enumerate() {
        let found = symbols_of(graph, node.outputs.iter());
        let new: Vec<&str> = found.into_iter().filter(|s| !known.contains(s)).collect();
        let kind = if node.target == ITEM {
            item(graph, node)?
        } else if new.is_empty() {
            continue;
        } else {
            let sizes = sizes_of(graph, node);
            if let Some(lost) = new.iter().find(|s| !sizes.contains(*s)) {
                return Err(Error::Unsupported {
                    node: node.target.clone(),
                    reason: format!("nothing gives the size {lost}"),
                });
            }
            Kind::Call
        };
        if begin < n {
            cuts.push((Kind::Graph, begin..n));
        }
        cuts.push((kind, n..n + 1));
        known.extend(new);
        begin = n + 1;
    }
    cuts.push((Kind::Graph, begin..graph.nodes.len()));
    Ok(cuts)
}

fn item(graph: &Graph, node: &Node) -> Result<Kind, Error> {
    let symbols = symbols_of(graph, node.outputs.iter());
    match symbols.first() {
        Some(symbol) if symbols.len() == 1 => Ok(Kind::Item {
            symbol: symbol.to_string(),
            float: matches!(node.outputs.as_slice(), [Argument::AsSymFloat(_)]),
        }),
        _ => Err(Error::Unsupported {
            node: node.target.clone(),
            reason: "a number that is not one symbol".into(),
        }),
    }
}

/// The symbols that are a size of one of a node's results.
fn sizes_of<'a>(graph: &'a Graph, node: &'a Node) -> HashSet<&'a str> {
    let names = node.outputs.iter().flat_map(Argument::tensors);
    let metas = names.filter_map(|n| graph.tensor_values.get(n));
    let sizes = metas.flat_map(|m| &m.sizes);
    sizes.filter_map(SymInt::symbol).collect()
}

fn symbols_in(expr: &Expr) -> Vec<&str> {
    let mut found = Vec::new();
    expr.symbols(&mut found);
    found
}

fn name_of(argument: &Argument) -> Option<&str> {
    match argument {
        Argument::AsSymInt(SymArgument::AsName(n))
        | Argument::AsSymFloat(SymArgument::AsName(n))
        | Argument::AsSymBool(SymArgument::AsName(n)) => Some(n),
        _ => None,
    }
}

/// The expressions behind a symbolic number.
fn expressions<'a>(graph: &'a Graph, name: &str) -> Vec<&'a Expr> {
    let mut found: Vec<&SymExpr> = Vec::new();
    if let Some(SymInt::AsExpr(e)) = graph.sym_int_values.get(name) {
        found.push(e);
    }
    if let Some(SymFloat::AsExpr(e)) = graph.sym_float_values.get(name) {
        found.push(e);
    }
    if let Some(SymBool::AsExpr(e)) = graph.sym_bool_values.get(name) {
        found.push(e);
    }
    found.into_iter().map(|e| &e.expr).collect()
}

/// All symbols of the tensors and numbers in these arguments.
fn symbols_of<'a>(
    graph: &'a Graph,
    arguments: impl Iterator<Item = &'a Argument>,
) -> BTreeSet<&'a str> {
    let mut found = Vec::new();
    for argument in arguments {
        for name in argument.tensors() {
            let meta = graph.tensor_values.get(name);
            for size in meta.iter().flat_map(|m| m.sizes.iter().chain(&m.strides)) {
                if let SymInt::AsExpr(e) = size {
                    e.expr.symbols(&mut found);
                }
            }
        }
        let listed = match argument {
            Argument::AsSymInts(list) => list.as_slice(),
            _ => &[],
        };
        let names = listed.iter().filter_map(|s| match s {
            SymArgument::AsName(n) => Some(n.as_str()),
            _ => None,
        });
        for name in names.chain(name_of(argument)) {
            found.extend(expressions(graph, name).into_iter().flat_map(symbols_in));
        }
    }
    found.into_iter().collect()
}

/// What each part takes and gives, by the tensors' names.
struct Splitting {
    taken: Vec<Vec<String>>,
    given: Vec<Vec<String>>,
    symbols: Vec<Vec<String>>,
    slots: HashMap<String, usize>,
}

impl Splitting {
    fn new(document: &Document, cuts: &[(Kind, Range<usize>)]) -> Splitting {
        let graph = &document.graph_module.graph;
        let mut slots: HashMap<String, usize> = HashMap::new();
        for (n, input) in graph.inputs.iter().enumerate() {
            slots.extend(input.tensors().into_iter().map(|name| (name.into(), n)));
        }
        let last = cuts.len() - 1;
        let (mut taken, mut given) = (Vec::new(), Vec::new());
        let mut symbols = Vec::new();
        for (k, (_, range)) in cuts.iter().enumerate() {
            let nodes = &graph.nodes[range.clone()];
            let outputs: &[Argument] = if k == last { &graph.outputs } else { &[] };
            let read = nodes.iter().flat_map(|n| &n.inputs).map(|i| &i.arg);
            let read = read.chain(outputs);
            let made: Vec<&str> = names(nodes.iter().flat_map(|n| &n.outputs));
            let taken_here = names(read.clone());
            let taken_here = taken_here.into_iter().filter(|n| !made.contains(n));
            taken.push(taken_here.map(String::from).collect::<Vec<String>>());
            given.push(made.into_iter().map(String::from).collect::<Vec<String>>());
            let all = read.chain(nodes.iter().flat_map(|n| &n.outputs));
            let all = symbols_of(graph, all);
            symbols.push(all.into_iter().map(String::from).collect());
        }
        // Only what a later part takes is given, and the last part's results are the graph's.
        let mut next = graph.inputs.len();
        for k in 0..=last {
            let later: HashSet<&String> = taken[k + 1..].iter().flatten().collect();
            let kept = given[k].iter().filter(|n| later.contains(n)).cloned();
            given[k] = kept.collect();
            for name in &given[k] {
                slots.insert(name.clone(), next);
                next += 1;
            }
        }
        Splitting {
            taken,
            given,
            symbols,
            slots,
        }
    }

    fn parts(self, document: Document, cuts: Vec<(Kind, Range<usize>)>) -> Vec<Part> {
        let Document {
            protocol,
            producer,
            kind: of,
            graph_module,
            schemas,
            options,
        } = document;
        let mut whole = graph_module.graph;
        let mut nodes = std::mem::take(&mut whole.nodes).into_iter();
        let last = cuts.len() - 1;
        let mut parts = Vec::new();
        for (k, (kind, range)) in cuts.into_iter().enumerate() {
            let slot = |n: &String| self.slots.get(n).copied().unwrap_or(usize::MAX);
            let inputs: Vec<usize> = self.taken[k].iter().map(slot).collect();
            let mut options = options.clone();
            let frozen = |&n: &u32| inputs.iter().position(|&slot| slot == n as usize);
            options.frozen = options
                .frozen
                .iter()
                .filter_map(frozen)
                .map(|n| n as u32)
                .collect();
            let outputs = if k == last {
                std::mem::take(&mut whole.outputs)
            } else {
                tensors(&self.given[k])
            };
            let graph = Graph {
                inputs: tensors(&self.taken[k]),
                outputs,
                nodes: nodes.by_ref().take(range.len()).collect(),
                first_node: range.start as u32,
                ..whole.clone()
            };
            parts.push(Part {
                kind,
                inputs,
                results: self.given[k].iter().map(slot).collect(),
                symbols: self.symbols[k].clone(),
                document: Document {
                    protocol,
                    producer: producer.clone(),
                    kind: of,
                    graph_module: GraphModule { graph },
                    schemas: schemas.clone(),
                    options,
                },
            });
        }
        parts
    }
}

fn tensors(names: &[String]) -> Vec<Argument> {
    let tensor = |name: &String| Argument::AsTensor(Name { name: name.clone() });
    names.iter().map(tensor).collect()
}

/// The tensors in these arguments, each once.
fn names<'a>(arguments: impl Iterator<Item = &'a Argument>) -> Vec<&'a str> {
    let mut seen = HashSet::new();
    let all = arguments.flat_map(Argument::tensors);
    all.filter(|n| seen.insert(*n)).collect()
}
