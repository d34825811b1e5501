"""Which operators, dtypes and samples are run, and copies of a sample's tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch.testing._internal import common_methods_invocations as invocations
from torch.utils import _pytree as pytree

DTYPES = {
    str(d).removeprefix("torch."): d
    for d in (
        torch.float32,
        torch.bfloat16,
        torch.float16,
        torch.float64,
        torch.int64,
        torch.bool,
        torch.complex64,
    )
}
MODES = ("forward", "gradient", "dynamic")
MODEL_MODES = ("inference", "training", "batches")

# Samples of random operators seed the generator themselves, which no graph can hold; we seed it
# before each call instead.
invocations.wrapper_set_seed = lambda op, *args, **kwargs: op(*args, **kwargs)


@dataclass(frozen=True, order=True)
class Job:
    """An operator with one dtype, in one mode."""

    op: str
    dtype: str
    mode: str


@cache
def operators() -> dict[str, Any]:
    """Each OpInfo by its full name, the variant behind a dot."""
    return {
        op.name + (f".{op.variant_test_name}" if op.variant_test_name else ""): op
        for op in invocations.op_db
    }


def jobs(mode: str, dtypes: Iterable[str] = DTYPES) -> Iterator[Job]:
    """All that a mode tests; gradients, symbolic sizes and whole models are float32's."""
    if mode in MODEL_MODES:
        from models.zoo import builders

        yield from (Job(name, "float32", mode) for name in builders())
        return
    for name, op in operators().items():
        if mode == "forward":
            yield from (Job(name, d, mode) for d in dtypes if DTYPES[d] in op.dtypes)
        elif mode == "dynamic" and torch.float32 in op.dtypes:
            yield Job(name, "float32", mode)
        elif mode == "gradient" and op.supports_autograd:
            if torch.float32 in op.supported_backward_dtypes("cpu"):
                yield Job(name, "float32", mode)


def spread(count: int, limit: int) -> list[int]:
    """At most `limit` places among `count`, evenly, the first and the last of them included."""
    if limit == 0 or count <= limit:
        return list(range(count))
    if limit == 1:
        return [0]
    return sorted({round(k * (count - 1) / (limit - 1)) for k in range(limit)})


def samples(job: Job, limit: int) -> list[tuple[int, Any]]:
    """Numbered samples of a job; the same ones each time. A limit of 0 means all."""
    torch.manual_seed(0)
    wanted = job.mode == "gradient"
    found = list(operators()[job.op].sample_inputs("cpu", DTYPES[job.dtype], requires_grad=wanted))
    return [(n, found[n]) for n in spread(len(found), limit)]


def twin(tree: Any) -> Any:
    """A copy whose tensors share nothing with the original, and each other's storage as it does."""
    storages: dict[int, torch.UntypedStorage] = {}

    def copy(t: torch.Tensor) -> torch.Tensor:
        plain = type(t) in (torch.Tensor, torch.nn.Parameter) and t.layout is torch.strided
        if not plain or t.is_conj() or t.is_neg() or t.is_quantized:
            return t.detach().clone().requires_grad_(t.requires_grad)
        storage = t.untyped_storage()
        key = storage._cdata
        if key not in storages:
            storages[key] = storage.clone()
        new = torch.empty(0, dtype=t.dtype)
        new.set_(storages[key], t.storage_offset(), t.size(), t.stride())
        return new.requires_grad_(t.requires_grad)

    return pytree.tree_map_only(torch.Tensor, copy, tree)


def describe(sample: Any) -> str:
    """A sample's arguments in short, tensors by their sizes."""

    def short(value: Any) -> str:
        if isinstance(value, torch.Tensor):
            return "x".join(map(str, value.shape)) or "scalar"
        if isinstance(value, (list, tuple)):
            return "[" + ", ".join(map(short, value)) + "]"
        return str(value)

    named = [f"{k}={short(v)}" for k, v in sample.kwargs.items()]
    text = ", ".join([short(sample.input), *map(short, sample.args), *named])
    return text if len(text) < 160 else text[:157] + "..."
