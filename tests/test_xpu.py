"""Tensors of PyTorch's `xpu` device, which `tests/xpu` plays on `tests/ze_cpu`, against eager."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from device_cases import ROOT, check_passed, not_run, run_selected

CASES = {
    "hpg": [
        *(
            "linear",
            "block",
            "attention",
            "mutation",
            "calls",
            "left_to_cpu",
            "layouts",
            "results",
            "constants",
        ),
        *(
            "order",
            "stale",
            "devices",
            "mixed",
            "backend",
            "types",
            "doubles",
            "sizes",
            "threads",
            "training",
        ),
    ],
    "hpc": ["linear", "block", "mutation", "doubles"],
}
"""Cases of `xpu/models.py`, by device."""


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the fixture's libraries."""
    folder = tmp_path_factory.mktemp("xpu")
    command = [sys.executable, str(ROOT / "tests/xpu/device.py"), str(folder)]
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode:
        not_run("PyTorch's xpu device", built.stderr.strip().splitlines()[-1])
    return folder


@pytest.fixture(scope="module")
def outputs(libraries: Path, request: pytest.FixtureRequest) -> dict[str, str]:
    """What the selected cases printed, by device: a process for each, all at the same time."""
    more = {
        "IPEX_TEST_XPU": str(libraries),
        "LD_PRELOAD": str(libraries / "accelerator.so"),
    }
    return run_selected(request, test_xpu, "tests/xpu/models.py", more)


@pytest.mark.parametrize(("device", "case"), [(d, case) for d in CASES for case in CASES[d]])
def test_xpu(outputs: dict[str, str], device: str, case: str) -> None:
    check_passed(outputs[device], case)
