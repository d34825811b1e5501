//! AMX: two by two tile registers of sums (32 rows, 32 columns), each of 16 rows of 16 units. The panels
//! of B are those of AVX-512, which have the layout that the instructions want.
//!
//! Every call configures the tile registers and releases them, so that nothing depends on what the thread
//! ran before or runs next. [`crate::cpu`] has asked Linux for the permission to use them.

use super::avx512::{DOT_ROWS, bf16_dot, transpose};
use super::{Kernels, Left, Math, Rounded, Tile, amx_parts, no_dot};
use crate::gemm::bf16::round_row;
use std::arch::asm;
use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch, _mm512_loadu_si512, _mm512_storeu_si512};

/// Rows of a tile register, and units of four bytes in each of them.
pub(super) const SIDE: usize = 16;
/// Bytes of a row of a tile register.
pub(super) const LINE: usize = 4 * SIDE;
pub(super) const HEIGHT: usize = 2 * SIDE;
const COLS: usize = 2 * SIDE;
/// More rows than a block has.
const ROWS: usize = 1 << 16;
/// Units of K at a time, so that their part of a panel (24 KiB) stays in the first cache while rows pass.
const STEP: usize = 192;

/// See [`Kernels::fetch`]. 16 virtual CPUs of an Emerald Rapids machine read 104 GB/s, 6.5 each, and multiply a unit of
/// a row by one of a panel in 0.19 ns.
const FETCH: [usize; 2] = [3, 100];

/// Which operand passes the first cache by (`tileloaddt1`), so that the other one stays in it (docs/products.md).
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Passing {
    /// A's rows, while all of them pass a part of a panel: fastest for one thread.
    A,
    /// B's panels, each read for a few rows: fastest for threads that share cores and their first caches.
    B,
    Neither,
}

/// The kernels for this arithmetic; the caller has checked the processor.
pub fn kernels(math: Math) -> Option<&'static Kernels> {
    match math {
        Math::Bf16 => Some(&BF16),
        Math::F16 => Some(&F16),
        Math::I8 => Some(&I8),
        Math::S8 => Some(&S8),
        Math::Bf16x2 => Some(&BF16X2),
        Math::Bf16x3 => Some(&BF16X3),
        Math::F32 | Math::I16 => None,
    }
}

pub(super) static BF16: Kernels = Kernels {
    dot: bf16_dot,
    dot_rows: DOT_ROWS,
    rounded: Some(square::<Bf16>),
    ..table::<Bf16>()
};
static F16: Kernels = table::<Halves>();
static I8: Kernels = table::<UnsignedBytes>();
static S8: Kernels = table::<SignedBytes>();
static BF16X2: Kernels = table::<Bf16x2>();
static BF16X3: Kernels = table::<Bf16x3>();

/// Kernels without dot products.
pub(super) const fn table<T: Registers>() -> Kernels {
    Kernels {
        rows: ROWS,
        height: HEIGHT,
        block: 512,
        alignment: LINE,
        cols: COLS,
        fetch: [
            (FETCH[0] * T::PARTS).div_ceil(T::PRODUCTS),
            (FETCH[1] * T::PARTS).div_ceil(T::PRODUCTS),
        ],
        tile: tile::<T>,
        side_by_side: Some(side_by_side::<T>),
        rounded: None,
        tiled: false,
        transpose,
        dot: no_dot,
        dot_rows: 0,
    }
}

