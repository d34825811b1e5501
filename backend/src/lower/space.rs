//! The iteration space of a kernel: rows, and the columns that its reductions run over.

use super::index::AffineExpr;
use crate::fusion::refusal::Refusal;
use crate::graph::{Graph, NodeId, Op, ValueId};
use cranelift_entity::{EntitySet, PrimaryMap};
use ipex_jit::kernel::{Var, VarId};

/// Which of the two index spaces a loop belongs to, and the dimension of it that it runs along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// A dimension that every reduction keeps (all of them in a pointwise kernel).
    Row(usize),
    /// A dimension that the reductions remove, or that scans run along.
    Col(usize),
}

/// A loop: `index[axis] += stride * var`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopSpec {
    /// What it runs along.
    pub axis: Axis,
    /// Number of iterations.
    pub extent: i64,
    /// Step within the dimension (a split dimension has several loops).
    pub stride: i64,
}

/// The iteration space.
#[derive(Clone, Debug)]
pub struct Space {
    /// Sizes of the kept dimensions.
    pub rows: Vec<i64>,
    /// Sizes of the reduced (or scanned) dimensions.
    pub cols: Vec<i64>,
    /// The dims of the reduced operand that are columns; rows are the others.
    pub dims: Vec<usize>,
    /// Loops over rows from outside in, then loops over columns from outside in. Extents are > 1.
    pub loops: Vec<LoopSpec>,
    /// Whether lanes run over the innermost row loop (else over columns): the dimension that is
    /// contiguous in memory.
    pub vector_rows: bool,
}

impl Space {
    /// The space of a group: that of its first reduction or scan, or of its first root without one.
    pub fn of(graph: &Graph, group: &EntitySet<NodeId>, root: ValueId) -> Space {
        let reduction = graph.nodes.iter().find_map(|(id, node)| match &node.op {
            Op::Reduce { dims, .. } | Op::ArgReduce { dims, .. } if group.contains(id) => {
                Some((node.operands[0], dims.clone()))
            }
            Op::Scan { dim, .. } if group.contains(id) => Some((node.operands[0], vec![*dim])),
            _ => None,
        });
        let (shape_of, dims) = reduction.unwrap_or((root, Vec::new()));
        let meta = &graph.values[shape_of];
        let mut order: Vec<usize> = (0..meta.sizes.len()).collect();
        order.sort_by_key(|&d| std::cmp::Reverse(meta.strides[d]));
        let inner = order.iter().rev().find(|&&d| meta.sizes[d] != 1);
        let vector_rows = inner.is_none_or(|d| !dims.contains(d));
        let is_col = |d: &usize| dims.contains(d);
        let loops_along = |cols: bool| -> Vec<LoopSpec> {
            let along = order
                .iter()
                .filter(|d| is_col(d) == cols && meta.sizes[**d] != 1);
            let spec = |&d: &usize| {
                let k = (0..d).filter(|k| is_col(k) == cols).count();
                let axis = if cols { Axis::Col(k) } else { Axis::Row(k) };
                LoopSpec {
                    axis,
                    extent: meta.sizes[d],
                    stride: 1,
                }
            };
            along.map(spec).collect()
        };
        let sizes_of = |cols: bool| {
            let along = (0..meta.sizes.len()).filter(|d| is_col(d) == cols);
            along.map(|d| meta.sizes[d]).collect()
        };
        Space {
            rows: sizes_of(false),
            cols: sizes_of(true),
            loops: [loops_along(false), loops_along(true)].concat(),
            vector_rows,
            dims: dims.clone(),
        }
    }

    /// Sizes of the reduced operand.
    pub fn full_sizes(&self) -> Vec<i64> {
        let (mut r, mut c) = (self.rows.iter(), self.cols.iter());
        (0..self.rows.len() + self.cols.len())
            .filter_map(|d| {
                if self.dims.contains(&d) {
                    c.next()
                } else {
                    r.next()
                }
            })
            .copied()
            .collect()
    }

    /// Number of rows.
    pub fn row_count(&self) -> i64 {
        self.rows.iter().product()
    }

    /// Number of columns.
    pub fn col_count(&self) -> i64 {
        self.cols.iter().product()
    }

    /// Splits loop `k` into `extent / inner` times `inner`.
    pub fn split(&mut self, k: usize, inner: i64) {
        let LoopSpec {
            axis,
            extent,
            stride,
        } = self.loops[k];
        self.loops[k] = LoopSpec {
            axis,
            extent: extent / inner,
            stride: stride * inner,
        };
        self.loops.insert(
            k + 1,
            LoopSpec {
                axis,
                extent: inner,
                stride,
            },
        );
    }

    /// Fresh variables for the loops over columns (or rows), and the index they make. Each
    /// variable's loop is noted in `origin`.
    pub fn index(
        &self,
        cols: bool,
        vars: &mut PrimaryMap<VarId, Var>,
        origin: &mut Vec<Option<usize>>,
    ) -> (Vec<VarId>, Vec<AffineExpr>) {
        let sizes = if cols { &self.cols } else { &self.rows };
        let mut index = vec![AffineExpr::default(); sizes.len()];
        let mut made = Vec::new();
        for (k, spec) in self.loops.iter().enumerate() {
            let dim = match spec.axis {
                Axis::Row(d) if !cols => d,
                Axis::Col(d) if cols => d,
                _ => continue,
            };
            let var = vars.push(Var {
                extent: spec.extent as u64,
            });
            origin.push(Some(k));
            index[dim] = index[dim].add_scaled(&AffineExpr::var(var), spec.stride);
            made.push(var);
        }
        (made, index)
    }

    /// The index of the reduced operand that rows and columns make together. `dims` are the
    /// reduced ones; their sizes must be this space's columns.
    pub fn join(
        &self,
        rows: &[AffineExpr],
        cols: &[AffineExpr],
        sizes: &[i64],
        dims: &[usize],
    ) -> Result<Vec<AffineExpr>, Refusal> {
        let reduced: Vec<i64> = dims.iter().map(|&d| sizes[d]).collect();
        // Of as many rows as columns, the others are no columns either.
        let across = dims != self.dims && sizes == self.full_sizes();
        if reduced != self.cols || across {
            return Err(Refusal::Columns {
                expected: self.cols.clone(),
                found: reduced,
            });
        }
        let (mut r, mut c) = (rows.iter(), cols.iter());
        (0..sizes.len())
            .map(|d| {
                if dims.contains(&d) {
                    c.next()
                } else {
                    r.next()
                }
            })
            .map(|e| e.cloned().ok_or(Refusal::Shapes))
            .collect()
    }
}
