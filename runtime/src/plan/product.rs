//! Matrix products of a plan, on kernels of our own.

use super::bytes::GroupFactors;
use super::packed::Packed;
use super::shared::Slot;
use super::{CallArg, ExternalCall, Route, TensorRef, Then};
use crate::ahead::Memory;
use crate::aten::Aten;
use crate::cpu::Isa;
use crate::gemm::{
    Batch, Call, Columns, Math, Matrix, PackedB, Parallel, Parts, Precision, Product, multiply,
    reads, reads_in_place,
};
use crate::{DType, Error};
use std::ops::Range;

/// Rows for each thread from which a product of a packed matrix is split by rows alone, so that what
/// follows finds whole rows in cache.
const ROWS_PER_THREAD: usize = 24;

/// Multiply-adds up to which a product is left to ATen: a call costs about as much as they do, and what an ill-conditioned
/// step makes of their rounding (softmax of scores in the thousands) is eager's then.
const FEW: usize = 256;

/// Rows from which f16 products are widened to f32 instead of left to ATen.
const F16_ROWS: usize = 16;

/// Rows of a product of bytes whose second matrix is not packed ahead: with fewer or more oneDNN is faster (measured on Zen 5).
const BYTE_ROWS: Range<usize> = 9..33;

/// `out = alpha * a @ b + beta * input`, perhaps a batch of them, and perhaps a kernel that runs on its rows
/// while they are in cache.
#[derive(Clone)]
#[expect(missing_docs, reason = "the fields are named by their role")]
pub struct ProductStep {
    /// For messages: `aten.mm.default`.
    pub name: String,
    /// `[m, k]` or `[batch, m, k]`
    pub a: TensorRef,
    /// `[k, n]` or `[batch, k, n]`
    pub b: TensorRef,
    /// Further matrices `[k, n]`, whose columns come after those of `b`. Then the product is a packed one.
    pub beside: Vec<TensorRef>,
    /// What makes numbers of `b`'s bytes, if their scales change along K.
    pub groups: Option<Box<GroupFactors>>,
    /// Broadcast to the result.
    pub input: Option<TensorRef>,
    /// `[m, n]` or `[batch, m, n]`
    pub out: TensorRef,
    pub alpha: f32,
    pub beta: f32,
    pub precision: Precision,
    /// `b` never changes: where its packed form is kept between calls ([`super::Plan::packs`]).
    pub pack: Option<u32>,
    /// Its planes are rows of the result.
    pub then: Option<Then>,
}

impl ProductStep {
    /// The step that replaces a call of ATen; none if the call is no product, or one that ATen
    /// computes faster, which does not matter to a plan for a GPU. `pack` is where the packed form of the second matrix is kept, if it is.
    pub fn of(
        call: &ExternalCall,
        precision: Precision,
        on_gpu: bool,
        pack: impl FnOnce(&TensorRef) -> Option<u32>,
    ) -> Option<ProductStep> {
        let mut step = ProductStep {
            precision,
            ..ProductStep::any(call)?
        };
        let product = step.shape(|_| std::ptr::null_mut())?;
        let sizes = [product.m * product.batch.count, product.n, product.k];
        let fast = has_fast_kernels(product.a.dtype, product.m) && has_work(sizes);
        let pays = on_gpu;
        if !product.is_supported() || !(pays || fast) {
            return None;
        }
        step.pack = pack(&step.b);
        let bytes = product.a.dtype == DType::I8;
        let pays = on_gpu || !bytes || step.pack.is_some() || BYTE_ROWS.contains(&product.m);
        pays.then_some(step)
    }

    /// Whether a product of `[m, k]` by `[k, n]` is one for our kernels.
    pub fn is_ours(dtype: DType, [m, n, k]: [i64; 3]) -> bool {
        let sizes = [m, n, k].map(|s| s as usize);
        has_fast_kernels(dtype, sizes[0]) && has_work(sizes)
    }

    /// Whether a call's numbers, if it has some, are ones.
    pub fn is_unscaled(args: &[CallArg]) -> bool {
        args.iter()
            .all(|a| !matches!(a, CallArg::Float(x) if *x != 1.0))
    }

