"""A frozen linear layer with bias and GELU in one step: share of the machine's peak.

    python benches/kernels/fused_linear.py --peak 236 [--dtype float32|bfloat16] [--rounds 60]
        [--gelu none|tanh|erf]

--peak is the GFLOP/s that `cargo run --release -p ipex-runtime --example gemm` prints for the same
dtype and threads. Results are checked against f64 first; the compiled graph is called without
Dynamo's guards. Prints the best and the median call in microseconds and their shares of the peak.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from typing import Any

import torch
import torch.nn.functional as F
from ipex import _core
from torch import nn

SHAPES = [(768, 768), (3072, 768), (768, 3072), (2304, 768)]


class Layer(nn.Module):
    """`gelu(x @ w.T + b)`, or without the GELU."""

    def __init__(self, inner: int, out: int, gelu: str) -> None:
        super().__init__()
        self.linear, self.gelu = nn.Linear(inner, out), gelu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.linear(x)
        return y if self.gelu == "none" else F.gelu(y, approximate=APPROXIMATE[self.gelu])


APPROXIMATE = {"tanh": "tanh", "erf": "none"}


class Recorder:
    """A compiled graph that remembers the arguments of its latest call."""

    _boxed_call = True

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.arguments: list[Any] = []

    def __call__(self, arguments: list[Any]) -> Any:
        self.arguments = list(arguments)
        return self.graph(arguments)


def graph_of(layer: Layer, x: torch.Tensor) -> tuple[Any, list[Any]]:
    """The compiled graph of a layer and its arguments in one call."""
    made: list[Recorder] = []
    compile_document = _core.compile

    def record(*args: Any) -> Any:
        made.append(Recorder(compile_document(*args)))
        return made[-1]

    _core.compile = record
    try:
        options = {"strict": True, "freezing": True}
        torch.compile(layer, backend="ipex", dynamic=False, fullgraph=True, options=options)(x)
    finally:
        _core.compile = compile_document
    return made[0].graph, made[0].arguments


def times(
    rows: int, out: int, inner: int, dtype: torch.dtype, gelu: str, rounds: int
) -> list[float]:
    """Microseconds of calls; raises AssertionError if a result is wrong."""
    torch._dynamo.reset()
    layer, x = Layer(inner, out, gelu), torch.randn(rows, inner)
    want = layer.double()(x.double())
    layer, x = layer.to(dtype), x.to(dtype)
    graph, arguments = graph_of(layer, x)
    bound = 4e-2 if dtype is torch.bfloat16 else 1e-5
    torch.testing.assert_close(graph(arguments)[0].double(), want, rtol=bound, atol=bound)
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        graph(arguments)
        found.append((time.perf_counter() - start) * 1e6)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peak", type=float, required=True, help="GFLOP/s")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--gelu", default="erf", choices=["none", *APPROXIMATE])
    parser.add_argument("--rounds", type=int, default=60)
    args = parser.parse_args()
    best, middle = [], []
    with torch.no_grad():
        for rows in (64, 128, 197):
            for out, inner in SHAPES:
                dtype = getattr(torch, args.dtype)
                us = times(rows, out, inner, dtype, args.gelu, args.rounds)
                ideal = 2e-3 * rows * out * inner / args.peak
                least, median = min(us), statistics.median(us)
                best.append(ideal / least)
                middle.append(ideal / median)
                print(
                    f"{rows:4d} x {inner:4d} -> {out:4d}  best {least:8.1f} us {best[-1]:5.2f}"
                    f"  median {median:8.1f} us {middle[-1]:5.2f}",
                    flush=True,
                )
    for name, shares in (("best", best), ("median", middle)):
        mean = math.exp(statistics.mean(map(math.log, shares)))
        print(f"{name}: geometric mean {mean:.3f}, least {min(shares):.3f}")


if __name__ == "__main__":
    main()
