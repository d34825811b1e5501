"""Eager, Inductor and ipex on single fused kernels: results are checked, then calls interleaved.

    python benches/kernels/side_by_side.py [--only gelu,...] [--rounds 60] [--no-inductor]

Prints medians of calls in microseconds and the ratio Inductor/ipex; at the end the geometric mean
over all kernels and shapes. f32, no grad.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

SHAPES = [(8, 64), (128, 768), (1024, 1024), (2048, 4096)]

Tensor = torch.Tensor
KERNELS: dict[str, Callable[..., Tensor]] = {
    "bias_gelu": lambda x, y, b, m: F.gelu(x + b),
    "bias_gelu_tanh": lambda x, y, b, m: F.gelu(x + b, approximate="tanh"),
    "silu_mul": lambda x, y, b, m: F.silu(x) * y,
    "layer_norm_residual": lambda x, y, b, m: F.layer_norm(x + y, (x.shape[-1],), b, b),
    "rms_norm": lambda x, y, b, m: F.rms_norm(x, (x.shape[-1],), b, 1e-6),
    "masked_softmax": lambda x, y, b, m: F.softmax(torch.where(m, x, -1e9), -1),
    "axpy": lambda x, y, b, m: x + 2 * y,
    "column_sum": lambda x, y, b, m: x.sum(0),
}


def compare(name: str, shape: tuple[int, int], rounds: int, inductor: bool) -> dict[str, float]:
    """Medians in microseconds; raises AssertionError if a result differs from eager's."""
    torch._dynamo.reset()
    kernel = KERNELS[name]
    x, y, b = torch.randn(shape), torch.randn(shape), torch.randn(shape[1])
    args = (x, y, b, torch.rand(shape) > 0.2)
    options: dict[str, Any] = {"fullgraph": True, "dynamic": False}
    rivals = {
        "eager": kernel,
        "ipex": torch.compile(kernel, backend="ipex", options={"strict": True}, **options),
    }
    if inductor:
        rivals["inductor"] = torch.compile(kernel, **options)
    want = kernel(*args)
    for f in rivals.values():
        torch.testing.assert_close(f(*args), want, rtol=1e-4, atol=1e-4)
    # Short calls are timed in batches; the rivals take turns.
    start = time.perf_counter()
    for _ in range(3):
        kernel(*args)
    once = (time.perf_counter() - start) / 3
    batch = max(1, min(100, int(1e-3 / once)))
    times: dict[str, list[float]] = {rival: [] for rival in rivals}
    for round_ in range(rounds + 3):
        for rival, f in rivals.items():
            start = time.perf_counter()
            for _ in range(batch):
                f(*args)
            if round_ >= 3:
                times[rival].append((time.perf_counter() - start) / batch * 1e6)
    return {rival: statistics.median(t) for rival, t in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(KERNELS))
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--no-inductor", action="store_true")
    args = parser.parse_args()
    logs = []
    with torch.no_grad():
        for name in args.only.split(","):
            for shape in SHAPES:
                us = compare(name, shape, args.rounds, not args.no_inductor)
                rival = "eager" if args.no_inductor else "inductor"
                ratio = us[rival] / us["ipex"]
                logs.append(math.log(ratio))
                line = "  ".join(f"{r} {t:9.1f} us" for r, t in us.items())
                place = "x".join(map(str, shape))
                print(f"{name:20s} {place:10s} {line}  {rival}/ipex {ratio:5.2f}", flush=True)
    print(f"geometric mean {math.exp(statistics.mean(logs)):.2f}")


if __name__ == "__main__":
    main()
