"""Operators that stay ATen's: the way they are called, their results, their errors."""

import pytest
import torch
import torch.nn.functional as F

torch.manual_seed(0)
X, IMAGE, INDEX = torch.randn(4, 6), torch.randn(2, 3, 8, 8), torch.tensor([0, 2])

DISPATCHED = {
    "int": (lambda x: (x * 2).logcumsumexp(1), X),
    "lists": (lambda x: F.fold((x * 2).view(2, 12, 16), (5, 5), 2), IMAGE),
    "optional": (lambda x: F.avg_pool3d(x, 2, divisor_override=3), IMAGE),
    "optional_tensor": (lambda x: torch.searchsorted(x, x, sorter=x.argsort(1)), X),
    "optional_tensors": (
        lambda x, i: torch.ops.aten.index_put(x * 2, [i, None, i], x[0, 0]),
        IMAGE[0],
        INDEX,
    ),
    # f32 has a kernel of ours.
    "attention": (
        lambda q: F.scaled_dot_product_attention(q, q, q),
        torch.randn(1, 4, 10, 16).double(),
    ),
    "tensors_in": (lambda x: torch.cat([x.to(torch.complex64)] * 2), X),
    "tensors_out": (lambda x: torch.tensor_split(x.to(torch.complex64), 2), X),
    "string": (lambda x, i: x.scatter_reduce(0, i[:, None], x, "amax"), X, INDEX),
    "dtype": (lambda x: x.cumsum(0, dtype=torch.complex64), X),
    "layout_and_device": (lambda x: torch.randperm(5) * 0 + x.long()[0, :5], X),
    "random": (lambda x: torch.bernoulli(torch.sigmoid(x)) + torch.rand(6), X),
    "dropout": (lambda x: F.dropout(x * 2, 0.5), X),
    "view": (lambda x: (x * 2).unfold(1, 3, 2), X),
    "overlapping_view": (lambda x: torch.as_strided(x * 2, (3, 3), (1, 1)), X),
    "conjugate": (lambda x: torch.fft.rfft(x).conj(), X),
    "undefined_result": (
        lambda x, w: torch.ops.aten.convolution_backward(
            x, x, w, [3], [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [False, True, False]
        )[1],
        IMAGE,
        torch.randn(3, 3, 3, 3),
    ),
}
PYTHON = {
    "scalar": (lambda x: torch.linalg.vector_norm(x, 3.5), X),
    "complex_number": (lambda x: x * 1j, X),
}


def check(graphs, f, args):
    torch.manual_seed(1)
    with torch.no_grad():
        want = f(*args)
    state = torch.get_rng_state()
    torch.manual_seed(1)
    g = torch.compile(f, backend="ipex", options={"strict": True}, dynamic=False)
    with torch.no_grad():
        got = g(*args)
    (graph,) = graphs
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(got, want, check_stride=True)
    assert graph.calls > 0
    return graph


@pytest.mark.parametrize("name", DISPATCHED)
def test_dispatched(graphs, name):
    f, *args = DISPATCHED[name]
    assert check(graphs, f, args).python_calls == 0


@pytest.mark.parametrize("name", PYTHON)
def test_through_python(graphs, name):
    f, *args = PYTHON[name]
    assert check(graphs, f, args).python_calls > 0


def test_custom_operator_in_python(graphs):
    @torch.library.custom_op("ipex_test::twice", mutates_args=())
    def twice(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    twice.register_fake(torch.empty_like)
    assert check(graphs, lambda x: twice(x + 1), (X,)).python_calls == 1


ERRORS = {
    "index": (lambda x, i: x[i], X, torch.tensor([9])),
    "index_from_the_end": (lambda x, i: x[:, i] * 2, X, torch.tensor([3, -7])),
    "computed_index": (lambda x, i: F.embedding(i + 1, x) * 2, X, torch.tensor([1, 3])),
    "index_select": (lambda x, i: x.index_select(1, i) * 2, X, torch.tensor([3, 6])),
    "embedding": (lambda x, i: F.embedding(i, x) * 2, X, torch.tensor([3, -1])),
    "division": (lambda x, i: i // x.long(), X * 0, torch.tensor(3)),
    "gather": (lambda x, i: x.sort(0).values.gather(0, i), X, torch.full((1, 1), 9)),
    "max_unpool": (lambda x, i: F.max_unpool2d(x, i, 2), IMAGE, torch.full((2, 3, 8, 8), 999)),
    "linalg": (
        lambda x, i: torch.linalg.inv_ex(x + i, check_errors=True)[0],
        X[:, :4] * 0,
        INDEX[0],
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_those_of_eager(name):
    f, *args = ERRORS[name]
    g = torch.compile(f, backend="ipex", options={"strict": True}, dynamic=False)
    with torch.no_grad():
        with pytest.raises(Exception) as want:
            f(*args)
        for _ in range(2):
            with pytest.raises(want.type) as got:
                g(*args)
            assert type(got.value) is want.type
            assert str(got.value) == str(want.value)


def test_views_do_not_share_reused_memory(graphs):
    def f(x):
        diagonal = torch.diagonal(x * 2)
        return diagonal + torch.cumsum(x * 3, 0).sum() * 0 + torch.diagonal(x.exp())

    check(graphs, f, (torch.rand(64, 64),))


def test_views_of_arguments_that_begin_inside_their_storage(graphs):
    def f(x):
        return x[1:].cumsum(0), x.t().sort(0).values, x[:, 2:].t().argsort(0)

    x = torch.randn(60)[12:52].view(5, 8)
    check(graphs, f, (x,))


def test_operands_are_freed():
    import resource

    f = torch.compile(
        lambda x, i: torch.index_put(x.sort(1).values.cumsum(0), (i,), x[0], accumulate=True),
        backend="ipex",
        options={"strict": True},
        dynamic=False,
    )
    x = torch.randn(100, 1000)
    with torch.no_grad():
        for _ in range(50):
            f(x, INDEX)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(200):
            f(x, INDEX)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    # One lost tensor a call would be 80 MB in all.
    assert grown < 20_000, f"{grown} KiB"


def test_strides_that_tracing_did_not_foresee():
    """As eager gives them where they are only returned; whoever reads the result is right too."""

    @torch.library.custom_op("ipex_test::turned", mutates_args=())
    def turned(x: torch.Tensor) -> torch.Tensor:
        return x.t().contiguous().t()

    turned.register_fake(torch.empty_like)

    def f(x):
        returned, read, viewed = turned(x * 2), turned(x * 3), turned(x * 4)
        return returned, read + x, torch.linalg.inv(turned(x[:, :3])), viewed[1:]

    x = torch.randn(3, 5)
    want, got = f(x), torch.compile(f, backend="ipex", options={"strict": True})(x)
    assert got[0].stride() == want[0].stride() == (1, 3)
    torch.testing.assert_close(got, want, rtol=0, atol=0)


@pytest.mark.parametrize("requires_grad", [False, True])
def test_random_numbers_are_drawn_in_eager_s_order(requires_grad):
    """Though the first call waits for a kernel that also computes what comes behind the second."""

    def f(x, y):
        z = x.exp()
        return F.dropout(z), F.dropout(y), z + 1

    x, y = (torch.randn(4, 6, requires_grad=requires_grad) for _ in range(2))
    torch.manual_seed(3)
    want = f(x, y)
    torch.manual_seed(3)
    got = torch.compile(f, backend="ipex", options={"strict": True})(x, y)
    torch.testing.assert_close(got, want)
