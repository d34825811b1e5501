//! Products of a matrix with one of bytes.

use super::product::{has_work, matrix};
use super::{CallArg, ExternalCall, ProductStep, Route, TensorRef};
use crate::DType;
use crate::cpu::Isa;
use crate::gemm::{Factors, Groups, Nibbles, Precision, Quantised};

/// What a product of [`Route::Bytes`] multiplies its left matrix by. The tensors are that, and these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfBytes {
    /// The bytes of a matrix.
    All,
    /// The bytes as `(byte - zero) * scale`, where so many along the sum share both: `[k, n]` bytes whose columns lie along K,
    /// scales `[n, groups]`, and perhaps zero points like them.
    Groups(usize),
    /// Four bits of each element, in blocks of so many columns, with `size` elements along the sum that share factors:
    /// the tensors are memory for that (`[n, k / 2]` of bytes) and `[groups, n, 2]` of scales and zero points.
    Nibbles {
        /// Columns of a block.
        columns: usize,
        /// Elements of a group.
        size: usize,
    },
}

/// The scales and zero points of a product's second matrix, which is bytes.
#[derive(Clone, Debug)]
pub struct GroupFactors {
    /// Elements along the sum that share them.
    pub size: usize,
    /// By which bytes are multiplied.
    pub scales: TensorRef,
    /// What is taken off them before.
    pub zeros: Option<TensorRef>,
    /// Columns of a block of nibbles, if they are such: then `scales` are scales and zero points.
    pub nibbles: Option<usize>,
}

impl GroupFactors {
    /// The matrix that they make of the bytes `b`; none if types are not ours.
    pub(super) fn matrix(
        &self,
        b: &TensorRef,
        data: impl Fn(&TensorRef) -> *mut u8,
    ) -> Option<Box<dyn Quantised>> {
        if let Some(columns) = self.nibbles {
            let at = |t: &TensorRef| {
                let dtype = DType::from_torch(t.scalar_type)?;
                Some((
                    data(t).wrapping_offset(t.offset as isize * dtype.size() as isize),
                    dtype,
                ))
            };
            let (factors, dtype) = at(&self.scales)?;
            return Some(Box::new(Nibbles {
                data: at(b)?.0,
                columns,
                size: self.size,
                factors,
                dtype,
            }));
        }
        let factors = |t: &TensorRef| {
            let of = matrix(t, &t.strides, &data)?;
            Some(Factors {
                data: of.data,
                dtype: of.dtype,
                strides: of.strides,
            })
        };
        let zeros = match &self.zeros {
            Some(z) => Some(factors(z)?),
            None => None,
        };
        Some(Box::new(Groups {
            bytes: matrix(b, &b.strides, &data)?,
            size: self.size,
            scales: factors(&self.scales)?,
            zeros,
        }))
    }
}

impl ProductStep {
    /// As [`ProductStep::takes_bytes`] for nibbles.
    pub fn takes_nibbles(a: DType, shape: [i64; 3], columns: usize, size: i64) -> bool {
        let [m, n, k] = shape.map(|s| usize::try_from(s).unwrap_or(0));
        let size = usize::try_from(size).unwrap_or(0);
        a.is_float()
            && a != DType::F64
            && has_work([m, n, k])
            && Nibbles::takes([n, k], columns, size, Isa::detect())
    }

    /// As [`ProductStep::takes_bytes`] for bytes whose scales change after so many along the sum.
    pub fn takes_groups(a: DType, b: DType, shape: [i64; 3], group: i64) -> bool {
        let size = usize::try_from(group).unwrap_or(0);
        a.is_float() && ProductStep::takes_bytes(a, b, shape) && Groups::takes(size, Isa::detect())
    }

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
        let (Route::Bytes(of), [Some(out)]) = (&call.route, call.outputs.as_slice()) else {
            return None;
        };
        let tensors = call.args.iter().map(|arg| match arg {
            CallArg::Tensor(t) => Some(t),
            CallArg::Float(_) => None,
        });
        let tensors: Vec<&TensorRef> = tensors.collect::<Option<_>>()?;
        let (a, b, groups) = match (tensors.as_slice(), *of) {
            ([a, b], OfBytes::All) => (*a, *b, None),
            ([a, b, scales, zeros @ ..], OfBytes::Groups(size)) => {
                let factors = GroupFactors {
                    size,
                    scales: (*scales).clone(),
                    zeros: zeros.first().map(|&z| z.clone()),
                    nibbles: None,
                };
                (*a, *b, Some(Box::new(factors)))
            }
            ([a, b, factors], OfBytes::Nibbles { columns, size }) => {
                let factors = GroupFactors {
                    size,
                    scales: (*factors).clone(),
                    zeros: None,
                    nibbles: Some(columns),
                };
                (*a, *b, Some(Box::new(factors)))
            }
            _ => return None,
        };
        let floats = DType::from_torch(a.scalar_type)?.is_float();
        Some(ProductStep {
            name: call.name.clone(),
            a: a.clone(),
            b: b.clone(),
            beside: Vec::new(),
            groups,
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
