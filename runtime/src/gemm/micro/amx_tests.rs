//! The AMX kernels on tile registers in memory, so that all but the instructions is tested everywhere;
//! the instructions run in the tests of whole products, on processors that have them.

use super::amx::{Configuration, Passing, Registers, add_floats, square, table};
use super::{Kernels, Math, Tile, amx_alone, kernels};
use crate::cpu::Isa;
use half::{bf16, f16};
use proptest::prelude::*;
use std::cell::RefCell;

#[derive(Clone, Copy)]
struct Register {
    bytes: [[u8; 64]; 16],
    rows: usize,
}

const EMPTY: Register = Register {
    bytes: [[0; 64]; 16],
    rows: 0,
};

thread_local! {
    static TILES: RefCell<[Register; 8]> = const { RefCell::new([EMPTY; 8]) };
}

/// What products of units there are.
const BF16: u8 = 0;
const U8: u8 = 1;
const S8: u8 = 2;
const F16: u8 = 3;
/// As `BF16`, for one thread.
const ALONE: u8 = 4;
/// These two have so many parts.
const BF16X2: u8 = 12;
const BF16X3: u8 = 13;

fn products<const KIND: u8>(sum: u32, a: [u8; 4], b: [u8; 4]) -> u32 {
    let bf16_at = |x: [u8; 4], n: usize| bf16::from_le_bytes([x[2 * n], x[2 * n + 1]]).to_f32();
    let bytes = |a: i32, b: u8| (a * i32::from(b as i8)) as u32;
    let n = 0..4;
    match KIND {
        BF16 | ALONE | BF16X2 | BF16X3 => {
            let sum = f32::from_bits(sum) + bf16_at(a, 0) * bf16_at(b, 0);
            (sum + bf16_at(a, 1) * bf16_at(b, 1)).to_bits()
        }
        F16 => {
            let at = |x: [u8; 4], n: usize| f16::from_le_bytes([x[2 * n], x[2 * n + 1]]).to_f32();
            let sum = f32::from_bits(sum) + at(a, 0) * at(b, 0);
            (sum + at(a, 1) * at(b, 1)).to_bits()
        }
        U8 => n.fold(sum, |s, n| s.wrapping_add(bytes(a[n].into(), b[n]))),
        _ => n.fold(sum, |s, n| s.wrapping_add(bytes((a[n] as i8).into(), b[n]))),
    }
}

struct InMemory<const KIND: u8>;

impl<const KIND: u8> Registers for InMemory<KIND> {
    const PARTS: usize = match KIND {
        BF16X2 => 2,
        BF16X3 => 3,
        _ => 1,
    };

    const PASSING: Passing = match KIND {
        ALONE => Passing::A,
        BF16X3 => Passing::Neither,
        _ => Passing::B,
    };

    fn add(x: u32, y: u32) -> u32 {
        if matches!(KIND, BF16 | ALONE | F16 | BF16X2 | BF16X3) {
            add_floats(x, y)
        } else {
            x.wrapping_add(y)
        }
    }

    unsafe fn configure(c: &'static Configuration) {
        TILES.with_borrow_mut(|tiles| {
            for (n, tile) in tiles.iter_mut().enumerate() {
                assert!(c.rows[n] <= 16 && c.row_bytes[n] == if c.rows[n] > 0 { 64 } else { 0 });
                *tile = Register {
                    rows: c.rows[n].into(),
                    ..EMPTY
                };
            }
        });
    }

    unsafe fn release() {
        TILES.set([EMPTY; 8]);
    }

    unsafe fn zero<const R: usize>() {
        TILES.with_borrow_mut(|tiles| {
            assert!(tiles[R].rows > 0, "register {R} has no rows");
            tiles[R].bytes = EMPTY.bytes;
        });
    }

    unsafe fn load<const R: usize>(from: usize, stride: usize) {
        TILES.with_borrow_mut(|tiles| {
            assert!(tiles[R].rows > 0, "register {R} has no rows");
            for row in 0..tiles[R].rows {
                // SAFETY: by contract.
                tiles[R].bytes[row] = unsafe { ((from + row * stride) as *const [u8; 64]).read() };
            }
        });
    }

    unsafe fn load_passing<const R: usize>(from: usize, stride: usize) {
        // SAFETY: by contract.
        unsafe { Self::load::<R>(from, stride) };
    }

    unsafe fn store<const R: usize>(to: usize, stride: usize) {
        TILES.with_borrow(|tiles| {
            assert!(tiles[R].rows > 0, "register {R} has no rows");
            for row in 0..tiles[R].rows {
                // SAFETY: by contract.
                unsafe { ((to + row * stride) as *mut [u8; 64]).write(tiles[R].bytes[row]) };
            }
        });
    }

    unsafe fn multiply<const C: usize, const A: usize, const B: usize>() {
        TILES.with_borrow_mut(|tiles| {
            let (a, b, rows) = (tiles[A], tiles[B], tiles[C].rows);
            assert!(rows > 0 && a.rows == rows && b.rows == 16);
            let unit = |line: &[u8; 64], n: usize| [0, 1, 2, 3].map(|i| line[4 * n + i]);
            for i in 0..rows {
                for j in 0..16 {
                    let mut sum = u32::from_le_bytes(unit(&tiles[C].bytes[i], j));
                    for k in 0..16 {
                        sum = products::<KIND>(sum, unit(&a.bytes[i], k), unit(&b.bytes[k], j));
                    }
                    tiles[C].bytes[i][4 * j..4 * j + 4].copy_from_slice(&sum.to_le_bytes());
                }
            }
        });
    }
}

