"""The GPU driver `ze_cpu`: a process for each device runs the cases that pytest selected."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

ROOT = Path(__file__).parent.parent


def not_run(what: str, why: str) -> NoReturn:
    """Says loudly that tests are not run for want of a tool, and where `make test` counts it."""
    line = f"NOT RUN: {what}: {why}\n"
    sys.__stderr__.write(line)
    if path := os.environ.get("IPEX_NOT_RUN"):
        with open(path, "a") as file:
            file.write(line)
    pytest.skip(line)


def variables(device: str) -> dict[str, str]:
    """The environment that makes a program run on the driver. Says loudly if a part is missing."""
    command = ["cargo", "run", "-q", "-p", "ze_cpu", "--bin", "gpu-env", "--", device]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        not_run("models on ze_cpu", done.stderr.strip().splitlines()[-1])
    pairs = (line.removeprefix("export ").split("=", 1) for line in done.stdout.splitlines())
    return os.environ | {name: value.strip("'") for name, value in pairs}


def run_selected(
    request: pytest.FixtureRequest,
    function: Callable[..., Any],
    script: str,
    more: dict[str, str] | None = None,
) -> dict[str, str]:
    """What the cases of a test function that are selected printed, by device: all at the same time.
    `more` is added to the environment."""
    selected: dict[str, list[str]] = {}
    for item in request.session.items:
        if isinstance(item, pytest.Function) and item.function is function:
            device, case = (item.callspec.params[name] for name in ("device", "case"))
            selected.setdefault(device, []).append(case)
    running = {
        device: subprocess.Popen(
            [sys.executable, str(ROOT / script), *cases],
            env=variables(device) | {"PYTHONPATH": str(ROOT / "tests")} | (more or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for device, cases in selected.items()
    }
    return {device: process.communicate()[0] for device, process in running.items()}


def check_passed(output: str, case: str) -> None:
    """The process goes on after a case that fails; one that it did not come to has not passed."""
    before, ended, _ = output.partition(f"--- {case} passed\n")
    print(before.rpartition("passed\n")[2])
    assert ended, output
