//! Serde mirror of the JSON; no compiler logic.

use super::expr::{Expr, Number as SymNumber};
use crate::error::Error;
use ipex_runtime::gemm::Precision;
use serde::Deserialize;
use std::collections::HashMap;

/// The version that this decoder reads.
pub const VERSION: u32 = 2;

/// The envelope.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "described in docs/protocol.md")]
pub struct Document {
    pub protocol: u32,
    pub producer: HashMap<String, String>,
    pub kind: Kind,
    pub graph_module: GraphModule,
    #[serde(default)]
    pub schemas: HashMap<String, String>,
    #[serde(default)]
    pub options: Options,
}

/// What the person asked for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Arithmetic of f32 products: `full`, `high` for operands of 16 bits, or `medium` for bf16.
    #[serde(deserialize_with = "precision")]
    pub products: Precision,
    /// Arguments (by position) that never change.
    pub frozen: Vec<u32>,
    /// Whether the first call finds out which of two implementations is faster.
    pub autotune: bool,
    /// Whether every operator rounds to bf16 and f16 as eager's do; otherwise what stays in a kernel is f32.
    pub emulate_precision_casts: bool,
    /// Columns of a block of weights of four bits, as PyTorch packs them in this process; none if that is another layout.
    pub nibble_columns: Option<usize>,
    /// Whether the person has switched oneDNN off.
    pub without_onednn: bool,
    /// The GPU to run on, by its number; none for the CPU.
    pub gpu: Option<u32>,
    /// PyTorch's number of the `xpu` device that arguments and results are on.
    pub xpu: Option<u32>,
}

impl Options {
    /// Whether kernels are made for a GPU.
    pub fn on_gpu(&self) -> bool {
        self.gpu.is_some() || self.xpu.is_some()
    }
}

fn precision<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Precision, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Name {
        Full,
        High,
        Medium,
    }
    Ok(match Name::deserialize(from)? {
        Name::Full => Precision::Full,
        Name::High => Precision::High,
        Name::Medium => Precision::Medium,
    })
}

/// What the graph is for.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "AOTAutograd's names")]
pub enum Kind {
    Inference,
    Forward,
    Backward,
}

/// torch.export's `GraphModule`, of which the compiler needs the graph.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "named as in torch.export's schema")]
pub struct GraphModule {
    pub graph: Graph,
}

/// torch.export's `Graph`.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "named as in torch.export's schema")]
pub struct Graph {
    pub inputs: Vec<Argument>,
    pub outputs: Vec<Argument>,
    pub nodes: Vec<Node>,
    pub tensor_values: HashMap<String, TensorMeta>,
    #[serde(default)]
    pub sym_int_values: HashMap<String, SymInt>,
    #[serde(default)]
    pub sym_float_values: HashMap<String, SymFloat>,
    #[serde(default)]
    pub sym_bool_values: HashMap<String, SymBool>,
    /// In the whole document, the place of `nodes[0]`.
    #[serde(skip)]
    pub first_node: u32,
}

/// torch.export's `Node`. `inputs` are all of the operator's arguments, in the schema's order.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "named as in torch.export's schema")]
pub struct Node {
    pub target: String,
    pub inputs: Vec<NamedArgument>,
    pub outputs: Vec<Argument>,
    #[serde(default)]
    pub metadata: HashMap<String, String>,
}

/// torch.export's `NamedArgument`.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "named as in torch.export's schema")]
pub struct NamedArgument {
    pub name: String,
    pub arg: Argument,
}

/// torch.export's `Argument`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "named as in torch.export's schema")]
pub enum Argument {
    AsNone(bool),
    AsTensor(Name),
    AsTensors(Vec<Name>),
    AsOptionalTensors(Vec<OptionalTensor>),
    AsInt(i64),
    AsInts(Vec<i64>),
    AsFloat(Number),
    AsFloats(Vec<Number>),
    AsBool(bool),
    AsBools(Vec<bool>),
    AsSymInt(SymArgument),
    AsSymInts(Vec<SymArgument>),
    AsSymFloat(SymArgument),
    AsSymBool(SymArgument),
    AsString(String),
    AsScalarType(i32),
    AsLayout(i32),
    AsMemoryFormat(i32),
    AsDevice(Device),
    AsOpaque(String),
}

