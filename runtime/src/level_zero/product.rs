//! Matrix products on the device.

use super::blocks::Layout;
use super::context::Device;
use super::epilogue::Epilogue;
use super::error::Error;
use super::kernel::{Argument, Kernel};
use super::library::Library;
use super::memory::Buffer;
use super::pack::Packed;
use super::refusal::near;
use super::stream::Stream;
use super::tile::{Height, Tile};
use crate::DType;

/// A matrix of the device, or a batch of them.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    /// The first element's address on the device.
    pub data: *const u8,
    /// Elements from one index to the next: batch, row, column.
    pub strides: [i64; 3],
}

/// `c = alpha * a @ b + beta * input`, for each of a batch.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the fields are named by their role")]
pub struct Product {
    /// Of a and b: f32, f16, bf16 or i8. Matrix instructions round f32 to bf16.
    pub dtype: DType,
    /// Of all else: the same or, of bf16, f32; of i8 it is i32 (without an epilogue), f32, f16 or bf16.
    pub result: DType,
    /// Batch, rows of a, columns of b, columns of a.
    pub sizes: [usize; 4],
    pub a: Operand,
    pub b: Operand,
    pub c: Operand,
    pub input: Option<Operand>,
    /// Of i8, what one step of the integers stands for.
    pub alpha: f32,
    pub beta: f32,
    /// After so many of the batch, if this is not 0, a and vectors of rows begin again: groups of a convolution.
    pub repeat: usize,
}

/// What an epilogue reads; null where it has no such part.
#[derive(Clone, Copy, Debug)]
pub struct Extra {
    /// A vector that is added.
    pub bias: *const u8,
    /// A vector of f32 that multiplies.
    pub scale: *const u8,
    /// A matrix whose columns are neighbours.
    pub residual: Operand,
}

impl Default for Extra {
    fn default() -> Extra {
        let none = std::ptr::null();
        Extra {
            bias: none,
            scale: none,
            residual: NOTHING,
        }
    }
}

const NOTHING: Operand = Operand {
    data: std::ptr::null(),
    strides: [0; 3],
};

/// A copy of a first matrix as matrix instructions read it: rows that are aligned and filled up with zeroes; f32 is bf16.
#[derive(Clone)]
pub struct Rows {
    elements: Buffer,
    /// From matrix to matrix, and from row to row.
    strides: [i64; 2],
}

impl Rows {
    /// Memory for `m` rows of `k` elements of so many bytes, and the elements from row to row.
    pub fn new(device: &Device, m: usize, k: usize, bytes: usize) -> Result<(Rows, usize), Error> {
        let pitch = pitch(k, bytes);
        let elements = device.buffer(bytes * m * pitch)?;
        let strides = [0, pitch as i64];
        Ok((Rows { elements, strides }, pitch))
    }

    /// The memory.
    pub fn elements(&self) -> &Buffer {
        &self.elements
    }
}

/// Elements from row to row of a copy: kernels read 64 bytes at once.
fn pitch(k: usize, bytes: usize) -> usize {
    k.next_multiple_of(64 / bytes)
}

/// Rows and columns of a group's tile, of `plain.cl`.
const PLAIN_TILE: usize = 64;

pub(super) fn int(n: usize) -> Argument<'static> {
    Argument::I32(n as i32)
}

impl Product {
    /// Whether matrix instructions write it: something to sum, rows of c without gaps between columns, and not too far apart.
    pub fn is_dense(&self) -> bool {
        let dense = self.c.strides[2] == 1 || self.sizes[2] == 1;
        let k = self.sizes[3];
        dense && k > 0 && near([self.c.strides[1], k as i64]).is_ok()
    }

    /// Whether they read a where it lies: rows of a multiple of 64 bytes without gaps between columns, at multiples of four bytes.
    pub fn reads_in_place(&self) -> bool {
        let size = self.dtype.size();
        let row = self.a.strides[1] * size as i64;
        let batch = self.a.strides[0] * size as i64;
        let aligned = (row | batch | self.a.data as i64) % 4 == 0;
        let whole = (self.sizes[3] * size).is_multiple_of(64);
        let dense = self.a.strides[2] == 1 && near([self.a.strides[1]]).is_ok();
        self.dtype != DType::F32 && dense && aligned && whole
    }

