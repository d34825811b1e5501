//! Against plain loops in f64, on every instruction set.

use super::{Attention, MaskKind, MaskedRows, Rule, Tensor, attend};
use crate::DType;
use crate::cpu::Isa;
use crate::testing::{Fake, read, write};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

/// How a tensor of four dimensions lies in memory.
#[derive(Clone, Copy, Debug)]
enum Layout {
    /// Batch, heads, rows, columns.
    Plain,
    /// Batch, rows, heads, columns: what a model's projections give.
    RowsFirst,
    /// As `RowsFirst`, with other columns in between: a slice of one projection for q, k and v.
    Sliced,
    /// Columns are rows apart.
    Transposed,
}

const LAYOUTS: [Layout; 4] = [
    Layout::Plain,
    Layout::RowsFirst,
    Layout::Sliced,
    Layout::Transposed,
];

/// Strides of a dense tensor whose dimensions lie in this order, the last with so many elements more.
fn strides(sizes: [usize; 4], order: [usize; 4], gap: usize) -> [isize; 4] {
    let mut strides = [0; 4];
    let mut next = 1;
    for (n, &d) in order.iter().rev().enumerate() {
        strides[d] = next as isize;
        next *= (sizes[d] + if n == 0 { gap } else { 0 }).max(1);
    }
    strides
}

struct Owned {
    bytes: Vec<u8>,
    view: Tensor,
}

impl Owned {
    /// A tensor of `sizes`; elements in between are NaN.
    fn new(
        dtype: DType,
        sizes: [usize; 4],
        strides: [isize; 4],
        mut value: impl FnMut() -> f64,
    ) -> Owned {
        let size = dtype.size();
        let last: usize = sizes
            .iter()
            .zip(strides)
            .map(|(&n, s)| n.saturating_sub(1) * s as usize)
            .sum();
        let mut bytes = vec![0; (last + 1) * size];
        let gap = if dtype == DType::Bool { 1.0 } else { f64::NAN };
        for e in bytes.chunks_exact_mut(size) {
            write(dtype, e, gap);
        }
        let view = Tensor {
            data: bytes.as_ptr(),
            dtype,
            strides,
        };
        let mut owned = Owned { bytes, view };
        for index in indices(sizes) {
            let at = owned.place(index) * size;
            write(dtype, &mut owned.bytes[at..at + size], value());
        }
        owned
    }

    fn place(&self, index: [usize; 4]) -> usize {
        let parts = index.iter().zip(self.view.strides);
        parts.map(|(&i, s)| i * s as usize).sum()
    }

    fn get(&self, index: [usize; 4]) -> f64 {
        let at = self.place(index) * self.view.dtype.size();
        read(self.view.dtype, self.view.data.wrapping_add(at))
    }
}

fn indices([a, b, c, d]: [usize; 4]) -> impl Iterator<Item = [usize; 4]> {
    (0..a * b * c * d).map(move |n| [n / d / c / b, n / d / c % b, n / d % c, n % d])
}

/// Numbers that look random, within -1..1.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 40) as f64 / (1u64 << 23) as f64 - 1.0
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum MaskCase {
    None,
    /// Floats of this type are added, some -inf.
    Add(DType),
    Bool,
    Keep(f32),
}

#[derive(Clone, Debug)]
struct Case {
    isa: Isa,
    dtype: DType,
    batch: usize,
    kv_heads: usize,
    group: usize,
    queries: usize,
    keys: usize,
    depth: usize,
    width: usize,
    layouts: [Layout; 3],
    out: Layout,
    mask: MaskCase,
    /// Which dimensions of the mask are broadcast, and whether its columns are apart.
    broadcast: [bool; 4],
    causal: bool,
    scale: f32,
    zero: bool,
    lse: bool,
    threads: usize,
    seed: u64,
}

fn layout(sizes: [usize; 4], layout: Layout) -> [isize; 4] {
    match layout {
        Layout::Plain => strides(sizes, [0, 1, 2, 3], 0),
        Layout::RowsFirst => strides(sizes, [0, 2, 1, 3], 0),
        Layout::Sliced => strides(sizes, [0, 2, 1, 3], 5),
        Layout::Transposed => strides(sizes, [0, 1, 3, 2], 0),
    }
}

/// The tensors of a case.
struct Tensors {
    q: Owned,
    k: Owned,
    v: Owned,
    mask: Option<Owned>,
    out: Owned,
    lse: Owned,
}

impl Case {
    fn heads(&self) -> usize {
        self.kv_heads * self.group
    }

