//! Pointwise kernels that read across the order in which they write: square tiles of such operands are copied,
//! turned, to scratch, where they lie in order. The generators turn a copy in registers
//! (`jit/src/wide/transpose.rs`).

use super::space::Space;
use cranelift_entity::PrimaryMap;
use ipex_jit::kernel::{
    Access, Index, Inst, Kernel, Loop, Mem, Scratch, Stmt, Type, ValueId, Var, VarId,
};

/// Rows of a tile, the larger the better: as many elements are read at once, cache lines that are neighbours.
const ROWS: [i64; 3] = [128, 64, 32];
/// Tiles of rows that there should be, as threads share them.
const TILES: i64 = 16;
/// Columns of a tile, the larger the better: as many pages are read from in turn.
const COLUMNS: [i64; 3] = [128, 64, 32];

/// Elements between neighbouring iterations.
fn step(index: &Index, var: VarId) -> i64 {
    index.vars.iter().find(|t| t.0 == var).map_or(0, |t| t.1)
}

/// Whether a statement reads an element whose neighbours in memory other rows read.
pub fn is_across(stmt: &Stmt, rows: VarId, columns: VarId) -> bool {
    match stmt {
        Stmt::Let {
            inst: Inst::Load { index, .. },
            ..
        } => step(index, rows) == 1 && step(index, columns).abs() > 1,
        _ => false,
    }
}

/// The space of the same kernel in tiles; none if they do not fit.
pub fn tiles(space: &Space) -> Option<Space> {
    let [rows, columns] = space.loops.as_slice() else {
        return None;
    };
    let wide = *COLUMNS.iter().find(|n| columns.extent % **n == 0)?;
    let fitting = || ROWS.iter().filter(|n| rows.extent % **n == 0);
    let enough = fitting().find(|n| rows.extent / **n >= TILES);
    let high = *enough.or(fitting().next_back())?;
    if !space.cols.is_empty() {
        return None;
    }
    let mut tiled = space.clone();
    tiled.split(1, wide);
    tiled.split(0, high);
    // Tiles of rows, tiles of columns, rows, columns.
    tiled.loops.swap(1, 2);
    Some(tiled)
}

/// Sends the operands of a tiled kernel that it reads across through scratch; `None` if it is no such kernel.
pub fn stage(kernel: &mut Kernel) -> Option<()> {
    let Kernel {
        params,
        scratch,
        vars,
        values,
        root,
        ..
    } = kernel;
    let [Stmt::Loop(tile)] = root.body.as_mut_slice() else {
        return None;
    };
    let [Stmt::Loop(rows)] = tile.body.as_mut_slice() else {
        return None;
    };
    let over_rows = rows.var;
    let [Stmt::Loop(columns)] = rows.body.as_mut_slice() else {
        return None;
    };
    let (down, along) = (vars[over_rows].extent, vars[columns.var].extent);
    let mut copies = Vec::new();
    for stmt in &mut columns.body {
        if !is_across(stmt, over_rows, columns.var) {
            continue;
        }
        let Stmt::Let {
            value,
            inst: Inst::Load { mem, index },
        } = stmt
        else {
            continue;
        };
        let read_only = matches!(mem, Mem::Param(p) if params[*p].access == Access::In);
        if !read_only || !index.values.is_empty() || values[*value] == Type::Bool {
            return None;
        }
        let ty = values[*value];
        let len = down * along;
        let turned = Mem::Scratch(scratch.push(Scratch { ty, len }));
        let from = (*mem, &*index, over_rows, columns.var);
        copies.push(Stmt::Loop(copy(from, turned, ty, vars, values)));
        *mem = turned;
        *index = Index {
            vars: sorted([(over_rows, along as i64), (columns.var, 1)]),
            ..Index::default()
        };
    }
    if copies.is_empty() {
        return None;
    }
    tile.body.splice(0..0, copies);
    Some(())
}

fn sorted(mut terms: [(VarId, i64); 2]) -> Vec<(VarId, i64)> {
    terms.sort();
    terms.to_vec()
}

/// `to[row, column] = from` for a tile, along the rows of the tile, which are neighbours in `from`.
fn copy(
    (mem, index, over_rows, over_columns): (Mem, &Index, VarId, VarId),
    to: Mem,
    ty: Type,
    vars: &mut PrimaryMap<VarId, Var>,
    values: &mut PrimaryMap<ValueId, Type>,
) -> Loop {
    let [down, along] = [over_rows, over_columns].map(|v| vars[v].extent);
    let row = vars.push(Var { extent: down });
    let column = vars.push(Var { extent: along });
    let mut from = index.clone();
    for term in &mut from.vars {
        match term.0 {
            v if v == over_rows => term.0 = row,
            v if v == over_columns => term.0 = column,
            _ => {}
        }
    }
    from.vars.sort();
    let value = values.push(ty);
    let load = Stmt::Let {
        value,
        inst: Inst::Load { mem, index: from },
    };
    let store = Stmt::Store {
        mem: to,
        index: Index {
            vars: sorted([(row, along as i64), (column, 1)]),
            ..Index::default()
        },
        value,
    };
    let inner = Loop {
        var: row,
        vector: true,
        body: vec![load, store],
        carries: Vec::new(),
    };
    Loop {
        var: column,
        vector: false,
        body: vec![Stmt::Loop(inner)],
        carries: Vec::new(),
    }
}