    /// The product that a call is, whoever computes it.
    pub(super) fn any(call: &ExternalCall) -> Option<ProductStep> {
        if !matches!(call.route, Route::OutFunction { .. }) {
            return None;
        }
        let [Some(out)] = call.outputs.as_slice() else {
            return None;
        };
        use CallArg::{Float, Tensor};
        let (input, a, b, beta, alpha) = match call.args.as_slice() {
            [Tensor(a), Tensor(b)] => (None, a, b, 0.0, 1.0),
            [
                Tensor(input),
                Tensor(a),
                Tensor(b),
                Float(beta),
                Float(alpha),
            ] => (Some(input), a, b, *beta, *alpha),
            _ => return None,
        };
        Some(ProductStep {
            name: call.name.clone(),
            a: a.clone(),
            b: b.clone(),
            beside: Vec::new(),
            groups: None,
            input: input.cloned(),
            out: out.clone(),
            alpha: alpha as f32,
            beta: beta as f32,
            precision: Precision::Full,
            pack: None,
            then: None,
        })
    }

    /// The problem that it solves: what a choice between it and ATen depends on.
    pub fn problem(&self) -> String {
        let of = |t: &TensorRef| format!("{} {:?}/{:?}", t.scalar_type, t.sizes, t.strides);
        let packed = if self.pack.is_some() { " packed" } else { "" };
        let input = self.input.as_ref().map_or(String::new(), of);
        let (name, a, b, precision) = (&self.name, of(&self.a), of(&self.b), self.precision);
        let beside: Vec<String> = self.beside.iter().map(of).collect();
        let b = [&[b], beside.as_slice()].concat().join(" and ");
        format!("{name} {a} by {b}{packed}, {input}, {precision:?}")
    }

    /// The product, with the buffers' first bytes; none if ranks or types are not ours.
    pub(super) fn shape(&self, data: impl Fn(&TensorRef) -> *mut u8) -> Option<Product> {
        let rank = self.out.sizes.len();
        let matrix = |t: &TensorRef, strides: &[i64]| matrix(t, strides, &data);
        let same_rank = |t: &TensorRef| t.sizes.len() == rank;
        if !(2..=3).contains(&rank) || !same_rank(&self.a) || !same_rank(&self.b) {
            return None;
        }
        let [m, n] = [self.out.sizes[rank - 2], self.out.sizes[rank - 1]].map(|s| s as usize);
        let k = self.a.sizes[rank - 1] as usize;
        let outer = |strides: &[i64]| if rank == 3 { strides[0] as isize } else { 0 };
        let mut batch = Batch {
            count: if rank == 3 {
                self.out.sizes[0] as usize
            } else {
                1
            },
            a: outer(&self.a.strides),
            b: outer(&self.b.strides),
            c: outer(&self.out.strides),
            input: 0,
        };
        let input = match &self.input {
            Some(t) => {
                let strides = broadcast(t, &self.out.sizes)?;
                batch.input = outer(&strides);
                Some(matrix(t, &strides)?)
            }
            None => None,
        };
        Some(Product {
            input,
            alpha: self.alpha,
            beta: self.beta,
            batch,
            precision: self.precision,
            ..Product::new(
                [m, n, k],
                matrix(&self.a, &self.a.strides)?,
                match &self.groups {
                    // What becomes of the bytes in cache.
                    Some(_) => Matrix {
                        data: std::ptr::null(),
                        dtype: DType::from_torch(self.a.scalar_type)?,
                        strides: [1, k as isize],
                    },
                    None => matrix(&self.b, &self.b.strides)?,
                },
                matrix(&self.out, &self.out.strides)?,
            )
        })
    }

