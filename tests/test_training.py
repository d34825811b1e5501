"""Forward and backward graphs against eager, nothing allowed to fall back."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

STRICT = {"backend": "ipex", "options": {"strict": True}}


def gradients(model, f, inputs):
    """The result and all gradients of one step."""
    inputs = [x.detach().clone().requires_grad_(x.requires_grad) for x in inputs]
    model.zero_grad()
    out = f(*inputs)
    out.square().mean().backward()
    return out, [x.grad for x in inputs], [p.grad for p in model.parameters()]


def transformer():
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, dropout=0.0)
    return nn.TransformerEncoder(layer, 2), [torch.randn(2, 10, 32, requires_grad=True)]


def convnet():
    blocks = [
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.Hardswish(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.GroupNorm(2, 8),
        nn.GELU(approximate="tanh"),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    ]
    return nn.Sequential(*blocks), [torch.randn(4, 3, 12, 12, requires_grad=True)]


def embedding():
    return nn.Sequential(nn.Embedding(11, 8), nn.SiLU(), nn.Linear(8, 3)), [
        torch.randint(0, 11, (4, 6))
    ]


def recurrent():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru, self.out = nn.GRU(6, 8, batch_first=True), nn.Linear(8, 2)

        def forward(self, x):
            return self.out(self.gru(x)[0])

    return Net(), [torch.randn(3, 5, 6, requires_grad=True)]


@pytest.mark.parametrize("build", [transformer, convnet, embedding, recurrent])
@pytest.mark.parametrize("dynamic", [False, True])
def test_gradients(build, dynamic):
    torch.manual_seed(0)
    model, inputs = build()
    want = gradients(model, model, inputs)
    got = gradients(model, torch.compile(model, dynamic=dynamic, **STRICT), inputs)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_dropout_draws_what_eager_draws():
    model = nn.Sequential(nn.Linear(16, 16), nn.Dropout(0.4), nn.ReLU(), nn.Dropout(0.2))
    x = torch.randn(8, 16)
    compiled = torch.compile(model, **STRICT)
    for seed in range(3):
        torch.manual_seed(seed)
        want = model(x)
        state = torch.get_rng_state()
        torch.manual_seed(seed)
        torch.testing.assert_close(compiled(x), want)
        assert torch.equal(torch.get_rng_state(), state)


def drawn(f, *args):
    """A training function's result and gradients, and the generator's state afterwards."""
    torch.manual_seed(1)
    args = [arg.detach().requires_grad_() for arg in args]
    result = f(*args)
    result.square().sum().backward()
    return result, [arg.grad for arg in args], torch.get_rng_state()


@pytest.mark.parametrize("p", [0.3, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_dropout_is_part_of_a_kernel(p, dtype, graphs):
    def f(x, y):
        return (F.dropout(x, p) + y).relu()

    args = torch.randn(2, 30, 40).to(dtype).unbind()
    args[0][3, 5] = torch.nan  # stays NaN, dropped or not
    bound = {"rtol": 2e-2, "atol": 2e-2} if dtype is torch.bfloat16 else {}
    got = drawn(torch.compile(f, **STRICT), *args)
    torch.testing.assert_close(got, drawn(f, *args), equal_nan=True, **bound)
    # An empty tensor, the numbers drawn into it, and a kernel.
    assert (graphs[0].calls, graphs[0].groups) == (2, 1)


@pytest.mark.parametrize("turn", [lambda x: x.mT, lambda x: x[:, ::2], lambda x: x[:0]])
@pytest.mark.parametrize("dynamic", [False, True])
def test_dropout_draws_in_the_order_of_memory(turn, dynamic):
    def f(x):
        return F.dropout(turn(x), 0.4).relu()

    for sizes in ((12, 30), (14, 30), (16, 30)):
        compiled = torch.compile(f, dynamic=dynamic, **STRICT)
        x = torch.randn(sizes)
        torch.testing.assert_close(drawn(compiled, x), drawn(f, x))


def test_accumulation_and_updates_in_place():
    torch.manual_seed(0)
    models = [nn.Linear(4, 3), nn.Linear(4, 3)]
    models[1].load_state_dict(models[0].state_dict())
    steps = [models[0], torch.compile(models[1], **STRICT)]
    x = torch.randn(5, 4)
    for _ in range(3):
        for model, f in zip(models, steps, strict=True):
            for _ in range(2):
                f(x).tanh().sum().backward()
            with torch.no_grad():
                for p in model.parameters():
                    p -= 0.1 * p.grad
            model.zero_grad()
    for p, q in zip(*(m.parameters() for m in models), strict=True):
        torch.testing.assert_close(p, q)


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW", "Adagrad", "RMSprop"])
def test_compiled_optimizer_step(kind):
    torch.manual_seed(0)
    models = [nn.Linear(4, 3), nn.Linear(4, 3)]
    models[1].load_state_dict(models[0].state_dict())
    extra = {"momentum": 0.9} if kind == "SGD" else {}
    optimizers = [getattr(torch.optim, kind)(m.parameters(), lr=0.05, **extra) for m in models]
    steps = [optimizers[0].step, torch.compile(optimizers[1].step, **STRICT)]
    x = torch.randn(5, 4)
    for _ in range(4):
        for model, step in zip(models, steps, strict=True):
            model.zero_grad()
            model(x).square().sum().backward()
            step()
    for p, q in zip(*(m.parameters() for m in models), strict=True):
        torch.testing.assert_close(p, q)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype):
    model = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.LayerNorm(32), nn.Linear(32, 4))
    x = torch.randn(8, 16)
    results = []
    # Rounded as eager rounds: what fusion leaves out is in test_precision.py.
    options = {"strict": True, "emulate_precision_casts": True}
    for f in (model, torch.compile(model, backend="ipex", options=options)):
        model.zero_grad()
        with torch.autocast("cpu", dtype):
            out = f(x)
        out.float().square().mean().backward()
        results.append((out, [p.grad for p in model.parameters()]))
    torch.testing.assert_close(results[1], results[0], rtol=2e-2, atol=1e-3)


def test_checkpoint():
    lin = nn.Linear(8, 8)

    def block(x):
        return F.gelu(lin(x)).sin()

    def f(x):
        return torch.utils.checkpoint.checkpoint(block, x, use_reentrant=False)

    x = torch.randn(3, 8, requires_grad=True)
    want = torch.autograd.grad(f(x).sum(), [x, lin.weight])
    got = torch.autograd.grad(torch.compile(f, **STRICT)(x).sum(), [x, lin.weight])
    torch.testing.assert_close(got, want)


def test_checkpoint_draws_again_what_it_drew():
    def block(x):
        return F.dropout(x.sin(), 0.5).relu() + F.dropout(torch.rand_like(x) * x, 0.3)

    def f(x):
        return torch.utils.checkpoint.checkpoint(block, x, use_reentrant=False)

    g = torch.compile(f, fullgraph=True, **STRICT)
    for seed in range(3):
        found = []
        x = torch.randn(40, requires_grad=True)
        for h in (f, g):
            torch.manual_seed(seed)
            out = h(x)
            found.append((out, *torch.autograd.grad(out.sum(), x), torch.get_rng_state()))
        torch.testing.assert_close(found[1], found[0])


def test_grad_scaler():
    """Steps are skipped where gradients overflow, and the scale goes down, as with eager."""
    ends = []
    for backend in (None, "ipex"):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 2))
        f = model if backend is None else torch.compile(model, **STRICT)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**22)
        scales = []
        for n in range(6):
            x = torch.randn(4, 8) * (300 if n == 2 else 1)
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.float16):
                loss = f(x).float().square().mean()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            scales.append(scaler.get_scale())
        ends.append((scales, [p.detach() for p in model.parameters()]))
    assert ends[0][0] == ends[1][0]
    assert ends[0][0][-1] < 2.0**22
    torch.testing.assert_close(ends[1][1], ends[0][1], rtol=2e-2, atol=1e-3)


def test_index_fill_with_equal_indices():
    """Tracing guesses how many distinct indices the gradient of the value has."""
    x = torch.randn(5, 5, requires_grad=True)
    value = torch.tensor(3.0, requires_grad=True)

    def f(x, value):
        return x.index_fill(-1, torch.tensor([0, 3, 1, 3]), value).square()

    want = torch.autograd.grad(f(x, value).sum(), (x, value))
    g = torch.compile(f, backend="ipex")
    torch.testing.assert_close(torch.autograd.grad(g(x, value).sum(), (x, value)), want)
