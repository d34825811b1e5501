//! The statements of a kernel under construction, by the place in its loop nest.

use super::index::AffineExpr;
use super::space::Space;
use crate::fusion::refusal::Refusal;
use crate::graph::{Graph, ValueId};
use cranelift_entity::{EntityRef, PrimaryMap};
use ipex_jit::kernel::{
    self, Access, Carry, Index, Inst, Mem, Param, ParamId, Scratch, ScratchId, Stmt, Type, Var,
    VarId,
};
use std::collections::HashMap;

/// Most bytes of scratch rows of one kernel: what stays in a first-level cache beside the operands.
const SCRATCH_BYTES: u64 = 64 << 10;

/// Where a statement stands. A row's statements are `before[0], passes[0], before[1], passes[1],
/// ...`: what depends on `n` levels of reductions is available from `Row(n)` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Once for each row, in front of this pass.
    Row(usize),
    /// Once for each column, in this pass.
    Pass(usize),
}

/// One loop over the columns of a row, for the reductions of one level.
#[derive(Default)]
pub struct Pass {
    /// Its loop variables, from outside in.
    pub vars: Vec<VarId>,
    /// The column index they make.
    pub index: Vec<AffineExpr>,
    /// Statements of the innermost loop.
    pub body: Vec<Stmt>,
    /// Reductions over all its loops.
    pub carries: Vec<Carry>,
}

/// The kernel's tables and statements.
pub struct Body<'a> {
    /// The iteration space.
    pub space: &'a Space,
    /// Parameters.
    pub params: PrimaryMap<ParamId, Param>,
    /// The value behind each parameter.
    pub tensors: Vec<ValueId>,
    /// Scratch rows.
    pub scratch: PrimaryMap<ScratchId, Scratch>,
    /// Loop variables, and pseudo-variables that stand for gathered indices.
    pub vars: PrimaryMap<VarId, Var>,
    /// Types of SSA values.
    pub values: PrimaryMap<kernel::ValueId, Type>,
    /// Row loop variables, from outside in.
    pub row_vars: Vec<VarId>,
    /// The row index they make.
    pub row_index: Vec<AffineExpr>,
    /// Statements of a row in front of each pass, and behind the last.
    pub before: Vec<Vec<Stmt>>,
    /// Loops over the columns.
    pub passes: Vec<Pass>,
    /// The value behind each pseudo-variable, and where it is defined.
    pub gathers: HashMap<VarId, (kernel::ValueId, Place)>,
    /// The loop of the space that each variable stands for.
    origin: Vec<Option<usize>>,
    inputs: HashMap<ValueId, ParamId>,
    rows_kept: HashMap<(ValueId, Vec<AffineExpr>), ScratchId>,
    defined_in: HashMap<kernel::ValueId, Place>,
}

impl<'a> Body<'a> {
    /// No statement yet.
    pub fn new(space: &'a Space) -> Self {
        let (mut vars, mut origin) = (PrimaryMap::new(), Vec::new());
        let (row_vars, row_index) = space.index(false, &mut vars, &mut origin);
        Body {
            space,
            params: PrimaryMap::new(),
            tensors: Vec::new(),
            scratch: PrimaryMap::new(),
            vars,
            values: PrimaryMap::new(),
            row_vars,
            row_index,
            before: vec![Vec::new()],
            passes: Vec::new(),
            gathers: HashMap::new(),
            origin,
            inputs: HashMap::new(),
            rows_kept: HashMap::new(),
            defined_in: HashMap::new(),
        }
    }

    /// The pass of this level.
    pub fn pass(&mut self, level: usize) -> &mut Pass {
        while self.passes.len() <= level {
            let (vars, index) = self.space.index(true, &mut self.vars, &mut self.origin);
            self.passes.push(Pass {
                vars,
                index,
                ..Pass::default()
            });
            self.before.push(Vec::new());
        }
        &mut self.passes[level]
    }

    /// Where a value at `idx` that depends on `level` levels of reductions is computed.
    pub fn place(&self, idx: &[AffineExpr], level: usize) -> Place {
        let mut row = level;
        for &(var, _) in idx.iter().flat_map(|e| &e.terms) {
            match self.gathers.get(&var) {
                Some(&(_, Place::Pass(p))) => return Place::Pass(p),
                Some(&(_, Place::Row(r))) => row = row.max(r),
                None => {
                    if let Some(p) = self.passes.iter().position(|p| p.vars.contains(&var)) {
                        return Place::Pass(p);
                    }
                }
            }
        }
        Place::Row(row)
    }

