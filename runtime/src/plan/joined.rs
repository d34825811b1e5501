//! Products of one matrix with several that never change, as one product.

use super::{CallArg, ExternalCall, ProductStep, Route, TensorRef};
use crate::gemm::Precision;

impl ProductStep {
    /// The step for a call of [`Route::Joined`]; none if the call is another. `pack` is where the packed form of the
    /// second matrices is kept; there is none if one of them changes.
    pub fn joined(
        call: &ExternalCall,
        precision: Precision,
        pack: impl FnOnce(&[&TensorRef]) -> Option<u32>,
    ) -> Option<ProductStep> {
        let Route::Joined { bias } = call.route else {
            return None;
        };
        let [Some(out)] = call.outputs.as_slice() else {
            return None;
        };
        let tensors = call.args.iter().map(|arg| match arg {
            CallArg::Tensor(t) => Some(t.clone()),
            CallArg::Float(_) => None,
        });
        let mut tensors: Vec<TensorRef> = tensors.collect::<Option<_>>()?;
        if tensors.len() < 2 + usize::from(bias) {
            return None;
        }
        let input = bias.then(|| tensors.remove(0));
        let a = tensors.remove(0);
        let pack = pack(&tensors.iter().collect::<Vec<_>>())?;
        Some(ProductStep {
            name: call.name.clone(),
            a,
            b: tensors.remove(0),
            beside: tensors,
            groups: None,
            input,
            out: out.clone(),
            alpha: 1.0,
            beta: 1.0,
            precision,
            pack: Some(pack),
            then: None,
        })
    }

    /// What ATen would compute instead: each product into its columns of the result.
    pub fn separate(&self) -> Vec<ExternalCall> {
        let mut start = 0;
        let parts = std::iter::once(&self.b).chain(&self.beside).map(|b| {
            let n = b.sizes[1];
            let columns = |t: &TensorRef| {
                let last = t.sizes.len() - 1;
                let mut of = t.clone();
                of.sizes[last] = n;
                of.offset += start * t.strides[last];
                of
            };
            let factors = [self.a.clone(), b.clone()].map(CallArg::Tensor);
            let input = self.input.as_ref().map(|t| CallArg::Tensor(columns(t)));
            let (name, symbol, scales): (_, _, &[CallArg]) = match input {
                None => ("aten.mm.default", "aoti_torch_cpu_mm_out", &[]),
                Some(_) => (
                    "aten.addmm.default",
                    "aoti_torch_cpu_addmm_out",
                    &[CallArg::Float(1.0), CallArg::Float(1.0)],
                ),
            };
            let call = ExternalCall {
                name: name.into(),
                route: Route::OutFunction { symbol },
                keeps: false,
                args: input
                    .into_iter()
                    .chain(factors)
                    .chain(scales.iter().cloned())
                    .collect(),
                outputs: vec![Some(columns(&self.out))],
            };
            start += n;
            call
        });
        parts.collect()
    }
}
