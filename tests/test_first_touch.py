"""Memory of results is touched first by the threads that write it: it lies where they run."""

import resource
import sys

import pytest
import torch

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="faults of a thread are Linux's")


def faults(who):
    return resource.getrusage(who).ru_minflt


@pytest.mark.parametrize("rows", [False, True], ids=["elements", "rows"])
def test_each_thread_touches_what_it_writes(rows):
    def f(x):
        return torch.softmax(x, -1) if rows else x * 2 + 1

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        g = torch.compile(f, backend="ipex", options={"strict": True}, fullgraph=True)
        # Of a size that no other test has left in the pool.
        x = torch.randn(4099, 5999 if rows else 4999)
        kept = [g(x)]  # so that the next call gets fresh memory
        everyone, caller = faults(resource.RUSAGE_SELF), faults(resource.RUSAGE_THREAD)
        kept.append(g(x))
        everyone = faults(resource.RUSAGE_SELF) - everyone
        caller = faults(resource.RUSAGE_THREAD) - caller
    finally:
        torch.set_num_threads(before)
    # 78 MiB and more, in huge pages or in small ones.
    assert everyone >= 32
    assert everyone / 4 <= caller <= everyone * 3 / 4, (caller, everyone)
