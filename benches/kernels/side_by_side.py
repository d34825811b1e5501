"""Eager, Inductor and ipex on single fused kernels: results are checked, then calls interleaved.

    python benches/kernels/side_by_side.py [--only gelu,...] [--sizes 8x64,...] [--bf16]
        [--rounds 15] [--no-inductor] [--prepare]

Prints medians of calls in microseconds and the ratios Inductor/ipex and eager/ipex, at 2048x4096
the memory traffic of ipex as a share of what a copy between two tensors of that size reaches, which
takes its turn among the rivals. The share is also printed without Dynamo's guards: large tensors
push what these read out of the caches, so that they take 0.1 to 0.2 ms. At the end geometric means
and what lost. No grad. --prepare only compiles and checks, which fills Inductor's cache on disk.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from cases import CASES, Shape
from timing import direct
from torch.utils._pytree import tree_leaves, tree_map_only

SIZES = "8x64,128x768,1024x1024,2048x4096"
# A ratio below is a loss.
LOSS = 0.95

Call = Callable[[], Any]


def tensors(tree: Any) -> list[torch.Tensor]:
    return [t for t in tree_leaves(tree) if isinstance(t, torch.Tensor)]


def in_f32(tree: Any) -> Any:
    return tree_map_only(torch.Tensor, lambda t: t.float() if t.is_floating_point() else t, tree)


def check(results: Iterable[torch.Tensor], wanted: Iterable[torch.Tensor], dtype: Any) -> None:
    """Compares with results of f32, to a part of the largest element that the dtype allows."""
    near = 2e-2 if dtype == torch.bfloat16 else 1e-4
    for got, want in zip(results, wanted, strict=True):
        want = want.float()
        scale = want.abs().max().clamp(min=1).item()
        torch.testing.assert_close(got.float(), want, rtol=near, atol=near * scale)


def rivals_of(name: str, shape: Shape, dtype: torch.dtype, inductor: bool) -> dict[str, Call]:
    """Calls with arguments of their own; raises AssertionError if a result is wrong."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    kernel, args = CASES[name](shape, dtype)
    options: dict[str, Any] = {"fullgraph": True, "dynamic": False}
    functions = {
        "eager": kernel,
        "ipex": torch.compile(kernel, backend="ipex", options={"strict": True}, **options),
    }
    if inductor:
        functions["inductor"] = torch.compile(kernel, **options)
    exact = in_f32([t.clone() if isinstance(t, torch.Tensor) else t for t in args])
    if name == "cross_entropy_backward":
        kernel, _ = CASES[name](shape, torch.float32)
    wanted = tensors([kernel(*exact), exact])
    calls: dict[str, Call] = {}
    for rival, f in functions.items():
        own = args
        if name == "adamw":
            own = [t.clone() for t in args]
        results = tensors([f(*own), own])
        # Eager sums bf16 in bf16 in places.
        if rival != "eager":
            check(results, wanted, dtype)
        calls[rival] = lambda f=f, own=own: f(*own)
    return calls


def medians(calls: dict[str, Call], rounds: int) -> dict[str, float]:
    """Microseconds. Short calls are timed in batches; rivals take turns in changing order, since
    a call finds in the caches what the one before has left there.
    """
    start = time.perf_counter()
    for _ in range(3):
        for call in calls.values():
            call()
    once = (time.perf_counter() - start) / 3 / len(calls)
    batch = max(1, min(100, int(1e-3 / once)))
    times: dict[str, list[float]] = {rival: [] for rival in calls}
    order, draw = list(calls.items()), random.Random(0)
    for round_ in range(rounds + 2):
        draw.shuffle(order)
        for rival, call in order:
            start = time.perf_counter()
            for _ in range(batch):
                call()
            if round_ >= 2:
                times[rival].append((time.perf_counter() - start) / batch * 1e6)
    return {rival: statistics.median(t) for rival, t in times.items()}


def traffic(name: str, shape: Shape, dtype: torch.dtype) -> int:
    """Bytes that a kernel must read and write: its arguments, and its results."""
    kernel, args = CASES[name](shape, dtype)
    if name == "adamw":  # parameters and moments are written, gradients are not
        return sum(t.nbytes * (1 if k % 5 in (1, 4) else 2) for k, t in enumerate(args))
    results = tensors(kernel(*args))
    if name == "embedding_add_norm":  # rows of the table, not all of it
        args[1] = args[2]
    return sum(t.nbytes for t in [*tensors(args), *results])


def copy(shape: Shape, dtype: torch.dtype) -> tuple[Call, int]:
    """A copy between two tensors, and the bytes that it reads and writes."""
    source = torch.randn(shape).to(dtype)
    target = torch.empty_like(source)
    return lambda: target.copy_(source), 2 * source.nbytes


def compare(name: str, size: str, dtype: torch.dtype, args: Any, logs: dict[str, Any]) -> None:
    """Prints one line and notes ratios."""
    rows, columns = map(int, size.split("x"))
    shape = (rows, columns)
    calls = rivals_of(name, shape, dtype, not args.no_inductor)
    if args.prepare:
        print(f"{name:22s} {size:10s} is right", flush=True)
        return
    large = rows * columns >= 2048 * 4096
    copied = 0
    if large:  # in turns with the others, which leave the caches to it as they do to us
        calls["copy"], copied = copy(shape, dtype)
        calls["direct"] = direct(*CASES[name](shape, dtype))
    us = medians(calls, args.rounds)
    bandwidth, unguarded = copied / us.pop("copy", 1), us.pop("direct", 1)
    line = f"{name:22s} {size:10s}" + "".join(f"  {r} {t:9.1f}" for r, t in us.items())
    for rival in us.keys() - {"ipex"}:
        ratio = us[rival] / us["ipex"]
        logs.setdefault(rival, []).append(math.log(ratio))
        line += f"  {rival}/ipex {ratio:5.2f}"
        bound = LOSS if rival == "inductor" else 1.0
        if ratio < bound and (rival == "inductor" or rows >= 128):
            logs.setdefault("lost", []).append(f"{name} {size} {rival} {ratio:.2f}")
    if large:
        moved = traffic(name, shape, dtype)
        reached, alone = moved / us["ipex"], moved / unguarded
        line += f"  {reached / 1e3:5.1f} GB/s, {reached / bandwidth:.2f} of a copy's"
        line += f" ({alone / bandwidth:.2f} without guards)"
    print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(CASES))
    parser.add_argument("--sizes", default=SIZES)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--no-inductor", action="store_true")
    parser.add_argument("--prepare", action="store_true")
    args = parser.parse_args()
    dtype = torch.bfloat16 if args.bf16 else torch.float32
    logs: dict[str, Any] = {}
    with torch.no_grad():
        for name in args.only.split(","):
            for size in args.sizes.split(","):
                compare(name, size, dtype, args, logs)
    for rival in logs.keys() - {"lost"}:
        print(f"geometric mean {rival}/ipex {math.exp(statistics.mean(logs[rival])):.2f}")
    print("lost:", "; ".join(logs.get("lost", ["nothing"])))


if __name__ == "__main__":
    main()