    /// Computes it. `data` holds the first byte of each buffer, `args` those of the parameters of
    /// [`ProductStep::then`].
    ///
    /// # Safety
    /// The buffers hold what the step's tensors and the kernel's parameters address.
    pub unsafe fn run(
        &self,
        data: &[*mut u8],
        args: &[*mut u8],
        aten: &'static Aten,
        packs: &[Slot],
    ) -> Result<(), Error> {
        let isa = Isa::detect();
        let product = self.shape(|t| data[t.buffer.0 as usize]);
        let product = product.ok_or_else(|| Error::Plan(format!("{} is no product", self.name)))?;
        // SAFETY: by contract.
        let packed = unsafe { self.packed(&product, data, isa, aten, packs) }?;
        let groups = self.groups.as_ref().map(|g| {
            let of = g.matrix(&self.b, |t| data[t.buffer.0 as usize]);
            of.ok_or_else(|| Error::Plan(format!("{} of other groups", self.name)))
        });
        let groups = groups.transpose()?;
        let call = Call {
            isa,
            threads: aten,
            packed,
            made: None,
            groups: groups.as_deref(),
            epilogue: None,
            parts: Parts::Any,
        };
        let args = args.as_ptr() as usize;
        let run = |then: &Then, iterations: Range<i64>| {
            // SAFETY: the kernel reads nothing else of the result in these iterations.
            unsafe { (then.code.entry)(args as *const *mut u8, iterations.start, iterations.end) }
        };
        let run_rows = |then: &Then, rows: Range<usize>| {
            let at = |row: usize| row as i64 * then.iterations;
            run(then, at(rows.start)..at(rows.end));
        };
        let Some(then) = &self.then else {
            // SAFETY: by contract.
            return unsafe { multiply(&product, &call) }.map(|_| ());
        };
        let parts = self.parts(&product, packed.is_some(), aten.threads());
        let epilogue = |item: usize, rows: Range<usize>, columns: Range<usize>| {
            let first = item * product.m;
            let rows = first + rows.start..first + rows.end;
            if columns.len() == product.n {
                run_rows(then, rows);
            } else {
                pieces(rows, columns, product.n).for_each(|piece| run(then, piece));
            }
        };
        let call = Call {
            epilogue: Some(&epilogue),
            parts,
            ..call
        };
        // SAFETY: by contract.
        let followed = unsafe { multiply(&product, &call) }?;
        if followed || parts == Parts::Any {
            return Ok(());
        }
        let rows = (product.m * product.batch.count) as i64;
        let grain = (then.grain / then.iterations).max(1);
        let body = |begin: i64, end: i64| run_rows(then, begin as usize..end as usize);
        if rows <= grain {
            body(0, rows);
            return Ok(());
        }
        aten.parallel(rows, grain, &body)
    }

    /// What parts what follows wants.
    fn parts(&self, p: &Product, packed: bool, threads: usize) -> Parts {
        let many = packed && p.m >= ROWS_PER_THREAD * threads;
        match self.then.as_ref().map(|then| then.is_elementwise(p.n)) {
            Some(_) if many => Parts::Rows,
            Some(false) => Parts::RowsIfSo,
            _ => Parts::Any,
        }
    }

    /// What each thread reads of the packed matrix; none if there is no such matrix yet.
    pub(super) fn reads(&self, threads: usize, packs: &[Slot]) -> Option<Vec<Memory>> {
        let p = self.shape(|_| std::ptr::null_mut())?;
        let Some(Packed::Product(packed)) = packs.get(self.pack? as usize)?.get() else {
            return None;
        };
        Some(reads(&p, packed, threads, self.parts(&p, true, threads)))
    }

    /// Whether a packed form is of use.
    fn takes_packed(&self, p: &Product, isa: Isa) -> bool {
        let in_place = self.beside.is_empty() && reads_in_place(p, isa);
        p.batch.count == 1 && p.n * p.k > 0 && !in_place
    }

    /// The arithmetic that a packed form of `b` is for.
    pub(super) fn packed_math(&self, threads: usize) -> Option<Math> {
        let p = self.shape(|_| std::ptr::null_mut())?;
        Some(p.packed_math(Isa::detect(), threads))
    }

    /// Where the packed form of `b` is kept, if this step reads that and not `b`.
    pub(super) fn packed_in(&self) -> Option<u32> {
        let p = self.shape(|_| std::ptr::null_mut())?;
        self.pack.filter(|_| self.takes_packed(&p, Isa::detect()))
    }

    /// The packed form of `b`, made by the first call that wants it.
    unsafe fn packed<'a>(
        &self,
        p: &Product,
        data: &[*mut u8],
        isa: Isa,
        aten: &'static Aten,
        packs: &'a [Slot],
    ) -> Result<Option<&'a PackedB>, Error> {
        let Some(slot) = self.pack.and_then(|n| packs.get(n as usize)) else {
            return Ok(None);
        };
        if !self.takes_packed(p, isa) {
            return Ok(None);
        }
        if slot.get().is_none() {
            let math = p.packed_math(isa, aten.threads());
            let parts = self.columns(p, data)?;
            // SAFETY: by contract.
            let made = unsafe { PackedB::new(&parts, p.k, math, isa, aten) }?;
            slot.get_or_init(|| Packed::Product(made));
        }
        Ok(match slot.get() {
            Some(Packed::Product(packed)) => Some(packed),
            _ => None,
        })
    }

    /// The matrices whose columns make up the second one of the product.
    fn columns(&self, p: &Product, data: &[*mut u8]) -> Result<Vec<Columns>, Error> {
        if self.beside.is_empty() {
            return Ok(vec![Columns { b: p.b, n: p.n }]);
        }
        let all = std::iter::once(&self.b).chain(&self.beside);
        let columns = all.map(|t| {
            let b = matrix(t, &t.strides, |t| data[t.buffer.0 as usize])?;
            let &[_, n] = t.sizes.as_slice() else {
                return None;
            };
            Some(Columns { b, n: n as usize })
        });
        let columns: Option<_> = columns.collect();
        columns.ok_or_else(|| Error::Plan(format!("{} of other matrices", self.name)))
    }
}

