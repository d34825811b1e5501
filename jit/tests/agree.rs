//! Random kernels through the interpreter and both code generators.

mod execute;
mod memory;
mod random;

use execute::execute;
use ipex_jit::interpret::interpret;
use ipex_jit::kernel::*;
use ipex_jit::wide::{self, Target};
use ipex_jit::{CompiledKernel, cranelift};
use memory::{canonical, fill};
use proptest::prelude::*;
use random::random;
use std::io::Write;

/// Runs a kernel through all generators; the names of the targets for which the wide one took it.
fn check(bytes: &[u8]) -> Vec<&'static str> {
    let (kernel, sizes) = random(bytes);
    verify(&kernel).unwrap_or_else(|e| panic!("{e}\n{kernel}"));
    let params = kernel.params.values().zip(&sizes).enumerate();
    let memory: Vec<Vec<u8>> = params.map(|(k, (p, &n))| fill(p.dtype, n, k)).collect();
    let extent = kernel.vars[kernel.root.var].extent;
    compare(&kernel, &memory, extent)
}

/// The same on given memory, of so many iterations of the outermost loop.
fn compare(kernel: &Kernel, memory: &[Vec<u8>], extent: u64) -> Vec<&'static str> {
    let mut want = memory.to_vec();
    interpret(kernel, &mut want, 0, extent);
    let mut codes = vec![(
        "cranelift",
        cranelift::compile(kernel).unwrap_or_else(|e| panic!("{e}\n{kernel}")),
    )];
    let wide = Target::available()
        .filter_map(|t| Some((t, wide::compile_for(kernel, t).ok()?)))
        .map(|(t, code)| (t.name(), CompiledKernel::new(&code).unwrap()));
    codes.extend(wide);
    let taken = codes[1..].iter().map(|c| c.0).collect();
    for (name, code) in codes {
        let mut got = memory.to_vec();
        execute(&code, &mut got, extent, extent / 3);
        for (k, p) in kernel.params.iter() {
            let k = k.as_u32() as usize;
            let (got, want) = (canonical(p.dtype, &got[k]), canonical(p.dtype, &want[k]));
            let size = p.dtype.size();
            let mut pairs = got.chunks(size).zip(want.chunks(size)).enumerate();
            let wrong = pairs.find(|(_, (g, w))| g != w);
            assert!(
                wrong.is_none(),
                "{name}, parameter {k} of {}: {wrong:x?}\n{kernel}",
                p.dtype,
            );
        }
    }
    taken
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn generators_agree_with_the_interpreter(bytes in prop::collection::vec(any::<u8>(), 40..160)) {
        check(&bytes);
    }
}

/// Rows long enough to be fetched ahead, whose places end where memory does: nothing is read behind the last, by code
/// that was made for more rows.
#[test]
fn gathered_rows_of_several_loops_agree() {
    let text = "kernel (p0: in f32, p1: in f32, p2: in i64, p3: out f32) {
        loop i0 < 9 {
            v0: i64 = load p2[i0]
            loop i1 < 300 vector {
                v1: f32 = load p0[300*v0 + i1]
                v2: f32 = load p1[300*i0 + i1]
                v3: f32 = max v1, v2
            } carry v4: f32 = max v3
            loop i2 < 300 vector {
                v5: f32 = load p0[300*v0 + i2]
                v6: f32 = sub v5, v4
                store p3[300*i0 + i2] = v6
            }
        }
    }";
    let kernel = parse(text).unwrap();
    verify(&kernel).unwrap();
    let places: Vec<u8> = [6i64, 0, 3, 3, 5]
        .iter()
        .flat_map(|n| n.to_le_bytes())
        .collect();
    let floats = |n, seed| fill(ipex_runtime::DType::F32, n, seed);
    let memory = [floats(2100, 0), floats(1500, 1), places, floats(1500, 2)];
    let taken = compare(&kernel, &memory, 5);
    assert_eq!(taken.len(), Target::available().count());
}

/// Whole numbers, so that no order and no rounding shows; rows and columns that end within a vector.
#[test]
fn sums_of_products_agree() {
    let text = "kernel (p0: in f32, p1: in f32, p2: out f32, p3: out f32, p4: out f32) {
        loop i0 < 9 {
            loop i1 < 77 vector {
                v0: f32 = load p0[77*i0 + i1]
                v1: f32 = load p1[77*i0 + i1]
                v2: f32 = mul v0, v1
                v3: f32 = mul v0, v0
                store p4[77*i0 + i1] = v3
            } carry v4: f32 = sum v2, v5: f32 = sum v3
            store p2[i0] = v4
            loop i2 < 77 vector {
                loop i3 < 3 {
                    v6: f32 = load p0[77*i0 + i2]
                    v7: f32 = load p1[i2 + 77*i3]
                    v8: f32 = mul v6, v7
                } carry v9: f32 = sum v8
                v10: f32 = add v9, v5
                store p3[77*i0 + i2] = v10
            }
        }
    }";
    let whole = |n: usize, by: usize| -> Vec<u8> {
        let numbers = (0..n).map(|k| (k * by % 31) as f32 - 15.0);
        numbers.flat_map(f32::to_le_bytes).collect()
    };
    for text in [text.to_string(), text.replace("f32", "f64")] {
        let kernel = parse(&text).unwrap();
        verify(&kernel).unwrap();
        let rows = 9 * 77;
        let mut memory =
            [(rows, 7), (rows, 11), (9, 1), (rows, 1), (rows, 1)].map(|(n, by)| whole(n, by));
        if text.contains("f64") {
            memory = memory.map(|bytes| {
                let floats = bytes
                    .chunks_exact(4)
                    .map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]]));
                floats.flat_map(|x| f64::from(x).to_le_bytes()).collect()
            });
        }
        let taken = compare(&kernel, &memory, 9);
        assert_eq!(taken.len(), Target::available().count());
    }
}