    /// What matrix instructions multiply: bf16 instead of f32.
    pub(super) fn multiplied(&self) -> DType {
        match self.dtype {
            DType::F32 => DType::BF16,
            other => other,
        }
    }
}

/// Kernels that make an item of each word or element.
pub(super) fn by_items(mut kernel: Kernel) -> Result<Kernel, Error> {
    kernel.set_group([64, 1, 1])?;
    Ok(kernel)
}

/// The kernel of [`rows`].
pub fn rows_kernel(library: &Library, dtype: DType) -> Result<Kernel, Error> {
    by_items(library.rows(dtype)?.kernel("rows")?)
}

/// Copies the first matrix. The result may be kept as long as the matrix stays the same.
pub fn rows(
    kernel: &mut Kernel,
    device: &Device,
    stream: &mut Stream,
    p: &Product,
) -> Result<Rows, Error> {
    let [batch, m, _, k] = p.sizes;
    let [batch_stride, row, column] = p.a.strides;
    let matrices = match p.repeat {
        _ if batch_stride == 0 => 1,
        0 => batch,
        repeat => repeat,
    };
    let bytes = p.multiplied().size();
    let pitch = pitch(k, bytes);
    let elements = device.buffer(bytes * matrices * m * pitch)?;
    let arguments = [
        Argument::Address(p.a.data),
        Argument::Memory(&elements, 0),
        int(m),
        int(k),
        int(pitch),
        Argument::I64(row),
        Argument::I64(column),
        Argument::I64(batch_stride),
    ];
    let groups = [(m * pitch).div_ceil(64) as u32, 1, matrices as u32];
    // SAFETY: the kernel writes the elements of the buffer and reads elements of a.
    unsafe { stream.launch(kernel, groups, &arguments, None) }?;
    let apart = if matrices == 1 { 0 } else { m * pitch };
    Ok(Rows {
        elements,
        strides: [apart, pitch].map(|n| n as i64),
    })
}

/// The kernel of [`matmul`]; none if the device has no matrix instructions, and an error for what no kernel computes.
pub fn matmul_kernel(
    library: &Library,
    p: &Product,
    epilogue: Epilogue,
    height: Height,
) -> Result<Option<Kernel>, Error> {
    let module = library.matmul(p, epilogue, height)?;
    module.map(|m| m.kernel("matmul")).transpose()
}

/// The same, with loads of 2D blocks; see [`Library::blocks`].
pub fn blocks_kernel(
    library: &Library,
    p: &Product,
    epilogue: Epilogue,
    height: Height,
    layout: Layout,
) -> Result<Kernel, Error> {
    let module = library.matmul_blocks(p, epilogue, height, layout)?;
    module.kernel("matmul")
}

/// What a kernel reads instead of the operands themselves, and how.
#[derive(Clone, Copy, Default)]
pub struct Reads<'a> {
    /// A copy of the first matrix: one that [`Product::reads_in_place`] refuses must have it, unless it is read by 2D blocks.
    pub copy: Option<&'a Rows>,
    /// The second matrix packed: all but [`Layout::Rows`] and [`Layout::Columns`] read this.
    pub packed: Option<&'a Packed>,
    /// By 2D blocks, with a kernel of [`blocks_kernel`] for this.
    pub blocks: Option<Layout>,
}

