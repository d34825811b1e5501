"""Attention: eager, Inductor and ipex; results are checked against f64, then calls interleaved.

    python benches/kernels/attention.py [--only bert,...] [--rounds 30] [--dtype float32,bfloat16]
        [--no-inductor]

Prints medians of calls in microseconds, GFLOP/s of ipex, and the ratios to eager and Inductor; at
the end their geometric means. In memory heads are `[batch, rows, heads, depth]`, as in models.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention as sdpa

Tensor = torch.Tensor


@dataclass
class Shape:
    """One attention; `by_hand` writes it as matmul, softmax, matmul."""

    batch: int
    heads: int
    queries: int
    keys: int
    depth: int
    causal: bool = False
    kv_heads: int | None = None
    mask: bool = False
    bools: bool = False
    by_hand: bool = False

    def flops(self) -> float:
        pairs = self.queries * self.keys
        if self.causal:
            pairs = sum(min(i + 1, self.keys) for i in range(self.queries))
        return 4.0 * self.batch * self.heads * pairs * self.depth

    def args(self, dtype: torch.dtype) -> tuple[Tensor, ...]:
        kv = self.kv_heads or self.heads

        def make(rows: int, heads: int) -> Tensor:
            x = torch.randn(self.batch, rows, heads, self.depth)
            return x.to(dtype).transpose(1, 2)

        qkv = make(self.queries, self.heads), make(self.keys, kv), make(self.keys, kv)
        mask = torch.zeros(self.batch, 1, 1, self.keys)
        mask[..., self.keys // 8 * 7 :] = -10000.0
        return *qkv, mask == 0 if self.bools else mask.to(dtype)

    def run(self, q: Tensor, k: Tensor, v: Tensor, m: Tensor) -> Tensor:
        mask = m if self.mask else None
        if self.by_hand:
            scores = q @ k.transpose(-1, -2) / math.sqrt(self.depth)
            scores = scores if mask is None else scores + mask
            return scores.softmax(-1) @ v
        grouped = self.kv_heads is not None
        return sdpa(q, k, v, mask, is_causal=self.causal, enable_gqa=grouped)


SHAPES = {
    "bert": Shape(1, 12, 128, 128, 64),
    "bert_x8": Shape(8, 12, 128, 128, 64),
    "bert_mask": Shape(8, 12, 128, 128, 64, mask=True),
    "bert_bools": Shape(8, 12, 128, 128, 64, mask=True, bools=True),
    "bert_by_hand": Shape(1, 12, 128, 128, 64, mask=True, by_hand=True),
    "gpt2": Shape(1, 12, 64, 64, 64, causal=True),
    "vit": Shape(1, 12, 197, 197, 64),
    "long": Shape(1, 12, 2048, 2048, 64, causal=True),
    "decode": Shape(1, 12, 1, 4096, 64),
    "gqa": Shape(1, 32, 128, 128, 128, causal=True, kv_heads=8),
    "gqa_decode": Shape(1, 32, 1, 4096, 128, kv_heads=8),
}


def compare(shape: Shape, dtype: torch.dtype, rounds: int, inductor: bool) -> dict[str, float]:
    """Medians in microseconds; raises AssertionError if a result is wrong."""
    torch._dynamo.reset()
    args = shape.args(dtype)
    options: dict[str, Any] = {"fullgraph": True, "dynamic": False}
    rivals = {
        "eager": shape.run,
        "ipex": torch.compile(shape.run, backend="ipex", options={"strict": True}, **options),
    }
    if inductor:
        rivals["inductor"] = torch.compile(shape.run, **options)
    want = shape.run(*(a.double() if a.is_floating_point() else a for a in args))
    bound = {torch.bfloat16: 2e-2, torch.float16: 4e-3}.get(dtype, 1e-5)
    for f in rivals.values():
        torch.testing.assert_close(f(*args).double(), want, rtol=bound, atol=bound)
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for round_ in range(rounds + 3):
        for name, f in rivals.items():
            start = time.perf_counter()
            f(*args)
            if round_ >= 3:
                times[name].append((time.perf_counter() - start) * 1e6)
    return {name: statistics.median(t) for name, t in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(SHAPES))
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--dtype", default="float32,bfloat16")
    parser.add_argument("--no-inductor", action="store_true")
    args = parser.parse_args()
    logs: dict[str, list[float]] = {}
    with torch.no_grad():
        for dtype in args.dtype.split(","):
            for name in args.only.split(","):
                shape = SHAPES[name]
                us = compare(shape, getattr(torch, dtype), args.rounds, not args.no_inductor)
                line = "  ".join(f"{rival} {t:9.1f} us" for rival, t in us.items())
                rate = shape.flops() / us["ipex"] * 1e-3
                ratios = {rival: us[rival] / us["ipex"] for rival in us if rival != "ipex"}
                for rival, ratio in ratios.items():
                    logs.setdefault(f"{dtype} {rival}", []).append(math.log(ratio))
                text = "  ".join(f"{rival}/ipex {ratio:5.2f}" for rival, ratio in ratios.items())
                print(f"{dtype:9s} {name:13s} {line}  {rate:6.1f} GFLOP/s  {text}", flush=True)
    for rival, values in logs.items():
        print(f"geometric mean {rival}/ipex {math.exp(statistics.mean(values)):.2f}")


if __name__ == "__main__":
    main()
