//! Checks that a graph is well-formed; fusion and lowering rely on it:
//!
//! - every value has one node that defines it, as [`Graph::producers`] says, and uses come after it;
//! - every node has the operands that its operation takes, and one result (calls: any number);
//! - sizes are not negative, and there is a stride for each; what generated code writes fills its memory;
//! - elementwise operations have operands of the result's sizes, and of the compute types that they take and give;
//! - views keep the element type and select what is there; reductions drop their dims; gathers, concatenations and
//!   paddings have the sizes that follow from their operands;
//! - what is assigned has the argument's sizes and element type;
//! - the tensors among a call's arguments name its operands;
//! - results of the graph exist, and only free nodes are forced into memory.

use super::{Graph, GraphOutput, Meta, Node, NodeId, Op, ValueId, View, index_place};
use ipex_jit::kernel::{Const, ReduceOp, Type, signature};
use ipex_runtime::plan::CallArg;
use thiserror::Error;

/// A fault, and the node it is in.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{node} ({origin}): {fault}")]
pub struct Invalid {
    /// The node.
    pub node: NodeId,
    /// The ATen node behind it.
    pub origin: String,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a graph.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// An id beyond its table.
    #[error("{0} is in no table")]
    Unknown(String),
    /// The node is not the one that its result names.
    #[error("{0} says that another node defines it")]
    Producer(ValueId),
    /// A use in front of the definition.
    #[error("{0} is used before its definition")]
    Order(ValueId),
    /// Another number of operands or results.
    #[error("{found} {what} instead of {expected}")]
    Count {
        /// Of what.
        what: &'static str,
        /// The right number.
        expected: usize,
        /// The number that is there.
        found: usize,
    },
    /// A value whose metadata is no tensor's.
    #[error("{0} is no tensor: {1}")]
    Meta(ValueId, String),
    /// A value of generated code that does not fill its memory.
    #[error("{0} does not fill its memory: {1}")]
    Gaps(ValueId, String),
    /// Sizes that the operation does not give.
    #[error("the result has sizes {found:?} instead of {expected:?}")]
    Sizes {
        /// What follows from the operands.
        expected: Vec<i64>,
        /// The result's.
        found: Vec<i64>,
    },
    /// Element types that the operation does not take or give.
    #[error("takes {operands} and gives {result}")]
    Types {
        /// Metadata of the operands.
        operands: String,
        /// Metadata of the result.
        result: String,
    },
    /// An attribute that does not fit the operands.
    #[error("{0} does not fit {1}")]
    Attribute(String, String),
    /// A node that is in memory anyway.
    #[error("is forced into memory, but not free")]
    Forced,
}

type Checked = Result<(), Fault>;

/// Checks everything that the module's documentation lists; the first fault in the order of the nodes.
pub fn verify(graph: &Graph) -> Result<(), Invalid> {
    for id in graph.nodes.keys() {
        check_node(graph, id).map_err(|fault| invalid(graph, id, fault))?;
    }
    let last = graph.nodes.keys().next_back();
    for output in &graph.outputs {
        if let (GraphOutput::Value(v), Some(id)) = (output, last)
            && !graph.values.is_valid(*v)
        {
            return Err(invalid(graph, id, Fault::Unknown(v.to_string())));
        }
    }
    Ok(())
}

fn invalid(graph: &Graph, node: NodeId, fault: Fault) -> Invalid {
    let origin = graph.origins.get(graph.nodes[node].origin as usize);
    let origin = origin.map_or("no origin".into(), |o| o.node.clone());
    Invalid {
        node,
        origin,
        fault,
    }
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> Fault) -> Checked {
    if holds { Ok(()) } else { Err(otherwise()) }
}

