//! Generated code against plain Rust, once for each generator.

use cranelift_entity::PrimaryMap;
use half::{bf16, f16};
use ipex_jit::kernel::*;
use ipex_jit::wide::{self, Target};
use ipex_jit::{CompiledKernel, cranelift};
use ipex_runtime::DType;
use std::io::Write;

/// A kernel with one loop over `n`, made statement by statement.
struct Build {
    kernel: Kernel,
}

impl Build {
    fn new(n: u64, params: &[(DType, Access)]) -> Self {
        let mut vars = PrimaryMap::new();
        let var = vars.push(Var { extent: n });
        let mut kernel = Kernel {
            params: PrimaryMap::new(),
            scratch: PrimaryMap::new(),
            vars,
            values: PrimaryMap::new(),
            root: Loop {
                var,
                vector: true,
                body: vec![],
                carries: vec![],
            },
        };
        for &(dtype, access) in params {
            kernel.params.push(Param { dtype, access });
        }
        Build { kernel }
    }

    fn inst(&mut self, ty: Type, inst: Inst) -> ValueId {
        let value = self.kernel.values.push(ty);
        self.kernel.root.body.push(Stmt::Let { value, inst });
        value
    }

    fn index(&self) -> Index {
        Index {
            vars: vec![(self.kernel.root.var, 1)],
            ..Index::default()
        }
    }

    fn load(&mut self, p: u32) -> ValueId {
        let param = ParamId::from_u32(p);
        let ty = Type::of(self.kernel.params[param].dtype);
        let index = self.index();
        self.inst(
            ty,
            Inst::Load {
                mem: Mem::Param(param),
                index,
            },
        )
    }

    fn store(&mut self, p: u32, value: ValueId) {
        let index = self.index();
        let mem = Mem::Param(ParamId::from_u32(p));
        self.kernel
            .root
            .body
            .push(Stmt::Store { mem, index, value });
    }
}

thread_local! {
    /// What the wide generator generates for, if kernels go to it, and how many it took.
    static WIDE: std::cell::Cell<(Option<Target>, u32)> = const { std::cell::Cell::new((None, 0)) };
}

fn compile(kernel: &Kernel) -> CompiledKernel {
    let (target, taken) = WIDE.get();
    if let Some(target) = target
        && let Ok(code) = wide::compile_for(kernel, target)
    {
        WIDE.set((Some(target), taken + 1));
        return CompiledKernel::new(&code).unwrap();
    }
    cranelift::compile(kernel).unwrap()
}

/// Runs a test with Cranelift, then with the wide generator for each of its targets, which must take `at_least` kernels.
fn with_all(at_least: u32, test: fn()) {
    WIDE.set((None, 0));
    test();
    if Target::available().next().is_none() {
        // Straight to the stream: the test harness keeps what is printed.
        let skipped = b"SKIPPED: the wide generator, for want of AVX2 or AVX-512\n";
        std::io::stderr().write_all(skipped).unwrap();
        return;
    }
    for target in Target::available() {
        WIDE.set((Some(target), 0));
        test();
        let (taken, name) = (WIDE.get().1, target.name());
        assert!(taken >= at_least, "{taken} kernels for {name}");
    }
}

fn run(kernel: &Kernel, args: &mut [*mut u8], begin: i64, end: i64) {
    let code = compile(kernel);
    // SAFETY: the tests pass as many elements as the kernel's loops address.
    unsafe { (code.entry())(args.as_ptr(), begin, end) }
}

#[test]
fn elementary_functions_in_lanes_and_in_the_tail() {
    with_all(1, check_elementary_functions_in_lanes_and_in_the_tail);
}

