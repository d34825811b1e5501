//! A plain interpreter of the kernel IR: the oracle of the code generators. One element at a time,
//! in the order of the text; slow, and meant to be read.

use crate::builtins;
use crate::kernel::{
    self, BinaryOp, Carry, CmpOp, Const, Index, Inst, Kernel, Loop, Mem, ReduceOp, Stmt, Type,
    UnaryOp, VarId,
};
use cranelift_entity::SecondaryMap;
use half::{bf16, f16};
use ipex_runtime::DType;

/// A value.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the types")]
pub enum Scalar {
    F32(f32),
    F64(f64),
    I32(i32),
    I64(i64),
    Bool(bool),
}

use Scalar as S;

/// Runs iterations `begin..end` of the outermost loop. `memory` holds the bytes of each parameter.
///
/// # Panics
/// If the kernel is not well-typed, reads a value before its definition, or leaves the memory.
pub fn interpret(kernel: &Kernel, memory: &mut [Vec<u8>], begin: u64, end: u64) {
    let scratch = kernel.scratch.values();
    let mut state = State {
        kernel,
        memory,
        scratch: scratch.map(|s| vec![None; s.len as usize]).collect(),
        values: SecondaryMap::new(),
        running: SecondaryMap::new(),
        vars: SecondaryMap::new(),
    };
    state.run(&kernel.root, begin, end);
}

struct State<'a> {
    kernel: &'a Kernel,
    memory: &'a mut [Vec<u8>],
    scratch: Vec<Vec<Option<Scalar>>>,
    values: SecondaryMap<kernel::ValueId, Option<Scalar>>,
    /// What scans have combined so far.
    running: SecondaryMap<kernel::ValueId, Option<Scalar>>,
    vars: SecondaryMap<VarId, i64>,
}

