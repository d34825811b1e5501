//! Random kernels through the interpreter and both code generators.

use cranelift_entity::PrimaryMap;
use ipex_jit::interpret::interpret;
use ipex_jit::kernel::*;
use ipex_jit::{CompiledKernel, cranelift, wide};
use ipex_runtime::DType;
use proptest::prelude::*;

/// Draws that decide what a kernel is made of.
struct Draws<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Draws<'_> {
    fn below(&mut self, n: usize) -> usize {
        let b = self.bytes[self.at % self.bytes.len()] as usize + self.at / self.bytes.len();
        self.at += 1;
        b % n
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

struct Random<'a> {
    draws: Draws<'a>,
    kernel: Kernel,
    /// Sizes of the parameters in elements.
    sizes: Vec<usize>,
}

const TYPES: [Type; 5] = [Type::F32, Type::F64, Type::I32, Type::I64, Type::Bool];

impl Random<'_> {
    fn param(&mut self, dtype: DType, access: Access, size: usize) -> Mem {
        self.sizes.push(size);
        Mem::Param(self.kernel.params.push(Param { dtype, access }))
    }

    fn inst(&mut self, body: &mut Vec<Stmt>, ty: Type, inst: Inst) -> ValueId {
        let value = self.kernel.values.push(ty);
        body.push(Stmt::Let { value, inst });
        value
    }

    /// Loads, and arithmetic on what is known; at least one new value of each step.
    fn code(
        &mut self,
        body: &mut Vec<Stmt>,
        vars: &[VarId],
        known: &mut Vec<ValueId>,
        steps: usize,
    ) {
        for _ in 0..steps {
            let v = match self.draws.below(3) {
                0 => self.load(body, vars),
                _ if known.is_empty() => self.load(body, vars),
                _ => self.arithmetic(body, known),
            };
            known.push(v);
        }
    }

    fn load(&mut self, body: &mut Vec<Stmt>, vars: &[VarId]) -> ValueId {
        let dtype = self.draws.pick(&DType::ALL);
        let mut index = Index {
            offset: self.draws.below(3) as i64,
            ..Index::default()
        };
        let mut size = index.offset as usize + 1;
        for &v in vars {
            let stride = self.draws.pick(&[0, 1, 1, 1, 2, 5]);
            if stride > 0 {
                index.vars.push((v, stride));
                size += (self.kernel.vars[v].extent as usize - 1) * stride as usize;
            }
        }
        let mem = self.param(dtype, Access::In, size);
        self.inst(body, Type::of(dtype), Inst::Load { mem, index })
    }

    fn arithmetic(&mut self, body: &mut Vec<Stmt>, known: &[ValueId]) -> ValueId {
        use BinaryOp as B;
        let a = self.draws.pick(known);
        let ty = self.kernel.values[a];
        let same: Vec<ValueId> = known
            .iter()
            .copied()
            .filter(|v| self.kernel.values[*v] == ty)
            .collect();
        let b = self.draws.pick(&same);
        let conditions: Vec<ValueId> = known
            .iter()
            .copied()
            .filter(|v| self.kernel.values[*v] == Type::Bool)
            .collect();
        match self.draws.below(6) {
            0 => {
                let ops: &[UnaryOp] = match ty {
                    Type::Bool => &[UnaryOp::Not],
                    Type::I32 | Type::I64 => &[UnaryOp::Neg, UnaryOp::Abs, UnaryOp::Not],
                    _ => &[
                        UnaryOp::Neg,
                        UnaryOp::Abs,
                        UnaryOp::Floor,
                        UnaryOp::Round,
                        UnaryOp::Sqrt,
                    ],
                };
                let op = self.draws.pick(ops);
                self.inst(body, ty, Inst::Unary { op, arg: a })
            }
            1 => {
                let op = self.draws.pick(&[
                    CmpOp::Eq,
                    CmpOp::Ne,
                    CmpOp::Lt,
                    CmpOp::Le,
                    CmpOp::Gt,
                    CmpOp::Ge,
                ]);
                self.inst(body, Type::Bool, Inst::Compare { op, args: [a, b] })
            }
            2 if !conditions.is_empty() => {
                let cond = self.draws.pick(&conditions);
                self.inst(
                    body,
                    ty,
                    Inst::Select {
                        cond,
                        on_true: a,
                        on_false: b,
                    },
                )
            }
            3 => {
                let to = self.draws.pick(&TYPES);
                // Conversions of floats to integers are tested with values in range elsewhere.
                let to = if ty.is_float() && !to.is_float() {
                    Type::Bool
                } else {
                    to
                };
                self.inst(body, to, Inst::Convert { to, arg: a })
            }
            4 if ty.is_float() => {
                let c = self.draws.pick(&same);
                self.inst(body, ty, Inst::Fma { args: [a, b, c] })
            }
            _ => {
                let ops: &[B] = match ty {
                    Type::Bool => &[B::And, B::Or, B::Xor],
                    Type::I32 | Type::I64 => {
                        &[B::Add, B::Sub, B::Mul, B::And, B::Xor, B::Min, B::Max]
                    }
                    _ => &[B::Add, B::Sub, B::Mul, B::Div, B::Min, B::Max],
                };
                let op = self.draws.pick(ops);
                self.inst(body, ty, Inst::Binary { op, args: [a, b] })
            }
        }
    }

    /// Stores some of the values at their own index, narrowed to a dtype of their type.
    fn stores(&mut self, body: &mut Vec<Stmt>, vars: &[VarId], known: &[ValueId]) {
        for _ in 0..2 {
            let value = self.draws.pick(known);
            let ty = self.kernel.values[value];
            let dtypes: Vec<DType> = DType::ALL
                .into_iter()
                .filter(|d| Type::of(*d) == ty)
                .collect();
            let dtype = self.draws.pick(&dtypes);
            let (mut index, mut stride) = (Index::default(), 1);
            for &v in vars.iter().rev() {
                index.vars.push((v, stride));
                stride *= self.kernel.vars[v].extent as i64;
            }
            index.vars.sort();
            let mem = self.param(dtype, Access::Out, stride as usize);
            body.push(Stmt::Store { mem, index, value });
        }
    }
}

