"""Results too large for a cache, whose stores go past it, against eager."""

import pytest
import torch

# At least 64 MiB of f32: results stream whatever the caches. No line starts where threads do.
ROWS, COLUMNS = 4099, 4096
ODD = 16_777_259
DTYPES = [getattr(torch, name) for name in "float32 bfloat16 float16 int16 int32 float64".split()]

FUNCTIONS = {
    "sum": lambda x, y: x + 2 * y,
    "read_again": lambda x, y: (x + y, (x + y).sum()),
    "norm": lambda x, y: torch.nn.functional.rms_norm(x, x.shape[-1:]) + y,
    "two_results": lambda x, y: (x + y, x > y),
    "view": lambda x, y: (x * y).flatten(),
    "in_place": lambda x, y: x.add_(y),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_large_results(name):
    torch.manual_seed(0)
    f = FUNCTIONS[name]
    x, y = torch.randn(ROWS, COLUMNS), torch.randn(ROWS, COLUMNS)
    compiled = torch.compile(f, backend="ipex", options={"strict": True}, dynamic=False)
    torch.testing.assert_close(compiled(x.clone(), y), f(x, y), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_odd_sizes(dtype):
    x = torch.arange(2 * ODD).remainder(251).to(dtype)
    # Not all products are numbers of bf16.
    compiled = torch.compile(lambda x: x * 3, backend="ipex", options={"strict": True})
    assert torch.equal(compiled(x), x * 3)