/// The tile registers of a thread, with one kind of products.
///
/// # Safety
/// Of all methods: the registers are configured (but for `configure`), and what the addresses and strides
/// (bytes) say is valid memory.
pub(super) trait Registers {
    /// See [`Math::parts`].
    const PARTS: usize;
    const PASSING: Passing;
    /// Products of the parts of two elements.
    const PRODUCTS: usize = Self::PARTS * (Self::PARTS + 1) / 2;
    /// The sum of two numbers of 32 bits.
    fn add(x: u32, y: u32) -> u32;
    unsafe fn configure(c: &'static Configuration);
    unsafe fn release();
    unsafe fn zero<const R: usize>();
    unsafe fn load<const R: usize>(from: usize, stride: usize);
    /// As `load`, for lines that need not stay in the first cache.
    unsafe fn load_passing<const R: usize>(from: usize, stride: usize);
    unsafe fn store<const R: usize>(to: usize, stride: usize);
    /// Adds products of A and B to the sums in register `C`.
    unsafe fn multiply<const C: usize, const A: usize, const B: usize>();

    /// Loads rows of A.
    #[inline(always)]
    unsafe fn load_a<const R: usize>(from: usize, stride: usize) {
        // SAFETY: by contract.
        unsafe {
            match Self::PASSING {
                Passing::A => Self::load_passing::<R>(from, stride),
                _ => Self::load::<R>(from, stride),
            }
        }
    }

    /// Loads columns of B.
    #[inline(always)]
    unsafe fn load_b<const R: usize>(from: usize, stride: usize) {
        // SAFETY: by contract.
        unsafe {
            match Self::PASSING {
                Passing::B => Self::load_passing::<R>(from, stride),
                _ => Self::load::<R>(from, stride),
            }
        }
    }
}

macro_rules! registers {
    ($name:ident, $parts:literal, $passing:expr, $instruction:literal, $add:expr) => {
        pub(super) struct $name;

        impl Registers for $name {
            const PARTS: usize = $parts;
            const PASSING: Passing = $passing;

            #[inline(always)]
            fn add(x: u32, y: u32) -> u32 {
                $add(x, y)
            }

            #[inline(always)]
            unsafe fn configure(c: &'static Configuration) {
                // SAFETY: by contract; a valid configuration of palette 1.
                unsafe { asm!("ldtilecfg [{}]", in(reg) c, options(nostack, preserves_flags)) };
            }

            #[inline(always)]
            unsafe fn release() {
                // SAFETY: changes tile registers alone, which the compiler does not use.
                unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
            }

            #[inline(always)]
            unsafe fn zero<const R: usize>() {
                // SAFETY: as above.
                unsafe {
                    asm!("tilezero tmm{}", const R, options(nomem, nostack, preserves_flags));
                }
            }

            #[inline(always)]
            unsafe fn load<const R: usize>(from: usize, stride: usize) {
                // SAFETY: by contract.
                unsafe {
                    asm!("tileloadd tmm{}, [{} + {}*1]", const R, in(reg) from, in(reg) stride,
                        options(nostack, readonly, preserves_flags));
                }
            }

            #[inline(always)]
            unsafe fn load_passing<const R: usize>(from: usize, stride: usize) {
                // SAFETY: by contract.
                unsafe {
                    asm!("tileloaddt1 tmm{}, [{} + {}*1]", const R, in(reg) from, in(reg) stride,
                        options(nostack, readonly, preserves_flags));
                }
            }

            #[inline(always)]
            unsafe fn store<const R: usize>(to: usize, stride: usize) {
                // SAFETY: by contract.
                unsafe {
                    asm!("tilestored [{} + {}*1], tmm{}", in(reg) to, in(reg) stride, const R,
                        options(nostack, preserves_flags));
                }
            }

            #[inline(always)]
            unsafe fn multiply<const C: usize, const A: usize, const B: usize>() {
                // SAFETY: changes a tile register alone.
                unsafe {
                    asm!(concat!($instruction, " tmm{}, tmm{}, tmm{}"), const C, const A, const B,
                        options(nomem, nostack, preserves_flags));
                }
            }
        }
    };
}

registers!(Bf16, 1, Passing::B, "tdpbf16ps", add_floats);
registers!(Bf16Alone, 1, Passing::A, "tdpbf16ps", add_floats);
registers!(Halves, 1, Passing::B, "tdpfp16ps", add_floats);
registers!(UnsignedBytes, 1, Passing::B, "tdpbusd", u32::wrapping_add);
registers!(SignedBytes, 1, Passing::B, "tdpbssd", u32::wrapping_add);
registers!(Bf16x2, 2, Passing::B, "tdpbf16ps", add_floats);
registers!(Bf16x3, 3, Passing::Neither, "tdpbf16ps", add_floats);

pub(super) fn add_floats(x: u32, y: u32) -> u32 {
    (f32::from_bits(x) + f32::from_bits(y)).to_bits()
}

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub(super) struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    pub row_bytes: [u16; 16],
    pub rows: [u8; 16],
}

