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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Meta, Node, Op, View};
    use ipex_jit::kernel::{BinaryOp, Index, Inst};

    fn push(g: &mut Graph, op: Op, operands: &[ValueId], sizes: &[i64]) -> ValueId {
        let mut strides = vec![1; sizes.len()];
        for k in (1..sizes.len()).rev() {
            strides[k - 1] = strides[k] * sizes[k];
        }
        let v = g.values.push(Meta {
            scalar_type: 6,
            sizes: sizes.to_vec(),
            strides,
        });
        g.producers.push(g.nodes.next_key());
        g.nodes.push(Node {
            op,
            operands: operands.to_vec(),
            results: vec![v],
            origin: 0,
        });
        v
    }

    /// Runs loads, additions and stores.
    fn run(l: &Loop, k: &Kernel, at: &mut Vec<i64>, v: &mut Vec<f32>, mem: &mut [Vec<f32>]) {
        let place = |i: &Index, at: &[i64]| {
            let sum: i64 = i.vars.iter().map(|t| t.1 * at[t.0.as_u32() as usize]).sum();
            (sum + i.offset) as usize
        };
        for i in 0..k.vars[l.var].extent as i64 {
            at[l.var.as_u32() as usize] = i;
            for s in &l.body {
                match s {
                    Stmt::Loop(inner) => run(inner, k, at, v, mem),
                    Stmt::Let { value, inst } => {
                        v[value.as_u32() as usize] = match inst {
                            Inst::Load {
                                mem: Mem::Param(p),
                                index,
                            } => mem[p.as_u32() as usize][place(index, at)],
                            Inst::Binary {
                                op: BinaryOp::Add,
                                args: [a, b],
                            } => v[a.as_u32() as usize] + v[b.as_u32() as usize],
                            other => panic!("{other:?}"),
                        }
                    }
                    Stmt::Store {
                        mem: Mem::Param(p),
                        index,
                        value,
                    } => mem[p.as_u32() as usize][place(index, at)] = v[value.as_u32() as usize],
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    #[test]
    fn add_of_reshaped_and_transposed() {
        let mut g = Graph::default();
        let x = push(&mut g, Op::Input(0), &[], &[2, 3, 4]);
        let y = push(&mut g, Op::Input(1), &[], &[12, 2]);
        let x2 = push(&mut g, Op::View(View::Reshape), &[x], &[2, 12]);
        let y2 = push(&mut g, Op::View(View::Permute(vec![1, 0])), &[y], &[2, 12]);
        let sum = push(&mut g, Op::Binary(BinaryOp::Add), &[x2, y2], &[2, 12]);
        let mut group = EntitySet::new();
        for v in [x2, y2, sum] {
            group.insert(g.producers[v]);
        }
        let low = pointwise(&g, &group, &[sum]).unwrap();
        assert_eq!(low.tensors, [x, y, sum]);
        let k = &low.kernel;
        assert_eq!(k.vars.len(), 3);
        let data: Vec<f32> = (0..24).map(|i| i as f32).collect();
        let mut mem = [data.clone(), data, vec![-1.0; 24]];
        run(
            &k.root,
            k,
            &mut vec![0; 3],
            &mut vec![0.0; k.values.len()],
            &mut mem,
        );
        for i in 0..2 {
            for j in 0..12 {
                assert_eq!(mem[2][i * 12 + j], (i * 12 + j + j * 2 + i) as f32);
            }
        }
    }
}
