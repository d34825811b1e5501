"""The process that runs samples; it may crash or hang."""

from __future__ import annotations

import importlib
import logging
import os
import resource
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from .samples import MODEL_MODES

MEMORY = 6 << 30
"""Address-space growth, in bytes, after which a process asks to be replaced."""


@dataclass
class Failure:
    """A sample that did not pass."""

    sample: int
    kind: str
    arguments: str
    text: str
    aot_eager: str = ""
    """What ``backend="aot_eager"``, PyTorch's part of the way alone, makes of the same sample."""


@dataclass
class Verdict:
    """What became of the samples of a job."""

    passed: int = 0
    skipped: int = 0
    failures: list[Failure] = field(default_factory=list)
    fell_back: str = ""
    seconds: float = 0.0
    rules: dict[str, int] = field(default_factory=dict)
    """So many samples pass by a rule other than being within bounds of eager's."""


def _prepare() -> None:
    import torch

    for module in filter(None, os.environ.get("CONFORMANCE_IMPORT", "").split(",")):
        importlib.import_module(module)  # may register a backend

    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    torch._dynamo.config.recompile_limit = 1000
    torch._dynamo.config.accumulated_recompile_limit = 100_000
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 2)


def serve(link: Connection, backend: str, limit: int) -> None:
    """Answers (job, first sample) until None comes, saying which sample it is at."""
    _prepare()
    link.send("ready")
    while (order := link.recv()) is not None:
        job, first = order
        link.send(_run(job, first, backend, limit, lambda *at: link.send(at)))
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > MEMORY:
            return


def _suite(mode: str) -> Any:
    """The module that knows a mode: its samples, their description, its judge."""
    if mode in MODEL_MODES:
        from models import check

        return check
    from . import case

    return case


def _run(
    job: Any, first: int, backend: str, limit: int, tell: Callable[[int, str], None]
) -> Verdict:
    suite = _suite(job.mode)
    verdict = Verdict()
    start = time.monotonic()
    judge = suite.Judge(job, backend)
    for n, sample in suite.samples(job, limit):
        if n < first:
            continue
        tell(n, suite.describe(sample))
        outcome = judge.judge(sample)
        verdict.fell_back = verdict.fell_back or outcome.fell_back
        if outcome.kind == "pass":
            verdict.passed += 1
            if outcome.rule != "eager":
                verdict.rules[outcome.rule] = verdict.rules.get(outcome.rule, 0) + 1
        elif outcome.kind == "skip":
            verdict.skipped += 1
        else:
            shared = ""
            if backend != "aot_eager":
                shared = suite.Judge(job, "aot_eager").judge(sample).kind
                judge = suite.Judge(job, backend)
            arguments = suite.describe(sample)
            verdict.failures.append(Failure(n, outcome.kind, arguments, outcome.text, shared))
    verdict.seconds = round(time.monotonic() - start, 2)
    return verdict