    fn tensors(&self) -> Tensors {
        let mut random = Random(self.seed);
        let mut make = |sizes: [usize; 4], n: usize| {
            let strides = layout(sizes, self.layouts[n]);
            Owned::new(self.dtype, sizes, strides, || 2.0 * random.next())
        };
        let (b, h) = (self.batch, self.kv_heads);
        let q = make([b, self.heads(), self.queries, self.depth], 0);
        let k = make([b, h, self.keys, self.depth], 1);
        let v = make([b, h, self.keys, self.width], 2);
        let result = [b, self.heads(), self.queries, self.width];
        let out = Owned::new(self.dtype, result, layout(result, self.out), || 77.0);
        let rows = [b, self.heads(), self.queries, 1];
        let lse = Owned::new(DType::F32, rows, strides(rows, [0, 2, 1, 3], 0), || 77.0);
        Tensors {
            q,
            k,
            v,
            mask: self.mask(&mut random),
            out,
            lse,
        }
    }

    fn mask(&self, random: &mut Random) -> Option<Owned> {
        let dtype = match self.mask {
            MaskCase::None => return None,
            MaskCase::Add(dtype) => dtype,
            MaskCase::Bool | MaskCase::Keep(_) => DType::Bool,
        };
        let mut sizes = [self.batch, self.heads(), self.queries, self.keys];
        for (n, broadcast) in sizes.iter_mut().zip(self.broadcast) {
            *n = if broadcast { (*n).min(1) } else { *n };
        }
        let mut strides = if self.seed.is_multiple_of(5) {
            layout(sizes, Layout::Transposed)
        } else {
            layout(sizes, Layout::Plain)
        };
        let value = || match random.next() {
            x if dtype == DType::Bool => f64::from(u8::from(x > -0.4)),
            x if x < -0.6 => f64::NEG_INFINITY,
            x => 3.0 * x,
        };
        let mut owned = Owned::new(dtype, sizes, strides, value);
        for (stride, broadcast) in strides.iter_mut().zip(self.broadcast) {
            *stride = if broadcast { 0 } else { *stride };
        }
        owned.view.strides = strides;
        Some(owned)
    }

    fn attention(&self, t: &Tensors) -> Attention {
        Attention {
            batch: self.batch,
            heads: self.heads(),
            kv_heads: self.kv_heads,
            queries: self.queries,
            keys: self.keys,
            depth: self.depth,
            width: self.width,
            q: t.q.view,
            k: t.k.view,
            v: t.v.view,
            mask: t.mask.as_ref().map(|m| m.view),
            out: t.out.view,
            lse: self.lse.then_some(t.lse.view),
            rule: Rule {
                scale: self.scale,
                causal: self.causal,
                mask: match self.mask {
                    MaskCase::None => None,
                    MaskCase::Add(_) | MaskCase::Bool => Some(MaskKind::Add),
                    MaskCase::Keep(other) => Some(MaskKind::Keep(other)),
                },
                masked_rows: if self.zero {
                    MaskedRows::Zero
                } else {
                    MaskedRows::Nan
                },
            },
        }
    }

    /// Scores of a row, scaled and masked, and how far off ours may be.
    fn scores(&self, t: &Tensors, b: usize, h: usize, i: usize) -> (Vec<f64>, f64) {
        let mut off: f64 = 0.0;
        let scale = f64::from(self.scale);
        let keys = if self.causal {
            self.keys.min(i + 1)
        } else {
            self.keys
        };
        let scores = (0..keys).map(|j| {
            let terms =
                (0..self.depth).map(|p| t.q.get([b, h, i, p]) * t.k.get([b, h / self.group, j, p]));
            let (x, size) = terms.fold((0.0, 0.0), |(s, z), t| (s + t, z + f64::abs(t)));
            let mask = t.mask.as_ref().map(|m| m.get([b, h, i, j]));
            let x = match (self.mask, mask) {
                (MaskCase::Add(_), Some(m)) => x * scale + m,
                (MaskCase::Bool, Some(0.0)) => f64::NEG_INFINITY,
                (MaskCase::Keep(other), Some(0.0)) => other.into(),
                _ => x * scale,
            };
            let rounding = (self.depth + 4) as f64 * 2f64.powi(-24);
            if x.is_finite() {
                off = off.max(size * scale.abs() * rounding + x.abs() * 2f64.powi(-23));
            }
            x
        });
        (scores.collect(), off)
    }
}