fn check_node(graph: &Graph, id: NodeId) -> Checked {
    let node = &graph.nodes[id];
    ensure((node.origin as usize) < graph.origins.len(), || {
        Fault::Unknown(format!("origin {}", node.origin))
    })?;
    for &v in &node.operands {
        ensure(graph.values.is_valid(v), || Fault::Unknown(v.to_string()))?;
        ensure(graph.producers[v] < id, || Fault::Order(v))?;
    }
    for &v in &node.results {
        ensure(graph.values.is_valid(v), || Fault::Unknown(v.to_string()))?;
        ensure(graph.producers.get(v) == Some(&id), || Fault::Producer(v))?;
        let meta = &graph.values[v];
        let right = meta.sizes.len() == meta.strides.len() && meta.sizes.iter().all(|&n| n >= 0);
        ensure(right, || Fault::Meta(v, meta.to_string()))?;
        let filled = !node.op.owns_memory() || meta.is_dense() || meta.numel() == 0;
        ensure(filled, || Fault::Gaps(v, meta.to_string()))?;
    }
    ensure(!graph.forced.contains(id) || node.op.is_free(), || {
        Fault::Forced
    })?;
    if let Op::External { args, .. } = &node.op {
        return check_call(node, args);
    }
    count("results", 1, node.results.len())?;
    let result = &graph.values[node.results[0]];
    let operands: Vec<&Meta> = node.operands.iter().map(|&v| &graph.values[v]).collect();
    check_op(graph, &node.op, &operands, result)
}

fn count(what: &'static str, expected: usize, found: usize) -> Checked {
    ensure(expected == found, || Fault::Count {
        what,
        expected,
        found,
    })
}

fn check_call(node: &Node, args: &[CallArg]) -> Checked {
    let mut tensors = 0;
    for arg in args {
        if let CallArg::Tensor(t) = arg {
            let n = t.buffer.0 as usize;
            let what = || Fault::Unknown(format!("operand {n}"));
            ensure(n < node.operands.len(), what)?;
            tensors += 1;
        }
    }
    count("tensor arguments", node.operands.len(), tensors)
}

fn check_op(graph: &Graph, op: &Op, operands: &[&Meta], result: &Meta) -> Checked {
    match op {
        Op::Input(n) => ensure(*n < graph.num_inputs, || {
            Fault::Unknown(format!("input {n}"))
        }),
        Op::Iota { dim, .. } => ensure(*dim < result.sizes.len(), || attribute(dim, result)),
        Op::Full(_)
        | Op::Unary(_)
        | Op::Binary(_)
        | Op::Fma
        | Op::Compare(_)
        | Op::Select
        | Op::Convert { .. } => {
            check_elementwise_sizes(op, operands, result)?;
            ensure(elementwise_types(op, operands, result), || {
                types(operands, result)
            })
        }
        Op::View(view) => {
            count("operands", 1, operands.len())?;
            check_view(view, operands[0], result)
        }
        Op::Reduce { dims, .. } | Op::ArgReduce { dims, .. } => {
            count("operands", 1, operands.len())?;
            check_reduction(op, dims, operands[0], result)
        }
        Op::Scan { op, dim } => {
            count("operands", 1, operands.len())?;
            sizes(operands[0].sizes.clone(), result)?;
            ensure(*dim < result.sizes.len(), || attribute(dim, result))?;
            let ty = result.ty().filter(|&ty| signature::reduces(*op, ty));
            let fits = ty.is_some() && operands[0].scalar_type == result.scalar_type;
            ensure(fits, || types(operands, result))
        }
        Op::IndexSelect { dims, .. } => {
            count("operands", 1 + dims.len(), operands.len())?;
            check_select(dims, operands[0], &operands[1..], result)
        }
        Op::Gather { dim, .. } => {
            count("operands", 2, operands.len())?;
            check_gather(*dim, operands[0], operands[1], result)
        }
        Op::Cat { dim } => check_cat(*dim, operands, result),
        Op::Pad {
            before,
            after,
            value,
        } => {
            count("operands", 1, operands.len())?;
            check_pad([before, after], *value, operands[0], result)
        }
        Op::Assign => {
            count("operands", 2, operands.len())?;
            let same = operands.iter().all(|o| o.scalar_type == result.scalar_type);
            ensure(same, || types(operands, result))?;
            sizes(operands[0].sizes.clone(), result)?;
            ensure(operands[1] == result, || attribute("assign", operands[1]))
        }
        Op::External { .. } => Ok(()),
    }
}

