//! Bytes behind a dequantised matrix.

use super::NotBytes;
use crate::graph::{Graph, Meta, Op, ValueId, View};
use ipex_jit::kernel::{BinaryOp, Const};
use ipex_runtime::DType;

/// Operators between a product and the bytes, at most.
const DEPTH: usize = 16;

/// Which elements of a matrix share an element of a factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// All.
    One,
    /// Those of a row (of the left matrix) or column (of the right one), in order.
    Each,
    /// As many elements along the sum; groups of one row or column are neighbours, or all have the same ones.
    Groups,
}

/// What bytes are multiplied by, or have subtracted.
#[derive(Clone, Debug, PartialEq)]
pub enum Factor {
    Number(f64),
    Tensor {
        source: ValueId,
        spread: Spread,
        /// Its elements as integers, if they are such.
        integers: Option<ValueId>,
    },
}

impl Factor {
    /// Whether it changes along the sum.
    pub fn is_of_groups(&self) -> bool {
        matches!(
            self,
            Factor::Tensor {
                spread: Spread::Groups,
                ..
            }
        )
    }

    /// Whether all are integers, of 32 bits.
    pub fn is_integer(&self) -> bool {
        match *self {
            Factor::Number(x) => x.fract() == 0.0 && x.abs() <= f64::from(1 << 24),
            Factor::Tensor { integers, .. } => integers.is_some(),
        }
    }
}

/// `(bytes - zero) * scales` is a matrix.
#[derive(Clone, Debug)]
pub struct Bytes {
    pub value: ValueId,
    /// What makes the matrix's places of the bytes', the last one first.
    pub views: Vec<(View, Meta)>,
    pub zero: Option<Factor>,
    pub scales: Vec<Factor>,
    /// Elements along the sum that share factors, if some change along it: then the bytes' rows lie along the sum.
    pub group: Option<i64>,
}

impl Bytes {
    fn of_groups(&self) -> bool {
        self.zero
            .iter()
            .chain(&self.scales)
            .any(Factor::is_of_groups)
    }
}

/// The bytes of a matrix that is summed along dimension `along`; none if it is not made of bytes.
pub fn find(graph: &Graph, matrix: ValueId, along: usize) -> Option<Result<Bytes, NotBytes>> {
    if !leads(graph, matrix, DEPTH) {
        return None;
    }
    let mut walk = Walk {
        graph,
        at: matrix,
        along: Some(Along::Whole(along)),
        group: None,
        found: Bytes {
            value: matrix,
            views: Vec::new(),
            zero: None,
            scales: Vec::new(),
            group: None,
        },
    };
    Some(walk.run().map(|()| walk.found))
}

fn is_bytes(graph: &Graph, v: ValueId) -> bool {
    matches!(graph.values[v].dtype(), Some(DType::I8 | DType::U8))
}

/// Whether a value is made of bytes by arithmetic that dequantisation may have.
fn leads(graph: &Graph, v: ValueId, depth: usize) -> bool {
    if is_bytes(graph, v) {
        return true;
    }
    let node = graph.producer(v);
    let deeper = |&v: &ValueId| depth > 0 && leads(graph, v, depth - 1);
    match node.op {
        Op::View(_) | Op::Convert { .. } => node.operands.iter().any(deeper),
        Op::Binary(BinaryOp::Mul | BinaryOp::Sub | BinaryOp::Add | BinaryOp::Div) => {
            node.operands.iter().any(deeper)
        }
        _ => false,
    }
}

struct Walk<'a> {
    graph: &'a Graph,
    at: ValueId,
    /// The dimension that is summed, if it is one of this value, and the others are in the matrix's order.
    along: Option<Along>,
    /// Elements of a group, once there are such.
    group: Option<i64>,
    found: Bytes,
}

/// Where the elements that are summed are among the dimensions of a value.
#[derive(Clone, Copy, Debug)]
enum Along {
    /// A dimension.
    Whole(usize),
    /// A dimension of groups, and the next one of their elements.
    Groups(usize),
    /// The second dimension has the elements of a group, the first one all groups of so many rows.
    Flat(i64),
}

