"""Layers with the same input, one by one and as one layer of their stacked weights, not frozen.

    python benches/kernels/joining.py [--rounds 60]

The stacked layer is what joining layers that are not frozen could give at most: it copies no
weights and has one parallel loop. Results are checked; calls take turns, and so do sets of weights
that together exceed the last cache. Prints medians in microseconds and their ratio.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

Set = list[torch.Tensor]
# Rows, columns of the input, and of each layer.
CASES = [
    ("BERT q, k, v", 128, 768, [768, 768, 768]),
    ("GPT-2 q, k, v of 64 rows", 64, 768, [768, 768, 768]),
    ("Llama q, k, v, one token", 1, 1024, [1024, 256, 256]),
    ("Llama gate and up, one token", 1, 1024, [2816, 2816]),
    ("Llama gate and up, 128 tokens", 128, 1024, [2816, 2816]),
]
CACHES = 128 << 20


def separate(x: torch.Tensor, weights: Set) -> Set:
    return [F.linear(x, w) for w in weights]


def compare(rows: int, inner: int, outs: list[int], rounds: int) -> tuple[float, float]:
    """Medians of the layers one by one and stacked."""
    torch._dynamo.reset()
    x = torch.randn(rows, inner)
    count = max(1, CACHES // (4 * inner * sum(outs))) if rows == 1 else 4
    sets = [[torch.randn(out, inner) / inner**0.5 for out in outs] for _ in range(count)]
    stacked = [[torch.cat(weights)] for weights in sets]
    f: Callable[[torch.Tensor, Set], Set] = torch.compile(
        separate, backend="ipex", dynamic=False, fullgraph=True, options={"strict": True}
    )
    torch.testing.assert_close(torch.cat(f(x, sets[0]), 1), f(x, stacked[0])[0])
    times: tuple[list[float], list[float]] = ([], [])
    for n in range(rounds):
        for found, given in zip(times, (sets, stacked), strict=True):
            start = time.perf_counter()
            f(x, given[n % count])
            found.append((time.perf_counter() - start) * 1e6)
    return statistics.median(times[0]), statistics.median(times[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    args = parser.parse_args()
    logs = []
    with torch.no_grad():
        for name, rows, inner, outs in CASES:
            apart, together = compare(rows, inner, outs, args.rounds)
            logs.append(math.log(apart / together))
            ratio = apart / together
            print(f"{name:30s} {apart:8.1f} us, stacked {together:8.1f} us  {ratio:5.3f}")
    print(f"geometric mean {math.exp(statistics.mean(logs)):.3f}")


if __name__ == "__main__":
    main()
