//! The inner loops, one file for each instruction set with the same names.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;

use crate::cpu::Isa;

/// Lanes `lane..lane + len` of a vector of columns come from `source..` of a plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First lane.
    pub lane: usize,
    /// Number of lanes.
    pub len: usize,
    /// Element of the plane that goes to the first lane, before the tap's offset is added.
    pub source: usize,
}

/// A block of the result: `c[m*ldc + n] = start + Σ_k a[m*row + k*step] * b[k*ldb + n]`, for m below
/// the rows of the function and n below `columns`. All vectors of the function's width are read of `b`.
#[derive(Clone, Copy, Debug)]
pub struct Tile {
    pub depth: usize,
    pub a: *const f32,
    pub row: usize,
    pub step: usize,
    pub b: *const f32,
    pub ldb: usize,
    pub c: *mut f32,
    pub ldc: usize,
    pub columns: usize,
    pub start: Start,
}

impl Tile {
    /// Stores a sum at row m and column n.
    ///
    /// # Safety
    /// The pointers hold what this says.
    unsafe fn finish(&self, m: usize, n: usize, sum: f32) {
        // SAFETY: by contract.
        unsafe {
            let c = self.c.add(m * self.ldc + n);
            *c = sum
                + match self.start {
                    Start::Zero => 0.0,
                    Start::Bias(bias) => *bias.add(m),
                    Start::Sum => *c,
                };
        }
    }
}

/// What a tile's sums start from.
#[derive(Clone, Copy, Debug)]
pub enum Start {
    /// Nothing.
    Zero,
    /// One number for each row.
    Bias(*const f32),
    /// What the result holds.
    Sum,
}

/// Computes a tile.
pub type TileFn = unsafe fn(&Tile);

/// Computes a tile whose k-th row of `b` begins at the k-th of these offsets; `depth` and `ldb` are not read.
pub type NearFn = unsafe fn(&Tile, offsets: &[usize]);

/// A few columns that fill no vector, each without gaps: `c[m*ldc + n] = start + Σ_k a[m*row + k] *
/// b[n*ldb + k]` for all rows and columns below `columns`; `step` is 1.
pub type DotsFn = unsafe fn(&Tile, rows: usize);

/// Where the columns of one vector come from.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// First channel's plane.
    pub planes: *const f32,
    /// Distance between planes.
    pub plane: usize,
    pub channels: usize,
    /// Offsets of the taps.
    pub taps: &'a [usize],
    pub segments: &'a [Segment],
}

/// Writes row `channel * taps + tap` of one vector's columns to `to + row * width`; lanes of no
/// segment are 0.
pub type PackFn = unsafe fn(to: *mut f32, width: usize, source: &Source);

/// Rows of one plane of the result, from the planes of one channel.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// The padded planes; a whole vector can be read at every pixel.
    pub planes: *const f32,
    /// Distance between rows of the planes.
    pub row: usize,
    /// Offsets of the taps.
    pub taps: &'a [usize],
    /// One for each tap; not read by maxima.
    pub weight: *const f32,
    /// What sums start from.
    pub start: f32,
    /// The result, without gaps.
    pub to: *mut f32,
    /// Its columns.
    pub width: usize,
    /// Its rows.
    pub height: usize,
}

/// Computes a plane: sums of weighted taps, or the largest tap (NaN if one is).
pub type RowsFn = unsafe fn(&Rows);

/// The inner loops of an instruction set.
pub struct Micro {
    /// Columns of a vector.
    pub lanes: usize,
    /// `tiles[v - 1][m - 1]` computes m rows of v vectors.
    pub tiles: &'static [&'static [TileFn]],
    /// `near[v - 1][m - 1]` computes m rows of v vectors.
    pub near: &'static [&'static [NearFn]],
    /// `dots[n - 1]` computes n columns; those of more are cheaper as a vector.
    pub dots: &'static [DotsFn],
    /// Packs columns.
    pub pack: PackFn,
    /// Weighted sums of windows.
    pub sums: RowsFn,
    /// Maxima of windows.
    pub maxima: RowsFn,
}

/// The inner loops for a level.
pub fn of(isa: Isa) -> &'static Micro {
    #[cfg(target_arch = "x86_64")]
    {
        if isa >= Isa::Avx512 {
            return &avx512::MICRO;
        }
        if isa >= Isa::Avx2 {
            return &avx2::MICRO;
        }
    }
    let _ = isa;
    &scalar::MICRO
}