/// Rows, and in each a loop over columns with reductions whose results a second loop uses.
fn random(bytes: &[u8]) -> (Kernel, Vec<usize>) {
    let mut draws = Draws { bytes, at: 0 };
    let mut vars = PrimaryMap::new();
    let rows = vars.push(Var {
        extent: 1 + draws.below(40) as u64,
    });
    let cols = [0; 2].map(|_| 1 + draws.below(70) as u64);
    let (first, second) = (
        vars.push(Var { extent: cols[0] }),
        vars.push(Var { extent: cols[0] }),
    );
    let shape = draws.below(3);
    let root = Loop {
        var: rows,
        vector: shape != 1,
        body: vec![],
        carries: vec![],
    };
    let kernel = Kernel {
        params: PrimaryMap::new(),
        scratch: PrimaryMap::new(),
        vars,
        values: PrimaryMap::new(),
        root,
    };
    let mut r = Random {
        draws,
        kernel,
        sizes: vec![],
    };
    let mut body = Vec::new();
    let mut known = Vec::new();
    r.code(&mut body, &[rows], &mut known, 3);
    if shape != 0 {
        let (mut inner, mut within) = (Vec::new(), known.clone());
        r.code(&mut inner, &[rows, first], &mut within, 5);
        let mut carries = Vec::new();
        let own: Vec<ValueId> = within[known.len()..].to_vec();
        for _ in 0..2 {
            let value = r.draws.pick(&own);
            let ty = r.kernel.values[value];
            let ops: &[ReduceOp] = match ty {
                Type::Bool => &[ReduceOp::Any, ReduceOp::All],
                // Sums of floats depend on the order.
                Type::F32 | Type::F64 => &[ReduceOp::Max, ReduceOp::Min],
                _ => &[ReduceOp::Sum, ReduceOp::Max, ReduceOp::Min],
            };
            let (op, result) = (r.draws.pick(ops), r.kernel.values.push(ty));
            carries.push(Carry {
                op,
                value,
                result,
                arg: None,
            });
            known.push(result);
        }
        body.push(Stmt::Loop(Loop {
            var: first,
            vector: shape == 1,
            body: inner,
            carries,
        }));
        let (mut inner, mut within) = (Vec::new(), known.clone());
        r.code(&mut inner, &[rows, second], &mut within, 4);
        r.stores(&mut inner, &[rows, second], &within);
        body.push(Stmt::Loop(Loop {
            var: second,
            vector: shape == 1,
            body: inner,
            carries: vec![],
        }));
    }
    r.code(&mut body, &[rows], &mut known, 2);
    r.stores(&mut body, &[rows], &known);
    r.kernel.root.body = body;
    (r.kernel, r.sizes)
}

/// Elements of mixed size and sign, with NaN and infinity among the floats.
fn fill(dtype: DType, n: usize, seed: usize) -> Vec<u8> {
    let numbers = (0..n).map(|i| ((i * 37 + seed * 101) % 211) as f64 - 100.0);
    numbers
        .enumerate()
        .flat_map(|(i, x)| {
            let x = match (i + seed) % 23 {
                5 => f64::NAN,
                7 => f64::INFINITY,
                _ => x / 4.0,
            };
            match dtype {
                DType::F64 => x.to_le_bytes().to_vec(),
                DType::F32 => (x as f32).to_le_bytes().to_vec(),
                DType::F16 => half::f16::from_f64(x).to_le_bytes().to_vec(),
                DType::BF16 => half::bf16::from_f64(x).to_le_bytes().to_vec(),
                DType::Bool => vec![u8::from(x > 0.0)],
                DType::U8 | DType::I8 => vec![x as i8 as u8],
                DType::I16 => (x as i16).to_le_bytes().to_vec(),
                DType::I32 => (x as i32).to_le_bytes().to_vec(),
                DType::I64 => (x as i64).to_le_bytes().to_vec(),
            }
        })
        .collect()
}

