//! Indices are checked before the kernel that gathers by them.

use super::{IndexRule, TensorRef};
use crate::Error;

/// Checks that every element of an i64 tensor lies in `0..size`.
///
/// # Safety
/// The tensor's elements lie in the memory that starts at `data`.
pub unsafe fn check_index(
    data: *const u8,
    t: &TensorRef,
    (dim, size): (usize, i64),
    rule: IndexRule,
) -> Result<(), Error> {
    // SAFETY: by contract.
    let first = unsafe { data.cast::<i64>().offset(t.offset as isize) };
    let wrong = |&i: &i64| !(0..size).contains(&i);
    let numel: i64 = t.sizes.iter().product();
    let found = if t.is_contiguous() {
        // SAFETY: by contract; an empty tensor may have no memory.
        let all = (numel > 0).then(|| unsafe { std::slice::from_raw_parts(first, numel as usize) });
        all.unwrap_or_default().iter().copied().find(wrong)
    } else {
        // SAFETY: by contract.
        (0..numel)
            .map(|flat| unsafe { first.offset(t.place(flat)).read_unaligned() })
            .find(wrong)
    };
    match found {
        None => Ok(()),
        Some(i) => Err(rule.error(i, dim, size)),
    }
}

impl TensorRef {
    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.sizes
            .iter()
            .zip(&self.strides)
            .rev()
            .all(|(&n, &stride)| {
                let fits = n == 1 || stride == expected;
                expected *= n;
                fits
            })
    }

    /// Where the n-th element lies, in elements from the first.
    fn place(&self, flat: i64) -> isize {
        let (mut rest, mut at) = (flat, 0);
        for (&n, &stride) in self.sizes.iter().zip(&self.strides).rev() {
            at += rest % n * stride;
            rest /= n;
        }
        at as isize
    }
}

impl IndexRule {
    /// What eager raises for this index.
    fn error(self, index: i64, dim: usize, size: i64) -> Error {
        let text = |i, d| format!("index {i} is out of bounds for dimension {d} with size {size}");
        match self {
            // Of all dimensions, ATen treats the second apart.
            IndexRule::Select if dim == 1 => Error::Range(format!(
                "INDICES element is out of DATA bounds, id={index} axis_dim={size}"
            )),
            IndexRule::Select => Error::Index("index out of range in self".into()),
            // Negative ones have been counted from the end.
            IndexRule::Wrapping if index < 0 => Error::Index(text(index - size, dim)),
            IndexRule::Wrapping => Error::Index(text(index, dim)),
            IndexRule::Gather => Error::Range(text(index, dim)),
            IndexRule::Class => Error::Index(format!("Target {index} is out of bounds.")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::BufferId;

    #[test]
    fn finds_what_lies_outside() {
        let data: Vec<i64> = vec![0, 1, 2, 3, 7, -3];
        let check = |sizes: &[i64], strides: &[i64], offset, size, rule| {
            let t = TensorRef {
                buffer: BufferId(0),
                scalar_type: 4,
                sizes: sizes.to_vec(),
                strides: strides.to_vec(),
                offset,
            };
            // SAFETY: the tensors of this test lie in `data`.
            unsafe { check_index(data.as_ptr().cast(), &t, (1, size), rule) }
        };
        assert!(check(&[4], &[1], 0, 4, IndexRule::Gather).is_ok());
        assert!(check(&[2, 2], &[1, 2], 0, 4, IndexRule::Gather).is_ok());
        assert!(check(&[0], &[1], 4, 1, IndexRule::Gather).is_ok());
        let message = |r: Result<(), Error>| r.unwrap_err().to_string();
        assert_eq!(
            message(check(&[2, 2], &[2, 1], 1, 4, IndexRule::Gather)),
            "index 7 is out of bounds for dimension 1 with size 4"
        );
        assert_eq!(
            message(check(&[2], &[4], 1, 2, IndexRule::Wrapping)),
            "index -5 is out of bounds for dimension 1 with size 2"
        );
        assert!(check(&[2], &[2], 2, 8, IndexRule::Select).is_ok());
        assert_eq!(
            message(check(&[5], &[1], 0, 4, IndexRule::Class)),
            "Target 7 is out of bounds."
        );
    }
}
