//! Products of matrices that are bytes, dequantised in the graph: `x @ (w.to(f32) * scale).t()` multiplies the bytes as they
//! are, and scales and zero points are applied to the sums, by the kernel that follows. So bytes are all that is read of a
//! weight, and a frozen one is not kept in full size.
//!
//! - Floats by bytes: `sum x (w - z) s = s (sum x w - z sum x)`, summed in f32.
//! - Bytes by bytes, of which the left ones were quantised before: `sum (x - y) (w - z)` in i32, which is exact.
//!
//! Where a dequantised matrix cannot be taken so, the graph keeps the reason ([`Graph::not_bytes`]), which `ipexc explain` prints.

mod operand;
mod sums;

use super::rewrite::Rewrite;
use crate::graph::builder::Builder;
use crate::graph::strided::contiguous;
use crate::graph::{Graph, Node, Op, ValueId};
use ipex_runtime::plan::{ProductStep, Route};
use operand::{Bytes, Factor};
use thiserror::Error;

/// Name of the calls that this pass makes.
pub const NAME: &str = "ipex.bytes";

/// Longest sums of two bytes' products that an i32 holds, whatever the zero points.
const LONGEST: i64 = i32::MAX as i64 / (255 * 255);

/// Why a product multiplies a dequantised matrix as floats.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotBytes {
    /// An operator that is none of dequantisation.
    #[error("{0} between the bytes and the product")]
    Between(String),
    /// Such a factor belongs to terms of the sums, not to sums.
    #[error(
        "its scale or zero point changes along the dimension that is summed, and not by groups of neighbours"
    )]
    Along,
    /// A float, or a second one.
    #[error("its zero point is subtracted after a scale, or twice, or in a narrow type")]
    Zero,
    /// Not in memory.
    #[error("its bytes are computed in the graph")]
    Computed,
    /// What the option asks for would be lost.
    #[error("every operator is to round its result")]
    Rounded,
    /// By `alpha` or `beta`.
    #[error("the product is scaled")]
    Scaled,
    /// The bytes may be others by then.
    #[error("a call before it changes memory")]
    Mutated,
    /// Of other types, or the processor has no vectors, or there is nothing to compute.
    #[error("no kernel of ours for it")]
    Kernel,
}

/// A product of two matrices.
struct Product {
    bias: Option<ValueId>,
    a: ValueId,
    b: ValueId,
    scaled: bool,
}

/// What takes its place.
struct Found {
    /// Bytes by bytes.
    a: Option<Bytes>,
    b: Bytes,
}

/// Makes products of bytes. What they replace is left dead.
pub fn bytes(graph: &Graph) -> Graph {
    let mut new = Rewrite::new(graph);
    let mut mutated = false;
    for node in graph.nodes.values() {
        mutated |= node.op.mutates();
        let product = product(graph, node);
        let found = product.and_then(|p| Some((find(graph, &p, mutated)?, p)));
        match found {
            Some((Ok(found), p)) => new.product_of_bytes(node, &p, &found),
            Some((Err(reason), _)) => {
                new.graph.not_bytes.push((node.origin, reason));
                new.copy(node);
            }
            None => new.copy(node),
        }
    }
    new.finish()
}

/// A product of floats; one of bytes (`aten._int_mm`) is what it says.
fn product(graph: &Graph, node: &Node) -> Option<Product> {
    let Op::External {
        route: Route::OutFunction { .. },
        args,
        ..
    } = &node.op
    else {
        return None;
    };
    let (bias, a, b) = match *node.operands.as_slice() {
        [a, b] => (None, a, b),
        [bias, a, b] => (Some(bias), a, b),
        _ => return None,
    };
    let float = |v: ValueId| graph.values[v].dtype().is_some_and(|d| d.is_float());
    let matrix = |v: ValueId| graph.values[v].sizes.len() == 2 && float(v);
    (matrix(a) && matrix(b)).then(|| Product {
        bias,
        a,
        b,
        scaled: !ProductStep::is_unscaled(args),
    })
}

/// None if the right matrix is no dequantised one.
fn find(graph: &Graph, p: &Product, mutated: bool) -> Option<Result<Found, NotBytes>> {
    let b = operand::find(graph, p.b, 0)?;
    Some(b.and_then(|b| check(graph, p, b, mutated)))
}

fn check(graph: &Graph, p: &Product, b: Bytes, mutated: bool) -> Result<Found, NotBytes> {
    let input = graph.owner(b.value);
    if !matches!(graph.producer(input).op, Op::Input(_)) {
        return Err(NotBytes::Computed);
    }
    if graph.rounds_each {
        return Err(NotBytes::Rounded);
    }
    if p.scaled {
        return Err(NotBytes::Scaled);
    }
    if mutated {
        return Err(NotBytes::Mutated);
    }
    let [m, k] = [0, 1].map(|d| graph.values[p.a].sizes[d]);
    let shape = [m, graph.values[p.b].sizes[1], k];
    let dtype = |v: ValueId| graph.values[v].dtype().ok_or(NotBytes::Kernel);
    if let Some(group) = b.group {
        return check_groups(graph, p, b, (group, shape));
    }
    let a = operand::find(graph, p.a, 1).and_then(Result::ok);
    let a = a.filter(|a| {
        let integer = |zero: &Option<Factor>| zero.as_ref().is_none_or(Factor::is_integer);
        let whole = integer(&a.zero) && integer(&b.zero) && k <= LONGEST;
        let types = (graph.values[a.value].dtype(), graph.values[b.value].dtype());
        let (Some(x), Some(w)) = types else {
            return false;
        };
        whole && a.group.is_none() && ProductStep::takes_bytes(x, w, shape)
    });
    if a.is_none() && !ProductStep::takes_bytes(dtype(p.a)?, dtype(b.value)?, shape) {
        return Err(NotBytes::Kernel);
    }
    Ok(Found { a, b })
}

/// Scales or zero points of groups, by a left matrix of floats.
fn check_groups(
    graph: &Graph,
    p: &Product,
    b: Bytes,
    (group, shape): (i64, [i64; 3]),
) -> Result<Found, NotBytes> {
    let dtype = |v: ValueId| graph.values[v].dtype().ok_or(NotBytes::Kernel);
    let one = b.scales.iter().filter(|s| s.is_of_groups()).count() <= 1;
    let meta = &graph.values[b.value];
    let rows = meta.strides == contiguous(&meta.sizes);
    let takes = ProductStep::takes_groups(dtype(p.a)?, dtype(b.value)?, shape, group);
    match one && rows && takes {
        true => Ok(Found { a: None, b }),
        false => Err(NotBytes::Kernel),
    }
}

impl Rewrite<'_> {
    /// The sums of bytes, and what makes the old product of them.
    fn product_of_bytes(&mut self, node: &Node, p: &Product, found: &Found) {
        let result = node.results[0];
        let meta = self.old.values[result].clone();
        let new = sums::Sums {
            b: Builder {
                graph: &mut self.graph,
                origin: node.origin,
            },
            map: &self.map,
            sizes: [meta.sizes[0], meta.sizes[1]],
        };
        let product = new.product(p, found, meta);
        self.map[result] = Some(product);
        self.graph.of_bytes.push(node.origin);
    }
}
