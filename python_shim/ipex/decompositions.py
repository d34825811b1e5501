"""Operators that are written in terms of others before the compiler sees them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch._decomp import get_decompositions

aten = torch.ops.aten


@cache
def table() -> dict[Any, Callable[..., Any]]:
    """PyTorch's own decompositions of what the compiler has no rule for; made once."""
    return get_decompositions(
        [
            aten.addcdiv,
            aten.addcmul,
            aten.celu,
            aten.count_nonzero,
            aten.deg2rad,
            aten.elu,
            aten.frac,
            aten.glu,
            aten.hardshrink,
            aten.heaviside,
            aten.huber_loss,
            aten.leaky_relu,
            aten.lerp,
            aten.log_sigmoid_forward,
            aten.logaddexp,
            aten.logsumexp,
            aten.masked_fill,
            aten.mish,
            aten.mse_loss,
            aten.nan_to_num,
            aten.new_full,
            aten.new_ones,
            aten.new_zeros,
            aten.rad2deg,
            aten.rsub,
            aten.smooth_l1_loss,
            aten.softplus,
            aten.softshrink,
            aten.square,
            aten.stack,
            aten.std,
            aten.std_mean,
            aten.threshold,
            aten.tril,
            aten.triu,
            aten.unbind,
            aten.var_mean,
            aten.xlogy,
        ]
    )
