//! Products against f64: every instruction set that the processor has, ragged shapes, strides.

use super::*;
use crate::DType;
use crate::cpu::Isa;
use crate::testing::{Fake, read, skipped, write};
use proptest::prelude::*;
use std::sync::Mutex;

/// How a matrix lies in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Layout {
    Rows,
    PaddedRows,
    /// Rows that begin at cache lines.
    Lines,
    Columns,
    PaddedColumns,
    Both,
    OneRow,
    OneColumn,
}

const LAYOUTS: [Layout; 8] = [
    Layout::Rows,
    Layout::PaddedRows,
    Layout::Lines,
    Layout::Columns,
    Layout::PaddedColumns,
    Layout::Both,
    Layout::OneRow,
    Layout::OneColumn,
];

/// A matrix with its memory; what lies between its elements is NaN, or 77 for integers.
pub(super) struct Owned {
    bytes: Vec<u8>,
    pub view: Matrix,
}

impl Owned {
    pub fn new(
        dtype: DType,
        [rows, cols]: [usize; 2],
        layout: Layout,
        mut value: impl FnMut(usize, usize) -> f64,
    ) -> Owned {
        let strides = match layout {
            Layout::Rows => [cols, 1],
            Layout::PaddedRows => [cols + 5, 1],
            Layout::Lines => [(cols * dtype.size()).next_multiple_of(64) / dtype.size(), 1],
            Layout::Columns => [1, rows],
            Layout::PaddedColumns => [1, rows + 3],
            Layout::Both => [2 * cols + 1, 2],
            Layout::OneRow => [0, 1],
            Layout::OneColumn => [1, 0],
        };
        let size = dtype.size();
        let last = rows.saturating_sub(1) * strides[0] + cols.saturating_sub(1) * strides[1];
        let mut bytes = vec![0; (last + 1) * size + 64];
        let start = match layout {
            Layout::Lines => bytes.as_ptr().align_offset(64),
            _ => 0,
        };
        let gap = if dtype.is_float() { f64::NAN } else { 77.0 };
        bytes
            .chunks_exact_mut(size)
            .for_each(|e| write(dtype, e, gap));
        for i in 0..rows {
            for j in 0..cols {
                let at = start + (i * strides[0] + j * strides[1]) * size;
                let i = if strides[0] == 0 { 0 } else { i };
                let j = if strides[1] == 0 { 0 } else { j };
                write(dtype, &mut bytes[at..at + size], value(i, j));
            }
        }
        let view = Matrix {
            data: bytes[start..].as_ptr(),
            dtype,
            strides: strides.map(|s| s as isize),
        };
        Owned { bytes, view }
    }

    pub fn get(&self, i: usize, j: usize) -> f64 {
        read(self.view.dtype, self.view.at(i, j))
    }
}

/// Numbers that look random.
pub(super) struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 40) as f64 / (1u64 << 23) as f64 - 1.0
    }

    fn of(&mut self, dtype: DType) -> f64 {
        match dtype {
            DType::U8 => ((self.next() + 1.0) * 127.5).round(),
            DType::I8 => (self.next() * 127.5 - 0.5).round(),
            DType::I32 => (self.next() * 1000.0).round(),
            _ => self.next(),
        }
    }
}

#[derive(Clone, Debug)]
struct Case {
    isa: Isa,
    shape: [usize; 3],
    a: (DType, Layout),
    b: (DType, Layout),
    c: (DType, Layout),
    input: Option<Layout>,
    alpha: f32,
    beta: f32,
    packed: bool,
    parts: Parts,
    threads: usize,
    precision: Precision,
    seed: u64,
}

/// The columns of a matrix as one matrix or as several of some columns each.
pub(super) fn pieces(b: &Owned, n: usize, seed: u64) -> Vec<Columns> {
    let mut pieces = Vec::new();
    let (mut first, mut random) = (0, Random(seed));
    while first < n {
        let few = 1 + (random.next().abs() * 50.0) as usize;
        let n = if seed.is_multiple_of(3) {
            n
        } else {
            few.min(n - first)
        };
        let data = b.view.at(0, first);
        let b = Matrix { data, ..b.view };
        pieces.push(Columns { b, n });
        first += n;
    }
    pieces
}

