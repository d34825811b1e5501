"""Graphs on the tests' GPU driver (`tests/ze_cpu`), against eager; and what comes without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import ipex
import pytest
import torch
from ipex import CompileError

ROOT = Path(__file__).parent.parent


def variables(device: str) -> dict[str, str]:
    """The environment that makes a program run on the driver. Says loudly if a part is missing."""
    command = ["cargo", "run", "-q", "-p", "ze_cpu", "--bin", "gpu-env", "--", device]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        why = done.stderr.strip().splitlines()[-1]
        line = f"NOT RUN: models on ze_cpu: {why}\n"
        sys.__stderr__.write(line)
        if path := os.environ.get("IPEX_NOT_RUN"):
            with open(path, "a") as file:
                file.write(line)
        pytest.skip(line)
    pairs = (line.removeprefix("export ").split("=", 1) for line in done.stdout.splitlines())
    return os.environ | {name: value.strip("'") for name, value in pairs}


def on_device(device: str, case: str) -> None:
    """Runs a case of `gpu_models.py` in a process of its own."""
    command = [sys.executable, str(ROOT / "tests/gpu_models.py"), case]
    done = subprocess.run(command, env=variables(device), capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "case", ["mlp", "training", "frozen_and_stale", "bags", "bert", "gpt2", "resnet"]
)
def test_float32(case: str) -> None:
    on_device("hpg", case)


@pytest.mark.parametrize("device", ["hpg", "hpc"])
def test_attention(device: str) -> None:
    on_device(device, "attention")


@pytest.mark.parametrize(
    ("case", "device"),
    [("mlp_bf16", "hpg"), ("mlp_bf16", "hpc"), ("mlp_bf16", "plain"), ("gpt2_bf16", "hpg")],
)
def test_bfloat16(case: str, device: str) -> None:
    on_device(device, case)


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


@pytest.mark.parametrize("device", ["cuda", "gpu:x", "gpu:-1", ""])
def test_unknown_devices(device: str) -> None:
    with pytest.raises(ValueError, match="unknown device"):
        ipex.device.gpu(device)
