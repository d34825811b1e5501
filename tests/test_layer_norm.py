"""Layer norm beside f64: mean and variance come from distances from one of a row's elements."""

import pytest
import torch

N = 768
# Where that element is looked for.
PLACES = [N * k // 10 for k in (1, 3, 5, 7, 9)]


def compiled(f):
    return torch.compile(f, backend="ipex", options={"strict": True}, fullgraph=True, dynamic=False)


def rows(kind):
    x = torch.randn(64, N)
    match kind:
        case "far from zero":
            x += 1e4
        case "near one another":
            x = x * 1e-3 + 1
        case "of two kinds":
            x[:, : N // 2] += 1e3
        case "with outliers":
            x[:, PLACES[0]], x[:, PLACES[2]] = 1e4, 1e4
        case "with outliers below":
            x[:, PLACES[1]], x[:, PLACES[4]] = -1e4, -1e4
        case "equal":
            x[:] = 1234.567
    return x


KINDS = ["far from zero", "near one another", "of two kinds", "with outliers"]
KINDS += ["with outliers below", "equal", "usual"]


@pytest.mark.parametrize("shape", [(64, N), (4, 16, 8, N // 8)])
@pytest.mark.parametrize("kind", KINDS)
def test_as_exact_as_f32_can_be(kind, shape):
    torch.manual_seed(0)
    x, w, b = rows(kind).view(shape), torch.randn(N), torch.randn(N)
    inner = [N] if len(shape) == 2 else list(shape[2:])
    w, b = w.view(inner), b.view(inner)

    def f(x, w, b):
        return torch.native_layer_norm(x, inner, w, b, 1e-5)

    want = f(x.double(), w.double(), b.double())
    for got, exact in zip(compiled(f)(x, w, b), want, strict=True):
        near = 1e-6 * exact.abs().max().item()
        torch.testing.assert_close(got.double(), exact, rtol=0, atol=max(near, 1e-6))


@pytest.mark.parametrize("length", [8192, 8200, 1 << 22])
def test_outliers_in_most_places_that_are_looked_at(length):
    """The worst for distances from an element: it is far from all others but two."""
    torch.manual_seed(0)
    x = torch.randn(2, length) * 1e-3
    x[:, [length * k // 10 for k in (1, 3, 5)]] = 1e4

    def f(x):
        return torch.native_layer_norm(x, [length], None, None, 1e-5)

    near = 1e-2 if length <= 8192 else 1e-5
    for got, exact in zip(compiled(f)(x), f(x.double()), strict=True):
        torch.testing.assert_close(got.double(), exact, rtol=near, atol=near)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("at", [0, PLACES[2], N - 1])
def test_what_is_not_finite_makes_its_row_nan(number, at):
    x = torch.randn(8, N)
    x[3, at] = number
    got = compiled(lambda x: torch.nn.functional.layer_norm(x, (N,)))(x)
    assert got[3].isnan().all()
    assert got.isfinite().sum() == 7 * N


@pytest.mark.parametrize("length", [1, 2, 3, 5, 17])
def test_short_rows(length):
    torch.manual_seed(0)
    x = torch.randn(8, length) + 100

    def f(x):
        return torch.native_layer_norm(x, [length], None, None, 1e-5)

    for got, exact in zip(compiled(f)(x), f(x.double()), strict=True):
        torch.testing.assert_close(got.double(), exact, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_gradient_of_a_row_of_one_element_is_0(weighted):
    """However large the inverse of its deviation is, 316 here."""
    torch.manual_seed(0)
    x = torch.randn(8, 1)
    grad, weight = torch.randn(8, 1), torch.randn(1) if weighted else None
    _, mean, rstd = torch.native_layer_norm(x, [1], weight, None, 1e-5)

    def f(grad, x, mean, rstd):
        mask = [True, False, False]
        backward = torch.ops.aten.native_layer_norm_backward
        return backward(grad, x, [1], mean, rstd, weight, None, mask)[0]

    assert not compiled(f)(grad, x, mean, rstd).any()