/// Runs a case and compares each element; the error allowed is that of any order of summation.
fn check(case: &Case) -> Result<(), TestCaseError> {
    let mut random = Random(case.seed);
    let [m, n, k] = case.shape;
    let mut make = |(dtype, layout): (DType, Layout), shape: [usize; 2]| {
        Owned::new(dtype, shape, layout, |_, _| random.of(dtype))
    };
    let a = make(case.a, [m, k]);
    let b = make(case.b, [k, n]);
    let c = make(case.c, [m, n]);
    let input = case.input.map(|layout| make((case.c.0, layout), [m, n]));
    let before = c.bytes.clone();
    let product = Product {
        input: input.as_ref().map(|i| i.view),
        alpha: case.alpha,
        beta: case.beta,
        precision: case.precision,
        ..Product::new(case.shape, a.view, b.view, c.view)
    };
    let threads = Fake(case.threads);
    let covered = Mutex::new(vec![0; m * n]);
    let epilogue = |item: usize, rows: std::ops::Range<usize>, cols: std::ops::Range<usize>| {
        let mut covered = covered.lock().unwrap();
        assert_eq!(item, 0);
        assert!(case.parts == Parts::Any || cols == (0..n));
        rows.for_each(|i| cols.clone().for_each(|j| covered[i * n + j] += 1));
    };
    // SAFETY: the matrices are valid, and the processor has the instruction set.
    let followed = unsafe {
        let new = || {
            let parts = pieces(&b, n, case.seed);
            PackedB::new(
                &parts,
                k,
                product.packed_math(case.isa, case.threads),
                case.isa,
                &threads,
            )
        };
        let packed = case.packed.then(|| new().unwrap());
        let call = Call {
            isa: case.isa,
            threads: &threads,
            packed: packed.as_ref(),
            made: None,
            groups: None,
            epilogue: Some(&epilogue),
            parts: case.parts,
        };
        multiply(&product, &call).unwrap()
    };
    prop_assert!(followed || case.parts == Parts::RowsIfSo || m * n == 0);
    prop_assert!(
        covered
            .lock()
            .unwrap()
            .iter()
            .all(|&times| times == i32::from(followed))
    );
    let integer = case.c.0 == DType::I32;
    // f16 has no numbers closer than this to each other.
    let closest = if case.c.0 == DType::F16 {
        2f64.powi(-25)
    } else {
        0.0
    };
    let rounding = match case.c.0 {
        DType::BF16 => 2f64.powi(-8),
        DType::F16 => 2f64.powi(-11),
        _ => 2f64.powi(-23),
    };
    let product_error = match case.precision {
        Precision::Medium => 2f64.powi(-7),
        Precision::High => 2f64.powi(-14) + (k + 3) as f64 * 2f64.powi(-24),
        Precision::Full => (k + 3) as f64 * 2f64.powi(-24),
    };
    for i in 0..m {
        for j in 0..n {
            let terms = (0..k).map(|p| a.get(i, p) * b.get(p, j));
            let (sum, size) = terms.fold((0.0, 0.0), |(s, z), t| (s + t, z + f64::abs(t)));
            let added = match &input {
                Some(input) if case.beta != 0.0 => f64::from(case.beta) * input.get(i, j),
                _ => 0.0,
            };
            let want = f64::from(case.alpha) * sum + added;
            let got = c.get(i, j);
            let most = f64::from(case.alpha.abs()) * size * product_error
                + (want.abs() + added.abs() + 1e-6) * rounding
                + closest;
            let ok = if integer {
                got == want
            } else {
                (got - want).abs() <= most
            };
            prop_assert!(ok, "[{i}, {j}] is {got}, not {want} within {most}");
        }
    }
    // What lies between the elements is untouched.
    let size = case.c.0.size();
    let mut gaps = vec![true; before.len() / size];
    for i in 0..m {
        for j in 0..n {
            let at = i as isize * c.view.strides[0] + j as isize * c.view.strides[1];
            gaps[at as usize] = false;
        }
    }
    for (at, _) in gaps.iter().enumerate().filter(|(_, gap)| **gap) {
        let bytes = at * size..(at + 1) * size;
        prop_assert_eq!(&c.bytes[bytes.clone()], &before[bytes], "outside at {}", at);
    }
    Ok(())
}

