"""How far a result may be from eager's: the bounds of PyTorch's own Inductor OpInfo test on CPUs.

They are `assert_close`'s defaults but for float32, and a few operators have bounds of their own.
complex64, which that test leaves out, gets float32's bounds.
"""

from __future__ import annotations

import torch

BY_DTYPE = {
    torch.float16: (1e-3, 1e-5),
    torch.bfloat16: (1.6e-2, 1e-5),
    torch.float32: (1.3e-5, 1.5e-5),
    torch.float64: (1e-7, 1e-7),
    torch.complex64: (1.3e-5, 1.5e-5),
    torch.complex128: (1e-7, 1e-7),
}
"""Relative and absolute bound; integers and booleans are exact."""

_HALF, _SINGLE = torch.float16, torch.float32
_BY_OPERATOR = {
    ("nn.functional.multilabel_soft_margin_loss", _HALF): (2e-3, 3e-4),
    ("nn.functional.triplet_margin_with_distance_loss", _HALF): (3e-3, 3e-4),
    ("softmax", _HALF): (2e-2, 1e-4),
    ("_unsafe_masked_index_put_accumulate", _HALF): (1e-2, 1e-4),
    ("nn.functional.interpolate.bicubic", _SINGLE): (0.0, 5e-3),
    **{(f"polygamma.polygamma_n_{n}", _SINGLE): (1e-4, 1e-3) for n in range(5)},
    ("special.polygamma.special_polygamma_n_0", _SINGLE): (1e-4, 1e-3),
}

UNDEFINED = {
    "empty",
    "empty_permuted",
    "empty_like",
    "new_empty",
    "empty_strided",
    "new_empty_strided",
}
"""Operators whose elements mean nothing."""


def bounds(op: str, tested: torch.dtype, result: torch.dtype) -> tuple[float, float]:
    """Relative and absolute bound of a result's elements when `op` is run on `tested` inputs."""
    if result == tested and (op, tested) in _BY_OPERATOR:
        return _BY_OPERATOR[op, tested]
    return BY_DTYPE.get(result, (0.0, 0.0))
