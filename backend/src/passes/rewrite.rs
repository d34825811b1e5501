//! A new graph that is made of another one node by node.

use crate::graph::builder::Builder;
use crate::graph::{Graph, GraphOutput, Node, ValueId};
use cranelift_entity::SecondaryMap;

/// The graph so far, and what became of the old one's values.
pub struct Rewrite<'a> {
    /// The graph that is read.
    pub old: &'a Graph,
    /// The graph that is made.
    pub graph: Graph,
    /// The new value in the place of each old one.
    pub map: SecondaryMap<ValueId, Option<ValueId>>,
}

impl<'a> Rewrite<'a> {
    /// No node yet.
    pub fn new(old: &'a Graph) -> Rewrite<'a> {
        let graph = Graph {
            num_inputs: old.num_inputs,
            origins: old.origins.clone(),
            not_attention: old.not_attention.clone(),
            not_joined: old.not_joined.clone(),
            joined: old.joined.clone(),
            of_bytes: old.of_bytes.clone(),
            not_bytes: old.not_bytes.clone(),
            gpu: old.gpu,
            rounds_each: old.rounds_each,
            ..Graph::default()
        };
        Rewrite {
            old,
            graph,
            map: SecondaryMap::new(),
        }
    }

    /// What an old value, whose node was copied or replaced, is now.
    pub fn at(&self, old: ValueId) -> ValueId {
        self.map[old].expect("values come before their uses")
    }

    /// Appends primitives of this origin.
    pub fn builder(&mut self, origin: u32) -> Builder<'_> {
        Builder {
            graph: &mut self.graph,
            origin,
        }
    }

    /// A node like an old one with these operands; its results.
    pub fn push(&mut self, node: &Node, operands: Vec<ValueId>) -> Vec<ValueId> {
        let old = self.old;
        let metas = node.results.iter().map(|&r| old.values[r].clone());
        self.graph
            .push_all(node.op.clone(), operands, metas, node.origin)
    }

    /// As `push`, in the place of the old one.
    pub fn put(&mut self, node: &Node, operands: Vec<ValueId>) {
        let results = self.push(node, operands);
        for (&old, new) in node.results.iter().zip(results) {
            self.map[old] = Some(new);
        }
    }

    /// The node as it is.
    pub fn copy(&mut self, node: &Node) {
        let operands = node.operands.iter().map(|&v| self.at(v)).collect();
        self.put(node, operands);
    }

    /// The graph with the old one's outputs.
    pub fn finish(mut self) -> Graph {
        let outputs = self.old.outputs.iter().map(|o| match o {
            GraphOutput::Value(v) => GraphOutput::Value(self.at(*v)),
            other => other.clone(),
        });
        self.graph.outputs = outputs.collect();
        self.graph
    }
}
