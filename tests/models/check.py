"""One architecture, eager and compiled."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from conformance.case import SEED, Outcome, attempt
from conformance.compare import Difference, same_kind
from conformance.samples import Job
from torch import nn
from torch._dynamo.utils import counters
from torch.utils import _pytree as pytree

from .zoo import Entry, build

BATCHES = (7, 2, 5)
"""The first is no other size of any model: Dynamo takes equal sizes for the same one."""
RELATIVE, ABSOLUTE = 1e-4, 1e-5
"""Bounds of float32 results, the absolute one in units of the largest element that is compared.

Rounding differs between fused and unfused kernels and grows with depth; a gradient that is zero but
for rounding (a bias in front of a batch norm) has no digits of its own to compare.
"""


def samples(job: Job, limit: int) -> list[tuple[int, int]]:
    """A batch size for each sample; the mode ``batches`` takes several in its one sample."""
    return [(0, BATCHES[0])]


def describe(sample: int) -> str:
    """The sample in words."""
    return f"batch {sample}"


def _compare(got: Any, want: Any, what: str) -> None:
    """Raises Difference unless the tensors of two trees agree."""
    gots = [t for t in pytree.tree_leaves(got) if isinstance(t, torch.Tensor)]
    wants = [t for t in pytree.tree_leaves(want) if isinstance(t, torch.Tensor)]
    if len(gots) != len(wants):
        raise Difference(f"{what}: {len(gots)} tensors, not {len(wants)}")
    sizes = [w.abs().max().item() for w in wants if w.is_floating_point() and w.numel()]
    scale = max((s for s in sizes if s < float("inf")), default=1.0)
    for n, (g, w) in enumerate(zip(gots, wants, strict=True)):
        where = f"{what} {n}"
        same_kind(g, w, where)
        exact = not w.is_floating_point()
        rtol, atol = (0.0, 0.0) if exact else (RELATIVE, ABSOLUTE * scale)
        try:
            torch.testing.assert_close(g.detach(), w.detach(), rtol=rtol, atol=atol, equal_nan=True)
        except AssertionError as error:
            raise Difference(
                f"{where} of {tuple(w.shape)}: {' '.join(str(error).split())}"
            ) from None


def _loss(outputs: Any) -> torch.Tensor:
    """A number to differentiate that every floating-point output has a part in."""
    parts = [
        t.square().mean()
        for t in pytree.tree_leaves(outputs)
        if isinstance(t, torch.Tensor) and t.requires_grad
    ]
    return torch.stack(parts).sum()


class Judge:
    """Compares a backend with eager on one architecture."""

    def __init__(self, job: Job, backend: str) -> None:
        self.job, self.backend = job, backend
        self.entry: Entry = build(job.op)
        self.entry.model.train(job.mode == "training")

    def judge(self, sample: int) -> Outcome:
        """Runs eager and the compiled copy on the same arguments."""
        model = copy.deepcopy(self.entry.model)
        torch._dynamo.reset()
        counters.clear()
        compiled = torch.compile(model, backend=self.backend, dynamic=self.job.mode == "batches")
        run = {"inference": self._inference, "training": self._training, "batches": self._batches}
        return attempt(lambda: run[self.job.mode](model, compiled, sample))

    def _calls(self, compiled: nn.Module, batch: int) -> None:
        torch.manual_seed(batch)
        arguments = self.entry.arguments(batch)
        with torch.no_grad():
            got, want = self._both(lambda m: m(**copy.deepcopy(arguments)), compiled)
        _compare(got, want, f"output of batch {batch}")

    def _both(self, call: Callable[[nn.Module], Any], compiled: nn.Module) -> tuple[Any, Any]:
        torch.manual_seed(SEED)
        want = call(self.entry.model)
        torch.manual_seed(SEED)
        return call(compiled), want

    def _inference(self, model: nn.Module, compiled: nn.Module, batch: int) -> None:
        self._calls(compiled, batch)

    def _batches(self, model: nn.Module, compiled: nn.Module, batch: int) -> None:
        graphs = []
        for size in BATCHES:
            self._calls(compiled, size)
            graphs.append(counters["stats"]["unique_graphs"])
        if graphs[-1] != graphs[0]:
            raise Difference(f"compiled again: {graphs} graphs after batches of {BATCHES}")

    def _training(self, model: nn.Module, compiled: nn.Module, batch: int) -> None:
        arguments = self.entry.arguments(batch)
        got, want = self._both(lambda m: m(**copy.deepcopy(arguments)), compiled)
        _compare(got, want, "output")
        for outputs in (got, want):
            torch.manual_seed(SEED + 1)
            _loss(outputs).backward()
        _compare(dict(model.named_buffers()), dict(self.entry.model.named_buffers()), "buffer")
        pairs = list(zip(model.named_parameters(), self.entry.model.parameters(), strict=True))
        for (name, p), q in pairs:
            if (p.grad is None) != (q.grad is None):
                raise Difference(f"gradient of {name}: {p.grad is None} to have none")
        grads = [(p.grad, q.grad) for (_, p), q in pairs if q.grad is not None]
        _compare([g for g, _ in grads], [w for _, w in grads], "gradient")
