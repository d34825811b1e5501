//! Matrix products on the device.

use super::context::Device;
use super::error::Error;
use super::kernel::{Argument, Kernel};
use super::library::{Epilogue, Library};
use super::memory::Buffer;
use super::stream::Stream;
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
    /// f32, f16 or bf16, of all operands; i8 of a and b, with an i32 result.
    pub dtype: DType,
    /// Batch, rows of a, columns of b, columns of a.
    pub sizes: [usize; 4],
    pub a: Operand,
    pub b: Operand,
    pub c: Operand,
    pub input: Option<Operand>,
    pub alpha: f32,
    pub beta: f32,
}

/// What an epilogue reads.
#[derive(Clone, Copy, Debug)]
pub struct Extra {
    /// A row.
    pub bias: *const u8,
    /// A matrix whose columns are neighbours.
    pub residual: Operand,
}

/// A second matrix as matrix instructions read it.
#[derive(Clone)]
pub struct Packed {
    words: Buffer,
    /// Words of one matrix of the batch.
    each: i64,
}

/// Rows up to which a product has few.
const FEW_ROWS: usize = 16;

/// Rows of a group's tile, of `matmul.cl`: 2 sub-groups down, of 4 blocks of 8 or of one.
fn matmul_rows(p: &Product) -> usize {
    if p.has_few_rows() { 16 } else { 64 }
}
/// Rows and columns of a group's tile, of `plain.cl`.
const PLAIN_TILE: usize = 64;

fn groups(p: &Product, rows: usize, columns: usize) -> [u32; 3] {
    let [batch, m, n, _] = p.sizes;
    [n.div_ceil(columns), m.div_ceil(rows), batch].map(|n| n as u32)
}

fn int(n: usize) -> Argument<'static> {
    Argument::I32(n as i32)
}

impl Product {
    /// Whether tiles of many rows would be mostly empty.
    pub fn has_few_rows(&self) -> bool {
        self.sizes[1] <= FEW_ROWS && self.dtype != DType::I8
    }

    /// Whether matrix instructions read it: rows of a and c without gaps between columns.
    pub fn is_dense(&self) -> bool {
        let [_, _, n, k] = self.sizes;
        (self.a.strides[2] == 1 || k == 1) && (self.c.strides[2] == 1 || n == 1)
    }
}

/// The kernel of [`pack`].
pub fn pack_kernel(library: &Library, dtype: DType) -> Result<Kernel, Error> {
    let mut kernel = library.pack(dtype)?.kernel("pack")?;
    kernel.set_group([64, 1, 1])?;
    Ok(kernel)
}

/// Packs the second matrix. The result may be kept as long as the matrix stays the same.
pub fn pack(
    kernel: &mut Kernel,
    device: &Device,
    stream: &mut Stream,
    p: &Product,
) -> Result<Packed, Error> {
    let lanes = device.architecture().matrix_sub_group().unwrap_or(8) as usize;
    let [batch, _, n, k] = p.sizes;
    let depth = 8 * (4 / p.dtype.size());
    let each = n.div_ceil(lanes) * k.div_ceil(depth) * 8 * lanes;
    let words = device.buffer(4 * each * batch)?;
    let [batch_stride, k_stride, n_stride] = p.b.strides;
    let arguments = [
        Argument::Address(p.b.data),
        Argument::Memory(&words, 0),
        int(n),
        int(k),
        int(lanes),
        Argument::I64(k_stride),
        Argument::I64(n_stride),
        Argument::I64(batch_stride),
    ];
    let groups = [each.div_ceil(64) as u32, 1, batch as u32];
    // SAFETY: the kernel writes the words of the buffer and reads elements of b.
    unsafe { stream.launch(kernel, groups, &arguments, None) }?;
    Ok(Packed {
        words,
        each: each as i64,
    })
}

/// The kernel of [`matmul`]; none if the device has no matrix instructions for the type.
pub fn matmul_kernel(
    library: &Library,
    p: &Product,
    epilogue: Epilogue,
) -> Result<Option<Kernel>, Error> {
    let module = library.matmul(p.dtype, epilogue, p.has_few_rows())?;
    module.map(|m| m.kernel("matmul")).transpose()
}

/// Computes a product by matrix instructions, without `input`.
pub fn matmul(
    kernel: &mut Kernel,
    stream: &mut Stream,
    p: &Product,
    packed: &Packed,
    extra: &Extra,
) -> Result<(), Error> {
    let [_, m, n, k] = p.sizes;
    // 4 sub-groups across, of 3 blocks of 8 columns or 2 of 16.
    let columns = if kernel.sub_group() == Some(8) {
        96
    } else {
        128
    };
    let arguments = [
        Argument::Address(p.a.data),
        Argument::Memory(&packed.words, 0),
        Argument::Address(p.c.data),
        Argument::Address(extra.bias),
        Argument::Address(extra.residual.data),
        int(m),
        int(n),
        int(k),
        Argument::I32(p.a.strides[1] as i32),
        Argument::I32(p.c.strides[1] as i32),
        Argument::I32(extra.residual.strides[1] as i32),
        Argument::I64(p.a.strides[0]),
        Argument::I64(packed.each),
        Argument::I64(p.c.strides[0]),
        Argument::I64(extra.residual.strides[0]),
        Argument::F32(p.alpha),
    ];
    // SAFETY: the operands hold what their sizes and strides address, by the type's contract.
    unsafe { stream.launch(kernel, groups(p, matmul_rows(p), columns), &arguments, None) }?;
    Ok(())
}

/// The kernel of [`plain`].
pub fn plain_kernel(library: &Library, dtype: DType) -> Result<Kernel, Error> {
    library.product(dtype)?.kernel("product")
}

/// Computes a product without matrix instructions, with sums in f32.
pub fn plain(kernel: &mut Kernel, stream: &mut Stream, p: &Product) -> Result<(), Error> {
    let none = Operand {
        data: std::ptr::null(),
        strides: [0; 3],
    };
    let (input, beta) = match p.input {
        Some(input) => (input, p.beta),
        None => (none, 0.0),
    };
    let [_, m, n, k] = p.sizes;
    let mut arguments = vec![
        Argument::Address(p.a.data),
        Argument::Address(p.b.data),
        Argument::Address(input.data),
        Argument::Address(p.c.data),
        int(m),
        int(n),
        int(k),
    ];
    let all = [p.a, p.b, input, p.c];
    arguments.extend(
        all.iter()
            .flat_map(|o| [o.strides[1], o.strides[2]])
            .map(Argument::I64),
    );
    arguments.extend(all.iter().map(|o| Argument::I64(o.strides[0])));
    arguments.extend([Argument::F32(p.alpha), Argument::F32(beta)]);
    // SAFETY: as above.
    unsafe { stream.launch(kernel, groups(p, PLAIN_TILE, PLAIN_TILE), &arguments, None) }?;
    Ok(())
}
