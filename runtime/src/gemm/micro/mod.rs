//! Register tiles: the innermost loops of matrix products, one file for each instruction set, with
//! the same names and signatures.
//!
//! All of them see K in *units* of four bytes: one f32, two bf16, two i16 or four bytes that are
//! neighbours along K. A tile reads its rows of A in place (units of a row are neighbours) and a
//! panel of B: for each unit, [`Kernels::cols`] columns side by side.

/// Calls `dot::<rows, columns of B at a time>`, as many columns as registers hold; `(dot CONST)` has a third parameter.
#[cfg(target_arch = "x86_64")]
macro_rules! dots {
    ($dot:tt, $rows:expr, $d:expr, $($n:literal $r:literal),*) => {
        match $rows {
            $($n => {
                let whole = $d.cols / $r * $r;
                for j in (0..whole).step_by($r) {
                    dots!($dot $n $r &$d.from(j));
                }
                for j in whole..$d.cols {
                    dots!($dot $n 1 &$d.from(j));
                }
            })*
            _ => debug_assert!(false, "{} rows", $rows),
        }
    };
    (($dot:ident $more:ident) $n:literal $r:literal $d:expr) => { $dot::<$n, $r, $more>($d) };
    ($dot:ident $n:literal $r:literal $d:expr) => { $dot::<$n, $r>($d) };
}

#[cfg(target_arch = "x86_64")]
pub mod amx;
#[cfg(target_arch = "x86_64")]
pub mod amx_alone;
#[cfg(target_arch = "x86_64")]
mod amx_parts;
#[cfg(all(test, target_arch = "x86_64"))]
pub mod amx_tests;
#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
pub mod bytes;
pub mod groups;
pub mod nibbles;
pub mod scalar;

use crate::cpu::Isa;

/// How elements are multiplied and summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Math {
    /// f32, one element in a unit; fused multiply-add.
    F32,
    /// bf16, two elements in a unit, summed in f32.
    Bf16,
    /// f16, two elements in a unit, summed in f32.
    F16,
    /// i16, two elements in a unit, summed in i32.
    I16,
    /// u8 (A) by i8 (B), four elements in a unit, summed in i32.
    I8,
    /// i8 by i8, four elements in a unit, summed in i32.
    S8,
    /// f32 as a sum of two bf16 (16 bits), of which three products are summed in f32.
    Bf16x2,
    /// f32 as a sum of three bf16 (all of its 24 bits), of which the six largest products are summed in f32: what is left out
    /// is below 2^-25 of a product (Henry, Tang and Heinecke 2019).
    Bf16x3,
}

impl Math {
    /// Elements in a unit.
    pub fn per_unit(self) -> usize {
        match self {
            Math::F32 => 1,
            Math::Bf16 | Math::F16 | Math::I16 | Math::Bf16x2 | Math::Bf16x3 => 2,
            Math::I8 | Math::S8 => 4,
        }
    }

    /// Numbers of which an element is the sum. A row of A has its first parts, then its second ones, each of the same length
    /// in bytes; so has each row of units of a panel.
    pub fn parts(self) -> usize {
        match self {
            Math::Bf16x2 => 2,
            Math::Bf16x3 => 3,
            _ => 1,
        }
    }
}

/// The work of one call of [`Kernels::tile`]: `c = sum(a * b) + init`. Strides in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Tile {
    /// Units of K.
    pub k: usize,
    /// First unit of the first row.
    pub a: *const u8,
    /// Between rows of A.
    pub a_stride: usize,
    /// First unit of the panel.
    pub b: *const u8,
    /// Between units of the panel: 4 * [`Kernels::cols`] for each of [`Math::parts`], or more if B is read in place.
    pub b_stride: usize,
    /// First element of the result (f32 or i32).
    pub c: *mut u8,
    /// Between rows of the result.
    pub c_stride: usize,
    /// What is added, of the result's type; may be `c` itself, null for nothing.
    pub init: *const u8,
    /// Between rows of `init`; 0 adds the same row everywhere.
    pub init_stride: usize,
    /// Columns to write, `1..=Kernels::cols`. Of B whole vectors are read.
    pub cols: usize,
    /// Memory that will be needed soon; any address.
    pub next: *const u8,
    /// Bytes of `next` to prefetch for each unit by each [`Kernels::height`] rows: 64 for 16 rows at most.
    pub next_step: usize,
    /// Lines after which `next` moves on by `next_jump` bytes; not 0.
    pub next_run: usize,
    /// See `next_run`.
    pub next_jump: usize,
}