/// Runs a case and compares each element; the error allowed is that of any order of summation.
fn check(case: &Case) -> Result<(), TestCaseError> {
    let t = case.tensors();
    let before = t.out.bytes.clone();
    // SAFETY: the tensors are valid, and the processor has the instruction set.
    unsafe { attend(&case.attention(&t), case.isa, &Fake(case.threads)).unwrap() };
    let narrow = case.dtype == DType::BF16;
    let weight_error =
        (case.keys + 16) as f64 * 2f64.powi(-24) + if narrow { 2f64.powi(-8) } else { 0.0 };
    let rounding = match case.dtype {
        DType::BF16 => 2f64.powi(-8),
        DType::F16 => 2f64.powi(-11),
        _ => 2f64.powi(-23),
    };
    // Half of what lies between two subnormal numbers.
    let subnormal = match case.dtype {
        DType::F16 => 2f64.powi(-25),
        _ => 0.0,
    };
    for [b, h, i, _] in indices([case.batch, case.heads(), case.queries, 1]) {
        let (scores, off) = case.scores(&t, b, h, i);
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|x| (x - max).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let masked = max == f64::NEG_INFINITY;
        for c in 0..case.width {
            let got = t.out.get([b, h, i, c]);
            if masked {
                let zero = case.zero || case.keys == 0;
                prop_assert!(
                    if zero { got == 0.0 } else { got.is_nan() },
                    "{got} of nothing"
                );
                continue;
            }
            let v = |j: usize| t.v.get([b, h / case.group, j, c]);
            let terms = weights.iter().enumerate().map(|(j, w)| w / sum * v(j));
            let (want, size) = terms.fold((0.0, 0.0), |(s, z), t| (s + t, z + f64::abs(t)));
            let most = size * ((2.0 * off).exp_m1() + weight_error)
                + (want.abs() + 1e-6) * rounding
                + 1e-6 * 2f64.powi(-10)
                + subnormal;
            prop_assert!(
                (got - want).abs() <= most,
                "[{b}, {h}, {i}, {c}] is {got}, not {want} within {most}"
            );
        }
        let got = t.lse.get([b, h, i, 0]);
        let want = match (case.lse, masked) {
            (false, _) => 77.0,
            (true, true) => 0.0,
            (true, false) => max + sum.ln(),
        };
        prop_assert!(
            (got - want).abs() <= off + 1e-5 * (1.0 + want.abs()),
            "lse {got}, not {want}"
        );
    }
    // What lies between the elements is untouched.
    let size = case.dtype.size();
    let mut gaps = vec![true; before.len() / size];
    for index in indices([case.batch, case.heads(), case.queries, case.width]) {
        gaps[t.out.place(index)] = false;
    }
    for (at, _) in gaps.iter().enumerate().filter(|(_, gap)| **gap) {
        let bytes = at * size..(at + 1) * size;
        prop_assert_eq!(
            &t.out.bytes[bytes.clone()],
            &before[bytes],
            "outside at {}",
            at
        );
    }
    Ok(())
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        2 => Just(1usize),
        1 => Just(0usize),
        8 => 2..40usize,
        1 => prop::sample::select(vec![64usize, 67, 97, 131]),
    ]
}

fn mask() -> impl Strategy<Value = MaskCase> {
    let floats = [DType::F32, DType::BF16, DType::F16].map(MaskCase::Add);
    let mut all = vec![
        MaskCase::None,
        MaskCase::None,
        MaskCase::Bool,
        MaskCase::Keep(-1e9),
        MaskCase::Keep(f32::NEG_INFINITY),
    ];
    all.extend(floats);
    prop::sample::select(all)
}

