"""Running sums and products, and windows as columns: as eager, no call of ATen."""

import pytest
import torch
import torch.nn.functional as F
from against_eager import check

INF = float("inf")


@pytest.mark.parametrize("f", [torch.cumsum, torch.cumprod])
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int32, torch.int64]
)
@pytest.mark.parametrize(
    ("sizes", "dim"),
    [((7,), 0), ((3, 65), 1), ((3, 65), 0), ((2, 5, 9), 1), ((2, 1, 9), 1), ((), 0), ((4, 3), -1)],
)
def test_every_layout(f, dtype, sizes, dim, graphs):
    x = (4 * torch.rand(sizes) - 2).to(dtype)
    check(lambda x: f(x, dim), x, graphs=graphs)


def test_other_layouts(graphs):
    x = torch.randn(6, 5, 4)
    check(lambda x: x.transpose(0, 2).cumsum(0), x)
    check(lambda x: x.flip(1).cumsum(1).flip(1), x)
    check(lambda x: x[:, ::2].cumsum(1), x)
    check(lambda x: x.expand(2, 6, 5, 4).cumsum(2), x)
    assert [g.calls for g in graphs] == [0] * 4


def test_special_values(graphs):
    x = torch.tensor([[-0.0, 1, INF, 1, -INF, 2], [-0.0, -0.0, 1e30, 1e30, -1e30, -1e30]])
    check(lambda x: x.cumsum(1), x)
    check(lambda x: x.cumprod(1), x)
    check(lambda x: torch.signbit(x[:, :1].cumsum(1)), x)
    assert [g.calls for g in graphs] == [0] * 3


def test_other_dtypes(graphs):
    x = torch.randint(0, 250, (3, 40))
    check(lambda x: (x > 99).cumsum(1), x)
    check(lambda x: x.to(torch.uint8).cumsum(1), x)
    check(lambda x: x.cumsum(1, dtype=torch.int8), x)
    check(lambda x: x.cumsum(0, dtype=torch.float32), x)
    check(lambda x: (x / 7).cumsum(1, dtype=torch.int64), x)
    assert [g.calls for g in graphs] == [0] * 5


def test_positions_are_one_kernel(graphs):
    """What language models make of a mask."""

    def positions(mask):
        return (mask.long().cumsum(-1) - 1).masked_fill(mask == 0, 1)

    check(positions, torch.randint(0, 2, (4, 33)), graphs=graphs)
    assert graphs[0].groups == 1


def test_among_reductions(graphs):
    x = torch.randn(5, 40)
    check(lambda x: x.softmax(-1).cumsum(-1), x)
    check(lambda x: x.cumsum(-1).softmax(-1), x)
    check(lambda x: x.cumsum(-1).cumsum(-1), x)
    check(lambda x: x.cumsum(-1).cumsum(0), x)
    check(lambda x: x.cumsum(0) + x.sum(1, keepdim=True), x)
    check(lambda x: x.cumsum(1)[:, -1], x)
    check(lambda x: x.view(5, 8, 5).cumsum(1).view(5, 40) + x, x)
    check(lambda x: (x.cumsum(1), x.cumsum(0), x.t().contiguous().cumprod(1)), x)
    assert [g.calls for g in graphs] == [0] * 8


def test_gradient():
    x = torch.randn(4, 30, requires_grad=True)
    w = torch.randn(4, 30)
    f = torch.compile(lambda x: (x.cumsum(1) * w).sum(), backend="ipex")
    (want,) = torch.autograd.grad((x.cumsum(1) * w).sum(), x)
    (got,) = torch.autograd.grad(f(x), x)
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    "window",
    [
        {"kernel_size": 3},
        {"kernel_size": (9, 1), "padding": (4, 0)},
        {"kernel_size": (2, 3), "dilation": (2, 1), "stride": (1, 2), "padding": 1},
        {"kernel_size": 1},
    ],
)
def test_windows_as_columns(window, dtype, graphs):
    image = torch.randn(2, 3, 12, 9).to(dtype)
    check(lambda x: F.unfold(x, **window), image)
    check(lambda x: F.unfold(x, **window), image[0])
    assert [g.calls for g in graphs] == [0] * 2
