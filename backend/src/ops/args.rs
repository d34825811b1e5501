//! Access to a call's arguments; what is not there or of another kind refuses the call.

use super::{NodeCall, OpArg};
use crate::fusion::refusal::Refusal;
use crate::graph::{Meta, ValueId};
use ipex_runtime::DType;

impl NodeCall<'_> {
    /// A refusal that names this call.
    pub fn refuse<T>(&self, why: &str) -> Result<T, Refusal> {
        Err(Refusal::Op(format!("{}: {why}", self.target)))
    }

    /// The n-th argument.
    pub fn arg(&self, n: usize) -> &OpArg {
        self.args.get(n).unwrap_or(&OpArg::None)
    }

    /// A tensor.
    pub fn tensor(&self, n: usize) -> Result<ValueId, Refusal> {
        match self.arg(n) {
            OpArg::Tensor(v) => Ok(*v),
            other => self.refuse(&format!("argument {n} is {other:?}")),
        }
    }

    /// A tensor or None.
    pub fn optional_tensor(&self, n: usize) -> Result<Option<ValueId>, Refusal> {
        match self.arg(n) {
            OpArg::None => Ok(None),
            _ => self.tensor(n).map(Some),
        }
    }

    /// A number.
    pub fn number(&self, n: usize) -> Result<f64, Refusal> {
        match self.arg(n) {
            // Larger ones are not exact in f64.
            OpArg::Int(i) if i.unsigned_abs() < 1 << 53 => Ok(*i as f64),
            OpArg::Float(x) => Ok(*x),
            OpArg::Bool(b) => Ok(f64::from(*b)),
            other => self.refuse(&format!("argument {n} is {other:?}")),
        }
    }

    /// An integer.
    pub fn int(&self, n: usize) -> Result<i64, Refusal> {
        match self.arg(n) {
            OpArg::Int(i) => Ok(*i),
            other => self.refuse(&format!("argument {n} is {other:?}")),
        }
    }

    /// A truth value; absent is false.
    pub fn flag(&self, n: usize) -> bool {
        matches!(self.arg(n), OpArg::Bool(true))
    }

    /// Integers; absent is empty.
    pub fn ints(&self, n: usize) -> Result<Vec<i64>, Refusal> {
        match self.arg(n) {
            OpArg::Ints(list) => Ok(list.clone()),
            OpArg::None => Ok(Vec::new()),
            other => self.refuse(&format!("argument {n} is {other:?}")),
        }
    }

    /// A dimension of a tensor of this rank.
    pub fn dim(&self, n: usize, rank: usize) -> Result<usize, Refusal> {
        self.wrap(self.int(n)?, rank)
    }

    /// Dimensions, sorted; none given means all.
    pub fn dims(&self, n: usize, rank: usize) -> Result<Vec<usize>, Refusal> {
        let given = match self.arg(n) {
            OpArg::Int(d) => vec![*d],
            _ => self.ints(n)?,
        };
        if given.is_empty() {
            return Ok((0..rank).collect());
        }
        let mut dims: Vec<usize> = given
            .iter()
            .map(|&d| self.wrap(d, rank))
            .collect::<Result<_, _>>()?;
        dims.sort_unstable();
        Ok(dims)
    }

    fn wrap(&self, d: i64, rank: usize) -> Result<usize, Refusal> {
        let wrapped = if d < 0 { d + rank as i64 } else { d };
        match usize::try_from(wrapped) {
            Ok(d) if d < rank => Ok(d),
            _ => self.refuse("dimension out of range"),
        }
    }

    /// The n-th result's metadata.
    pub fn output(&self, n: usize) -> Result<&Meta, Refusal> {
        match self.outputs.get(n) {
            Some(Some(meta)) => Ok(meta),
            _ => self.refuse("no such result"),
        }
    }

    /// The n-th result's element type.
    pub fn output_dtype(&self, n: usize) -> Result<DType, Refusal> {
        let meta = self.output(n)?;
        meta.dtype().ok_or(Refusal::Dtype(meta.scalar_type))
    }
}
