"""Reductions of long rows, which threads share in parts, and places of extrema."""

import os
import subprocess
import sys

import pytest
import torch

NAN, INF = float("nan"), float("inf")
# One row that is shared, several, parts of whole dims, and of dims that nothing else divides.
SHARED = [(1 << 20,), (4, 1 << 20), (96, 64, 64), (3, 1021, 257), (1 << 18,), (300, 1000)]
SHARED += [(262147,), (3, 1048583)]


def compiled(f):
    return torch.compile(f, backend="ipex", options={"strict": True}, fullgraph=True)


def of_all(x):
    return x.sum(), (x * x - 1).sum(), x.mean() * x.numel(), x.norm(), x.amax(), x.min()


@pytest.mark.parametrize("shape", [*SHARED, (1000,), (3, 5)])
def test_whole_tensors(shape):
    """Sums are within a part of the sum of magnitudes, norms within two units, extrema exact."""
    torch.manual_seed(0)
    x = torch.randn(shape)
    got, want = compiled(of_all)(x), of_all(x.double())
    size = x.abs().double().sum().item()
    part = 2e-9 if shape in SHARED else 5e-8
    bounds = [part * size, 2 * part * size, part * size + 1e-7 * want[2].abs().item()]
    bounds += [2.4e-7 * want[3].item(), 0, 0]
    for a, b, bound in zip(got, want, bounds, strict=True):
        assert abs(a.item() - b.item()) <= bound


def sums(t):
    return t.sum(), (t * t).sum((0, 1, 2, 3)), t.sum((1, 2, 3))


def extrema(t):
    return t.argmax(), t.amax(), t.argmin(1)


def test_dims_in_another_order():
    torch.manual_seed(0)
    x = torch.randn(8, 64, 64, 64).contiguous(memory_format=torch.channels_last)
    for y in (x, x.permute(3, 0, 2, 1), x[:, :, ::2], x.expand(8, 64, 64, 64)):
        got, want = compiled(sums)(y), tuple(s.float() for s in sums(y.double()))
        torch.testing.assert_close(got, want, rtol=1e-6, atol=5e-3)
        torch.testing.assert_close(compiled(extrema)(y), extrema(y), rtol=0, atol=0)


def of_numbers(t):
    first = (t.max(), t.min(), t.sum(dtype=torch.float64), *t.view(-1, 64).max(1))
    # Eager has no places of truth values but along a dim.
    return first if t.dtype == torch.bool else (*first, t.amax(), t.argmax())


@pytest.mark.parametrize("name", ["bfloat16", "float64", "int64", "int32", "uint8", "bool"])
def test_other_numbers(name):
    torch.manual_seed(0)
    x = (torch.randn(1 << 19) * 50).abs().to(getattr(torch, name))
    got, want = compiled(of_numbers)(x), of_numbers(x)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=0)


def test_errors_are_those_of_short_sums():
    """One loop over all of them has 100 times this error."""
    torch.manual_seed(0)
    x = torch.randn(1 << 24) + 0.25
    for f in (torch.sum, lambda t: (t * t).sum()):
        got, want = compiled(f)(x).item(), f(x.double()).item()
        assert abs(got - want) <= 2e-7 * abs(want)


@pytest.mark.parametrize("shape", [(1 << 21,), (3, 300000), (5, 7, 8000), (4, 262147)])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_variances(shape, offset):
    torch.manual_seed(0)
    x = torch.randn(shape) + offset
    x[..., -1000:] += 5
    for f in (torch.var, lambda t: t.var(-1), lambda t: torch.std_mean(t, -1, correction=0)):
        got, want = compiled(f)(x), f(x.double())
        want = torch.utils._pytree.tree_map(torch.Tensor.float, want)
        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_number_of_threads_gives_the_same(threads):
    torch.manual_seed(0)
    x = torch.randn(1 << 22)
    f = compiled(lambda t: (t.sum(), t.norm(), t.var(), t.argmin()))
    first, before = f(x), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        torch.testing.assert_close(f(x), first, rtol=0, atol=0)
    finally:
        torch.set_num_threads(before)


ROWS = {
    "ties": [3.0, 17.0, 17.0, -1.0, 17.0],
    "nan": [3.0, NAN, 9.0, NAN, INF],
    "infinite": [-INF, -INF, -INF, -INF, -INF],
    "zeros": [-0.0, 0.0, 0.0, -0.0, -0.0],
}


def places(t):
    along = (t.argmax(1), *t.max(1), *t.min(1, keepdim=True))
    return (t.argmax(), t.argmin(), t[1].argmax(0, keepdim=True), *along)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("length", [5, 40, 8192, 1 << 20])
def test_places_of_extrema(name, length):
    """The first of equals, or of NaNs, wherever in a vector and whichever part they are in."""
    torch.manual_seed(0)
    x = torch.randn(3, length).clamp(-6, 6)
    if name == "infinite":
        x[:] = -INF
    for row, at in enumerate([0, (length - 5) // 2, length - 5]):
        x[row, at : at + 5] = torch.tensor(ROWS[name])
    torch.testing.assert_close(compiled(places)(x), places(x), rtol=0, atol=0, equal_nan=True)


def along_columns(t):
    return t.argmax(0), *t.max(0), t[:1].max(0)[1], t[0, 0].argmax(), *t.t().min(1), *t[0, 0].max(0)


def test_places_along_columns_and_of_one_element():
    x = torch.randn(300, 40)
    torch.testing.assert_close(compiled(along_columns)(x), along_columns(x), rtol=0, atol=0)


def test_gradients_of_maxima():
    x = torch.randn(64, 100, requires_grad=True)

    def f(t):
        return t.max(1)[0].sum() + t.max() + t.min(0)[0].sum()

    want = torch.autograd.grad(f(x), x)
    got = torch.autograd.grad(torch.compile(f, backend="ipex")(x), x)
    torch.testing.assert_close(got, want)


@pytest.mark.skipif("IPEX_ISA" in os.environ, reason="runs this file with other instructions")
@pytest.mark.parametrize("isa", ["scalar", "avx2"])
def test_other_instructions(isa):
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(run, env={**os.environ, "IPEX_ISA": isa}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