fn case() -> impl Strategy<Value = Case> {
    let layouts = || prop::sample::select(LAYOUTS.to_vec());
    let result = prop::sample::select(LAYOUTS[..3].to_vec());
    let types = prop::sample::select(vec![DType::F32, DType::F32, DType::BF16, DType::F16]);
    let scale = prop::sample::select(vec![0.125f32, 1.0, 0.0, -0.5]);
    let isas: Vec<Isa> = Isa::available().collect();
    (
        (
            prop::sample::select(isas),
            types,
            0..3usize,
            1..3usize,
            1..5usize,
        ),
        (size(), size(), size(), size()),
        ([layouts(), layouts(), layouts()], result),
        (mask(), any::<[bool; 4]>(), prop::bool::weighted(0.4)),
        (scale, any::<bool>(), any::<bool>(), 1..6usize, any::<u64>()),
    )
        .prop_map(
            |(
                (isa, dtype, batch, kv_heads, group),
                (queries, keys, depth, width),
                (layouts, out),
                (mask, broadcast, causal),
                (scale, zero, lse, threads, seed),
            )| Case {
                isa,
                dtype,
                batch,
                kv_heads,
                group,
                queries,
                keys,
                depth,
                width,
                layouts,
                out,
                mask,
                broadcast,
                causal,
                scale,
                zero,
                lse,
                threads,
                seed,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn attention_is_that_of_f64(case in case()) {
        check(&case)?;
    }
}

fn plain(isa: Isa, dtype: DType, [queries, keys]: [usize; 2], threads: usize) -> Case {
    Case {
        isa,
        dtype,
        batch: 1,
        kv_heads: 1,
        group: 1,
        queries,
        keys,
        depth: 24,
        width: 40,
        layouts: [Layout::RowsFirst; 3],
        out: Layout::RowsFirst,
        mask: MaskCase::None,
        broadcast: [false; 4],
        causal: false,
        scale: 0.2,
        zero: true,
        lse: true,
        threads,
        seed: 1,
    }
}

/// Several blocks of keys, keys split over threads, and few rows.
#[test]
fn many_keys() {
    for isa in Isa::available() {
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            for (rows, keys, group) in [(1, 2000, 1), (1, 1300, 4), (3, 1100, 1), (50, 1300, 2)] {
                for threads in [1, 7] {
                    for (causal, mask) in [
                        (false, MaskCase::None),
                        (true, MaskCase::None),
                        (false, MaskCase::Bool),
                        (false, MaskCase::Add(DType::F32)),
                    ] {
                        let case = Case {
                            group,
                            causal,
                            mask,
                            ..plain(isa, dtype, [rows, keys], threads)
                        };
                        check(&case).unwrap();
                    }
                }
            }
        }
    }
}

/// More rows than a task has at most, so that tasks begin in the middle of a head.
#[test]
fn many_rows() {
    for isa in Isa::available() {
        for causal in [false, true] {
            let case = Case {
                depth: 300,
                width: 130,
                group: 2,
                causal,
                ..plain(isa, DType::F32, [600, 40], 3)
            };
            check(&case).unwrap();
        }
    }
}

#[test]
fn nan_and_infinity_propagate() {
    for isa in Isa::available() {
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            for rows in [1, 20] {
                let case = plain(isa, dtype, [rows, 600], 1);
                let mut t = case.tensors();
                let set = |t: &mut Owned, index: [usize; 4], x: f64| {
                    let (at, size) = (t.place(index), dtype.size());
                    write(dtype, &mut t.bytes[at * size..(at + 1) * size], x);
                };
                // A value reaches its column of all rows, a key all columns of all rows.
                set(&mut t.v, [0, 0, 5, 3], f64::NAN);
                set(&mut t.v, [0, 0, 520, 4], f64::INFINITY);
                let run = |t: &Tensors| {
                    // SAFETY: valid tensors.
                    unsafe { attend(&case.attention(t), isa, &Fake(1)).unwrap() };
                };
                run(&t);
                for i in 0..rows {
                    assert!(t.out.get([0, 0, i, 3]).is_nan(), "{isa:?} {dtype}");
                    assert_eq!(t.out.get([0, 0, i, 4]), f64::INFINITY, "{isa:?} {dtype}");
                    assert!(t.out.get([0, 0, i, 5]).is_finite(), "{isa:?} {dtype}");
                }
                for x in [f64::NAN, f64::INFINITY] {
                    let mut t = case.tensors();
                    for p in 0..case.depth {
                        set(&mut t.q, [0, 0, rows - 1, p], 1.0);
                        set(&mut t.k, [0, 0, 530, p], x);
                    }
                    run(&t);
                    for c in 0..case.width {
                        assert!(
                            t.out.get([0, 0, rows - 1, c]).is_nan(),
                            "{isa:?} {dtype} {x}"
                        );
                    }
                    assert!(
                        t.lse.get([0, 0, rows - 1, 0]).is_nan(),
                        "{isa:?} {dtype} {x}"
                    );
                }
            }
        }
    }
}

#[test]
fn unsupported_attention_is_refused() {
    let case = plain(Isa::Scalar, DType::F32, [2, 3], 1);
    let t = case.tensors();
    let mut mixed = case.attention(&t);
    mixed.k.dtype = DType::BF16;
    let mut columns = case.attention(&t);
    columns.out.strides[3] = 2;
    let mut heads = case.attention(&t);
    (heads.heads, heads.kv_heads) = (3, 2);
    for a in [mixed, columns, heads] {
        // SAFETY: nothing is read.
        assert!(unsafe { attend(&a, Isa::Scalar, &Fake(1)) }.is_err());
    }
}