/// For each number of rows of A, from 1 on. Registers 0 to 3 hold sums (upper left, upper right, lower
/// left, lower right), 4 and 5 rows of A, 6 and 7 columns of B.
static CONFIGURATIONS: [Configuration; HEIGHT] = {
    let mut all = [configuration(1); HEIGHT];
    let mut n = 1;
    while n < HEIGHT {
        all[n] = configuration(n + 1);
        n += 1;
    }
    all
};

const fn configuration(rows: usize) -> Configuration {
    let upper = if rows < SIDE { rows } else { SIDE };
    let lower = rows - upper;
    let heights = [upper, upper, lower, lower, upper, lower, SIDE, SIDE];
    let mut c = Configuration {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        row_bytes: [0; 16],
        rows: [0; 16],
    };
    let mut register = 0;
    while register < heights.len() {
        if heights[register] > 0 {
            c.rows[register] = heights[register] as u8;
            c.row_bytes[register] = LINE as u16;
        }
        register += 1;
    }
    c
}

/// See [`Kernels::tile`].
unsafe fn tile<T: Registers>(rows: usize, t: &Tile) {
    // SAFETY: by contract; then nothing is left in the registers.
    unsafe {
        steps::<T>(rows, t, &mut 0);
        T::release();
    }
}

/// See [`Kernels::side_by_side`]. Configuring and releasing the registers takes as long as some hundred units of K.
unsafe fn side_by_side<T: Registers>(rows: usize, t: &Tile, b_panel: usize) {
    let mut configured = 0;
    // SAFETY: by contract; then nothing is left in the registers.
    unsafe {
        for n in 0..t.cols.div_ceil(COLS) {
            steps::<T>(rows, &t.panel(n, COLS, b_panel), &mut configured);
        }
        T::release();
    }
}

/// A tile in steps of K. `configured`: the rows that the registers are configured for, 0 for none.
pub(super) unsafe fn steps<T: Registers>(rows: usize, t: &Tile, configured: &mut usize) {
    let step = step::<T>(rows, t.k);
    for unit in (0..t.k.max(1)).step_by(step) {
        let k = step.min(t.k - unit);
        let part = Tile {
            k,
            a: t.a.wrapping_add(4 * unit),
            b: t.b.wrapping_add(unit * t.b_stride),
            next: t.next.wrapping_add(unit * t.next_step),
            ..*t
        };
        let part = if unit == 0 { part } else { part.continued() };
        // SAFETY: by contract.
        unsafe { step_of::<T>(rows, &part, t.next_step * t.k, configured) };
    }
}

/// Units of K at a time, so that their part of B stays in the first cache while rows pass it; all of them if B does not
/// stay there, or few rows pass.
fn step<T: Registers>(rows: usize, k: usize) -> usize {
    let steps = match T::PASSING {
        Passing::A | Passing::Neither if rows > HEIGHT => k.div_ceil(STEP / T::PARTS),
        _ => 1,
    };
    k.div_ceil(steps.max(1)).next_multiple_of(SIDE).max(SIDE)
}

/// How 32 rows of sums lie in registers.
pub(super) trait Form<T: Registers> {
    /// Makes the sums zeros.
    ///
    /// # Safety
    /// As of [`Registers`], also below.
    unsafe fn zero();
    /// Goes on with what `store` wrote.
    ///
    /// # Safety
    /// As above.
    unsafe fn load(from: usize, stride: usize);
    /// Adds products of 16 units; of A and B the address and the stride.
    ///
    /// # Safety
    /// As above.
    unsafe fn multiply(a: [usize; 2], b: [usize; 2]);
    /// Writes the sums.
    ///
    /// # Safety
    /// As above.
    unsafe fn store(to: usize, stride: usize);
}

/// Two by two registers.
struct Square;

impl<T: Registers> Form<T> for Square {
    #[inline(always)]
    unsafe fn zero() {
        // SAFETY: by contract.
        unsafe { zero_sums::<T, true, true>() }
    }

    #[inline(always)]
    unsafe fn load(from: usize, stride: usize) {
        // SAFETY: by contract.
        unsafe { load_sums::<T, true, true>(from, stride) }
    }

