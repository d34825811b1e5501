//! Kernels that read a convolution's result plane by plane, or a product's row by row: they run on what
//! a thread has just computed, while it is in its cache. A row counts as a plane here.

use super::post_ops::post_op;
use crate::fusion::cluster::Group;
use crate::fusion::sink::{reads, through_views};
use crate::gpu::epilogue::{Before, tail};
use crate::graph::{Graph, GraphOutput, NodeId, Op, ValueId};
use ipex_jit::kernel::{Index, Inst, Kernel, Mem, ParamId, Stmt, VarId};
use ipex_runtime::aten::onednn::PostOp;
use ipex_runtime::conv::{Operation, Order};
use ipex_runtime::level_zero::epilogue::Axis;
use ipex_runtime::plan::Route;
use ipex_runtime::plan::device::Tail;

/// How a kernel walks planes: every `planes` of them belong to `iterations` of its outermost loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planewise {
    /// Planes that belong together.
    pub planes: i64,
    /// Iterations for them.
    pub iterations: i64,
    /// Whether every element is read only where the result of the same place is stored in `into`.
    pub in_place: Option<ParamId>,
}

/// A group that runs inside of the convolution or product in front of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Follower {
    /// The convolution's or product's result.
    pub result: ValueId,
    /// How it becomes part of that.
    pub way: Way,
    /// The group's result that takes the memory of that result.
    pub in_place: Option<ValueId>,
}

/// How a group becomes part of the convolution or product in front of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Way {
    /// Its kernel runs on what is in cache; on a GPU it is an epilogue.
    Walk(Planewise, Option<Tail>),
    /// oneDNN computes this function, whose result it is.
    PostOp(PostOp, ValueId),
}

/// The groups that run inside of the convolution or product in front of them. On a GPU every kernel is a launch of its own, but
/// for those that are epilogues.
pub fn followers(graph: &Graph, groups: &[Group], gpu: bool) -> Vec<Option<Follower>> {
    let mut all = vec![None; groups.len()];
    for (k, pair) in groups.windows(2).enumerate() {
        let found = follower(graph, groups, &pair[0], &pair[1]);
        all[k + 1] = match gpu {
            true => found.and_then(|f| epilogue(graph, &pair[0], &pair[1], f)),
            false => found.or_else(|| by_onednn(graph, groups, k + 1)),
        };
    }
    all
}

/// A group that oneDNN computes in the convolution in front of it.
fn by_onednn(graph: &Graph, groups: &[Group], k: usize) -> Option<Follower> {
    let found = post_op(graph, groups, k)?.ok()?;
    Some(Follower {
        result: found.of,
        way: Way::PostOp(found.function, found.result),
        in_place: None,
    })
}

/// A follower as an epilogue.
fn epilogue(graph: &Graph, first: &Group, then: &Group, follower: Follower) -> Option<Follower> {
    follower.in_place?;
    let (&[node], [lowered]) = (first.nodes.as_slice(), then.kernels.as_slice()) else {
        return None;
    };
    let (node, meta) = (&graph.nodes[node], &graph.values[follower.result]);
    let Op::External { route, .. } = &node.op else {
        return None;
    };
    let numel = meta.numel();
    let sizes = match (route, meta.sizes.as_slice()) {
        (&Route::Convolution(order, Operation::Sum, shape), _) => {
            let (outputs, planes) = (shape.outputs as i64, (shape.images * shape.outputs) as i64);
            match order {
                Order::Pixels => [numel / outputs.max(1), outputs],
                Order::Planes => [outputs, numel / planes.max(1)],
            }
        }
        (Route::OutFunction { .. }, &[.., rows, columns]) => [rows, columns],
        _ => return None,
    };
    let before = Before {
        sizes,
        numel,
        dtype: meta.dtype()?,
        has_input: node.operands.len() > 2,
        convolution: match route {
            Route::Convolution(Order::Pixels, ..) => Some(Axis::Column),
            Route::Convolution(Order::Planes, ..) => Some(Axis::Row),
            _ => None,
        },
    };
    let at = lowered.tensors.iter().position(|&v| v == follower.result)?;
    let tail = tail(&lowered.kernel, ParamId::from_u32(at as u32), before)?;
    match follower.way {
        Way::Walk(walk, _) => Some(Follower {
            way: Way::Walk(walk, Some(tail)),
            ..follower
        }),
        Way::PostOp(..) => None,
    }
}

fn follower(graph: &Graph, groups: &[Group], first: &Group, then: &Group) -> Option<Follower> {
    let (&[node], &[result]) = (first.nodes.as_slice(), first.roots.as_slice()) else {
        return None;
    };
    let Op::External { route, .. } = &graph.nodes[node].op else {
        return None;
    };
    let meta = &graph.values[result];
    let (planes, together) = match (route, meta.sizes.as_slice()) {
        (Route::Convolution(Order::Pixels, _, shape), _) => {
            (meta.numel() / shape.outputs.max(1) as i64, i64::MAX)
        }
        (Route::Convolution(Order::Planes, _, shape), _) => {
            ((shape.images * shape.outputs) as i64, i64::MAX)
        }
        (Route::OutFunction { .. } | Route::Joined { .. } | Route::Bytes(_), [rows @ .., _]) => {
            (rows.iter().product(), 1)
        }
        _ => return None,
    };
    if planes == 0 || graph.values[result].numel() == 0 {
        return None;
    }
    // What it assigns may be what the first one still reads.
    let checked = |n: &NodeId| graph.nodes[*n].op.gathers() || graph.nodes[*n].op.mutates();
    let [lowered] = then.kernels.as_slice() else {
        return None;
    };
    let at = lowered.tensors.iter().position(|&v| v == result)?;
    if then.nodes.iter().any(checked) {
        return None;
    }
    let len = graph.values[result].numel() / planes;
    let walk = planewise(&lowered.kernel, ParamId::from_u32(at as u32), planes, len)?;
    if walk.planes > together {
        return None;
    }
    let in_place = walk.in_place.map(|p| lowered.tensors[p.as_u32() as usize]);
    let in_place = in_place.filter(|&into| {
        let (from, into) = (&graph.values[result], &graph.values[into]);
        let same = (from.scalar_type, from.numel()) == (into.scalar_type, into.numel());
        same && is_private(graph, groups, result, then)
    });
    Some(Follower {
        result,
        way: Way::Walk(walk, None),
        in_place,
    })
}