impl Walk<'_> {
    fn run(&mut self) -> Result<(), NotBytes> {
        while !is_bytes(self.graph, self.at) {
            let node = self.graph.producer(self.at);
            self.at = match &node.op {
                Op::View(view) => {
                    self.view(view, node.operands[0])?;
                    node.operands[0]
                }
                Op::Convert { .. } => {
                    self.convert(node.operands[0])?;
                    node.operands[0]
                }
                Op::Binary(BinaryOp::Mul) => {
                    let [x, y] = [node.operands[0], node.operands[1]];
                    let (inner, scale) = match leads(self.graph, x, DEPTH) {
                        true => (x, y),
                        false => (y, x),
                    };
                    self.scale(scale)?;
                    inner
                }
                Op::Binary(BinaryOp::Sub) if leads(self.graph, node.operands[0], DEPTH) => {
                    self.zero(node.operands[1])?;
                    node.operands[0]
                }
                _ => return Err(self.between()),
            };
        }
        self.found.value = self.at;
        if !self.found.of_groups() {
            return Ok(());
        }
        self.found.group = self.group;
        let rank = self.graph.values[self.at].sizes.len();
        match self.along {
            Some(Along::Whole(d)) if d + 1 == rank => Ok(()),
            Some(Along::Groups(d)) if d + 2 == rank => Ok(()),
            Some(Along::Flat(_)) => Ok(()),
            _ => Err(NotBytes::Along),
        }
    }

    fn between(&self) -> NotBytes {
        let graph = self.graph;
        let origin = graph.producer(self.at).origin as usize;
        NotBytes::Between(graph.origins[origin].node.clone())
    }

    fn view(&mut self, view: &View, from: ValueId) -> Result<(), NotBytes> {
        let (from, to) = (&self.graph.values[from], &self.graph.values[self.at]);
        self.found.views.push((view.clone(), to.clone()));
        self.along = match view {
            View::Permute(perm) => self.along.and_then(|along| permuted(along, perm)),
            View::Reshape => self
                .along
                .and_then(|along| reshaped(along, &from.sizes, &to.sizes)),
            View::Slice { .. } => None,
            View::Expand => return Err(self.between()),
        };
        self.group = match self.along {
            Some(Along::Groups(d)) => Some(from.sizes[d + 1]),
            Some(Along::Flat(_)) => Some(from.sizes[1]),
            _ => self.group,
        };
        Ok(())
    }

    /// Integers that become floats, or floats of another type: what is between keeps what a byte can be.
    fn convert(&mut self, from: ValueId) -> Result<(), NotBytes> {
        let dtype = |v: ValueId| self.graph.values[v].dtype();
        let (from, to) = (dtype(from), dtype(self.at));
        let (Some(from), Some(to)) = (from, to) else {
            return Err(self.between());
        };
        let wide = matches!(to, DType::I16 | DType::I32 | DType::I64);
        let keeps = match from {
            DType::I8 | DType::U8 => to.is_float() || wide,
            _ if from.is_float() => to.is_float(),
            _ => to.is_float() || (wide && to.size() >= from.size()),
        };
        if keeps { Ok(()) } else { Err(self.between()) }
    }

    fn scale(&mut self, scale: ValueId) -> Result<(), NotBytes> {
        let float = self.graph.values[self.at].dtype();
        if self.found.zero.is_some() || !float.is_some_and(DType::is_float) {
            return Err(self.between());
        }
        let factor = self.factor(scale)?;
        // The one next to the bytes comes first.
        self.found.scales.insert(0, factor);
        Ok(())
    }

    fn zero(&mut self, zero: ValueId) -> Result<(), NotBytes> {
        let dtype = self.graph.values[self.at].dtype();
        let fits = |d: DType| d.is_float() || matches!(d, DType::I32 | DType::I64);
        if self.found.zero.is_some() || !dtype.is_some_and(fits) {
            return Err(NotBytes::Zero);
        }
        self.found.zero = Some(self.factor(zero)?).filter(|z| *z != Factor::Number(0.0));
        Ok(())
    }

    /// What a broadcast operand is.
    fn factor(&self, v: ValueId) -> Result<Factor, NotBytes> {
        let graph = self.graph;
        let node = graph.producer(v);
        if let Op::Full(c) = node.op {
            return Ok(Factor::Number(number(c)));
        }
        let (source, sizes) = match node.op {
            Op::View(View::Expand) => (node.operands[0], &graph.values[node.operands[0]].sizes),
            _ => (v, &graph.values[v].sizes),
        };
        let whole = &graph.values[self.at].sizes;
        let spread = match self.along {
            _ if sizes.iter().all(|&n| n == 1) => Spread::One,
            Some(along) => spread(along, sizes, whole).ok_or(NotBytes::Along)?,
            None => return Err(NotBytes::Along),
        };
        Ok(Factor::Tensor {
            source,
            spread,
            integers: self.integers(source),
        })
    }

    /// A value of integers that a value was converted of, or that value itself, in the same order.
    fn integers(&self, v: ValueId) -> Option<ValueId> {
        let float = self.graph.values[v].dtype().is_none_or(DType::is_float);
        let node = self.graph.producer(v);
        match node.op {
            _ if !float => Some(v),
            Op::View(View::Reshape) | Op::Convert { .. } => self.integers(node.operands[0]),
            Op::View(_) => self.integers(node.operands[0]).map(|_| v),
            _ => None,
        }
    }
}

