"""Worker processes, replaced when one dies or hangs."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from multiprocessing.connection import wait

from .samples import Job
from .worker import Failure, Verdict, serve

_START = 120.0
"""Seconds that a process has to import PyTorch."""


class Worker:
    """A process and the job that it is at."""

    def __init__(self, backend: str, limit: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.link, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, backend, limit), daemon=True)
        self.process.start()
        theirs.close()
        self.job: Job | None = None
        self.sample = 0
        self.arguments = ""
        self.so_far = Verdict()
        self.since = time.monotonic()
        self.ready = False

    def give(self, job: Job, first: int, so_far: Verdict) -> None:
        """Hands over a job, from a sample on; what was found before is kept."""
        self.job, self.sample, self.arguments, self.so_far = job, first, "", so_far
        self.since = time.monotonic()
        self.link.send((job, first))

    def finished(self, verdict: Verdict) -> tuple[Job, Verdict]:
        """Joins the verdict with what other processes found before."""
        assert self.job is not None
        job, self.job = self.job, None
        verdict.passed += self.so_far.passed
        verdict.skipped += self.so_far.skipped
        verdict.rules = dict(Counter(self.so_far.rules) + Counter(verdict.rules))
        verdict.failures = self.so_far.failures + verdict.failures
        return job, verdict

    def dismiss(self) -> None:
        """Lets the process end by itself."""
        with contextlib.suppress(OSError):
            self.link.send(None)
        self.process.join(5.0)
        self.stop()

    def stop(self) -> None:
        """Ends the process at once."""
        self.process.kill()
        self.process.join()
        self.link.close()


class Pool:
    """Runs jobs in processes; a crash or a hang costs one sample."""

    def __init__(self, backend: str, limit: int, timeout: float, processes: int = 2) -> None:
        self.new = lambda: Worker(backend, limit)
        self.timeout = timeout
        self.workers = [self.new() for _ in range(processes)]
        self.again: list[tuple[Job, int, Verdict]] = []

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Verdict]]:
        """Verdicts in the order in which they come."""
        left = iter(jobs)
        exhausted = False
        while True:
            for worker in self.workers:
                if not worker.ready or worker.job is not None:
                    continue
                if self.again:
                    worker.give(*self.again.pop())
                elif not exhausted:
                    job = next(left, None)
                    exhausted = job is None
                    if job is not None:
                        worker.give(job, 0, Verdict())
            if exhausted and not self.again and all(w.job is None for w in self.workers):
                break
            yield from self._listen()
        for worker in self.workers:
            worker.dismiss()

    def _listen(self) -> Iterator[tuple[Job, Verdict]]:
        by_link = {w.link: n for n, w in enumerate(self.workers)}
        for link in wait(list(by_link), timeout=1.0):
            n = by_link[link]
            worker = self.workers[n]
            try:
                message = worker.link.recv()
            except (EOFError, ConnectionResetError):
                yield from self._replace(n, "crash")
                continue
            worker.since = time.monotonic()
            if message == "ready":
                worker.ready = True
            elif isinstance(message, Verdict):
                yield worker.finished(message)
            else:
                worker.sample, worker.arguments = message
        for n, worker in enumerate(self.workers):
            allowed = self.timeout if worker.ready else _START
            idle = worker.ready and worker.job is None
            if not idle and time.monotonic() - worker.since > allowed:
                yield from self._replace(n, "timeout")

    def _replace(self, n: int, kind: str) -> Iterator[tuple[Job, Verdict]]:
        """Another process takes over behind the sample at which this one ended, if any."""
        worker = self.workers[n]
        worker.process.join(0.5)
        status = worker.process.exitcode
        worker.stop()
        if worker.job is not None:
            text = f"exit status {status}" if kind == "crash" else f"over {self.timeout:.0f} s"
            worker.so_far.failures.append(Failure(worker.sample, kind, worker.arguments, text))
            if worker.arguments:
                self.again.append((worker.job, worker.sample + 1, worker.so_far))
            else:
                yield worker.finished(Verdict())
        elif not worker.ready:
            raise RuntimeError(f"a worker process did not start ({kind}, exit status {status})")
        self.workers[n] = self.new()
