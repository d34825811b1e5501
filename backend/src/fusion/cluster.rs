//! Greedy clustering: a node joins the groups of its operands as long as the merged group lowers.

use super::refusal::Refusal;
use crate::graph::{Graph, GraphOutput, NodeId, Op, ValueId};
use crate::lower::assembly::lower_group;
use crate::lower::kernel::Lowered;
use crate::lower::one_pass;
use cranelift_entity::{EntitySet, SecondaryMap};
use ipex_jit::kernel::Kernel;
use std::collections::{HashMap, HashSet};

/// Nodes that run as one step (or, for a concatenation, as one kernel for each part).
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// Nodes in the graph's order.
    pub nodes: Vec<NodeId>,
    /// Values that others need.
    pub roots: Vec<ValueId>,
    /// The kernels; none for an external call.
    pub kernels: Vec<Lowered>,
}

/// The groups of a graph and why they are not larger.
#[derive(Clone, Debug, Default)]
pub struct Clusters {
    /// Groups in an order in which they can run.
    pub groups: Vec<Group>,
    /// Producer, consumer and the reason why they are apart.
    pub refusals: Vec<(NodeId, NodeId, Refusal)>,
}

struct Clustering<'a> {
    graph: &'a Graph,
    users: SecondaryMap<ValueId, Vec<NodeId>>,
    /// What comes after a node though it reads nothing of it: assignments of what the node reads; after a call of
    /// ATen the next one, since both may draw random numbers.
    later: SecondaryMap<NodeId, Vec<NodeId>>,
    /// The other way round.
    earlier: SecondaryMap<NodeId, Vec<NodeId>>,
    is_output: EntitySet<ValueId>,
    group_of: SecondaryMap<NodeId, u32>,
    groups: Vec<Option<Group>>,
    refusals: Vec<(NodeId, NodeId, Refusal)>,
    /// Reductions so far by what they reduce: dims and the operand's sizes.
    reductions: HashMap<(Vec<usize>, Vec<i64>), Vec<NodeId>>,
}

const NO_GROUP: u32 = u32::MAX;

/// Clusters a graph. An error is a node that cannot be lowered even alone.
pub fn cluster(graph: &Graph) -> Result<Clusters, (NodeId, Refusal)> {
    let mut c = Clustering {
        graph,
        users: SecondaryMap::new(),
        later: SecondaryMap::new(),
        earlier: SecondaryMap::new(),
        is_output: EntitySet::new(),
        group_of: SecondaryMap::with_default(NO_GROUP),
        groups: Vec::new(),
        refusals: Vec::new(),
        reductions: HashMap::new(),
    };
    for (id, node) in graph.nodes.iter() {
        for &v in &node.operands {
            c.users[v].push(id);
        }
    }
    for output in &graph.outputs {
        if let GraphOutput::Value(v) = output {
            c.is_output.insert(graph.owner(*v));
        }
    }
    for (id, node) in graph.nodes.iter() {
        if node.op == Op::Assign {
            let readers = c.consumers(node.operands[1]);
            readers.iter().for_each(|&n| c.put(n, id));
        }
    }
    let calls = graph.nodes.iter().filter(|(_, node)| node.op.may_draw());
    let calls: Vec<NodeId> = calls.map(|(id, _)| id).collect();
    calls.windows(2).for_each(|pair| c.put(pair[0], pair[1]));
    for (id, node) in graph.nodes.iter() {
        if !graph.is_free(id) && !matches!(node.op, Op::Input(_)) {
            c.add(id)?;
        }
    }
    if !graph.gpu {
        c.one_pass();
    }
    let mut groups = c.order();
    super::sink::sink(graph, &mut groups);
    Ok(Clusters {
        groups,
        refusals: c.refusals,
    })
}

