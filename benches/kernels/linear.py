"""`F.linear` in eager and through ipex: results are checked, then calls interleaved.

    python benches/kernels/linear.py [--dtype float32|bfloat16|float16] [--rows 64,128,197]
        [--rounds 60]

Prints medians in microseconds, GFLOP/s of ipex and the ratio eager/ipex; at the end the geometric
mean. With --weights 40 the weights take turns and come from memory, as in decoding.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time

import torch
import torch.nn.functional as F

SHAPES = [(768, 768), (3072, 768), (768, 3072), (2304, 768)]


def compare(
    rows: int,
    out: int,
    inner: int,
    dtype: torch.dtype,
    rounds: int,
    weights: int,
    columns: bool,
) -> dict[str, float]:
    """Medians in microseconds; raises AssertionError if a result is wrong."""
    torch._dynamo.reset()
    x = torch.randn(rows, inner).to(dtype)
    w = [(torch.randn(out, inner) / inner**0.5).to(dtype) for _ in range(weights)]
    b = torch.randn(out).to(dtype)
    want = F.linear(x.double(), w[0].double(), b.double())
    if columns:
        w = [each.t().contiguous() for each in w]

    def linear(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.addmm(b, x, w) if columns else F.linear(x, w, b)

    rivals = {
        "eager": linear,
        "ipex": torch.compile(
            linear,
            backend="ipex",
            dynamic=False,
            fullgraph=True,
            options={"strict": True},
        ),
    }
    bound = {torch.bfloat16: 4e-2, torch.float16: 5e-3}.get(dtype, 1e-5)
    for f in rivals.values():
        torch.testing.assert_close(f(x, w[0], b).double(), want, rtol=bound, atol=bound)
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for n in range(rounds):
        for name, f in rivals.items():
            start = time.perf_counter()
            f(x, w[n % weights], b)
            times[name].append((time.perf_counter() - start) * 1e6)
    return {name: statistics.median(t) for name, t in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--rows", default="64,128,197")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--weights", type=int, default=1, help="weights that take turns")
    parser.add_argument("--columns", action="store_true", help="weights [inner, out]")
    args = parser.parse_args()
    dtype = getattr(torch, args.dtype)
    logs = []
    with torch.no_grad():
        for rows in map(int, args.rows.split(",")):
            for out, inner in SHAPES:
                us = compare(rows, out, inner, dtype, args.rounds, args.weights, args.columns)
                ratio = us["eager"] / us["ipex"]
                logs.append(math.log(ratio))
                rate = 2e-3 * rows * out * inner / us["ipex"]
                reads = 1e-3 * out * inner * dtype.itemsize / us["ipex"]
                print(
                    f"{rows:4d} x {inner:4d} -> {out:4d}  eager {us['eager']:8.1f} us"
                    f"  ipex {us['ipex']:8.1f} us  {rate:6.1f} GFLOP/s  {reads:5.1f} GB/s"
                    f"  eager/ipex {ratio:5.2f}",
                    flush=True,
                )
    print(f"geometric mean {math.exp(statistics.mean(logs)):.2f}")


if __name__ == "__main__":
    main()
