"""Powers of a number, whose logarithm the compiler takes (an optimizer's bias corrections)."""

import pytest
import torch

INF, NAN = float("inf"), float("nan")
BASES = [0.9, 0.999, 2.0, 10.0, 1e-30, 3e38, 1.5e-40, 1.0000001, 0.5]
EDGES = [0.0, -0.0, INF, -INF, NAN, 1e-45, -1e-45, 3e38, -3e38, 127.99999, 128.0, -149.0, -150.0]


def power(base):
    f = lambda x: torch.pow(base, x)  # noqa: E731
    return torch.compile(f, backend="ipex", options={"strict": True}, fullgraph=True)


@pytest.mark.parametrize("base", BASES)
def test_powers_of_a_number(base):
    """Within 2 units in the last place of the exact power of the base in f32."""
    torch.manual_seed(0)
    scales = [10.0**n for n in range(-3, 7)]
    x = torch.cat([*(torch.randn(20_000) * s for s in scales), torch.tensor(EDGES)])
    exact = torch.pow(torch.tensor(base, dtype=torch.float32).double(), x.double())
    want, got = exact.float(), power(base)(x)
    torch.testing.assert_close(got.isnan(), want.isnan(), rtol=0, atol=0)
    torch.testing.assert_close(got.isinf(), want.isinf(), rtol=0, atol=0)
    finite = want.isfinite()
    unit = torch.nextafter(want.abs(), torch.tensor(INF)) - want.abs()
    error = (got.double() - exact).abs() / unit.double()
    assert error[finite].max() <= 2
    assert (got[x == 0] == 1).all()


@pytest.mark.parametrize("base", [1.0, 0.0, -2.0, INF, NAN])
def test_bases_with_rules_of_their_own(base):
    x = torch.tensor([*EDGES, 1.0, 2.0, 3.0, 0.5, -1.0, -2.0])
    torch.testing.assert_close(power(base)(x), torch.pow(base, x), equal_nan=True)
