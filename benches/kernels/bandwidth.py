"""Memory traffic of fused kernels as a share of what a copy reaches, by the state of the memory.

    python benches/kernels/bandwidth.py [--only gelu,...] [--size 2048x4096] [--bf16]
        [--seconds 90] [--fast 57] [--slow 50]

Machines whose memory others share have a fast and a slow state that change within seconds, so that
one median of a few calls belongs to neither. Here every kernel takes its turn for a while; each
call lies between two copies of tensors of that size and counts for a state if both copies do: fast
from so many GB/s, slow below. In front of every call are 64 MB of other reads. Prints, for both
states, the share of the copy's bandwidth that a call has (and without Dynamo, as "direct" in
timing.py): medians of ratios to the mean of both copies, and how many calls there were. Results are
checked first. No grad.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from cases import CASES
from side_by_side import copy, rivals_of, traffic
from timing import direct

# Shares of a copy with Dynamo, and without.
Shares = list[tuple[float, float]]


def seconds(call: Callable[[], Any], passed: torch.Tensor) -> float:
    """How long a call takes behind a pass over other memory."""
    passed.sum()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(args: argparse.Namespace) -> dict[str, dict[str, Shares]]:
    """The shares of all calls of a kernel in each state."""
    rows, columns = map(int, args.size.split("x"))
    shape, dtype = (rows, columns), torch.bfloat16 if args.bf16 else torch.float32
    passed = torch.randn(16 << 20)
    copied, copied_bytes = copy(shape, dtype)
    kernels = {}
    for name in args.only.split(","):
        whole = rivals_of(name, shape, dtype, inductor=False)["ipex"]
        alone = direct(*CASES[name](shape, dtype))
        kernels[name] = (whole, alone, traffic(name, shape, dtype))
    found: dict[str, dict[str, Shares]] = {n: {"fast": [], "slow": []} for n in kernels}
    order, draw = list(kernels.items()), random.Random(0)
    end = time.perf_counter() + args.seconds
    before = seconds(copied, passed)
    while time.perf_counter() < end:
        draw.shuffle(order)
        for name, (whole, alone, moved) in order:
            times = seconds(whole, passed), seconds(alone, passed)
            after = seconds(copied, passed)
            speeds = [copied_bytes / t / 1e9 for t in (before, after)]
            share = moved / 1e9 / statistics.mean(speeds)
            if min(speeds) >= args.fast:
                found[name]["fast"].append((share / times[0], share / times[1]))
            elif max(speeds) < args.slow:
                found[name]["slow"].append((share / times[0], share / times[1]))
            before = after
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(CASES))
    parser.add_argument("--size", default="2048x4096")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--seconds", type=float, default=90)
    parser.add_argument("--fast", type=float, default=57)
    parser.add_argument("--slow", type=float, default=50)
    args = parser.parse_args()
    with torch.no_grad():
        found = measure(args)
    for name, states in found.items():
        line = f"{name:22s}"
        for state, shares in states.items():
            if not shares:
                line += f"  {state}: no calls"
                continue
            whole, alone = (statistics.median(s) for s in zip(*shares, strict=True))
            line += f"  {state} {whole:.2f} ({alone:.2f} alone; {len(shares)} calls)"
        print(line, flush=True)


if __name__ == "__main__":
    main()