/// What a factor of these sizes is to a value of the sizes `whole`.
fn spread(along: Along, sizes: &[i64], whole: &[i64]) -> Option<Spread> {
    let same = |without: &[usize]| {
        let mut all = 0..whole.len();
        all.all(|d| without.contains(&d) || sizes[d] == whole[d])
    };
    match along {
        Along::Whole(k) if sizes[k] == 1 && same(&[k]) => Some(Spread::Each),
        Along::Groups(d) if sizes[d + 1] == 1 && sizes[d] == 1 && same(&[d, d + 1]) => {
            Some(Spread::Each)
        }
        Along::Groups(d) if sizes[d + 1] == 1 && sizes[d] == whole[d] => {
            let last = d + 2 == whole.len();
            let shared = sizes[..d].iter().all(|&n| n == 1);
            (last && (shared || same(&[d + 1]))).then_some(Spread::Groups)
        }
        Along::Flat(_) if sizes == [whole[0], 1] => Some(Spread::Groups),
        _ => None,
    }
}

/// What is summed of a value of which another is a permutation.
fn permuted(along: Along, perm: &[usize]) -> Option<Along> {
    let sorted = |without: &[usize]| {
        let others = perm.iter().filter(|d| !without.contains(d));
        others.is_sorted()
    };
    match along {
        Along::Whole(d) => sorted(&[perm[d]]).then_some(Along::Whole(perm[d])),
        Along::Groups(d) => {
            let (groups, elements) = (perm[d], perm[d + 1]);
            let kept = elements == groups + 1 && sorted(&[groups, elements]);
            kept.then_some(Along::Groups(groups))
        }
        Along::Flat(_) => perm.is_sorted().then_some(along),
    }
}

/// What is summed of a value of sizes `from` that has become one of sizes `to`.
fn reshaped(along: Along, from: &[i64], to: &[i64]) -> Option<Along> {
    let before = |sizes: &[i64], d: usize| sizes[..d].iter().product::<i64>();
    let pair = |rows: i64, size: [i64; 2]| {
        let mut starts = 0..from.len().saturating_sub(1);
        starts.find(|&j| from[j..j + 2] == size && before(from, j) == rows)
    };
    let split = |rows: i64, k: i64| {
        let mut starts = 0..from.len().saturating_sub(1);
        starts.find(|&j| from[j] * from[j + 1] == k && before(from, j) == rows)
    };
    match along {
        Along::Whole(d) => {
            let (rows, k) = (before(to, d), to[d]);
            let same = same_dim(from, to, d).map(Along::Whole);
            let flat = || match (from, to) {
                (&[all, size], &[n, k]) if d == 1 && size > 0 && k % size == 0 && n > 0 => {
                    (all == n * (k / size)).then_some(Along::Flat(n))
                }
                _ => None,
            };
            let groups = || split(rows, k).map(Along::Groups);
            same.or_else(groups).or_else(flat)
        }
        Along::Groups(d) => {
            let (rows, size) = (before(to, d), [to[d], to[d + 1]]);
            let k = size[0] * size[1];
            let whole = |&j: &usize| from[j] == k && before(from, j) == rows;
            let same = pair(rows, size).map(Along::Groups);
            same.or_else(|| (0..from.len()).find(whole).map(Along::Whole))
        }
        Along::Flat(n) => {
            let (groups, size) = (to[0] / n.max(1), to[1]);
            match *from {
                [rows, k] if rows == n && k == groups * size => Some(Along::Whole(1)),
                [rows, g, s] if rows == n && g == groups && s == size => Some(Along::Groups(1)),
                _ => None,
            }
        }
    }
}

/// Dimension `d` of the new sizes among the old ones, if it is one there and as many elements are before and after it.
fn same_dim(from: &[i64], to: &[i64], d: usize) -> Option<usize> {
    let before = |sizes: &[i64], d: usize| sizes[..d].iter().product::<i64>();
    let same = |&k: &usize| from[k] == to[d] && before(from, k) == before(to, d);
    (0..from.len()).find(same)
}

fn number(c: Const) -> f64 {
    match c {
        Const::F32(x) => f64::from(f32::from_bits(x)),
        Const::F64(x) => f64::from_bits(x),
        Const::I32(x) => f64::from(x),
        Const::I64(x) => x as f64,
        Const::Bool(x) => f64::from(u8::from(x)),
    }
}
