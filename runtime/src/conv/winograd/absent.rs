//! No transforms for this processor.

use super::{Pointers, Shape, Then, Threads};
use crate::Error;
use crate::cpu::Isa;

/// There are none.
pub enum Weights {}

impl Weights {
    /// Never called: nothing pays.
    ///
    /// # Safety
    /// None is needed.
    pub unsafe fn new(_: &Shape, _: *const f32, _: &dyn Threads) -> Result<Weights, Error> {
        Err(Error::Plan("no transforms for this processor".into()))
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        match *self {}
    }
}

/// Whether the transforms save time.
pub fn pays(_: &Shape, _: Isa, _: usize, _: bool) -> bool {
    false
}

/// Never called.
///
/// # Safety
/// None is needed.
pub unsafe fn run(
    _: &Shape,
    _: Isa,
    _: Pointers,
    weights: &Weights,
    _: &dyn Threads,
    _: Option<Then>,
) -> Result<(), Error> {
    match *weights {}
}
