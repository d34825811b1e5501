"""Small functions against eager, through torch.compile with nothing allowed to fall back."""

import pytest
import torch
import torch.nn.functional as F

torch.manual_seed(0)
INF = float("inf")
X, Y, B = torch.randn(8, 64), torch.randn(8, 64), torch.randn(64)

CASES = {
    "axpy": (lambda x, y: x + 2 * y, X, Y),
    "gelu": (lambda x, b: F.gelu(x + b), X, B),
    "gelu_tanh": (lambda x, b: F.gelu(x + b, approximate="tanh"), X, B),
    "silu": (lambda x, y: F.silu(x) * y, X, Y),
    "hardswish": (F.hardswish, X),
    "layer_norm": (lambda x, y, b: F.layer_norm(x + y, (64,), b, b), X, Y, B),
    "rms_norm": (lambda x, b: F.rms_norm(x, (64,), b, 1e-5), X, B),
    "softmax": (lambda x: F.softmax(x, -1), torch.randn(3, 7, 65)),
    "softmax_rows": (lambda x: F.softmax(x, 0), torch.randn(30, 65)),
    "log_softmax": (lambda x: F.log_softmax(x, -1), X),
    "masked_softmax": (
        lambda x, m: F.softmax(torch.where(m, x, -INF), -1),
        torch.randn(3, 7, 65),
        torch.rand(7, 65) > 0.3,
    ),
    "fully_masked_softmax": (lambda x: F.softmax(x, -1), torch.full((2, 5), -INF)),
    "column_sum": (lambda x: x.sum(0), torch.randn(100, 65)),
    "full_sum": (lambda x: x.sum(), torch.rand(100, 65)),
    "spatial_mean": (lambda x: x.mean((2, 3)), torch.randn(2, 5, 7, 9)),
    "nan_max": (lambda x: x.amax(-1), torch.tensor([[1.0, float("nan"), 3.0]])),
    "matmul": (lambda x, y: F.gelu(x @ y.t()), X, Y),
    "linear": (
        lambda x, w, b: F.relu(F.linear(x, w, b)),
        torch.randn(2, 8, 64),
        torch.randn(32, 64),
        torch.randn(32),
    ),
    "embedding": (
        lambda i, w: F.embedding(i, w) * 2,
        torch.randint(0, 50, (2, 9)),
        torch.randn(50, 16),
    ),
    "cat": (lambda x, y: torch.cat([x * 2, y], 1) + 1, X, Y),
    "pad": (lambda x: F.pad(x, (1, 2, 3, 0), value=2.0) * 2, X),
    "slice": (lambda x: x[:, 3:20:2] * 2, X),
    "transposed": (lambda x: (x.t() + 1).contiguous(), X),
    "returned_view": (lambda x: (x + 1).t(), X),
    "returned_slice": (lambda x: (x + 1)[:, ::2], X),
    "split": (lambda x: [a * 2 for a in x.split(20, 1)], X),
    "attention": (
        lambda q: F.scaled_dot_product_attention(q, q, q, is_causal=True),
        torch.randn(1, 4, 10, 16),
    ),
    "convolution": (
        lambda x, w, b: F.relu(F.conv2d(x, w, b, stride=2, padding=1)),
        torch.randn(2, 3, 9, 9),
        torch.randn(8, 3, 3, 3),
        torch.randn(8),
    ),
    "pointwise_convolution": (
        lambda x, w, b: F.relu(F.conv2d(x, w, b)),
        torch.randn(1, 6, 9, 7),
        torch.randn(8, 6, 1, 1),
        torch.randn(8),
    ),
    "grouped_convolution": (
        lambda x, w: F.conv2d(x, w, groups=6, padding="same"),
        torch.randn(1, 6, 9, 7),
        torch.randn(6, 1, 3, 3),
    ),
    "transposed_convolution": (
        lambda x, w: F.conv_transpose1d(x, w, stride=2, output_padding=1),
        torch.randn(2, 6, 9),
        torch.randn(6, 4, 3),
    ),
    # Cancellation shows whether the steps are rounded: eager rounds the result alone.
    "addcdiv": (
        lambda x, y, z: torch.addcdiv(x, y, z, value=3.14),
        *torch.randn(3, 100, 100).bfloat16(),
    ),
    "bf16": (lambda x, y: F.gelu(x + y), X.bfloat16(), Y.bfloat16()),
    "f16": (lambda x, y: x * y + 1, X.half(), Y.half()),
    "f64": (lambda x: torch.tanh(x) + x.exp(), X.double()),
    "integers": (lambda x: x * 3 + 1, torch.arange(20)),
    "i8_wraps": (lambda x: x * x, torch.arange(-128, 128).to(torch.int8)),
    "truth": (lambda x: (x > 0) & (x < 1), X),
    "in_place": (lambda x: x.clone().mul_(2).add_(1), X),
    "not_lowered": (lambda x: torch.cumsum(x, 1).var(-1) + x.argmax(-1), X),
    "index": (lambda x, i: (x * 2)[:, i] + 1, X, torch.tensor([[0, -1], [5, -64]])),
    "gather": (lambda x, i: x.exp().gather(1, i) * 2, X, torch.randint(0, 64, (5, 9))),
    "roll": (lambda x: torch.roll(x * 2, (3, -1), (0, 1)) + 1, X),
    "repeat": (lambda x: (x * 2).repeat(2, 1, 3), X),
    "nothing": (
        lambda x, i: [x.repeat(2, 3), x.gather(0, i), x.T[:, i[0]], torch.cat([x, x]).roll(1, 0)],
        torch.randn(3, 0),
        torch.zeros(1, 0, dtype=torch.long),
    ),
    "assigned_slice": (lambda x, y: torch.slice_scatter(x, y[:, :5] * 2, 1, -9, -4), X, Y),
    "assigned_row": (lambda x, y: torch.select_scatter(x * 2, y[0], 0, -2) + 1, X, Y),
    "cropped": (lambda x: F.pad(x, (-3, 2, 1, -1)) * 2, X),
    "moments_far_from_zero": (
        lambda x, y: [*torch.var_mean(x, -1), *torch.std_mean(y, (-2, -1)), x.var(0)],
        torch.randn(9, 4099) * 0.37 + 4321,
        torch.randn(3, 64, 128) - 9e4,
    ),
    "moments": (lambda x: torch.std_mean(x.bfloat16(), -1, correction=0), X),
    "moments_of_everything": (lambda x: [*torch.var_mean(x), x.std()], X),
    "norms": (
        lambda x: (
            [torch.linalg.vector_norm(x * 2, p, -1) for p in (1, 2, INF, -INF)]
            + [F.normalize(x), torch.linalg.vector_norm(x.bfloat16())]
        ),
        X,
    ),
    "reduced_number": (lambda x: [x[0, 0].sum(), x[0, 0].amax(), x[0, 0].argmax()], X),
    "narrow_integers_from_floats": (
        lambda x: [x.to(t) for t in (torch.uint8, torch.int8, torch.int16)],
        torch.tensor([3.7, 300.2, -1.5, -128.9, 40000.0]),
    ),
    "negated_bytes": (lambda x: [-x, x.abs()], torch.arange(256).to(torch.uint8)),
    "comparisons": (
        lambda i, x, t: [x == 0.1, x.bfloat16() > 0.1, i > 1.5, i == t, t == 1, t < x, i[0] <= x],
        torch.arange(4),
        torch.tensor([0.1, -1.0, 2.0, float("nan")]),
        torch.tensor([True, False, True, True]),
    ),
    "integer_division": (
        lambda i: [i // -3, i % -3, torch.fmod(i, -3), torch.div(i, -3, rounding_mode="trunc")],
        torch.arange(-8, 8),
    ),
    "ranges": (
        lambda x: [
            torch.arange(1, 7, 0.5) + x[0, :12],
            torch.arange(64) * x,
            torch.arange(5.0, -3.0, -2.0, dtype=torch.int64) * 2,
            torch.eye(64) @ x.t(),
        ],
        X,
    ),
    "signs": (
        lambda x: [torch.signbit(x), torch.signbit(x.double()), torch.fmax(x, x.flip(0))],
        torch.tensor([0.0, -0.0, INF, -INF, float("nan"), -2.0]),
    ),
    "as_strided": (lambda x: (x * 2).as_strided((4, 128), (128, 1)) + 1, X),
    "as_strided_elsewhere": (
        lambda x: [
            (x * 2).as_strided((4, 128), (128, 1), 0),
            (x * 2).as_strided((8, 64), (1, 8)) + 1,
            (x * 2).t().as_strided((8, 64), (64, 1)) + 1,
            (x * 2)[:, :32].as_strided((4, 64), (64, 1)) + 1,
        ],
        X,
    ),
    "scalar_tensor": (lambda x: x + torch.tensor(2.0), X),
    "input_returned": (lambda x, y: (x, x + y), X, Y),
    "same_twice": (lambda x: (x + 1,) * 2, X),
}


def assert_same(got, want):
    if isinstance(want, torch.Tensor):
        torch.testing.assert_close(got, want, equal_nan=True, check_stride=True)
        return
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        assert_same(g, w)


@pytest.mark.parametrize("name", CASES)
def test_against_eager(name):
    f, *args = CASES[name]
    with torch.no_grad():
        want = f(*args)
        # What fusion does not round is in test_precision.py.
        options = {"strict": True, "emulate_precision_casts": name in ("bf16", "f16")}
        compiled = torch.compile(f, backend="ipex", options=options, fullgraph=True, dynamic=False)
        for _ in range(2):
            assert_same(compiled(*args), want)


def test_mutated_argument():
    def f(x):
        y = x * 2
        x.add_(1)
        return y + x

    a, b = X.clone(), X.clone()
    with torch.no_grad():
        want = f(a)
        got = torch.compile(f, backend="ipex", options={"strict": True})(b)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(b, a)


@pytest.mark.parametrize("dims", [(0, 2, 3), (1, 2, 3), None])
def test_moments_are_as_exact_as_eager(dims):
    """Eager sums in f64: a batch norm's statistics decide on which side of a kink numbers fall."""
    x = torch.randn(7, 16, 32, 32) + 0.1
    exact = torch.var_mean(x.double(), dims)
    got = torch.compile(torch.var_mean, backend="ipex", options={"strict": True})(x, dims)
    for g, e in zip(got, exact, strict=True):
        torch.testing.assert_close(g.double(), e, rtol=7e-8, atol=0.0)


def test_index_out_of_range_raises():
    f = torch.compile(lambda i, w: F.embedding(i, w), backend="ipex", options={"strict": True})
    with torch.no_grad(), pytest.raises(IndexError, match="out of range"):
        f(torch.tensor([0, 50]), torch.randn(50, 16))


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x.clone(),
        lambda x: x.to(torch.float32, copy=True),
        lambda x: x.t().clone(),
        lambda x: torch.ops.aten.lift_fresh_copy(x),
    ],
)
def test_a_copy_shares_nothing(f):
    def twice(x):
        y = x + 1
        return f(x), y, f(y)

    x = X.clone()
    with torch.no_grad():
        results = torch.compile(twice, backend="ipex", options={"strict": True})(x)
    for n, r in enumerate(results):
        r.fill_(n)
    assert torch.equal(x, X) and [r[0, 0].item() for r in results] == [0, 1, 2]


def test_results_do_not_share_memory_between_calls():
    f = torch.compile(lambda x: x + 1, backend="ipex", options={"strict": True})
    with torch.no_grad():
        first = f(X)
        second = f(Y)
    torch.testing.assert_close(first, X + 1)
    torch.testing.assert_close(second, Y + 1)


def test_large_results_are_pooled_and_survive():
    f = torch.compile(lambda x: x + 1, backend="ipex", options={"strict": True}, dynamic=False)
    for size in ((300, 400), (2048, 1024)):
        x = torch.randn(size)
        with torch.no_grad():
            kept = f(x)
            for _ in range(3):
                torch.testing.assert_close(f(x * 2), x * 2 + 1)
        torch.testing.assert_close(kept, x + 1)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: ((x == x.amin(0)), (x == x.amin(0)).sum(1)),
        lambda x: (x - x.sum(0)).sum(1),
        lambda x: (x - x.sum(0)).amax(0),
        lambda x: (x + 1).prod(1),
    ],
)
def test_dimensions_of_no_elements(f):
    x = torch.empty(5, 0, 5)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(f, backend="ipex")(x), f(x))