impl State<'_> {
    fn run(&mut self, l: &Loop, begin: u64, end: u64) {
        let start = |c: &Carry| scalar(kernel::identity(c.op, self.kernel.values[c.result]));
        let mut sums: Vec<Scalar> = l.carries.iter().map(start).collect();
        let mut positions = vec![0; sums.len()];
        for (value, op, _) in l.scans() {
            self.running[value] = Some(scalar(kernel::identity(op, self.kernel.values[value])));
        }
        for i in begin..end {
            self.vars[l.var] = i as i64;
            for stmt in &l.body {
                self.statement(stmt);
            }
            for (k, carry) in l.carries.iter().enumerate() {
                let v = self.get(carry.value);
                let sum = reduce(carry.op, sums[k], v);
                let changed = !same(sum, sums[k]);
                if carry.arg.is_some() && changed {
                    positions[k] = i as i64;
                }
                sums[k] = sum;
            }
        }
        for (k, carry) in l.carries.iter().enumerate() {
            self.values[carry.result] = Some(sums[k]);
            if let Some(arg) = carry.arg {
                self.values[arg] = Some(S::I64(positions[k]));
            }
        }
    }

    fn statement(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Let {
                value,
                inst: Inst::Scan { op, arg },
            } => {
                let so_far = self.running[*value].expect("a scan in a loop that runs");
                let v = reduce(*op, so_far, self.get(*arg));
                (self.running[*value], self.values[*value]) = (Some(v), Some(v));
            }
            Stmt::Let { value, inst } => {
                let v = self.compute(self.kernel.values[*value], inst);
                self.values[*value] = Some(v);
            }
            Stmt::Store { mem, index, value } => {
                let (at, v) = (self.place(index), self.get(*value));
                match mem {
                    Mem::Scratch(s) => self.scratch[s.as_u32() as usize][at] = Some(v),
                    Mem::Param(p) => {
                        let dtype = self.kernel.params[*p].dtype;
                        let bytes = &mut self.memory[p.as_u32() as usize][at * dtype.size()..];
                        write(dtype, v, bytes);
                    }
                }
            }
            Stmt::Loop(l) => self.run(l, 0, self.kernel.vars[l.var].extent),
        }
    }

    fn get(&self, v: kernel::ValueId) -> Scalar {
        self.values[v].unwrap_or_else(|| panic!("{v} is read before its definition"))
    }

    fn place(&self, index: &Index) -> usize {
        let vars = index.vars.iter().map(|&(v, stride)| self.vars[v] * stride);
        let values = index.values.iter().map(|&(v, stride)| match self.get(v) {
            S::I64(i) => i * stride,
            other => panic!("an index that is {other:?}"),
        });
        let at = index.offset + vars.sum::<i64>() + values.sum::<i64>();
        usize::try_from(at).expect("an index below 0")
    }

    fn compute(&self, ty: Type, inst: &Inst) -> Scalar {
        match inst {
            Inst::Const(c) => scalar(*c),
            Inst::Var(v) => S::I64(self.vars[*v]),
            Inst::Load { mem, index } => {
                let at = self.place(index);
                match mem {
                    Mem::Scratch(s) => {
                        let slot = self.scratch[s.as_u32() as usize][at];
                        slot.expect("scratch is read before it is written")
                    }
                    Mem::Param(p) => {
                        let dtype = self.kernel.params[*p].dtype;
                        read(
                            dtype,
                            &self.memory[p.as_u32() as usize][at * dtype.size()..],
                        )
                    }
                }
            }
            Inst::Unary { op, arg } => unary(*op, self.get(*arg)),
            Inst::Binary { op, args: [a, b] } => binary(*op, self.get(*a), self.get(*b)),
            Inst::Fma { args } => match args.map(|v| self.get(v)) {
                [S::F32(a), S::F32(b), S::F32(c)] => S::F32(a.mul_add(b, c)),
                [S::F64(a), S::F64(b), S::F64(c)] => S::F64(a.mul_add(b, c)),
                other => panic!("fma of {other:?}"),
            },
            Inst::Compare { op, args: [a, b] } => S::Bool(compare(*op, self.get(*a), self.get(*b))),
            Inst::Select {
                cond,
                on_true,
                on_false,
            } => {
                let chosen = self.get(*cond) == S::Bool(true);
                self.get(if chosen { *on_true } else { *on_false })
            }
            Inst::Convert { to, arg } => {
                debug_assert_eq!(*to, ty);
                convert(*to, self.get(*arg))
            }
            Inst::Narrow { to, arg } => {
                let mut bytes = [0; 8];
                write(*to, self.get(*arg), &mut bytes);
                read(*to, &bytes)
            }
            Inst::Scan { .. } => unreachable!("the loop around it carries it"),
        }
    }
}

fn scalar(c: Const) -> Scalar {
    match c {
        Const::F32(bits) => S::F32(f32::from_bits(bits)),
        Const::F64(bits) => S::F64(f64::from_bits(bits)),
        Const::I32(i) => S::I32(i),
        Const::I64(i) => S::I64(i),
        Const::Bool(b) => S::Bool(b),
    }
}

/// Equal, or both NaN.
fn same(a: Scalar, b: Scalar) -> bool {
    a == b || (is_nan(a) && is_nan(b))
}

fn is_nan(a: Scalar) -> bool {
    matches!(a, S::F32(x) if x.is_nan()) || matches!(a, S::F64(x) if x.is_nan())
}

macro_rules! bytes {
    ($ty:ty, $from:expr) => {
        <$ty>::from_le_bytes(
            $from[..size_of::<$ty>()]
                .try_into()
                .expect("the right length"),
        )
    };
}

fn read(dtype: DType, from: &[u8]) -> Scalar {
    match dtype {
        DType::U8 => S::I32(from[0].into()),
        DType::I8 => S::I32((from[0] as i8).into()),
        DType::Bool => S::Bool(from[0] != 0),
        DType::I16 => S::I32(bytes!(i16, from).into()),
        DType::F16 => S::F32(f16::from_bits(bytes!(u16, from)).to_f32()),
        DType::BF16 => S::F32(bf16::from_bits(bytes!(u16, from)).to_f32()),
        DType::I32 => S::I32(bytes!(i32, from)),
        DType::F32 => S::F32(bytes!(f32, from)),
        DType::I64 => S::I64(bytes!(i64, from)),
        DType::F64 => S::F64(bytes!(f64, from)),
    }
}