fn check_elementary_functions_in_lanes_and_in_the_tail() {
    use UnaryOp as U;
    type Oracle = fn(f64) -> f64;
    let cases: [(U, Oracle); 12] = [
        (U::Exp, f64::exp),
        (U::Expm1, f64::exp_m1),
        (U::Log, f64::ln),
        (U::Log1p, f64::ln_1p),
        (U::Tanh, f64::tanh),
        (U::Erf, libm::erf),
        (U::Sin, f64::sin),
        (U::Cos, f64::cos),
        (U::Sigmoid, |x| 1.0 / (1.0 + (-x).exp())),
        (U::Sqrt, f64::sqrt),
        (U::Erfc, libm::erfc),
        (U::Round, f64::round_ties_even),
    ];
    let mut x: Vec<f32> = (0..1000).map(|i| (i as f32 - 300.0) * 0.0371).collect();
    // Results below the least normal number, too.
    x.extend((0..80).map(|i| (i as f32).mul_add(-0.37, -80.0)));
    x.extend([
        0.0,
        -0.0,
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        1e-40,
        3e38,
    ]);
    for (op, oracle) in cases {
        let n = x.len();
        let mut b = Build::new(
            n as u64,
            &[(DType::F32, Access::In), (DType::F32, Access::Out)],
        );
        let v = b.load(0);
        let v = b.inst(Type::F32, Inst::Unary { op, arg: v });
        b.store(1, v);
        let mut y = vec![7f32; n + 1];
        run(
            &b.kernel,
            &mut [x.as_ptr() as *mut u8, y.as_mut_ptr().cast()],
            0,
            n as i64,
        );
        assert_eq!(y[n], 7.0);
        for (&x, &y) in x.iter().zip(&y) {
            let want = oracle(x.into());
            let ulp = (want.abs().max(f64::from(f32::MIN_POSITIVE)) * 1.2e-7).max(1e-45);
            let same = y == want as f32 || (want.is_nan() && y.is_nan());
            assert!(
                same || (f64::from(y) - want).abs() <= 2.0 * ulp,
                "{op:?}({x}) = {y}, not {want}"
            );
        }
    }
}

#[test]
fn sines_of_large_numbers_beside_small_ones() {
    with_all(1, check_sines_of_large_numbers_beside_small_ones);
}

/// Vectors with no large number, with some in other lanes each time, and with large ones alone.
fn check_sines_of_large_numbers_beside_small_ones() {
    use ipex_jit::math::{Plain, trig};
    let large = [32768.0, -1e6, 3e38, f32::INFINITY, 40000.5, -7e20, f32::NAN];
    let is_large = |i: usize| match i / 64 {
        0 | 3 => false,
        1 => i.is_multiple_of(7),
        2 => i % 16 == 15,
        _ => true,
    };
    let x: Vec<f32> = (0..330)
        .map(|i| match is_large(i) {
            true => large[i % large.len()],
            false => (i as f32 - 100.0) * 1.7,
        })
        .collect();
    let n = x.len();
    let (input, output) = ((DType::F32, Access::In), (DType::F32, Access::Out));
    let mut b = Build::new(n as u64, &[input, output, output]);
    let v = b.load(0);
    for (p, op) in [(1, UnaryOp::Sin), (2, UnaryOp::Cos)] {
        let y = b.inst(Type::F32, Inst::Unary { op, arg: v });
        b.store(p, y);
    }
    let (mut sin, mut cos) = (vec![7f32; n], vec![7f32; n]);
    run(
        &b.kernel,
        &mut [
            x.as_ptr() as *mut u8,
            sin.as_mut_ptr().cast(),
            cos.as_mut_ptr().cast(),
        ],
        0,
        n as i64,
    );
    let same =
        |got: f32, want: f32| got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
    for (i, &x) in x.iter().enumerate() {
        let (s, c) = (trig::sin(&mut Plain, x), trig::cos(&mut Plain, x));
        assert!(same(sin[i], s), "sin({x}) = {}, not {s}", sin[i]);
        assert!(same(cos[i], c), "cos({x}) = {}, not {c}", cos[i]);
    }
}

/// Each generator's form of the functions that one of them has in tables, to the bit.
#[test]
fn functions_with_tables_as_they_are_written() {
    with_all(12, check_functions_with_tables);
}

