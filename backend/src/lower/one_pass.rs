//! A kernel of rows and a kernel of parts of columns that read the same tensors, as one that reads them once: for each part of the
//! rows it goes through them, and after each row adds what the row contributes to the part's sums, which wait in scratch.

use super::kernel::Lowered;
use crate::graph::ValueId as Tensor;
use cranelift_entity::SecondaryMap;
use ipex_jit::kernel::{
    Access, BinaryOp, Carry, Const, Index, Inst, Kernel, Loop, Mem, ParamId, ReduceOp, Scratch,
    ScratchId, Stmt, Type, ValueId, Var, VarId,
};
use std::collections::HashMap;

/// Most bytes of sums: they share the second-level cache with a row.
const SUMS: u64 = 128 << 10;

/// The loops of sums of parts of columns.
struct Columns<'a> {
    /// Over parts.
    parts: VarId,
    /// Over columns.
    columns: VarId,
    /// Over the rows of a part.
    rows: &'a Loop,
    /// Where the sum of each carry goes.
    stores: Vec<(&'a Carry, Mem, &'a Index)>,
}

/// `parts { columns vector { rows { … } sums, stores of them } }`
fn columns(kernel: &Kernel) -> Option<Columns<'_>> {
    let [Stmt::Loop(columns)] = kernel.root.body.as_slice() else {
        return None;
    };
    let [Stmt::Loop(rows), stores @ ..] = columns.body.as_slice() else {
        return None;
    };
    let straight = rows.body.iter().all(|s| matches!(s, Stmt::Let { .. }));
    let add = |c: &Carry| {
        c.op == ReduceOp::Sum && c.arg.is_none() && kernel.values[c.result] == Type::F32
    };
    let scans = rows.scans().next().is_some();
    if !columns.vector || !straight || scans || !rows.carries.iter().all(add) {
        return None;
    }
    let stored = |s: &'_ Stmt| match s {
        Stmt::Store { mem, index, value } => Some((*value, *mem, index.clone())),
        _ => None,
    };
    if stores.len() != rows.carries.len() || !stores.iter().all(|s| stored(s).is_some()) {
        return None;
    }
    let stores = stores.iter().filter_map(|s| match s {
        Stmt::Store { mem, index, value } => {
            let carry = rows.carries.iter().find(|c| c.result == *value)?;
            Some((carry, *mem, index))
        }
        _ => None,
    });
    let stores: Vec<_> = stores.collect();
    (stores.len() == rows.carries.len()).then_some(Columns {
        parts: kernel.root.var,
        columns: columns.var,
        rows,
        stores,
    })
}

/// How much sums of parts of columns read.
pub struct Size {
    /// Parts.
    pub parts: u64,
    /// Elements of all of them.
    pub elements: u64,
}

/// The size of a kernel of sums of parts of columns; none of another kernel.
pub fn size(kernel: &Kernel) -> Option<Size> {
    let found = columns(kernel)?;
    let [parts, rows, columns] =
        [found.parts, found.rows.var, found.columns].map(|v| kernel.vars[v].extent);
    Some(Size {
        parts,
        elements: parts * rows * columns,
    })
}

/// Both kernels in one; none if they are no such kernels, or one reads what the other writes.
pub fn join(by_row: &Lowered, by_column: &Lowered) -> Option<Lowered> {
    let found = columns(&by_column.kernel)?;
    let (rows, cols) = (&by_row.kernel, &by_column.kernel);
    let of = |var: VarId, k: &Kernel| k.vars[var].extent;
    let (parts, high) = (of(found.parts, cols), of(found.rows.var, cols));
    let wide = of(found.columns, cols);
    let last = match rows.root.body.last() {
        Some(Stmt::Loop(last)) if last.vector && last.carries.is_empty() => last,
        _ => return None,
    };
    let mut counted = false;
    for_each_inst(&rows.root.body, &mut |inst| {
        counted |= *inst == Inst::Var(rows.root.var)
    });
    let fits = !counted
        && of(rows.root.var, rows) == parts * high
        && of(last.var, rows) == wide
        && last.body.iter().all(|s| !matches!(s, Stmt::Loop(_)))
        && wide * 8 * found.stores.len() as u64 <= SUMS;
    if !fits || !is_apart(by_row, by_column) {
        return None;
    }
    let mut joined = Joined::new(by_row, by_column);
    joined.rows(&found, last);
    Some(Lowered {
        kernel: joined.kernel,
        tensors: joined.tensors,
    })
}