/// Computes a product by matrix instructions, without `input`, in tiles whose height the kernel was made for.
pub fn matmul(
    kernel: &mut Kernel,
    stream: &mut Stream,
    p: &Product,
    tile: Tile,
    reads: Reads,
    extra: &Extra,
) -> Result<(), Error> {
    let blocks = reads.blocks.is_some();
    p.first_is_read(reads.copy.is_some(), blocks)?;
    let [_, m, n, k] = p.sizes;
    let lanes = kernel.sub_group().unwrap_or(8) as usize;
    let in_place = (
        Argument::Address(p.a.data),
        [p.a.strides[0], p.a.strides[1]],
        k as i64,
    );
    let (a, [a_batch, lda], width) = reads.copy.map_or(in_place, |c| {
        (Argument::Memory(&c.elements, 0), c.strides, c.strides[1])
    });
    near([lda, p.c.strides[1], extra.residual.strides[1]])?;
    let (b, b_batch, ldb) = second(p, reads, kernel)?;
    let arguments = [
        a,
        b,
        Argument::Address(p.c.data),
        Argument::Address(extra.bias),
        Argument::Address(extra.scale),
        Argument::Address(extra.residual.data),
        int(m),
        int(n),
        int(k),
        Argument::I32(lda as i32),
        Argument::I32(p.c.strides[1] as i32),
        Argument::I32(extra.residual.strides[1] as i32),
        Argument::I64(a_batch),
        Argument::I64(b_batch),
        Argument::I64(p.c.strides[0]),
        Argument::I64(extra.residual.strides[0]),
        Argument::F32(p.alpha),
        int(p.repeat),
        Argument::I32(ldb as i32),
        Argument::I32(width as i32),
        Argument::Shared(tile.shared(lanes)),
    ];
    kernel.set_group(tile.group(lanes))?;
    let groups = tile.groups(p.sizes, lanes).map(|n| n as u32);
    // SAFETY: the operands hold what their sizes and strides address, by the type's contract.
    unsafe { stream.launch(kernel, groups, &arguments, None) }?;
    Ok(())
}

/// The second matrix of a kernel, with the distances of matrices and rows.
fn second<'a>(
    p: &Product,
    reads: Reads<'a>,
    kernel: &Kernel,
) -> Result<(Argument<'a>, i64, i64), Error> {
    let [batch, row, column] = p.b.strides;
    match (reads.blocks, reads.packed) {
        (Some(Layout::Rows), _) => Ok((Argument::Address(p.b.data), batch, row)),
        (Some(Layout::Columns), _) => Ok((Argument::Address(p.b.data), batch, column)),
        (_, Some(packed)) => Ok((Argument::Memory(packed.words(), 0), packed.each(), 0)),
        (_, None) => Err(Error::Launch {
            kernel: kernel.name().into(),
            reason: "the second matrix is not packed".into(),
        }),
    }
}

/// The kernel of [`plain`].
pub fn plain_kernel(library: &Library, dtype: DType, epilogue: Epilogue) -> Result<Kernel, Error> {
    library.product(dtype, epilogue)?.kernel("product")
}

/// Computes a product without matrix instructions, with sums in f32.
pub fn plain(
    kernel: &mut Kernel,
    stream: &mut Stream,
    p: &Product,
    extra: &Extra,
) -> Result<(), Error> {
    let (input, beta) = match p.input {
        Some(input) => (input, p.beta),
        None => (NOTHING, 0.0),
    };
    let [_, m, n, k] = p.sizes;
    let mut arguments = vec![
        Argument::Address(p.a.data),
        Argument::Address(p.b.data),
        Argument::Address(input.data),
        Argument::Address(p.c.data),
        Argument::Address(extra.bias),
        Argument::Address(extra.scale),
        Argument::Address(extra.residual.data),
        int(m),
        int(n),
        int(k),
    ];
    let all = [p.a, p.b, input, p.c, extra.residual];
    arguments.extend(
        all.iter()
            .flat_map(|o| [o.strides[1], o.strides[2]])
            .map(Argument::I64),
    );
    arguments.extend(all.iter().map(|o| Argument::I64(o.strides[0])));
    arguments.extend([Argument::F32(p.alpha), Argument::F32(beta)]);
    let groups = [n, m].map(|size| size.div_ceil(PLAIN_TILE));
    let groups = [groups[0], groups[1], p.sizes[0]].map(|n| n as u32);
    // SAFETY: as above.
    unsafe { stream.launch(kernel, groups, &arguments, None) }?;
    Ok(())
}