fn check_functions_with_tables() {
    use ipex_jit::math::{Plain, erf, exp, exp_table, log, log_table, tables, tanh};
    let target = WIDE.get().0;
    type Form = fn(&mut Plain, f32) -> f32;
    let near: [Form; 2] = match target {
        Some(_) => [tables::erf, tables::tanh],
        None => [erf::erf, tanh::tanh],
    };
    let others: [Form; 4] = match target {
        Some(t) if t.has_masks() => [
            exp_table::exp,
            exp_table::exp2,
            exp_table::sigmoid,
            log_table::log,
        ],
        _ => [exp::exp, exp::exp2, exp::sigmoid, log::log],
    };
    let [e, e2, s, l] = others;
    let forms = [
        (UnaryOp::Erf, near[0]),
        (UnaryOp::Tanh, near[1]),
        (UnaryOp::Exp, e),
        (UnaryOp::Exp2, e2),
        (UnaryOp::Sigmoid, s),
        (UnaryOp::Log, l),
    ];
    let special = [0.0, -0.0, 1e-40, -1e-45, 3.875, 9.6, 1e38, f32::INFINITY];
    let mut x: Vec<f32> = (0..1990).map(|i| (i as f32 - 1000.0) * 0.0101).collect();
    x.extend(special.iter().flat_map(|&x| [x, -x]));
    x.extend([f32::NAN, -f32::NAN]);
    // Exponentials: the ends of what is finite, normal and not 0, and what is far beyond.
    for end in [
        88.722_84, -87.336_55, -103.97, -104.5, 128.0, -126.0, -149.0, -151.0,
    ] {
        x.extend((-8..8).map(|i| end * (1.0 + i as f32 * 1e-3)));
    }
    x.extend([-3e5, 3e5, -3e38, 3e38]);
    let n = x.len();
    for (op, form) in forms {
        // In vectors of 16 lanes, and of 8 beside numbers of 64 bits.
        for ty in [DType::F32, DType::F64] {
            let mut b = Build::new(n as u64, &[(DType::F32, Access::In), (ty, Access::Out)]);
            let v = b.load(0);
            let mut v = b.inst(Type::F32, Inst::Unary { op, arg: v });
            if ty == DType::F64 {
                let to = Type::F64;
                v = b.inst(to, Inst::Convert { to, arg: v });
            }
            b.store(1, v);
            let (mut narrow, mut wide) = (vec![7f32; n], vec![7f64; n]);
            let out = match ty {
                DType::F32 => narrow.as_mut_ptr().cast(),
                _ => wide.as_mut_ptr().cast(),
            };
            run(&b.kernel, &mut [x.as_ptr() as *mut u8, out], 0, n as i64);
            for (i, &x) in x.iter().enumerate() {
                let got = if ty == DType::F32 {
                    narrow[i]
                } else {
                    wide[i] as f32
                };
                let want = form(&mut Plain, x);
                let same = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
                assert!(same, "{op:?}({x}) = {got}, not {want}");
            }
        }
    }
}

#[test]
fn powers_as_they_are_written() {
    with_all(1, check_powers);
}

/// Vectors of plain numbers alone, and with special ones in some lanes.
fn check_powers() {
    use ipex_jit::math::{Plain, pow, pow_table};
    let form: fn(&mut Plain, f32, f32) -> f32 = match WIDE.get().0.is_some() {
        true => pow_table::pow,
        false => pow::pow,
    };
    let inf = f32::INFINITY;
    let special = [0.0, -0.0, 1.0, -1.0, inf, -inf, f32::NAN, -2.5, -3.0, 2.0];
    let pairs = special.iter().flat_map(|&a| special.map(|b| (a, b)));
    let plain = (0..200).map(|i| (i as f32 * 0.03 + 1e-3, i as f32 * 0.31 - 20.0));
    let mut all: Vec<(f32, f32)> = plain.clone().chain(pairs.clone()).collect();
    for (k, (one, two)) in plain.zip(pairs).enumerate() {
        all.extend([one, if k % 5 == 0 { two } else { one }]);
    }
    let (a, b): (Vec<f32>, Vec<f32>) = all.into_iter().unzip();
    let n = a.len();
    let (input, output) = ((DType::F32, Access::In), (DType::F32, Access::Out));
    let mut k = Build::new(n as u64, &[input, input, output]);
    let args = [k.load(0), k.load(1)];
    let op = BinaryOp::Pow;
    let v = k.inst(Type::F32, Inst::Binary { op, args });
    k.store(2, v);
    let mut y = vec![7f32; n];
    let inputs = [a.as_ptr() as *mut u8, b.as_ptr() as *mut u8];
    run(
        &k.kernel,
        &mut [inputs[0], inputs[1], y.as_mut_ptr().cast()],
        0,
        n as i64,
    );
    for i in 0..n {
        let want = form(&mut Plain, a[i], b[i]);
        let same = y[i].to_bits() == want.to_bits() || y[i].is_nan() && want.is_nan();
        assert!(same, "{} to the {} = {}, not {want}", a[i], b[i], y[i]);
    }
}

#[test]
fn partial_ranges_and_narrow_floats() {
    with_all(1, check_partial_ranges_and_narrow_floats);
}

