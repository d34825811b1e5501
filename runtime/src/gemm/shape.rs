//! What is multiplied.

use super::micro::Math;
use crate::cpu::Isa;
use crate::dtype::DType;

/// A strided matrix in memory that somebody else owns.
#[derive(Clone, Copy, Debug)]
pub struct Matrix {
    /// The first element.
    pub data: *const u8,
    /// Element type.
    pub dtype: DType,
    /// Elements from one row to the next, and from one column to the next.
    pub strides: [isize; 2],
}

// SAFETY: whoever makes a product promises that its memory is valid during the call.
unsafe impl Send for Matrix {}
// SAFETY: as above; parts of a result are written by one thread each.
unsafe impl Sync for Matrix {}

impl Matrix {
    /// The address of an element.
    pub fn at(&self, row: usize, col: usize) -> *const u8 {
        let elements = row as isize * self.strides[0] + col as isize * self.strides[1];
        self.data
            .wrapping_offset(elements * self.dtype.size() as isize)
    }

    /// Rows and columns exchanged.
    pub fn transposed(self) -> Matrix {
        Matrix {
            strides: [self.strides[1], self.strides[0]],
            ..self
        }
    }

    fn moved(self, elements: isize) -> Matrix {
        Matrix {
            data: self
                .data
                .wrapping_offset(elements * self.dtype.size() as isize),
            ..self
        }
    }
}

/// Arithmetic of f32 products (`torch.set_float32_matmul_precision`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// f32, or what is as exact ([`Math::Bf16x3`]).
    #[default]
    Full,
    /// As `Full` with operands of 16 bits, where the processor has such products ([`Math::Bf16x2`]).
    High,
    /// Operands rounded to bf16, sums in f32, where the processor has such products.
    Medium,
}

/// Equally shaped products, one after the other. Strides in elements.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the fields are named by their operand")]
pub struct Batch {
    pub count: usize,
    pub a: isize,
    pub b: isize,
    pub c: isize,
    pub input: isize,
}

impl Default for Batch {
    fn default() -> Self {
        Batch {
            count: 1,
            a: 0,
            b: 0,
            c: 0,
            input: 0,
        }
    }
}

/// `C[m, n] = alpha * A[m, k] B[k, n] + beta * input[m, n]`.
///
/// A and B are both f32, both bf16, both f16, or bytes (A u8 or i8, B i8). C is of their type or f32,
/// for bytes i32; sums are f32 or i32, rounded once at the end. Or A is floats and B bytes, which become numbers
/// where they are multiplied ([`Product::widens`]); then C is f32.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the fields are named by their role")]
pub struct Product {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub a: Matrix,
    pub b: Matrix,
    /// The result: written, of any row stride; columns are neighbours, or there is one alone.
    pub c: Matrix,
    /// What is added; a stride of 0 broadcasts. Not read if `beta` is 0. Of C's type.
    pub input: Option<Matrix>,
    pub alpha: f32,
    pub beta: f32,
    pub batch: Batch,
    pub precision: Precision,
}

impl Product {
    /// `A B`.
    pub fn new([m, n, k]: [usize; 3], a: Matrix, b: Matrix, c: Matrix) -> Product {
        Product {
            m,
            n,
            k,
            a,
            b,
            c,
            input: None,
            alpha: 1.0,
            beta: 0.0,
            batch: Batch::default(),
            precision: Precision::Full,
        }
    }

    /// Whether the element types and the result's layout are ones that [`super::multiply`] handles.
    pub fn is_supported(&self) -> bool {
        use DType::{BF16, F16, F32, I8, I32, U8};
        let types = match (self.a.dtype, self.b.dtype) {
            (F32, F32) => self.c.dtype == F32,
            (BF16, BF16) => matches!(self.c.dtype, BF16 | F32),
            (F16, F16) => matches!(self.c.dtype, F16 | F32),
            (F32 | BF16 | F16, I8 | U8) => self.c.dtype == F32,
            (U8 | I8, I8) => {
                self.c.dtype == I32 && self.alpha == 1.0 && (self.beta == 0.0 || self.beta == 1.0)
            }
            _ => false,
        };
        let input = self.input.is_none_or(|i| i.dtype == self.c.dtype);
        let columns = self.c.strides[1] == 1 || self.n == 1;
        types && input && columns
    }

