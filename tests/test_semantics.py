"""Views, mutation, memory formats, special values, kinds of tensors, transforms, ways in."""

import copy
import pickle
import threading
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

STRICT = {"backend": "ipex", "options": {"strict": True}}
INF, NAN = float("inf"), float("nan")


def both(f, make, **options):
    """Runs eager and compiled on arguments of their own; compares results and arguments."""
    torch.manual_seed(1)
    eager_args = make()
    torch.manual_seed(1)
    args = make()
    want = f(*eager_args)
    got = torch.compile(f, **(STRICT | options))(*args)
    torch.testing.assert_close(got, want, equal_nan=True, check_stride=True)
    torch.testing.assert_close(args, eager_args, equal_nan=True, check_stride=True)
    return got, args


def same_storage(a, b):
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


# Views and mutation


def test_result_aliases_argument():
    got, (x,) = both(lambda x: (x.t(), x[1:], x + 1), lambda: [torch.randn(4, 3)])
    assert same_storage(got[0], x) and same_storage(got[1], x)


@pytest.mark.parametrize("grad", [False, True])
def test_results_have_memory_of_their_own(grad):
    """Equal results are not one tensor: the caller may write into one of them."""

    def f(x):
        return x * 2, x * 2, torch.zeros(3), torch.zeros(3), (x * 2).view(3), x.detach()

    x = torch.randn(3, requires_grad=grad)
    got = torch.compile(f, **STRICT)(x)
    with torch.no_grad():
        want = [t.clone() for t in got]
        for n in range(5):
            for k, t in enumerate(got):
                torch.testing.assert_close(t.detach(), want[k].detach())
            got[n].fill_(n + 5)
            want[n].fill_(n + 5)


def test_mutated_through_a_view():
    def f(x, y):
        x[1:, ::2].mul_(2).add_(y)
        x.t()[0] = 5
        return x.sum()

    both(f, lambda: [torch.randn(4, 6), torch.randn(3, 3)])


def test_results_are_not_the_argument():
    """Though no element differs from it."""

    def f(n, b):
        return n.ceil(), n.floor(), n.round(), n.trunc(), b.sign()

    n, b = torch.arange(6), torch.tensor([True, False])
    for result in torch.compile(f, **STRICT)(n, b):
        assert result.data_ptr() not in (n.data_ptr(), b.data_ptr())


def test_written_where_others_still_read():
    """Each argument is read whole, or at other places, before it is written."""

    def f(x, y, z):
        total = (x * y).sum(0)
        y.add_(x)
        x.copy_(x.flip(0) + total)
        z.copy_(torch.softmax(z, -1))
        return y * 2 + z.t().sum()

    def make():
        return [torch.randn(6, 40), torch.randn(6, 40), torch.randn(3, 70)]

    both(f, make)


def test_written_by_one_result_and_read_by_the_next():
    def f(x, y):
        old = x * 3
        x.copy_(y)
        return old + x

    both(f, lambda: [torch.randn(5, 33), torch.randn(5, 33)])
    both(f, lambda: [torch.randn(33, 5).t(), torch.randn(5, 33, dtype=torch.float64)])


def test_product_of_what_is_then_written():
    def f(x, w):
        w.sub_(0.1 * (x.t() @ (x @ w)))

    both(f, lambda: [torch.randn(16, 24), torch.randn(24, 8)])


def test_writes_are_seen_by_autograd():
    """The version of an argument counts, also where a kernel wrote it."""

    def f(x):
        x.add_(1)

    x = torch.zeros(4)
    before = x._version
    torch.compile(f, **STRICT)(x)
    assert x._version > before


def test_the_same_kernel_on_its_own_result():
    """Two kernels of the same code are one step only if neither reads what the other writes."""

    def f(x):
        for _ in range(3):
            x = F.layer_norm(x, (600,)).t().contiguous()
        return x

    both(f, lambda: [torch.randn(600, 600)])


