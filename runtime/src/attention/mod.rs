//! Attention, `softmax(scale * Q K^T + mask) V`, without ever holding the scores of all keys
//! (FlashAttention: Dao et al., 2022; Milakov and Gimelshein, "Online normalizer calculation", 2018).
//!
//! An [`Attention`] says what to compute; [`attend`] splits it into tasks ([`dispatch`]): some rows (queries of
//! the heads that share keys) by some keys. A task goes through its keys in blocks. For many rows,
//! [`tiles`] packs a block's keys and values once and runs the register tiles of [`crate::gemm`] on them;
//! for few, [`stream`] reads them in place. Scores become weights row by row in [`micro`], and
//! [`state`] holds what a task has summed so far.

mod dispatch;
mod micro;
mod shape;
mod state;
mod stream;
#[cfg(test)]
mod tests;
mod tiles;

pub use dispatch::attend;
pub use shape::{Attention, MaskKind, MaskedRows, Rule, Tensor};