    /// Whether floats are multiplied by bytes: those of B lie in memory as bytes, and a panel of them becomes floats in cache
    /// (for few rows, a vector in registers).
    pub fn widens(&self) -> bool {
        self.a.dtype.is_float() && matches!(self.b.dtype, DType::I8 | DType::U8)
    }

    /// The arithmetic that is fastest on this instruction set.
    pub fn math(&self, isa: Isa) -> Math {
        math(self.a.dtype, self.b.dtype, self.precision, isa)
    }

    /// The arithmetic that is fastest with a packed B on so many threads: f32 in parts, where a product is large enough and of
    /// whole tile registers. Three parts have half of the products to spare if a core has the matrix unit for itself; threads of
    /// one core that share it would lose (measured, docs/products.md).
    pub fn packed_math(&self, isa: Isa, threads: usize) -> Math {
        /// Rows from which arithmetic takes longer than reading half as many bytes again as those of f32.
        const ROWS: usize = 64;
        const KS: usize = 32;
        let f32s = self.a.dtype == DType::F32 && self.b.dtype == DType::F32;
        let whole = self.k.is_multiple_of(KS) && self.k > 0;
        let large = self.m >= ROWS && self.n >= KS && self.batch.count == 1;
        match self.precision {
            Precision::Full if isa >= Isa::Amx && threads == 1 && f32s && whole && large => {
                Math::Bf16x3
            }
            Precision::High if isa >= Isa::Amx && f32s && whole && large => Math::Bf16x2,
            _ => self.math(isa),
        }
    }

    /// The `n`-th product of the batch, alone.
    pub(super) fn item(&self, n: usize) -> Product {
        let n = n as isize;
        Product {
            a: self.a.moved(n * self.batch.a),
            b: self.b.moved(n * self.batch.b),
            c: self.c.moved(n * self.batch.c),
            input: self.input.map(|i| i.moved(n * self.batch.input)),
            batch: Batch::default(),
            ..*self
        }
    }

    /// Whether one column times many rows can be one row times many columns.
    pub(super) fn is_column(&self) -> bool {
        self.n == 1 && self.m > 1 && self.c.strides[0] == 1 && self.a.dtype == self.b.dtype
    }

    /// The transposed product, of the same elements. A and B are of the same type.
    pub(super) fn turned(self) -> Product {
        Product {
            m: self.n,
            n: self.m,
            a: self.b.transposed(),
            b: self.a.transposed(),
            c: self.c.transposed(),
            input: self.input.map(Matrix::transposed),
            batch: Batch {
                a: self.batch.b,
                b: self.batch.a,
                ..self.batch
            },
            ..self
        }
    }
}

/// See [`Product::math`].
pub(crate) fn math(a: DType, b: DType, precision: Precision, isa: Isa) -> Math {
    let has_bf16 = isa >= Isa::Avx512Bf16 || isa == Isa::Scalar;
    let has_bytes = isa >= Isa::Avx512Vnni || isa == Isa::Scalar;
    let has_f16 = isa >= Isa::AmxFp16 || isa == Isa::Scalar;
    match (a, b) {
        (DType::F16, DType::F16) if has_f16 => Math::F16,
        (DType::BF16, DType::BF16) if has_bf16 => Math::Bf16,
        (DType::F32, DType::F32) if precision == Precision::Medium && has_bf16 => Math::Bf16,
        (DType::BF16, DType::I8 | DType::U8) if has_bf16 => Math::Bf16,
        (DType::F32, DType::I8 | DType::U8) if precision == Precision::Medium && has_bf16 => {
            Math::Bf16
        }
        (DType::U8, DType::I8) if has_bytes => Math::I8,
        (DType::I8, DType::I8) if has_bytes => Math::S8,
        (DType::U8 | DType::I8, DType::I8) => Math::I16,
        _ => Math::F32,
    }
}
