//! The bool behind a float mask: PyTorch gives a call of attention 0 where a bool mask is true and -inf where it is
//! false. The kernel reads the bool itself.

use super::pattern::number;
use crate::graph::{Graph, Node, Op, ValueId, View};
use ipex_runtime::DType;
use ipex_runtime::attention::{MaskKind, Rule};
use ipex_runtime::plan::Route;

/// Place of the mask among an attention's operands.
pub const PLACE: usize = 3;

/// A bool, and the views that make the mask's shape of it.
pub struct BoolMask {
    /// What is true where nothing is masked.
    pub value: ValueId,
    /// The views and their sizes, the first one first.
    pub views: Vec<(View, Vec<i64>)>,
}

/// The bool mask of a call of attention, if a float one was made of it.
pub fn of_bool(graph: &Graph, node: &Node) -> Option<BoolMask> {
    let Op::External {
        route:
            Route::Attention(Rule {
                mask: Some(MaskKind::Add),
                ..
            }),
        ..
    } = node.op
    else {
        return None;
    };
    let dtype = |v: ValueId| graph.values[v].dtype();
    let float = |v: ValueId| dtype(v).is_some_and(|d| d.is_float());
    let mut v = *node.operands.get(PLACE)?;
    let mut views = Vec::new();
    loop {
        let made = graph.producer(v);
        match (&made.op, made.operands.as_slice()) {
            (Op::View(view), &[from]) => {
                views.push((view.clone(), graph.values[v].sizes.clone()));
                v = from;
            }
            (Op::Convert { .. }, &[from]) if float(v) && float(from) => v = from,
            (Op::Select, &[value, kept, masked]) => {
                let numbers = [kept, masked].map(|v| number(graph, v));
                let is_mask = numbers == [Some(0.0), Some(f64::NEG_INFINITY)]
                    && dtype(value) == Some(DType::Bool);
                views.reverse();
                return is_mask.then_some(BoolMask { value, views });
            }
            _ => return None,
        }
    }
}
