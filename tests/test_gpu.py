"""Graphs on the tests' GPU driver (`tests/ze_cpu`), against eager; and what comes without a GPU."""

from __future__ import annotations

from pathlib import Path

import ipex.device
import pytest
import torch
from device_cases import check_passed, run_selected
from ipex import CompileError

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
    return run_selected(request, test_models, "tests/gpu_models.py")


@pytest.mark.parametrize(("device", "case"), [(d, case) for d in CASES for case in CASES[d]])
def test_models(outputs: dict[str, str], device: str, case: str) -> None:
    check_passed(outputs[device], case)


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