fn types(operands: &[&Meta], result: &Meta) -> Fault {
    let operands: Vec<String> = operands.iter().map(ToString::to_string).collect();
    Fault::Types {
        operands: operands.join(", "),
        result: result.to_string(),
    }
}

fn attribute(attribute: impl std::fmt::Debug, of: &Meta) -> Fault {
    Fault::Attribute(format!("{attribute:?}"), of.to_string())
}

fn sizes(expected: Vec<i64>, result: &Meta) -> Checked {
    ensure(expected == result.sizes, || Fault::Sizes {
        expected,
        found: result.sizes.clone(),
    })
}

fn check_elementwise_sizes(op: &Op, operands: &[&Meta], result: &Meta) -> Checked {
    let expected = match op {
        Op::Full(_) => 0,
        Op::Unary(_) | Op::Convert { .. } => 1,
        Op::Binary(_) | Op::Compare(_) => 2,
        _ => 3,
    };
    count("operands", expected, operands.len())?;
    for operand in operands {
        sizes(operand.sizes.clone(), result)?;
    }
    Ok(())
}

fn elementwise_types(op: &Op, operands: &[&Meta], result: &Meta) -> bool {
    let given: Option<Vec<Type>> = operands.iter().map(|m| m.ty()).collect();
    let (Some(given), Some(ty)) = (given, result.ty()) else {
        return false;
    };
    let all_are = |t: Type| given.iter().all(|&g| g == t);
    match op {
        Op::Full(c) => signature::constant(*c) == ty,
        Op::Unary(op) => signature::unary(*op, given[0]) == Some(ty),
        Op::Binary(op) => all_are(ty) && signature::binary(*op, ty),
        Op::Fma => all_are(ty) && ty.is_float(),
        Op::Compare(_) => given[0] == given[1] && ty == Type::Bool,
        Op::Select => given[0] == Type::Bool && given[1] == ty && given[2] == ty,
        _ => true,
    }
}

fn check_view(view: &View, operand: &Meta, result: &Meta) -> Checked {
    ensure(operand.scalar_type == result.scalar_type, || {
        types(&[operand], result)
    })?;
    let from = &operand.sizes;
    match view {
        View::Reshape => ensure(operand.numel() == result.numel(), || Fault::Sizes {
            expected: from.clone(),
            found: result.sizes.clone(),
        }),
        View::Permute(perm) => {
            let mut seen = perm.clone();
            seen.sort_unstable();
            let all: Vec<usize> = (0..from.len()).collect();
            ensure(seen == all, || attribute(perm, operand))?;
            sizes(perm.iter().map(|&d| from[d]).collect(), result)
        }
        View::Slice { start, step } => {
            let rank = from.len();
            let ranks = [start.len(), step.len(), result.sizes.len()];
            ensure(ranks == [rank; 3], || attribute((start, step), operand))?;
            let inside = (0..rank).all(|d| {
                let last = start[d] + step[d] * (result.sizes[d] - 1);
                result.sizes[d] == 0
                    || (0..from[d]).contains(&start[d]) && (0..from[d]).contains(&last)
            });
            ensure(inside, || attribute((start, step), operand))
        }
        View::Expand => {
            let pairs = from.iter().zip(&result.sizes);
            let fits =
                from.len() == result.sizes.len() && pairs.clone().all(|(a, b)| *a == 1 || a == b);
            ensure(fits, || Fault::Sizes {
                expected: from.clone(),
                found: result.sizes.clone(),
            })
        }
    }
}