impl Tile {
    /// The same, added to what it has written before.
    pub fn continued(&self) -> Tile {
        Tile {
            init: self.c.cast_const(),
            init_stride: self.c_stride,
            ..*self
        }
    }

    /// The `n`-th of the panels that [`Kernels::panels`] goes through, each of `width` columns.
    pub fn panel(&self, n: usize, width: usize, b_panel: usize) -> Tile {
        let right = |p: *const u8| p.wrapping_add(4 * n * width);
        Tile {
            b: self.b.wrapping_add(n * b_panel),
            c: self.c.wrapping_add(4 * n * width),
            init: if self.init.is_null() {
                self.init
            } else {
                right(self.init)
            },
            cols: width.min(self.cols - n * width),
            ..*self
        }
    }

    /// The same for rows further down.
    pub fn down(&self, rows: usize) -> Tile {
        let init = if self.init.is_null() {
            self.init
        } else {
            self.init.wrapping_add(rows * self.init_stride)
        };
        Tile {
            a: self.a.wrapping_add(rows * self.a_stride),
            c: self.c.wrapping_add(rows * self.c_stride),
            init,
            ..*self
        }
    }
}

/// Where [`Kernels::rounded`] writes. Strides in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Rounded {
    /// First element of the result (bf16).
    pub to: *mut u8,
    /// Between rows of the result.
    pub stride: usize,
    /// What is added before rounding (bf16), null for nothing.
    pub added: *const u8,
    /// Between rows of `added`; 0 adds the same row everywhere.
    pub added_stride: usize,
    /// Which rows of A are read.
    pub left: Left,
}

/// Rows of A for [`Kernels::rounded`]. As tiles they lie as tile registers hold them: 16 units of 32 rows, then the next 16
/// units, so that a register is a kilobyte of neighbouring lines.
#[derive(Clone, Copy, Debug)]
pub enum Left {
    /// Those of [`Tile::a`].
    Rows,
    /// The same, which become tiles here at the same time.
    ToTiles(*mut u8),
    /// These tiles.
    Tiles(*const u8),
}

/// The work of one call of [`Kernels::dot`], for a B whose columns lie along K:
/// `c[i, j] = sum_k a[i, k] * b[k, j]`. Strides in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Dot {
    /// Elements (not units) of K.
    pub k: usize,
    /// First row of A.
    pub a: *const u8,
    /// Between rows of A.
    pub a_stride: usize,
    /// First column of B.
    pub b: *const u8,
    /// Between columns of B.
    pub b_stride: usize,
    /// First element of the result, f32.
    pub c: *mut u8,
    /// Between rows of the result.
    pub c_stride: usize,
    /// Columns of B and of the result.
    pub cols: usize,
}

impl Dot {
    /// The same from column `j` on.
    pub fn from(&self, j: usize) -> Dot {
        Dot {
            b: self.b.wrapping_add(j * self.b_stride),
            c: self.c.wrapping_add(4 * j),
            cols: self.cols - j,
            ..*self
        }
    }
}

/// The work of one call of [`Kernels::transpose`].
#[derive(Clone, Copy, Debug)]
pub struct Transpose {
    /// Receives `[units, fill]` units.
    pub panel: *mut u32,
    /// Units between rows of the panel.
    pub panel_stride: usize,
    /// The first row of `units` neighbouring units.
    pub rows: *const u8,
    /// Bytes between rows.
    pub row_stride: isize,
    /// Rows, which become columns of the panel.
    pub cols: usize,
    /// Units of a row.
    pub units: usize,
    /// Columns to write; those from `cols` on become zeros.
    pub fill: usize,
}