def test_lists_of_tensors():
    def f(x, y, steps):
        z = torch._foreach_addcmul(x, x, y, value=0.5)
        z = torch._foreach_lerp(z, y, 0.75)
        torch._foreach_add_(steps, 1)
        scale = torch._foreach_pow(0.9, steps)
        torch._foreach_div_(x, scale)
        size = torch._foreach_add(torch._foreach_abs(z), 1)
        torch._foreach_addcdiv_(x, y, size, [1.0, 2.0, -1.0])
        return z, torch._foreach_maximum(x, y)

    def make():
        lists = [[torch.randn(n, 7) for n in (1, 90, 1000)] for _ in range(2)]
        return [*lists, [torch.tensor(float(n)) for n in range(3)]]

    both(f, make)


def test_overlapping_arguments():
    base = torch.arange(12.0)

    def f(x, y):
        x.add_(1)
        return x * y

    def make():
        storage = base.clone()
        return [storage[:8], storage[4:]]

    both(f, make)


def test_expanded_argument():
    both(lambda x: x * 2 + 1, lambda: [torch.randn(1, 5).expand(4, 5)])


def test_buffers_are_updated():
    model = nn.BatchNorm2d(3)
    twin = copy.deepcopy(model)
    x = torch.randn(2, 3, 4, 4)
    for _ in range(2):
        torch.testing.assert_close(torch.compile(model, **STRICT)(x), twin(x))
    torch.testing.assert_close(model.running_mean, twin.running_mean)
    torch.testing.assert_close(model.running_var, twin.running_var)
    assert model.num_batches_tracked == 2


def test_resized_and_set_in_place():
    def f(x):
        y = x.clone()
        y.unsqueeze_(0).squeeze_()
        return y.t_() * 2

    both(f, lambda: [torch.randn(2, 3)])


def test_many_slices_written():
    def f(x):
        out = torch.zeros(4, 5)
        for n in range(4):
            out[n] = x[n] * n
        out[:, 1] += 1
        return out

    both(f, lambda: [torch.randn(4, 5)])


def test_columns_written_in_a_loop():
    """A copy into a slice has the slice's strides, but not the memory between its elements."""

    def f(x):
        out, state = torch.zeros_like(x), x[:, 0] * 0
        for n in range(x.shape[1]):
            state = (state * 0.5 + x[:, n]).exp().sin()
            out[:, n] = state / 2
        return out, state, out[:, 1] * 3

    both(f, lambda: [torch.randn(7, 4, 32)])


# Layouts


@pytest.mark.parametrize("f", [lambda x: F.relu(x) + 1, lambda x: x.mean((2, 3)), F.max_pool2d])
def test_channels_last(f):
    g = (lambda x: F.max_pool2d(x, 2)) if f is F.max_pool2d else f
    both(g, lambda: [torch.randn(2, 6, 4, 4).to(memory_format=torch.channels_last)])


def test_convolution_keeps_channels_last():
    model = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)
    with torch.no_grad():
        got, want = torch.compile(model, **STRICT)(x), model(x)
    torch.testing.assert_close(got, want)
    assert got.stride() == want.stride()


def test_not_contiguous_and_scalar_arguments():
    both(lambda x, s: x.t() * s - x.mT, lambda: [torch.randn(6, 9)[::2, ::3], torch.tensor(2.0)])


# Values


