"""Static int8 as `convert_pt2e` leaves it: ipex beside eager, Inductor and the layers in f32.

    python benches/kernels/static_int8.py [--rounds 21] [--freezing] [--inductor]

A quantised linear layer, ReLU, and what quantises for the next layer; results are checked first.
Prints the median times (us) of eager on f32 layers, ipex on f32 layers, eager and Inductor on the
quantised ones, and ipex on them; then the others' times over its time.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
import torch.ao.quantization.fx._decomposed  # registers the operators
import torch.nn.functional as F
from timing import median_times
from torch import nn

SHAPES = [(768, 768), (3072, 768), (768, 3072), (2304, 768)]
Q = torch.ops.quantized_decomposed


class Layer(nn.Module):
    """A linear layer with its quantisation; `quantises` or is of f32."""

    def __init__(self, inner: int, out: int) -> None:
        super().__init__()
        self.quantises = True
        weight = torch.randint(-127, 128, (out, inner), dtype=torch.int8)
        self.register_buffer("weight", weight)
        self.register_buffer("scales", torch.rand(out) / inner / 50)
        self.register_buffer("zeros", torch.zeros(out, dtype=torch.int64))
        self.register_buffer("bias", torch.randn(out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        limits = (0, 255, torch.uint8)
        x = Q.dequantize_per_tensor(x, 0.03, 118, *limits)
        weight = Q.dequantize_per_channel(
            self.weight, self.scales, self.zeros, 0, -128, 127, torch.int8
        )
        y = torch.relu(F.linear(x, weight, self.bias))
        return Q.quantize_per_tensor(y, 0.02, 0, *limits)


class Floats(nn.Module):
    """The layer without quantisation."""

    def __init__(self, of: Layer) -> None:
        super().__init__()
        weight = of.weight.float() * of.scales[:, None]
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(of.bias.clone(), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(F.linear(x, self.weight, self.bias))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--freezing", action="store_true")
    parser.add_argument("--inductor", action="store_true")
    args = parser.parse_args()
    names = ["eager f32", "ipex f32", "eager", *(["Inductor"] if args.inductor else [])]
    print("; ".join(names) + "; ipex")
    ratios: list[list[float]] = []
    with torch.no_grad():
        for rows in (1, 16, 64, 128, 197):
            for out, inner in SHAPES:
                ratios.append(measure((rows, out, inner), args))
    for name, of in zip(names, zip(*ratios, strict=True), strict=True):
        mean = statistics.geometric_mean(of)
        print(f"{name} / ipex: geometric mean {mean:.2f}, least {min(of):.2f}")


def measure(sizes: tuple[int, int, int], args: argparse.Namespace) -> list[float]:
    """Prints a line of times; the others' over ipex's."""
    rows, out, inner = sizes
    torch._dynamo.reset()
    options = {"strict": True, "freezing": args.freezing}

    def compiled(layer: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        return torch.compile(layer, backend="ipex", dynamic=False, options=options)

    layer = Layer(inner, out)
    floats = Floats(layer)
    x, y = torch.randn(rows, inner), torch.randint(0, 256, (rows, inner), dtype=torch.uint8)
    own, own_floats = compiled(layer), compiled(floats)
    ways = [lambda: floats(x), lambda: own_floats(x), lambda: layer(y)]
    if args.inductor:
        inductor = torch.compile(layer, dynamic=False, options={"freezing": args.freezing})
        ways.append(lambda: inductor(y))
    ways.append(lambda: own(y))
    torch.testing.assert_close(own_floats(x), floats(x), rtol=1e-4, atol=1e-4)
    # Sums of f32 before the last rounding may fall on either side of a half.
    for way in ways[3:]:
        assert (way().int() - layer(y).int()).abs().max() <= 1
    *others, ipex = median_times(ways, (), args.rounds)
    ratios = [other / ipex for other in others]
    print(
        f"{rows:4d} x {inner:4d} -> {out:4d}  "
        + " ".join(f"{t:8.0f}" for t in [*others, ipex])
        + " us  "
        + " ".join(f"{r:6.2f}" for r in ratios),
        flush=True,
    )
    return ratios


if __name__ == "__main__":
    main()
