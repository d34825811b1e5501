"""Linear layers whose weights are bytes, dequantised in the graph: beside eager and Inductor.

    python benches/kernels/weight_only.py [--rounds 21] [--rows 1 4 8 16 128]
        [--dtypes float32 bfloat16] [--freezing] [--inductor]

`F.linear(x, w.to(x.dtype)) * scales` at sizes of Llama 7B's layers, calls of all ways interleaved.
Results are checked against f64 first. Prints the median times (us) of eager's linear layer on the
same weights as floats of x's type (what dequantising ahead would give), of eager and Inductor on
the bytes, and of ipex on floats and on bytes; then, of ipex on bytes, GB of bytes read in a second,
and the others' times over its time.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
import torch.nn.functional as F
from timing import median_times
from torch import nn

SHAPES = [(4096, 4096), (11008, 4096), (4096, 11008)]


class Bytes(nn.Module):
    """Weight-only int8, as gpt-fast writes it."""

    def __init__(self, out: int, inner: int, dtype: torch.dtype) -> None:
        super().__init__()
        weight = torch.randint(-127, 128, (out, inner), dtype=torch.int8)
        self.register_buffer("weight", weight)
        self.register_buffer("scales", (torch.rand(out) / inner).to(dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight.to(x.dtype)) * self.scales


class Floats(nn.Module):
    """The same, dequantised ahead."""

    def __init__(self, of: Bytes) -> None:
        super().__init__()
        dtype = of.scales.dtype
        weight = of.weight.to(dtype) * of.scales[:, None]
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 4, 8, 16, 128])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--freezing", action="store_true")
    parser.add_argument("--inductor", action="store_true")
    args = parser.parse_args()
    names = ["eager floats", "eager", *(["Inductor"] if args.inductor else []), "ipex floats"]
    print("; ".join(names) + "; ipex")
    ratios: list[list[float]] = []
    for dtype in (getattr(torch, name) for name in args.dtypes):
        for rows in args.rows:
            for out, inner in SHAPES:
                with torch.no_grad():
                    ratios.append(measure(dtype, (rows, out, inner), args))
    for name, of in zip(names, zip(*ratios, strict=True), strict=True):
        mean = statistics.geometric_mean(of)
        print(f"{name} / ipex: geometric mean {mean:.2f}, least {min(of):.2f}")


def measure(
    dtype: torch.dtype, sizes: tuple[int, int, int], args: argparse.Namespace
) -> list[float]:
    """Prints a line of times; the others' over ipex's."""
    rows, out, inner = sizes
    torch._dynamo.reset()
    options = {"strict": True, "freezing": args.freezing}
    on_bytes = Bytes(out, inner, dtype)
    floats = Floats(on_bytes)
    x = torch.randn(rows, inner).to(dtype)
    want = on_bytes.double()(x.double())
    on_bytes = on_bytes.to(dtype)
    ways: list[Callable[[torch.Tensor], torch.Tensor]] = [floats, on_bytes]
    if args.inductor:
        own = {"freezing": args.freezing}
        ways.append(torch.compile(on_bytes, dynamic=False, options=own))
    ways.append(torch.compile(floats, backend="ipex", dynamic=False, options=options))
    ways.append(torch.compile(on_bytes, backend="ipex", dynamic=False, options=options))
    bound = 1e-5 if dtype is torch.float32 else 3e-2
    for way in ways:
        error = (way(x).double() - want).abs().max() / want.abs().max()
        assert error < bound, float(error)
    *others, ipex = median_times(ways, (x,), args.rounds)
    ratios = [other / ipex for other in others]
    print(
        f"{str(dtype)[6:]:8s} {rows:4d} x {inner:5d} -> {out:5d}  "
        + " ".join(f"{t:8.0f}" for t in [*others, ipex])
        + f" us  {1e-3 * out * inner / ipex:5.1f} GB/s  "
        + " ".join(f"{r:6.2f}" for r in ratios),
        flush=True,
    )
    return ratios


if __name__ == "__main__":
    main()
