//! What is computed.

use crate::DType;
use crate::gemm::Matrix;

/// A strided tensor of four dimensions in memory that somebody else owns.
#[derive(Clone, Copy, Debug)]
pub struct Tensor {
    /// The first element.
    pub data: *const u8,
    /// Element type.
    pub dtype: DType,
    /// Elements from one index to the next: batch, head, row, column. 0 broadcasts.
    pub strides: [isize; 4],
}

// SAFETY: whoever makes an attention promises that its memory is valid during the call.
unsafe impl Send for Tensor {}
// SAFETY: as above; parts of a result are written by one thread each.
unsafe impl Sync for Tensor {}

impl Tensor {
    /// The address of the first element of a row.
    pub fn row(&self, batch: usize, head: usize, row: usize) -> *const u8 {
        let [b, h, r, _] = self.strides;
        let at = batch as isize * b + head as isize * h + row as isize * r;
        self.data.wrapping_offset(at * self.dtype.size() as isize)
    }

    /// The rows of one head.
    pub fn matrix(&self, batch: usize, head: usize) -> Matrix {
        Matrix {
            data: self.row(batch, head, 0),
            dtype: self.dtype,
            strides: [self.strides[2], self.strides[3]],
        }
    }
}

/// What a mask does to the scaled scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MaskKind {
    /// A float is added; a bool adds 0 where it is true and -inf where it is false.
    Add,
    /// A bool keeps the score where it is true and puts this number in its place elsewhere.
    Keep(f32),
}

/// What becomes of a row whose weights are all 0: all its scores are -inf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskedRows {
    /// Zeros, as `scaled_dot_product_attention` has it.
    Zero,
    /// NaN, as `softmax` has it.
    Nan,
}

/// How scores become weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// Factor of the scores.
    pub scale: f32,
    /// Whether query i sees the keys `0..=i` only.
    pub causal: bool,
    /// What the mask does; none without a mask.
    pub mask: Option<MaskKind>,
    /// Rows without a weight.
    pub masked_rows: MaskedRows,
}

/// `out = softmax(scale * q k^T + mask) v` for each batch and head. Head h reads the keys and values of head
/// `h / (heads / kv_heads)`.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the fields are named by their role")]
pub struct Attention {
    pub batch: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub queries: usize,
    pub keys: usize,
    /// Columns of q and k.
    pub depth: usize,
    /// Columns of v and out.
    pub width: usize,
    /// `[batch, heads, queries, depth]` of f32, bf16 or f16
    pub q: Tensor,
    /// `[batch, kv_heads, keys, depth]` of q's type
    pub k: Tensor,
    /// `[batch, kv_heads, keys, width]` of q's type
    pub v: Tensor,
    /// `[batch, heads, queries, keys]`, perhaps broadcast: f32, bf16, f16 or bool
    pub mask: Option<Tensor>,
    /// `[batch, heads, queries, width]` of q's type; columns are neighbours
    pub out: Tensor,
    /// `[batch, heads, queries, 1]` of f32: the logarithm of the sum of the exponentials of the scores; 0 for a
    /// row without a weight, as ATen has it.
    pub lse: Option<Tensor>,
    pub rule: Rule,
}

impl Attention {
    /// Whether [`super::attend`] computes this.
    pub fn is_supported(&self) -> bool {
        use DType::{BF16, Bool, F16, F32};
        let float = matches!(self.q.dtype, F32 | BF16 | F16);
        let same = [self.k, self.v, self.out]
            .iter()
            .all(|t| t.dtype == self.q.dtype);
        let mask = match (&self.mask, self.rule.mask) {
            (None, None) => true,
            (Some(m), Some(MaskKind::Add)) => matches!(m.dtype, F32 | BF16 | F16 | Bool),
            (Some(m), Some(MaskKind::Keep(_))) => m.dtype == Bool,
            _ => false,
        };
        let heads = self.kv_heads > 0 && self.heads.is_multiple_of(self.kv_heads);
        let lse = self.lse.is_none_or(|t| t.dtype == F32);
        let columns = self.out.strides[3] == 1 || self.width <= 1;
        float && same && mask && (heads || self.heads == 0) && lse && columns
    }

    /// Rows that share the keys of one head: each head's queries, one head after the other.
    pub(super) fn rows(&self) -> usize {
        self.heads / self.kv_heads.max(1) * self.queries
    }

    /// The head and the query of such a row.
    pub(super) fn place(&self, kv_head: usize, row: usize) -> (usize, usize) {
        let group = self.heads / self.kv_heads;
        (kv_head * group + row / self.queries, row % self.queries)
    }

    /// How many keys this row sees at most.
    pub(super) fn seen(&self, row: usize) -> usize {
        if self.rule.causal {
            self.keys.min(row % self.queries + 1)
        } else {
            self.keys
        }
    }
}
