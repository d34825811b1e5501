//! Matrix products `C = alpha * A B + beta * input` of f32, bf16, f16 and bytes.
//!
//! A [`Product`] says what to multiply; [`multiply`] splits it over threads ([`dispatch`]) and each part
//! into blocks that fit the caches ([`blocking`]). A block runs through the register tiles of [`micro`],
//! which read A's rows in place where they can and B in panels: packed ahead ([`PackedB`]), or a panel
//! at a time inside the call, so that no result ever comes from a stale copy of B.

#[cfg(target_arch = "x86_64")]
mod bf16;
mod block;
mod blocking;
mod convert;
mod dispatch;
mod finish;
mod groups;
#[cfg(test)]
mod groups_tests;
pub mod micro;
mod nibbles;
#[cfg(test)]
mod nibbles_tests;
mod pack;
mod parallel;
pub(crate) mod scratch;
mod shape;
mod split;
#[cfg(test)]
mod split_tests;
#[cfg(test)]
mod tests;

pub(crate) use blocking::{part, parts};
pub(crate) use convert::{Row, convert, element, round_to_bf16};
pub use dispatch::{Call, Epilogue, Parts, Rows, multiply, reads, reads_in_place};
pub use groups::{Groups, Quantised};
pub use micro::Math;
pub use micro::groups::Factors;
pub use nibbles::Nibbles;
pub(crate) use pack::Engine;
pub use pack::{Columns, PackedB};
pub use parallel::{Parallel, Rayon, Serial};
pub(crate) use shape::math;
pub use shape::{Batch, Matrix, Precision, Product};