/// The elements of a part of a result with `n` columns, row by row, as numbers of the row-major result.
fn pieces(rows: Range<usize>, columns: Range<usize>, n: usize) -> impl Iterator<Item = Range<i64>> {
    rows.map(move |row| (row * n + columns.start) as i64..(row * n + columns.end) as i64)
}

/// A tensor of these strides as a matrix; none if its type is not ours.
pub(super) fn matrix(
    t: &TensorRef,
    strides: &[i64],
    data: impl Fn(&TensorRef) -> *mut u8,
) -> Option<Matrix> {
    let dtype = DType::from_torch(t.scalar_type)?;
    let at = t.offset as isize * dtype.size() as isize;
    let &[.., row, col] = strides else {
        return None;
    };
    Some(Matrix {
        data: data(t).wrapping_offset(at),
        dtype,
        strides: [row as isize, col as isize],
    })
}

/// Strides of a tensor that is broadcast to these sizes.
fn broadcast(t: &TensorRef, sizes: &[i64]) -> Option<Vec<i64>> {
    let missing = sizes.len().checked_sub(t.sizes.len())?;
    let mut strides = vec![0; sizes.len()];
    for (d, (&size, &stride)) in t.sizes.iter().zip(&t.strides).enumerate() {
        match (size, sizes[missing + d]) {
            (1, _) => {}
            (size, whole) if size == whole => strides[missing + d] = stride,
            _ => return None,
        }
    }
    Some(strides)
}

/// Whether there is enough to compute.
pub(super) fn has_work([m, n, k]: [usize; 3]) -> bool {
    m * n * k > FEW
}

/// Whether there are kernels that are faster than ATen's. bf16 needs products of its own: widened, it loses
/// to oneDNN. f16 is widened here, which pays from some rows on (measured: 3 times as fast for 64 rows of A,
/// a fifth as fast for one).
fn has_fast_kernels(dtype: DType, rows: usize) -> bool {
    match dtype {
        DType::F32 => Isa::detect() >= Isa::Avx2,
        DType::F16 => Isa::detect() >= Isa::Avx512 && rows >= F16_ROWS,
        DType::BF16 => Isa::detect() >= Isa::Avx512Bf16,
        DType::I8 => Isa::detect() >= Isa::Avx512Vnni,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::BufferId;

    fn tensor(sizes: &[i64], strides: &[i64]) -> TensorRef {
        TensorRef {
            buffer: BufferId(0),
            scalar_type: DType::F32.torch_code(),
            sizes: sizes.to_vec(),
            strides: strides.to_vec(),
            offset: 0,
        }
    }

    #[test]
    fn pieces_are_the_part() {
        let of = |rows, columns| {
            let ends = pieces(rows, columns, 10).map(|p| (p.start, p.end));
            ends.collect::<Vec<_>>()
        };
        assert_eq!(of(2..4, 3..7), [(23, 27), (33, 37)]);
        assert_eq!(of(2..2, 0..10), []);
        assert_eq!(of(0..1, 9..10), [(9, 10)]);
    }

    #[test]
    fn inputs_are_broadcast() {
        let of = |t: &TensorRef| broadcast(t, &[2, 3, 4]);
        assert_eq!(of(&tensor(&[4], &[1])), Some(vec![0, 0, 1]));
        assert_eq!(of(&tensor(&[3, 1], &[1, 1])), Some(vec![0, 1, 0]));
        assert_eq!(of(&tensor(&[], &[])), Some(vec![0, 0, 0]));
        assert_eq!(of(&tensor(&[2, 3, 4], &[12, 4, 1])), Some(vec![12, 4, 1]));
        assert_eq!(of(&tensor(&[3], &[1])), None);
        assert_eq!(of(&tensor(&[1, 2, 3, 4], &[24, 12, 4, 1])), None);
    }
}
