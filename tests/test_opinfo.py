"""A sample of PyTorch's OpInfo database; `python tests/opinfo.py` runs all of it."""

import opinfo
import pytest
import torch

SAMPLES = 3
# Operators with samples that cannot be compiled yet, and why.
KNOWN = {"narrow": "result of type SymInt"}  # a start that is a tensor: an unbacked size


@pytest.mark.parametrize("name", opinfo.NAMED)
def test_named_operator(name):
    ran = 0
    with torch.no_grad():
        for op in opinfo.operators([name]):
            for dtype in opinfo.DTYPES:
                if dtype not in op.dtypes:
                    continue
                report = opinfo.check(op, dtype, SAMPLES)
                ran += report.passed
                known = KNOWN.get(name)
                unexpected = [f for f in report.failed if known is None or known not in f]
                assert not unexpected, (op.variant_test_name, dtype, unexpected)
    assert ran > 0
