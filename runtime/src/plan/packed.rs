//! Weights that never change, in the form that their kernel wants.

use crate::aten::Tensor;
use crate::conv::Weights;
use crate::gemm::PackedB;

/// What the first call of a step made, and later ones use.
pub enum Packed {
    /// The second matrix of a product.
    Product(PackedB),
    /// The weights of a convolution; none if it takes them as they are.
    Convolution(Option<Weights>),
    /// The weights of a convolution by oneDNN, and their bytes; none if it does not pack them.
    Onednn(Option<(Tensor, usize)>),
}

impl Packed {
    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        match self {
            Packed::Product(b) => b.bytes(),
            Packed::Convolution(weights) => weights.as_ref().map_or(0, Weights::bytes),
            Packed::Onednn(weights) => weights.as_ref().map_or(0, |w| w.1),
        }
    }
}