impl Argument {
    /// Names of the tensors in it.
    pub fn tensors(&self) -> Vec<&str> {
        match self {
            Argument::AsTensor(t) => vec![&t.name],
            Argument::AsTensors(list) => list.iter().map(|t| t.name.as_str()).collect(),
            Argument::AsOptionalTensors(list) => {
                let names = list.iter().filter_map(|t| match t {
                    OptionalTensor::AsTensor(t) => Some(t.name.as_str()),
                    OptionalTensor::AsNone(_) => None,
                });
                names.collect()
            }
            _ => Vec::new(),
        }
    }
}

/// A float; JSON has no infinities, so torch.export writes these as text.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "the two spellings")]
pub enum Number {
    Float(f64),
    Text(String),
}

impl Number {
    /// The number; `Infinity`, `-Infinity` and `NaN` as text.
    pub fn value(&self) -> Option<f64> {
        match self {
            Number::Float(x) => Some(*x),
            Number::Text(t) => t.parse().ok(),
        }
    }
}

/// A tensor's name.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "named as in torch.export's schema")]
pub struct Name {
    pub name: String,
}

/// An element of `Tensor?[]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "named as in torch.export's schema")]
pub enum OptionalTensor {
    AsTensor(Name),
    AsNone(bool),
}

/// torch.export's `TensorMeta`.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "named as in torch.export's schema")]
pub struct TensorMeta {
    pub dtype: i32,
    pub sizes: Vec<SymInt>,
    pub strides: Vec<SymInt>,
    pub device: Device,
}

/// torch.export's `SymInt`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "named as in torch.export's schema")]
pub enum SymInt {
    AsInt(i64),
    AsExpr(SymExpr),
}

impl SymInt {
    /// The symbol that it is, if it is one.
    pub fn symbol(&self) -> Option<&str> {
        match self {
            SymInt::AsExpr(SymExpr {
                expr: Expr::Symbol(s),
                ..
            }) => Some(s),
            _ => None,
        }
    }
}

/// torch.export's `SymFloat`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "named as in torch.export's schema")]
pub enum SymFloat {
    AsFloat(Number),
    AsExpr(SymExpr),
}

/// torch.export's `SymBool`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "named as in torch.export's schema")]
pub enum SymBool {
    AsBool(bool),
    AsExpr(SymExpr),
}

/// torch.export's `SymIntArgument` and its like: the name of an entry of `sym_int_values`
/// (`sym_float_values`, `sym_bool_values`), or a number.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "named as in torch.export's schema")]
pub enum SymArgument {
    AsName(String),
    AsInt(i64),
    AsFloat(Number),
    AsBool(bool),
}

/// torch.export's `SymExpr`, parsed.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "ExprText")]
pub struct SymExpr {
    /// The expression.
    pub expr: Expr,
    /// Its value for the arguments that the graph was traced with.
    pub hint: Option<SymNumber>,
}

#[derive(Deserialize)]
struct ExprText {
    expr_str: String,
    hint: Option<Hint>,
}

#[derive(Deserialize)]
enum Hint {
    #[serde(rename = "as_int")]
    Int(i64),
    #[serde(rename = "as_float")]
    Float(f64),
    #[serde(rename = "as_bool")]
    Bool(bool),
}

impl TryFrom<ExprText> for SymExpr {
    type Error = String;

    fn try_from(text: ExprText) -> Result<SymExpr, String> {
        Ok(SymExpr {
            expr: Expr::parse(&text.expr_str)?,
            hint: text.hint.map(|h| match h {
                Hint::Int(i) => SymNumber::int(i),
                Hint::Float(x) => SymNumber::Float(x),
                Hint::Bool(b) => SymNumber::int(b.into()),
            }),
        })
    }
}

/// torch.export's `Device`.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "named as in torch.export's schema")]
pub struct Device {
    pub r#type: String,
    pub index: Option<i32>,
}

/// Decodes a document. An error names line and column.
pub fn decode(json: &[u8]) -> Result<Document, Error> {
    let document: Document =
        serde_json::from_slice(json).map_err(|e| Error::Invalid(e.to_string()))?;
    if document.protocol != VERSION {
        return Err(Error::Invalid(format!(
            "protocol version {} instead of {VERSION}",
            document.protocol
        )));
    }
    super::places::check(&document)?;
    Ok(document)
}

/// PyTorch's ScalarType code of torch.export's.
pub fn scalar_type(exported: i32) -> Option<i32> {
    Some(match exported {
        1..=11 => exported - 1,
        12 => 11,
        13 => 15,
        _ => return None,
    })
}
