"""Command line of the conformance run."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from . import known
from .pool import Pool
from .report import Report, kind
from .samples import DTYPES, MODEL_MODES, MODES, Job, jobs

SAMPLES = 4
"""Samples for each operator and dtype that the list of known failures is about."""


def chosen(args: argparse.Namespace) -> list[Job]:
    """The jobs that the command line asks for."""
    every = [job for mode in args.mode for job in jobs(mode, args.dtype)]
    unknown = set(args.ops) - {job.op for job in every}
    if unknown:
        sys.exit(f"nothing named {', '.join(sorted(unknown))}")
    every = [job for job in every if not args.ops or job.op in args.ops]
    first, of = map(int, args.part.split("/"))
    return every[first - 1 :: of]


def verdict(report: Report, args: argparse.Namespace) -> int:
    """Prints what the list of known failures does not say; the exit status."""
    listed = known.read() if args.backend == "ipex" else {}
    failing = report.failing()
    new = [job for job in failing if job not in listed]
    over = [job for job in listed if job in report.verdicts and job not in failing]
    print(report.totals())
    if args.backend != "ipex":
        return 0
    print(f"{len(failing) - len(new)} known failures, {len(new)} new ones")
    if args.samples == SAMPLES and over:
        print("these pass now; delete them from known_failures.txt:")
        print("\n".join(f"  {j.op} {j.dtype} {j.mode}" for j in over))
    return int(bool(new or (args.samples == SAMPLES and over)))


def main() -> int:
    parser = argparse.ArgumentParser(prog="conformance", description=__doc__)
    parser.add_argument(
        "ops", nargs="*", help="full OpInfo names or architectures; all if none is given"
    )
    parser.add_argument("--mode", nargs="+", choices=MODES + MODEL_MODES, default=list(MODES))
    parser.add_argument("--dtype", nargs="+", choices=list(DTYPES), default=list(DTYPES))
    parser.add_argument("--backend", default="ipex", help="or aot_eager, inductor, eager")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="of each; 0 for all")
    parser.add_argument("--part", default="1/1", help="K/N: each N-th job, from the K-th on")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds for a sample")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--save", type=Path, help="JSON file for the results")
    args = parser.parse_args()
    todo = chosen(args)
    report = Report(args.backend)
    pool = Pool(args.backend, args.samples, args.timeout, args.processes)
    start = last = time.monotonic()
    for job, found in pool.run(todo):
        report.verdicts[job] = found
        if kind(found) != "pass":
            print(report.line(job), flush=True)
        if time.monotonic() - last > 30:
            last = time.monotonic()
            print(f"... {len(report.verdicts)} of {len(todo)} in {last - start:.0f} s", flush=True)
    if args.save:
        report.save(args.save)
    return verdict(report, args)


if __name__ == "__main__":
    sys.exit(main())