    #[inline(always)]
    unsafe fn multiply(a: [usize; 2], b: [usize; 2]) {
        // SAFETY: by contract.
        unsafe { multiply::<T, true, true>(a, b) }
    }

    #[inline(always)]
    unsafe fn store(to: usize, stride: usize) {
        // SAFETY: by contract.
        unsafe { store_sums::<T, true, true>(to, stride) }
    }
}

/// Sums of 32 rows, on their way from tile registers to the result.
#[repr(C, align(64))]
struct Sums<const COLS: usize>([[f32; COLS]; HEIGHT]);

/// See [`Kernels::rounded`]. The sums of 32 rows stay in registers for a step of K, and are rounded while those of
/// the next are computed.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn rounded<T: Registers, F: Form<T>, const COLS: usize>(
    rows: usize,
    t: &Tile,
    out: &Rounded,
) {
    debug_assert!(rows.is_multiple_of(HEIGHT) && t.k.is_multiple_of(SIDE) && t.cols == COLS);
    let mut sums = [const { Sums([[0.0; COLS]; HEIGHT]) }; 2];
    let step = step::<T>(rows, t.k);
    let mut soon = Soon::of(t);
    // SAFETY: by contract.
    unsafe {
        T::configure(&CONFIGURATIONS[HEIGHT - 1]);
        for unit in (0..t.k).step_by(step) {
            let units = step.min(t.k - unit);
            let last = unit + units == t.k;
            let each = HEIGHT.div_ceil(units / SIDE);
            for (n, first) in (0..rows).step_by(HEIGHT).enumerate() {
                let [sums, before] = &mut sums;
                let (sums, before) = match n % 2 {
                    0 => (sums, &*before),
                    _ => (before, &*sums),
                };
                let kept = t.c as usize + first * t.c_stride;
                if unit == 0 {
                    F::zero();
                } else {
                    F::load(kept, t.c_stride);
                }
                let mut rounding = if last && n > 0 { 0..HEIGHT } else { 0..0 };
                let tiles = first * 4 * t.k + unit * HEIGHT * 4;
                let (mut a, a_stride, a_step) = match out.left {
                    Left::Tiles(from) => (from as usize + tiles, LINE, HEIGHT * LINE),
                    _ => (
                        t.a as usize + first * t.a_stride + 4 * unit,
                        t.a_stride,
                        LINE,
                    ),
                };
                let mut b = t.b as usize + unit * t.b_stride;
                for step in 0..units / SIDE {
                    F::multiply([a, a_stride], [b, t.b_stride]);
                    soon.fetch();
                    for row in rounding.by_ref().take(each) {
                        round_row(&before.0[row], out, first - HEIGHT + row);
                    }
                    if let Left::ToTiles(to) = out.left {
                        copy_tile(
                            a as *const u8,
                            a_stride,
                            to.add(tiles + step * HEIGHT * LINE),
                        );
                    }
                    a += a_step;
                    b += SIDE * t.b_stride;
                }
                if last {
                    F::store(sums.0.as_mut_ptr() as usize, 4 * COLS);
                } else {
                    F::store(kept, t.c_stride);
                }
            }
        }
        T::release();
        let last = &sums[(rows / HEIGHT + 1) % 2];
        for (row, sums) in last.0.iter().enumerate() {
            round_row(sums, out, rows - HEIGHT + row);
        }
    }
}

/// Copies a line of 32 rows, which the tile registers have just been loaded from, to where they are neighbours.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn copy_tile(from: *const u8, stride: usize, to: *mut u8) {
    for row in 0..HEIGHT {
        // SAFETY: by contract.
        unsafe {
            let line = _mm512_loadu_si512(from.add(row * stride).cast());
            _mm512_storeu_si512(to.add(row * LINE).cast(), line);
        }
    }
}

/// Two by two registers of sums.
pub(super) unsafe fn square<T: Registers>(rows: usize, t: &Tile, out: &Rounded) {
    // SAFETY: by contract.
    unsafe { rounded::<T, Square, COLS>(rows, t, out) }
}

