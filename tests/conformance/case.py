"""One sample of an operator: eager, compiled, and whether they agree."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from .compare import Difference, compare, same_sharing, sharing
from .samples import DTYPES, Job, describe, operators, samples, twin
from .tolerance import UNDEFINED

__all__ = ["Judge", "describe", "samples"]
SEED = 17
_LOW = (torch.float16, torch.bfloat16)


@dataclass
class Outcome:
    """What became of a sample: pass, wrong, error, or skip where eager itself raises."""

    kind: str
    text: str = ""
    fell_back: str = ""
    """Why the backend ran a graph in eager, if it did."""
    rule: str = "eager"
    """What a sample that passes agrees with: see `Judge`."""


def attempt(compare: Callable[[], str | None]) -> Outcome:
    """Runs something that raises Difference where results differ, and may name the rule."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            rule = compare()
        except Difference as difference:
            outcome = Outcome("wrong", str(difference)[:400])
        except Exception as error:  # noqa: BLE001
            outcome = Outcome("error", _line(error))
        else:
            outcome = Outcome("pass", rule=rule or "eager")
    fell_back = [str(w.message) for w in caught if w.category.__name__ == "FallbackWarning"]
    outcome.fell_back = fell_back[0] if fell_back else ""
    return outcome


@dataclass
class Result:
    """What a call left behind."""

    outputs: Any
    inputs: Any
    grads: Any
    generator: torch.Tensor


def execute(call: Callable[..., Any], sample: Any, job: Job) -> Result:
    """Calls on copies of a sample's arguments, with gradients in mode ``gradient``."""
    inputs = twin((sample.input, tuple(sample.args), dict(sample.kwargs)))
    first, args, kwargs = inputs
    torch.manual_seed(SEED)
    with torch.set_grad_enabled(job.mode == "gradient"):
        outputs = call(first, *args, **kwargs)
    state = torch.get_rng_state()
    grads = _gradients(outputs, inputs, sample) if job.mode == "gradient" else None
    return Result(outputs, inputs, grads, state)


def _gradients(outputs: Any, inputs: Any, sample: Any) -> list[torch.Tensor | None]:
    """Of all inputs that ask for one, for fixed cotangents of all outputs that have one."""
    ends = [
        t
        for t in pytree.tree_leaves(sample.output_process_fn_grad(outputs))
        if isinstance(t, torch.Tensor) and t.requires_grad
    ]
    starts = [t for t in pytree.tree_leaves(inputs) if isinstance(t, torch.Tensor)]
    starts = [t for t in starts if t.requires_grad]
    if not ends or not starts:
        return []
    torch.manual_seed(SEED + 1)
    cotangents = [torch.randn_like(t) if t.layout is torch.strided else t for t in ends]
    found = torch.autograd.grad(ends, starts, cotangents, allow_unused=True)
    # AOTAutograd gives zeros where eager may give none at all.
    return [torch.zeros_like(s) if g is None else g for g, s in zip(found, starts, strict=True)]


def _upcast(sample: Any) -> Any:
    def up(leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor) and leaf.dtype in _LOW:
            return leaf.float()
        return torch.float32 if isinstance(leaf, torch.dtype) and leaf in _LOW else leaf

    values = (sample.input, tuple(sample.args), dict(sample.kwargs))
    first, args, kwargs = pytree.tree_map(up, values)
    return type(sample)(first, args=args, kwargs=kwargs)


def _like(want: Any, got: Any) -> Any:
    """A float32 reference in the dtype of what is compared with it."""
    if isinstance(got, torch.Tensor) and got.dtype in _LOW:
        return want.to(got.dtype)
    return got if isinstance(got, torch.dtype) else want


class Judge:
    """Compares a backend with eager on the samples of one job.

    The first that holds is the rule by which a sample passes:

    - ``eager``: its results are within bounds of eager's.
    - ``float32``: in low precision, they are within bounds of a float32 reference. This is all that
      PyTorch's test looks at: a fused graph rounds once where eager rounds after each step.
    - ``nearer``: eager is out of bounds of that reference itself, and they are no farther away.
    """

    def __init__(self, job: Job, backend: str) -> None:
        self.job, self.backend = job, backend
        self.dtype = DTYPES[job.dtype]
        op = operators()[job.op].op

        def call(*args: Any, **kwargs: Any) -> Any:
            return op(*args, **kwargs)

        self.eager = call
        torch._dynamo.reset()
        self.compiled = torch.compile(call, backend=backend, dynamic=job.mode == "dynamic")

    def _agree(self, got: Result, want: Result, random: bool) -> None:
        # Inductor draws random numbers in its own way unless told otherwise.
        own_way = random and self.backend == "inductor"
        values = self.job.op not in UNDEFINED and not own_way
        op, dtype = self.job.op, self.dtype
        compare(got.outputs, want.outputs, op, dtype, values=values, what="output")
        compare(got.inputs, want.inputs, op, dtype, values=values, what="input afterwards")
        same_sharing(sharing(got.outputs, got.inputs), sharing(want.outputs, want.inputs))
        compare(got.grads, want.grads, op, dtype, values=values, what="gradient")
        if not own_way and not torch.equal(got.generator, want.generator):
            raise Difference("the generator's state differs afterwards")

    def _reference(self, got: Result, eager: Result, sample: Any) -> str | None:
        """The rule by which a result of low precision agrees with a float32 reference."""
        if self.dtype not in _LOW:
            return None
        try:
            want = execute(self.eager, _upcast(sample), self.job)
        except Exception:  # noqa: BLE001
            return None
        for rule in ("float32", "nearer"):
            with contextlib.suppress(Exception):
                for what in ("outputs", "inputs"):
                    g, e = getattr(got, what), getattr(eager, what)
                    w = pytree.tree_map(_like, getattr(want, what), g)
                    e = e if rule == "nearer" else None
                    compare(g, w, self.job.op, self.dtype, what=what, eager=e)
                return rule
        return None

    def judge(self, sample: Any) -> Outcome:
        """Runs a sample both ways."""
        torch.manual_seed(SEED)
        before = torch.get_rng_state()
        try:
            want = execute(self.eager, sample, self.job)
        except Exception as error:  # noqa: BLE001
            return Outcome("skip", f"eager: {_line(error)}")
        if self.job.mode != "dynamic":
            torch._dynamo.reset()
        random = not torch.equal(before, want.generator)
        return attempt(lambda: self._compiled(sample, want, random))

    def _compiled(self, sample: Any, want: Result, random: bool) -> str | None:
        got = execute(self.compiled, sample, self.job)
        try:
            self._agree(got, want, random)
        except Difference:
            rule = self._reference(got, want, sample)
            if rule is None:
                raise
            return rule
        return None


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