/// Bytes with every NaN made the same.
fn canonical(dtype: DType, bytes: &[u8]) -> Vec<u8> {
    let nan = |chunk: &[u8]| match dtype {
        DType::F16 => half::f16::from_le_bytes([chunk[0], chunk[1]]).is_nan(),
        DType::BF16 => half::bf16::from_le_bytes([chunk[0], chunk[1]]).is_nan(),
        DType::F32 => f32::from_le_bytes(chunk.try_into().unwrap()).is_nan(),
        DType::F64 => f64::from_le_bytes(chunk.try_into().unwrap()).is_nan(),
        _ => false,
    };
    // Min and max may give either zero.
    let chunks = bytes.chunks(dtype.size());
    chunks
        .flat_map(|c| {
            let negative_zero = dtype.is_float()
                && c[c.len() - 1] == 0x80
                && c[..c.len() - 1].iter().all(|b| *b == 0);
            if nan(c) {
                vec![0xFF; c.len()]
            } else if negative_zero {
                vec![0; c.len()]
            } else {
                c.to_vec()
            }
        })
        .collect()
}

fn execute(code: &CompiledKernel, memory: &mut [Vec<u8>], extent: u64, cut: u64) {
    let args: Vec<*mut u8> = memory.iter_mut().map(|m| m.as_mut_ptr()).collect();
    // SAFETY: every parameter has the elements that the kernel addresses.
    unsafe {
        (code.entry())(args.as_ptr(), 0, cut as i64);
        (code.entry())(args.as_ptr(), cut as i64, extent as i64);
    }
}

fn text(body: &[Stmt], kernel: &Kernel) -> String {
    let line = |s: &Stmt| match s {
        Stmt::Let { value, inst } => format!("{value}: {} = {inst:?}\n", kernel.values[*value]),
        Stmt::Loop(l) => format!(
            "loop {} vector {} {{\n{}}} {:?}\n",
            l.var,
            l.vector,
            text(&l.body, kernel),
            l.carries
        ),
        store => format!("{store:?}\n"),
    };
    body.iter().map(line).collect()
}

/// Runs a kernel through all generators; whether the wide one took it.
fn check(bytes: &[u8]) -> bool {
    let (kernel, sizes) = random(bytes);
    let params = kernel.params.values().zip(&sizes).enumerate();
    let memory: Vec<Vec<u8>> = params.map(|(k, (p, &n))| fill(p.dtype, n, k)).collect();
    let extent = kernel.vars[kernel.root.var].extent;
    let mut want = memory.clone();
    interpret(&kernel, &mut want, 0, extent);
    let mut codes = vec![("cranelift", cranelift::compile(&kernel).unwrap())];
    let wide = wide::compile(&kernel);
    if let Ok(code) = &wide {
        codes.push(("wide", CompiledKernel::new(code).unwrap()));
    }
    for (name, code) in codes {
        let mut got = memory.clone();
        execute(&code, &mut got, extent, extent / 3);
        for (k, p) in kernel.params.iter() {
            let k = k.as_u32() as usize;
            let (got, want) = (canonical(p.dtype, &got[k]), canonical(p.dtype, &want[k]));
            let size = p.dtype.size();
            let mut pairs = got.chunks(size).zip(want.chunks(size)).enumerate();
            let wrong = pairs.find(|(_, (g, w))| g != w);
            assert!(
                wrong.is_none(),
                "{name}, parameter {k} of {}: {wrong:x?}, extents {:?}\n{}",
                p.dtype,
                kernel.vars.values().map(|v| v.extent).collect::<Vec<_>>(),
                text(&kernel.root.body, &kernel)
            );
        }
    }
    wide.is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn generators_agree_with_the_interpreter(bytes in prop::collection::vec(any::<u8>(), 40..160)) {
        check(&bytes);
    }
}

#[test]
fn the_wide_generator_takes_its_share() {
    if !wide::available() {
        eprintln!("SKIPPED: no AVX-512");
        return;
    }
    let mut state = 1u32;
    let mut draw = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let taken = (0..200)
        .filter(|_| check(&(0..100).map(|_| draw()).collect::<Vec<_>>()))
        .count();
    assert!(taken >= 50, "{taken} of 200");
}
