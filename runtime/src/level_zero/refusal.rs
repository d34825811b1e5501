//! Products that no kernel with matrix instructions computes, and why.

use super::blocks::NoBlocks;
use super::epilogue::Epilogue;
use super::product::Product;
use crate::DType;
use thiserror::Error;

/// Why there is no kernel with matrix instructions for a product.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum NoProduct {
    /// There is no such kernel.
    #[error("no matrix instructions multiply {0} for a result of {1}")]
    Types(DType, DType),
    /// 2D blocks are not read for it.
    #[error(transparent)]
    Blocks(#[from] NoBlocks),
    /// Sums of bytes are stored as they are.
    #[error("a result of i32 has no epilogue: ask for f32, f16 or bf16 ({0:?})")]
    Epilogue(Epilogue),
    /// Alike.
    #[error("a result of i32 is not scaled: ask for f32, f16 or bf16 (alpha is {0})")]
    Scaled(f32),
    /// Sums of bytes are in 32 bits.
    #[error("sums of {0} products of bytes may not fit 32 bits, so that there is no result of {1}")]
    Deep(usize, DType),
    /// The kernels have no stride for them.
    #[error("columns of the first matrix are {0} apart, and it is not copied")]
    Apart(i64),
    /// They read 64 bytes of a row at once.
    #[error(
        "rows of the first matrix are no multiples of 64 bytes at multiples of 4, and it is not copied"
    )]
    Ragged,
    /// Distances within a tile have 32 bits.
    #[error("rows of {0} elements are too far apart")]
    Far(i64),
    /// The kernels make a step at least.
    #[error("there is nothing to sum")]
    Nothing,
}

/// The most products of two bytes whose sum fits 32 bits whatever they are.
const DEEPEST: usize = (i32::MAX >> 14) as usize;

/// The most elements from row to row: 32 rows of them are less than 2^31.
const FARTHEST: i64 = 1 << 25;

/// Whether rows so many elements apart are near enough.
pub(super) fn near(rows: impl IntoIterator<Item = i64>) -> Result<(), NoProduct> {
    let far = rows.into_iter().find(|&row| row > FARTHEST);
    far.map_or(Ok(()), |row| Err(NoProduct::Far(row)))
}

/// Whether there is a kernel for operands and results of these types.
pub(super) fn types(dtype: DType, result: DType) -> Result<(), NoProduct> {
    use DType::{BF16, F16, F32, I8, I32};
    match (dtype, result) {
        (F16, F16) | (BF16, BF16 | F32) | (I8, I32 | F32 | F16 | BF16) => Ok(()),
        _ => Err(NoProduct::Types(dtype, result)),
    }
}

impl Product {
    /// Whether a kernel with matrix instructions computes it, with this epilogue.
    pub fn has_kernel(&self, epilogue: Epilogue) -> Result<(), NoProduct> {
        types(self.multiplied(), self.result)?;
        match (self.dtype, self.result) {
            (DType::I8, DType::I32) if epilogue != Epilogue::default() => {
                Err(NoProduct::Epilogue(epilogue))
            }
            (DType::I8, DType::I32) if self.alpha != 1.0 => Err(NoProduct::Scaled(self.alpha)),
            // As integers they wrap around, which may be what is wanted.
            (DType::I8, result) if result != DType::I32 && self.sizes[3] > DEEPEST => {
                Err(NoProduct::Deep(self.sizes[3], result))
            }
            _ => Ok(()),
        }
    }

    /// Whether the first matrix is read, from a copy, by 2D blocks or in place.
    pub(super) fn first_is_read(&self, is_copied: bool, blocks: bool) -> Result<(), NoProduct> {
        let [_, _, column] = self.a.strides;
        match self.sizes[3] {
            0 => Err(NoProduct::Nothing),
            _ if is_copied => Ok(()),
            k if column != 1 && k > 1 => Err(NoProduct::Apart(column)),
            _ if blocks || self.reads_in_place() => Ok(()),
            _ => Err(NoProduct::Ragged),
        }
    }
}
