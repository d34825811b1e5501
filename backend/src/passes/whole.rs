//! Reductions of few long rows, of a whole tensor above all: in two stages, parts of neighbours and then the parts. Threads
//! share the parts; short sums of sums err less than a long one; and the result does not depend on the number of threads.
//!
//! Positions of extrema are asked of each row (or part) as the least place that has its extremum, which vectors can compute
//! where a reduction that carries positions goes element by element.

use super::columns::cheap;
use super::rewrite::Rewrite;
use crate::fusion::refusal::Refusal;
use crate::graph::builder::Builder;
use crate::graph::strided::contiguous;
use crate::graph::{Graph, Meta, Node, Op, ValueId, View};
use ipex_jit::kernel::{BinaryOp, CmpOp, ReduceOp, Type, UnaryOp};
use ipex_runtime::DType;

/// Fewest and most elements of a part: many sums in a row of it, which fits in the first-level cache.
const PART: std::ops::RangeInclusive<i64> = 128..=8192;
/// Elements of a part where no such number divides all of them.
const UNEVEN: i64 = 4096;
/// Elements that one thread reduces in about 13 us: below, a second thread costs what it gains.
const SHARED: i64 = 1 << 18;
/// As many rows as this have a thread each as they are, unless they are longer than what a thread's cache holds.
const FEW: i64 = 8;
const LONG: i64 = 1 << 20;

/// Gives long reductions two stages, and positions a form for vectors.
pub fn whole(graph: &Graph) -> Graph {
    let mut new = Rewrite::new(graph);
    for node in graph.nodes.values() {
        let done = match &node.op {
            Op::Reduce { op, dims } => new.in_parts(node, *op, dims),
            Op::ArgReduce { op, dims } => new.position(node, *op, dims).ok().flatten(),
            _ => None,
        };
        match done {
            Some(value) => new.map[node.results[0]] = Some(value),
            None => new.copy(node),
        }
    }
    new.finish()
}

/// The rows of a reduction, if they lie one behind the other, and the sizes of a row.
fn rows(meta: &Meta, dims: &[usize]) -> Option<(i64, Vec<i64>)> {
    let mut inner = Vec::new();
    let mut rows = 1;
    for (d, &size) in meta.sizes.iter().enumerate() {
        match dims.contains(&d) {
            true => inner.push(size),
            false if size == 1 => {}
            false if inner.iter().any(|&n| n != 1) => return None,
            false => rows *= size,
        }
    }
    Some((rows, inner))
}

/// Elements of a part of such a row, if it is one of the few that threads should share.
fn part(rows: i64, inner: &[i64]) -> Option<i64> {
    let columns: i64 = inner.iter().product();
    let many = match rows {
        1 => columns >= SHARED,
        2..=FEW => columns >= LONG,
        _ => false,
    };
    many.then(|| part_of(inner, *PART.end())).flatten()
}

/// Elements of a part of a row of these sizes, `most` at most: whole trailing dims, and a divisor of the next one, so that
/// loops over parts are loops over dims.
pub fn part_of(inner: &[i64], most: i64) -> Option<i64> {
    let mut part = 1;
    for &size in inner.iter().rev() {
        if part * size <= most {
            part *= size;
            continue;
        }
        let divides = |n: &i64| size % n == 0;
        part *= (1..=most / part).rev().find(divides)?;
        break;
    }
    PART.contains(&part).then_some(part)
}

