//! What differs between lanes and between iterations.

use crate::kernel::{Access, Index, Inst, Kernel, Loop, Mem, Stmt, Type, ValueId, VarId};
use cranelift_entity::EntitySet;
use ipex_runtime::DType;
use std::collections::HashMap;

/// The values that an instruction reads.
fn operands(inst: &Inst) -> Vec<ValueId> {
    match inst {
        Inst::Load { index, .. } => index.values.iter().map(|v| v.0).collect(),
        _ => inst.operands(),
    }
}

/// Elements between neighbouring iterations of a loop.
pub fn stride(index: &Index, var: Option<VarId>) -> i64 {
    let term = index.vars.iter().find(|(v, _)| Some(*v) == var);
    term.map_or(0, |t| t.1)
}

/// The loop variables that are wanted in 32 bits alone, by the values that hold them: those need no lanes of 64.
pub fn narrow_positions(kernel: &Kernel) -> HashMap<ValueId, VarId> {
    let mut found = HashMap::new();
    find_positions(&kernel.root, &mut found);
    found
}

fn find_positions(l: &Loop, found: &mut HashMap<ValueId, VarId>) {
    for stmt in &l.body {
        match stmt {
            Stmt::Let {
                value,
                inst: Inst::Var(var),
            } => {
                found.insert(*value, *var);
            }
            Stmt::Let {
                inst: Inst::Convert { to: Type::I32, .. },
                ..
            } => {}
            Stmt::Let { inst, .. } => operands(inst).iter().for_each(|v| {
                found.remove(v);
            }),
            Stmt::Store { value, index, .. } => {
                found.remove(value);
                index.values.iter().for_each(|v| {
                    found.remove(&v.0);
                });
            }
            Stmt::Loop(inner) => find_positions(inner, found),
        }
    }
    for carry in &l.carries {
        found.remove(&carry.value);
    }
}

/// Collects the values that differ between the lanes of the vector loop around them, and whether
/// one of them has 64 bits.
pub fn note_varying(
    kernel: &Kernel,
    l: &Loop,
    lane: Option<VarId>,
    narrow: &HashMap<ValueId, VarId>,
    varying: &mut EntitySet<ValueId>,
    wide: &mut bool,
) {
    let lane = if l.vector { Some(l.var) } else { lane };
    for stmt in &l.body {
        match stmt {
            Stmt::Let { value, inst } => {
                let differs = match inst {
                    Inst::Var(v) => Some(*v) == lane,
                    Inst::Load { index, .. } => stride(index, lane) != 0,
                    _ => false,
                };
                if differs || operands(inst).iter().any(|v| varying.contains(*v)) {
                    varying.insert(*value);
                    let long = matches!(kernel.values[*value], Type::F64 | Type::I64);
                    *wide |= long && !narrow.contains_key(value);
                }
            }
            Stmt::Store { value, .. } => {
                let ty = kernel.values[*value];
                *wide |= lane.is_some() && matches!(ty, Type::F64 | Type::I64);
            }
            Stmt::Loop(inner) => {
                note_varying(kernel, inner, lane, narrow, varying, wide);
            }
        }
    }
    for carry in &l.carries {
        // Behind the vector loop itself the lanes are combined. Inside of it they stay apart.
        if lane.is_some() && !l.vector {
            varying.insert(carry.result);
        }
        if lane.is_some() {
            *wide |= matches!(kernel.values[carry.result], Type::F64 | Type::I64);
        }
    }
}

/// Roundings whose results are stored as what they are rounded to, and not used otherwise: stores round.
pub fn rounded_by_stores(kernel: &Kernel) -> EntitySet<ValueId> {
    let mut narrowed: HashMap<ValueId, DType> = HashMap::new();
    find_roundings(&kernel.root, kernel, &mut narrowed);
    let mut found = EntitySet::new();
    found.extend(narrowed.into_keys());
    found
}

/// Values come before their uses, so that one walk sees both.
fn find_roundings(l: &Loop, kernel: &Kernel, found: &mut HashMap<ValueId, DType>) {
    for stmt in &l.body {
        match stmt {
            Stmt::Let { value, inst } => {
                operands(inst).iter().for_each(|v| _ = found.remove(v));
                if let Inst::Narrow { to, .. } = inst
                    && to.is_float()
                {
                    found.insert(*value, *to);
                }
            }
            Stmt::Store { mem, index, value } => {
                let as_is = matches!(mem, Mem::Param(p) if found.get(value) == Some(&kernel.params[*p].dtype));
                if !as_is {
                    found.remove(value);
                }
                index.values.iter().for_each(|v| _ = found.remove(&v.0));
            }
            Stmt::Loop(inner) => find_roundings(inner, kernel, found),
        }
    }
    for carry in &l.carries {
        found.remove(&carry.value);
    }
}

/// Whether an instruction gives the same in all iterations of the loop over `var`, if the values in
/// `inside` do not.
pub fn is_invariant(kernel: &Kernel, var: VarId, inside: &EntitySet<ValueId>, inst: &Inst) -> bool {
    let same = match inst {
        Inst::Var(v) => *v != var,
        Inst::Load { mem, index } => {
            let read_only = matches!(mem, Mem::Param(p) if kernel.params[*p].access == Access::In);
            read_only && stride(index, Some(var)) == 0
        }
        _ => true,
    };
    same && !operands(inst).iter().any(|v| inside.contains(*v))
}
