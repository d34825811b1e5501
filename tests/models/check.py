"""One architecture, eager and compiled."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from conformance.case import SEED, Outcome, attempt
from conformance.compare import Difference, distance, same_kind
from conformance.samples import Job
from torch import nn
from torch._dynamo.utils import counters
from torch.utils import _pytree as pytree

from .zoo import Entry, build

BATCHES = (7, 2, 5)
"""The first is no other size of any model: Dynamo takes equal sizes for the same one."""
RELATIVE, ABSOLUTE, MULTIPLE = 1e-4, 1e-5, 3.0
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


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [t for t in pytree.tree_leaves(tree) if isinstance(t, torch.Tensor)]


def _compare(got: Any, want: Any, what: str, precise: Any = None) -> None:
    """Raises Difference unless the tensors of two trees agree.

    A tensor that is too far from eager's agrees too if its distance from `precise`, from float64,
    is at most `MULTIPLE` times the largest of eager's: some models amplify rounding.
    """
    gots, wants = _tensors(got), _tensors(want)
    if len(gots) != len(wants):
        raise Difference(f"{what}: {len(gots)} tensors, not {len(wants)}")
    sizes = [w.abs().max().item() for w in wants if w.is_floating_point() and w.numel()]
    scale = max((s for s in sizes if s < float("inf")), default=1.0)
    reference = _tensors(precise) if precise is not None else []
    allowed = MULTIPLE * max(map(distance, wants, reference), default=0.0)
    for n, (g, w) in enumerate(zip(gots, wants, strict=True)):
        where = f"{what} {n}"
        same_kind(g, w, where)
        exact = not w.is_floating_point()
        rtol, atol = (0.0, 0.0) if exact else (RELATIVE, ABSOLUTE * scale)
        try:
            torch.testing.assert_close(g.detach(), w.detach(), rtol=rtol, atol=atol, equal_nan=True)
        except AssertionError as error:
            if reference and not exact and distance(g, reference[n]) <= allowed:
                continue
            text = " ".join(str(error).split())
            raise Difference(f"{where} of {tuple(w.shape)}: {text}") from None


def _step(call: nn.Module, module: nn.Module, arguments: dict[str, Any]) -> dict[str, Any]:
    """What a training step leaves behind; `call` is the module or its compiled form."""
    torch.manual_seed(SEED)
    outputs = call(**copy.deepcopy(arguments))
    torch.manual_seed(SEED + 1)
    _loss(outputs).backward()
    grads = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    return {"output": outputs, "buffer": dict(module.named_buffers()), "gradient": grads}


def _double(tree: Any) -> Any:
    return pytree.tree_map(
        lambda t: t.double() if isinstance(t, torch.Tensor) and t.is_floating_point() else t, tree
    )


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
        precise = copy.deepcopy(model).double()
        arguments = self.entry.arguments(batch)
        want = _step(self.entry.model, self.entry.model, arguments)
        got = _step(compiled, model, arguments)
        if set(got["gradient"]) != set(want["gradient"]):
            names = set(got["gradient"]) ^ set(want["gradient"])
            raise Difference(f"only one of the two gives gradients of {sorted(names)}")
        try:
            self._same_step(got, want, None)
        except Difference:
            try:
                reference = _step(precise, precise, _double(arguments))
            except RuntimeError:  # a model that makes float32 tensors itself
                reference = None
            if reference is None:
                raise
            self._same_step(got, want, reference)

    def _same_step(self, got: Any, want: Any, precise: Any) -> None:
        for what in want:
            _compare(got[what], want[what], what, precise and precise[what])
