//! A fused kernel as the epilogue of the product or convolution in front of it.

use super::super::{Plan, Then};
use super::OnDevice;
use super::state::State;
use crate::Error;
use crate::level_zero::epilogue::{Axis, Epilogue};
use crate::level_zero::product::{Extra, Product};

/// What a fused kernel computes of each element of the result in front of it, and stores in that one's place.
///
/// A result that has an input or bias of its own is neither multiplied nor added a vector to: an epilogue has room for one.
#[derive(Clone, Debug, PartialEq)]
pub struct Tail {
    /// What the result is multiplied by first.
    pub factor: f32,
    /// The rest.
    pub epilogue: Epilogue,
    /// The kernel's parameters that the epilogue reads, if it does.
    pub bias: Option<usize>,
    /// See `bias`.
    pub scale: Option<usize>,
    /// See `bias`; laid out as the result.
    pub residual: Option<usize>,
}

impl OnDevice {
    /// Brings what an epilogue reads to the device.
    pub(super) fn extra(
        &self,
        plan: &Plan,
        state: &mut State,
        then: Option<&Then>,
        data: &[*mut u8],
    ) -> Result<(Epilogue, f32, Extra), Error> {
        let mut extra = Extra::default();
        let Some((then, tail)) = then.and_then(|t| Some((t, t.tail.as_ref()?))) else {
            return Ok((Epilogue::default(), 1.0, extra));
        };
        let mut address = |param: Option<usize>| {
            let Some(&(buffer, at)) = param.and_then(|p| then.args.get(p)) else {
                return Ok(std::ptr::null());
            };
            let start = self.read(plan, state, buffer, data[buffer.0 as usize])?;
            Ok::<_, Error>(start.wrapping_offset(at as isize))
        };
        extra.bias = address(tail.bias)?;
        extra.scale = address(tail.scale)?;
        extra.residual.data = address(tail.residual)?;
        Ok((tail.epilogue, tail.factor, extra))
    }
}

/// Joins a product's input, as matrix instructions add it, to the epilogue; none if they cannot.
pub(super) fn join(p: &Product, tail: Epilogue, extra: &mut Extra) -> Option<Epilogue> {
    let input = match p.input {
        Some(input) if p.beta != 0.0 => input,
        _ => return Some(tail),
    };
    let is_row = input.strides[0] == 0 && input.strides[1] == 0 && input.strides[2] == 1;
    let free = tail.bias.is_none() && tail.scale.is_none();
    if !is_row || !free || p.beta != 1.0 {
        return None;
    }
    extra.bias = input.data;
    Some(Epilogue {
        bias: Some(Axis::Column),
        ..tail
    })
}