fn check_partial_ranges_and_narrow_floats() {
    let x: Vec<f32> = (0..2000)
        .map(|i| (i as f32 - 900.0) * 1.37e-3 * (1 << (i % 24)) as f32)
        .collect();
    let n = x.len();
    for to in [DType::BF16, DType::F16] {
        let mut b = Build::new(n as u64, &[(DType::F32, Access::In), (to, Access::Out)]);
        let v = b.load(0);
        b.store(1, v);
        let mut y = vec![0u16; n];
        run(
            &b.kernel,
            &mut [x.as_ptr() as *mut u8, y.as_mut_ptr().cast()],
            3,
            n as i64 - 2,
        );
        assert_eq!((y[2], y[n - 2]), (0, 0), "outside the range");
        let mut back = Build::new(n as u64, &[(to, Access::In), (DType::F32, Access::Out)]);
        let v = back.load(0);
        back.store(1, v);
        let mut z = vec![0f32; n];
        run(
            &back.kernel,
            &mut [y.as_mut_ptr().cast(), z.as_mut_ptr().cast()],
            0,
            n as i64,
        );
        for i in 3..n - 2 {
            let (bits, value) = match to {
                DType::BF16 => (
                    bf16::from_f32(x[i]).to_bits(),
                    bf16::from_f32(x[i]).to_f32(),
                ),
                _ => (f16::from_f32(x[i]).to_bits(), f16::from_f32(x[i]).to_f32()),
            };
            assert_eq!(y[i], bits, "{to} of {}", x[i]);
            assert_eq!(z[i], value);
        }
    }
}

#[test]
fn integers_wrap_and_compare() {
    with_all(1, check_integers_wrap_and_compare);
}

fn check_integers_wrap_and_compare() {
    let a: Vec<i8> = (-128..=127).collect();
    let b8: Vec<i8> = a
        .iter()
        .map(|&v| v.wrapping_mul(7).wrapping_add(3))
        .collect();
    let n = a.len() - 1;
    let mut b = Build::new(
        n as u64,
        &[
            (DType::I8, Access::In),
            (DType::I8, Access::In),
            (DType::I8, Access::Out),
            (DType::Bool, Access::Out),
        ],
    );
    let (x, y) = (b.load(0), b.load(1));
    let product = b.inst(
        Type::I32,
        Inst::Binary {
            op: BinaryOp::Mul,
            args: [x, y],
        },
    );
    let less = b.inst(
        Type::Bool,
        Inst::Compare {
            op: CmpOp::Lt,
            args: [x, y],
        },
    );
    b.store(2, product);
    b.store(3, less);
    let (mut p, mut l) = (vec![0i8; n], vec![9u8; n]);
    let mut args = [
        a.as_ptr() as *mut u8,
        b8.as_ptr() as *mut u8,
        p.as_mut_ptr().cast(),
        l.as_mut_ptr(),
    ];
    run(&b.kernel, &mut args, 0, n as i64);
    for i in 0..n {
        assert_eq!(p[i], a[i].wrapping_mul(b8[i]));
        assert_eq!(l[i], u8::from(a[i] < b8[i]));
    }
}

/// rows x cols: `out[r] = op over c`, the vector loop over the columns or over the rows.
fn reduction(op: ReduceOp, rows: u64, cols: u64, over_rows: bool, position: bool) -> Kernel {
    let mut b = Build::new(
        rows,
        &[
            (DType::F32, Access::In),
            (if position { DType::I64 } else { DType::F32 }, Access::Out),
        ],
    );
    let outer = b.kernel.root.var;
    let inner = b.kernel.vars.push(Var { extent: cols });
    let strides = if over_rows {
        (1, rows as i64)
    } else {
        (cols as i64, 1)
    };
    let index = Index {
        vars: vec![(outer, strides.0), (inner, strides.1)],
        ..Index::default()
    };
    let value = b.kernel.values.push(Type::F32);
    let result = b.kernel.values.push(Type::F32);
    let arg = position.then(|| b.kernel.values.push(Type::I64));
    let load = Inst::Load {
        mem: Mem::Param(ParamId::from_u32(0)),
        index,
    };
    b.kernel.root.vector = over_rows;
    b.kernel.root.body.push(Stmt::Loop(Loop {
        var: inner,
        vector: !over_rows,
        body: vec![Stmt::Let { value, inst: load }],
        carries: vec![Carry {
            op,
            value,
            result,
            arg,
        }],
    }));
    b.store(1, arg.unwrap_or(result));
    b.kernel
}

