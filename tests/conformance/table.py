"""Saved runs beside each other, operators counted.

    PYTHONPATH=tests python -m conformance.table RUN.json ...

An operator passes in a mode if it does so with each dtype of `COUNTED` that it has. Files of one
backend are joined. Only what all backends ran is counted.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from pathlib import Path

COUNTED = ("float32", "bfloat16", "int64", "bool")


def load(paths: list[Path]) -> dict[str, dict[tuple[str, str, str], str]]:
    """By backend, the kind of each (mode, operator, dtype)."""
    runs: dict[str, dict[tuple[str, str, str], str]] = defaultdict(dict)
    for path in paths:
        saved = json.loads(path.read_text())
        for row in saved["results"]:
            runs[saved["backend"]][row["mode"], row["op"], row["dtype"]] = row["kind"]
    return runs


def main() -> None:
    runs = load([Path(p) for p in sys.argv[1:]])
    shared = set.intersection(*(set(run) for run in runs.values()))
    for mode in sorted({m for m, _, _ in shared}):
        mine = [key for key in shared if key[0] == mode]
        every = {op for _, op, dtype in mine if dtype in COUNTED}
        for backend, run in runs.items():
            count = Counter(run[key] for key in mine)
            bad = {op for _, op, d in mine if d in COUNTED and run[mode, op, d] != "pass"}
            kinds = ", ".join(f"{n} {k}" for k, n in sorted(count.items()))
            print(f"{mode:9s} {backend:10s} {len(every - bad)} of {len(every)} ops; {kinds}")


if __name__ == "__main__":
    main()
