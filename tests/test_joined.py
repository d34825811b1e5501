"""Linear layers that share their input run as one product."""

import pytest
import torch
import torch.nn.functional as F
from processor import has
from torch import nn

FROZEN = {"strict": True, "freezing": True}


class Heads(nn.Module):
    """Query, key and value with head counts of their own; some have a bias."""

    def __init__(self, biased):
        super().__init__()
        layers = zip((64, 32, 32), biased, strict=True)
        self.q, self.k, self.v = (nn.Linear(48, n, bias=bias) for n, bias in layers)

    def forward(self, x):
        q, k, v = (
            layer(x).unflatten(-1, (-1, 16)).transpose(1, 2) for layer in (self.q, self.k, self.v)
        )
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True).transpose(1, 2).flatten(2)


class Gated(nn.Module):
    """Gate and up, of sizes that fill no vector."""

    def __init__(self):
        super().__init__()
        self.gate, self.up = nn.Linear(48, 37, bias=False), nn.Linear(48, 37, bias=False)
        self.down = nn.Linear(37, 48)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Columns(nn.Module):
    """Weights [k, n] and a range of the columns of a larger one, as GPT-2 has."""

    def __init__(self):
        super().__init__()
        self.whole, self.other = (nn.Parameter(torch.randn(48, n)) for n in (90, 50))

    def forward(self, x):
        x = x.flatten(0, 1)
        return (x @ self.whole[:, 20:70]).tanh() + x @ self.other


class Twice(nn.Module):
    """One weight, used for two layers."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(48, 40)

    def forward(self, x):
        return self.layer(x).relu() + F.linear(x, self.layer.weight).exp()


class Returned(nn.Module):
    """A result that the caller gets, and two that it does not."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(48, 24) for _ in range(3))

    def forward(self, x):
        a, b, c = self.a(x), self.b(x), self.c(x)
        return a, b.view(-1), (b * c).sum(0)


class Read(nn.Module):
    """Results that ATen reads."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(48, 24), nn.Linear(48, 24)

    def forward(self, x):
        return self.a(x).sort(1).values, self.b(x).exp()


class Mixed(nn.Module):
    """A weight that each call computes anew."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(48, 24), nn.Linear(48, 24)

    def forward(self, x):
        made = F.linear(x, self.a.weight * x.sum())
        return self.a(x) * self.b(x) + made


# How many layers are joined.
MODELS = {
    "heads": (lambda: Heads((True, True, True)), [3]),
    "heads_biased_in_part": (lambda: Heads((True, False, True)), [3]),
    "heads_without_bias": (lambda: Heads((False, False, False)), [3]),
    "gated": (Gated, [2]),
    "columns": (Columns, [2]),
    "twice": (Twice, [2]),
    "returned": (Returned, []),
    "read": (Read, []),
    "mixed": (Mixed, [2]),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_joined(name, dtype, graphs):
    build, joined = MODELS[name]
    model, x = build().eval(), torch.randn(2, 19, 48)
    want = model.double()(x.double())
    model, x = model.to(dtype), x.to(dtype)
    f = torch.compile(model, backend="ipex", options=FROZEN, dynamic=False)
    with torch.no_grad():
        eager = model(x)
        for _ in range(2):
            got = f(x)
            for g, e, w in zip(*map(flat, (got, eager, want)), strict=True):
                assert g.stride() == e.stride() and g.dtype == e.dtype
                error, its = ((t.double() - w).abs().max().item() for t in (g, e))
                bound = 2 * its + 16 * torch.finfo(dtype).eps
                assert error <= bound, (error, its)
    if dtype is torch.float32:
        assert graphs[0].joined == joined


def flat(results):
    return results if isinstance(results, tuple) else (results,)


def test_results_of_one_call_do_not_share_memory():
    model, x = Returned().eval(), torch.randn(2, 19, 48)
    f = torch.compile(model, backend="ipex", options=FROZEN, dynamic=False)
    with torch.no_grad():
        got = [t.clone() for t in f(x)]
        first = f(x)
        first[0].zero_()
        torch.testing.assert_close(first[1], got[1])
        assert first[0].untyped_storage().nbytes() == 2 * 19 * 24 * 4


@pytest.mark.parametrize("rows", [1, 2, 7, 16, 70, 600])
def test_any_number_of_rows(rows):
    model = Gated().eval()
    f = torch.compile(model, backend="ipex", options=FROZEN, dynamic=True)
    with torch.no_grad():
        for n in (rows, rows + 3):
            x = torch.randn(n, 48)
            torch.testing.assert_close(f(x), model(x))


def test_not_frozen_weights_are_never_stale(graphs):
    model, x = Gated().eval(), torch.randn(20, 48)
    f = torch.compile(model, backend="ipex", options={"strict": True}, dynamic=False)
    with torch.no_grad():
        f(x)
        model.up.weight.data.mul_(2)
        torch.testing.assert_close(f(x), model(x))
    assert graphs[0].joined == []


def test_autocast(graphs):
    model, x = Heads((True, False, True)).eval(), torch.randn(2, 19, 48)
    f = torch.compile(model, backend="ipex", options=FROZEN, dynamic=False)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(f(x), model(x), rtol=2e-2, atol=1e-2)
    if has("avx512_bf16"):
        assert graphs[0].joined == [3]


@pytest.mark.parametrize("model", [Heads((True, False, True)), Gated()])
def test_a_choice_between_it_and_aten(model):
    model, x = model.eval(), torch.randn(2, 19, 48)
    options = {**FROZEN, "max_autotune": True}
    f = torch.compile(model, backend="ipex", options=options, dynamic=False)
    with torch.no_grad():
        for _ in range(3):
            torch.testing.assert_close(f(x), model(x))
