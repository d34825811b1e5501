"""What differs between two results."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.utils import _pytree as pytree

from . import tolerance


class Difference(Exception):
    """Two results differ; the text says how."""


def _strides(t: torch.Tensor) -> tuple[int | None, ...]:
    """Strides that mean something: those of dimensions of more than one element."""
    if t.numel() == 0:
        return ()
    return tuple(s if n > 1 else None for n, s in zip(t.size(), t.stride(), strict=True))


def same_kind(got: torch.Tensor, want: torch.Tensor, where: str) -> None:
    """Raises Difference unless shape, dtype, layout, strides and requires_grad agree."""
    for name in ("shape", "dtype", "layout", "requires_grad"):
        g, w = getattr(got, name), getattr(want, name)
        if g != w:
            raise Difference(f"{where}: {name} {g}, not {w}")
    if want.layout is torch.strided and not want.is_nested and _strides(got) != _strides(want):
        raise Difference(f"{where}: stride {got.stride()}, not {want.stride()} of {want.shape}")


def _address(t: Any) -> int:
    """Of the memory that a tensor shows; 0 if it shows none, as an empty one."""
    if not isinstance(t, torch.Tensor) or t.layout is not torch.strided or t.is_nested or t.is_meta:
        return 0
    if t.numel() == 0:
        return 0
    return t.untyped_storage().data_ptr()


def sharing(outputs: Any, inputs: Any) -> list[str]:
    """Which results share memory with an argument or an earlier result, and with which."""
    owners: dict[int, str] = {}
    for n, leaf in enumerate(pytree.tree_leaves(inputs)):
        owners.setdefault(_address(leaf), f"input {n}")
    found = []
    for n, leaf in enumerate(pytree.tree_leaves(outputs)):
        owner = owners.setdefault(address := _address(leaf), f"output {n}")
        if address and owner != f"output {n}":
            found.append(f"output {n} with {owner}")
    return found


def same_sharing(got: list[str], want: list[str]) -> None:
    """Raises Difference unless results share memory as eager's do."""
    if got != want:
        g, w = (", ".join(pairs) or "none" for pairs in (got, want))
        raise Difference(f"shared memory: {g}; not {w}")


def _same_elements(got: torch.Tensor, want: torch.Tensor, bounds: Any, where: str) -> None:
    rtol, atol = bounds
    try:
        torch.testing.assert_close(got, want, rtol=rtol, atol=atol, equal_nan=True)
    except AssertionError as error:
        raise Difference(f"{where}: {' '.join(str(error).split())}") from None


def _same_number(g: Any, w: Any) -> bool:
    return bool(g == w) or (isinstance(w, float) and math.isnan(w) and math.isnan(g))


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference of elements; infinite if only one is NaN or infinite somewhere."""
    a, b = a.detach().double(), b.detach().double()
    if a.numel() == 0:
        return 0.0
    apart = torch.where((a == b) | (a.isnan() & b.isnan()), 0.0, (a - b).abs())
    return apart.nan_to_num(nan=float("inf"), posinf=float("inf")).max().item()


def compare(
    got: Any,
    want: Any,
    op: str,
    tested: torch.dtype,
    *,
    what: str,
    values: bool = True,
    eager: Any = None,
) -> None:
    """Raises Difference unless trees of tensors agree; elements are looked at if `values`.

    If `eager` is given, `want` is a reference of higher precision, and a floating-point tensor that
    is no farther from it than eager's agrees too.
    """
    got_leaves, got_spec = pytree.tree_flatten(got)
    want_leaves, want_spec = pytree.tree_flatten(want)
    others = pytree.tree_leaves(eager) if eager is not None else [None] * len(want_leaves)
    if got_spec != want_spec:
        raise Difference(f"{what} is {got_spec}, not {want_spec}")
    for n, (g, w, e) in enumerate(zip(got_leaves, want_leaves, others, strict=True)):
        where = f"{what} {n}"
        if isinstance(w, torch.Tensor) and isinstance(g, torch.Tensor):
            same_kind(g, w, where)
            if not values or w.is_meta:
                continue
            if e is not None and w.is_floating_point() and w.layout is torch.strided:
                if w.numel() == 0 or distance(g, w) <= distance(e, w):
                    continue
            _same_elements(g.detach(), w.detach(), tolerance.bounds(op, tested, w.dtype), where)
        elif type(g) is not type(w):
            raise Difference(f"{where} is a {type(g).__name__}, not a {type(w).__name__}")
        elif values and isinstance(w, (int, float, complex, str)) and not _same_number(g, w):
            raise Difference(f"{where} is {g}, not {w}")
