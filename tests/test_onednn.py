"""Convolutions of ATen's by oneDNN, with what follows them and packed weights, against eager."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

POST_OPS = {
    "Hardswish": F.hardswish,
    "LeakyRelu(0.25)": lambda x: F.leaky_relu(x, 0.25),
}
# oneDNN has all but the last two, but takes longer than a kernel for the first four; of the
# others it makes a number of a NaN, or a NaN of an infinity.
NO_POST_OPS = {
    "silu": F.silu,
    "gelu by tanh": lambda x: F.gelu(x, approximate="tanh"),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": F.relu,
    "relu6": F.relu6,
    "hardtanh": lambda x: F.hardtanh(x, -2, 3),
    "hardsigmoid": F.hardsigmoid,
    "gelu": F.gelu,
    "another slope": lambda x: torch.where(x > 1, x, x * 0.25),
    "sine": torch.sin,
}
LAYERS = {
    "3d": (lambda: nn.Conv3d(16, 24, 3, padding=1), (2, 16, 5, 9, 9)),
    "transposed": (lambda: nn.ConvTranspose2d(16, 12, 3, 2, 1, 1), (2, 16, 15, 15)),
    "transposed 1d": (lambda: nn.ConvTranspose1d(16, 12, 4, 2), (2, 16, 30)),
    "transposed 3d": (lambda: nn.ConvTranspose3d(8, 12, 2, 2, groups=2), (2, 8, 4, 6, 6)),
    "heavy": (lambda: nn.ConvTranspose2d(64, 96, 4, 2, 1, bias=False), (1, 64, 6, 6)),
}
BOUNDS = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


class Net(nn.Module):
    def __init__(self, layer, then):
        super().__init__()
        self.layer, self.then = layer, then

    def forward(self, x):
        return self.then(self.layer(x))


def layer_of(name, dtype=torch.float32, last=False):
    make, sizes = LAYERS[name]
    layer, x = make().to(dtype).requires_grad_(False), torch.randn(sizes).to(dtype)
    if last:
        x = x.to(memory_format=torch.channels_last if x.dim() == 4 else torch.channels_last_3d)
    return layer, x


@pytest.fixture
def steps(monkeypatch, capfd):
    """The steps of the compiled graphs that have run."""
    monkeypatch.setenv("IPEX_PROFILE", "1")
    return lambda: capfd.readouterr().err


def check(net, *args, **options):
    dtype = args[0].dtype
    with torch.no_grad():
        want = net(*args)
        options = {"strict": True, **options}
        compiled = torch.compile(net, backend="ipex", options=options, dynamic=False)
        for _ in range(2):
            found = compiled(*args)
            bound = BOUNDS[dtype]
            torch.testing.assert_close(
                found, want, rtol=bound, atol=bound, equal_nan=True, check_stride=True
            )


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("then", POST_OPS)
@pytest.mark.parametrize("name", LAYERS)
def test_post_ops(name, then, dtype, steps):
    layer, x = layer_of(name, dtype)
    check(Net(layer, POST_OPS[then]), x)
    text = steps()
    assert "oneDNN" in text and f", {then} or ATen" in text
    assert "kernel" not in text


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", ["3d", "transposed", "transposed 3d", "heavy"])
@pytest.mark.parametrize("then", ["Hardswish", "relu"])
def test_packed_weights(name, last, then, graphs, steps):
    layer, x = layer_of(name, last=last)
    check(Net(layer, {**POST_OPS, **NO_POST_OPS}[then]), x, freezing=True)
    # Turning image and result has to cost less than turning the weights.
    packed = last or name == "heavy"
    assert (graphs[0].packed_bytes == 4 * layer.weight.numel()) == packed
    text = steps()
    assert ("oneDNN" in text) == (packed or then == "Hardswish")


@pytest.mark.parametrize("then", NO_POST_OPS)
def test_what_is_no_post_op_is_a_kernel(then, steps):
    layer, x = layer_of("transposed")
    check(Net(layer, NO_POST_OPS[then]), x)
    text = steps()
    assert "kernel" in text and "oneDNN" not in text


@pytest.mark.parametrize("freezing", [False, True])
@pytest.mark.parametrize("then", [*POST_OPS, *NO_POST_OPS])
def test_nan_and_inf(then, freezing):
    layer, x = layer_of("heavy", last=True)
    x[0, 3, 1, 1], x[0, 9, 4, 4], x[0, 40, 2, 5] = torch.nan, torch.inf, -torch.inf
    check(Net(layer, {**POST_OPS, **NO_POST_OPS}[then]), x, freezing=freezing)


def test_a_result_that_is_needed_as_well(steps):
    layer, x = layer_of("3d")
    check(Net(layer, lambda y: (F.hardswish(y), y)), x)
    assert "oneDNN" not in steps()


def test_small_images_of_one_batch(steps):
    """ATen has loops of its own for these, which are many times slower than oneDNN."""
    layer, x = nn.Conv3d(32, 48, 3, padding=1), torch.randn(1, 32, 6, 10, 10)
    check(layer.requires_grad_(False), x)
    assert "oneDNN" in steps()
    # Where they are faster they stay.
    layer, x = nn.Conv3d(3, 4, 3, padding=1), torch.randn(1, 3, 6, 10, 10)
    check(Net(layer.requires_grad_(False), F.hardswish), x)
    assert "oneDNN" not in steps()


@pytest.mark.parametrize("then", ["Hardswish", "LeakyRelu(0.25)"])
def test_gradients(then):
    make, sizes = LAYERS["transposed"]
    net, x = Net(make(), POST_OPS[then]), torch.randn(sizes, requires_grad=True)
    inputs = [x, *net.parameters()]
    want = torch.autograd.grad(net(x).square().sum(), inputs)
    compiled = torch.compile(net, backend="ipex", options={"strict": True}, dynamic=False)
    found = torch.autograd.grad(compiled(x).square().sum(), inputs)
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("freezing", [False, True, "discard"])
def test_other_sizes(freezing):
    layer, _ = layer_of("heavy")
    net = Net(layer, F.hardswish)
    options = {"strict": True, "freezing": freezing}
    compiled = torch.compile(net, backend="ipex", options=options, dynamic=True)
    with torch.no_grad():
        sizes = [(1, 64, 6, 6), (2, 64, 5, 9), (1, 64, 32, 32)]
        images = [torch.randn(s) for s in sizes]
        want = [net(x) for x in images]
        for x, y in [*zip(images, want, strict=True)] * 2:
            torch.testing.assert_close(compiled(x), y, rtol=1e-5, atol=1e-5)


def test_weights_that_change_are_seen():
    layer, x = layer_of("heavy", last=True)
    net = Net(layer, F.hardswish)
    compiled = torch.compile(net, backend="ipex", options={"strict": True}, dynamic=False)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(compiled(x), net(x), rtol=1e-5, atol=1e-5)
            layer.weight.data.mul_(2)


def test_between_kernels():
    """Results in the plan's own memory, and what reads them."""
    layer, x = layer_of("transposed")
    more = nn.ConvTranspose2d(12, 12, 3).requires_grad_(False)
    net = nn.Sequential(nn.Tanh(), layer, nn.Hardswish(), more, nn.Sigmoid(), nn.Softmax(1))
    check(net, x)
    check(net, x, freezing=True)


