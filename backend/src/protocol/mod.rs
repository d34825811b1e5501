//! What the compiler reads: the document that the shim hands over, and programs that `torch.export.save` wrote.
//! Both are JSON in the vocabulary of torch.export's schema (`torch/_export/serde/schema.py`).

pub mod archive;
pub mod defaults;
pub mod document;
pub mod export;
pub mod expr;
mod number;
mod parse;
pub mod places;
pub mod schema;
pub mod stages;
pub mod symbols;

pub use document::{Document, decode};

use crate::error::Error;
use expr::Symbols;
use std::collections::BTreeMap;

/// A file that was read.
pub struct File {
    /// The graph.
    pub document: Document,
    /// Where in an archive it was found.
    pub program: Option<String>,
    /// Symbols of the document, with the values that its graph was traced with.
    pub symbols: Symbols,
    /// What was symbolic in a saved program, and the numbers that replaced it.
    pub specialised: BTreeMap<String, i64>,
}

/// Reads a document, or a program saved by `torch.export.save`.
pub fn read(bytes: &[u8]) -> Result<File, Error> {
    if !archive::is_archive(bytes) {
        let document = decode(bytes)?;
        return Ok(File {
            symbols: symbols::hints(&document),
            document,
            program: None,
            specialised: BTreeMap::new(),
        });
    }
    let (path, json) = archive::program(bytes)?;
    let exported = export::decode(&json).map_err(|e| match e {
        Error::Invalid(what) => Error::Invalid(format!("{path}: {what}")),
        other => other,
    })?;
    Ok(File {
        document: exported.document,
        symbols: Symbols::new(),
        program: Some(path),
        specialised: exported.specialised,
    })
}
