//! Merges nested loops that walk memory like one, and drops loops of a single iteration.

use cranelift_entity::PrimaryMap;
use ipex_jit::kernel::{Index, Inst, Kernel, Loop, Stmt, Var, VarId};

/// Merges every perfectly nested pair of loops whose accesses all advance by `stride * extent` of
/// the inner loop with each iteration of the outer one. Scans begin anew with each run of their loop.
pub fn collapse(kernel: &mut Kernel) {
    collapse_loop(&mut kernel.root, &mut kernel.vars);
}

fn collapse_loop(outer: &mut Loop, vars: &mut PrimaryMap<VarId, Var>) {
    for stmt in &mut outer.body {
        if let Stmt::Loop(inner) = stmt {
            collapse_loop(inner, vars);
        }
    }
    let [Stmt::Loop(inner)] = outer.body.as_slice() else {
        return;
    };
    let extent = vars[inner.var].extent as i64;
    let carried = outer.carries.iter().all(|c| {
        c.arg.is_none()
            && inner
                .carries
                .iter()
                .any(|i| i.result == c.value && i.op == c.op)
    });
    if !carried
        || inner.scans().next().is_some()
        || outer.carries.len() != inner.carries.len()
        || !inner
            .body
            .iter()
            .all(|s| advances(s, outer.var, inner.var, extent))
    {
        return;
    }
    let Some(Stmt::Loop(mut inner)) = outer.body.pop() else {
        return;
    };
    for carry in &mut inner.carries {
        if let Some(o) = outer.carries.iter().find(|o| o.value == carry.result) {
            carry.result = o.result;
        }
    }
    vars[inner.var].extent *= vars[outer.var].extent;
    inner.body.iter_mut().for_each(|s| forget(s, outer.var));
    *outer = inner;
}

fn coefficient(index: &Index, var: VarId) -> i64 {
    index.vars.iter().find(|t| t.0 == var).map_or(0, |t| t.1)
}

/// Whether every access of `stmt` treats the two loops as one.
fn advances(stmt: &Stmt, outer: VarId, inner: VarId, extent: i64) -> bool {
    let fits = |index: &Index| coefficient(index, outer) == coefficient(index, inner) * extent;
    match stmt {
        Stmt::Let {
            inst: Inst::Load { index, .. },
            ..
        }
        | Stmt::Store { index, .. } => fits(index),
        Stmt::Let {
            inst: Inst::Var(v), ..
        } => *v != outer && *v != inner,
        Stmt::Let { .. } => true,
        Stmt::Loop(l) => l.body.iter().all(|s| advances(s, outer, inner, extent)),
    }
}

fn forget(stmt: &mut Stmt, var: VarId) {
    match stmt {
        Stmt::Let {
            inst: Inst::Load { index, .. },
            ..
        }
        | Stmt::Store { index, .. } => {
            index.vars.retain(|t| t.0 != var);
        }
        Stmt::Let { .. } => {}
        Stmt::Loop(l) => l.body.iter_mut().for_each(|s| forget(s, var)),
    }
}
