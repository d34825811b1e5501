"""Linear layers with weights of 8 or 4 bits whose scales change along K, by groups.

    python benches/kernels/weight_only_groups.py [--rounds 11] [--rows 1 2 4 16 128]
        [--groups 32 128] [--dtypes float32 bfloat16] [--bits 8 4] [--shapes 3] [--freezing]
        [--inductor]

8 bits are `F.linear(x, ((w.view(n, -1, g).to(x.dtype) - z) * s).view(n, k))`, 4 bits
`aten._weight_int4pack_mm_for_cpu`, at sizes of Llama 7B's layers, calls of all ways interleaved.
Results are checked against f64 first. Prints the median times (us) of eager and Inductor on the
quantised weight, ipex on the same weight as floats, and ipex on the quantised one; then, of the
last, GB of weights and scales read in a second, its share of what a loop that only reads memory
reaches in the same run, and the others' times over its time.
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


class Quantised(nn.Module):
    """A weight in groups; `dense` is what it stands for, of f64."""

    def __init__(self, sizes: tuple[int, int], group: int, bits: int, dtype: torch.dtype) -> None:
        super().__init__()
        (out, inner), self.group, self.bits = sizes, group, bits
        low, high = (-128, 128) if bits == 8 else (0, 16)
        w = torch.randint(low, high, (out, inner), dtype=torch.int32)
        s = (torch.rand(out, inner // group) / inner).to(dtype)
        z = torch.randint(-5, 6, s.shape) if bits == 8 else torch.randn(s.shape) / inner
        z = z.to(torch.int8 if bits == 8 else dtype)
        parts = w.view(out, -1, group).double()
        if bits == 8:
            parts = (parts - z[..., None]) * s[..., None]
            self.register_buffer("w", w.to(torch.int8))
            self.register_buffer("s", s)
            self.register_buffer("z", z)
        else:
            parts = (parts - 8) * s[..., None] + z[..., None]
            packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(w, 1)
            self.register_buffer("w", packed)
            self.register_buffer("s", torch.stack([s.t(), z.t()], -1).contiguous())
        self.dense = parts.view(out, inner)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.bits == 4:
            return torch.ops.aten._weight_int4pack_mm_for_cpu(x, self.w, self.group, self.s)
        parts = self.w.view(len(self.w), -1, self.group).to(x.dtype)
        parts = (parts - self.z[..., None].to(x.dtype)) * self.s[..., None]
        return F.linear(x, parts.view_as(self.w))

    def bytes(self) -> int:
        return sum(b.nbytes for b in self.buffers())


class Floats(nn.Module):
    """The same, dequantised ahead."""

    def __init__(self, of: Quantised, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(of.dense.to(dtype), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 2, 4, 16, 128])
    parser.add_argument("--groups", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 4])
    parser.add_argument("--shapes", type=int, default=3, help="so many of the sizes")
    parser.add_argument("--freezing", action="store_true")
    parser.add_argument("--inductor", action="store_true")
    args = parser.parse_args()
    names = ["eager", *(["Inductor"] if args.inductor else []), "ipex floats"]
    print("; ".join(names) + "; ipex")
    ratios: list[list[float]] = []
    for bits in args.bits:
        for dtype in (getattr(torch, name) for name in args.dtypes):
            for group in args.groups:
                for sizes in SHAPES[: args.shapes]:
                    with torch.no_grad():
                        ratios += measure(Quantised(sizes, group, bits, dtype), dtype, args)
    for name, of in zip(names, zip(*ratios, strict=True), strict=True):
        mean = statistics.geometric_mean(of)
        print(f"{name} / ipex: geometric mean {mean:.2f}, least {min(of):.2f}")


def measure(layer: Quantised, dtype: torch.dtype, args: argparse.Namespace) -> list[list[float]]:
    """Prints a line of times for each number of rows; the others' over ipex's."""
    torch._dynamo.reset()
    options = {"strict": True, "freezing": args.freezing}
    floats = Floats(layer, dtype)
    out, inner = layer.dense.shape
    ways: list[Callable[[torch.Tensor], torch.Tensor]] = [layer]
    if args.inductor:
        own = {"freezing": args.freezing}
        ways.append(torch.compile(layer, dynamic=False, options=own))
    ways.append(torch.compile(floats, backend="ipex", dynamic=False, options=options))
    ways.append(torch.compile(layer, backend="ipex", dynamic=False, options=options))
    # Integers are read and compared in vectors on both cores, and nothing is written.
    memory = torch.zeros(64 << 20, dtype=torch.int32)
    bound = 1e-5 if dtype is torch.float32 else 3e-2
    ratios = []
    for rows in args.rows:
        x = torch.randn(rows, inner).to(dtype)
        want = x.double() @ layer.dense.t()
        for way in ways:
            error = (way(x).double() - want).abs().max() / want.abs().max()
            assert error < bound, float(error)
        reading = median_times([lambda _: memory.amax()], (x,), 5)[0]
        *others, ipex = median_times(ways, (x,), args.rounds)
        read = 1e-3 * layer.bytes() / ipex
        fastest = 1e-3 * memory.nbytes / reading
        ratios.append([other / ipex for other in others])
        print(
            f"{layer.bits} bits {str(dtype)[6:]:8s} {rows:4d} x {inner:5d} -> {out:5d} "
            + f"by {layer.group:3d}  "
            + " ".join(f"{t:8.0f}" for t in [*others, ipex])
            + f" us  {read:5.1f} GB/s ({read / fastest:.2f} of {fastest:.0f})  "
            + " ".join(f"{r:6.2f}" for r in ratios[-1]),
            flush=True,
        )
    return ratios


if __name__ == "__main__":
    main()
