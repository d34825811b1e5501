//! Affine indices over loop variables, and how views rewrite them.

use crate::fusion::refusal::Refusal;
use crate::graph::View;
use cranelift_entity::PrimaryMap;
use ipex_jit::kernel::{Var, VarId};

/// `offset + Σ coefficient·var`; terms sorted by variable, no zero coefficient.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AffineExpr {
    /// Variables with their coefficients.
    pub terms: Vec<(VarId, i64)>,
    /// Constant part.
    pub offset: i64,
}

impl AffineExpr {
    /// A constant.
    pub fn constant(offset: i64) -> Self {
        AffineExpr {
            terms: Vec::new(),
            offset,
        }
    }

    /// A loop variable.
    pub fn var(var: VarId) -> Self {
        AffineExpr {
            terms: vec![(var, 1)],
            offset: 0,
        }
    }

    /// `self + other * factor`
    pub fn add_scaled(&self, other: &AffineExpr, factor: i64) -> Self {
        let mut sum = self.clone();
        sum.offset += other.offset * factor;
        for &(v, c) in &other.terms {
            match sum.terms.binary_search_by_key(&v, |t| t.0) {
                Ok(i) => sum.terms[i].1 += c * factor,
                Err(i) => sum.terms.insert(i, (v, c * factor)),
            }
        }
        sum.terms.retain(|t| t.1 != 0);
        sum
    }

    /// Quotient and remainder by `m > 0`, if both are affine.
    pub fn div_mod(&self, m: i64, vars: &PrimaryMap<VarId, Var>) -> Option<(Self, Self)> {
        let mut q = Self::constant(self.offset.div_euclid(m));
        let mut r = Self::constant(self.offset.rem_euclid(m));
        let (mut low, mut high) = (r.offset, r.offset);
        for &(v, c) in &self.terms {
            if c % m == 0 {
                q.terms.push((v, c / m));
            } else {
                r.terms.push((v, c));
                let end = c * (vars[v].extent as i64 - 1).max(0);
                low += end.min(0);
                high += end.max(0);
            }
        }
        (low >= 0 && high < m).then_some((q, r))
    }

    /// The split of a loop after which `div_mod(m)` may succeed.
    fn split_for(&self, m: i64, vars: &PrimaryMap<VarId, Var>) -> Option<Refusal> {
        self.terms.iter().find_map(|&(var, c)| {
            let extent = vars[var].extent as i64;
            if c <= 0 || c >= m || m % c != 0 {
                return None;
            }
            let inner = m / c;
            (extent > inner && extent % inner == 0).then_some(Refusal::Split { var, inner })
        })
    }
}

/// The operand's index for the result's index `idx`.
pub fn view_index(
    view: &View,
    idx: &[AffineExpr],
    out_sizes: &[i64],
    in_sizes: &[i64],
    vars: &PrimaryMap<VarId, Var>,
) -> Result<Vec<AffineExpr>, Refusal> {
    let zero = AffineExpr::default();
    match view {
        View::Permute(perm) => {
            let mut result = vec![zero; perm.len()];
            for (k, &p) in perm.iter().enumerate() {
                result[p] = idx[k].clone();
            }
            Ok(result)
        }
        View::Slice { start, step } => Ok(idx
            .iter()
            .zip(start.iter().zip(step))
            .map(|(e, (&start, &step))| AffineExpr::constant(start).add_scaled(e, step))
            .collect()),
        View::Expand => Ok(idx
            .iter()
            .zip(in_sizes)
            .map(|(e, &n)| if n == 1 { zero.clone() } else { e.clone() })
            .collect()),
        View::Reshape => {
            let mut result = vec![zero.clone(); in_sizes.len()];
            if in_sizes.contains(&0) {
                return Ok(result);
            }
            let (mut rest, mut stride) = (zero, 1);
            for (e, &n) in idx.iter().zip(out_sizes).rev() {
                rest = rest.add_scaled(e, stride);
                stride *= n;
            }
            let mut outer: i64 = in_sizes.iter().product();
            for (slot, &n) in result.iter_mut().zip(in_sizes).rev() {
                outer /= n;
                if n == 1 {
                    continue;
                }
                if outer == 1 {
                    *slot = rest;
                    break;
                }
                let Some((q, r)) = rest.div_mod(n, vars) else {
                    return Err(rest.split_for(n, vars).unwrap_or(Refusal::Reshape {
                        from: in_sizes.to_vec(),
                        to: out_sizes.to_vec(),
                    }));
                };
                (*slot, rest) = (r, q);
            }
            Ok(result)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reshape(out: &[i64], inn: &[i64]) -> Result<Vec<AffineExpr>, Refusal> {
        let mut vars = PrimaryMap::new();
        let idx: Vec<_> = out
            .iter()
            .map(|&n| AffineExpr::var(vars.push(Var { extent: n as u64 })))
            .collect();
        let got = view_index(&View::Reshape, &idx, out, inn, &vars)?;
        for flat in 0..out.iter().product::<i64>() {
            let mut at = vec![0; out.len()];
            let mut rest = flat;
            for k in (0..out.len()).rev() {
                at[k] = rest % out[k];
                rest /= out[k];
            }
            let back = got.iter().zip(inn).fold(0, |acc, (e, &n)| {
                let terms = e.terms.iter();
                let i = e.offset
                    + terms
                        .map(|&(v, c)| c * at[v.as_u32() as usize])
                        .sum::<i64>();
                assert!((0..n).contains(&i));
                acc * n + i
            });
            assert_eq!(back, flat);
        }
        Ok(got)
    }

    #[test]
    fn reshapes() {
        reshape(&[2, 3, 4], &[2, 12]).unwrap();
        reshape(&[2, 3, 4], &[6, 4]).unwrap();
        reshape(&[2, 3, 4], &[1, 24, 1]).unwrap();
        reshape(&[1, 2, 1, 12], &[2, 12]).unwrap();
        let var = VarId::from_u32(1);
        assert_eq!(
            reshape(&[2, 12], &[2, 3, 4]),
            Err(Refusal::Split { var, inner: 4 })
        );
        assert!(matches!(
            reshape(&[4, 3], &[3, 4]),
            Err(Refusal::Reshape { .. })
        ));
    }
}