/// Memory that is needed soon, and comes closer some lines at a time.
struct Soon {
    next: *const u8,
    /// Lines for 16 units of K.
    lines: usize,
    /// Lines until the next jump.
    run: usize,
    most: usize,
    jump: usize,
}

impl Soon {
    /// See [`Tile::next`].
    fn of(t: &Tile) -> Soon {
        Soon {
            next: t.next,
            // At least a line at a time.
            lines: (SIDE * t.next_step).div_ceil(LINE),
            run: t.next_run,
            most: t.next_run,
            jump: t.next_jump,
        }
    }

    #[inline(always)]
    fn fetch(&mut self) {
        for _ in 0..self.lines {
            // SAFETY: a hint.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(self.next.cast()) };
            self.next = self.next.wrapping_add(LINE);
            self.run -= 1;
            if self.run == 0 {
                self.next = self.next.wrapping_add(self.jump);
                self.run = self.most;
            }
        }
    }
}

/// Some units of all rows. `fetched`: bytes of `next` for each 32 rows.
#[inline(always)]
unsafe fn step_of<T: Registers>(rows: usize, t: &Tile, fetched: usize, configured: &mut usize) {
    for (n, first) in (0..rows).step_by(HEIGHT).enumerate() {
        let height = HEIGHT.min(rows - first);
        let part = Tile {
            next: t.next.wrapping_add(n * fetched),
            ..t.down(first)
        };
        // SAFETY: by contract.
        unsafe {
            if *configured != height {
                T::configure(&CONFIGURATIONS[height - 1]);
                *configured = height;
            }
            match (height > SIDE, t.cols > SIDE) {
                (false, false) => sums::<T, false, false>(height, &part),
                (false, true) => sums::<T, false, true>(height, &part),
                (true, false) => sums::<T, true, false>(height, &part),
                (true, true) => sums::<T, true, true>(height, &part),
            }
        }
    }
}

/// The sums of up to 32 rows, those of the lower 16 and of the right 16 columns if there are any.
#[inline(always)]
unsafe fn sums<T: Registers, const LOWER: bool, const RIGHT: bool>(rows: usize, t: &Tile) {
    let whole = t.cols == if RIGHT { COLS } else { SIDE };
    // SAFETY: by contract.
    unsafe {
        if whole && !t.init.is_null() {
            load_sums::<T, LOWER, RIGHT>(t.init as usize, t.init_stride);
        } else {
            zero_sums::<T, LOWER, RIGHT>();
        }
        let (mut a, mut b) = (t.a as usize, t.b as usize);
        let mut soon = Soon::of(t);
        for _ in 0..t.k / SIDE {
            if T::PARTS == 1 {
                multiply::<T, LOWER, RIGHT>([a, t.a_stride], [b, t.b_stride]);
            } else {
                amx_parts::multiply::<T, LOWER, RIGHT>([a, t.a_stride], [b, t.b_stride]);
            }
            soon.fetch();
            a += LINE;
            b += SIDE * t.b_stride;
        }
        let units = t.k % SIDE;
        debug_assert!(units == 0 || T::PARTS == 1);
        if units > 0 {
            let rest = rest(rows, units, t);
            let (a, b) = (rest.a.as_ptr() as usize, rest.b.as_ptr() as usize);
            multiply::<T, LOWER, RIGHT>([a, LINE], [b, 2 * LINE]);
        }
        if whole {
            store_sums::<T, LOWER, RIGHT>(t.c as usize, t.c_stride);
        } else {
            store_some::<T, LOWER, RIGHT>(rows, t);
        }
    }
}

/// Adds the products of 16 units. A and B: address and stride.
///
/// Operands are zeroed after their last use, which gives their place back: a core whose two hardware threads
/// are both busy has too few tile registers behind the eight to rename more than one or two loads (docs/products.md).
#[inline(always)]
unsafe fn multiply<T: Registers, const LOWER: bool, const RIGHT: bool>(
    [a, a_stride]: [usize; 2],
    [b, b_stride]: [usize; 2],
) {
    // SAFETY: by the caller's contract.
    unsafe {
        T::load_a::<4>(a, a_stride);
        T::load_b::<6>(b, b_stride);
        T::multiply::<0, 4, 6>();
        if RIGHT {
            T::load_b::<7>(b + LINE, b_stride);
            T::multiply::<1, 4, 7>();
        }
        T::zero::<4>();
        if LOWER {
            T::load_a::<5>(a + SIDE * a_stride, a_stride);
            T::multiply::<2, 5, 6>();
        }
        T::zero::<6>();
        if LOWER && RIGHT {
            T::multiply::<3, 5, 7>();
        }
        if LOWER {
            T::zero::<5>();
        }
        if RIGHT {
            T::zero::<7>();
        }
    }
}

