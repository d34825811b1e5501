//! Kernels of groups: a nest of loops over rows, and in it the passes over the columns.

use super::body::{Body, Pass, Place};
use super::collapse::collapse;
use super::eval::Eval;
use super::index::{AffineExpr, view_index};
use super::space::{Axis, LoopSpec, Space};
use super::staging;
use crate::fusion::refusal::Refusal;
use crate::graph::{Graph, NodeId, Op, ValueId, View};
use cranelift_entity::{EntitySet, PrimaryMap};
use ipex_jit::kernel::{
    self, Access, Carry, Const, Inst, Kernel, Loop, Mem, Stmt, Type, Var, VarId,
};

/// Largest kernel: keeps compile time and register pressure in bounds.
const MAX_VALUES: usize = 1000;
const MAX_PARAMS: usize = 40;

/// A kernel, and the values its parameters stand for.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// The kernel.
    pub kernel: Kernel,
    /// One value per parameter.
    pub tensors: Vec<ValueId>,
}

/// A value to compute, and the tensor it is stored in: its own, or a box of a larger one.
#[derive(Clone, Debug)]
pub struct Root {
    /// What is computed.
    pub value: ValueId,
    /// Where it goes.
    pub into: ValueId,
    /// First element of the box in each dimension of `into`.
    pub start: Vec<i64>,
}

impl Root {
    /// A value stored in its own tensor.
    pub fn whole(graph: &Graph, value: ValueId) -> Root {
        let start = vec![0; graph.values[value].sizes.len()];
        Root {
            value,
            into: value,
            start,
        }
    }
}

/// Lowers the nodes of `group` that `roots` need. A loop that a reshape cannot express is split.
pub fn lower(graph: &Graph, group: &EntitySet<NodeId>, roots: &[Root]) -> Result<Lowered, Refusal> {
    let first = roots.first().ok_or(Refusal::Shapes)?;
    let mut space = Space::of(graph, group, first.value);
    loop {
        match attempt(graph, group, roots, &space) {
            Err((Refusal::Split { inner, .. }, Some(k))) => space.split(k, inner),
            Err((refusal, _)) => return Err(refusal),
            Ok(done) => {
                if !reads_across(&done.kernel) {
                    return Ok(done);
                }
                let again = |space: Space| attempt(graph, group, roots, &space).ok();
                // Scratch is no cache on a GPU.
                let tiles = (!graph.gpu).then(|| staging::tiles(&space)).flatten();
                let staged = tiles.and_then(again);
                let staged = staged.and_then(|mut l| staging::stage(&mut l.kernel).map(|()| l));
                let tiled = || strips(&space).and_then(again);
                return Ok(staged.or_else(tiled).unwrap_or(done));
            }
        }
    }
}

/// Columns of a strip: their lines fit in the ways of the few cache sets that a power of two as stride reaches.
const STRIP: i64 = 32;

/// Whether a kernel of two loops reads across the order in which it writes.
fn reads_across(kernel: &Kernel) -> bool {
    let [Stmt::Loop(within)] = kernel.root.body.as_slice() else {
        return false;
    };
    let mut body = within.body.iter();
    body.any(|s| staging::is_across(s, kernel.root.var, within.var))
}

/// The space of a pointwise kernel in strips of columns, so that a line that is read across serves neighbouring
/// iterations of the outer loop while it is in cache.
fn strips(space: &Space) -> Option<Space> {
    let [outer, inner] = space.loops.as_slice() else {
        return None;
    };
    let fits = inner.extent % STRIP == 0 && inner.extent > STRIP && outer.extent > 1;
    if !space.cols.is_empty() || !fits {
        return None;
    }
    let mut strips = space.clone();
    strips.split(1, STRIP);
    strips.loops.swap(0, 1);
    Some(strips)
}

/// One attempt; a refusal comes with the loop that a split is asked for.
fn attempt(
    graph: &Graph,
    group: &EntitySet<NodeId>,
    roots: &[Root],
    space: &Space,
) -> Result<Lowered, (Refusal, Option<usize>)> {
    let stored = roots.iter().map(|r| r.value);
    let mut eval = Eval::new(graph, group, Body::new(space), stored);
    for root in roots {
        if let Err(refusal) = store(&mut eval, root) {
            let split = match refusal {
                Refusal::Split { var, .. } => eval.body.loop_of(var),
                _ => None,
            };
            return Err((refusal, split));
        }
    }
    let body = eval.body;
    if !body.reads_before_it_writes() {
        return Err((Refusal::InPlace, None));
    }
    let excess =
        body.values.len().saturating_sub(MAX_VALUES) + body.params.len().saturating_sub(MAX_PARAMS);
    if excess > 0 {
        return Err((Refusal::Size(excess), None));
    }
    Ok(assemble(body))
}