impl Clustering<'_> {
    /// Keeps the order of two nodes.
    fn put(&mut self, first: NodeId, second: NodeId) {
        if first != second {
            self.later[first].push(second);
            self.earlier[second].push(first);
        }
    }

    /// Nodes with a group that use `value`, directly or through views.
    fn consumers(&self, value: ValueId) -> Vec<NodeId> {
        let mut found = Vec::new();
        let mut todo = vec![value];
        while let Some(v) = todo.pop() {
            for &user in &self.users[v] {
                if self.graph.is_free(user) {
                    todo.extend(&self.graph.nodes[user].results);
                } else {
                    found.push(user);
                }
            }
        }
        found
    }

    /// Nodes with a group that `id` reads from, the latest first.
    fn producers(&self, id: NodeId) -> Vec<NodeId> {
        let operands = self.graph.nodes[id].operands.iter();
        let mut found: Vec<NodeId> = operands
            .map(|&v| self.graph.producers[self.graph.owner(v)])
            .filter(|&p| self.group_of[p] != NO_GROUP)
            .collect();
        found.sort();
        found.dedup();
        found.reverse();
        found
    }

    fn add(&mut self, id: NodeId) -> Result<(), (NodeId, Refusal)> {
        let external = matches!(self.graph.nodes[id].op, Op::External { .. });
        let group = if external {
            Group {
                nodes: vec![id],
                roots: self.graph.nodes[id].results.clone(),
                kernels: vec![],
            }
        } else {
            self.lowered(vec![id]).map_err(|r| (id, r))?
        };
        self.group_of[id] = self.groups.len() as u32;
        self.groups.push(Some(group));
        if external {
            return Ok(());
        }
        for p in self.producers(id) {
            let (a, b) = (self.group_of[p], self.group_of[id]);
            if a == b || matches!(self.graph.nodes[p].op, Op::External { .. }) {
                continue;
            }
            if let Err(refusal) = self.merge(a, b) {
                self.refusals.push((p, id, refusal));
            }
        }
        self.join_siblings(id);
        Ok(())
    }

    /// Merges a reduction with others of the same dims that read a tensor of that size which it reads too.
    fn join_siblings(&mut self, id: NodeId) {
        let node = &self.graph.nodes[id];
        let Op::Reduce { dims, .. } = &node.op else {
            return;
        };
        let sizes = self.graph.values[node.operands[0]].sizes.clone();
        let numel = sizes.iter().product();
        let alike = self.reductions.entry((dims.clone(), sizes)).or_default();
        let earlier = alike.clone();
        alike.push(id);
        for sibling in earlier {
            let (a, b) = (self.group_of[sibling], self.group_of[id]);
            if a == b || !self.share_a_tensor(a, b, numel) {
                continue;
            }
            if let Err(refusal) = self.merge(a, b) {
                self.refusals.push((sibling, id, refusal));
            }
        }
    }

    fn share_a_tensor(&self, a: u32, b: u32, numel: i64) -> bool {
        let tensors = |g: u32| {
            let group = self.groups[g as usize].iter();
            let lowered = group.flat_map(|g| &g.kernels);
            lowered.flat_map(|l| l.tensors.iter().copied())
        };
        let mut shared = tensors(a).filter(|v| tensors(b).any(|w| *v == w));
        shared.any(|v| self.graph.values[v].numel() == numel)
    }

    fn merge(&mut self, a: u32, b: u32) -> Result<(), Refusal> {
        let members = |g: u32| self.groups[g as usize].iter().flat_map(|g| g.nodes.clone());
        let mut nodes: Vec<NodeId> = members(a).chain(members(b)).collect();
        nodes.sort();
        self.check_between(&nodes, [a, b])?;
        let group = self.lowered(nodes)?;
        for &n in &group.nodes {
            self.group_of[n] = a;
        }
        self.groups[a as usize] = Some(group);
        self.groups[b as usize] = None;
        Ok(())
    }

    /// Sums along columns join the rows that read the same, if their parts are enough for all threads.
    fn one_pass(&mut self) {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        for b in 0..self.groups.len() as u32 {
            let kernel = self.kernel(b).map(|l| &l.kernel);
            let Some(size) = kernel.and_then(one_pass::size) else {
                continue;
            };
            if size.parts < threads {
                continue;
            }
            let mut others = (0..self.groups.len() as u32).filter(|&a| a != b);
            let joined = others.find_map(|a| {
                let shared = self.share_a_tensor(a, b, size.elements as i64);
                shared
                    .then(|| self.in_one_pass(a, b))
                    .flatten()
                    .map(|g| (a, g))
            });
            if let Some((a, group)) = joined {
                for &n in &group.nodes {
                    self.group_of[n] = a;
                }
                self.groups[a as usize] = Some(group);
                self.groups[b as usize] = None;
            }
        }
    }

    /// The only kernel of a group.
    fn kernel(&self, group: u32) -> Option<&Lowered> {
        match self.groups[group as usize].as_ref()?.kernels.as_slice() {
            [lowered] => Some(lowered),
            _ => None,
        }
    }

    fn in_one_pass(&self, a: u32, b: u32) -> Option<Group> {
        let joined = one_pass::join(self.kernel(a)?, self.kernel(b)?)?;
        let both = [a, b].map(|g| &self.groups[g as usize]);
        let both = || both.into_iter().flatten();
        let mut nodes: Vec<NodeId> = both().flat_map(|g| g.nodes.clone()).collect();
        nodes.sort();
        self.check_between(&nodes, [a, b]).ok()?;
        Some(Group {
            nodes,
            roots: both().flat_map(|g| g.roots.clone()).collect(),
            kernels: vec![joined],
        })
    }

    /// Refuses to merge two groups with these nodes if a path leaves them and comes back, or a mutation parts them.
    fn check_between(&self, nodes: &[NodeId], merged: [u32; 2]) -> Result<(), Refusal> {
        let (Some(&first), Some(&last)) = (nodes.first(), nodes.last()) else {
            return Ok(());
        };
        let mut outside: HashSet<u32> = HashSet::new();
        let of_group = |g: u32| merged.contains(&g);
        // Groups reached from the merged one without being part of it, by walking forward.
        let mut todo: Vec<u32> = Vec::new();
        let push = |todo: &mut Vec<u32>, seen: &mut HashSet<u32>, nodes: &[NodeId]| {
            for &n in nodes {
                for g in self.groups_after(n) {
                    if g != NO_GROUP && !of_group(g) && seen.insert(g) {
                        todo.push(g);
                    }
                }
            }
        };
        push(&mut todo, &mut outside, nodes);
        while let Some(g) = todo.pop() {
            let members = self.groups[g as usize]
                .as_ref()
                .map_or(&[][..], |g| &g.nodes);
            for &n in members {
                if self.groups_after(n).any(of_group) {
                    return Err(Refusal::Between);
                }
            }
            push(&mut todo, &mut outside, members);
        }
        let mutated = self
            .graph
            .nodes
            .iter()
            .any(|(id, n)| first < id && id < last && n.op.calls_mutation());
        if mutated {
            Err(Refusal::Between)
        } else {
            Ok(())
        }
    }

    /// The groups of the nodes that use `n`'s results or come later for another reason.
    fn groups_after(&self, n: NodeId) -> impl Iterator<Item = u32> + '_ {
        let results = self.graph.nodes[n].results.iter();
        let users = results.flat_map(|&r| self.consumers(r));
        let later = users.chain(self.later[n].iter().copied());
        later.map(|user| self.group_of[user])
    }

    fn lowered(&self, nodes: Vec<NodeId>) -> Result<Group, Refusal> {
        let mut set: EntitySet<NodeId> = EntitySet::new();
        set.extend(nodes.iter().copied());
        let is_unchecked = |n: &NodeId| {
            let node = &self.graph.nodes[*n];
            let mut indices = node.operands.iter().skip(1).map(|&v| self.graph.owner(v));
            node.op.gathers() && indices.any(|v| set.contains(self.graph.producers[v]))
        };
        if nodes.iter().any(is_unchecked) {
            return Err(Refusal::UncheckedIndex);
        }
        let results = nodes
            .iter()
            .flat_map(|&n| &self.graph.nodes[n].results)
            .copied();
        let roots: Vec<ValueId> = results
            .filter(|&v| {
                let used = self.consumers(v);
                // A consumer without a group yet comes later.
                self.is_output.contains(v)
                    || self.graph.producer(v).op == Op::Assign
                    || used.iter().any(|&u| !set.contains(u))
            })
            .collect();
        // A value that nobody needs is computed all the same while its consumers are unknown.
        let roots = if roots.is_empty() {
            nodes
                .last()
                .map(|&n| self.graph.nodes[n].results.clone())
                .unwrap_or_default()
        } else {
            roots
        };
        let kernels = lower_group(self.graph, &set, &roots)?;
        Ok(Group {
            nodes,
            roots,
            kernels,
        })
    }

    /// Topological order; among what can run, the group that comes first in the graph, and with it what computes the
    /// same on other tensors: that is one step then.
    fn order(&mut self) -> Vec<Group> {
        let mut kinds: HashMap<Kernel, usize> = HashMap::new();
        let mut groups: Vec<(u32, Option<usize>, Group)> = Vec::new();
        for (k, group) in self.groups.iter_mut().enumerate() {
            let Some(group) = group.take() else { continue };
            let kind = one_kernel(&group).map(|kernel| {
                let next = kinds.len();
                *kinds.entry(kernel).or_insert(next)
            });
            groups.push((k as u32, kind, group));
        }
        groups.sort_by_key(|(_, _, g)| g.nodes.last().copied());
        let mut done: EntitySet<NodeId> = EntitySet::new();
        let mut ordered = Vec::with_capacity(groups.len());
        while !groups.is_empty() {
            let is_ready = |k: u32, g: &Group| {
                g.nodes.iter().all(|&n| {
                    let producers = self.producers(n);
                    let mut before = producers.iter().chain(&self.earlier[n]);
                    before.all(|&p| done.contains(p) || self.group_of[p] == k)
                })
            };
            let first = groups.iter().position(|(k, _, g)| is_ready(*k, g));
            let first = first.expect("merging made no cycle");
            let kind = groups[first].1;
            let same = |other: Option<usize>| kind.is_some() && other == kind;
            let (now, later): (Vec<_>, Vec<_>) = groups
                .into_iter()
                .enumerate()
                .partition(|(n, (k, other, g))| *n == first || same(*other) && is_ready(*k, g));
            groups = later.into_iter().map(|(_, group)| group).collect();
            for (_, (_, _, group)) in now {
                done.extend(group.nodes.iter().copied());
                ordered.push(group);
            }
        }
        ordered
    }
}

/// The only kernel of a group, whatever its outermost loop's extent is.
fn one_kernel(group: &Group) -> Option<Kernel> {
    match group.kernels.as_slice() {
        [lowered] => Some(lowered.kernel.of_any_extent()),
        _ => None,
    }
}
