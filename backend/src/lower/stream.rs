//! Results that no cache could keep until they are read: their stores go past the caches, so that memory is not read before
//! it is overwritten.

use crate::fusion::cluster::Clusters;
use crate::graph::{Graph, GraphOutput, ValueId};
use cranelift_entity::EntitySet;
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
    let mut returned: EntitySet<ValueId> = EntitySet::new();
    for output in &graph.outputs {
        if let GraphOutput::Value(v) = output {
            returned.insert(*v);
        }
    }
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