/// Computes a root at every element and stores it.
fn store(eval: &mut Eval, root: &Root) -> Result<(), Refusal> {
    let graph = eval.graph;
    let space = eval.body.space;
    let sizes = &graph.values[root.value].sizes;
    let numel = graph.values[root.value].numel();
    let reshape = |eval: &Eval, from: &[AffineExpr], from_sizes: &[i64]| {
        if from_sizes == sizes.as_slice() {
            return Ok(from.to_vec());
        }
        view_index(&View::Reshape, from, from_sizes, sizes, &eval.body.vars)
    };
    let idx = if numel == space.row_count() {
        let rows = eval.body.row_index.clone();
        reshape(eval, &rows, &space.rows)?
    } else if numel == space.row_count() * space.col_count() {
        let level = eval.level(root.value);
        let cols = eval.body.pass(level).index.clone();
        let full = space.full_sizes();
        let joined = space.join(&eval.body.row_index, &cols, &full, &space.dims)?;
        reshape(eval, &joined, &full)?
    } else {
        return Err(Refusal::Shapes);
    };
    let value = eval.eval(root.value, &idx)?;
    let producer = graph.producer(root.value);
    let param = if producer.op == Op::Assign {
        let param = eval.body.input(graph, producer.operands[1])?;
        eval.body.params[param].access = Access::InOut;
        param
    } else {
        eval.body.output(graph, root.into)?
    };
    let mem = Mem::Param(param);
    let at: Vec<AffineExpr> = idx
        .iter()
        .zip(&root.start)
        .map(|(e, &s)| AffineExpr::constant(s).add_scaled(e, 1))
        .collect();
    let level = eval.level(root.value);
    let place = eval.body.place(&idx, level);
    let index = eval.body.address(&graph.values[root.into].strides, &at);
    eval.body.store(place, mem, index, value);
    Ok(())
}

/// Puts loops around the statements.
fn assemble(body: Body) -> Lowered {
    let Body {
        space,
        params,
        tensors,
        scratch,
        mut vars,
        mut values,
        row_vars,
        before,
        passes,
        ..
    } = body;
    let mut rows: Vec<Stmt> = Vec::new();
    let mut passes = passes.into_iter();
    for stmts in before {
        rows.extend(stmts);
        if let Some(pass) = passes.next()
            && !(pass.body.is_empty() && pass.carries.is_empty())
        {
            rows.extend(nest_pass(pass, !space.vector_rows, &mut values, &mut vars));
        }
    }
    let mut row_vars = row_vars;
    if row_vars.is_empty() {
        row_vars.push(vars.push(Var { extent: 1 }));
    }
    let mut vector = space.vector_rows;
    while let Some(var) = row_vars.pop() {
        rows = vec![Stmt::Loop(Loop {
            var,
            vector,
            body: rows,
            carries: Vec::new(),
        })];
        vector = false;
    }
    let Some(Stmt::Loop(root)) = rows.pop() else {
        unreachable!("at least one loop was put around the rows")
    };
    let mut kernel = Kernel {
        params,
        scratch,
        vars,
        values,
        root,
    };
    collapse(&mut kernel);
    Lowered { kernel, tensors }
}

/// A kernel that writes one constant to all of a dense tensor.
pub fn fill(graph: &Graph, into: ValueId, value: Const) -> Result<Lowered, Refusal> {
    let numel = graph.values[into].numel();
    let space = Space {
        rows: vec![numel],
        cols: Vec::new(),
        dims: Vec::new(),
        loops: vec![LoopSpec {
            axis: Axis::Row(0),
            extent: numel,
            stride: 1,
        }],
        vector_rows: true,
    };
    let mut body = Body::new(&space);
    let ty = graph.values[into].ty().ok_or(Refusal::Shapes)?;
    let v = body.inst(Place::Row(0), ty, Inst::Const(value));
    let mem = Mem::Param(body.param(graph, into, Access::Out)?);
    let index = body.address(&[1], &body.row_index);
    body.store(Place::Row(0), mem, index, v);
    Ok(assemble(body))
}

