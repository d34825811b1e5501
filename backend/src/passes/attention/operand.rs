//! Queries, keys and values of four dimensions behind the operands of batched products, without the copies
//! that only merge batch and heads.

use crate::graph::builder::Builder;
use crate::graph::{Graph, Narrow, Node, NodeId, Op, ValueId, View};
use crate::passes::uses::Uses;
use ipex_runtime::plan::{CallArg, Route};

/// A value that lies where it is, and the views that make `[batch, heads, .., ..]` of it.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    /// Where it lies.
    pub value: ValueId,
    /// Batch and heads, if they must be split first.
    pub split: Option<[i64; 2]>,
    /// Whether the last two dimensions are exchanged.
    pub transposed: bool,
}

impl Operand {
    /// Appends the views.
    pub fn build(&self, b: &mut Builder) -> ValueId {
        let mut v = self.value;
        if let Some([batch, heads]) = self.split {
            let sizes = b.sizes(v);
            let sizes = [&[batch, heads], &sizes[1..]].concat();
            v = b.reshape(v, &sizes);
        }
        if self.transposed {
            b.permute(v, &[0, 1, 3, 2])
        } else {
            v
        }
    }

    /// Rows and columns exchanged.
    pub fn turned(self) -> Operand {
        Operand {
            transposed: !self.transposed,
            ..self
        }
    }
}

/// The operand and the view that makes a value.
fn view(graph: &Graph, v: ValueId) -> Option<(&View, ValueId)> {
    let node = graph.producer(v);
    match (&node.op, node.operands.as_slice()) {
        (Op::View(view), &[from]) => Some((view, from)),
        _ => None,
    }
}

/// The value behind copies and views that change nothing.
fn original(graph: &Graph, mut v: ValueId) -> ValueId {
    loop {
        let node = graph.producer(v);
        let &[from] = node.operands.as_slice() else {
            return v;
        };
        let (meta, source) = (&graph.values[v], &graph.values[from]);
        let whole = match &node.op {
            Op::View(View::Expand | View::Reshape) => true,
            Op::View(View::Slice { step, .. }) => step.iter().all(|&s| s == 1),
            Op::Convert { narrow: Narrow::No } => meta.scalar_type == source.scalar_type,
            _ => false,
        };
        if !whole || meta.sizes != source.sizes {
            return v;
        }
        v = from;
    }
}

/// An operand of a batched product, `[batch * heads, .., ..]`.
pub fn heads(graph: &Graph, operand: ValueId, lead: [i64; 2]) -> Operand {
    let operand = whole(graph, operand);
    match view(graph, operand.value) {
        Some((View::Reshape, from))
            if graph.values[from].sizes.len() == 4 && graph.values[from].sizes[..2] == lead =>
        {
            untransposed(graph, whole(graph, from))
        }
        _ => Operand {
            split: Some(lead),
            ..operand
        },
    }
}

/// Looks through a view that exchanges the last two dimensions.
fn untransposed(graph: &Graph, o: Operand) -> Operand {
    match view(graph, o.value) {
        Some((View::Permute(p), from)) if *p == [0, 1, 3, 2] => Operand {
            value: original(graph, from),
            ..o.turned()
        },
        _ => o,
    }
}

/// A value of four dimensions as it is, without copies.
pub fn whole(graph: &Graph, v: ValueId) -> Operand {
    Operand {
        value: original(graph, v),
        split: None,
        transposed: false,
    }
}

/// Keys and values before they are repeated for groups of heads, if both are.
pub fn ungroup(graph: &Graph, k: Operand, v: Operand) -> (Operand, Operand) {
    match (single(graph, k), single(graph, v)) {
        (Some(k), Some(v)) if graph.values[k.value].sizes[1] == graph.values[v.value].sizes[1] => {
            (k, v)
        }
        _ => (k, v),
    }
}

/// A call of our kernel on keys and values before they are repeated; any other node as it is.
pub fn shared(graph: &Graph, node: &Node) -> Node {
    let mut node = node.clone();
    if let Op::External {
        route: Route::Attention(_),
        args,
        ..
    } = &mut node.op
        && let [_, k, v, ..] = node.operands.as_mut_slice()
    {
        let (keys, values) = ungroup(graph, whole(graph, *k), whole(graph, *v));
        (*k, *v) = (keys.value, values.value);
        for (arg, &operand) in args.iter_mut().zip(&node.operands) {
            if let CallArg::Tensor(t) = arg {
                let meta = &graph.values[operand];
                t.sizes.clone_from(&meta.sizes);
                t.strides.clone_from(&meta.strides);
            }
        }
    }
    node
}

/// `[batch, kv_heads, ..]` behind `[batch, kv_heads, group, ..]` merged to `[batch, heads, ..]`.
fn single(graph: &Graph, o: Operand) -> Option<Operand> {
    let sizes = |v: ValueId| graph.values[v].sizes.as_slice();
    let merged = sizes(o.value);
    let (View::Reshape, grouped) = view(graph, o.value)? else {
        return None;
    };
    let grouped = original(graph, grouped);
    let (View::Expand, one) = view(graph, grouped)? else {
        return None;
    };
    let (View::Reshape, from) = view(graph, original(graph, one))? else {
        return None;
    };
    let &[batch, kv_heads, rows, columns] = sizes(from) else {
        return None;
    };
    let fits = o.split.is_none()
        && sizes(one) == [batch, kv_heads, 1, rows, columns]
        && sizes(grouped)[..2] == [batch, kv_heads]
        && sizes(grouped)[3..] == [rows, columns]
        && merged == [batch, kv_heads * sizes(grouped)[2], rows, columns];
    fits.then(|| Operand {
        value: original(graph, from),
        ..o
    })
}

/// How an attention's result goes on: see [`merged`].
pub struct Merged {
    /// The view that splits batch and heads.
    pub split: NodeId,
    /// The copy.
    pub copy: NodeId,
    /// What is copied.
    pub view: ValueId,
}

/// The copy that merges the heads of an attention's result again, if nothing else reads the result: a view
/// makes `[batch, heads, rows, width]` of it, and rows and heads are exchanged.
pub fn merged(graph: &Graph, uses: &Uses, result: ValueId, sizes: [i64; 4]) -> Option<Merged> {
    let next = |v: ValueId, is: &dyn Fn(&Op) -> bool| {
        let id = uses.single(v)?;
        is(&graph.nodes[id].op).then(|| (id, graph.nodes[id].results[0]))
    };
    let (split, heads_first) = next(result, &|op| *op == Op::View(View::Reshape))?;
    let exchanged = Op::View(View::Permute(vec![0, 2, 1, 3]));
    let (_, view) = next(heads_first, &|op| *op == exchanged)?;
    let (copy, merged) = next(view, &|op| *op == Op::Convert { narrow: Narrow::No })?;
    let to = &graph.values[merged];
    let [batch, heads, rows, width] = sizes;
    let same = graph.values[heads_first].sizes == sizes
        && to.scalar_type == graph.values[view].scalar_type
        && to.sizes == [batch, rows, heads, width]
        && to.strides == [rows * heads * width, heads * width, width, 1];
    same.then_some(Merged { split, copy, view })
}
