//! Products of a matrix with one of bytes.

use super::product::has_work;
use super::{CallArg, ExternalCall, ProductStep, Route, TensorRef};
use crate::DType;
use crate::cpu::Isa;
use crate::gemm::Precision;

impl ProductStep {
    /// Whether a product of `[m, k]` by `[k, n]` of these types is one for our kernels.
    pub fn takes_bytes(a: DType, b: DType, [m, n, k]: [i64; 3]) -> bool {
        use DType::{BF16, F16, F32, I8, U8};
        let types = match a {
            F32 | BF16 | F16 => matches!(b, I8 | U8),
            U8 | I8 => b == I8,
            _ => false,
        };
        types && Isa::detect() >= Isa::Avx2 && has_work([m, n, k].map(|s| s as usize))
    }

    /// The step for a call of [`Route::Bytes`]; none if the call is another. `pack` is where the packed form of the second
    /// matrix is kept: where floats are multiplied, that is the matrix itself.
    pub fn bytes(
        call: &ExternalCall,
        precision: Precision,
        pack: impl FnOnce(&TensorRef) -> Option<u32>,
    ) -> Option<ProductStep> {
        let (Route::Bytes, [Some(out)]) = (&call.route, call.outputs.as_slice()) else {
            return None;
        };
        let [CallArg::Tensor(a), CallArg::Tensor(b)] = call.args.as_slice() else {
            return None;
        };
        let floats = DType::from_torch(a.scalar_type)?.is_float();
        Some(ProductStep {
            name: call.name.clone(),
            a: a.clone(),
            b: b.clone(),
            beside: Vec::new(),
            input: None,
            out: out.clone(),
            alpha: 1.0,
            beta: 0.0,
            precision,
            pack: if floats { None } else { pack(b) },
            then: None,
        })
    }
}