def test_special_values():
    x = torch.tensor([NAN, INF, -INF, 0.0, -0.0, 1e-42, -1e-42, 3e38, 1.0])

    def f(x):
        return (
            x * 2,
            x + x.flip(0),
            x.sqrt(),
            x.exp(),
            x.reciprocal(),
            torch.maximum(x, x.flip(0)),
            x.clamp(-1, 1),
            x.sign(),
            x == 0,
            x.round(),
            x.sum(),
            x[3:6].amax(),
            torch.sigmoid(x),
            F.gelu(x.clamp(-9, 9)),
        )

    both(f, lambda: [x.clone()])
    got = torch.compile(lambda x: (x * 1, -x, x.abs()), **STRICT)(x)
    for g, w in zip(got, (x * 1, -x, x.abs()), strict=True):
        assert torch.equal(torch.signbit(g[~g.isnan()]), torch.signbit(w[~w.isnan()]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_denormals(dtype):
    tiny = torch.finfo(dtype).smallest_normal
    x = torch.tensor([tiny, tiny / 2, -tiny / 4, tiny / 8, 0.0], dtype=dtype)
    got, _ = both(
        lambda x: (x * 0.5, x + x, x - tiny, x / 2, x.abs(), x.sum()), lambda: [x.clone()]
    )
    assert got[0][0] != 0 and got[4][2] != 0


def test_results_that_require_gradients():
    def f(x, y):
        return x * 2, y * 2, (x * 2).detach(), x > 0

    x, y = torch.randn(3, requires_grad=True), torch.randn(3)
    got, want = torch.compile(f, **STRICT)(x, y), f(x, y)
    flags = [[t.requires_grad for t in results] for results in (got, want)]
    assert flags[0] == flags[1] == [True, False, False, False]
    assert [t.is_leaf for t in got] == [t.is_leaf for t in want]


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64])
def test_integers_wrap(dtype):
    top = torch.iinfo(dtype).max
    x = torch.tensor([top, top - 1, torch.iinfo(dtype).min, 1, 7], dtype=dtype)
    both(lambda x: (x + x, x * x, -x, x // 2, x % 3, x.sum(), x.prod()), lambda: [x.clone()])


def test_integer_division_by_zero_raises():
    x, y = torch.arange(3), torch.tensor([1, 0, 2])
    for f in (lambda x, y: x // y, lambda x, y: x % y):
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            f(x, y)
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            torch.compile(f, **STRICT)(x, y)


def test_errors_are_eagers():
    f = torch.compile(lambda x, i: x[i], **STRICT)
    with pytest.raises(IndexError):
        f(torch.randn(3), torch.tensor([5]))


# Kinds of tensors


def test_complex():
    x = torch.randn(4, dtype=torch.complex64)
    both(lambda x: (x * 2, x.abs(), torch.view_as_real(x) + 1, x * 1j), lambda: [x.clone()])


def test_sparse():
    x = torch.eye(3).to_sparse()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        got = torch.compile(lambda x, y: torch.sparse.mm(x, y) + 1, backend="ipex")(
            x, torch.ones(3, 2)
        )
    torch.testing.assert_close(got, torch.sparse.mm(x, torch.ones(3, 2)) + 1)


def test_subclass():
    from torch.testing._internal.two_tensor import TwoTensor

    x = TwoTensor(torch.randn(3), torch.randn(3))
    got = torch.compile(lambda x: x.sin() * 2, **STRICT)(x)
    torch.testing.assert_close(got.a, x.a.sin() * 2)
    torch.testing.assert_close(got.b, x.b.sin() * 2)


def test_custom_operators():
    @torch.library.custom_op("ipex_tests::double", mutates_args=())
    def double(x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(x.numpy() * 2)

    @double.register_fake
    def _(x):
        return torch.empty_like(x)

    @torch.library.custom_op("ipex_tests::increment", mutates_args=["x"])
    def increment(x: torch.Tensor) -> None:
        x.add_(1)

    def f(x):
        y = double(x + 1)
        increment(y)
        return y * 3

    both(f, lambda: [torch.randn(5)])


# Control flow and transforms


def test_cond():
    def f(x):
        return torch.cond(x.sum() > 0, lambda x: x.sin() + 1, lambda x: x.cos(), (x,)) * 2

    both(f, lambda: [torch.ones(4)])
    both(f, lambda: [-torch.ones(4)])


def test_while_loop():
    from torch._higher_order_ops.while_loop import while_loop

    def f(x):
        n = torch.tensor(0)
        return while_loop(lambda n, x: n < 3, lambda n, x: (n + 1, x * 2), (n, x))[1] + 1

    both(f, lambda: [torch.randn(3)])


def test_scan():
    from torch._higher_order_ops.scan import scan

    def step(total, x):
        total = total * 0.5 + x
        return total, total.clone()

    def f(start, x):
        return scan(step, start + 1, x * 2, dim=0)

    with torch.no_grad():
        both(f, lambda: [torch.randn(3), torch.randn(5, 3)])


def test_ordered_effects():
    """Checks of a factorisation carry a token through the graph, where PyTorch keeps them."""

    def f(x):
        return torch.linalg.inv(x) * 2

    x = torch.randn(4, 4)
    g = torch.compile(f, fullgraph=True, **STRICT)
    torch.testing.assert_close(g(x), f(x))
    raised = []
    for h in (torch.compile(f, fullgraph=True, backend="aot_eager"), g):
        try:
            h(torch.zeros(4, 4))
            raised.append(None)
        except RuntimeError as error:
            raised.append((type(error), str(error)))
    assert raised[0] == raised[1]
    if torch.__version__ >= "2.15":
        assert raised[1] is not None


def test_flex_attention():
    from torch.nn.attention.flex_attention import flex_attention

    def causal(score, b, h, q, k):
        return torch.where(q >= k, score, -INF)

    with torch.no_grad():
        both(lambda q: flex_attention(q, q, q, causal), lambda: [torch.randn(1, 2, 16, 16)])


def test_vmap_and_grad():
    def f(x, w):
        return torch.func.vmap(torch.func.grad(lambda x: (x @ w).tanh().sum()))(x)

    both(f, lambda: [torch.randn(5, 3), torch.randn(3, 2)])


def test_graph_break():
    def f(x):
        y = x * 2
        torch._dynamo.graph_break()
        return y + x

    both(f, lambda: [torch.randn(3)])


# Other ways in


def test_inference_mode():
    with torch.inference_mode():
        both(lambda x, w: F.relu(x @ w), lambda: [torch.randn(3, 4), torch.randn(4, 5)])


def test_stance():
    f = torch.compile(lambda x: x * 2 + 1, **STRICT)
    x = torch.randn(3)
    with torch.compiler.set_stance("force_eager"):
        torch.testing.assert_close(f(x), x * 2 + 1)
    torch.testing.assert_close(f(x), x * 2 + 1)


def test_exported_program():
    model = nn.Sequential(nn.Linear(4, 8), nn.GELU())
    x = torch.randn(2, 4)
    exported = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(torch.compile(exported, **STRICT)(x), model(x))


def test_autocast_inference():
    model = nn.Sequential(nn.Linear(8, 8), nn.Softmax(-1))
    x = torch.randn(3, 8)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        got, want = torch.compile(model, **STRICT)(x), model(x)
    torch.testing.assert_close(got, want, rtol=2e-2, atol=1e-3)


@pytest.mark.parametrize("rows", [4, 300], ids=["serial loops", "loops on threads"])
def test_threads_call_one_model(rows):
    # Each caller has a region of threads of its own; together they want more than there are cores.
    model = nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.Linear(96, 64), nn.Softmax(-1)).eval()
    f = torch.compile(model, **STRICT)
    inputs = [torch.randn(rows, 64) for _ in range(4)]
    with torch.no_grad():
        wants = [model(x) for x in inputs]
        f(inputs[0])
    calls, wrong = [], []
    tracing, together = threading.Lock(), threading.Barrier(4, timeout=60)

    def work(n):
        with torch.no_grad():
            # Dynamo traces again for another number of threads; not while another thread calls.
            with tracing:
                torch.set_num_threads(2 + n)
                f(inputs[n])
            together.wait()
            for _ in range(100):
                calls.append(n)
                if not torch.allclose(f(inputs[n]), wants[n], atol=1e-5):
                    wrong.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(calls) == 400 and not wrong


def test_copied_and_pickled_weights():
    model = nn.Linear(4, 3)
    f = torch.compile(model, **STRICT)
    x = torch.randn(2, 4)
    f(x)
    twin = copy.deepcopy(f)
    loaded = nn.Linear(4, 3)
    loaded.load_state_dict(pickle.loads(pickle.dumps(f.state_dict())), strict=False)
    with torch.no_grad():
        model.weight.zero_()
        torch.testing.assert_close(f(x), model(x))
        assert not torch.equal(twin(x), f(x))
