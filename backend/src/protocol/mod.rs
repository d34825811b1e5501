//! The document that the shim (or a saved program) hands over: JSON in the vocabulary of
//! torch.export's schema (`torch/_export/serde/schema.py`).

pub mod document;
pub mod expr;
mod parse;
pub mod schema;
pub mod symbols;

pub use document::{Document, decode};
