"""Products of bytes with dequantisation and bias: ipex beside eager, interleaved.

    python benches/kernels/int8.py [--rounds 31] [--freezing] [--inductor]

`torch._int_mm(x, w).float() * scale_of_row * scale_of_column + bias`, first with x in bytes, then
with x in f32, which is quantised row by row before. Results are checked first. Prints the median
times (us) and their ratios to ipex's, and the products' GOP/s.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from timing import median_times
from torch import nn

SHAPES = [(768, 768), (3072, 768), (768, 3072), (2304, 768)]


class Layer(nn.Module):
    """A linear layer whose weights are bytes; `quantises` what comes in, or takes bytes."""

    def __init__(self, inner: int, out: int, quantises: bool) -> None:
        super().__init__()
        self.quantises = quantises
        weight = torch.randint(-127, 128, (out, inner), dtype=torch.int8)
        self.register_buffer("weight", weight)
        self.register_buffer("scale", torch.rand(out) / inner)
        self.register_buffer("bias", torch.randn(out))

    def forward(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        if self.quantises:
            scale = x.abs().amax(1, keepdim=True) / 127
            x = (x / scale).round().clamp(-127, 127).to(torch.int8)
        product = torch._int_mm(x, self.weight.t())
        return product.float() * scale * self.scale + self.bias


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--freezing", action="store_true")
    parser.add_argument("--inductor", action="store_true")
    args = parser.parse_args()
    options = {"strict": True, "freezing": args.freezing}
    ratios: list[list[float]] = []
    with torch.no_grad():
        for quantises in (False, True):
            for rows in (1, 16, 64, 128, 197):
                for out, inner in SHAPES:
                    torch._dynamo.reset()
                    layer = Layer(inner, out, quantises)
                    x = torch.randint(-127, 128, (rows, inner), dtype=torch.int8)
                    inputs = (torch.randn(rows, inner) if quantises else x, torch.rand(rows, 1))
                    ways: list[Callable[..., torch.Tensor]] = [layer]
                    if args.inductor:
                        ways.append(torch.compile(layer, dynamic=False))
                    ways.append(
                        torch.compile(layer, backend="ipex", dynamic=False, options=options)
                    )
                    for way in ways[1:]:
                        torch.testing.assert_close(way(*inputs), layer(*inputs))
                    *others, ipex = median_times(ways, inputs, args.rounds)
                    ratios.append([other / ipex for other in others])
                    shown = "  ".join(f"{other:8.1f} us" for other in others)
                    print(
                        f"{'f32' if quantises else 'i8':3s} {rows:4d} x {inner:4d} -> {out:4d}"
                        f"  others {shown}  ipex {ipex:8.1f} us"
                        f" {2e-3 * rows * inner * out / ipex:6.0f} GOP/s"
                        f"  {'  '.join(f'{r:.2f}' for r in ratios[-1])}",
                        flush=True,
                    )
    for name, of in zip(("eager", "Inductor"), zip(*ratios, strict=True), strict=False):
        print(
            f"{name}/ipex: geometric mean {statistics.geometric_mean(of):.2f}, least {min(of):.2f}"
        )


if __name__ == "__main__":
    main()
