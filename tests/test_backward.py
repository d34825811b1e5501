"""Results and gradients of the functions where training spends its time, against eager."""

import pytest
import torch
import torch.nn.functional as F

torch.manual_seed(0)
X, W, IMAGE = torch.randn(6, 20), torch.randn(20), torch.randn(3, 5, 4, 7)
TARGET, PIXELS = torch.tensor([3, 19, -100, 0, 7, 3]), torch.randint(0, 5, (3, 4, 7))

CASES = {
    "cross_entropy": (lambda x: F.cross_entropy(x * 2, TARGET), X),
    "cross_entropy_sum": (lambda x: F.cross_entropy(x, TARGET, reduction="sum"), X),
    "cross_entropy_each": (lambda x: F.cross_entropy(x, TARGET, reduction="none") ** 2, X),
    "cross_entropy_weighted": (
        lambda x, w: w.sum() + F.cross_entropy(x, TARGET % 20, w.detach() ** 2, ignore_index=3),
        X,
        W,
    ),
    "cross_entropy_smoothed": (lambda x: F.cross_entropy(x, TARGET, label_smoothing=0.1), X),
    "nll": (lambda x: F.nll_loss(x, TARGET) + F.nll_loss(x, TARGET, reduction="none")[2], X),
    "cross_entropy_of_pixels": (lambda x: F.cross_entropy(x, PIXELS, ignore_index=2), IMAGE),
    "nll_of_pixels_each": (lambda x: F.nll_loss(x.tanh(), PIXELS, reduction="none"), IMAGE),
    "gelu": (lambda x: F.gelu(x) + F.gelu(x, approximate="tanh"), X),
    "silu": (lambda x, w: F.silu(x) * w, X, W),
    "activations": (lambda x: x.sigmoid() * x.tanh() + F.relu(x) + F.hardswish(x), X),
    "layer_norm": (lambda x, w: F.layer_norm(x, (20,), w, w + 1), X, W),
    "rms_norm": (lambda x, w: F.rms_norm(x, (20,), w), X, W),
    "group_norm": (lambda x: F.group_norm(F.pad(x, (0, 0, 0, 0, 0, 1)), 3), IMAGE),
    "softmax": (lambda x, w: F.softmax(x, -1) * w, X, W),
    "losses": (lambda x, w: F.mse_loss(x, x * w) + F.smooth_l1_loss(x, w.expand(6, 20)), X, W),
    "embedding": (lambda w: F.embedding(TARGET.clamp(0, 5), w) * 2, X),
    "max_pool": (lambda x: F.max_pool2d(x * 2, 2), IMAGE),
    "avg_pool": (lambda x: F.adaptive_avg_pool2d(x * 2, 2), IMAGE),
    "attention": (lambda q: F.scaled_dot_product_attention(q, q * 2, q + 1), IMAGE),
    "convolution": (lambda x, w: F.conv2d(x, w.view(1, 5, 2, 2), stride=2), IMAGE, W),
    "gather": (lambda x: x.gather(1, TARGET.clamp(0)[:, None]) * x, X),
    "index": (lambda x: x[TARGET.clamp(0, 5)] * 2, X),
    "cat_and_slices": (lambda x: torch.cat([x[:, 3:9] * 2, x[1:2].expand(6, 20)], 1), X),
}


def results(f, tensors, seed=3):
    leaves = [t.clone().requires_grad_() for t in tensors]
    torch.manual_seed(seed)
    out = f(*leaves)
    weight = torch.linspace(-1, 1, out.numel()).view(out.shape)
    (out.float() * weight).sum().backward()
    return [out.detach(), *(leaf.grad for leaf in leaves)]


def assert_near(dtype, got, want, exact):
    """f32 as eager; from bf16 no farther from the exact result than eager or bf16 can tell."""
    for g, w, e in zip(got, want, exact, strict=True):
        if dtype == torch.bfloat16:
            assert (g.shape, g.dtype, g.stride()) == (w.shape, w.dtype, w.stride())
            allowed = max((w - e).abs().max(), e.abs().max() * torch.finfo(dtype).eps)
            assert (g - e).abs().max() <= allowed
        else:
            torch.testing.assert_close(g, w, check_stride=True)


def check(f, tensors):
    dtype, options = tensors[0].dtype, {"strict": True}
    if dtype == torch.bfloat16:
        assert_near_on_average(f, tensors)
        options["emulate_precision_casts"] = True
    g = torch.compile(f, backend="ipex", options=options, fullgraph=True, dynamic=False)
    exact = results(f, [t.double() for t in tensors])
    assert_near(dtype, results(g, tensors), results(f, tensors), exact)


def assert_near_on_average(f, tensors, draws=12):
    """What is not rounded in between is no farther from the exact results than eager or one
    rounding to bf16; which number the largest error falls on is luck."""
    g = torch.compile(f, backend="ipex", options={"strict": True}, fullgraph=True, dynamic=False)
    ours, theirs, sizes = (torch.zeros(1 + len(tensors), dtype=torch.float64) for _ in range(3))
    for n in range(draws):
        args = [tensors[0].roll(n, 0).roll(n // 2, -1), *tensors[1:]]
        exact = results(f, [t.double() for t in args])
        for k, rows in enumerate(zip(results(g, args), results(f, args), exact, strict=True)):
            got, want, e = (t.double() for t in rows)
            ours[k] += (got - e).square().sum()
            theirs[k] += (want - e).square().sum()
            sizes[k] += e.square().sum()
    rounding = sizes * torch.finfo(torch.bfloat16).eps ** 2 / 12
    assert (ours <= 1.01 * theirs.maximum(rounding)).all(), ours / theirs


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CASES)
def test_gradients(name, dtype):
    f, *tensors = CASES[name]
    check(f, [t.to(dtype) for t in tensors])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm(training, dtype, layout):
    model = torch.nn.BatchNorm2d(5, momentum=0.3).train(training)
    model.running_mean.copy_(torch.linspace(-1, 1, 5))
    model.weight.data.mul_(1.5)
    x = IMAGE.to(dtype).to(memory_format=layout)
    start = {k: v.clone() for k, v in model.state_dict().items()}
    seen = []
    compiled = torch.compile(model, backend="ipex", options={"strict": True})
    for f, cast in ((compiled, dtype), (model, dtype), (model, torch.float64)):
        model.to(torch.float64 if cast == torch.float64 else torch.float32)
        model.load_state_dict(start)
        model.zero_grad()
        out = results(f, [x.to(cast)])
        seen.append([*out, model.weight.grad.clone(), model.bias.grad.clone()])
        seen[-1] += [t.clone() for t in model.state_dict().values()]
    assert_near(dtype, *seen)


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_draws_what_eager_draws(p, dtype):
    def f(x):
        return F.dropout(F.dropout(x * 2, p).relu() + 1, p)

    check(f, [torch.randn(64, 33).to(dtype)])
