//! Who reads a value.

use crate::graph::{Graph, NodeId, ValueId};
use cranelift_entity::{EntitySet, SecondaryMap};

/// Readers of all values of a graph.
pub struct Uses {
    nodes: SecondaryMap<ValueId, Vec<NodeId>>,
    returned: EntitySet<ValueId>,
}

impl Uses {
    /// Collects them.
    pub fn of(graph: &Graph) -> Uses {
        let mut nodes: SecondaryMap<ValueId, Vec<NodeId>> = SecondaryMap::new();
        for (id, node) in graph.nodes.iter() {
            node.operands.iter().for_each(|&v| nodes[v].push(id));
        }
        Uses {
            nodes,
            returned: graph.returned(),
        }
    }

    /// Whether the caller gets the value, or a node reads it that is not such a one.
    pub fn outside(&self, value: ValueId, such: impl Fn(NodeId) -> bool) -> bool {
        self.returned.contains(value) || !self.nodes[value].iter().all(|&n| such(n))
    }

    /// Whether nobody uses the value.
    pub fn none(&self, value: ValueId) -> bool {
        !self.returned.contains(value) && self.nodes[value].is_empty()
    }

    /// Whether these nodes alone read the value.
    pub fn only(&self, value: ValueId, readers: &EntitySet<NodeId>) -> bool {
        !self.outside(value, |n| readers.contains(n))
    }

    /// The node that reads the value, if it is the only one.
    pub fn single(&self, value: ValueId) -> Option<NodeId> {
        match self.nodes[value].as_slice() {
            &[node] if !self.returned.contains(value) => Some(node),
            _ => None,
        }
    }
}
