//! Products by nibbles against f64: every instruction set that the processor has, both layouts.

use super::tests::{Layout, Owned, Random, rounding, vectors};
use super::*;
use crate::DType;
use crate::cpu::Isa;
use crate::testing::{Fake, skipped};
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Case {
    isa: Isa,
    /// Rows, blocks of columns, groups.
    shape: [usize; 3],
    columns: usize,
    size: usize,
    a: (DType, Layout),
    factors: DType,
    threads: usize,
    seed: u64,
}

/// Nibbles `[k, n]` in blocks.
fn packed(w: &[Vec<u8>], n: usize, columns: usize) -> Vec<u8> {
    let half = columns / 2;
    let mut bytes = Vec::new();
    for first in (0..n).step_by(columns) {
        for row in w {
            bytes.extend((0..half).map(|j| row[first + j] | row[first + half + j] << 4));
        }
    }
    bytes
}

fn check(case: &Case) -> Result<(), TestCaseError> {
    let [m, blocks, groups] = case.shape;
    let (n, k) = (blocks * case.columns, groups * case.size);
    let mut random = Random(case.seed);
    let a = Owned::new(case.a.0, [m, k], case.a.1, |_, _| random.next());
    let mut nibble = || ((random.next() + 1.0) * 8.0) as u8 & 15;
    let w: Vec<Vec<u8>> = (0..k).map(|_| (0..n).map(|_| nibble()).collect()).collect();
    let bytes = packed(&w, n, case.columns);
    let factors = Owned::new(case.factors, [groups, 2 * n], Layout::Rows, |_, _| {
        random.next() / 100.0
    });
    let c = Owned::new(DType::F32, [m, n], Layout::PaddedRows, |_, _| 7.0);
    let of = Nibbles {
        data: bytes.as_ptr(),
        columns: case.columns,
        size: case.size,
        factors: factors.view.data,
        dtype: case.factors,
    };
    let made = Matrix {
        data: std::ptr::null(),
        dtype: case.a.0,
        strides: [1, k as isize],
    };
    let call = Call {
        isa: case.isa,
        threads: &Fake(case.threads),
        packed: None,
        made: None,
        groups: Some(&of),
        epilogue: None,
        parts: Parts::Any,
    };
    let product = Product::new([m, n, k], a.view, made, c.view);
    // SAFETY: the matrices are valid, and the processor has the instruction set.
    unsafe { multiply(&product, &call) }.unwrap();
    let rounding = rounding(&product, case.isa);
    for i in 0..m {
        for j in 0..n {
            let (mut sum, mut size) = (0.0, 0.0);
            for (p, row) in w.iter().enumerate() {
                let group = p / case.size;
                let [s, z] = [0, 1].map(|of| factors.get(group, 2 * j + of));
                let x = a.get(i, p);
                sum += x * ((f64::from(row[j]) - 8.0) * s + z);
                size += x.abs() * (16.0 * s.abs() + z.abs());
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
    (
        prop::sample::select(vectors()),
        (1usize..40, 1usize..4, 1usize..5),
        prop::sample::select(vec![32usize, 64]),
        prop::sample::select(vec![16usize, 32, 128, 7]),
        (floats.clone(), of_a),
        floats,
        (1usize..4, any::<u64>()),
    )
        .prop_map(
            |(isa, (m, blocks, groups), columns, size, a, factors, (threads, seed))| Case {
                isa,
                shape: [m, blocks, groups],
                columns,
                size,
                a,
                factors,
                threads,
                seed,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn products_of_nibbles_match(case in cases()) {
        if Isa::of_processor() >= Isa::Avx2 {
            check(&case)?;
        } else {
            skipped("products of nibbles: no AVX2");
        }
    }
}

#[test]
fn other_nibbles_are_refused() {
    let isa = Isa::of_processor();
    let takes = |n, k, columns, size| Nibbles::takes([n, k], columns, size, isa);
    assert_eq!(takes(64, 32, 64, 32), isa >= Isa::Avx2);
    assert!(!takes(96, 32, 64, 32), "no whole blocks");
    assert!(!takes(64, 48, 64, 32), "no whole groups");
    assert!(!takes(64, 32, 64, 0) && !takes(64, 32, 16, 32));
    assert!(!Nibbles::takes([64, 32], 64, 32, Isa::Scalar));
}
