//! ATen operators: what a call in the document looks like, and its translation into primitives.

pub mod activation;
pub mod args;
pub mod attention;
pub mod bag;
pub mod call;
pub mod compare;
pub mod composite;
pub mod conv;
pub mod create;
pub mod external;
pub mod foreach;
pub mod im2col;
pub mod index;
pub mod integer;
mod layer_norm;
pub mod loss;
pub mod patches;
pub mod pointwise;
pub mod pool;
pub mod quantised;
pub mod reduce;
pub mod scan;
pub mod table;
pub mod view;

pub use call::{NodeCall, OpArg};
pub use table::{supported, translate};