fn isas() -> Vec<Isa> {
    Isa::available().collect()
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        2 => Just(1usize),
        1 => Just(0usize),
        8 => 2..70usize,
        1 => prop::sample::select(vec![97usize, 131, 193, 257]),
    ]
}

fn types() -> impl Strategy<Value = [DType; 3]> {
    use DType::{BF16, F16, F32, I8, I32, U8};
    prop::sample::select(vec![
        [F32, F32, F32],
        [F32, F32, F32],
        [BF16, BF16, BF16],
        [BF16, BF16, F32],
        [F16, F16, F16],
        [F16, F16, F32],
        [U8, I8, I32],
        [I8, I8, I32],
        [F32, I8, F32],
        [F32, U8, F32],
        [BF16, I8, F32],
        [BF16, U8, F32],
        [F16, I8, F32],
    ])
}

fn case() -> impl Strategy<Value = Case> {
    let layout = || prop::sample::select(LAYOUTS.to_vec());
    let result = prop::sample::select(vec![Layout::Rows, Layout::PaddedRows]);
    let scale = || prop::sample::select(vec![1.0f32, 0.0, -0.5]);
    (
        (
            prop::sample::select(isas()),
            size(),
            size(),
            size(),
            types(),
        ),
        (layout(), layout(), result, prop::option::of(layout())),
        (
            scale(),
            scale(),
            any::<bool>(),
            1..6usize,
            prop::sample::select(vec![Precision::Full, Precision::High, Precision::Medium]),
            any::<u64>(),
        ),
    )
        .prop_map(
            |(
                (isa, m, n, k, t),
                (a, b, c, input),
                (alpha, beta, packed, threads, precision, seed),
            )| {
                let integer = t[2] == DType::I32;
                Case {
                    isa,
                    shape: [m, n, k],
                    a: (t[0], a),
                    b: (t[1], b),
                    c: (t[2], c),
                    input,
                    alpha: if integer { 1.0 } else { alpha },
                    beta: if integer { beta.abs().ceil() } else { beta },
                    packed,
                    parts: match seed % 3 {
                        0 if packed => Parts::Rows,
                        1 => Parts::RowsIfSo,
                        _ => Parts::Any,
                    },
                    threads,
                    precision: if t[0] == DType::F32 {
                        precision
                    } else {
                        Precision::Full
                    },
                    seed,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn products_are_those_of_f64(case in case()) {
        check(&case)?;
    }
}

fn plain(isa: Isa, shape: [usize; 3], b: Layout, threads: usize) -> Case {
    Case {
        isa,
        shape,
        a: (DType::F32, Layout::Rows),
        b: (DType::F32, b),
        c: (DType::F32, Layout::Rows),
        input: Some(Layout::OneRow),
        alpha: 1.0,
        beta: 1.0,
        packed: false,
        parts: Parts::Any,
        threads,
        precision: Precision::Full,
        seed: 1,
    }
}

#[test]
fn deep_and_tall_products() {
    if !isas().contains(&Isa::Amx) {
        skipped("AMX's instructions, for want of them");
    }
    for isa in isas() {
        for (shape, threads) in [
            ([3, 5, 20_001], 4),  // parts of K
            ([20, 33, 9_000], 3), // blocks of K
            ([460, 40, 64], 2),   // B packed as a whole
            ([1, 300, 512], 2),   // dot products
            ([300, 1, 512], 2),   // one column
            ([14, 70, 4096], 1),  // rows that conflict
            ([37, 300, 520], 3),  // A packed instead of B
            ([70, 130, 2048], 2), // rows of B that conflict
            ([33, 35, 1026], 1),  // steps of K, and units that fill no tile
            ([97, 131, 1600], 3), // f32 in parts, where there are such
            ([460, 70, 96], 2),   // the same, packed inside of the call
        ] {
            for b in [Layout::Rows, Layout::Columns] {
                check(&plain(isa, shape, b, threads)).unwrap();
                use DType::{BF16, F16, F32, I8, I32, U8};
                let kinds = [
                    [F32, F32, F32],
                    [BF16, BF16, BF16],
                    [F16, F16, F16],
                    [U8, I8, I32],
                    [I8, I8, I32],
                    [F32, I8, F32],
                    [BF16, U8, F32],
                ];
                for (t, packed) in kinds.into_iter().zip([false, true].into_iter().cycle()) {
                    let mut case = plain(isa, shape, b, threads);
                    (case.a.0, case.b.0, case.c.0) = (t[0], t[1], t[2]);
                    // Each kind one way with rows of B, the other with columns.
                    case.packed = packed != (b == Layout::Rows);
                    check(&case).unwrap();
                }
                for precision in [Precision::High, Precision::Medium] {
                    let mut case = plain(isa, shape, b, threads);
                    case.precision = precision;
                    check(&case).unwrap();
                }
            }
        }
    }
}

/// Every kernel of every instruction set on the sizes at which loops end, and on every layout, which chance may miss.
#[test]
fn every_kernel_on_the_edges() {
    use DType::{BF16, F16, F32, I8, I32, U8};
    let kinds = [
        [F32, F32, F32],
        [BF16, BF16, BF16],
        [F16, F16, F16],
        [U8, I8, I32],
        [I8, I8, I32],
        [F32, I8, F32],
        [F32, U8, F32],
        [BF16, I8, F32],
        [BF16, U8, F32],
        [F16, I8, F32],
    ];
    let shapes = [
        [0, 3, 5],
        [3, 0, 5],
        [3, 5, 0],
        [1, 1, 1],
        [17, 37, 1],
        [1, 67, 131],
        [9, 1, 67],
        [13, 31, 19],
        [15, 33, 65],
    ];
    for (isa, t) in isas().into_iter().flat_map(|isa| kinds.map(|t| (isa, t))) {
        for (n, shape) in shapes.into_iter().enumerate() {
            for (j, b) in LAYOUTS.into_iter().enumerate() {
                for packed in [false, true] {
                    let mut case = plain(isa, shape, b, 1 + j % 3);
                    (case.a.0, case.b.0, case.c.0) = (t[0], t[1], t[2]);
                    case.a.1 = LAYOUTS[(n + j) % LAYOUTS.len()];
                    case.packed = packed;
                    if let Err(e) = check(&case) {
                        panic!("{case:?}: {e}");
                    }
                }
            }
        }
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn products_of_tile_registers() {
    use super::micro::amx_tests::{ALONE_IN_MEMORY, HALVES_IN_MEMORY, IN_MEMORY};
    products_of(&IN_MEMORY, Math::Bf16, DType::BF16);
    products_of(&ALONE_IN_MEMORY, Math::Bf16, DType::BF16);
    products_of(&HALVES_IN_MEMORY, Math::F16, DType::F16);
}

/// The driver with the blocks and alignment of AMX kernels in memory.
#[cfg(target_arch = "x86_64")]
fn products_of(kernels: &'static super::micro::Kernels, math: Math, dtype: DType) {
    use super::pack::Engine;
    if Isa::of_processor() < Isa::Avx512 {
        skipped("products on AMX's registers in memory, for want of AVX-512");
        return;
    }
    let rounds = Isa::of_processor() >= Isa::Avx512Bf16;
    if !rounds {
        skipped("sums rounded by the tile kernel, for want of AVX512-BF16");
    }
    let engine = Engine {
        // Of what is not the kernels'.
        isa: if rounds { Isa::Avx512Bf16 } else { Isa::Scalar },
        math,
        kernels,
    };
    let mut random = Random(5);
    let shapes = [
        [37, 70, 530],
        [3, 33, 64],
        [300, 40, 66],
        [64, 64, 768],
        [300, 96, 512],
        [101, 128, 96],
        // Panels whose sums are rounded by the kernel, and K in unequal steps.
        [64, 150, 800],
        // A as tiles: several panels for each of two threads.
        [70, 620, 416],
    ];
    for [m, n, k] in shapes {
        for (a_layout, c_type, input) in [
            (Layout::Rows, dtype, None),
            (Layout::Lines, dtype, None),
            (Layout::Lines, dtype, Some(Layout::OneRow)),
            (Layout::Rows, dtype, Some(Layout::OneRow)),
            (Layout::Rows, dtype, Some(Layout::PaddedRows)),
            (Layout::Columns, DType::F32, None),
        ] {
            let mut make =
                |rows, cols, layout| Owned::new(dtype, [rows, cols], layout, |_, _| random.next());
            let (a, b) = (make(m, k, a_layout), make(k, n, Layout::Columns));
            let input =
                input.map(|layout| Owned::new(c_type, [m, n], layout, |_, _| random.next()));
            let c = Owned::new(c_type, [m, n], Layout::PaddedRows, |_, _| 0.0);
            let product = Product {
                input: input.as_ref().map(|i| i.view),
                beta: 1.0,
                ..Product::new([m, n, k], a.view, b.view, c.view)
            };
            // SAFETY: valid matrices.
            unsafe {
                let packed = PackedB::with(&pieces(&b, n, 7), k, engine, &Fake(2)).unwrap();
                let call = Call {
                    isa: Isa::Scalar,
                    threads: &Fake(2),
                    packed: Some(&packed),
                    made: None,
                    groups: None,
                    epilogue: None,
                    parts: Parts::Any,
                };
                multiply(&product, &call).unwrap();
            }
            for i in 0..m {
                for j in 0..n {
                    let added = input.as_ref().map_or(0.0, |input| input.get(i, j));
                    let sum: f64 = (0..k).map(|p| a.get(i, p) * b.get(p, j)).sum();
                    let want = sum + added;
                    let most = 1e-3 + want.abs() * 2f64.powi(-8);
                    assert!((c.get(i, j) - want).abs() < most, "{m} {n} {k}: [{i}, {j}]");
                }
            }
        }
    }
}

/// Threads read every panel, all of K, as often as rows are split.
#[test]
fn threads_read_all_of_a_packed_matrix() {
    let mut random = Random(3);
    for ([m, n, k], threads, parts) in [
        ([128, 300, 768], 5, Parts::Any),
        ([16, 40, 6000], 7, Parts::Any),
        ([128, 300, 768], 5, Parts::Rows),
    ] {
        let a = Owned::new(DType::F32, [m, k], Layout::Rows, |_, _| 0.0);
        let b = Owned::new(DType::F32, [k, n], Layout::Columns, |_, _| random.next());
        let c = Owned::new(DType::F32, [m, n], Layout::Rows, |_, _| 0.0);
        let p = Product::new([m, n, k], a.view, b.view, c.view);
        let engine = Engine::new(Isa::Scalar, Math::F32).unwrap();
        // SAFETY: valid matrices.
        let packed = unsafe { PackedB::with(&pieces(&b, n, 0), k, engine, &Serial) }.unwrap();
        let all = reads(&p, &packed, threads, parts);
        assert_eq!(all.len(), threads);
        let mut times = vec![0; n.next_multiple_of(16) * k / 16];
        for memory in all {
            for run in 0..memory.count {
                let first = memory.start.addr() - packed.panel(0).addr() + run * memory.stride;
                (first..first + memory.bytes)
                    .step_by(64)
                    .for_each(|at| times[at / 64] += 1);
            }
        }
        let each = if parts == Parts::Rows {
            threads as i32
        } else {
            1
        };
        assert!(times.iter().all(|&t| t == each), "{m} {n} {k}");
    }
}

#[test]
fn batches() {
    let (m, n, k, count) = (7, 18, 33, 5);
    let mut random = Random(3);
    let mut make = |rows: usize, cols: usize| {
        Owned::new(DType::F32, [rows * count, cols], Layout::Rows, |_, _| {
            random.next()
        })
    };
    let (a, b, c) = (make(m, k), make(n, k), make(m, n));
    for isa in isas() {
        for threads in [1, 2, 16] {
            let product = Product {
                batch: Batch {
                    count,
                    a: (m * k) as isize,
                    b: (n * k) as isize,
                    c: (m * n) as isize,
                    input: 0,
                },
                ..Product::new([m, n, k], a.view, b.view.transposed(), c.view)
            };
            let call = Call {
                isa,
                threads: &Fake(threads),
                packed: None,
                made: None,
                groups: None,
                epilogue: None,
                parts: Parts::Any,
            };
            // SAFETY: valid matrices.
            unsafe { multiply(&product, &call).unwrap() };
            for row in 0..m * count {
                let item = row / m;
                for j in 0..n {
                    let terms = (0..k).map(|p| a.get(row, p) * b.get(item * n + j, p));
                    assert!((c.get(row, j) - terms.sum::<f64>()).abs() < 1e-5);
                }
            }
        }
    }
}

/// Every kernel for every instruction set: few and many rows, one unit of K, both layouts of B, packed and not, and the
/// arithmetic of bf16 for f32.
#[test]
fn nan_and_infinity_propagate() {
    let kinds = [
        (DType::F32, Precision::Full),
        (DType::F32, Precision::High),
        (DType::F32, Precision::Medium),
        (DType::BF16, Precision::Full),
        (DType::F16, Precision::Full),
    ];
    for (isa, (dtype, precision)) in isas().into_iter().flat_map(|isa| kinds.map(|k| (isa, k))) {
        for (m, k) in [(1, 40), (5, 40), (20, 40), (20, 8), (33, 1), (70, 64)] {
            for (layout, packed) in [
                (Layout::Rows, true),
                (Layout::Rows, false),
                (Layout::Columns, true),
                (Layout::Columns, false),
            ] {
                not_finite(isa, dtype, precision, [m, k], (layout, packed));
            }
        }
    }
}

/// A zero times an infinity in column 3, an infinity in column 5, NaN in column 36.
fn not_finite(
    isa: Isa,
    dtype: DType,
    precision: Precision,
    [m, k]: [usize; 2],
    (layout, packed): (Layout, bool),
) {
    let (n, last) = (37, k - 1);
    let zero = |p| p == last && k > 1;
    let a = Owned::new(
        dtype,
        [m, k],
        Layout::Rows,
        |_, p| {
            if zero(p) { 0.0 } else { 1.0 }
        },
    );
    let b = Owned::new(dtype, [k, n], layout, |p, j| match j {
        3 if p == last => f64::INFINITY,
        5 if p == 0 => f64::INFINITY,
        36 if p == 0 => f64::NAN,
        _ => 1.0,
    });
    let c = Owned::new(dtype, [m, n], Layout::Rows, |_, _| 0.0);
    let product = Product {
        precision,
        ..Product::new([m, n, k], a.view, b.view, c.view)
    };
    // SAFETY: valid matrices.
    unsafe {
        let math = product.packed_math(isa, 1);
        let made = PackedB::new(&pieces(&b, n, 0), k, math, isa, &Serial).unwrap();
        let call = Call {
            isa,
            threads: &Serial,
            packed: packed.then_some(&made),
            made: None,
            groups: None,
            epilogue: None,
            parts: Parts::Any,
        };
        multiply(&product, &call).unwrap();
    }
    let at = format!("{isa:?} {dtype} {precision:?} {m}x{k} {layout:?} packed {packed}");
    for i in 0..m {
        assert_eq!(c.get(i, 3).is_nan(), k > 1, "{at}");
        assert!(c.get(i, 36).is_nan(), "{at}");
        assert_eq!(c.get(i, 5), f64::INFINITY, "{at}");
        assert_eq!(c.get(i, 35), last.max(1) as f64, "{at}");
    }
}

#[test]
fn unsupported_products_are_refused() {
    let x = Owned::new(DType::F32, [4, 4], Layout::Rows, |_, _| 1.0);
    let y = Owned::new(DType::BF16, [4, 4], Layout::Rows, |_, _| 1.0);
    let call = Call {
        isa: Isa::Scalar,
        threads: &Serial,
        packed: None,
        made: None,
        groups: None,
        epilogue: None,
        parts: Parts::Any,
    };
    let mixed = Product::new([4, 4, 4], x.view, y.view, x.view);
    let columns = Product::new([4, 4, 4], x.view, x.view, x.view.transposed());
    // SAFETY: valid matrices.
    unsafe {
        assert!(multiply(&mixed, &call).is_err());
        assert!(multiply(&columns, &call).is_err());
    }
}

/// The instruction sets with vectors that this processor has, or the scalar one.
pub(super) fn vectors() -> Vec<Isa> {
    let all = Isa::ALL.into_iter();
    let had = all.filter(|isa| (Isa::Avx2..=Isa::of_processor()).contains(isa));
    let had: Vec<Isa> = had.collect();
    if had.is_empty() {
        vec![Isa::Scalar]
    } else {
        had
    }
}

/// By how much a factor is rounded: panels of a quantised B are of the type that is multiplied.
pub(super) fn rounding(product: &Product, isa: Isa) -> f64 {
    match product.math(isa) {
        Math::F32 => 0.0,
        Math::F16 => 2f64.powi(-11),
        _ => 2f64.powi(-8),
    }
}
