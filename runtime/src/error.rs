//! Errors of a call.

use thiserror::Error;

/// Why a plan could not be run.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// libtorch lacks a function.
    #[error("libtorch has no {0}: PyTorch 2.11 or later is needed")]
    Symbol(String),
    /// ATen raised an error.
    #[error("{op}: {message}")]
    Aten {
        /// The call.
        op: String,
        /// ATen's text.
        message: String,
    },
    /// The host (Python) raised an error, which it keeps itself.
    #[error("{0} raised an error")]
    Host(String),
    /// A gathered index lies outside its dimension.
    #[error("{0}")]
    Index(String),
    /// As `Index`, where eager raises a RuntimeError.
    #[error("{0}")]
    Range(String),
    /// The GPU failed.
    #[error("{0}")]
    Device(String),
    /// The system has no memory for the intermediates of a call.
    #[error("no memory for {0} bytes of intermediates")]
    Memory(usize),
    /// The arguments are not those of the plan.
    #[error("expected {expected} arguments, found {found}")]
    Arguments {
        /// The plan's.
        expected: usize,
        /// The call's.
        found: usize,
    },
    /// The plan is inconsistent: a fault of the compiler.
    #[error("invalid plan: {0}")]
    Plan(String),
}
