//! Values that lie in memory as a strided view of another value.

use super::{Graph, Meta, Op, ValueId, View};

/// A view of a value that is (or will be) in memory. Strides and offset in elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strided {
    /// The value that owns the memory.
    pub base: ValueId,
    /// Sizes.
    pub sizes: Vec<i64>,
    /// Strides.
    pub strides: Vec<i64>,
    /// First element.
    pub offset: i64,
}

/// How `value` lies in the memory of a value for which `in_memory` holds; `None` if its chain of
/// views needs a copy.
pub fn strided(
    graph: &Graph,
    value: ValueId,
    in_memory: &impl Fn(ValueId) -> bool,
) -> Option<Strided> {
    let meta = &graph.values[value];
    if in_memory(value) {
        return Some(Strided {
            base: value,
            sizes: meta.sizes.clone(),
            strides: meta.strides.clone(),
            offset: 0,
        });
    }
    let node = &graph.nodes[graph.producers[value]];
    let Op::View(view) = &node.op else {
        return None;
    };
    let inner = strided(graph, node.operands[0], in_memory)?;
    apply(view, inner, &meta.sizes)
}

fn apply(view: &View, inner: Strided, sizes: &[i64]) -> Option<Strided> {
    let Strided {
        base,
        sizes: from,
        mut strides,
        mut offset,
    } = inner;
    match view {
        View::Permute(perm) => strides = perm.iter().map(|&p| strides[p]).collect(),
        View::Slice { start, step } => {
            for ((stride, &start), &step) in strides.iter_mut().zip(start).zip(step) {
                if step < 0 {
                    return None; // ATen has no negative strides
                }
                offset += start * *stride;
                *stride *= step;
            }
        }
        View::Expand => {
            for (stride, (&f, &t)) in strides.iter_mut().zip(from.iter().zip(sizes)) {
                if f == 1 && t != 1 {
                    *stride = 0;
                }
            }
        }
        View::Reshape => strides = reshape_strides(&from, &strides, sizes)?,
    }
    Some(Strided {
        base,
        sizes: sizes.to_vec(),
        strides,
        offset,
    })
}

/// The strides of a reshape without a copy, as `torch.Tensor.view` finds them.
pub fn reshape_strides(from: &[i64], strides: &[i64], to: &[i64]) -> Option<Vec<i64>> {
    if from.contains(&0) {
        return Some(contiguous(to));
    }
    // Runs of dims that lie in memory like one dim: numel and innermost stride, innermost first.
    let mut runs: Vec<(i64, i64)> = Vec::new();
    for (&n, &stride) in from.iter().zip(strides).rev().filter(|(n, _)| **n != 1) {
        match runs.last_mut() {
            Some((numel, inner)) if stride == *numel * *inner => *numel *= n,
            _ => runs.push((n, stride)),
        }
    }
    let mut result = vec![1; to.len()];
    let mut runs = runs.into_iter();
    let (mut left, mut stride) = (1, 1);
    for (slot, &n) in result.iter_mut().zip(to).rev() {
        if left == 1 && n != 1 {
            (left, stride) = runs.next()?;
        }
        if left % n != 0 {
            return None;
        }
        *slot = stride;
        stride *= n;
        left /= n;
    }
    Some(result)
}

/// Whether a tensor lies in row-major order without gaps.
pub fn row_major(meta: &Meta) -> bool {
    let expected = contiguous(&meta.sizes);
    let mut dims = meta.sizes.iter().zip(meta.strides.iter().zip(&expected));
    dims.all(|(&n, (s, e))| n == 1 || s == e)
}

/// Row-major strides.
pub fn contiguous(sizes: &[i64]) -> Vec<i64> {
    let mut strides = vec![1; sizes.len()];
    for k in (1..sizes.len()).rev() {
        strides[k - 1] = strides[k] * sizes[k].max(1);
    }
    strides
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reshapes_without_a_copy() {
        assert_eq!(
            reshape_strides(&[2, 3, 4], &[12, 4, 1], &[6, 4]),
            Some(vec![4, 1])
        );
        assert_eq!(
            reshape_strides(&[1, 12, 128], &[1536, 128, 1], &[12, 128]),
            Some(vec![128, 1])
        );
        assert_eq!(reshape_strides(&[2, 3], &[1, 2], &[6]), None);
        assert_eq!(
            reshape_strides(&[2, 6], &[1, 2], &[2, 2, 3]),
            Some(vec![1, 6, 2])
        );
        assert_eq!(
            reshape_strides(&[4, 1, 5], &[5, 99, 1], &[20]),
            Some(vec![1])
        );
        assert_eq!(reshape_strides(&[], &[], &[1, 1]), Some(vec![1, 1]));
        assert_eq!(
            reshape_strides(&[6], &[2], &[1, 2, 3]),
            Some(vec![12, 6, 2])
        );
    }
}
