//! Results that no cache could keep until they are read: their stores go past the caches, so that memory is not read before
//! it is overwritten.

use crate::fusion::cluster::Clusters;
use crate::graph::{Graph, ValueId};
use ipex_jit::kernel::Access;
use ipex_runtime::cpu::Caches;

/// Least and most bytes of such a result, whatever the caches.
const BETWEEN: (usize, usize) = (12 << 20, 64 << 20);

/// Bytes from which a result counts as larger than the cache, of which what is read takes its part.
fn large() -> usize {
    (Caches::get().l3 / 8 * 3).clamp(BETWEEN.0, BETWEEN.1)
}

/// Marks what kernels only write, is returned, and nothing else in the graph reads.
pub fn mark(graph: &Graph, clusters: &mut Clusters) {
    let returned = graph.returned();
    for group in &mut clusters.groups {
        let read = |value: ValueId| {
            let mut nodes = graph.nodes.iter();
            nodes.any(|(id, node)| node.operands.contains(&value) && !group.nodes.contains(&id))
        };
        for lowered in &mut group.kernels {
            let params = lowered.kernel.params.values_mut();
            for (&value, param) in lowered.tensors.iter().zip(params) {
                let bytes = graph.values[value].numel() as usize * param.dtype.size();
                let leaves = param.access == Access::Out && returned.contains(value);
                if leaves && bytes >= large() && !read(value) {
                    param.access = Access::Stream;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fusion::cluster::cluster;
    use crate::graph::{GraphOutput, Meta, Op, Origin};
    use ipex_jit::kernel::{BinaryOp, UnaryOp};
    use ipex_runtime::plan::{Callable, Route};

    fn push(g: &mut Graph, op: Op, operands: &[ValueId], sizes: [i64; 2]) -> ValueId {
        let meta = Meta {
            scalar_type: 6,
            sizes: sizes.to_vec(),
            strides: vec![sizes[1], 1],
        };
        g.push(op, operands.to_vec(), meta, 0)
    }

    /// How a kernel writes `2 * x`, of so many rows of 4 KiB, that a call reads if told; it is returned if told.
    fn access(rows: i64, read: bool, returned: bool) -> Access {
        let mut g = Graph::default();
        let sizes = [rows, 1024];
        let x = push(&mut g, Op::Input(0), &[], sizes);
        let sum = push(&mut g, Op::Binary(BinaryOp::Add), &[x, x], sizes);
        let sum = push(&mut g, Op::Unary(UnaryOp::Sqrt), &[sum], sizes);
        let operand = if read { sum } else { x };
        let call = Op::External {
            name: "aten.a.default".into(),
            route: Route::Python(Callable {
                index: 0,
                numbers: Vec::new(),
            }),
            args: g.tensor_arguments(&[operand]),
        };
        let called = push(&mut g, call, &[operand], sizes);
        g.outputs.push(GraphOutput::Value(called));
        if returned {
            g.outputs.push(GraphOutput::Value(sum));
        }
        g.origins.push(Origin::default());
        g.num_inputs = 1;
        let mut clusters = cluster(&g).unwrap();
        mark(&g, &mut clusters);
        let kernels = clusters.groups.iter().flat_map(|group| &group.kernels);
        let mut params = kernels.flat_map(|k| k.tensors.iter().zip(k.kernel.params.values()));
        let written = params.find(|(v, p)| **v == sum && p.access != Access::In);
        written.unwrap().1.access
    }

    #[test]
    fn only_large_results_that_nobody_reads_go_past_the_caches() {
        let large = (BETWEEN.1 / 4096) as i64;
        assert_eq!(access(large, false, true), Access::Stream);
        assert_eq!(access(large, true, true), Access::Out);
        assert_eq!(access(large, true, false), Access::Out);
        assert_eq!(
            access((BETWEEN.0 / 4096) as i64 - 1, false, true),
            Access::Out
        );
    }
}
