//! Who reads a value.

use crate::graph::{Graph, GraphOutput, NodeId, ValueId};
use cranelift_entity::{EntitySet, SecondaryMap};

/// Readers of all values of a graph.
pub struct Uses {
    nodes: SecondaryMap<ValueId, Vec<NodeId>>,
    returned: EntitySet<ValueId>,
}

impl Uses {
    /// Collects them.
    pub fn of(graph: &Graph) -> Uses {
        let mut uses = Uses {
            nodes: SecondaryMap::new(),
            returned: EntitySet::new(),
        };
        for (id, node) in graph.nodes.iter() {
            for &v in &node.operands {
                uses.nodes[v].push(id);
            }
        }
        for output in &graph.outputs {
            if let GraphOutput::Value(v) = output {
                uses.returned.insert(*v);
            }
        }
        uses
    }

    /// Whether these nodes alone read the value.
    pub fn only(&self, value: ValueId, readers: &EntitySet<NodeId>) -> bool {
        let mut all = self.nodes[value].iter();
        !self.returned.contains(value) && all.all(|&n| readers.contains(n))
    }

    /// The node that reads the value, if it is the only one.
    pub fn single(&self, value: ValueId) -> Option<NodeId> {
        match self.nodes[value].as_slice() {
            &[node] if !self.returned.contains(value) => Some(node),
            _ => None,
        }
    }
}
