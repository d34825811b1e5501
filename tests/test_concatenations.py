"""Pointwise work on concatenations, against eager."""

import pytest
import torch


def rotary(x, y, a):
    return rotated(x, a.cos(), a.sin())


def rotated(x, cos, sin):
    heads = x.view(x.shape[0], -1, 8)
    turned = torch.cat((-heads[..., 4:], heads[..., :4]), -1)
    return heads * cos[:, None] + turned * sin[:, None]


def two_kinds(x, y, a):
    columns = torch.cat((x, y), 1) * 2
    rows = torch.cat((x, y), 0).reshape(x.shape[0], -1)
    return columns + rows.exp(), torch.cat((a, a, a), 1)[:, : a.shape[1]] + a


FUNCTIONS = {
    "rotary": rotary,
    "two_kinds": two_kinds,
    "halves_and_thirds": lambda x, y, a: torch.cat((x, y), 1) + torch.cat((a, a, a), 1)[:, :48],
    "halves_of_thirds": lambda x, y, a: (
        torch.cat((x, y), 1) + (torch.cat((y, x), 1) + torch.cat((a, a, a), 1)).exp()
    ),
    "rows_of_columns": lambda x, y, a: (
        torch.cat((a[:4], a[:4]))
        + (torch.cat((a[1:], a[1:])) * torch.cat((x.view(-1, 8)[:8], y.view(-1, 8)[:8]), 1))
    ),
    "returned": lambda x, y, a: (torch.cat((x, y), 1), torch.cat((x, y), 1).sigmoid()),
    "reduced": lambda x, y, a: (torch.cat((x, y), 1) * 2).sum(1),
    "compared": lambda x, y, a: torch.where(torch.cat((x, y), 1) > 0, 1.0, torch.cat((y, x), 1)),
    "dims": lambda x, y, a: torch.stack((x, y)).neg() + torch.stack((y, x), 0),
    "unequal": lambda x, y, a: torch.cat((x, y[:, :3]), 1).exp(),
    "in_place": lambda x, y, a: x.add_(torch.cat((y[:, 12:], y[:, :12]), 1)),
    "types": lambda x, y, a: torch.cat((x, y), 1).bfloat16().float() + torch.cat((y, x), 1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_concatenations(name, dtype):
    x, y, a = torch.randn(5, 24), torch.randn(5, 24), torch.randn(5, 8 if name == "rotary" else 16)
    x, y, a = (t.to(dtype) for t in (x, y, a))
    f = FUNCTIONS[name]
    options = {"strict": True, "emulate_precision_casts": True}
    compiled = torch.compile(f, backend="ipex", options=options, dynamic=False)
    got, want = compiled(x.clone(), y, a), f(x.clone(), y, a)
    torch.testing.assert_close(got, want)


def test_rotary_is_one_kernel(graphs):
    x, angle = torch.randn(6, 32), torch.randn(6, 8)
    torch.compile(rotated, backend="ipex", dynamic=False)(x, angle.cos(), angle.sin())
    assert graphs[0].groups == 1
