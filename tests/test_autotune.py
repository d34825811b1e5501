"""`max-autotune`: the first call times our kernels and ATen's, and keeps what it found on disk."""

import json
import os
import subprocess
import sys

import pytest
import torch

RUN = """
import torch
from torch import nn
torch.manual_seed(0)
block = [nn.Conv2d(3, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, 24, 3, groups=24), nn.SiLU()]
model = nn.Sequential(*block, nn.Flatten(), nn.Linear(24 * 36, 50), nn.GELU(), nn.Linear(50, 4))
model, x = model.eval(), torch.randn(2, 3, 8, 8)
wave, signal = nn.Conv1d(4, 6, 5, padding=2, dilation=1), torch.randn(3, 4, 40)
OPTIONS = {"strict": True, "max_autotune": True, "freezing": FREEZING}
with torch.no_grad():
    for m, x in ((model, x), (wave, signal)):
        f = torch.compile(m, backend="ipex", options=OPTIONS)
        for _ in range(2):
            torch.testing.assert_close(f(x), m(x))
"""


def run(directory, freezing):
    """What is in the cache after the program above."""
    environment = {**os.environ, "IPEX_CACHE_DIR": str(directory)}
    program = RUN.replace("FREEZING", str(freezing))
    subprocess.run([sys.executable, "-c", program], check=True, timeout=240, env=environment)
    (file,) = directory.iterdir()
    return file, json.loads(file.read_text())


@pytest.mark.parametrize("freezing", [False, True])
def test_choices_are_kept_and_both_ways_are_right(tmp_path, freezing):
    file, choices = run(tmp_path, freezing)
    assert len(choices) == 5, list(choices)
    assert set(choices.values()) <= {"own", "aten"}
    assert all(f"torch {torch.__version__}" in problem for problem in choices)
    for way in ("own", "aten"):
        decided = dict.fromkeys(choices, way)
        file.write_text(json.dumps(decided))
        # What is known is not measured again.
        assert run(tmp_path, freezing)[1] == decided


def test_a_directory_that_cannot_be_written(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    environment = {**os.environ, "IPEX_CACHE_DIR": str(blocked / "below")}
    program = RUN.replace("FREEZING", "False")
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        timeout=240,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stderr.count("was not written") == 1


@pytest.mark.parametrize(
    "mode", ["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]
)
def test_modes(mode):
    x = torch.randn(3, 4)
    f = torch.compile(lambda x: torch.relu(x) + 1, backend="ipex", mode=mode)
    torch.testing.assert_close(f(x), torch.relu(x) + 1)


def test_an_unknown_mode_is_named():
    f = torch.compile(lambda x: x + 1, backend="ipex", mode="fastest")
    with pytest.raises(Exception, match="no mode 'fastest'; valid modes: 'default', 'reduce-"):
        f(torch.randn(3))
