//! f32 in parts of bf16: products against f64, and numbers that have no parts.

use super::micro::{Kernels, Math, kernels};
use super::tests::{Layout, Owned, Random, pieces};
use super::*;
use crate::DType;
use crate::cpu::Isa;
use crate::testing::{Fake, skipped};

/// Engines of two and of three parts: plain loops, tile registers in memory, and AMX if there is such.
fn engines() -> Vec<Engine> {
    let mut engines = Vec::new();
    let mut add = |isa, math, kernels: Option<&'static Kernels>| {
        let kernels = kernels.expect("kernels of parts");
        engines.push(Engine { isa, math, kernels });
    };
    let highest = Isa::of_processor();
    for math in [Math::Bf16x2, Math::Bf16x3] {
        add(Isa::Scalar, math, kernels(Isa::Scalar, math));
        #[cfg(target_arch = "x86_64")]
        {
            use super::micro::amx_tests::{THREE_PARTS_IN_MEMORY, TWO_PARTS_IN_MEMORY};
            let in_memory = match math {
                Math::Bf16x2 => &TWO_PARTS_IN_MEMORY,
                _ => &THREE_PARTS_IN_MEMORY,
            };
            if highest >= Isa::Avx512Bf16 {
                add(Isa::Avx512Bf16, math, Some(in_memory));
            } else {
                skipped("parts on AMX's registers in memory, for want of AVX512-BF16");
            }
        }
        if highest >= Isa::Amx {
            add(Isa::Amx, math, kernels(Isa::Amx, math));
        } else {
            skipped("parts by AMX's instructions, for want of them");
        }
    }
    engines
}

/// `a b + input` with rows of A that may lie in columns.
fn multiplied(
    engine: Engine,
    a: &Owned,
    b: &Owned,
    [m, n, k]: [usize; 3],
    threads: usize,
) -> Owned {
    let c = Owned::new(DType::F32, [m, n], Layout::PaddedRows, |_, _| 7.0);
    let product = Product::new([m, n, k], a.view, b.view, c.view);
    // SAFETY: valid matrices.
    unsafe {
        let packed = PackedB::with(&pieces(b, n, 7), k, engine, &Fake(threads)).unwrap();
        let call = Call {
            isa: engine.isa,
            threads: &Fake(threads),
            packed: Some(&packed),
            made: None,
            groups: None,
            epilogue: None,
            parts: Parts::Any,
        };
        multiply(&product, &call).unwrap();
    }
    c
}

/// `a b` and the sum of magnitudes, in f64.
fn reference(a: &Owned, b: &Owned, k: usize, [i, j]: [usize; 2]) -> (f64, f64) {
    let terms = (0..k).map(|p| a.get(i, p) * b.get(p, j));
    terms.fold((0.0, 0.0), |(s, z), t| (s + t, z + t.abs()))
}

#[test]
fn three_parts_are_as_exact_as_f32() {
    let mut random = Random(11);
    for engine in engines() {
        for (shape, a, b) in [
            ([64, 32, 32], Layout::Rows, Layout::Columns),
            ([70, 70, 1536], Layout::PaddedRows, Layout::Rows),
            ([37, 33, 2080], Layout::Columns, Layout::PaddedColumns),
            ([1, 5, 96], Layout::Rows, Layout::Both),
        ] {
            let [m, n, k] = shape;
            let mut make = |sizes, layout| {
                // Of very different sizes, so that no part is without bits.
                Owned::new(DType::F32, sizes, layout, |i, j| {
                    random.next() * f64::powi(2.0, ((i * 7 + j * 5) % 24) as i32 - 12)
                })
            };
            let (a, b) = (make([m, k], a), make([k, n], b));
            for threads in [1, 5] {
                let c = multiplied(engine, &a, &b, shape, threads);
                for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
                    let (want, size) = reference(&a, &b, k, [i, j]);
                    let each = match engine.math {
                        Math::Bf16x2 => 2f64.powi(-15),
                        _ => 2f64.powi(-24),
                    };
                    // Sums round as those of f32 do in the worst order.
                    let most = size * (each + (k + 3) as f64 * 2f64.powi(-26)) + 1e-37;
                    let got = c.get(i, j);
                    assert!(
                        (got - want).abs() <= most,
                        "{shape:?} [{i}, {j}]: {got}, not {want}"
                    );
                }
            }
        }
    }
}

/// A row, and a column, that is all zeros but for one number.
#[test]
fn numbers_without_parts_are_multiplied_as_they_are() {
    let (m, n, k) = (40, 37, 64);
    let engines = engines();
    for x in [
        f64::INFINITY,
        f64::NAN,
        f32::MAX.into(),
        1e-38,
        2f64.powi(-149),
        1e25,
        1e-20,
    ] {
        let odd = |here: bool, i: usize, j: usize, at: [usize; 2]| match [i, j] == at {
            true if here => x,
            // The row's and the column's other numbers.
            _ if here && (at[0] == i || at[1] == j) => 0.0,
            // Of more bits than a part has.
            _ => 1.0 + (i % 3) as f64 / 3.0,
        };
        for (in_a, in_b) in [(true, false), (false, true)] {
            let a = Owned::new(DType::F32, [m, k], Layout::Rows, |i, p| {
                odd(in_a, i, p, [17, 5])
            });
            let b = Owned::new(DType::F32, [k, n], Layout::Rows, |p, j| {
                odd(in_b, p, j, [5, 3])
            });
            for &engine in &engines {
                let c = match in_a {
                    true => multiplied(engine, &a, &b, [m, n, k], 2),
                    false => by_new(engine, &a, &b, [m, n, k]),
                };
                for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
                    let (want, _) = reference(&a, &b, k, [i, j]);
                    let (want, got) = (f64::from(want as f32), c.get(i, j));
                    let error = match engine.math {
                        Math::Bf16x2 => 2f64.powi(-15),
                        _ => 1e-6,
                    };
                    let close = (got - want).abs() <= want.abs() * error;
                    let same = got == want || close || (got.is_nan() && want.is_nan());
                    assert!(
                        same,
                        "{x} {in_a} {:?} [{i}, {j}]: {got}, not {want}",
                        engine.math
                    );
                }
            }
        }
    }
}

/// With a B that [`PackedB::new`] has to pack in another way, which none of these kernels needs to have.
fn by_new(engine: Engine, a: &Owned, b: &Owned, [m, n, k]: [usize; 3]) -> Owned {
    let c = Owned::new(DType::F32, [m, n], Layout::Rows, |_, _| 7.0);
    let product = Product::new([m, n, k], a.view, b.view, c.view);
    let isa = if kernels(engine.isa, engine.math).is_some() {
        engine.isa
    } else {
        Isa::Scalar
    };
    // SAFETY: valid matrices.
    unsafe {
        let packed = PackedB::new(&pieces(b, n, 7), k, engine.math, isa, &Fake(2)).unwrap();
        assert_eq!(packed.engine().math, Math::F32);
        let call = Call {
            isa,
            threads: &Fake(2),
            packed: Some(&packed),
            made: None,
            groups: None,
            epilogue: None,
            parts: Parts::Any,
        };
        multiply(&product, &call).unwrap();
    }
    c
}
