"""The first call on a machine that has no C or C++ compiler."""

import os
import subprocess
import sys

SCRIPT = """
import shutil
import torch
from torch import nn

for compiler in ("cc", "c++", "gcc", "g++", "clang", "clang++", "ld"):
    assert shutil.which(compiler) is None, compiler
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 4)).eval()
x = torch.randn(3, 8)
with torch.no_grad():
    compiled = torch.compile(model, backend="ipex", options={"strict": True})
    torch.testing.assert_close(compiled(x), model(x))
print("compiled")
"""


def test_first_call(tmp_path):
    # An empty PATH, compilers that fail, and caches that nothing has filled.
    home = {k: str(tmp_path) for k in ("HOME", "PATH", "TMPDIR", "XDG_CACHE_HOME")}
    failing = {"CC": "/bin/false", "CXX": "/bin/false"}
    kept = {k: v for k, v in os.environ.items() if k.startswith(("LD_", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=kept | home | failing,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "compiled"
