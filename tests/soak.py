"""Memory over many calls and many compiles, and the loss curve of a small GPT.

PYTHONPATH=tests python tests/soak.py [--calls 100000] [--compiles 1000] [--steps 300]
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import sys
from pathlib import Path

import torch
from torch import nn

PAGE = 4096


def resident() -> int:
    """Bytes of this process that are in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def calls(count: int, backend: str = "ipex") -> tuple[int, int]:
    """Resident bytes after a tenth of the calls of one model, and after all of them."""
    model = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.LayerNorm(128), nn.Linear(128, 8))
    compiled = torch.compile(model, backend=backend)
    x = torch.randn(16, 64)
    with torch.no_grad():
        for _ in range(count // 10):
            compiled(x)
        warm = resident()
        for _ in range(count - count // 10):
            compiled(x)
    return warm, resident()


def compiles(count: int, backend: str = "ipex") -> list[int]:
    """Resident bytes after each tenth of the compiles; each graph is another one."""
    seen = []
    with torch.no_grad():
        for n in range(count):
            torch._dynamo.reset()
            size = 8 + n
            f = torch.compile(lambda x, k=n: torch.relu(x * (k + 1.5)).sum(-1), backend=backend)
            f(torch.randn(2, size))
            if (n + 1) % max(1, count // 10) == 0:
                seen.append(resident())
    return seen


def text() -> str:
    """The Zen of Python, many times over, and the licence that Python prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        import this
    key = str.maketrans(this.d)
    zen = this.s.translate(key)
    licence = Path(sys.modules["os"].__file__ or "").parent / "LICENSE.txt"
    return zen + (licence.read_text() if licence.exists() else zen.swapcase())


def losses(steps: int, backend: str | None) -> list[float]:
    """Training losses of a small GPT on `text`, from a fixed seed, without dropout."""
    from models.own import GPT

    torch.manual_seed(0)
    torch._dynamo.reset()
    raw = torch.tensor(list(text().encode("ascii", "replace")), dtype=torch.int64)
    model = GPT(vocabulary=128, width=64, layers=2).train()
    step = model if backend is None else torch.compile(model, backend=backend)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    found = []
    for _ in range(steps):
        at = torch.randint(len(raw) - 33, (8,))
        window = torch.stack([raw[k : k + 33] for k in at])
        logits = step(window[:, :-1])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--compiles", type=int, default=1_000)
    parser.add_argument("--steps", type=int, default=300)
    args = parser.parse_args()
    warm, end = calls(args.calls)
    growth = end / warm - 1
    print(f"{args.calls} calls: {warm >> 20} MiB after a tenth, {end >> 20} at the end", end="")
    print(f" ({growth:+.2%}, at most 1 %)", flush=True)
    series = compiles(args.compiles)
    each = (series[-1] - series[len(series) // 2]) / (args.compiles / 2)
    print(f"{args.compiles} compiles: {', '.join(f'{b >> 20}' for b in series)} MiB", end="")
    print(f" ({each / 1024:.1f} KiB for each of the second half)", flush=True)
    eager, compiled = losses(args.steps, None), losses(args.steps, "ipex")
    apart = max(abs(a - b) for a, b in zip(eager, compiled, strict=True))
    print(f"{args.steps} steps: loss {eager[0]:.3f} to {eager[-1]:.3f}, at most {apart:.1e} apart")
    return int(growth > 0.01 or each > KIB_PER_COMPILE * 1024 or apart > 1e-3)


KIB_PER_COMPILE = 64
"""Bound of the memory that a compile may leave behind."""

if __name__ == "__main__":
    sys.exit(main())