/// AMX kernels in memory, for products as a whole.
pub static IN_MEMORY: Kernels = Kernels {
    rounded: Some(square::<InMemory<BF16>>),
    ..table::<InMemory<BF16>>()
};
/// Those of one thread.
pub static ALONE_IN_MEMORY: Kernels = amx_alone::table::<InMemory<ALONE>>();
/// Those of f32 in parts.
pub static TWO_PARTS_IN_MEMORY: Kernels = table::<InMemory<BF16X2>>();
/// The same.
pub static THREE_PARTS_IN_MEMORY: Kernels = table::<InMemory<BF16X3>>();
/// Those of f16.
pub static HALVES_IN_MEMORY: Kernels = table::<InMemory<F16>>();
static UNSIGNED: Kernels = table::<InMemory<U8>>();
static SIGNED: Kernels = table::<InMemory<S8>>();

/// One call of the tile, or of several panels side by side, beside calls of the scalar tile, on random bytes or
/// small bf16 numbers.
fn compare(math: Math, [rows, cols, k]: [usize; 3], init: Option<bool>, seed: u64) {
    let amx = match math {
        Math::Bf16 if seed.is_multiple_of(2) => &ALONE_IN_MEMORY,
        Math::Bf16 => &IN_MEMORY,
        Math::Bf16x2 => &TWO_PARTS_IN_MEMORY,
        Math::Bf16x3 => &THREE_PARTS_IN_MEMORY,
        Math::F16 => &HALVES_IN_MEMORY,
        Math::I8 => &UNSIGNED,
        _ => &SIGNED,
    };
    let scalar = kernels(Isa::Scalar, math).unwrap();
    let parts = math.parts();
    // Kernels of parts take whole registers.
    let k = if parts > 1 { k.next_multiple_of(16) } else { k };
    let mut state = seed;
    let mut random = |len: usize| -> Vec<u8> {
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            (state >> 40) as i32 % 32 - 16
        };
        match math {
            // Whole numbers, so that no order of summation rounds.
            Math::Bf16 | Math::Bf16x2 | Math::Bf16x3 => (0..len / 2)
                .flat_map(|_| bf16::from_f32(next() as f32).to_le_bytes())
                .collect(),
            Math::F16 => (0..len / 2)
                .flat_map(|_| f16::from_f32(next() as f32).to_le_bytes())
                .collect(),
            _ => (0..len).map(|_| next() as u8).collect(),
        }
    };
    let a = random(4 * parts * rows * k);
    let width = cols.next_multiple_of(amx.cols);
    let b_panel = 4 * parts * amx.cols * k;
    let b = random(4 * parts * width * k);
    let init_row = random(4 * width * rows);
    let init_row: Vec<u32> = init_row
        .chunks_exact(4)
        .map(|c| {
            if matches!(math, Math::I8 | Math::S8) {
                c[1].into()
            } else {
                f32::from(c[0]).to_bits()
            }
        })
        .collect();
    const GAP: u32 = 77;
    let stride = width + 3;
    let mut results = [vec![GAP; rows * stride], vec![GAP; rows * stride]];
    for (kernels, c) in [amx, scalar].into_iter().zip(&mut results) {
        for first in (0..rows).step_by(kernels.rows) {
            // All columns of AMX's panels at once.
            let each = if kernels.cols == amx.cols {
                width
            } else {
                kernels.cols
            };
            for left in (0..cols).step_by(each) {
                let (panel, column) = (left / amx.cols, left % amx.cols);
                let tile = Tile {
                    k,
                    a: a.as_ptr(),
                    a_stride: 4 * parts * k,
                    b: b[panel * b_panel + 4 * column..].as_ptr(),
                    b_stride: 4 * parts * amx.cols,
                    c: c[left..].as_mut_ptr().cast(),
                    c_stride: 4 * stride,
                    init: init.map_or(std::ptr::null(), |_| init_row[left..].as_ptr().cast()),
                    init_stride: if init == Some(true) { 4 * width } else { 0 },
                    cols: each.min(cols - left),
                    next: a.as_ptr(),
                    next_step: 64,
                    next_run: 3,
                    next_jump: 5,
                };
                let (count, tile) = (kernels.rows.min(rows - first), tile.down(first));
                // SAFETY: all of the tile lies in the vectors.
                unsafe {
                    if each > amx.cols {
                        kernels.panels(count, &tile, b_panel);
                    } else {
                        (kernels.tile)(count, &tile);
                    }
                }
            }
        }
    }
    assert_eq!(results[0], results[1]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn tiles_are_the_scalar_ones(
        math in prop::sample::select(vec![
            Math::Bf16,
            Math::F16,
            Math::I8,
            Math::S8,
            Math::Bf16x2,
            Math::Bf16x3,
        ]),
        rows in 1..80usize,
        cols in prop_oneof![Just(32usize), Just(16), 1..33usize, 33..140usize],
        k in prop_oneof![Just(32usize), 1..70usize],
        init in prop::option::of(any::<bool>()),
        seed in any::<u64>(),
    ) {
        compare(math, [rows, cols, k], init, seed);
    }
}
