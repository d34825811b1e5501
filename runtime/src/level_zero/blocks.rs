//! Products whose operands are read by 2D blocks (`kernels/blocks.h`): on which devices, and of which matrices.

use super::product::{Operand, Product};
use super::refusal;
use crate::DType;
use thiserror::Error;

/// How such a kernel finds the second matrix: its specialization constant 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Packed, as for the other kernels.
    Packed = 0,
    /// In place, in rows of k by n.
    Rows = 1,
    /// In place, in rows of n by k: a transposed weight.
    Columns = 2,
}

/// Why the operands of a product are not read by 2D blocks.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoBlocks {
    /// The device cannot.
    #[error("the device has no loads of 2D blocks")]
    Device,
    /// The driver's compiler cannot.
    #[error("the driver knows no loads of 2D blocks: {0}")]
    Driver(String),
    /// There is no such kernel.
    #[error("no kernel reads 2D blocks of {0} for a result of {1}")]
    Types(DType, DType),
    /// It is rounded first, into a copy or packed.
    #[error("a matrix of {0} is rounded first")]
    Rounded(DType),
    /// The first matrix does not lie as the hardware wants it.
    #[error("the first matrix: {0}")]
    First(Misfit),
}

/// What the hardware does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Misfit {
    /// Elements of a row are apart.
    #[error("its elements are {0} apart")]
    Apart(i64),
    /// Its first byte.
    #[error("its first byte is at {0} beyond a multiple of 64")]
    Base(usize),
    /// Bytes from matrix to matrix.
    #[error("{0} bytes from one to the next are no multiple of 64")]
    Batch(i64),
    /// Bytes from row to row.
    #[error("a pitch of {0} bytes: it takes 64 to 2^24, in steps of 16")]
    Pitch(i64),
    /// Bytes of a row.
    #[error("rows of {0} bytes: it takes 64 up to the pitch, in steps of 4")]
    Width(i64),
    /// Rows.
    #[error("{0} rows: it takes 2^24")]
    Height(usize),
}

const MOST: i64 = 1 << 24;

/// Whether the hardware reads blocks of `height` rows of so many elements, at these strides from row to row and within one.
fn fits(
    data: *const u8,
    [height, width]: [usize; 2],
    [batch, row, column]: [i64; 3],
    item: usize,
) -> Result<(), Misfit> {
    let item = item as i64;
    let (pitch, bytes, apart) = (row * item, width as i64 * item, batch * item);
    if column != 1 {
        return Err(Misfit::Apart(column));
    }
    if !data.addr().is_multiple_of(64) {
        return Err(Misfit::Base(data.addr() % 64));
    }
    if apart % 64 != 0 {
        return Err(Misfit::Batch(apart));
    }
    if !(64..=MOST).contains(&pitch) || pitch % 16 != 0 {
        return Err(Misfit::Pitch(pitch));
    }
    if !(64..=pitch).contains(&bytes) || bytes % 4 != 0 {
        return Err(Misfit::Width(bytes));
    }
    if height as i64 > MOST {
        return Err(Misfit::Height(height));
    }
    Ok(())
}

impl Product {
    /// Whether 2D blocks are read of the first matrix where it lies; of a copy ([`super::product::rows`]) they always are.
    pub fn first_in_blocks(&self) -> Result<(), NoBlocks> {
        let [_, m, _, k] = self.sizes;
        if self.dtype != self.multiplied() {
            return Err(NoBlocks::Rounded(self.dtype));
        }
        let item = self.dtype.size();
        fits(self.a.data, [m, k], self.a.strides, item).map_err(NoBlocks::First)
    }

    /// How the second matrix is read by 2D blocks where it lies, or why it has to be packed: what is wrong with its rows, and
    /// with its columns.
    pub fn second_in_blocks(&self) -> Result<Layout, [Misfit; 2]> {
        let [_, _, n, k] = self.sizes;
        let Operand { data, strides } = self.b;
        let (item, [batch, row, column]) = (self.dtype.size(), strides);
        fits(data, [k, n], strides, item)
            .map(|()| Layout::Rows)
            .or_else(|rows| {
                let columns = fits(data, [n, k], [batch, column, row], item);
                columns
                    .map(|()| Layout::Columns)
                    .map_err(|columns| [rows, columns])
            })
    }

    /// Whether there is a kernel for the types.
    pub(super) fn has_block_kernel(&self) -> Result<(), NoBlocks> {
        let types = refusal::types(self.multiplied(), self.result);
        types.map_err(|_| NoBlocks::Types(self.dtype, self.result))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: *const u8 = std::ptr::without_provenance(0x1000);

    #[test]
    fn what_the_hardware_takes() {
        let f16 = |height, width, strides| fits(AT, [height, width], strides, 2);
        assert_eq!(f16(1, 32, [0, 32, 1]), Ok(()));
        assert_eq!(f16(1, 34, [64, 40, 1]), Ok(()));
        assert_eq!(f16(1, 32, [0, 32, 2]), Err(Misfit::Apart(2)));
        assert_eq!(f16(1, 32, [8, 32, 1]), Err(Misfit::Batch(16)));
        assert_eq!(f16(1, 32, [0, 36, 1]), Err(Misfit::Pitch(72)));
        assert_eq!(f16(1, 24, [0, 24, 1]), Err(Misfit::Pitch(48)));
        assert_eq!(f16(1, 24, [0, 32, 1]), Err(Misfit::Width(48)));
        assert_eq!(f16(1, 33, [0, 40, 1]), Err(Misfit::Width(66)));
        assert_eq!(f16(1, 48, [0, 40, 1]), Err(Misfit::Width(96)));
        assert_eq!(f16(1, 32, [0, 1 << 24, 1]), Err(Misfit::Pitch(1 << 25)));
        let rows = (1 << 24) + 1;
        assert_eq!(f16(rows, 32, [0, 32, 1]), Err(Misfit::Height(rows)));
        let at = AT.wrapping_add(32);
        assert_eq!(fits(at, [1, 32], [0, 32, 1], 2), Err(Misfit::Base(32)));
        assert_eq!(fits(AT, [1, 64], [0, 64, 1], 1), Ok(()));
    }
}
