//! Second matrices as matrix instructions read them.

use super::context::Device;
use super::error::Error;
use super::kernel::{Argument, Kernel};
use super::library::Library;
use super::memory::Buffer;
use super::product::{Operand, Product, by_items, int};
use super::stream::Stream;
use crate::DType;

/// Packed matrices of a batch.
#[derive(Clone)]
pub struct Packed {
    words: Buffer,
    /// Words of one matrix of the batch.
    each: i64,
}

/// Where matrices are, and how they are packed.
#[derive(Clone, Copy, Debug)]
pub struct Packing {
    /// Bytes of an element of what is packed.
    pub bytes: usize,
    /// Those of a batch.
    pub from: Operand,
    /// Matrices of the batch are so many times those of an inner dimension, which have this stride.
    pub inner: (usize, i64),
    /// Batch (of both dimensions), columns and rows.
    pub sizes: [usize; 3],
    /// Columns and rows with those of zeroes that are read too.
    pub padded: [usize; 2],
    /// Whether a word has elements of both halves of a step instead of neighbours.
    pub halves: bool,
}

impl Packing {
    /// The second matrix of a product, with an even number of steps of 32 bytes.
    fn of(p: &Product) -> Packing {
        let [batch, _, n, k] = p.sizes;
        let bytes = p.multiplied().size();
        Packing {
            bytes,
            from: p.b,
            inner: (1, 0),
            sizes: [batch, n, k],
            padded: [n, k.next_multiple_of(64 / bytes)],
            halves: false,
        }
    }
}

/// The lanes of a device's matrix instructions.
fn lanes(device: &Device) -> usize {
    device.architecture().matrix_sub_group().unwrap_or(8) as usize
}

impl Packed {
    /// Memory for matrices of `n` columns by `k` elements of so many bytes, as a product reads them, and the device's lanes.
    pub fn new(
        device: &Device,
        [batch, n, k]: [usize; 3],
        bytes: usize,
    ) -> Result<(Packed, usize), Error> {
        let lanes = lanes(device);
        let words = k.next_multiple_of(64 / bytes) * bytes / 4;
        let each = n.next_multiple_of(lanes) * words;
        Ok((Packed::of_words(device, batch, each)?, lanes))
    }

    fn of_words(device: &Device, batch: usize, each: usize) -> Result<Packed, Error> {
        let words = device.buffer(4 * each * batch)?;
        let each = each as i64;
        Ok(Packed { words, each })
    }

    /// The memory.
    pub fn words(&self) -> &Buffer {
        &self.words
    }

    /// Words from one matrix to the next.
    pub(super) fn each(&self) -> i64 {
        self.each
    }

    /// Groups of 64 items that make a word each.
    pub fn groups(&self, batch: usize) -> [u32; 3] {
        [(self.each as usize).div_ceil(64) as u32, 1, batch as u32]
    }
}

/// The kernel of [`pack`] and [`pack_as`].
pub fn pack_kernel(library: &Library, dtype: DType) -> Result<Kernel, Error> {
    by_items(library.pack(dtype)?.kernel("pack")?)
}

/// Packs the second matrix of a product. The result may be kept as long as the matrix stays the same.
pub fn pack(
    kernel: &mut Kernel,
    device: &Device,
    stream: &mut Stream,
    p: &Product,
) -> Result<Packed, Error> {
    pack_as(kernel, device, stream, &Packing::of(p))
}

/// Packs matrices.
pub fn pack_as(
    kernel: &mut Kernel,
    device: &Device,
    stream: &mut Stream,
    p: &Packing,
) -> Result<Packed, Error> {
    let lanes = lanes(device);
    let ([batch, n, k], (inner, inner_stride)) = (p.sizes, p.inner);
    let [columns, steps] = [
        p.padded[0].div_ceil(lanes),
        (p.padded[1] * p.bytes).div_ceil(32),
    ];
    let packed = Packed::of_words(device, batch, columns * steps * 8 * lanes)?;
    let [batch_stride, k_stride, n_stride] = p.from.strides;
    let arguments = [
        Argument::Address(p.from.data),
        Argument::Memory(&packed.words, 0),
        int(n),
        int(k),
        int(lanes),
        int(columns),
        int(steps),
        Argument::I32(p.halves.into()),
        int(inner),
        Argument::I64(k_stride),
        Argument::I64(n_stride),
        Argument::I64(batch_stride),
        Argument::I64(inner_stride),
    ];
    // SAFETY: the kernel writes the words of the buffer and reads elements of the matrices.
    unsafe { stream.launch(kernel, packed.groups(batch), &arguments, None) }?;
    Ok(packed)
}