/// The kernels of one instruction set for one kind of arithmetic.
pub struct Kernels {
    /// Most rows of a call of `tile`.
    pub rows: usize,
    /// Rows that share a load of B's registers; blocks of rows are multiples of it.
    pub height: usize,
    /// Rows of a block at most: enough to make packing or fetching a panel of B cheap, few enough for
    /// their part of A to stay in the second cache.
    pub block: usize,
    /// Rows of A are read fastest from multiples of so many bytes.
    pub alignment: usize,
    /// Columns of a panel.
    pub cols: usize,
    /// What memory costs where all threads read at the same time: by so many rows a panel is multiplied while a row of A,
    /// and while the panel, comes from memory. Zeros where arithmetic takes longer in any split.
    pub fetch: [usize; 2],
    /// Computes a tile of `1..=rows` rows.
    ///
    /// # Safety
    /// The processor has the instruction set, and the tile's pointers and strides address memory that
    /// is valid for what the fields say.
    pub tile: unsafe fn(rows: usize, tile: &Tile),
    /// As `tile` for panels of B that are so many bytes apart; [`Tile::cols`] counts the columns of all of them.
    /// None where one by one is as fast.
    ///
    /// # Safety
    /// As above.
    pub side_by_side: Option<unsafe fn(rows: usize, tile: &Tile, b_panel: usize)>,
    /// As `tile`, but the result is rounded to bf16: all columns of a panel for a multiple of `height` rows,
    /// whole registers of K, no `init`; `c` is room for sums. None where rounding afterwards is as fast.
    ///
    /// # Safety
    /// As above; the processor has AVX512-BF16.
    pub rounded: Option<unsafe fn(rows: usize, tile: &Tile, out: &Rounded)>,
    /// Whether `rounded` reads tiles of A faster than rows.
    pub tiled: bool,
    /// Rows of units become columns of a panel.
    ///
    /// # Safety
    /// As above.
    pub transpose: unsafe fn(&Transpose),
    /// Computes `1..=dot_rows` rows of dot products.
    ///
    /// # Safety
    /// As above.
    pub dot: unsafe fn(rows: usize, dot: &Dot),
    /// Most rows of `dot`; 0 where there is none.
    pub dot_rows: usize,
}

impl Kernels {
    /// As [`Kernels::tile`] for panels of B that are so many bytes apart; [`Tile::cols`] counts the columns of all of
    /// them.
    ///
    /// # Safety
    /// As there.
    pub unsafe fn panels(&self, rows: usize, tile: &Tile, b_panel: usize) {
        // SAFETY: by contract.
        unsafe {
            if let Some(side_by_side) = self.side_by_side {
                return side_by_side(rows, tile, b_panel);
            }
            for n in 0..tile.cols.div_ceil(self.cols) {
                (self.tile)(rows, &tile.panel(n, self.cols, b_panel));
            }
        }
    }
}

/// The fastest kernels for this arithmetic; none if the instruction set lacks it and the caller
/// must widen its elements.
pub fn kernels(isa: Isa, math: Math) -> Option<&'static Kernels> {
    #[cfg(target_arch = "x86_64")]
    match (isa, math) {
        (Isa::Scalar, _) => {}
        (Isa::Avx2, math) => return avx2::kernels(math),
        (isa, Math::Bf16) if isa < Isa::Avx512Bf16 => return None,
        (isa, Math::I8 | Math::S8) if isa < Isa::Avx512Vnni => return None,
        (isa, Math::F16) if isa < Isa::AmxFp16 => return None,
        (Isa::Amx | Isa::AmxFp16, Math::F32 | Math::I16) => return avx512::kernels(math),
        (Isa::Amx | Isa::AmxFp16, math) => return amx::kernels(math),
        (_, math) => return avx512::kernels(math),
    }
    let _ = isa;
    scalar::kernels(math)
}

/// As [`kernels`] for products with a packed B of which one thread alone computes many.
pub fn kernels_alone(isa: Isa, math: Math) -> Option<&'static Kernels> {
    #[cfg(target_arch = "x86_64")]
    if isa >= Isa::Amx && math == Math::Bf16 {
        return Some(&amx_alone::KERNELS);
    }
    kernels(isa, math)
}

/// In tables of arithmetic without dot products.
unsafe fn no_dot(_: usize, _: &Dot) {
    debug_assert!(false, "dot_rows is 0");
}
