"""Compiled models in forked workers and in distributed programs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

HERE = Path(__file__).parent
TIMEOUT = 240


@pytest.mark.parametrize("case", ["ddp", "fsdp", "tensor_parallel"])
def test_two_processes(case, tmp_path):
    command = [sys.executable, str(HERE / "two_processes.py"), case]
    ranks = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / "store")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [p.communicate(timeout=TIMEOUT)[0] for p in ranks]
    finally:
        for p in ranks:
            p.kill()
    assert [p.returncode for p in ranks] == [0, 0], "\n".join(outputs)[-4000:]


FORK = """
import os, torch
# Two products: their loops share a region of threads, whose workers spin.
f = torch.compile(lambda x, w: (x @ w).softmax(-1) @ w.t(), backend="ipex", dynamic=True)
x, w = torch.randn(300, 64) / 8, torch.randn(64, 500)
with torch.no_grad():
    want = f(x, w)
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        right = torch.allclose(f(x, w), want, atol=1e-6)
        right &= torch.allclose(f(x[:7], w), want[:7], atol=1e-6)
        os._exit(0 if right else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
    torch.testing.assert_close(f(x, w), want)
"""


def test_fork_after_a_compile():
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=TIMEOUT)


class Compiled(torch.utils.data.Dataset):
    """A data set whose items a compiled model makes, in the loader's worker."""

    def __init__(self):
        self.model = nn.Linear(4, 2).eval()
        self.f = torch.compile(self.model, backend="ipex")

    def __len__(self):
        return 8

    def __getitem__(self, n):
        with torch.no_grad():
            return self.f(torch.full((3, 4), float(n)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_data_loader_workers():
    data = Compiled()
    want = torch.stack([data[n] for n in range(8)])
    loader = torch.utils.data.DataLoader(
        data, batch_size=4, num_workers=2, multiprocessing_context="fork"
    )
    torch.testing.assert_close(torch.cat(list(loader)), want)
