//! The text form of a graph, to read: one line a node, with its origin behind `;` where it changes.
//!
//! ```text
//! t3: f32[4, 9] = exp t2                ; y = aten._softmax.default
//! ```
//!
//! Strides follow the sizes where they are not the contiguous ones; `in memory` marks a view or
//! constant that must be copied out.

use super::strided::contiguous;
use super::{Graph, GraphOutput, Meta, Narrow, NodeId, Op, View};
use ipex_runtime::plan::Route;
use std::fmt::{self, Display, Formatter};

/// Column of the comments.
const COMMENT: usize = 60;

impl Display for Graph {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut origin = 0;
        for (id, node) in &self.nodes {
            let line = self.line(id);
            if node.origin != origin && node.origin != 0 {
                writeln!(f, "{line:<COMMENT$} ; {}", self.origin(id))?;
            } else {
                writeln!(f, "{line}")?;
            }
            origin = node.origin;
        }
        let outputs: Vec<String> = self.outputs.iter().map(ToString::to_string).collect();
        writeln!(f, "return {}", outputs.join(", "))
    }
}

impl Graph {
    fn line(&self, id: NodeId) -> String {
        let node = &self.nodes[id];
        let results = node.results.iter();
        let results: Vec<String> = results
            .map(|&v| format!("{v}: {}", self.values[v]))
            .collect();
        let operands: Vec<String> = node.operands.iter().map(ToString::to_string).collect();
        let copied = if self.forced.contains(id) {
            ", in memory"
        } else {
            ""
        };
        let operands = operands.join(", ");
        let line = format!("{} = {} {operands}", results.join(", "), node.op);
        format!("{}{copied}", line.trim_end())
    }
}

impl Display for Meta {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.dtype() {
            Some(dtype) => write!(f, "{dtype}{:?}", self.sizes)?,
            None => write!(f, "ScalarType{}{:?}", self.scalar_type, self.sizes)?,
        }
        if self.strides != contiguous(&self.sizes) {
            write!(f, " strides {:?}", self.strides)?;
        }
        Ok(())
    }
}

impl Display for Op {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Op::Input(n) => write!(f, "input {n}"),
            Op::Full(c) => write!(f, "full {c}"),
            Op::Iota { dim, start, step } => write!(f, "iota along {dim} from {start} by {step}"),
            Op::Unary(op) => op.fmt(f),
            Op::Binary(op) => op.fmt(f),
            Op::Fma => f.write_str("fma"),
            Op::Compare(op) => op.fmt(f),
            Op::Select => f.write_str("select"),
            Op::Convert { narrow } => f.write_str(match narrow {
                Narrow::No => "copy",
                Narrow::Result => "result",
                Narrow::Cast => "convert",
            }),
            Op::View(View::Reshape) => f.write_str("reshape"),
            Op::View(View::Permute(perm)) => write!(f, "permute {perm:?}"),
            Op::View(View::Slice { start, step }) => write!(f, "slice from {start:?} by {step:?}"),
            Op::View(View::Expand) => f.write_str("expand"),
            Op::Reduce { op, dims } => write!(f, "{op} over {dims:?}"),
            Op::ArgReduce { op, dims } => write!(f, "position of {op} over {dims:?}"),
            Op::Scan { op, dim } => write!(f, "scan {op} along {dim}"),
            Op::IndexSelect { dims, rule } => write!(f, "index_select along {dims:?}, {rule:?}"),
            Op::Gather { dim, .. } => write!(f, "gather along {dim}"),
            Op::Cat { dim } => write!(f, "cat along {dim}"),
            Op::Pad {
                before,
                after,
                value,
            } => write!(f, "pad with {value} before {before:?} after {after:?}"),
            Op::Assign => f.write_str("assign"),
            Op::External { name, route, .. } => {
                let by = match route {
                    Route::OutFunction { symbol } => symbol,
                    Route::Convolution(..)
                    | Route::Joined { .. }
                    | Route::Bytes(_)
                    | Route::Attention(_)
                    | Route::Bag(..) => "ipex",
                    Route::Dispatcher { .. } => "the dispatcher",
                    Route::Python { .. } => "Python",
                };
                write!(f, "call {name} by {by}")
            }
        }
    }
}

impl Display for GraphOutput {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            GraphOutput::Value(v) => v.fmt(f),
            GraphOutput::None => f.write_str("none"),
            GraphOutput::Int(i) => i.fmt(f),
            GraphOutput::Float(x) => write!(f, "{x:?}"),
            GraphOutput::Bool(b) => b.fmt(f),
        }
    }
}