/// Units that fill no tile register, filled up with zeros.
#[repr(C, align(64))]
struct Rest {
    a: [[u8; LINE]; HEIGHT],
    b: [[u8; 2 * LINE]; SIDE],
}

#[inline(never)]
unsafe fn rest(rows: usize, units: usize, t: &Tile) -> Rest {
    let mut rest = Rest {
        a: [[0; LINE]; HEIGHT],
        b: [[0; 2 * LINE]; SIDE],
    };
    let first = t.k - units;
    // SAFETY: by contract; of B whole registers are read.
    unsafe {
        for (i, to) in rest.a.iter_mut().enumerate().take(rows) {
            let from = t.a.add(i * t.a_stride + 4 * first);
            to.as_mut_ptr().copy_from_nonoverlapping(from, 4 * units);
        }
        let bytes = 4 * t.cols.next_multiple_of(SIDE);
        for (unit, to) in rest.b.iter_mut().enumerate().take(units) {
            let from = t.b.add((first + unit) * t.b_stride);
            to.as_mut_ptr().copy_from_nonoverlapping(from, bytes);
        }
    }
    rest
}

#[inline(always)]
unsafe fn zero_sums<T: Registers, const LOWER: bool, const RIGHT: bool>() {
    // SAFETY: by the caller's contract.
    unsafe {
        T::zero::<0>();
        if RIGHT {
            T::zero::<1>();
        }
        if LOWER {
            T::zero::<2>();
        }
        if LOWER && RIGHT {
            T::zero::<3>();
        }
    }
}

#[inline(always)]
unsafe fn load_sums<T: Registers, const LOWER: bool, const RIGHT: bool>(
    from: usize,
    stride: usize,
) {
    // SAFETY: by the caller's contract.
    unsafe {
        T::load_passing::<0>(from, stride);
        if RIGHT {
            T::load_passing::<1>(from + LINE, stride);
        }
        if LOWER {
            T::load_passing::<2>(from + SIDE * stride, stride);
        }
        if LOWER && RIGHT {
            T::load_passing::<3>(from + SIDE * stride + LINE, stride);
        }
    }
}

#[inline(always)]
unsafe fn store_sums<T: Registers, const LOWER: bool, const RIGHT: bool>(to: usize, stride: usize) {
    // SAFETY: by the caller's contract.
    unsafe {
        T::store::<0>(to, stride);
        if RIGHT {
            T::store::<1>(to + LINE, stride);
        }
        if LOWER {
            T::store::<2>(to + SIDE * stride, stride);
        }
        if LOWER && RIGHT {
            T::store::<3>(to + SIDE * stride + LINE, stride);
        }
    }
}

/// Sums of which some columns are not wanted.
#[inline(never)]
unsafe fn store_some<T: Registers, const LOWER: bool, const RIGHT: bool>(rows: usize, t: &Tile) {
    #[repr(C, align(64))]
    struct All([[u32; COLS]; HEIGHT]);
    let mut all = All([[0; COLS]; HEIGHT]);
    // SAFETY: there is room for all registers; then only columns that are wanted are touched.
    unsafe {
        store_sums::<T, LOWER, RIGHT>(all.0.as_mut_ptr() as usize, 2 * LINE);
        for (i, sums) in all.0.iter().enumerate().take(rows) {
            for (j, &sum) in sums.iter().enumerate().take(t.cols) {
                let c = t.c.add(i * t.c_stride + 4 * j).cast::<u32>();
                let sum = if t.init.is_null() {
                    sum
                } else {
                    let init = t.init.add(i * t.init_stride + 4 * j).cast::<u32>();
                    T::add(sum, init.read_unaligned())
                };
                c.write_unaligned(sum);
            }
        }
    }
}
