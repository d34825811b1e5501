//! Fused kernels that the epilogue of a product or convolution computes as well.

use super::expr::{Element, Expr, Function, element};
use ipex_jit::kernel::{Index, Kernel, ParamId};
use ipex_runtime::DType;
use ipex_runtime::level_zero::epilogue::{Activation, Axis, Epilogue, Order};
use ipex_runtime::plan::device::Tail;
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI, SQRT_2};

/// The result in front of a kernel: row-major matrices; a convolution's are of channels by pixels, or of pixels by channels.
#[derive(Clone, Copy, Debug)]
pub struct Before {
    /// Rows and columns of a matrix.
    pub sizes: [i64; 2],
    /// Elements of all of them.
    pub numel: i64,
    /// Its type.
    pub dtype: DType,
    /// Whether it is the sum of a product and something.
    pub has_input: bool,
    /// Of a convolution, what its channels are.
    pub convolution: Option<Axis>,
}

/// The kernel as an epilogue of the result that is its parameter `of`; none if there is no such epilogue.
pub fn tail(kernel: &Kernel, of: ParamId, before: Before) -> Option<Tail> {
    let element = element(kernel)?;
    let (into, at) = element.store;
    let elements: i64 = at.vars.iter().map(|v| extent(kernel, v.0)).product();
    let same = |p: ParamId| kernel.params[p].dtype == before.dtype;
    // Sums of bytes have no epilogue as such.
    if !before.dtype.is_float()
        || elements != before.numel
        || !same(of)
        || !same(into)
        || element.loads.get(&of) != Some(&at)
    {
        return None;
    }
    let roles = Roles {
        kernel,
        element: &element,
        of,
        before,
    };
    let tail = roles.peel(&element.value)?;
    let changes = tail.factor != 1.0 || tail.bias.is_some() || tail.scale.is_some();
    let too_much =
        before.has_input && changes || before.convolution.is_some() && tail.factor != 1.0;
    (!too_much).then_some(tail)
}

fn extent(kernel: &Kernel, var: ipex_jit::kernel::VarId) -> i64 {
    kernel.vars[var].extent as i64
}

/// An activation of a value.
pub fn activated(kind: Activation, u: &Expr) -> Expr {
    let (c, u) = (Expr::constant, || u.clone());
    let call = |f: Function, x: Expr| Expr::Call(f, Box::new(x));
    // x / 2 * (1 + inner)
    let half = |inner: Expr| Expr::product([c(0.5), u(), Expr::sum([c(1.0), inner])]);
    match kind {
        Activation::None => u(),
        Activation::Relu => Expr::Max(Box::new(u()), 0.0),
        Activation::Silu => Expr::product([u(), call(Function::Sigmoid, u())]),
        Activation::Gelu => half(call(Function::Erf, Expr::product([c(FRAC_1_SQRT_2), u()]))),
        Activation::GeluTanh => {
            let cube = Expr::product([c(0.044715), u(), u(), u()]);
            let inner = Expr::product([c(FRAC_2_PI.sqrt()), Expr::sum([u(), cube])]);
            half(call(Function::Tanh, inner))
        }
    }
}

/// The activation that a value is, and of what.
fn activation(e: &Expr) -> (Activation, Expr) {
    use Activation::{Gelu, GeluTanh, Relu, Silu};
    let parts: Vec<Expr> = e.parts().into_iter().skip(1).cloned().collect();
    // The argument of erf: of a multiple of x, x is no part by itself.
    let scaled = |u: &Expr| Expr::product([Expr::constant(SQRT_2), u.clone()]);
    let candidates = || parts.iter().cloned().chain(parts.iter().map(scaled));
    for kind in [Relu, Silu, Gelu, GeluTanh] {
        if let Some(u) = candidates().find(|u| activated(kind, u).is_like(e)) {
            return (kind, u);
        }
    }
    (Activation::None, e.clone())
}

/// What parameters of the kernel are to the result.
struct Roles<'a> {
    kernel: &'a Kernel,
    element: &'a Element<'a>,
    of: ParamId,
    before: Before,
}