impl Rewrite<'_> {
    /// The reduction in stages.
    fn in_parts(&mut self, node: &Node, op: ReduceOp, dims: &[usize]) -> Option<ValueId> {
        let operand = node.operands[0];
        let meta = &self.old.values[operand];
        // The order of all of a dense tensor's elements is that of memory.
        let mut order: Vec<usize> = (0..meta.sizes.len()).collect();
        let all = dims.len() == order.len();
        if meta.strides != contiguous(&meta.sizes) {
            order.sort_by_key(|&d| std::cmp::Reverse(meta.strides[d]));
            let sorted = |of: &[i64]| -> Vec<i64> { order.iter().map(|&d| of[d]).collect() };
            if !all || sorted(&meta.strides) != contiguous(&sorted(&meta.sizes)) {
                return None;
            }
        }
        let turned = Meta {
            sizes: order.iter().map(|&d| meta.sizes[d]).collect(),
            ..meta.clone()
        };
        let (rows, mut inner) = rows(&turned, dims)?;
        let Some(first) = part(rows, &inner) else {
            let (alone, in_order) = (rows == 1 && all, order.is_sorted());
            return (alone && in_order)
                .then(|| self.unevenly(node, op))
                .flatten();
        };
        let kept = self.old.values[node.results[0]].clone();
        let mut value = self.at(operand);
        let mut b = self.builder(node.origin);
        if !order.is_sorted() {
            value = b.permute(value, &order);
        }
        let mut size = Some(first);
        while let Some(n) = size {
            let parts = inner.iter().product::<i64>() / n;
            value = b.reshape(value, &[rows, parts, n]);
            value = b.reduce(op, value, &[2]).ok()?;
            inner = vec![parts];
            size = part(rows, &inner);
        }
        value = b.reduce(op, value, &[1]).ok()?;
        value = b.reshape(value, &kept.sizes);
        b.graph.values[value].strides = kept.strides;
        Some(value)
    }

    /// The reduction of all elements, which no part divides: as many parts as there are whole ones, and what is left.
    fn unevenly(&mut self, node: &Node, op: ReduceOp) -> Option<ValueId> {
        let (operand, result) = (node.operands[0], node.results[0]);
        let n = self.old.values[operand].numel();
        let (whole, both) = (n / UNEVEN * UNEVEN, binary_of(op)?);
        // Both read what is in memory: neither has the other's elements.
        let nodes = cheap(self.old, operand).filter(|_| n >= SHARED)?;
        let kept = self.old.values[result].clone();
        let mut slice = |start: i64, size: i64| {
            let value = self.again(&nodes, operand);
            let mut b = self.builder(node.origin);
            let value = b.reshape(value, &[n]);
            let meta = Meta {
                sizes: vec![size],
                ..b.graph.values[value].clone()
            };
            let (start, step) = (vec![start], vec![1]);
            b.push(Op::View(View::Slice { start, step }), &[value], meta)
        };
        let (value, rest) = (slice(0, whole), slice(whole, n - whole));
        let mut b = self.builder(node.origin);
        let value = b.reshape(value, &[whole / UNEVEN, UNEVEN]);
        let value = b.reduce(op, value, &[1]).ok()?;
        let value = b.reduce(op, value, &[0]).ok()?;
        let rest = b.reduce(op, rest, &[0]).ok()?;
        let value = b.binary(both, value, rest).ok()?;
        let value = b.reshape(value, &kept.sizes);
        b.graph.values[value].strides = kept.strides;
        Some(value)
    }

    /// The first place of an extremum (or of a NaN), where rows lie in memory.
    fn position(
        &mut self,
        node: &Node,
        op: ReduceOp,
        dims: &[usize],
    ) -> Result<Option<ValueId>, Refusal> {
        let operand = node.operands[0];
        let meta = &self.old.values[operand];
        let Some((rows, inner)) = rows(meta, dims) else {
            return Ok(None);
        };
        let columns: i64 = inner.iter().product();
        let fits = dims.len() == 1 && columns > 1 && columns < i64::from(i32::MAX);
        if !fits || meta.ty() == Some(Type::Bool) || meta.strides != contiguous(&meta.sizes) {
            return Ok(None);
        }
        let kept = self.old.values[node.results[0]].clone();
        let value = self.at(operand);
        let mut b = self.builder(node.origin);
        let parted = part(rows, &inner);
        let n = parted.unwrap_or(columns);
        let parts = columns / n;
        let value = b.reshape(value, &[rows * parts, n]);
        let (most, at) = first_place(&mut b, value, op)?;
        let at = b.convert(at, DType::I64)?;
        let at = match parted {
            None => at,
            Some(_) => {
                let (most, at) = (
                    b.reshape(most, &[rows, parts]),
                    b.reshape(at, &[rows, parts]),
                );
                let start = b.iota(&[rows, parts], 1, 0, n);
                let at = b.binary(BinaryOp::Add, start, at)?;
                least_where_equal(&mut b, most, op, at)?.1
            }
        };
        let at = b.reshape(at, &kept.sizes);
        b.graph.values[at].strides = kept.strides;
        Ok(Some(at))
    }
}

/// What puts two results together.
fn binary_of(op: ReduceOp) -> Option<BinaryOp> {
    Some(match op {
        ReduceOp::Sum => BinaryOp::Add,
        ReduceOp::Prod => BinaryOp::Mul,
        ReduceOp::Min => BinaryOp::Min,
        ReduceOp::Max => BinaryOp::Max,
        ReduceOp::Any | ReduceOp::All => return None,
    })
}

/// Each row's extremum, and where it is first, as an `i32`.
fn first_place(
    b: &mut Builder,
    rows: ValueId,
    op: ReduceOp,
) -> Result<(ValueId, ValueId), Refusal> {
    let sizes = b.sizes(rows);
    let place = b.iota(&sizes, 1, 0, 1);
    let place = b.convert(place, DType::I32)?;
    least_where_equal(b, rows, op, place)
}

