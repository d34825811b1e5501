"""A fixed sample of the conformance run, and its machinery on operators that fail on purpose."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conformance import known
from conformance.samples import MODEL_MODES, MODES, Job, jobs, spread

TESTS = Path(__file__).parent


def conformance(*arguments, **environment):
    """Runs the command line; its exit status and what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "conformance", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(TESTS), **environment},
        capture_output=True,
        text=True,
        timeout=900,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        "--mode forward --dtype float32 --samples 1 --part 1/4",
        "--mode forward --dtype bfloat16 float16 float64 int64 bool complex64 "
        "--samples 1 --part 1/16",
        "--mode gradient --samples 1 --part 1/12",
        "--mode dynamic --samples 1 --part 2/12",
        "bert lstm dlrm --mode inference training batches",
    ],
)
def test_sample(arguments):
    status, printed = conformance(*arguments.split())
    assert status == 0, printed


def test_a_crash_a_hang_a_wrong_number_and_an_error_are_seen(tmp_path):
    """A backend that misbehaves on purpose, each way on one operator."""
    (tmp_path / "hostile.py").write_text(
        "import os, time, torch\n"
        "def hostile(gm, inputs):\n"
        "    def run(*args):\n"
        "        code = gm.code\n"
        "        if 'sinh' in code: os.kill(os.getpid(), 11)\n"
        "        if 'cosh' in code: time.sleep(1000)\n"
        "        if 'torch.exp' in code: return tuple(t + 1 for t in gm(*args))\n"
        "        if 'torch.log' in code: raise RuntimeError('no')\n"
        "        return gm(*args)\n"
        "    return run\n"
        "torch._dynamo.register_backend(hostile)\n"
    )
    saved = tmp_path / "run.json"
    conformance(
        *"sinh cosh exp log sin --mode forward --dtype float32 --samples 1 --timeout 25".split(),
        "--backend",
        "hostile",
        "--save",
        saved,
        PYTHONPATH=f"{TESTS}{os.pathsep}{tmp_path}",
        CONFORMANCE_IMPORT="hostile",
    )
    kinds = {row["op"]: row["kind"] for row in json.loads(saved.read_text())["results"]}
    want = {"sinh": "crash", "cosh": "timeout", "exp": "wrong", "log": "error", "sin": "pass"}
    assert kinds == want


def test_a_process_that_ends_before_any_sample_is_a_crash():
    _, printed = conformance(*"sin --mode forward --dtype float32 --backend none".split())
    assert "1 crash" in printed


def test_every_known_failure_names_something_that_is_run():
    every = {job for mode in MODES + MODEL_MODES for job in jobs(mode)}
    assert set(known.read()) <= every


def test_a_known_failure_needs_a_reason(tmp_path):
    path = tmp_path / "known.txt"
    path.write_text("# comment\nsin float32 forward: because\n")
    assert known.read(path) == {Job("sin", "float32", "forward"): "because"}
    path.write_text("sin float32 forward:\n")
    with pytest.raises(ValueError, match="known.txt:1"):
        known.read(path)


def test_samples_are_spread():
    assert spread(10, 0) == list(range(10))
    assert spread(10, 3) == [0, 4, 9]
    assert spread(2, 5) == [0, 1]
    assert spread(7, 1) == [0]
