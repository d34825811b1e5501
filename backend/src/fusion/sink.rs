//! Moves convolutions and products to their first readers, which may then run on planes or rows that are
//! still in cache.

use super::cluster::Group;
use crate::graph::{Graph, Op, ValueId};
use ipex_runtime::plan::Route;

/// Moves every convolution and product of ours to just before the first group that reads its result.
pub fn sink(graph: &Graph, groups: &mut [Group]) {
    for k in (0..groups.len()).rev() {
        let &[result] = groups[k].roots.as_slice() else {
            continue;
        };
        if !is_own(graph, result) {
            continue;
        }
        let stops = |g: &Group| {
            reads(graph, g, result) || g.nodes.iter().any(|&n| graph.nodes[n].op.mutates())
        };
        let distance = groups[k + 1..].iter().position(stops).unwrap_or(0);
        groups[k..=k + distance].rotate_left(1);
    }
}

fn is_own(graph: &Graph, result: ValueId) -> bool {
    let route = match &graph.producer(result).op {
        Op::External { route, .. } => route,
        _ => return false,
    };
    matches!(
        route,
        Route::Convolution(..) | Route::OutFunction { .. } | Route::Joined { .. } | Route::Bytes(_)
    )
}

/// Whether a group reads a value, directly or through views.
pub fn reads(graph: &Graph, group: &Group, value: ValueId) -> bool {
    let is_value = |&v: &ValueId| through_views(graph, v, value);
    group
        .nodes
        .iter()
        .any(|&n| graph.nodes[n].operands.iter().any(is_value))
}

/// Whether `v` is `value` or a view of it.
pub fn through_views(graph: &Graph, mut v: ValueId, value: ValueId) -> bool {
    while v != value
        && let (Op::View(_), &[from]) =
            (&graph.producer(v).op, graph.producer(v).operands.as_slice())
    {
        v = from;
    }
    v == value
}
