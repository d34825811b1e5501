"""Where the microseconds of a small kernel go: the parts of a call, measured.

    python benches/kernels/floor.py [--only axpy,...] [--sizes 8x64,128x768] [--rounds 60]

Calls in turns, medians of batches in microseconds:

- eager, Inductor, ipex: as people call them;
- Dynamo: the same function through torch.compile with a backend whose function returns prepared
  results and does nothing else, which no backend can be faster than;
- AOT: the same behind AOTAutograd, whose wrapper a graph that changes its arguments needs;
- direct: what ipex hands to Dynamo, called with the arguments, so that no guards are checked.
"""

from __future__ import annotations

import argparse
import functools
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from cases import CASES, Shape
from timing import direct
from torch._dynamo.backends.common import aot_autograd

Call = Callable[[], Any]


def prepared(args: list[Any], graph: Callable[..., Any]) -> Any:
    """Results of a graph on copies of its arguments."""
    return graph(*[a.clone() if isinstance(a, torch.Tensor) else a for a in args])


def rivals_of(name: str, shape: Shape, inductor: bool) -> dict[str, Call]:
    torch._dynamo.reset()
    torch.manual_seed(0)
    kernel, args = CASES[name](shape, torch.float32)

    def dynamo(graph: Any, inputs: list[Any]) -> Callable[..., Any]:
        result = prepared(inputs, graph)
        return lambda *_: result

    def aot(graph: Any, inputs: list[Any]) -> Callable[..., Any]:
        make = {True: torch.ones, False: torch.zeros}
        result = graph(*[make[x.is_floating_point()](x.shape, dtype=x.dtype) for x in inputs])

        def run(given: list[Any]) -> Any:
            given.clear()
            return result

        run._boxed_call = True  # type: ignore[attr-defined]
        return run

    def own() -> list[Any]:
        return [t.clone() if isinstance(t, torch.Tensor) else t for t in args]

    backends: dict[str, Any] = {
        "ipex": "ipex",
        "Dynamo": dynamo,
        "AOT": aot_autograd(fw_compiler=aot, keep_inference_input_mutations=True),
    }
    if inductor:
        backends["Inductor"] = "inductor"
    calls: dict[str, Call] = {"eager": functools.partial(kernel, *own())}
    for rival, backend in backends.items():
        torch._dynamo.reset_code_caches()
        # A function of its own for each, as compiled code belongs to the function.
        f = CASES[name](shape, torch.float32)[0]
        compiled = torch.compile(f, backend=backend, dynamic=False, fullgraph=True)
        mine = own()
        compiled(*mine)
        calls[rival] = functools.partial(compiled, *mine)
    calls["direct"] = direct(CASES[name](shape, torch.float32)[0], own())
    return calls


def medians(calls: dict[str, Call], rounds: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    order, draw = list(calls.items()), random.Random(0)
    for round_ in range(rounds + 3):
        draw.shuffle(order)
        for name, call in order:
            start = time.perf_counter()
            for _ in range(50):
                call()
            if round_ >= 3:
                times[name].append((time.perf_counter() - start) / 50 * 1e6)
    return {name: statistics.median(t) for name, t in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(CASES))
    parser.add_argument("--sizes", default="8x64,128x768")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--no-inductor", action="store_true")
    args = parser.parse_args()
    with torch.no_grad():
        for name in args.only.split(","):
            for size in args.sizes.split(","):
                rows, columns = map(int, size.split("x"))
                calls = rivals_of(name, (rows, columns), not args.no_inductor)
                us = medians(calls, args.rounds)
                print(
                    f"{name:22s} {size:8s}", *(f"{n} {t:7.2f} " for n, t in us.items()), flush=True
                )


if __name__ == "__main__":
    main()