/// Each row's extremum, and the least of what belongs to elements that are equal to it, or to NaN if one is.
fn least_where_equal(
    b: &mut Builder,
    rows: ValueId,
    op: ReduceOp,
    place: ValueId,
) -> Result<(ValueId, ValueId), Refusal> {
    let sizes = b.sizes(rows);
    let most = b.reduce(op, rows, &[1])?;
    let spread = b.spread(most, &[1], &sizes);
    let mut found = b.compare(CmpOp::Eq, rows, spread);
    if b.dtype(rows)?.is_float() {
        let nan = b.unary(UnaryOp::IsNan, rows)?;
        found = b.binary(BinaryOp::Or, found, nan)?;
    }
    // No place is as large.
    let beyond = b.full(b.dtype(place)?, &sizes, f64::from(i32::MAX));
    let place = b.select(found, place, beyond);
    Ok((most, b.reduce(ReduceOp::Min, place, &[1])?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{GraphOutput, Origin, verify};
    use crate::passes::dce::dce;

    fn reduced(op: Op, sizes: &[i64], strides: &[i64], kept: &[i64]) -> Graph {
        let mut g = Graph::default();
        let meta = |sizes: &[i64], strides: &[i64], scalar_type| Meta {
            scalar_type,
            sizes: sizes.to_vec(),
            strides: strides.to_vec(),
        };
        let places = matches!(op, Op::ArgReduce { .. });
        let x = g.push(Op::Input(0), vec![], meta(sizes, strides, 6), 0);
        let of = meta(kept, &contiguous(kept), if places { 4 } else { 6 });
        let y = g.push(op, vec![x], of, 0);
        g.outputs.push(GraphOutput::Value(y));
        g.origins.push(Origin::default());
        g.num_inputs = 1;
        verify(&g).unwrap();
        let new = dce(&whole(&g));
        verify(&new).unwrap();
        new
    }

    /// Sizes that the reductions leave.
    fn stages(dims: &[usize], sizes: &[i64], strides: &[i64]) -> Vec<Vec<i64>> {
        let kept = (0..sizes.len()).filter(|d| !dims.contains(d));
        let kept: Vec<i64> = kept.map(|d| sizes[d]).collect();
        let (op, dims) = (ReduceOp::Sum, dims.to_vec());
        let g = reduced(Op::Reduce { op, dims }, sizes, strides, &kept);
        let sums = g.nodes.values();
        let sums = sums.filter(|n| matches!(n.op, Op::Reduce { .. }));
        sums.map(|n| g.values[n.results[0]].sizes.clone()).collect()
    }

    #[test]
    fn long_rows_are_reduced_in_parts() {
        let of = |dims: &[usize], sizes: &[i64]| stages(dims, sizes, &contiguous(sizes));
        let none: &[i64] = &[];
        assert_eq!(of(&[0], &[SHARED]), [vec![1, 32], vec![1]]);
        assert_eq!(of(&[0], &[SHARED - 64]), [none], "one thread is as fast");
        assert_eq!(of(&[0, 1], &[1000, 300]), [vec![1, 40], vec![1]]);
        assert_eq!(of(&[1], &[4, LONG]), [vec![4, 128], vec![4]]);
        assert_eq!(of(&[1], &[9, LONG]), [[9]], "a thread for each row");
        assert_eq!(of(&[1], &[4, SHARED]), [[4]], "rows that fit in a cache");
        assert_eq!(of(&[0], &[LONG, 4]), [[4]], "along columns");
        let stages = [vec![1, 1 << 19], vec![1, 64], vec![1]];
        assert_eq!(of(&[0], &[1 << 32]), stages, "parts of parts");
        let uneven = [vec![64], vec![], vec![]];
        assert_eq!(of(&[0], &[SHARED + 3]), uneven, "a prime number");
    }

    #[test]
    fn dense_tensors_are_reduced_in_memory_order() {
        let sizes = [8, 64, 32, 32];
        let last = [65536, 1, 2048, 64];
        assert_eq!(stages(&[0, 1, 2, 3], &sizes, &last), [vec![1, 64], vec![1]]);
        let none: &[i64] = &[];
        let gaps = [131072, 2, 4096, 128];
        assert_eq!(stages(&[0, 1, 2, 3], &sizes, &gaps), [none]);
        assert_eq!(stages(&[1, 2, 3], &sizes, &last), [[8]]);
        assert_eq!(stages(&[1], &[LONG, 4], &[1, LONG]), [[LONG]]);
    }

    #[test]
    fn places_are_least_ones_of_extrema() {
        let count = |g: &Graph, is: fn(&Op) -> bool| {
            let nodes = g.nodes.values();
            nodes.filter(|n| is(&n.op)).count()
        };
        let carried: fn(&Op) -> bool = |op| matches!(op, Op::ArgReduce { .. });
        let apart: fn(&Op) -> bool = |op| matches!(op, Op::Reduce { .. });
        let of = |sizes: &[i64], dim: usize, kept: &[i64]| {
            let (op, dims) = (ReduceOp::Max, vec![dim]);
            let g = reduced(Op::ArgReduce { op, dims }, sizes, &contiguous(sizes), kept);
            (count(&g, carried), count(&g, apart))
        };
        assert_eq!(of(&[30, 40], 1, &[30]), (0, 2));
        assert_eq!(of(&[SHARED], 0, &[]), (0, 4), "of parts, then of all");
        assert_eq!(of(&[30, 40], 0, &[40]), (1, 0), "along columns");
    }
}
