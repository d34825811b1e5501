"""Sums along columns, in stages and beside sums along rows, against eager."""

import pytest
import torch

aten = torch.ops.aten


def compiled(f):
    return torch.compile(f, backend="ipex", options={"strict": True}, fullgraph=True, dynamic=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("sizes", "dims"),
    [
        ((128, 96), (0,)),
        ((1024, 33), (0,)),
        ((197, 40), (0,)),
        ((2 * 197, 5), (0,)),
        ((4, 96, 40), (0, 1)),
        ((2, 4096, 17), (1,)),
        ((70, 3, 40), (0,)),
        ((72, 2, 40), (0, 2)),
    ],
)
def test_sums(sizes, dims, dtype):
    torch.manual_seed(0)
    x, y = torch.randn(sizes).to(dtype), torch.randn(sizes).to(dtype)

    def f(x, y):
        return (x * y).sum(dims), x.amax(dims), (x - y.float()).sum(dims, keepdim=True)

    # Eager sums bf16 in bf16 in places, and rounds the products.
    want = (x.float() * y.float()).sum(dims), x.float().amax(dims), f(x, y)[2]
    got = compiled(f)(x, y)
    near = 1e-2 if dtype == torch.bfloat16 else 1e-5
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g.float(), w, rtol=near, atol=near * 10)


def test_columns_that_are_apart_in_memory():
    x = torch.randn(40, 128).t()
    torch.testing.assert_close(compiled(lambda x: (x * 2).sum(0))(x), (x * 2).sum(0))
    x = torch.randn(256, 80)[:, ::2]
    torch.testing.assert_close(compiled(lambda x: (x * 2).sum(0))(x), (x * 2).sum(0))


@pytest.mark.parametrize("sizes", [(128, 96), (96, 96), (128, 128), (6, 70, 24)])
@pytest.mark.parametrize("mask", [(True, True, True), (True, False, True), (False, True, True)])
def test_layer_norm_backward(sizes, mask):
    torch.manual_seed(0)
    grad, x, w = torch.randn(sizes), torch.randn(sizes), torch.randn(sizes[-1])
    _, mean, rstd = aten.native_layer_norm(x, sizes[-1:], w, w, 1e-5)

    def f(grad, x, mean, rstd, w):
        return aten.native_layer_norm_backward(grad, x, sizes[-1:], mean, rstd, w, w, list(mask))

    args = (grad, x, mean, rstd, w)
    for got, want in zip(compiled(f)(*args), f(*args), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("mean", [0.0, 1e4])
@pytest.mark.parametrize("weighted", [True, False])
def test_layer_norm_backward_is_as_exact_as_its_operands(mean, weighted):
    """Eager loses 1e-4 of the largest gradient to a mean of 1e4."""
    torch.manual_seed(0)
    grad, x, w = torch.randn(96, 300), torch.randn(96, 300) + mean, torch.randn(300)
    _, mean, rstd = (t.float() for t in aten.native_layer_norm(x.double(), [300], None, None, 1e-5))
    mask = [True, weighted, True]

    def f(grad, x, mean, rstd, w):
        scale = w if weighted else None
        return aten.native_layer_norm_backward(grad, x, [300], mean, rstd, scale, w, mask)

    args = (grad, x, mean, rstd, w)
    for got, want in zip(compiled(f)(*args), f(*(a.double() for a in args)), strict=True):
        if want is not None:
            near = 3e-7 * want.abs().max().item()
            torch.testing.assert_close(got.double(), want, rtol=0, atol=near)


def test_means_of_a_square_in_both_directions():
    x = torch.randn(128, 128)

    def f(x):
        return x - x.mean(0) - x.mean(1, keepdim=True), x.exp().sum(0)

    for got, want in zip(compiled(f)(x), f(x), strict=True):
        torch.testing.assert_close(got, want)