fn write(dtype: DType, v: Scalar, to: &mut [u8]) {
    match (dtype, v) {
        (DType::U8 | DType::I8, S::I32(i)) => to[0] = i as u8,
        (DType::Bool, S::Bool(b)) => to[0] = b.into(),
        (DType::I16, S::I32(i)) => to[..2].copy_from_slice(&(i as i16).to_le_bytes()),
        (DType::F16, S::F32(x)) => to[..2].copy_from_slice(&f16::from_f32(x).to_le_bytes()),
        (DType::BF16, S::F32(x)) => to[..2].copy_from_slice(&bf16::from_f32(x).to_le_bytes()),
        (DType::I32, S::I32(i)) => to[..4].copy_from_slice(&i.to_le_bytes()),
        (DType::F32, S::F32(x)) => to[..4].copy_from_slice(&x.to_le_bytes()),
        (DType::I64, S::I64(i)) => to[..8].copy_from_slice(&i.to_le_bytes()),
        (DType::F64, S::F64(x)) => to[..8].copy_from_slice(&x.to_le_bytes()),
        _ => panic!("{v:?} stored as {dtype}"),
    }
}

fn unary(op: UnaryOp, x: Scalar) -> Scalar {
    use UnaryOp as U;
    match (op, x) {
        (U::Neg, S::I32(i)) => S::I32(i.wrapping_neg()),
        (U::Neg, S::I64(i)) => S::I64(i.wrapping_neg()),
        (U::Abs, S::I32(i)) => S::I32(i.wrapping_abs()),
        (U::Abs, S::I64(i)) => S::I64(i.wrapping_abs()),
        (U::Not, S::Bool(b)) => S::Bool(!b),
        (U::Not, S::I32(i)) => S::I32(!i),
        (U::Not, S::I64(i)) => S::I64(!i),
        (U::IsNan, v) => S::Bool(is_nan(v)),
        (U::Bitcast, S::F32(v)) => S::I32(v.to_bits() as i32),
        (U::Bitcast, S::I32(i)) => S::F32(f32::from_bits(i as u32)),
        (U::Bitcast, S::F64(v)) => S::I64(v.to_bits() as i64),
        (U::Bitcast, S::I64(i)) => S::F64(f64::from_bits(i as u64)),
        // What is exact in f64 is the correctly rounded result in f32 too.
        (_, S::F32(v)) => S::F32(real(op, v.into()) as f32),
        (_, S::F64(v)) => S::F64(real(op, v)),
        _ => panic!("{op:?} of {x:?}"),
    }
}

fn real(op: UnaryOp, x: f64) -> f64 {
    use UnaryOp as U;
    match op {
        U::Neg => -x,
        U::Abs => x.abs(),
        U::Sqrt => x.sqrt(),
        U::Floor => x.floor(),
        U::Ceil => x.ceil(),
        U::Trunc => x.trunc(),
        U::Round => x.round_ties_even(),
        _ => builtins::unary(op).map_or_else(|| panic!("no {op:?}"), |f| f(x)),
    }
}