    fn statements(&mut self, place: Place) -> &mut Vec<Stmt> {
        match place {
            Place::Pass(p) => &mut self.pass(p).body,
            Place::Row(r) => {
                if r > 0 {
                    self.pass(r - 1);
                }
                &mut self.before[r]
            }
        }
    }

    /// Appends an instruction.
    pub fn inst(&mut self, place: Place, ty: Type, inst: Inst) -> kernel::ValueId {
        let value = self.values.push(ty);
        self.defined_in.insert(value, place);
        self.statements(place).push(Stmt::Let { value, inst });
        value
    }

    /// Appends a store.
    pub fn store(&mut self, place: Place, mem: Mem, index: Index, value: kernel::ValueId) {
        self.statements(place)
            .push(Stmt::Store { mem, index, value });
    }

    /// `value`, or a copy of it that this pass defines.
    pub fn own(&mut self, pass: usize, value: kernel::ValueId) -> kernel::ValueId {
        let place = Place::Pass(pass);
        if self.defined_in.get(&value) == Some(&place) {
            return value;
        }
        let ty = self.values[value];
        self.inst(place, ty, Inst::Convert { to: ty, arg: value })
    }

    /// The parameter that reads `value`.
    pub fn input(&mut self, graph: &Graph, value: ValueId) -> Result<ParamId, Refusal> {
        if let Some(&p) = self.inputs.get(&value) {
            return Ok(p);
        }
        let p = self.param(graph, value, Access::In)?;
        self.inputs.insert(value, p);
        Ok(p)
    }

    /// The parameter that is written as `value`; several roots may be parts of it.
    pub fn output(&mut self, graph: &Graph, value: ValueId) -> Result<ParamId, Refusal> {
        let mut params = self.params.iter();
        let known = params.find(|(p, param)| {
            param.access == Access::Out && self.tensors[p.as_u32() as usize] == value
        });
        match known {
            Some((p, _)) => Ok(p),
            None => self.param(graph, value, Access::Out),
        }
    }

    /// Adds a parameter.
    pub fn param(
        &mut self,
        graph: &Graph,
        value: ValueId,
        access: Access,
    ) -> Result<ParamId, Refusal> {
        let meta = &graph.values[value];
        let dtype = meta.dtype().ok_or(Refusal::Dtype(meta.scalar_type))?;
        self.tensors.push(value);
        Ok(self.params.push(Param { dtype, access }))
    }

    /// The memory index of element `idx` of a tensor with these strides.
    pub fn address(&self, strides: &[i64], idx: &[AffineExpr]) -> Index {
        let flat = idx
            .iter()
            .zip(strides)
            .fold(AffineExpr::default(), |sum, (e, &s)| sum.add_scaled(e, s));
        let (values, vars): (Vec<_>, Vec<_>) = flat
            .terms
            .into_iter()
            .partition(|(v, _)| self.gathers.contains_key(v));
        let values = values
            .into_iter()
            .map(|(v, c)| (self.gathers[&v].0, c))
            .collect();
        Index {
            vars,
            values,
            offset: flat.offset,
        }
    }

    /// A pseudo-variable for an index in `0..n` that is computed at run time.
    pub fn gathered(&mut self, value: kernel::ValueId, n: i64, place: Place) -> AffineExpr {
        let var = self.vars.push(Var { extent: n as u64 });
        self.origin.push(None);
        self.gathers.insert(var, (value, place));
        AffineExpr::var(var)
    }

    /// A split can be done for loops alone; for others it is a plain refusal.
    pub fn only_loops(&self, refusal: Refusal, from: &[i64], to: &[i64]) -> Refusal {
        match refusal {
            Refusal::Split { var, .. } if self.origin[var.index()].is_none() => Refusal::Reshape {
                from: from.to_vec(),
                to: to.to_vec(),
            },
            other => other,
        }
    }