/// Two tiles, turned and read together with what differs by row, by column and in neither; if `odd`, rows start where vectors don't:
/// these cannot be stored past the caches.
fn turned_tiles(result: &str, rows: usize, columns: usize, odd: usize) {
    let (tile, across) = (rows * columns, 2 * rows + odd);
    let apart = columns + odd;
    let all = rows * apart;
    let text = format!(
        "kernel (p0: in f32, p1: in f32, p2: in f32, p3: in f32, p4: in f32, p5: {result}) {{
        scratch s0: f32[{tile}]
        loop i0 < 2 {{
            loop i1 < {columns} {{
                loop i2 < {rows} vector {{
                    v0: f32 = load p0[{rows}*i0 + {across}*i1 + i2]
                    store s0[i1 + {columns}*i2] = v0
                }}
            }}
            loop i3 < {rows} {{
                loop i4 < {columns} vector {{
                    v1: f32 = load s0[{columns}*i3 + i4]
                    v2: f32 = load p1[{tile}*i0 + {columns}*i3 + i4]
                    v3: f32 = load p2[{rows}*i0 + i3]
                    v4: f32 = load p3[i4]
                    v5: f32 = load p4[0]
                    v6: f32 = abs v5
                    v7: f32 = fma v1, v6, v2
                    v8: f32 = max v7, v3
                    v9: f32 = add v8, v4
                    store p5[{all}*i0 + {apart}*i3 + i4] = v9
                }}
            }}
        }}
    }}"
    );
    let kernel = parse(&text).unwrap();
    verify(&kernel).unwrap();
    let sizes = [across * columns, 2 * tile, 2 * rows, columns, 1, 2 * all];
    let params = kernel.params.values().zip(sizes).enumerate();
    let memory: Vec<Vec<u8>> = params.map(|(k, (p, n))| fill(p.dtype, n, k)).collect();
    let taken = compare(&kernel, &memory, 2);
    assert_eq!(taken.len(), Target::available().count(), "{text}");
}

#[test]
fn turned_tiles_that_are_read_in_order_agree() {
    for result in ["out f32", "stream f32", "stream bf16", "out f16"] {
        for (rows, columns) in [(32, 48), (16, 128), (48, 16)] {
            for odd in [0, 1] {
                turned_tiles(result, rows, columns, odd);
            }
        }
    }
}

/// Columns for 16, 4 and 1 vectors in flight, and some left over.
#[test]
fn sums_down_columns_agree() {
    for columns in [1024, 460, 80, 21] {
        let text = format!(
            "kernel (p0: in f32, p1: in f32, p2: out f32, p3: out f32, p4: out f32) {{
        loop i0 < 3 {{
            loop i1 < {columns} vector {{
                loop i2 < 9 {{
                    v0: f32 = load p0[{part}*i0 + i1 + {columns}*i2]
                }} carry v1: f32 = sum v0
                store p2[{columns}*i0 + i1] = v1
            }}
            loop i3 < {columns} vector {{
                loop i4 < 9 {{
                    v2: f32 = load p0[{part}*i0 + i3 + {columns}*i4]
                    v3: f32 = load p1[i3 + {columns}*i4]
                    v4: f32 = min v2, v3
                    v5: f32 = sub v3, v2
                }} carry v6: f32 = sum v4, v7: f32 = max v5
                store p3[{columns}*i0 + i3] = v6
                store p4[{columns}*i0 + i3] = v7
            }}
        }}
    }}",
            part = 9 * columns
        );
        let kernel = parse(&text).unwrap();
        verify(&kernel).unwrap();
        let sizes = [27, 9, 3, 3, 3].map(|rows| rows * columns);
        let params = kernel.params.values().zip(sizes).enumerate();
        let memory: Vec<Vec<u8>> = params.map(|(k, (p, n))| fill(p.dtype, n, k)).collect();
        let taken = compare(&kernel, &memory, 3);
        assert_eq!(taken.len(), Target::available().count(), "{text}");
    }
}

#[test]
fn the_wide_generator_takes_its_share() {
    if Target::available().next().is_none() {
        // Straight to the stream: the test harness keeps what is printed.
        let skipped =
            b"SKIPPED: random kernels on the wide generator, for want of AVX2 or AVX-512\n";
        std::io::stderr().write_all(skipped).unwrap();
        return;
    }
    let mut state = 1u32;
    let mut draw = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let taken: Vec<&str> = (0..200)
        .flat_map(|_| check(&(0..100).map(|_| draw()).collect::<Vec<_>>()))
        .collect();
    for target in Target::available() {
        let by = taken.iter().filter(|t| **t == target.name()).count();
        assert!(by >= 50, "{by} of 200 for {}", target.name());
    }
}