fn check_reduction(op: &Op, dims: &[usize], operand: &Meta, result: &Meta) -> Checked {
    let rank = operand.sizes.len();
    let sorted = dims.is_sorted_by(|a, b| a < b) && dims.iter().all(|&d| d < rank);
    ensure(sorted, || attribute(dims, operand))?;
    let kept = (0..rank).filter(|d| !dims.contains(d));
    sizes(kept.map(|d| operand.sizes[d]).collect(), result)?;
    let fits = match (op, operand.ty(), result.ty()) {
        (Op::Reduce { op, .. }, Some(_), Some(ty)) => signature::reduces(*op, ty),
        (Op::ArgReduce { op, .. }, Some(_), Some(ty)) => {
            matches!(op, ReduceOp::Min | ReduceOp::Max) && ty == Type::I64
        }
        _ => false,
    };
    ensure(fits, || types(&[operand], result))
}

/// The types of a gather.
fn check_index(source: &Meta, index: &Meta, result: &Meta) -> Checked {
    let same = source.scalar_type == result.scalar_type && index.ty() == Some(Type::I64);
    ensure(same, || types(&[source, index], result))
}

fn check_select(dims: &[usize], source: &Meta, indices: &[&Meta], result: &Meta) -> Checked {
    let sorted = dims.windows(2).all(|pair| pair[0] < pair[1]);
    let inside = dims.last().is_some_and(|&d| d < source.sizes.len());
    ensure(sorted && inside, || attribute(dims, source))?;
    for index in indices {
        check_index(source, index, result)?;
        ensure(index.sizes == indices[0].sizes, || {
            attribute(&index.sizes, indices[0])
        })?;
    }
    let kept = (0..source.sizes.len()).filter(|d| !dims.contains(d));
    let mut expected: Vec<i64> = kept.map(|d| source.sizes[d]).collect();
    let at = index_place(dims);
    expected.splice(at..at, indices[0].sizes.iter().copied());
    sizes(expected, result)
}

fn check_gather(dim: usize, source: &Meta, index: &Meta, result: &Meta) -> Checked {
    check_index(source, index, result)?;
    let rank = source.sizes.len();
    ensure(dim < rank && index.sizes.len() == rank, || {
        attribute(dim, source)
    })?;
    let inside = (0..rank).all(|d| d == dim || index.sizes[d] <= source.sizes[d]);
    ensure(inside, || attribute(&index.sizes, source))?;
    sizes(index.sizes.clone(), result)
}

fn check_cat(dim: usize, operands: &[&Meta], result: &Meta) -> Checked {
    ensure(dim < result.sizes.len(), || attribute(dim, result))?;
    let mut expected = result.sizes.clone();
    expected[dim] = 0;
    for part in operands {
        ensure(part.scalar_type == result.scalar_type, || {
            types(operands, result)
        })?;
        let mut others = part.sizes.clone();
        let along = others.get(dim).copied().unwrap_or(0);
        expected[dim] += along;
        if let Some(n) = others.get_mut(dim) {
            *n = result.sizes[dim];
        }
        sizes(others, result)?;
    }
    sizes(expected, result)
}

fn check_pad(amounts: [&[i64]; 2], value: Const, operand: &Meta, result: &Meta) -> Checked {
    let [before, after] = amounts;
    let rank = operand.sizes.len();
    let positive = before.iter().chain(after).all(|&n| n >= 0);
    ensure(
        positive && before.len() == rank && after.len() == rank,
        || attribute(amounts, operand),
    )?;
    let padded = (0..rank).map(|d| before[d] + operand.sizes[d] + after[d]);
    sizes(padded.collect(), result)?;
    let fits = operand.scalar_type == result.scalar_type
        && result.ty() == Some(signature::constant(value));
    ensure(fits, || types(&[operand], result))
}
