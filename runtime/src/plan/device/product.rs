//! Products on the device: by matrix instructions where it has them for the type, else plain.

use super::super::{Plan, ProductStep, TensorRef};
use super::state::{State, cached};
use super::tail::join;
use super::{OnDevice, failed};
use crate::gemm::{Matrix, Precision, Product as Shape};
use crate::level_zero::blocks::{Layout, NoBlocks};
use crate::level_zero::epilogue::Epilogue;
use crate::level_zero::pack::{self, Packed};
use crate::level_zero::product::{self, Extra, Operand, Product, Reads, Rows};
use crate::level_zero::tile::Tile;
use crate::{DType, Error};

/// Whether there is a kernel for a product, on devices that have matrix instructions or on all.
pub fn takes(p: &ProductStep) -> bool {
    let Some(shape) = p.shape(|_| std::ptr::null_mut()) else {
        return false;
    };
    let same = |m: &Matrix| m.dtype == shape.a.dtype;
    let floats = matches!(shape.a.dtype, DType::F32 | DType::F16 | DType::BF16)
        && same(&shape.b)
        && same(&shape.c)
        && shape.input.as_ref().is_none_or(same);
    floats || is_of_bytes(p) && shape.input.is_none() && on_device(&shape).is_dense()
}

/// Whether a product is of bytes and has sums as a result, for which only matrix instructions have a kernel.
pub(super) fn is_of_bytes(p: &ProductStep) -> bool {
    let types = [&p.a, &p.b, &p.out].map(|t| DType::from_torch(t.scalar_type));
    types == [Some(DType::I8), Some(DType::I8), Some(DType::I32)]
}

/// The device's view of a product.
fn on_device(s: &Shape) -> Product {
    let operand = |m: &Matrix, batch: isize| Operand {
        data: m.data,
        strides: [batch, m.strides[0], m.strides[1]].map(|s| s as i64),
    };
    Product {
        dtype: s.a.dtype,
        result: s.c.dtype,
        sizes: [s.batch.count, s.m, s.n, s.k],
        a: operand(&s.a, s.batch.a),
        b: operand(&s.b, s.batch.b),
        c: operand(&s.c, s.batch.c),
        input: s.input.as_ref().map(|m| operand(m, s.batch.input)),
        alpha: s.alpha,
        beta: s.beta,
        repeat: 0,
    }
}

impl OnDevice {
    /// Queues a product.
    pub(in crate::plan) fn product(
        &self,
        plan: &Plan,
        n: usize,
        step: &ProductStep,
        state: &mut State,
        data: &[*mut u8],
    ) -> Result<(), Error> {
        let mut addresses = Vec::new();
        for t in [&step.a, &step.b].into_iter().chain(&step.input) {
            let host = data[t.buffer.0 as usize];
            addresses.push((t.buffer, self.read(plan, state, t.buffer, host)?));
        }
        let (tail, factor, mut extra) = self.extra(plan, state, step.then.as_ref(), data)?;
        let out = step.out.buffer;
        let address = self.write(plan, state, out, data[out.0 as usize])?;
        addresses.push((out, address));
        let find = |t: &TensorRef| {
            let found = addresses.iter().find(|(b, _)| *b == t.buffer);
            found.map_or(std::ptr::null_mut(), |(_, a)| a.cast_mut())
        };
        let shape = step.shape(find);
        let shape = shape.ok_or_else(|| Error::Plan(format!("{} is no product", step.name)))?;
        let mut p = on_device(&shape);
        if p.sizes[..3].contains(&0) {
            return Ok(());
        }
        p.alpha *= factor;
        extra.residual.strides = p.c.strides;
        if self.multiplies(p.dtype, step.precision)
            && p.is_dense()
            && let Some(epilogue) = join(&p, tail, &mut extra)
        {
            let [a, b] = [&step.a, &step.b].map(|t| self.is_fixed(plan, t.buffer.0 as usize));
            let first = self.first(n, &p, a, state)?;
            let (packed, layout) = self.second(n, &p, first.as_ref(), b, state)?;
            let second = (packed.as_ref(), layout);
            return self.by_matrix(n, &p, first.as_ref(), second, (epilogue, &extra), state);
        }
        let State {
            kernels, stream, ..
        } = state;
        let kernel = cached(kernels, (n, 0), || {
            product::plain_kernel(&self.library, p.dtype, tail)
        })?;
        product::plain(kernel, stream, &p, &extra).map_err(failed)?;
        self.launched(1);
        Ok(())
    }

