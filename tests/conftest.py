"""Shared by all tests."""

import os
import tempfile

import pytest
import torch
from ipex import _core

# The compiler checks its graphs and kernels at the border of each stage.
os.environ["IPEX_VERIFY"] = "1"
# What tests measure is no knowledge worth keeping.
os.environ["IPEX_CACHE_DIR"] = tempfile.mkdtemp(prefix="ipex-tests-")


@pytest.fixture(autouse=True)
def fresh():
    torch.manual_seed(0)
    torch._dynamo.reset()


@pytest.fixture
def graphs(monkeypatch):
    """The graphs that are compiled from here on."""
    made = []
    compile_document = _core.compile

    def record(*args):
        made.append(compile_document(*args))
        return made[-1]

    monkeypatch.setattr(_core, "compile", record)
    return made
