"""Short forms of `python tests/soak.py`."""

import soak


def test_calls_leave_no_memory_behind():
    warm, end = soak.calls(5_000)
    assert end <= 1.01 * warm


def test_what_a_compile_leaves_behind_is_bounded():
    series = soak.compiles(60)
    assert series[-1] - series[len(series) // 2] <= 30 * soak.KIB_PER_COMPILE * 1024


def test_the_loss_curve_is_eager_s():
    eager, compiled = soak.losses(40, None), soak.losses(40, "ipex")
    assert max(abs(a - b) for a, b in zip(eager, compiled, strict=True)) < 1e-3
    assert eager[-1] < eager[0]
