"""Lines for people, and a file for the comparison of runs."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .samples import Job
from .worker import Verdict

KINDS = ("crash", "timeout", "wrong", "error")
"""From the worst on."""


def kind(verdict: Verdict) -> str:
    """The worst that happened to a sample, or pass."""
    met = {f.kind for f in verdict.failures}
    return next((k for k in KINDS if k in met), "pass")


def _by(verdicts: dict[Job, Verdict]) -> str:
    """The rules by which samples pass that are not within bounds of eager's."""
    rules: Counter[str] = Counter()
    for verdict in verdicts.values():
        rules.update(verdict.rules)
    return f" ({', '.join(f'{n} {rule}' for rule, n in sorted(rules.items()))})" if rules else ""


@dataclass
class Report:
    """All verdicts of a run."""

    backend: str
    verdicts: dict[Job, Verdict] = field(default_factory=dict)

    def failing(self) -> list[Job]:
        """Jobs with a sample that did not pass."""
        return [job for job, v in sorted(self.verdicts.items()) if v.failures]

    def line(self, job: Job) -> str:
        """What a person needs to know of a failing job."""
        verdict = self.verdicts[job]
        worst = kind(verdict)
        first = next(f for f in verdict.failures if f.kind == worst)
        shared = f" [aot_eager: {first.aot_eager}]" if first.aot_eager else ""
        return (
            f"{worst.upper():7s} {job.op} {job.dtype} {job.mode}: {len(verdict.failures)} samples, "
            f"first {first.sample} ({first.arguments}){shared}: {first.text}"
        )

    def totals(self) -> str:
        """Counts of operators with a dtype, of samples, and of operators."""
        lines = []
        for mode in sorted({job.mode for job in self.verdicts}):
            mine = {j: v for j, v in self.verdicts.items() if j.mode == mode}
            count = Counter(kind(v) for v in mine.values())
            alone = sum(any(f.aot_eager in ("", "pass") for f in v.failures) for v in mine.values())
            bad = {j.op for j, v in mine.items() if v.failures}
            every = {j.op for j in mine}
            lines.append(
                f"{self.backend} {mode}: {len(mine)} operators x dtypes: "
                + ", ".join(f"{count[k]} {k}" for k in ("pass", *reversed(KINDS)))
                + f"; {alone} fail where aot_eager passes; {len(every - bad)} of {len(every)} "
                f"operators pass all; samples: {sum(v.passed for v in mine.values())} passed"
                f"{_by(mine)}, "
                f"{sum(len(v.failures) for v in mine.values())} failed, "
                f"{sum(v.skipped for v in mine.values())} raise in eager; "
                f"{sum(bool(v.fell_back) for v in mine.values())} operators x dtypes fell back"
            )
        return "\n".join(lines)

    def save(self, path: Path) -> None:
        """All verdicts as JSON."""
        rows = [
            {**asdict(job), "kind": kind(v), **asdict(v)}
            for job, v in sorted(self.verdicts.items())
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"backend": self.backend, "results": rows}, indent=1))
