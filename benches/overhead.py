"""What a call of a two-op graph of 8x64 costs beyond a backend that does nothing.

    python benches/overhead.py [--rounds 200]

The do-nothing backend stands behind AOTAutograd too; it returns a prepared tensor. Prints medians
of interleaved batches in microseconds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch._dynamo.backends.common import aot_autograd


def nothing(gm: torch.fx.GraphModule, inputs: list[Any]) -> Callable[[list[Any]], Any]:
    result = gm(*[torch.empty_strided(x.shape, x.stride()) for x in inputs])

    def run(args: list[Any]) -> Any:
        args.clear()
        return result

    run._boxed_call = True  # type: ignore[attr-defined]
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds

    def f(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + 2 * y

    x, y = torch.randn(8, 64), torch.randn(8, 64)
    rivals: dict[str, Callable[..., torch.Tensor]] = {"eager": f}
    for name, backend in {
        "nothing": aot_autograd(fw_compiler=nothing),
        "ipex": "ipex",
        "inductor": "inductor",
    }.items():
        torch._dynamo.reset_code_caches()
        g = lambda x, y: x + 2 * y  # noqa: E731
        rivals[name] = torch.compile(g, backend=backend, dynamic=False)
    times: dict[str, list[float]] = {name: [] for name in rivals}
    with torch.no_grad():
        for name, g in rivals.items():
            if name != "nothing":
                torch.testing.assert_close(g(x, y), f(x, y))
        for _ in range(rounds):
            for name, g in rivals.items():
                start = time.perf_counter()
                for _ in range(100):
                    g(x, y)
                times[name].append((time.perf_counter() - start) * 1e4)
    medians = {name: statistics.median(t) for name, t in times.items()}
    for name, us in medians.items():
        print(
            f"{name:9s} {us:6.2f} us  {us - medians['nothing']:+6.2f} over the do-nothing backend"
        )


if __name__ == "__main__":
    main()
