//! Kernels that oneDNN computes in the convolution in front of them.

use super::planewise::is_private;
use crate::fusion::cluster::Group;
use crate::gpu::epilogue::activated;
use crate::gpu::expr::{Expr, Function, element};
use crate::graph::{Graph, Meta, Node, NodeId, Op, ValueId};
use ipex_jit::kernel::ParamId;
use ipex_runtime::aten::onednn::PostOp;
use ipex_runtime::level_zero::epilogue::Activation;
use ipex_runtime::plan::{BufferId, NotOnednn, OnednnStep, TensorRef};
use thiserror::Error;

/// Why a kernel that reads the result of a convolution of ATen's stays a kernel; `ipexc explain` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotPostOp {
    /// The convolution itself is left to ATen.
    #[error("the convolution stays ATen's: {0}")]
    Convolution(#[from] NotOnednn),
    /// The kernel computes more than one result, or of more than the convolution's.
    #[error("more than one result, or more operands")]
    Several,
    /// Something else reads the convolution's result.
    #[error("the convolution's result is needed as well")]
    ReadElsewhere,
    /// The results differ in shape, order or type.
    #[error("a result of another shape, order or type")]
    Layout,
    /// oneDNN has it, but makes a number of a NaN, or a NaN of an infinity.
    #[error("oneDNN's {0} is another function of NaN or infinities")]
    Special(&'static str),
    /// oneDNN has it, but takes longer than a kernel of its own.
    #[error("oneDNN's {0} is slower than a kernel")]
    Slower(&'static str),
    /// Results of operators are rounded one by one.
    #[error("the convolution's result has to be rounded first")]
    Rounded,
    /// There is no such post-op.
    #[error("no post-op of oneDNN's")]
    Other,
}

/// What the group behind a convolution that may be oneDNN's becomes: its result and the function of the convolution's. None if there
/// is no convolution of ATen's in front of it, or it does not read that.
pub fn post_op(graph: &Graph, groups: &[Group], k: usize) -> Option<Result<Found, NotPostOp>> {
    let (first, then) = (groups.get(k.checked_sub(1)?)?, groups.get(k)?);
    let (&[node], &[result]) = (first.nodes.as_slice(), first.roots.as_slice()) else {
        return None;
    };
    let is_convolution = graph.origin(node).contains("aten.convolution.default")
        && matches!(&graph.nodes[node].op, Op::External { route, .. } if route.allocates());
    let reads = then.kernels.iter().any(|l| l.tensors.contains(&result));
    (is_convolution && reads && !graph.gpu).then(|| found(graph, groups, node, then))
}

/// A post-op.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// The convolution's result.
    pub of: ValueId,
    /// What takes its place.
    pub result: ValueId,
    /// The function.
    pub function: PostOp,
}

fn found(graph: &Graph, groups: &[Group], node: NodeId, then: &Group) -> Result<Found, NotPostOp> {
    let of = graph.nodes[node].results[0];
    let ([lowered], &[result]) = (then.kernels.as_slice(), then.roots.as_slice()) else {
        return Err(NotPostOp::Several);
    };
    let checked = |n: &NodeId| graph.nodes[*n].op.gathers() || graph.nodes[*n].op.mutates();
    let (&[from, into], false) = (lowered.tensors.as_slice(), then.nodes.iter().any(checked))
    else {
        return Err(NotPostOp::Several);
    };
    if (from, into) != (of, result) {
        return Err(NotPostOp::Several);
    }
    if !is_private(graph, groups, of, then) {
        return Err(NotPostOp::ReadElsewhere);
    }
    let (before, after) = (&graph.values[of], &graph.values[result]);
    let element = element(&lowered.kernel).ok_or(NotPostOp::Other)?;
    let [param, out] = [0, 1].map(ParamId::from_u32);
    let in_order = element.loads.get(&param) == Some(&element.store.1) && element.store.0 == out;
    let same = |m: &Meta| (m.scalar_type, m.sizes.clone(), m.strides.clone());
    if !in_order || same(before) != same(after) || !before.is_dense() {
        return Err(NotPostOp::Layout);
    }
    let function = function(&element.value, &Expr::Load(param))?;
    if graph.rounds_each && before.scalar_type != ipex_runtime::DType::F32.torch_code() {
        return Err(NotPostOp::Rounded);
    }
    convolution(graph, &graph.nodes[node])?;
    Ok(Found {
        of,
        result,
        function,
    })
}

/// A convolution of ATen's as one of oneDNN's, with buffers that say nothing.
pub fn convolution(graph: &Graph, node: &Node) -> Result<OnednnStep, NotOnednn> {
    // Some calls have no result.
    let (Op::External { name, route, .. }, &[result]) = (&node.op, node.results.as_slice()) else {
        return Err(NotOnednn::Call);
    };
    let tensor = |&v: &ValueId| {
        let meta = &graph.values[v];
        TensorRef {
            buffer: BufferId(0),
            scalar_type: meta.scalar_type,
            sizes: meta.sizes.clone(),
            strides: meta.strides.clone(),
            offset: 0,
        }
    };
    let tensors: Vec<TensorRef> = node.operands.iter().map(tensor).collect();
    OnednnStep::of(name, route, &tensors, tensor(&result))
}

/// The function of `x` that a value is.
fn function(e: &Expr, x: &Expr) -> Result<PostOp, NotPostOp> {
    let call = |f: Function| Expr::Call(f, Box::new(x.clone()));
    // min(max(x + 3, 0), 6) / 6
    let shifted = Expr::sum([x.clone(), Expr::constant(3.0)]);
    let clamped = Expr::Min(Box::new(Expr::Max(Box::new(shifted), 0.0)), 6.0);
    let hard = |of: Option<Expr>| {
        Expr::product(
            [clamped.clone(), Expr::constant(1.0 / 6.0)]
                .into_iter()
                .chain(of),
        )
    };
    let hardswish = hard(Some(x.clone()));
    let slower = [
        ("SiLU", activated(Activation::Silu, x)),
        ("GELU by tanh", activated(Activation::GeluTanh, x)),
        ("sigmoid", call(Function::Sigmoid)),
        ("tanh", call(Function::Tanh)),
    ];
    if let Some((name, _)) = slower.iter().find(|(_, form)| form.is_like(e)) {
        return Err(NotPostOp::Slower(name));
    }
    let special = [
        ("GELU", activated(Activation::Gelu, x)),
        ("hard sigmoid", hard(None)),
    ];
    if let Some((name, _)) = special.iter().find(|(_, form)| form.is_like(e)) {
        return Err(NotPostOp::Special(name));
    }
    match e {
        e if e.is_like(&hardswish) => Ok(PostOp::Hardswish),
        Expr::Leaky(of, slope) if **of == *x => Ok(PostOp::LeakyRelu(*slope)),
        Expr::Max(of, 0.0) if **of == *x => Err(NotPostOp::Special("ReLU")),
        Expr::Min(of, _) if matches!(&**of, Expr::Max(of, _) if **of == *x) => {
            Err(NotPostOp::Special("clamp"))
        }
        _ => Err(NotPostOp::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipex_jit::kernel::parse;

    fn of(body: &str) -> Result<PostOp, NotPostOp> {
        let last = body.lines().last().unwrap().split(':').next().unwrap();
        let text = format!(
            "kernel (p0: in f32, p1: out f32) {{
                loop i0 < 64 vector {{
                    v0: f32 = load p0[i0]
                    {body}
                    store p1[i0] = {last}
                }}
            }}"
        );
        let kernel = parse(&text).unwrap();
        let element = element(&kernel).ok_or(NotPostOp::Other)?;
        function(&element.value, &Expr::Load(ParamId::from_u32(0)))
    }

    const HARD: &str = "v1: f32 = const 3.0
        v2: f32 = add v0, v1
        v3: f32 = const 0.0
        v4: f32 = max v2, v3
        v5: f32 = const 6.0
        v6: f32 = min v4, v5
        v7: f32 = div v6, v5";

    #[test]
    fn functions() {
        let silu = of("v1: f32 = sigmoid v0\nv2: f32 = mul v0, v1");
        assert_eq!(silu, Err(NotPostOp::Slower("SiLU")));
        let slower = |name| Err(NotPostOp::Slower(name));
        assert_eq!(of("v1: f32 = tanh v0"), slower("tanh"));
        assert_eq!(of("v1: f32 = sigmoid v0"), slower("sigmoid"));
        let swish = format!("{HARD}\nv8: f32 = mul v0, v7");
        assert_eq!(of(&swish), Ok(PostOp::Hardswish));
        let other = swish.replace("const 3.0", "const 2.0");
        assert_eq!(of(&other), Err(NotPostOp::Other));
        let leaky = "v1: f32 = const 0.0
            v2: bool = gt v0, v1
            v3: f32 = const 0.25
            v4: f32 = mul v0, v3
            v5: f32 = select v2, v0, v4";
        assert_eq!(of(leaky), Ok(PostOp::LeakyRelu(0.25)));
        for (from, to) in [
            ("const 0.0", "const 1.0"),
            ("gt v0", "lt v0"),
            ("v0, v4", "v4, v0"),
        ] {
            assert_eq!(of(&leaky.replace(from, to)), Err(NotPostOp::Other), "{to}");
        }
    }

    #[test]
    fn functions_that_differ_at_nan_or_infinity() {
        let relu = "v1: f32 = const 0.0\nv2: f32 = max v0, v1";
        assert_eq!(of(relu), Err(NotPostOp::Special("ReLU")));
        let clamp = format!("{relu}\nv3: f32 = const 6.0\nv4: f32 = min v2, v3");
        assert_eq!(of(&clamp), Err(NotPostOp::Special("clamp")));
        assert_eq!(of(HARD), Err(NotPostOp::Special("hard sigmoid")));
        let gelu = "v1: f32 = const 0.5
            v2: f32 = mul v0, v1
            v3: f32 = const 0.70710677
            v4: f32 = mul v0, v3
            v5: f32 = erf v4
            v6: f32 = const 1.0
            v7: f32 = add v5, v6
            v8: f32 = mul v2, v7";
        assert_eq!(of(gelu), Err(NotPostOp::Special("GELU")));
        let other = of(&gelu.replace("const 1.0", "const 2.0"));
        assert_eq!(other, Err(NotPostOp::Other));
    }
}