fn binary(op: BinaryOp, a: Scalar, b: Scalar) -> Scalar {
    match (a, b) {
        (S::F32(x), S::F32(y)) => S::F32(match op {
            BinaryOp::Add => x + y,
            BinaryOp::Sub => x - y,
            BinaryOp::Mul => x * y,
            BinaryOp::Div => x / y,
            _ => float_binary(op, x.into(), y.into()) as f32,
        }),
        (S::F64(x), S::F64(y)) => S::F64(float_binary(op, x, y)),
        (S::I32(x), S::I32(y)) => S::I32(match op {
            BinaryOp::Shl | BinaryOp::Shr if !(0..32).contains(&y) => {
                if op == BinaryOp::Shl {
                    0
                } else {
                    x >> 31
                }
            }
            _ => int_binary(op, x.into(), y.into()) as i32,
        }),
        (S::I64(x), S::I64(y)) => S::I64(int_binary(op, x, y)),
        (S::Bool(x), S::Bool(y)) => S::Bool(match op {
            BinaryOp::And | BinaryOp::Min | BinaryOp::Mul => x && y,
            BinaryOp::Or | BinaryOp::Max | BinaryOp::Add => x || y,
            BinaryOp::Xor => x != y,
            _ => panic!("{op:?} of truth values"),
        }),
        _ => panic!("{op:?} of {a:?} and {b:?}"),
    }
}

fn float_binary(op: BinaryOp, x: f64, y: f64) -> f64 {
    use BinaryOp as B;
    match op {
        B::Add => x + y,
        B::Sub => x - y,
        B::Mul => x * y,
        B::Div => x / y,
        B::Min if x.is_nan() || x < y => x,
        B::Max if x.is_nan() || x > y => x,
        B::Min | B::Max => y,
        B::Copysign => x.copysign(y),
        _ => builtins::binary(op).map_or_else(|| panic!("no {op:?}"), |f| f(x, y)),
    }
}

fn int_binary(op: BinaryOp, x: i64, y: i64) -> i64 {
    use BinaryOp as B;
    match op {
        B::Add => x.wrapping_add(y),
        B::Sub => x.wrapping_sub(y),
        B::Mul => x.wrapping_mul(y),
        B::Min => x.min(y),
        B::Max => x.max(y),
        B::And => x & y,
        B::Or => x | y,
        B::Xor => x ^ y,
        _ => builtins::int_binary(op).map_or_else(|| panic!("no {op:?}"), |f| f(x, y)),
    }
}

fn reduce(op: ReduceOp, a: Scalar, b: Scalar) -> Scalar {
    binary(op.step(), a, b)
}

fn compare(op: CmpOp, a: Scalar, b: Scalar) -> bool {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let order = match (a, b) {
        (S::F32(x), S::F32(y)) => x.partial_cmp(&y),
        (S::F64(x), S::F64(y)) => x.partial_cmp(&y),
        (S::I32(x), S::I32(y)) => Some(x.cmp(&y)),
        (S::I64(x), S::I64(y)) => Some(x.cmp(&y)),
        (S::Bool(x), S::Bool(y)) => Some(x.cmp(&y)),
        _ => panic!("{a:?} compared with {b:?}"),
    };
    match op {
        CmpOp::Eq => order == Some(Equal),
        CmpOp::Ne => order != Some(Equal),
        CmpOp::Lt => order == Some(Less),
        CmpOp::Le => matches!(order, Some(Less | Equal)),
        CmpOp::Gt => order == Some(Greater),
        CmpOp::Ge => matches!(order, Some(Greater | Equal)),
    }
}

fn convert(to: Type, v: Scalar) -> Scalar {
    if to == Type::Bool {
        return S::Bool(match v {
            S::F32(x) => x != 0.0,
            S::F64(x) => x != 0.0,
            S::I32(i) => i != 0,
            S::I64(i) => i != 0,
            S::Bool(b) => b,
        });
    }
    macro_rules! cast {
        ($x:expr) => {
            match to {
                Type::F32 => S::F32($x as f32),
                Type::F64 => S::F64($x as f64),
                Type::I32 => S::I32($x as i32),
                _ => S::I64($x as i64),
            }
        };
    }
    match v {
        S::F32(x) => cast!(x),
        S::F64(x) => cast!(x),
        S::I32(i) => cast!(i),
        S::I64(i) => cast!(i),
        S::Bool(b) => cast!(i32::from(b)),
    }
}