    /// The loop of the space behind a variable.
    pub fn loop_of(&self, var: VarId) -> Option<usize> {
        self.origin.get(var.index()).copied().flatten()
    }

    /// `idx` with one pass's variables replaced by another's.
    pub fn in_pass(&mut self, idx: &[AffineExpr], from: usize, to: usize) -> Vec<AffineExpr> {
        let old = self.pass(from).vars.clone();
        let new = self.pass(to).vars.clone();
        let rename = |e: &AffineExpr| {
            let start = AffineExpr::constant(e.offset);
            e.terms.iter().fold(start, |sum, &(v, c)| {
                let v = old.iter().position(|&o| o == v).map_or(v, |k| new[k]);
                sum.add_scaled(&AffineExpr::var(v), c)
            })
        };
        idx.iter().map(rename).collect()
    }

    /// The scratch row that holds `value` at `idx`, if there is one.
    pub fn scratch_of(&self, value: ValueId, idx: &[AffineExpr]) -> Option<ScratchId> {
        self.rows_kept.get(&(value, idx.to_vec())).copied()
    }

    /// A scratch row for `value` at `idx`; none if it is too long or its lanes are rows.
    pub fn new_scratch(
        &mut self,
        value: ValueId,
        idx: &[AffineExpr],
        ty: Type,
    ) -> Option<ScratchId> {
        let len = self.space.col_count() as u64;
        let used: u64 = self.scratch.values().map(|s| s.len * 8).sum();
        let gathers = idx
            .iter()
            .flat_map(|e| &e.terms)
            .any(|(v, _)| self.gathers.contains_key(v));
        if self.space.vector_rows || gathers || used + len * 8 > SCRATCH_BYTES {
            return None;
        }
        let slot = self.scratch.push(Scratch { ty, len });
        self.rows_kept.insert((value, idx.to_vec()), slot);
        Some(slot)
    }

    /// The position within a scratch row in a pass.
    pub fn flat(&mut self, pass: usize) -> Index {
        let vars = self.pass(pass).vars.clone();
        let mut stride = 1;
        let mut terms: Vec<(VarId, i64)> = Vec::new();
        for &v in vars.iter().rev() {
            terms.push((v, stride));
            stride *= self.vars[v].extent as i64;
        }
        terms.sort();
        Index {
            vars: terms,
            values: Vec::new(),
            offset: 0,
        }
    }

    /// How often the loops around `place` repeat a value at `idx`.
    pub fn repetitions(&self, place: Place, idx: &[AffineExpr]) -> i64 {
        let used = |v: &VarId| {
            idx.iter().any(|e| {
                e.terms
                    .iter()
                    .any(|(t, _)| t == v || self.gathers.contains_key(t))
            })
        };
        let mut around: Vec<VarId> = self.row_vars.clone();
        if let Place::Pass(p) = place {
            around.extend(&self.passes[p].vars);
        }
        let unused = around.iter().filter(|v| !used(v));
        unused.map(|&v| self.vars[v].extent as i64).product()
    }

    /// Whether what is both read and written is read at the place that the same iteration then writes, and nowhere
    /// else.
    pub fn reads_before_it_writes(&self) -> bool {
        let rows = self.before.iter().map(|b| (usize::MAX, b));
        let passes = self.passes.iter().enumerate().map(|(k, p)| (k, &p.body));
        let mut read: HashMap<ParamId, (usize, &Index)> = HashMap::new();
        let mut written: HashMap<ParamId, (usize, &Index)> = HashMap::new();
        for (place, stmt) in rows
            .chain(passes)
            .flat_map(|(k, b)| b.iter().map(move |s| (k, s)))
        {
            let (is_load, mem, index) = match stmt {
                Stmt::Let {
                    inst: Inst::Load { mem, index },
                    ..
                } => (true, mem, index),
                Stmt::Store { mem, index, .. } => (false, mem, index),
                _ => continue,
            };
            let Mem::Param(p) = *mem else { continue };
            if self.params[p].access != Access::InOut {
                continue;
            }
            let at = (place, index);
            let same = read.get(&p).is_none_or(|&r| r == at);
            if !same || written.contains_key(&p) {
                return false;
            }
            if is_load {
                read.insert(p, at);
            } else {
                written.insert(p, at);
            }
        }
        true
    }
}
