//! Errors of a compilation.

use thiserror::Error;

/// Why a document was not compiled.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// The document is malformed.
    #[error("invalid document: {0}")]
    Invalid(String),
    /// The document is well-formed but asks for what the compiler cannot do.
    #[error("{node}: {reason}")]
    Unsupported {
        /// The ATen node.
        node: String,
        /// Why not.
        reason: String,
    },
    /// A fault of the compiler.
    #[error("internal error: {0}")]
    Internal(String),
}
