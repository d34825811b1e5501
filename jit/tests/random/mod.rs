//! Random kernels.

use cranelift_entity::PrimaryMap;
use ipex_jit::kernel::*;
use ipex_runtime::DType;

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
    /// Values that were loaded.
    loaded: Vec<ValueId>,
}

const NARROW: [DType; 5] = [DType::BF16, DType::F16, DType::I8, DType::I16, DType::U8];
const TYPES: [Type; 5] = [Type::F32, Type::F64, Type::I32, Type::I64, Type::Bool];

impl Random<'_> {
    fn param(&mut self, dtype: DType, access: Access, size: usize) -> Mem {
        self.sizes.push(size);
        Mem::Param(self.kernel.params.push(Param { dtype, access }))
    }

    fn inst(&mut self, body: &mut Vec<Stmt>, ty: Type, inst: Inst) -> ValueId {
        let value = self.kernel.values.push(ty);
        if matches!(inst, Inst::Load { .. }) {
            self.loaded.push(value);
        }
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
            if stride == 0 {
                continue;
            }
            size += (self.kernel.vars[v].extent as usize - 1) * stride as usize;
            if self.draws.below(8) == 0 {
                let gathered = self.inst(body, Type::I64, Inst::Var(v));
                index.values.push((gathered, stride));
            } else {
                index.vars.push((v, stride));
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
        match self.draws.below(8) {
            6 => self.constant(body),
            7 if NARROW.iter().any(|d| Type::of(*d) == ty) => {
                let narrow = NARROW.into_iter().filter(|d| Type::of(*d) == ty);
                let to = self.draws.pick(&narrow.collect::<Vec<_>>());
                self.inst(body, ty, Inst::Narrow { to, arg: a })
            }
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
                    _ => &[B::Add, B::Sub, B::Mul, B::Div, B::Min, B::Max, B::Copysign],
                };
                let op = self.draws.pick(ops);
                // Arithmetic leaves open which sign a NaN has, and extrema that of a zero.
                let known = |v: &&ValueId| self.loaded.contains(v);
                let args = match (op, same.iter().find(known)) {
                    (B::Copysign, Some(&sign)) => [a, sign],
                    (B::Copysign, None) => [a, a],
                    _ => [a, b],
                };
                self.inst(body, ty, Inst::Binary { op, args })
            }
        }
    }

    /// A scan over the loop that `body` is of.
    fn scan(&mut self, body: &mut Vec<Stmt>, known: &[ValueId]) -> ValueId {
        let arg = self.draws.pick(known);
        let ty = self.kernel.values[arg];
        // The order of a scan is given, so that sums of floats agree too.
        let ops: &[ReduceOp] = match ty {
            Type::Bool => &[ReduceOp::Any, ReduceOp::All],
            _ => &[ReduceOp::Sum, ReduceOp::Prod, ReduceOp::Max, ReduceOp::Min],
        };
        let op = self.draws.pick(ops);
        self.inst(body, ty, Inst::Scan { op, arg })
    }

    fn constant(&mut self, body: &mut Vec<Stmt>) -> ValueId {
        let n = self.draws.below(7);
        let x = [0.0, -1.5, 1e30, f64::INFINITY, f64::NAN, 1.0 / 3.0, 5e-324][n];
        let c = match self.draws.pick(&TYPES) {
            Type::F32 => Const::F32((x as f32).to_bits()),
            Type::F64 => Const::F64(x.to_bits()),
            Type::I32 => Const::I32([0, -1, 7, i32::MIN, i32::MAX, 31, 1000][n]),
            Type::I64 => Const::I64([0, -1, 7, i64::MIN, i64::MAX, 1 << 40, 1000][n]),
            Type::Bool => Const::Bool(n.is_multiple_of(2)),
        };
        let ty = match c {
            Const::F32(_) => Type::F32,
            Const::F64(_) => Type::F64,
            Const::I32(_) => Type::I32,
            Const::I64(_) => Type::I64,
            Const::Bool(_) => Type::Bool,
        };
        self.inst(body, ty, Inst::Const(c))
    }

    /// Keeps a value of each iteration in a scratch row.
    fn keep(&mut self, body: &mut Vec<Stmt>, var: VarId, value: ValueId) -> (ScratchId, Type) {
        let (ty, len) = (self.kernel.values[value], self.kernel.vars[var].extent);
        let slot = self.kernel.scratch.push(Scratch { ty, len });
        body.push(Stmt::Store {
            mem: Mem::Scratch(slot),
            index: along(var),
            value,
        });
        (slot, ty)
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
            let access = self.draws.pick(&[Access::Out, Access::Stream]);
            let mem = self.param(dtype, access, stride as usize);
            body.push(Stmt::Store { mem, index, value });
        }
    }
}

/// The index that follows one variable.
fn along(var: VarId) -> Index {
    Index {
        vars: vec![(var, 1)],
        ..Index::default()
    }
}

/// Rows, and in each a loop over columns with reductions whose results a second loop uses.
pub fn random(bytes: &[u8]) -> (Kernel, Vec<usize>) {
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
        loaded: vec![],
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
            let has_position = matches!(op, ReduceOp::Min | ReduceOp::Max);
            let arg =
                (has_position && r.draws.below(4) == 0).then(|| r.kernel.values.push(Type::I64));
            carries.push(Carry {
                op,
                value,
                result,
                arg,
            });
            known.push(result);
            known.extend(arg);
        }
        // Lanes that are rows would share the scratch row.
        let scratch = (shape == 1 && r.draws.below(2) == 0).then(|| {
            let value = r.draws.pick(&own);
            r.keep(&mut inner, first, value)
        });
        body.push(Stmt::Loop(Loop {
            var: first,
            vector: shape == 1,
            body: inner,
            carries,
        }));
        let (mut inner, mut within) = (Vec::new(), known.clone());
        if let Some((slot, ty)) = scratch {
            let (mem, index) = (Mem::Scratch(slot), along(second));
            within.push(r.inst(&mut inner, ty, Inst::Load { mem, index }));
        }
        r.code(&mut inner, &[rows, second], &mut within, 4);
        let scans = r.draws.below(8) == 0;
        if scans {
            let v = r.scan(&mut inner, &within);
            within.push(v);
            r.code(&mut inner, &[rows, second], &mut within, 1);
        }
        r.stores(&mut inner, &[rows, second], &within);
        body.push(Stmt::Loop(Loop {
            var: second,
            vector: shape == 1 && !scans,
            body: inner,
            carries: vec![],
        }));
    }
    r.code(&mut body, &[rows], &mut known, 2);
    r.stores(&mut body, &[rows], &known);
    r.kernel.root.body = body;
    (r.kernel, r.sizes)
}