#[test]
fn reductions_over_columns_and_rows() {
    with_all(1, check_reductions_over_columns_and_rows);
}

fn check_reductions_over_columns_and_rows() {
    for (rows, cols) in [(1u64, 1u64), (3, 5), (7, 64), (19, 133), (64, 16)] {
        let n = (rows * cols) as usize;
        let x: Vec<f32> = (0..n)
            .map(|i| ((i * 7919) % 1000) as f32 * 0.01 - 4.0)
            .collect();
        for over_rows in [false, true] {
            let at = |r: usize, c: usize| {
                if over_rows {
                    c * rows as usize + r
                } else {
                    r * cols as usize + c
                }
            };
            for op in [ReduceOp::Sum, ReduceOp::Max, ReduceOp::Min] {
                let kernel = reduction(op, rows, cols, over_rows, false);
                let mut y = vec![0f32; rows as usize];
                run(
                    &kernel,
                    &mut [x.as_ptr() as *mut u8, y.as_mut_ptr().cast()],
                    0,
                    rows as i64,
                );
                for (r, &y) in y.iter().enumerate() {
                    let row = (0..cols as usize).map(|c| f64::from(x[at(r, c)]));
                    let want = match op {
                        ReduceOp::Sum => row.sum(),
                        ReduceOp::Max => row.fold(f64::NEG_INFINITY, f64::max),
                        _ => row.fold(f64::INFINITY, f64::min),
                    };
                    assert!(
                        (f64::from(y) - want).abs() < 1e-3,
                        "{op:?} {rows}x{cols} {over_rows}: {y} {want}"
                    );
                }
            }
            let kernel = reduction(ReduceOp::Max, rows, cols, over_rows, true);
            let mut y = vec![-1i64; rows as usize];
            run(
                &kernel,
                &mut [x.as_ptr() as *mut u8, y.as_mut_ptr().cast()],
                0,
                rows as i64,
            );
            for (r, &y) in y.iter().enumerate() {
                let max = (0..cols as usize)
                    .map(|c| x[at(r, c)])
                    .fold(f32::NEG_INFINITY, f32::max);
                let first = (0..cols as usize).position(|c| x[at(r, c)] == max);
                assert_eq!(Some(y as usize), first);
            }
        }
    }
}

#[test]
fn copies_that_turn() {
    with_all(2, check_copies_that_turn);
}

/// A tile of rows after the other through scratch, in squares of 16 and with columns and rows left over.
fn check_copies_that_turn() {
    for (rows, columns) in [(32usize, 48usize), (20, 48), (32, 17)] {
        let all = 2 * rows;
        let text = format!(
            "kernel (p0: in f32, p1: in f32, p2: out f32) {{
    scratch s0: f32[{}]
    loop i0 < 2 {{
        loop i1 < {columns} {{
            loop i2 < {rows} vector {{
                v0: f32 = load p0[{rows}*i0 + {all}*i1 + i2 + 3]
                store s0[i1 + {columns}*i2] = v0
            }}
        }}
        loop i3 < {rows} {{
            loop i4 < {columns} vector {{
                v1: f32 = load s0[{columns}*i3 + i4]
                v2: f32 = load p1[{}*i0 + {columns}*i3 + i4]
                v3: f32 = add v1, v2
                store p2[{}*i0 + {columns}*i3 + i4] = v3
            }}
        }}
    }}
}}
",
            rows * columns,
            rows * columns,
            rows * columns
        );
        let kernel = parse(&text).unwrap();
        verify(&kernel).unwrap();
        let x: Vec<f32> = (0..all * columns + 3).map(|i| i as f32).collect();
        let y: Vec<f32> = (0..all * columns).map(|i| (i % 7) as f32).collect();
        let mut z = vec![-1f32; all * columns];
        run(
            &kernel,
            &mut [
                x.as_ptr() as *mut u8,
                y.as_ptr() as *mut u8,
                z.as_mut_ptr().cast(),
            ],
            0,
            2,
        );
        for i in 0..all {
            for j in 0..columns {
                let want = x[j * all + i + 3] + y[i * columns + j];
                assert_eq!(z[i * columns + j], want, "{rows}x{columns}: {i}, {j}");
            }
        }
    }
}