/// Whether only `then` reads a value.
pub(super) fn is_private(graph: &Graph, groups: &[Group], value: ValueId, then: &Group) -> bool {
    let mut others = groups.iter().filter(|g| g.nodes != then.nodes);
    let in_group = |g: &Group| reads(graph, g, value);
    let returned =
        |o: &GraphOutput| matches!(o, GraphOutput::Value(v) if through_views(graph, *v, value));
    !others.any(in_group) && !graph.outputs.iter().any(returned)
}

/// Whether iterations of `kernel` read whole planes of parameter `of`, which has `planes` of `len`
/// elements, and none reads a plane of another.
pub fn planewise(kernel: &Kernel, of: ParamId, planes: i64, len: i64) -> Option<Planewise> {
    let extent = kernel.vars[kernel.root.var].extent as i64;
    let (together, iterations) = if extent % planes == 0 {
        (1, extent / planes)
    } else if planes % extent == 0 {
        (planes / extent, 1)
    } else {
        return None;
    };
    let mut loads: Vec<&Index> = Vec::new();
    let mut stores: Vec<(ParamId, &Index)> = Vec::new();
    visit(&kernel.root.body, of, &mut loads, &mut stores);
    let step = together * len / iterations;
    if step * iterations != together * len || !loads.iter().all(|i| inside(kernel, i, step)) {
        return None;
    }
    let first = *loads.first()?;
    let in_place = match stores.as_slice() {
        [(into, at)] if loads.iter().all(|&l| l == first) && *at == first => Some(*into),
        _ => None,
    };
    Some(Planewise {
        planes: together,
        iterations,
        in_place,
    })
}

fn visit<'a>(
    body: &'a [Stmt],
    of: ParamId,
    loads: &mut Vec<&'a Index>,
    stores: &mut Vec<(ParamId, &'a Index)>,
) {
    for stmt in body {
        match stmt {
            Stmt::Let {
                inst: Inst::Load { mem, index },
                ..
            } if *mem == Mem::Param(of) => loads.push(index),
            Stmt::Store {
                mem: Mem::Param(p),
                index,
                ..
            } => stores.push((*p, index)),
            Stmt::Loop(l) => visit(&l.body, of, loads, stores),
            _ => {}
        }
    }
}

/// Whether iteration i of the outermost loop stays in `i*step..(i+1)*step`.
fn inside(kernel: &Kernel, index: &Index, step: i64) -> bool {
    let root = kernel.root.var;
    let (mut low, mut high, mut of_root) = (index.offset, index.offset, 0);
    for &(var, stride) in &index.vars {
        if var == root {
            of_root = stride;
            continue;
        }
        let reach = stride * (extent(kernel, var) - 1);
        low += reach.min(0);
        high += reach.max(0);
    }
    index.values.is_empty() && of_root == step && low >= 0 && high < step
}

fn extent(kernel: &Kernel, var: VarId) -> i64 {
    kernel.vars[var].extent as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipex_jit::kernel::parse;

    /// A kernel that reads 6 planes of 8 elements at `index` and writes the last parameter at `to`.
    fn walk(loops: [u64; 2], index: &str, to: &str) -> Option<Planewise> {
        let [outer, inner] = loops;
        let text = format!(
            "kernel (p0: in f32, p1: out f32) {{
                loop i0 < {outer} {{
                    loop i1 < {inner} vector {{
                        v0: f32 = load p0[{index}]
                        store p1[{to}] = v0
                    }}
                }}
            }}"
        );
        let kernel = parse(&text).unwrap();
        planewise(&kernel, ParamId::from_u32(0), 6, 8)
    }

    #[test]
    fn planes_in_order() {
        let found = |planes, iterations, in_place: bool| {
            Some(Planewise {
                planes,
                iterations,
                in_place: in_place.then(|| ParamId::from_u32(1)),
            })
        };
        assert_eq!(walk([6, 8], "8*i0 + i1", "8*i0 + i1"), found(1, 1, true));
        assert_eq!(walk([12, 4], "4*i0 + i1", "4*i0 + i1"), found(1, 2, true));
        assert_eq!(walk([2, 24], "24*i0 + i1", "24*i0 + i1"), found(3, 1, true));
        assert_eq!(walk([6, 8], "8*i0 + i1", "i0 + 6*i1"), found(1, 1, false));
        assert_eq!(
            walk([6, 7], "8*i0 + i1 + 1", "8*i0 + i1"),
            found(1, 1, false)
        );
    }

    #[test]
    fn other_planes() {
        for (loops, index) in [
            ([6, 8], "8*i0 + i1 + 1"),
            ([6, 8], "-8*i0 + i1 + 40"),
            ([8, 6], "i0 + 8*i1"),
            ([6, 8], "i1"),
            ([4, 12], "12*i0 + i1"),
        ] {
            assert_eq!(walk(loops, index, "8*i0 + i1"), None, "{index}");
        }
    }
}
