"""Operators that are written in terms of others before the compiler sees them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch._decomp import get_decompositions

aten = torch.ops.aten


def native_dropout(input: torch.Tensor, p: float, train: bool | None) -> Any:
    """Eager's random numbers by eager's call; the arithmetic may be fused with its neighbours."""
    # Numbers are drawn in the order of memory, which only a contiguous mask is sure to share.
    if train is False or not input.is_floating_point() or not input.is_contiguous():
        return NotImplemented
    keep = 1.0 - p
    mask = aten.bernoulli.p(torch.empty_like(input, dtype=torch.bool), keep)
    return input * mask * (1.0 / keep if keep else 0.0), mask


@cache
def table() -> dict[Any, Callable[..., Any]]:
    """PyTorch's own decompositions of what the compiler has no rule for, and ours; made once."""
    decompositions = get_decompositions(
        [
            aten.celu,
            aten.count_nonzero,
            aten.deg2rad,
            aten.elu,
            aten.elu_backward,
            aten.frac,
            aten._fused_rms_norm_backward,
            aten.gelu_backward,
            aten.glu,
            aten.hardshrink,
            aten.hardsigmoid_backward,
            aten.hardswish_backward,
            aten.hardtanh_backward,
            aten.heaviside,
            aten.huber_loss,
            aten.huber_loss_backward,
            aten.leaky_relu,
            aten.leaky_relu_backward,
            aten.log_sigmoid_backward,
            aten.log_sigmoid_forward,
            aten._log_softmax_backward_data,
            aten.logaddexp,
            aten.logsumexp,
            aten.masked_fill,
            aten.mish,
            aten.mish_backward,
            aten.mse_loss,
            aten.mse_loss_backward,
            aten.nan_to_num,
            aten._native_batch_norm_legit,
            aten._native_batch_norm_legit_functional,
            aten.native_batch_norm_backward,
            aten.native_dropout_backward,
            aten.native_group_norm,
            aten.native_group_norm_backward,
            aten.new_full,
            aten.new_ones,
            aten.new_zeros,
            aten.rad2deg,
            aten.rsub,
            aten.select_backward,
            aten.sigmoid_backward,
            aten.silu_backward,
            aten.slice_backward,
            aten.smooth_l1_loss,
            aten.smooth_l1_loss_backward,
            aten._softmax_backward_data,
            aten.softplus,
            aten.softplus_backward,
            aten.softshrink,
            aten.softshrink_backward,
            aten.square,
            aten.stack,
            aten.tanh_backward,
            aten.threshold,
            aten.threshold_backward,
            aten.tril,
            aten.triu,
            aten.unbind,
            aten._weight_norm_interface,
            aten.xlogy,
        ]
    )
    decompositions[aten.native_dropout.default] = native_dropout
    return decompositions
