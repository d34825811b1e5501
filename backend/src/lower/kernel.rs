//! Kernels of pointwise groups.

use super::eval::Eval;
use super::index::AffineExpr;
use crate::fusion::refusal::Refusal;
use crate::graph::{Graph, NodeId, ValueId};
use cranelift_entity::{EntitySet, PrimaryMap};
use ipex_jit::kernel::{Access, Kernel, Loop, Mem, Stmt, Var, VarId};
use std::collections::HashMap;

/// A kernel, and the values its parameters stand for.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// The kernel.
    pub kernel: Kernel,
    /// One value per parameter.
    pub tensors: Vec<ValueId>,
}

/// Lowers the nodes of `group` that `roots` (of one shape) need to a loop nest over that shape,
/// ordered by the first root's strides. A loop that a reshape cannot express is split.
pub fn pointwise(
    graph: &Graph,
    group: &EntitySet<NodeId>,
    roots: &[ValueId],
) -> Result<Lowered, Refusal> {
    let first = roots.first().ok_or(Refusal::Shapes)?;
    let meta = &graph.values[*first];
    if roots.iter().any(|&r| graph.values[r].sizes != meta.sizes) {
        return Err(Refusal::Shapes);
    }
    let mut order: Vec<usize> = (0..meta.sizes.len()).collect();
    order.sort_by_key(|&d| std::cmp::Reverse(meta.strides[d]));
    // Loops from outside in: dimension, extent, stride within the dimension.
    let mut loops: Vec<(usize, i64, i64)> = order.iter().map(|&d| (d, meta.sizes[d], 1)).collect();
    loop {
        match attempt(graph, group, roots, &loops) {
            Err(Refusal::Split { var, inner }) => {
                let k = var.as_u32() as usize;
                let (dim, extent, stride) = loops[k];
                loops[k] = (dim, extent / inner, stride * inner);
                loops.insert(k + 1, (dim, inner, stride));
            }
            done => return done,
        }
    }
}

fn attempt(
    graph: &Graph,
    group: &EntitySet<NodeId>,
    roots: &[ValueId],
    loops: &[(usize, i64, i64)],
) -> Result<Lowered, Refusal> {
    let mut vars = PrimaryMap::new();
    let mut idx = vec![AffineExpr::default(); graph.values[roots[0]].sizes.len()];
    for &(dim, extent, stride) in loops {
        let var = vars.push(Var {
            extent: extent as u64,
        });
        idx[dim] = idx[dim].add_scaled(&AffineExpr::var(var), stride);
    }
    if loops.is_empty() {
        vars.push(Var { extent: 1 });
    }
    let mut eval = Eval {
        graph,
        group,
        params: PrimaryMap::new(),
        tensors: Vec::new(),
        vars,
        values: PrimaryMap::new(),
        body: Vec::new(),
        memo: HashMap::new(),
        loads: HashMap::new(),
    };
    for &root in roots {
        let value = eval.eval(root, &idx)?;
        let mem = Mem::Param(eval.param(root, Access::Out)?);
        let index = eval.address(root, &idx);
        eval.body.push(Stmt::Store { mem, index, value });
    }
    let mut vars: Vec<VarId> = eval.vars.keys().collect();
    let nest = |var, vector, body| Loop {
        var,
        vector,
        body,
        carries: Vec::new(),
    };
    let inner = vars.pop().expect("at least one loop");
    let mut root = nest(inner, true, eval.body);
    while let Some(var) = vars.pop() {
        root = nest(var, false, vec![Stmt::Loop(root)]);
    }
    Ok(Lowered {
        kernel: Kernel {
            params: eval.params,
            scratch: PrimaryMap::new(),
            vars: eval.vars,
            values: eval.values,
            root,
        },
        tensors: eval.tensors,
    })
}
