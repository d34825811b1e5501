"""Comparison of a compiled function with eager."""

import torch


def compiled(f):
    return torch.compile(f, backend="ipex", options={"strict": True}, fullgraph=True, dynamic=False)


def check(f, *args, graphs=None):
    """Like eager in values, dtype and strides; without a call, if the graphs are looked at."""
    with torch.no_grad():
        want, g = f(*args), compiled(f)
        for _ in range(2):
            torch.testing.assert_close(g(*args), want, equal_nan=True, check_stride=True)
    if graphs is not None:
        assert [graph.calls for graph in graphs] == [0]
