"""Which operators still go through ATen where a model's time goes.

PYTHONPATH=tests python -m models.profile [NAME ...] [--least 2.0]

Runs inference of each architecture under ``IPEX_PROFILE`` in a process of its own, and prints the
operators that PyTorch carries out and that take at least so many percent of the steps' time.
Matrix products, convolutions, attention and recurrent layers are left out: those are meant to be
calls.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections import Counter

from .zoo import build, builders

MEANT = re.compile(r"mm\.|convolution|scaled_dot_product|lstm|gru|rnn|mkldnn|linear")
ROW = re.compile(r"^\s*([\d.]+)  #\d+ (.*)")
CALLS = 20


def worker(name: str) -> None:
    """Calls a model often enough for a table after warm-up."""
    import torch

    entry = build(name)
    compiled = torch.compile(entry.model.eval(), backend="ipex")
    arguments = entry.arguments(4)
    with torch.no_grad():
        for _ in range(2 * CALLS):
            compiled(**arguments)


def shares(table: str) -> Counter[str]:
    """Percent of the time by operator; what we compile is one entry, of its last table."""
    steps: Counter[str] = Counter()
    for line in table.splitlines():
        row = ROW.match(line)
        if row:
            name = row[2].split()[0]
            steps[name if name.startswith(("aten.", "prims.")) else "compiled"] += float(row[1])
    total = sum(steps.values()) or 1.0
    return Counter({name: 100 * us / total for name, us in steps.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--least", type=float, default=2.0)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(args.names[0])
        return
    for name in args.names or builders():
        done = subprocess.run(
            [sys.executable, "-m", "models.profile", "--worker", name],
            env={**os.environ, "IPEX_PROFILE": str(CALLS)},
            capture_output=True,
            text=True,
        )
        # The steady half of the calls of all the model's graphs.
        tables = done.stderr.split(" per call, of each step")
        found = shares("\n".join(tables[1 + len(tables) // 2 :] or tables[1:]))
        slow = {k: v for k, v in found.most_common() if v >= args.least and k != "compiled"}
        rest = ", ".join(f"{k} {v:.0f} %" for k, v in slow.items() if not MEANT.search(k))
        print(f"{name}: {rest or '-'}" if found else f"{name}: no table", flush=True)


if __name__ == "__main__":
    main()