/// Whether neither writes what the other touches.
fn is_apart(a: &Lowered, b: &Lowered) -> bool {
    let tensors = |l: &Lowered| -> HashMap<Tensor, Access> {
        let accesses = l.kernel.params.values().map(|p| p.access);
        l.tensors.iter().copied().zip(accesses).collect()
    };
    let (a, b) = (tensors(a), tensors(b));
    a.iter().all(|(tensor, access)| {
        let other = b.get(tensor);
        other.is_none_or(|other| *access == Access::In && *other == Access::In)
    })
}

/// The kernel of rows, which grows.
struct Joined<'a> {
    kernel: Kernel,
    tensors: Vec<Tensor>,
    from: &'a Kernel,
    params: SecondaryMap<ParamId, Option<ParamId>>,
    values: HashMap<ValueId, ValueId>,
}

impl<'a> Joined<'a> {
    fn new(by_row: &Lowered, by_column: &'a Lowered) -> Joined<'a> {
        let mut joined = Joined {
            kernel: by_row.kernel.clone(),
            tensors: by_row.tensors.clone(),
            from: &by_column.kernel,
            params: SecondaryMap::new(),
            values: HashMap::new(),
        };
        for (&tensor, (id, param)) in by_column.tensors.iter().zip(&by_column.kernel.params) {
            let known = joined.tensors.iter().position(|&t| t == tensor);
            let own = match known {
                Some(at) => ParamId::from_u32(at as u32),
                None => {
                    joined.tensors.push(tensor);
                    joined.kernel.params.push(*param)
                }
            };
            joined.params[id] = Some(own);
        }
        joined
    }

    fn var(&mut self, extent: u64) -> VarId {
        self.kernel.vars.push(Var { extent })
    }

    fn rows(&mut self, found: &Columns, last: &Loop) {
        let row = self.kernel.root.var;
        let high = self.from.vars[found.rows.var].extent;
        let wide = self.from.vars[found.columns].extent;
        let part = self.var(self.from.vars[found.parts].extent);
        let within = self.var(high);
        // A row of the kernel of rows is one of a part.
        let parted = |terms: &[(VarId, i64)]| match terms.iter().find(|t| t.0 == row) {
            Some(&(_, stride)) => vec![(part, stride * high as i64), (within, stride)],
            None => Vec::new(),
        };
        let mut body = std::mem::take(&mut self.kernel.root.body);
        for_each_index(&mut body, &mut |index| {
            let split = parted(&index.vars);
            index.vars.retain(|t| t.0 != row);
            index.vars.extend(split);
            index.vars.sort_unstable();
        });
        let vars = HashMap::from([
            (found.parts, part),
            (found.rows.var, within),
            (found.columns, last.var),
        ]);
        let sums: Vec<ScratchId> = (found.stores.iter())
            .map(|_| {
                self.kernel.scratch.push(Scratch {
                    ty: Type::F32,
                    len: wide,
                })
            })
            .collect();
        self.contribute(&mut body, found, &vars, &sums);
        let start = self.start(&sums, wide);
        let end = self.end(found, part, &sums, wide);
        let rows = Loop {
            var: within,
            vector: false,
            body,
            carries: Vec::new(),
        };
        self.kernel.root = Loop {
            var: part,
            vector: false,
            body: vec![start, Stmt::Loop(rows), end],
            carries: Vec::new(),
        };
    }

    /// Adds to a row's last loop what it contributes to each sum.
    fn contribute(
        &mut self,
        body: &mut Vec<Stmt>,
        found: &Columns,
        vars: &HashMap<VarId, VarId>,
        sums: &[ScratchId],
    ) {
        let Some(Stmt::Loop(mut last)) = body.pop() else {
            return;
        };
        let mut known: HashMap<Inst, ValueId> = HashMap::new();
        for stmt in body.iter().chain(&last.body) {
            if let Stmt::Let { value, inst } = stmt {
                known.entry(inst.clone()).or_insert(*value);
            }
        }
        let mut of_column: Vec<ValueId> = Vec::new();
        of_column.extend(last.body.iter().filter_map(|s| match s {
            Stmt::Let { value, .. } => Some(*value),
            _ => None,
        }));
        for stmt in &found.rows.body {
            let Stmt::Let { value, inst } = stmt else {
                continue;
            };
            let inst = self.renamed(inst, vars);
            if let Some(&same) = known.get(&inst) {
                self.values.insert(*value, same);
                continue;
            }
            let own = self.kernel.values.push(self.from.values[*value]);
            self.values.insert(*value, own);
            known.insert(inst.clone(), own);
            let along = varies(&inst, last.var, &of_column);
            let place = if along { &mut last.body } else { &mut *body };
            place.push(Stmt::Let { value: own, inst });
            if along {
                of_column.push(own);
            }
        }
        for ((carry, _, _), &sum) in found.stores.iter().zip(sums) {
            let (before, after) = (self.float(), self.float());
            let value = self.values[&carry.value];
            let index = at(last.var);
            let load = Inst::Load {
                mem: Mem::Scratch(sum),
                index: index.clone(),
            };
            let same = |s: &&(&Carry, Mem, &Index)| self.values[&s.0.value] == value;
            let product = match found.stores.iter().filter(same).count() {
                1 => product(&mut last.body, value),
                _ => None,
            };
            let inst = match product {
                Some([a, b]) => Inst::Fma {
                    args: [a, b, before],
                },
                None => Inst::Binary {
                    op: BinaryOp::Add,
                    args: [before, value],
                },
            };
            last.body.extend([
                Stmt::Let {
                    value: before,
                    inst: load,
                },
                Stmt::Let { value: after, inst },
                Stmt::Store {
                    mem: Mem::Scratch(sum),
                    index,
                    value: after,
                },
            ]);
        }
        body.push(Stmt::Loop(last));
    }

    fn float(&mut self) -> ValueId {
        self.kernel.values.push(Type::F32)
    }

    /// Sums of nothing.
    fn start(&mut self, sums: &[ScratchId], wide: u64) -> Stmt {
        let (var, zero) = (self.var(wide), self.float());
        let mut body = vec![Stmt::Let {
            value: zero,
            inst: Inst::Const(Const::F32(0)),
        }];
        body.extend(sums.iter().map(|&sum| Stmt::Store {
            mem: Mem::Scratch(sum),
            index: at(var),
            value: zero,
        }));
        straight(var, body)
    }

    /// Stores the sums of a part.
    fn end(&mut self, found: &Columns, part: VarId, sums: &[ScratchId], wide: u64) -> Stmt {
        let var = self.var(wide);
        let vars = HashMap::from([(found.parts, part), (found.columns, var)]);
        let mut body = Vec::new();
        for ((_, mem, index), &sum) in found.stores.iter().zip(sums) {
            let value = self.float();
            let inst = Inst::Load {
                mem: Mem::Scratch(sum),
                index: at(var),
            };
            body.push(Stmt::Let { value, inst });
            body.push(Stmt::Store {
                mem: self.memory(*mem),
                index: reindexed(index, &vars, &HashMap::new()),
                value,
            });
        }
        straight(var, body)
    }

    fn memory(&self, mem: Mem) -> Mem {
        match mem {
            Mem::Param(p) => Mem::Param(self.params[p].unwrap_or(p)),
            scratch => scratch,
        }
    }

    /// An instruction of the other kernel in this one's names.
    fn renamed(&self, inst: &Inst, vars: &HashMap<VarId, VarId>) -> Inst {
        let mut inst = inst.clone();
        match &mut inst {
            Inst::Load { mem, index } => {
                *mem = self.memory(*mem);
                *index = reindexed(index, vars, &self.values);
            }
            Inst::Var(var) => *var = vars.get(var).copied().unwrap_or(*var),
            _ => inst.each_operand(|v| *v = self.values.get(v).copied().unwrap_or(*v)),
        }
        inst
    }
}

/// The factors of a product that nothing else reads, which is taken out.
fn product(body: &mut Vec<Stmt>, value: ValueId) -> Option<[ValueId; 2]> {
    let reads = |s: &Stmt| match s {
        Stmt::Let { inst, .. } => inst.operands().contains(&value),
        Stmt::Store { value: v, .. } => *v == value,
        Stmt::Loop(_) => true,
    };
    if body.iter().any(reads) {
        return None;
    }
    let op = BinaryOp::Mul;
    let (at, args) = body.iter().enumerate().find_map(|(at, s)| match s {
        Stmt::Let {
            value: v,
            inst: Inst::Binary { op: o, args },
        } if (*v, *o) == (value, op) => Some((at, *args)),
        _ => None,
    })?;
    body.remove(at);
    Some(args)
}

/// A loop without loops in it, over neighbours.
fn straight(var: VarId, body: Vec<Stmt>) -> Stmt {
    Stmt::Loop(Loop {
        var,
        vector: true,
        body,
        carries: Vec::new(),
    })
}

fn at(var: VarId) -> Index {
    Index {
        vars: vec![(var, 1)],
        ..Index::default()
    }
}

fn reindexed(
    index: &Index,
    vars: &HashMap<VarId, VarId>,
    values: &HashMap<ValueId, ValueId>,
) -> Index {
    let mut index = index.clone();
    for (var, _) in &mut index.vars {
        *var = vars.get(var).copied().unwrap_or(*var);
    }
    index.vars.sort_unstable();
    for (value, _) in &mut index.values {
        *value = values.get(value).copied().unwrap_or(*value);
    }
    index
}

/// Whether an instruction's value differs between the iterations of a loop, in which `inside` are defined.
fn varies(inst: &Inst, var: VarId, inside: &[ValueId]) -> bool {
    match inst {
        Inst::Load { index, .. } => {
            let gathered = index.values.iter().any(|(v, _)| inside.contains(v));
            gathered || index.vars.iter().any(|(v, _)| *v == var)
        }
        Inst::Var(v) => *v == var,
        _ => inst.operands().iter().any(|v| inside.contains(v)),
    }
}

fn for_each_inst(body: &[Stmt], f: &mut impl FnMut(&Inst)) {
    for stmt in body {
        match stmt {
            Stmt::Let { inst, .. } => f(inst),
            Stmt::Loop(l) => for_each_inst(&l.body, f),
            Stmt::Store { .. } => {}
        }
    }
}

fn for_each_index(body: &mut [Stmt], f: &mut impl FnMut(&mut Index)) {
    for stmt in body {
        match stmt {
            Stmt::Let {
                inst: Inst::Load { index, .. },
                ..
            }
            | Stmt::Store { index, .. } => f(index),
            Stmt::Loop(l) => for_each_index(&mut l.body, f),
            Stmt::Let { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipex_jit::interpret::interpret;
    use ipex_jit::kernel::{parse, verify};

    /// Rows of `x * y - sum`, and in parts of 4 rows the sums of `x * m[row]` and of `y`, over 12x5 elements.
    const ROWS: &str = "kernel (p0: in f32, p1: in f32, p2: in f32, p3: out f32) {
        loop i0 < 12 {
            v0: f32 = load p2[i0]
            loop i1 < 5 vector {
                v1: f32 = load p0[5*i0 + i1]
                v2: f32 = load p1[5*i0 + i1]
                v3: f32 = mul v1, v2
            } carry v4: f32 = sum v3
            loop i2 < 5 vector {
                v5: f32 = load p0[5*i0 + i2]
                v6: f32 = mul v5, v0
                v7: f32 = sub v6, v4
                store p3[5*i0 + i2] = v7
            }
        }
    }";
    const COLUMNS: &str = "kernel (p0: in f32, p1: in f32, p2: in f32, p3: out f32, p4: out f32) {
        loop i0 < 3 {
            loop i1 < 5 vector {
                loop i2 < 4 {
                    v0: f32 = load p1[20*i0 + i1 + 5*i2]
                    v1: f32 = load p0[20*i0 + i1 + 5*i2]
                    v2: f32 = load p2[4*i0 + i2]
                    v3: f32 = mul v1, v2
                } carry v4: f32 = sum v3, v5: f32 = sum v0
                store p3[5*i0 + i1] = v4
                store p4[5*i0 + i1] = v5
            }
        }
    }";

    fn lowered(text: &str, tensors: &[u32]) -> Lowered {
        Lowered {
            kernel: parse(text).unwrap(),
            tensors: tensors.iter().map(|&t| Tensor::from_u32(t)).collect(),
        }
    }

    /// The bytes of tensors 0 to 5 after a kernel of them.
    fn run(lowered: &Lowered, memory: &mut [Vec<u8>]) {
        let at = |t: &Tensor| t.as_u32() as usize;
        let mut own: Vec<Vec<u8>> = lowered
            .tensors
            .iter()
            .map(|t| memory[at(t)].clone())
            .collect();
        let extent = lowered.kernel.vars[lowered.kernel.root.var].extent;
        interpret(&lowered.kernel, &mut own, 0, extent);
        for (t, bytes) in lowered.tensors.iter().zip(own) {
            memory[at(t)] = bytes;
        }
    }

    #[test]
    fn rows_and_columns_give_what_they_give_apart() {
        let rows = lowered(ROWS, &[0, 1, 2, 3]);
        let columns = lowered(COLUMNS, &[0, 1, 2, 4, 5]);
        let joined = join(&rows, &columns).unwrap();
        verify(&joined.kernel).unwrap();
        let floats = |n: usize, by: f32| -> Vec<u8> {
            let all = (0..n).map(|k| ((k * 7 % 11) as f32 - 4.5) * by);
            all.flat_map(f32::to_le_bytes).collect()
        };
        let sizes = [60, 60, 12, 60, 15, 15];
        let fresh = || -> Vec<Vec<u8>> { sizes.map(|n| floats(n, n as f32)).to_vec() };
        let (mut apart, mut together) = (fresh(), fresh());
        run(&rows, &mut apart);
        run(&columns, &mut apart);
        run(&joined, &mut together);
        assert_eq!(apart, together);
        // What both read is read once in the last loop, and what belongs to a row in front of it.
        let text = joined.kernel.to_string();
        assert_eq!(text.matches("load p2[").count(), 1, "{text}");
        assert_eq!(text.matches("load p0[").count(), 2, "{text}");
    }

    #[test]
    fn products_that_only_a_sum_reads_are_added_unrounded() {
        let rows = lowered(ROWS, &[0, 1, 2, 3]);
        let fused = |text: &str| {
            let joined = join(&rows, &lowered(text, &[0, 1, 2, 4, 5])).unwrap();
            verify(&joined.kernel).unwrap();
            joined.kernel.to_string().matches("= fma ").count()
        };
        assert_eq!(fused(COLUMNS), 0, "rows read the product too");
        let own = COLUMNS.replace("mul v1, v2", "mul v1, v0");
        assert_eq!(fused(&own), 1);
        assert_eq!(fused(&own.replace("sum v0", "sum v3")), 0, "two sums");
    }

    #[test]
    fn what_does_not_fit_stays_apart() {
        let rows = lowered(ROWS, &[0, 1, 2, 3]);
        let join = |text: &str, tensors| super::join(&rows, &lowered(text, tensors)).is_some();
        assert!(join(COLUMNS, &[0, 1, 2, 4, 5]));
        assert!(!join(COLUMNS, &[3, 1, 2, 4, 5]), "reads what rows write");
        assert!(!join(COLUMNS, &[0, 1, 2, 0, 5]), "writes what rows read");
        let other = |from: &str, to: &str| join(&COLUMNS.replace(from, to), &[0, 1, 2, 4, 5]);
        assert!(!other("i0 < 3", "i0 < 2"), "other rows");
        assert!(!other("i1 < 5", "i1 < 4"), "other columns");
        assert!(!other("sum v0", "max v0"), "no sum");
        let counted = ROWS.replace(
            "v7: f32 = sub v6, v4",
            "v8: i64 = var i0\n v9: f32 = convert v8\n v7: f32 = sub v6, v9",
        );
        let counted = lowered(&counted, &[0, 1, 2, 3]);
        let columns = lowered(COLUMNS, &[0, 1, 2, 4, 5]);
        assert!(super::join(&counted, &columns).is_none(), "a row's number");
    }
}
