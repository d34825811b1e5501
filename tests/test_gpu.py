"""Graphs on the tests' GPU driver (`tests/ze_cpu`), against eager; and what comes without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import ipex.device
import pytest
import torch
from ipex import CompileError

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


CASES = {
    "hpg": [
        *("mlp", "training", "frozen_and_stale", "bags", "bert", "gpt2", "resnet", "attention"),
        *("mlp_bf16", "bert_bf16", "gpt2_bf16", "resnet_bf16", "precision", "epilogues"),
        "quantized",
        *("channels_last", "resnet_last", "edges", "profile"),
    ],
    "hpc": [
        *("attention", "epilogues_bf16", "convolutions", "blocks", "bert_bf16", "channels_last"),
        *("edges", "quantized", "precision"),
    ],
    "plain": ["mlp_bf16", "quantized"],
}
"""Cases of `gpu_models.py`, by device."""


@pytest.fixture(scope="module")
def outputs(request: pytest.FixtureRequest) -> dict[str, str]:
    """What the selected cases printed, by device: a process for each, all at the same time."""
    selected: dict[str, list[str]] = {}
    for item in request.session.items:
        if isinstance(item, pytest.Function) and item.function is test_models:
            device, case = (item.callspec.params[name] for name in ("device", "case"))
            selected.setdefault(device, []).append(case)
    script = str(ROOT / "tests/gpu_models.py")
    running = {
        device: subprocess.Popen(
            [sys.executable, script, *cases],
            env=variables(device),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for device, cases in selected.items()
    }
    return {device: process.communicate()[0] for device, process in running.items()}


@pytest.mark.parametrize(("device", "case"), [(d, case) for d in CASES for case in CASES[d]])
def test_models(outputs: dict[str, str], device: str, case: str) -> None:
    """The process goes on after a case that fails; one that it did not come to has not passed."""
    before, ended, _ = outputs[device].partition(f"--- {case} passed\n")
    print(before.rpartition("passed\n")[2])
    assert ended, outputs[device]


@pytest.mark.skipif(any(Path("/dev/dri").glob("renderD*")), reason="there may be a GPU")
def test_without_a_gpu(caplog: pytest.LogCaptureFixture) -> None:
    """An error that says what was looked for; `auto` runs on the CPU and says so once."""
    x = torch.randn(4)
    with pytest.raises(Exception, match="Level Zero") as raised:
        torch.compile(lambda x: x + 1, backend="ipex", options={"device": "gpu"})(x)
    assert isinstance(raised.value.__cause__ or raised.value, (CompileError, RuntimeError))
    torch._dynamo.reset()
    for _ in range(2):
        f = torch.compile(lambda x: x + 1, backend="ipex", options={"device": "auto"})
        assert torch.equal(f(x), x + 1)
        torch._dynamo.reset()
    told = [r.getMessage() for r in caplog.records if r.name == "ipex"]
    assert len(told) == 1


@pytest.mark.parametrize("device", ["cuda", "gpu:x", "gpu:-1", "gpu:" + "9" * 30, ""])
def test_unknown_devices(device: str) -> None:
    with pytest.raises(ValueError, match="unknown device"):
        ipex.device.gpu(device)
