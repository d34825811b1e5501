//! An ATen call as the translation sees it: arguments complete and in the schema's order.

use crate::graph::{Meta, ValueId};
use ipex_runtime::plan::Callable;

/// An argument. The schema's defaults are filled in, keyword arguments are in their place.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the schema's types")]
pub enum OpArg {
    None,
    Tensor(ValueId),
    /// `Tensor[]` and `Tensor?[]`
    Tensors(Vec<Option<ValueId>>),
    /// Also a `Scalar` that is a Python int; a resolved `SymInt`.
    Int(i64),
    /// Also a `Scalar` that is a Python float.
    Float(f64),
    /// Also a `Scalar` that is a Python bool.
    Bool(bool),
    Str(String),
    /// `int[]`, `SymInt[]`; also the empty list of any scalar type.
    Ints(Vec<i64>),
    Floats(Vec<f64>),
    Bools(Vec<bool>),
    /// PyTorch's code
    ScalarType(i32),
    Layout(i32),
    MemoryFormat(i32),
    /// type and index (-1: none)
    Device(i32, i32),
    /// What the document cannot express; the node's callable knows it.
    Opaque,
}

/// One call.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeCall<'a> {
    /// `aten.add.Tensor`
    pub target: &'a str,
    /// Arguments, one for each of the schema's.
    pub args: &'a [OpArg],
    /// Metadata of the results, as the document states them (eager's sizes, dtypes and strides);
    /// `None` for a result that is no tensor. A `Tensor[]` result has one entry for each element.
    pub outputs: &'a [Option<Meta>],
    /// Which results somebody reads. A rule may leave out unread ones at the end.
    pub used: &'a [bool],
    /// Carries out the call in PyTorch.
    pub callable: &'a Callable,
}