@pytest.mark.parametrize(
    "layer",
    [
        nn.ConvTranspose2d(16, 16, 3, 2, groups=16),
        nn.ConvTranspose2d(16, 12, 3, 2, 1, 1).double(),
        nn.ConvTranspose2d(16, 12, 2, 1, dilation=2, output_padding=1),
    ],
)
def test_what_is_left_to_aten(layer, steps):
    x = torch.randn(2, 16, 15, 15).to(layer.weight.dtype)
    net = Net(layer.requires_grad_(False), F.hardswish)
    compiled = torch.compile(net, backend="ipex", options={"strict": True}, dynamic=False)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), net(x), rtol=1e-5, atol=1e-5)
    assert "oneDNN" not in steps()


def test_onednn_that_is_switched_off(steps):
    layer, x = layer_of("transposed")
    with torch.backends.mkldnn.flags(enabled=False):
        check(Net(layer, F.hardswish), x, freezing=True)
    assert "oneDNN" not in steps()


def test_windows_that_are_mostly_padding(steps):
    """oneDNN leaves these taps out, also in channels-last order."""
    layer = nn.Conv2d(32, 16, 3, padding=12, dilation=12).bfloat16().requires_grad_(False)
    x = torch.randn(2, 32, 16, 16).bfloat16().to(memory_format=torch.channels_last)
    check(Net(layer, F.relu), x, freezing=True)
    assert "oneDNN" in steps()