    /// Whether matrix instructions multiply operands of this type, f32 in this precision.
    pub(super) fn multiplies(&self, dtype: DType, precision: Precision) -> bool {
        let device = &self.target.device;
        let has_type = dtype != DType::F32 || precision == Precision::Medium;
        device.architecture().matrix_sub_group().is_some() && has_type
    }

    fn pack(&self, n: usize, p: &Product, fixed: bool, state: &mut State) -> Result<Packed, Error> {
        let State {
            kernels, stream, ..
        } = &mut *state;
        let kernel = cached(kernels, (n, 1), || {
            pack::pack_kernel(&self.library, p.dtype)
        })?;
        let packed = pack::pack(kernel, &self.target.device, stream, p).map_err(failed)?;
        self.launched(1);
        if fixed {
            state.packed.insert(n, packed.clone());
        }
        Ok(packed)
    }

    /// Whether a product's matrices are read by 2D blocks: a copy of the first one can be.
    fn blocks(&self, p: &Product, copy: Option<&Rows>) -> Result<(), NoBlocks> {
        self.library.blocks(p)?;
        match copy {
            None => p.first_in_blocks(),
            Some(_) => Ok(()),
        }
    }

    /// Whether matrix instructions read the first matrix where it lies.
    pub(super) fn reads_in_place(&self, p: &Product) -> bool {
        p.reads_in_place() || self.blocks(p, None).is_ok()
    }

    /// A copy of the first matrix if matrix instructions could not read it, made once if it is `fixed`.
    pub(super) fn first(
        &self,
        n: usize,
        p: &Product,
        fixed: bool,
        state: &mut State,
    ) -> Result<Option<Rows>, Error> {
        let State {
            kernels,
            stream,
            rows,
            ..
        } = state;
        if let Some(copy) = rows.get(&n).filter(|_| fixed) {
            return Ok(Some(copy.clone()));
        }
        if self.reads_in_place(p) {
            return Ok(None);
        }
        let kernel = cached(kernels, (n, 2), || {
            product::rows_kernel(&self.library, p.dtype)
        })?;
        let copy = product::rows(kernel, &self.target.device, stream, p).map_err(failed)?;
        self.launched(1);
        if fixed {
            rows.insert(n, copy.clone());
        }
        Ok(Some(copy))
    }

    /// The second matrix packed, or where it lies: one that is `fixed` is packed once, and read in long rows ever after.
    pub(super) fn second(
        &self,
        n: usize,
        p: &Product,
        copy: Option<&Rows>,
        fixed: bool,
        state: &mut State,
    ) -> Result<(Option<Packed>, Layout), Error> {
        // What is rounded is packed.
        let blocks = self.blocks(p, copy).is_ok() && !fixed && p.dtype != DType::F32;
        if let Some(layout) = p.second_in_blocks().ok().filter(|_| blocks) {
            return Ok((None, layout));
        }
        let packed = match state.packed.get(&n).filter(|_| fixed) {
            Some(words) => words.clone(),
            None => self.pack(n, p, fixed, state)?,
        };
        Ok((Some(packed), Layout::Packed))
    }

    /// By matrix instructions, of a first matrix in place or its copy, and of a second one that is packed or lies in blocks.
    pub(super) fn by_matrix(
        &self,
        n: usize,
        p: &Product,
        copy: Option<&Rows>,
        (packed, layout): (Option<&Packed>, Layout),
        (epilogue, extra): (Epilogue, &Extra),
        state: &mut State,
    ) -> Result<(), Error> {
        let State {
            kernels, stream, ..
        } = state;
        let blocks = self.blocks(p, copy).ok().map(|()| layout);
        let no_instructions = || crate::level_zero::Error::Launch {
            kernel: "matmul".into(),
            reason: "the device has no matrix instructions".into(),
        };
        let tile = Tile::choose(p, &self.target.device);
        let tile = tile.ok_or_else(|| failed(no_instructions()))?;
        let key = (n, blocks.map_or(0, |layout| 3 + layout as u8));
        let kernel = cached(kernels, key, || {
            if let Some(layout) = blocks {
                return product::blocks_kernel(&self.library, p, epilogue, tile.height, layout);
            }
            let made = product::matmul_kernel(&self.library, p, epilogue, tile.height)?;
            made.ok_or_else(no_instructions)
        })?;
        let reads = Reads {
            copy,
            packed,
            blocks,
        };
        product::matmul(kernel, stream, p, tile, reads, extra).map_err(failed)?;
        self.launched(1);
        self.read_blocks(blocks.is_some());
        Ok(())
    }
}
