"""The list of known failures: it may only shrink."""

from __future__ import annotations

from pathlib import Path

from .samples import Job

LIST = Path(__file__).parent.parent / "known_failures.txt"


def read(path: Path = LIST) -> dict[Job, str]:
    """Lines ``op dtype mode: reason``. Raises ValueError for another one."""
    found = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        head, colon, reason = line.partition(": ")
        parts = head.split()
        if len(parts) != 3 or not colon or not reason.strip():
            raise ValueError(f"{path.name}:{number}: expected 'op dtype mode: reason'")
        found[Job(*parts)] = reason.strip()
    return found
