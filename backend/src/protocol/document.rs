//! Serde mirror of the JSON; no compiler logic.

use crate::error::Error;
use serde::Deserialize;
use std::collections::HashMap;

/// The version that this decoder reads.
pub const VERSION: u32 = 1;

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
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "named as in torch.export's schema")]
pub struct Graph {
    pub inputs: Vec<Argument>,
    pub outputs: Vec<Argument>,
    pub nodes: Vec<Node>,
    pub tensor_values: HashMap<String, TensorMeta>,
}

/// torch.export's `Node`. `inputs` are all of the operator's arguments, in the schema's order.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "named as in torch.export's schema")]
pub struct Node {
    pub target: String,
    pub inputs: Vec<NamedArgument>,
    pub outputs: Vec<Argument>,
    #[serde(default)]
    pub metadata: HashMap<String, String>,
}

/// torch.export's `NamedArgument`.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "named as in torch.export's schema")]
pub struct NamedArgument {
    pub name: String,
    pub arg: Argument,
}

/// torch.export's `Argument`.
#[derive(Debug, Deserialize)]
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
    AsString(String),
    AsScalarType(i32),
    AsLayout(i32),
    AsMemoryFormat(i32),
    AsDevice(Device),
    AsOpaque(String),
}

/// A float; JSON has no infinities, so torch.export writes these as text.
#[derive(Debug, Deserialize)]
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
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "named as in torch.export's schema")]
pub struct Name {
    pub name: String,
}

/// An element of `Tensor?[]`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "named as in torch.export's schema")]
pub enum OptionalTensor {
    AsTensor(Name),
    AsNone(bool),
}

/// torch.export's `TensorMeta`.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "named as in torch.export's schema")]
pub struct TensorMeta {
    pub dtype: i32,
    pub sizes: Vec<SymInt>,
    pub strides: Vec<SymInt>,
    pub device: Device,
}

/// torch.export's `SymInt`; only resolved ones are supported.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "named as in torch.export's schema")]
pub enum SymInt {
    AsInt(i64),
    AsExpr(serde_json::Value),
}

/// torch.export's `Device`.
#[derive(Debug, Deserialize)]
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
