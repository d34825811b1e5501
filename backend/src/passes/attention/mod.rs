//! Attention written by hand, `softmax(scale * q k^T + mask) v` as two batched products with a softmax in
//! between, becomes one call of our kernel. Where it cannot, the graph keeps the reason
//! ([`Graph::not_attention`]), which `ipexc explain` prints.

mod mask;
mod operand;
mod pattern;

use super::rewrite::Rewrite;
use super::uses::Uses;
use crate::graph::builder::Builder;
use crate::graph::{Graph, Meta, Node, NodeId, Op, ValueId, View};
use crate::ops::attention::{NoKernel, Parts, attention as call};
use cranelift_entity::SecondaryMap;
use ipex_jit::kernel::UnaryOp;
use ipex_runtime::DType;
use ipex_runtime::attention::{MaskedRows, Rule};
use mask::BoolMask;
use pattern::Found;
use thiserror::Error;

/// Name of the calls that this pass makes.
pub const NAME: &str = "ipex.attention";

/// Why a product of softmax's weights is not part of an attention.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotAttention {
    /// An operation that attention does not have.
    #[error("{0} between the products")]
    Between(String),
    /// Scores or weights that somebody else reads, as a backward graph does.
    #[error("its scores or weights are used elsewhere")]
    Used,
    /// More than one mask.
    #[error("two masks")]
    TwoMasks,
    /// A mask that is scaled with the scores.
    #[error("a mask that is scaled")]
    ScaledMask,
    /// Another number of dimensions, or dimensions that are regrouped on the way.
    #[error("scores of other dimensions")]
    Dimensions,
    /// The kernel does not apply.
    #[error("{0}")]
    Kernel(#[from] NoKernel),
}

/// Makes calls of our kernel of the attentions in a graph. What they replace is left dead.
pub fn attention(graph: &Graph) -> Graph {
    let uses = Uses::of(graph);
    let mut pass = Attentions {
        new: Rewrite::new(graph),
        split: SecondaryMap::new(),
        same: SecondaryMap::new(),
    };
    let mut mutated = false;
    for (id, node) in graph.nodes.iter() {
        mutated |= node.op.mutates();
        if mutated {
            // What a copy was made of may have changed.
            pass.new.copy(node);
            continue;
        }
        if let Some(out) = pass.split[id] {
            pass.new.map[node.results[0]] = Some(out);
            continue;
        }
        if let Some(kept) = pass.same[id] {
            // A copy into the layout that the operand has.
            pass.new.map[node.results[0]] = pass.new.map[kept];
            continue;
        }
        let done = match pattern::find(graph, &uses, id) {
            None => false,
            Some(found) => match found.and_then(|f| pass.replace(&uses, id, &f)) {
                Ok(()) => true,
                Err(reason) => {
                    pass.new.graph.not_attention.push((node.origin, reason));
                    false
                }
            },
        };
        if !done {
            let node = operand::shared(graph, node);
            match mask::of_bool(graph, &node) {
                Some(mask) => pass.with_mask(&node, &mask),
                None => pass.new.copy(&node),
            }
        }
    }
    pass.new.finish()
}

struct Attentions<'a> {
    new: Rewrite<'a>,
    /// Views that are an attention's result (of the new graph) again.
    split: SecondaryMap<NodeId, Option<ValueId>>,
    /// Copies that need not be made, and the value that they are equal to in memory.
    same: SecondaryMap<NodeId, Option<ValueId>>,
}

impl Attentions<'_> {
    /// A call that reads this mask instead of its own.
    fn with_mask(&mut self, node: &Node, mask: &BoolMask) {
        let mut operands: Vec<ValueId> = node.operands.iter().map(|&v| self.new.at(v)).collect();
        let mut value = self.new.at(mask.value);
        let mut b = Builder {
            graph: &mut self.new.graph,
            origin: node.origin,
        };
        for (view, sizes) in &mask.views {
            let meta = b.meta(DType::Bool, sizes);
            value = b.push(Op::View(view.clone()), &[value], meta);
        }
        operands[mask::PLACE] = value;
        let mut node = node.clone();
        if let Op::External { args, .. } = &mut node.op {
            *args = self.new.graph.tensor_arguments(&operands);
        }
        self.new.put(&node, operands);
    }

    /// A call in the place of the second product.
    fn replace(&mut self, uses: &Uses, id: NodeId, found: &Found) -> Result<(), NotAttention> {
        let (old, product) = (self.new.old, &self.new.old.nodes[id]);
        let lead = match *found.sizes.as_slice() {
            [batch, heads, _, _] => [batch, heads],
            [batch, _, _] => [batch, 1],
            _ => return Err(NotAttention::Dimensions),
        };
        let q = operand::heads(old, found.q, lead);
        let k = operand::heads(old, found.k, lead).turned();
        let v = operand::heads(old, found.v, lead);
        let (k, v) = operand::ungroup(old, k, v);
        let mask = found.mask.as_ref().map(|m| self.new.at(m.value));
        let [q, k, v] = [q, k, v].map(|o| operand::Operand {
            value: self.new.at(o.value),
            ..o
        });
        let mut b = Builder {
            graph: &mut self.new.graph,
            origin: product.origin,
        };
        let [q, k, v] = [q.build(&mut b), k.build(&mut b), v.build(&mut b)];
        let mask = match (&found.mask, mask) {
            (Some(m), Some(mut value)) => {
                if m.inverted {
                    let inverted = b.unary(UnaryOp::Not, value);
                    value = inverted.map_err(|_| NoKernel::Dtype)?;
                }
                if let &[batch, rows, columns] = b.sizes(value).as_slice()
                    && found.sizes.len() == 3
                {
                    value = b.reshape(value, &[batch, 1, rows, columns]);
                }
                Some((value, m.kind))
            }
            _ => None,
        };
        let rule = Rule {
            scale: found.scale as f32,
            causal: false,
            mask: mask.map(|m| m.1),
            masked_rows: MaskedRows::Nan,
        };
        let result = &old.values[product.results[0]];
        let [.., rows, width] = *result.sizes.as_slice() else {
            return Err(NotAttention::Dimensions);
        };
        let sizes = [lead[0], lead[1], rows, width];
        let merged = operand::merged(old, uses, product.results[0], sizes);
        let strides = match merged {
            // Rows first, so that what merges the heads again copies nothing.
            Some(_) => vec![rows * lead[1] * width, width, lead[1] * width, 1],
            None => crate::graph::strided::contiguous(&sizes),
        };
        let out = Meta {
            scalar_type: result.scalar_type,
            sizes: sizes.to_vec(),
            strides,
        };
        let mask = mask.map(|m| m.0);
        let lse = None;
        let parts = Parts {
            q,
            k,
            v,
            mask,
            out,
            lse,
        };
        let out = call(&mut b, NAME, rule, parts)?[0];
        let flat = b.reshape(out, &result.sizes);
        self.new.map[product.results[0]] = Some(flat);
        if let Some(merged) = merged {
            self.split[merged.split] = Some(out);
            self.same[merged.copy] = Some(merged.view);
        }
        Ok(())
    }
}

/// The value behind views that broadcast.
fn unexpanded(graph: &Graph, mut v: ValueId) -> ValueId {
    while let (Op::View(View::Expand), &[from]) =
        (&graph.producer(v).op, graph.producer(v).operands.as_slice())
    {
        v = from;
    }
    v
}
