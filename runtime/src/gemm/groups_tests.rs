//! Products by bytes whose scales change along K, against f64: every instruction set that the processor has, ragged shapes.

use super::tests::{Layout, Owned, Random, rounding, vectors};
use super::*;
use crate::DType;
use crate::cpu::Isa;
use crate::testing::{Fake, skipped};
use proptest::prelude::*;
use std::sync::Mutex;

#[derive(Clone, Debug)]
struct Case {
    isa: Isa,
    /// Rows, columns, groups.
    shape: [usize; 3],
    size: usize,
    a: (DType, Layout),
    b: DType,
    rows_apart: bool,
    scales: (DType, Layout),
    zeros: Option<(DType, Layout)>,
    parts: Parts,
    threads: usize,
    seed: u64,
}

fn factors(of: &Owned) -> Factors {
    Factors {
        data: of.view.data,
        dtype: of.view.dtype,
        strides: of.view.strides,
    }
}

fn check(case: &Case) -> Result<(), TestCaseError> {
    let [m, n, groups] = case.shape;
    let k = groups * case.size;
    let mut random = Random(case.seed);
    let low = if case.b == DType::I8 { -128.0 } else { 0.0 };
    let columns = match case.rows_apart {
        true => Layout::PaddedColumns,
        false => Layout::Columns,
    };
    let a = Owned::new(case.a.0, [m, k], case.a.1, |_, _| random.next());
    let b = Owned::new(case.b, [k, n], columns, |_, _| {
        low + ((random.next() + 1.0) * 127.5).round()
    });
    let scale = |_, _| random.next() / 100.0;
    let scales = Owned::new(case.scales.0, [n, groups], case.scales.1, scale);
    let zeros = case.zeros.map(|(dtype, layout)| {
        Owned::new(dtype, [n, groups], layout, |_, _| {
            (9.0 * random.next()).round()
        })
    });
    let c = Owned::new(DType::F32, [m, n], Layout::PaddedRows, |_, _| 7.0);
    let of = Groups {
        bytes: b.view,
        size: case.size,
        scales: factors(&scales),
        zeros: zeros.as_ref().map(factors),
    };
    let made = Matrix {
        data: std::ptr::null(),
        dtype: case.a.0,
        strides: [1, k as isize],
    };
    let covered = Mutex::new(vec![0; m * n]);
    let epilogue = |_: usize, rows: std::ops::Range<usize>, cols: std::ops::Range<usize>| {
        let mut covered = covered.lock().unwrap();
        assert!(case.parts == Parts::Any || cols == (0..n));
        rows.for_each(|i| cols.clone().for_each(|j| covered[i * n + j] += 1));
    };
    let call = Call {
        isa: case.isa,
        threads: &Fake(case.threads),
        packed: None,
        made: None,
        groups: Some(&of),
        epilogue: Some(&epilogue),
        parts: case.parts,
    };
    let product = Product::new([m, n, k], a.view, made, c.view);
    // SAFETY: the matrices are valid, and the processor has the instruction set.
    let followed = unsafe { multiply(&product, &call) }.unwrap();
    prop_assert!(followed || case.parts == Parts::RowsIfSo);
    let times = i32::from(followed);
    prop_assert!(covered.lock().unwrap().iter().all(|&n| n == times));
    let rounding = rounding(&product, case.isa);
    for i in 0..m {
        for j in 0..n {
            let (mut sum, mut size) = (0.0, 0.0);
            for p in 0..k {
                let group = p / case.size;
                let zero = zeros.as_ref().map_or(0.0, |z| z.get(j, group));
                let (x, s) = (a.get(i, p), scales.get(j, group));
                sum += x * (b.get(p, j) - zero) * s;
                size += (x * s).abs() * (b.get(p, j).abs() + zero.abs());
            }
            let most = size * (rounding + (k + 4) as f64 * 2f64.powi(-24)) + 1e-7;
            let got = c.get(i, j);
            prop_assert!(
                (got - sum).abs() <= most,
                "[{i}, {j}] is {got}, not {sum} within {most}"
            );
        }
    }
    Ok(())
}

fn cases() -> impl Strategy<Value = Case> {
    let floats = prop::sample::select(vec![DType::F32, DType::BF16, DType::F16]);
    let of_a = prop::sample::select(vec![Layout::Rows, Layout::PaddedRows, Layout::Columns]);
    let of_factors = prop::sample::select(vec![Layout::Rows, Layout::Columns, Layout::OneRow]);
    let zeros = prop::option::of((floats.clone(), of_factors.clone()));
    (
        prop::sample::select(vectors()),
        (1usize..40, 1usize..80, 1usize..6),
        prop::sample::select(vec![16usize, 32, 48, 64, 128]),
        (floats.clone(), of_a),
        prop::sample::select(vec![DType::I8, DType::U8]),
        any::<bool>(),
        (floats, of_factors),
        zeros,
        prop::sample::select(vec![Parts::Any, Parts::RowsIfSo]),
        (1usize..4, any::<u64>()),
    )
        .prop_map(
            |(isa, (m, n, g), size, a, b, rows_apart, scales, zeros, parts, (threads, seed))| {
                Case {
                    isa,
                    shape: [m, n, g],
                    size,
                    a,
                    b,
                    rows_apart,
                    scales,
                    zeros,
                    parts,
                    threads,
                    seed,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn products_of_groups_match(case in cases()) {
        if Isa::of_processor() >= Isa::Avx2 {
            check(&case)?;
        } else {
            skipped("products of groups: no AVX2");
        }
    }
}

#[test]
fn other_groups_are_refused() {
    let zeros = [0u8; 64 * 8];
    let matrix = |dtype| Matrix {
        data: zeros.as_ptr(),
        dtype,
        strides: [1, 32],
    };
    let (made, c) = (matrix(DType::F32), [0f32; 4]);
    let c = Matrix {
        data: c.as_ptr().cast(),
        dtype: DType::F32,
        strides: [2, 1],
    };
    let a = Matrix {
        strides: [32, 1],
        ..made
    };
    let good = Groups {
        bytes: matrix(DType::I8),
        size: 16,
        scales: Factors {
            data: zeros.as_ptr(),
            dtype: DType::F32,
            strides: [2, 1],
        },
        zeros: None,
    };
    let run = |groups: Groups, k: usize| {
        let call = Call {
            isa: Isa::of_processor(),
            threads: &Serial,
            packed: None,
            made: None,
            groups: Some(&groups),
            epilogue: None,
            parts: Parts::Any,
        };
        // SAFETY: the matrices hold what is read.
        unsafe { multiply(&Product::new([2, 2, k], a, made, c), &call) }.is_ok()
    };
    assert_eq!(run(good, 32), Isa::of_processor() >= Isa::Avx2);
    assert!(!run(good, 24), "no whole groups");
    assert!(!run(Groups { size: 8, ..good }, 32), "less than a vector");
    assert!(!run(Groups { size: 0, ..good }, 32));
    assert!(!run(
        Groups {
            bytes: matrix(DType::I16),
            ..good
        },
        32
    ));
    let strides = [2, 1];
    let across = Groups {
        bytes: Matrix {
            strides,
            ..good.bytes
        },
        ..good
    };
    assert!(!run(across, 32), "columns across K");
    let of_bytes = Factors {
        dtype: DType::I8,
        ..good.scales
    };
    assert!(!run(
        Groups {
            scales: of_bytes,
            ..good
        },
        32
    ));
    assert!(!run(
        Groups {
            zeros: Some(of_bytes),
            ..good
        },
        32
    ));
}
