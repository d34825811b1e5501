//! Sums of products by fused multiply-adds: the order of a sum of floats is free, and so is whether what it adds was rounded.

use super::lir::{Lir, Mask, Reg};
use super::loops::copy_of;
use super::lower::Lower;
use super::opcode;
use crate::kernel::{BinaryOp, Carry, Inst, Kernel, Loop, ReduceOp, Stmt, ValueId};
use std::collections::HashMap;

/// The factors of products that nothing but a sum reads, which is the one of the loop that computes them.
pub fn products(kernel: &Kernel) -> HashMap<ValueId, [ValueId; 2]> {
    let mut uses = HashMap::new();
    count(&kernel.root, &mut uses);
    let mut found = HashMap::new();
    find(&kernel.root, kernel, &uses, &mut found);
    found
}

fn count(l: &Loop, uses: &mut HashMap<ValueId, usize>) {
    let mut used = |v: ValueId| *uses.entry(v).or_default() += 1;
    for stmt in &l.body {
        match stmt {
            Stmt::Let {
                inst: Inst::Load { index, .. },
                ..
            } => index.values.iter().for_each(|v| used(v.0)),
            Stmt::Let { inst, .. } => inst.operands().into_iter().for_each(&mut used),
            Stmt::Store { index, value, .. } => {
                used(*value);
                index.values.iter().for_each(|v| used(v.0));
            }
            Stmt::Loop(_) => {}
        }
    }
    l.carries.iter().for_each(|c| used(c.value));
    for stmt in &l.body {
        if let Stmt::Loop(inner) = stmt {
            count(inner, uses);
        }
    }
}

fn find(
    l: &Loop,
    kernel: &Kernel,
    uses: &HashMap<ValueId, usize>,
    found: &mut HashMap<ValueId, [ValueId; 2]>,
) {
    let summed = |v: ValueId| {
        let of = |c: &Carry| c.value == v && c.op == ReduceOp::Sum;
        kernel.values[v].is_float() && uses.get(&v) == Some(&1) && l.carries.iter().any(of)
    };
    for stmt in &l.body {
        match stmt {
            Stmt::Let {
                value,
                inst:
                    Inst::Binary {
                        op: BinaryOp::Mul,
                        args,
                    },
            } if summed(*value) => _ = found.insert(*value, *args),
            Stmt::Loop(inner) => find(inner, kernel, uses, found),
            _ => {}
        }
    }
}

impl Lower<'_> {
    /// The factors of what a loop adds up, if they are multiplied where they are added.
    pub fn factors(&self, value: ValueId) -> Option<[ValueId; 2]> {
        let factors = self.products.get(&value).copied();
        factors.filter(|_| !self.hoisted.contains(value))
    }

    /// Adds a product of a copy to a sum; `last` where the lanes are those of the last iterations.
    pub fn accumulate_product(
        &mut self,
        carry: &Carry,
        acc: Reg,
        factors: [ValueId; 2],
        copy: usize,
        last: bool,
    ) {
        let ty = self.kernel.values[carry.result];
        let [a, b] = factors.map(|v| self.get(v, copy));
        let (len, w) = (self.len(ty), opcode::is_wide(ty));
        let d = if last { self.reg(ty) } else { acc };
        let c = acc;
        self.emit(Lir::Fma { w, len, d, a, b, c });
        match self.tail {
            _ if !last => {}
            Some(k) => self.merge(acc, d, k, ty),
            None => self.emit(copy_of(acc, d, Mask::TailMerge, len, w)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::parse;

    #[test]
    fn products_that_only_a_sum_reads_are_multiplied_there() {
        let text = "kernel (p0: in f32, p1: out f32) {
    loop i0 < 9 {
        loop i1 < 40 vector {
            v0: f32 = load p0[40*i0 + i1]
            v1: f32 = mul v0, v0
        } carry v2: f32 = sum v1
        store p1[i0] = v2
    }
}";
        let found = |text: &str| products(&parse(text).unwrap()).len();
        assert_eq!(found(text), 1);
        assert_eq!(found(&text.replace("sum", "max")), 0, "no sum");
        assert_eq!(found(&text.replace("mul", "add")), 0, "no product");
        let twice = text.replace("sum v1", "sum v1, v3: f32 = sum v1");
        assert_eq!(found(&twice), 0, "two sums");
        let read = text.replace("v0, v0", "v0, v0\n            v3: f32 = neg v1");
        assert_eq!(found(&read), 0, "something else");
        let whole = text.replace("f32", "i32");
        assert_eq!(found(&whole), 0, "integers");
    }
}