/// The loops of a pass. Between nested loops a reduction is carried from the inner to the outer one.
fn nest_pass(
    pass: Pass,
    vector: bool,
    values: &mut PrimaryMap<kernel::ValueId, Type>,
    vars: &mut PrimaryMap<VarId, Var>,
) -> Vec<Stmt> {
    let Pass {
        vars: mut around,
        mut body,
        carries,
        ..
    } = pass;
    if around.is_empty() {
        around.push(vars.push(Var { extent: 1 }));
    }
    let depth = around.len();
    let mut contributed: Vec<kernel::ValueId> = carries.iter().map(|c| c.value).collect();
    for (k, &var) in around.iter().enumerate().rev() {
        let level: Vec<Carry> = carries
            .iter()
            .zip(&mut contributed)
            .map(|(c, v)| {
                let result = if k == 0 {
                    c.result
                } else {
                    values.push(values[c.result])
                };
                let value = std::mem::replace(v, result);
                Carry {
                    op: c.op,
                    value,
                    result,
                    arg: c.arg,
                }
            })
            .collect();
        let scans = |s: &Stmt| {
            matches!(
                s,
                Stmt::Let {
                    inst: Inst::Scan { .. },
                    ..
                }
            )
        };
        let vector = vector && k + 1 == depth && !body.iter().any(scans);
        body = vec![Stmt::Loop(Loop {
            var,
            vector,
            body,
            carries: level,
        })];
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Meta;
    use ipex_jit::kernel::{BinaryOp, Index, Inst, verify};

    fn push(g: &mut Graph, op: Op, operands: &[ValueId], sizes: &[i64]) -> ValueId {
        let mut strides = vec![1; sizes.len()];
        for k in (1..sizes.len()).rev() {
            strides[k - 1] = strides[k] * sizes[k];
        }
        let meta = Meta {
            scalar_type: 6,
            sizes: sizes.to_vec(),
            strides,
        };
        g.push(op, operands.to_vec(), meta, 0)
    }

    /// Runs loads, additions and stores.
    /// Memory of the parameters, then of the scratch rows.
    fn run(l: &Loop, k: &Kernel, at: &mut Vec<i64>, v: &mut Vec<f32>, mem: &mut [Vec<f32>]) {
        let slot = |m: &Mem| match m {
            Mem::Param(p) => p.as_u32() as usize,
            Mem::Scratch(s) => k.params.len() + s.as_u32() as usize,
        };
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
                            Inst::Load { mem: m, index } => mem[slot(m)][place(index, at)],
                            Inst::Binary {
                                op: BinaryOp::Add,
                                args: [a, b],
                            } => v[a.as_u32() as usize] + v[b.as_u32() as usize],
                            other => panic!("{other:?}"),
                        }
                    }
                    Stmt::Store {
                        mem: m,
                        index,
                        value,
                    } => mem[slot(m)][place(index, at)] = v[value.as_u32() as usize],
                }
            }
        }
    }

    #[test]
    fn add_of_reshaped_and_transposed() {
        let mut g = Graph::default();
        let x = push(&mut g, Op::Input(0), &[], &[3, 2, 4]);
        let turned = Op::View(View::Permute(vec![1, 0, 2]));
        let turned = push(&mut g, turned, &[x], &[2, 3, 4]);
        let y = push(&mut g, Op::Input(1), &[], &[12, 2]);
        let x2 = push(&mut g, Op::View(View::Reshape), &[turned], &[2, 12]);
        let y2 = push(&mut g, Op::View(View::Permute(vec![1, 0])), &[y], &[2, 12]);
        let sum = push(&mut g, Op::Binary(BinaryOp::Add), &[x2, y2], &[2, 12]);
        let mut group = EntitySet::new();
        for v in [x2, y2, sum] {
            group.insert(g.producers[v]);
        }
        let low = lower(&g, &group, &[Root::whole(&g, sum)]).unwrap();
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
                let x = j / 4 * 8 + i * 4 + j % 4;
                assert_eq!(mem[2][i * 12 + j], (x + j * 2 + i) as f32);
            }
        }
    }

    #[test]
    fn transposed_operands_are_read_in_strips() {
        let k = transposed_and_added(3, 2 * STRIP);
        assert_eq!((k.vars[k.root.var].extent, k.scratch.len()), (2, 0));
    }

    #[test]
    fn transposed_operands_that_fill_tiles_go_through_scratch() {
        // Rows of a tile: as many as leave 16 tiles.
        let of = [
            ((64, 32), 32 * 32),
            ((64, 192), 32 * 64),
            ((1024, 128), 64 * 128),
            ((2048, 96), 128 * 32),
            ((1056, 64), 32 * 64),
        ];
        for ((rows, cols), tile) in of {
            let k = transposed_and_added(rows, cols);
            let scratch: Vec<u64> = k.scratch.values().map(|s| s.len).collect();
            assert_eq!(scratch, [tile]);
            verify(&k).unwrap();
        }
    }

    /// The kernel, whose result is checked.
    fn transposed_and_added(rows: i64, cols: i64) -> Kernel {
        let mut g = Graph::default();
        let x = push(&mut g, Op::Input(0), &[], &[rows, cols]);
        let y = push(&mut g, Op::Input(1), &[], &[cols, rows]);
        let yt = push(
            &mut g,
            Op::View(View::Permute(vec![1, 0])),
            &[y],
            &[rows, cols],
        );
        let sum = push(&mut g, Op::Binary(BinaryOp::Add), &[x, yt], &[rows, cols]);
        let mut group = EntitySet::new();
        group.extend([g.producers[yt], g.producers[sum]]);
        let k = lower(&g, &group, &[Root::whole(&g, sum)]).unwrap().kernel;
        let data: Vec<f32> = (0..rows * cols).map(|i| i as f32).collect();
        let mut mem = vec![data.clone(), data, vec![-1.0; (rows * cols) as usize]];
        mem.extend(k.scratch.values().map(|s| vec![-1.0; s.len as usize]));
        let (mut at, mut v) = (vec![0; k.vars.len()], vec![0.0; k.values.len()]);
        run(&k.root, &k, &mut at, &mut v, &mut mem);
        for i in 0..rows {
            for j in 0..cols {
                let want = i * cols + j + j * rows + i;
                assert_eq!(mem[2][(i * cols + j) as usize], want as f32);
            }
        }
        k
    }
}
