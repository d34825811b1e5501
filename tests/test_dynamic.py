"""One compilation for many sizes."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._dynamo.utils import counters

STRICT = {"backend": "ipex", "options": {"strict": True}, "fullgraph": True}


def compiled_once(f, calls):
    """Compares every call with eager, and that one graph served all but sizes of 0 and 1."""
    torch._dynamo.reset()
    counters.clear()
    g = torch.compile(f, dynamic=True, **STRICT)
    for args in calls:
        torch.testing.assert_close(g(*args), f(*args), check_stride=True)
    assert counters["stats"]["unique_graphs"] == 1


CASES = {
    "matmul": lambda n: (lambda x: F.gelu(x @ x.t()), torch.randn(n, 2 * n)),
    "softmax": lambda n: (lambda x: F.softmax(x * x.shape[0] ** -0.5, -1), torch.randn(n, 7)),
    "view": lambda n: (lambda x: x.view(x.shape[0] // 2, -1).sum(0), torch.randn(2 * n, 3)),
    "cat": lambda n: (lambda x: torch.cat([x, x[1:]]) + x.shape[0], torch.randn(n, 5)),
    "arange": lambda n: (lambda x: torch.arange(x.shape[0]) * x[:, 0], torch.randn(n, 2)),
    "pad": lambda n: (lambda x: F.pad(x, (1, x.shape[1] % 4)), torch.randn(3, n)),
    "size_returned": lambda n: (lambda x: (x + 1, x.shape[0] * 2), torch.randn(n, 3)),
    "not_lowered": lambda n: (lambda x: x.cumsum(0).roll(x.shape[0] // 2), torch.randn(n, 3)),
}


@pytest.mark.parametrize("name", CASES)
def test_sizes(name):
    made = [CASES[name](n) for n in (4, 6, 9, 16, 4)]
    with torch.no_grad():
        compiled_once(made[0][0], [args for _, *args in made])


@pytest.mark.parametrize("n", [0, 1])
def test_small_sizes(n):
    f = torch.compile(lambda x: (F.softmax(x, -1), x.sum(0)), dynamic=True, **STRICT)
    with torch.no_grad():
        for size in (5, n, 5):
            x = torch.randn(size, 3)
            torch.testing.assert_close(f(x), (F.softmax(x, -1), x.sum(0)))


def test_one_compile_serves_batches_and_lengths():
    layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
    calls = [(torch.randn(b, n, 32),) for b, n in ((2, 10), (3, 7), (8, 33))]
    with torch.no_grad():
        compiled_once(layer, calls)


def test_automatic_dynamic():
    counters.clear()
    f = torch.compile(lambda x: (x * 2).sum(-1), **STRICT)
    with torch.no_grad():
        for n in (3, 5, 9, 12):
            x = torch.randn(4, n)
            torch.testing.assert_close(f(x), (x * 2).sum(-1))
    assert counters["stats"]["unique_graphs"] == 2


@pytest.fixture
def captured():
    """Data decide sizes and numbers inside a graph, instead of ending it."""
    names = ("capture_dynamic_output_shape_ops", "capture_scalar_outputs")
    with torch._dynamo.config.patch(dict.fromkeys(names, True)):
        yield


def histogram(x):
    top = x.max().item()
    torch._check(top < 100)
    return torch.zeros(top + 1, dtype=torch.int64).scatter_add(0, x, torch.ones_like(x)), top


UNBACKED = {
    "nonzero": (lambda x: x.nonzero() + 1, lambda n: torch.randn(n, 3).relu()),
    "mask": (lambda x: (x[x > 0] * 2).exp(), lambda n: torch.randn(n, 3)),
    "mask_twice": (lambda x: x[x > 0].sum() + x[x < 0] * 3, lambda n: torch.randn(n)),
    "nothing_found": (lambda x: x[x > 9].cumsum(0) + 1, lambda n: torch.randn(n)),
    "repeated": (lambda x: torch.repeat_interleave(x, x) * 2, lambda n: torch.randint(0, 4, (n,))),
    "unique": (lambda x: torch.unique(x) + x.sum(), lambda n: torch.randint(0, 9, (n,))),
    "integer": (histogram, lambda n: torch.randint(0, 9, (n,))),
    "float": (lambda x: x * x.sum().item(), lambda n: torch.randn(n)),
    "float_limit": (lambda x: x.clamp(max=x[0].item()), lambda n: torch.randn(n)),
    "float_returned": (lambda x: x[0].item() * 2, lambda n: torch.randn(n)),
    "truth": (lambda x: (x + 1, (x.sum() > 0).item()), lambda n: torch.randn(n)),
    "argument_returned": (lambda x: (x, x[x > 0] + 1), lambda n: torch.randn(n)),
    "half": (lambda x: x * x[0].item(), lambda n: torch.randn(n).half()),
}


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("name", UNBACKED)
def test_data_decide_sizes(captured, name, dynamic):
    f, make = UNBACKED[name]
    g = torch.compile(f, dynamic=dynamic, **STRICT)
    with torch.no_grad():
        for n in (12, 12, 30, 7) if dynamic else (12, 12, 12):
            x = make(n)
            torch.testing.assert_close(g(x), f(x), check_stride=True)


def test_mutation_behind_a_mask(captured):
    def f(x):
        y = x[x > 0] * 2
        x.add_(y.sum())
        return y

    x = torch.randn(9)
    twin = x.clone()
    got, want = torch.compile(f, **STRICT)(x), f(twin)
    torch.testing.assert_close((got, x), (want, twin))


def test_gradients_through_a_mask(captured):
    lin = nn.Linear(5, 3)

    def f(x):
        y = lin(x).tanh()
        return (y[y > 0] * 3).exp()

    g = torch.compile(f, dynamic=True, **STRICT)
    for n in (4, 9, 7):
        x = torch.randn(n, 5, requires_grad=True)
        got, want = (torch.autograd.grad(h(x).sum(), [x, lin.weight]) for h in (g, f))
        torch.testing.assert_close(got, want)


def test_a_condition_on_data_is_checked(captured):
    f = torch.compile(histogram, **STRICT)
    f(torch.tensor([3, 5]))
    with pytest.raises(RuntimeError, match="Runtime assertion failed"):
        f(torch.tensor([3, 500]))


def test_without_capture_a_mask_breaks_the_graph():
    f = torch.compile(lambda x: x[x > 0] * 2, backend="ipex", options={"strict": True})
    x = torch.randn(20)
    with torch.no_grad():
        torch.testing.assert_close(f(x), x[x > 0] * 2)


def test_more_sizes_than_plans_are_kept():
    f = torch.compile(lambda x: x.exp() + 1, dynamic=True, **STRICT)
    with torch.no_grad():
        for n in [*range(2, 100), 2, 50]:
            x = torch.randn(n)
            torch.testing.assert_close(f(x), x.exp() + 1)
