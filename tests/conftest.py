"""Shared by all tests."""

import os
import tempfile

import pytest
import torch

# The compiler checks its graphs and kernels at the border of each stage.
os.environ["IPEX_VERIFY"] = "1"
# What tests measure is no knowledge worth keeping.
os.environ["IPEX_CACHE_DIR"] = tempfile.mkdtemp(prefix="ipex-tests-")


@pytest.fixture(autouse=True)
def fresh():
    torch.manual_seed(0)
    torch._dynamo.reset()