impl Roles<'_> {
    /// The epilogue that computes a value.
    fn peel(&self, e: &Expr) -> Option<Tail> {
        if let Some((residual, rest)) = self.without_residual(e)
            && let (kind, u) = activation(&rest)
            && kind != Activation::None
        {
            let mut tail = self.affine(&u)?;
            if tail.residual.is_some() {
                return None;
            }
            tail.residual = Some(residual.as_u32() as usize);
            tail.epilogue.residual = Some(Order::After);
            tail.epilogue.activation = kind;
            return Some(tail);
        }
        let (kind, u) = activation(e);
        let mut tail = self.affine(&u)?;
        tail.epilogue.activation = kind;
        Some(tail)
    }

    /// A sum without the matrix in it.
    fn without_residual(&self, e: &Expr) -> Option<(ParamId, Expr)> {
        let Expr::Sum(c, terms) = e else {
            return None;
        };
        let is_residual = |t: &Expr| matches!(t, Expr::Load(p) if self.is_residual(*p));
        let at = terms.iter().position(is_residual)?;
        let Expr::Load(p) = terms[at] else {
            return None;
        };
        let others = terms.iter().enumerate().filter(|(k, _)| *k != at);
        let rest = others.map(|(_, t)| t.clone());
        Some((p, Expr::sum(rest.chain([Expr::constant(*c)]))))
    }

    /// `result * scale + bias + residual`, or parts of it.
    fn affine(&self, u: &Expr) -> Option<Tail> {
        let (mut tail, mut rest) = (
            Tail {
                factor: 1.0,
                epilogue: Epilogue::default(),
                bias: None,
                scale: None,
                residual: None,
            },
            u.clone(),
        );
        if let Some((residual, less)) = self.without_residual(&rest) {
            tail.residual = Some(residual.as_u32() as usize);
            tail.epilogue.residual = Some(Order::Before);
            rest = less;
        }
        let terms = match rest {
            Expr::Sum(0.0, terms) => terms,
            Expr::Sum(..) => return None,
            one => vec![one],
        };
        let (own, others): (Vec<_>, Vec<_>) = terms.into_iter().partition(|t| t.reads(self.of));
        let ([own], others) = (own.as_slice(), others.as_slice()) else {
            return None;
        };
        match others {
            [] => {}
            [Expr::Load(p)] => {
                let dtype = self.kernel.params[*p].dtype;
                let wide = dtype == DType::F32;
                if !wide && dtype != self.before.dtype {
                    return None;
                }
                tail.epilogue.floats = wide;
                tail.epilogue.bias = Some(self.vector(*p)?);
                tail.bias = Some(p.as_u32() as usize);
            }
            _ => return None,
        }
        self.multiplied(own, &mut tail)?;
        Some(tail)
    }

    /// The result times a number and a vector, or one of them.
    fn multiplied(&self, e: &Expr, tail: &mut Tail) -> Option<()> {
        let (factor, factors) = match e {
            Expr::Product(c, factors) => (*c, factors.as_slice()),
            one => (1.0, std::slice::from_ref(one)),
        };
        let is_result = |f: &&Expr| **f == Expr::Load(self.of);
        let (own, others): (Vec<_>, Vec<_>) = factors.iter().partition(is_result);
        tail.factor = factor as f32;
        match (own.as_slice(), others.as_slice()) {
            ([_], []) => {}
            ([_], [Expr::Load(p)]) if self.kernel.params[*p].dtype == DType::F32 => {
                tail.epilogue.scale = Some(self.vector(*p)?);
                tail.scale = Some(p.as_u32() as usize);
            }
            _ => return None,
        }
        Some(())
    }

    /// Whether a parameter is a matrix laid out as the result.
    fn is_residual(&self, p: ParamId) -> bool {
        p != self.of
            && self.element.loads.get(&p) == Some(&self.element.store.1)
            && self.kernel.params[p].dtype == self.before.dtype
    }

    /// What a vector has a number for.
    fn vector(&self, p: ParamId) -> Option<Axis> {
        let (index, result): (&Index, &Index) = (self.element.loads.get(&p)?, self.element.store.1);
        let &[(var, 1)] = index.vars.as_slice() else {
            return None;
        };
        if index.offset != 0 || !index.values.is_empty() {
            return None;
        }
        let [rows, columns] = self.before.sizes;
        let &(_, stride) = result.vars.iter().find(|(v, _)| *v == var)?;
        let axis = match (stride, extent(self.kernel, var)) {
            (1, n) if n == columns => Axis::Column,
            (stride, n) if stride == columns && n == rows => Axis::Row,
            _ => return None,
        };
        // A vector of a convolution has a number for each channel.
        let channels = self.before.convolution;
        channels.is_none_or(|c| c == axis).then_some(axis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipex_jit::kernel::parse;

    const BEFORE: Before = Before {
        sizes: [6, 8],
        numel: 48,
        dtype: DType::BF16,
        has_input: false,
        convolution: None,
    };

    /// A kernel over a result of 6 x 8 (p0), a vector of 8 (p1), one of 6 (p2) and a matrix (p3), which stores its last value in p4.
    fn of(body: &str, before: Before) -> Option<Tail> {
        let last = body.lines().last()?.split(':').next()?.trim();
        let text = format!(
            "kernel (p0: in bf16, p1: in f32, p2: in bf16, p3: in bf16, p4: out bf16) {{
                loop i0 < 6 {{
                    loop i1 < 8 vector {{
                        v0: f32 = load p0[8*i0 + i1]
                        {body}
                        store p4[8*i0 + i1] = {last}
                    }}
                }}
            }}"
        );
        tail(&parse(&text).unwrap(), ParamId::from_u32(0), before)
    }

    const GELU: &str = "v1: f32 = const 0.5
        v2: f32 = mul v0, v1
        v3: f32 = const 0.70710677
        v4: f32 = mul v3, v0
        v5: f32 = erf v4
        v6: f32 = const 1.0
        v7: f32 = add v6, v5
        v8: f32 = mul v2, v7
        v9: f32 = narrow bf16 v8";

    #[test]
    fn activations() {
        let gelu = of(GELU, BEFORE).unwrap();
        assert_eq!(gelu.epilogue.activation, Activation::Gelu);
        assert_eq!((gelu.factor, gelu.bias, gelu.residual), (1.0, None, None));
        let relu = of("v1: f32 = const 0.0\nv2: f32 = max v0, v1", BEFORE).unwrap();
        assert_eq!(relu.epilogue.activation, Activation::Relu);
        let silu = of("v1: f32 = sigmoid v0\nv2: f32 = mul v1, v0", BEFORE).unwrap();
        assert_eq!(silu.epilogue.activation, Activation::Silu);
        // gelu(x / 2)
        let half = GELU.replace("mul v0, v1", "mul v10, v1");
        let half = half.replace("mul v3, v0", "mul v3, v10");
        let half = half.replacen('\n', "\nv10: f32 = mul v0, v1\n", 1);
        let half = of(&half, BEFORE).unwrap();
        assert_eq!(half.epilogue.activation, Activation::Gelu);
        assert!((half.factor - 0.5).abs() < 1e-6);
        // Another constant, another function.
        assert_eq!(of(&GELU.replace("0.70710677", "0.7"), BEFORE), None);
        assert_eq!(of(&GELU.replace("const 1.0", "const 2.0"), BEFORE), None);
        assert_eq!(
            of("v1: f32 = const 1.0\nv2: f32 = max v0, v1", BEFORE),
            None
        );
        assert_eq!(of("v1: f32 = exp v0", BEFORE), None);
        assert_eq!(of("v1: f32 = mul v0, v0", BEFORE), None);
    }

    const AFFINE: &str = "v1: f32 = load p1[i1]
        v2: f32 = load p2[i0]
        v3: f32 = load p3[8*i0 + i1]
        v4: f32 = mul v1, v0
        v5: f32 = add v4, v2
        v6: f32 = const 0.0
        v7: f32 = add v3, v5
        v8: f32 = max v7, v6";

    #[test]
    fn vectors_and_residuals() {
        let t = of(AFFINE, BEFORE).unwrap();
        let want = Epilogue {
            activation: Activation::Relu,
            bias: Some(Axis::Row),
            scale: Some(Axis::Column),
            floats: false,
            residual: Some(Order::Before),
        };
        assert_eq!(t.epilogue, want);
        assert_eq!((t.scale, t.bias, t.residual), (Some(1), Some(2), Some(3)));
        let after = AFFINE.replace("add v3, v5", "max v5, v6");
        let after = after.replace("max v7, v6", "add v7, v3");
        let after = of(&after, BEFORE).unwrap().epilogue;
        assert_eq!(after.residual, Some(Order::After));
        assert_eq!(after.activation, Activation::Relu);
        // The result has an input, or one of its pixels a vector.
        let has_input = Before {
            has_input: true,
            ..BEFORE
        };
        assert_eq!(of(AFFINE, has_input), None);
        for channels in [Axis::Row, Axis::Column] {
            let convolution = Before {
                convolution: Some(channels),
                ..BEFORE
            };
            assert_eq!(of(AFFINE, convolution), None);
            let other = AFFINE.replace("add v4, v2", "add v0, v2");
            let fits = of(&other, convolution).is_some();
            assert_eq!(fits, channels == Axis::Row, "{channels:?}");
        }
    }

    #[test]
    fn other_places() {
        for (from, to) in [
            ("p1[i1]", "p1[i1 + 1]"),
            ("p2[i0]", "p2[2*i0]"),
            ("p3[8*i0 + i1]", "p3[i0 + 6*i1]"),
            ("p3[8*i0 + i1]", "p0[i1]"),
        ] {
            assert_eq!(of(&AFFINE.replace(from, to), BEFORE), None, "{to}");
        }
        let wider = Before {
            numel: 96,
            ..BEFORE
        };
        assert_eq!(of(GELU, wider), None);
        let f32s = Before {
            dtype: DType::F32,
            ..BEFORE
        };
        assert_eq!(of(GELU, f32s), None);
    }
}
