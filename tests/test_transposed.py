"""Operands that are read across the order of the result, against eager."""

import pytest
import torch

FUNCTIONS = {
    "sum": lambda x, y, b, i: x.t() + y,
    "two": lambda x, y, b, i: (x.t() * y + b.t()).sin(),
    "integers": lambda x, y, b, i: i.t() * 2 + y,
    "copy": lambda x, y, b, i: x.t().contiguous(),
    "two_results": lambda x, y, b, i: (x.t() + y, x.t() > y),
    "f64": lambda x, y, b, i: x.double().exp().t() + y,
    "row": lambda x, y, b, i: x.t() + y[:1],
    "batch": lambda x, y, b, i: torch.stack([x, b]).transpose(1, 2) + y,
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("sizes", [(32, 64), (64, 96), (128, 768), (40, 64), (96, 100)])
def test_transposed(name, sizes):
    torch.manual_seed(0)
    f, (rows, columns) = FUNCTIONS[name], sizes
    x, y = torch.randn(columns, rows), torch.randn(rows, columns)
    b, i = torch.randn(columns, rows).bfloat16(), torch.randint(9, (columns, rows)).int()
    compiled = torch.compile(f, backend="ipex", options={"strict": True}, dynamic=False)
    torch.testing.assert_close(compiled(x, y, b, i), f(x, y, b, i), rtol=1e-5, atol=1e-5)
