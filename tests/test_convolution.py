"""Convolutions and what is fused with them, against eager."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)


def weights(*sizes):
    """Weights whose results are about 1 for images about 1."""
    w = torch.randn(sizes)
    return w / w[0].numel() ** 0.5


def check(f, *args):
    with torch.no_grad():
        want = f(*args)
        compiled = torch.compile(
            f, backend="ipex", options={"strict": True}, fullgraph=True, dynamic=False
        )
        for _ in range(2):
            torch.testing.assert_close(compiled(*args), want, equal_nan=True, check_stride=True)
    return compiled


@pytest.mark.parametrize("kernel", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 3, 12])
@pytest.mark.parametrize("images", [1, 3])
def test_shapes(kernel, stride, groups, images):
    x, b = torch.randn(images, 12, 13, 19), torch.randn(24)
    w = weights(24, 12 // groups, kernel, kernel)
    check(lambda x, w: F.conv2d(x, w, b, stride, (kernel // 2, 0), 1, groups), x, w)


@pytest.mark.parametrize(
    "f",
    [
        lambda x, w: F.conv2d(x, w, dilation=(2, 3)),
        lambda x, w: F.conv2d(x, w, padding="same", dilation=2),
        lambda x, w: F.conv_transpose2d(x, w, stride=2),
        lambda x, w: F.conv2d(x.to(memory_format=torch.channels_last), w),
        lambda x, w: F.conv2d(x[:, :, ::2], w),
        lambda x, w: F.conv2d(x.transpose(2, 3), w),
        lambda x, w: F.conv2d(x[:, :1].expand(-1, 8, -1, -1), w),
        lambda x, w: F.conv2d(x, w.transpose(2, 3)),
        lambda x, w: F.conv2d(x.bfloat16(), w.bfloat16()).float(),
        lambda x, w: F.conv2d(x.double(), w.double()),
        lambda x, w: F.conv1d(x[..., 0], w[..., 0], padding=2),
        lambda x, w: F.conv3d(x[..., None], w[..., None]),
        lambda x, w: F.conv2d(x[0], w),
    ],
)
def test_variants(f):
    check(f, torch.randn(2, 8, 12, 12), weights(8, 8, 3, 3))


LAST = torch.channels_last
# What rounding a result once may do, beside sums in f64.
ROUNDING = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}


def check_wide(f, *args, freezing=False):
    """A compiled module against itself in f64, of inputs of any type; the strides are eager's."""
    dtype = args[0].dtype
    want = f.double()(*(x.double() for x in args))
    strides = f.to(dtype)(*args).stride()
    compiled = torch.compile(
        f, backend="ipex", options={"strict": True, "freezing": freezing}, dynamic=False
    )
    with torch.no_grad():
        for _ in range(2):
            found = compiled(*args)
            assert found.dtype == dtype and found.stride() == strides
            bound = ROUNDING[dtype]
            torch.testing.assert_close(found.double(), want, rtol=bound, atol=bound)


@pytest.mark.parametrize("kernel", [(1, 1), (2, 2), (4, 3)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_channels_last_patches(kernel, with_bias):
    x = torch.randn(2, 5, 8, 12).to(memory_format=torch.channels_last)
    w, b = weights(7, 5, *kernel), torch.randn(7) if with_bias else None
    check(lambda x: F.gelu(F.conv2d(x, w, b, kernel)), x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("outputs", [24, 640])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("kind", ["1d", "2d", "3d", "tokens"])
def test_patches(dtype, outputs, last, kind, graphs):
    """Windows side by side: products of the windows, also with few outputs where these lie last."""
    sizes = {"1d": (16, 640), "3d": (3, 4, 32, 64)}.get(kind, (3, 64, 96))
    taps = {"1d": 64, "3d": (2, 16, 16)}.get(kind, (16, 32))
    make = {"1d": nn.Conv1d, "3d": nn.Conv3d}.get(kind, nn.Conv2d)
    layers = [make(sizes[0], outputs, taps, taps), nn.SiLU()]
    model = nn.Sequential(*layers, *([nn.Flatten(2)] if kind == "tokens" else [])).to(dtype)
    x = torch.randn(2, *sizes, dtype=dtype)
    x = x.to(memory_format=LAST) if last and x.dim() == 4 else x
    check_wide(model.eval(), x)
    assert graphs[0].calls == 0 or outputs == 24


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kernel,stride", [(1, 2), (3, 1), (3, 2), (4, 3), (5, 1), (7, 1)])
@pytest.mark.parametrize("outputs,groups", [(24, 24), (16, 1), (280, 1), (48, 24), (12, 3)])
def test_channels_last_shapes(dtype, kernel, stride, outputs, groups):
    """Depthwise ones, few and many outputs, several filters for a channel, and groups."""
    x = torch.randn(2, 24, 13, 19, dtype=dtype).to(memory_format=LAST)
    w, b = weights(outputs, 24 // groups, kernel, kernel), torch.randn(outputs, dtype=dtype)
    w = w.to(dtype=dtype, memory_format=LAST)
    with torch.no_grad():
        want = F.conv2d(x.double(), w.double(), b.double(), stride, (kernel // 2, 1), 1, groups)
        compiled = torch.compile(
            lambda x, w: F.silu(F.conv2d(x, w, b, stride, (kernel // 2, 1), 1, groups)),
            backend="ipex",
            options={"strict": True},
            dynamic=False,
        )
        found = compiled(x, w)
    assert found.is_contiguous(memory_format=LAST)
    bound = 2e-2 if dtype is torch.bfloat16 else 1e-5
    torch.testing.assert_close(found.double(), F.silu(want), rtol=bound, atol=bound)


@pytest.mark.parametrize(
    "f",
    [
        lambda x, w: F.conv2d(x, w, padding="same", dilation=(2, 3)),
        lambda x, w: F.conv2d(x[:, :, 1::2], w),
        lambda x, w: F.conv2d(x.transpose(2, 3), w),
        lambda x, w: F.conv2d(x, w.contiguous(), padding=1),
        lambda x, w: F.conv2d(x[:0], w, padding=1),
        lambda x, w: F.conv2d(x, w[:, :1], padding=2, groups=8),
        lambda x, w: F.conv2d(x, w[:, :1].contiguous(), dilation=2, groups=8).mean((2, 3)),
        lambda x, w: F.conv2d(x, w, padding=1) + x,
        lambda x, w: torch.softmax(F.conv2d(x, w, padding=1), 1),
        lambda x, w: F.conv_transpose2d(x, w, stride=2),
    ],
)
@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_channels_last_variants(f, value):
    x = torch.randn(2, 8, 12, 12).to(memory_format=LAST)
    x[1, 2, 5, 6] = value
    check(f, x, weights(8, 8, 3, 3).to(memory_format=LAST))


@pytest.mark.parametrize("groups", [1, 8])
def test_channels_last_weights_are_never_stale(groups, graphs):
    layer = nn.Conv2d(8, 8, 3, padding=1, groups=groups).to(memory_format=LAST)
    x = torch.randn(1, 8, 14, 14).to(memory_format=LAST)
    compiled = check(layer, x)
    assert graphs[0].calls == 0
    with torch.no_grad():
        layer.weight.data.mul_(2)
        torch.testing.assert_close(compiled(x), layer(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_channels_last_frozen(dtype, graphs):
    """Weights that are packed once, with what follows on pixels: no call of ATen is left."""
    layers = [nn.Conv2d(16, 24, 3, 2, 1), nn.BatchNorm2d(24), nn.Hardswish()]
    layers += [nn.Conv2d(24, 24, 5, padding=2, groups=24), nn.ReLU(), nn.Conv2d(24, 300, 3)]
    model = nn.Sequential(*layers).eval().to(dtype=dtype, memory_format=LAST)
    x = torch.randn(2, 16, 20, 20, dtype=dtype).to(memory_format=LAST)
    options = {"strict": True, "freezing": True}
    with torch.no_grad():
        want = model.double()(x.double())
        model.to(dtype)
        compiled = torch.compile(model, backend="ipex", options=options)
        bound = 2e-2 if dtype is torch.bfloat16 else 1e-5
        for _ in range(2):
            torch.testing.assert_close(compiled(x).double(), want, rtol=bound, atol=bound)
    assert graphs[0].calls == 0 and graphs[0].packed_bytes > 0


def test_wide_3x3_convolutions():
    """Those that transform tiles and weights, also where something is not finite."""
    x, w, b = torch.randn(3, 32, 29, 30), weights(40, 32, 3, 3), torch.randn(40)
    x[1, 3, 14, 15] = float("inf")
    check(lambda x, w: F.relu(F.conv2d(x, w, b, padding=1)) + 1, x, w)


def test_frozen_wide_3x3_convolutions():
    model = nn.Sequential(
        nn.Conv2d(32, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(), nn.Conv2d(48, 32, 3)
    ).eval()
    x = torch.randn(2, 32, 28, 28)
    with torch.no_grad():
        want = model(x)
        compiled = torch.compile(model, backend="ipex", options={"strict": True, "freezing": True})
        for _ in range(2):
            torch.testing.assert_close(compiled(x), want)


class Block(nn.Module):
    """A residual block with squeeze and excitation."""

    def __init__(self, inputs, outputs, stride, act):
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.deep = nn.Conv2d(outputs, outputs, 3, stride, 1, groups=outputs, bias=False)
        self.last = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.short = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.squeeze = nn.Conv2d(outputs, 4, 1)
        self.excite = nn.Conv2d(4, outputs, 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for _ in range(4))
        for norm in self.norms:
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 2)
        self.act = act

    def forward(self, x):
        y = self.act(self.norms[0](self.first(x)))
        y = self.act(self.norms[1](self.deep(y)))
        gate = self.excite(F.relu(self.squeeze(y.mean((2, 3), keepdim=True))))
        y = self.norms[2](self.last(y * F.hardsigmoid(gate)))
        return self.act(y + self.norms[3](self.short(x)))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("images", [1, 2, 9])
@pytest.mark.parametrize("act", [F.relu, F.hardswish, F.silu])
def test_block(stride, images, act):
    check(Block(6, 20, stride, act).eval(), torch.randn(images, 6, 14, 14))


class Narrow(nn.Module):
    """Convolutions of every kind, a pooling, a call that sees strides, and a result from inside."""

    def __init__(self):
        super().__init__()
        self.first, self.pool = nn.Conv2d(3, 16, 7, 2, 3), nn.MaxPool2d(3, 2, 1)
        self.blocks = nn.Sequential(Block(16, 20, 1, F.relu), Block(20, 20, 2, F.silu))
        self.patch = nn.Conv2d(20, 24, 2, 2)

    def forward(self, x):
        y = self.blocks(self.pool(self.first(x)))
        z = self.patch(F.relu(y))
        return z, y, z.mean((2, 3), keepdim=True).flatten(1), z.flatten(2).transpose(1, 2)


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("freezing", [False, True])
@pytest.mark.parametrize("image_too", [False, True])
def test_channels_last_models(images, freezing, image_too, graphs):
    """With frozen weights their insides lie row by row, which nobody sees but the convolutions."""
    model = Narrow().eval().to(memory_format=torch.channels_last)
    x = torch.randn(images, 3, 64, 64)
    x = x.to(memory_format=torch.channels_last) if image_too else x
    options = {"strict": True, "freezing": freezing}
    with torch.no_grad():
        want = model(x)
        compiled = torch.compile(model, backend="ipex", options=options, fullgraph=True)
        for _ in range(2):
            torch.testing.assert_close(compiled(x), want, check_stride=True)
    assert (graphs[0].calls == 0) == freezing


def test_weights_are_never_stale():
    block = Block(6, 20, 1, F.relu).eval()
    x = torch.randn(1, 6, 14, 14)
    compiled = check(block, x)
    with torch.no_grad():
        block.last.weight.data.mul_(2)
        block.norms[0].running_mean.add_(1)
        torch.testing.assert_close(compiled(x), block(x))


def test_result_read_twice():
    # The convolution's own values are returned beside what is fused with it.
    def f(x, w):
        y = F.conv2d(x, w, padding=1)
        return y, F.relu(y), y.sum((2, 3))

    check(f, torch.randn(1, 4, 9, 9), weights(8, 4, 3, 3))


def test_neighbours_are_not_fused():
    # A later plane, other rows and columns of a plane, and a sum over planes.
    def f(x, w):
        y = F.conv2d(x, w, padding=1)
        return y.flip(1) + y, y.flip(2) * 2, y.transpose(2, 3) + y, y.sum(1)

    check(f, torch.randn(1, 4, 9, 9), weights(8, 4, 3, 3))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_finite(value):
    x = torch.randn(1, 4, 9, 9)
    x[0, 2, 4, 4] = value
    check(lambda x, w: F.conv2d(x, w, padding=1), x, weights(8, 4, 3, 3))


@pytest.mark.parametrize(
    "f",
    [
        lambda x: F.max_pool2d(x, 3, 2, 1),
        lambda x: F.max_pool2d(x, 2),
        lambda x: F.max_pool2d(x, (3, 1), (1, 2), (1, 0), dilation=(2, 1)),
        lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True),
        lambda x: F.max_pool2d(x, 1, 2),
        lambda x: F.max_pool2d(x[0], 3),
        lambda x: F.max_pool2d(x.transpose(2, 3), 3),
        lambda x: F.max_pool2d(x.bfloat16(), 3),
        lambda x: F.max_pool2d(x, 3, return_indices=True),
        lambda x: F.relu(F.max_pool2d(x, 3, 1)) + 1,
        lambda x: F.max_pool1d(x[0], 3, 2),
    ],
)
def test_max_pool(f):
    x = torch.randn(2, 5, 12, 20)
    x[1, 3, 4, 5] = float("nan")
    x[1, 2, 4, 5] = -float("inf")
    check(f, x)


class Shuffled(nn.Module):
    """Parts of channels, windows of every kind, and a result that shows a tensor from inside."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 24, 3, 2, 1)
        self.left = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.right = nn.Conv2d(12, 20, 1)
        self.patch = nn.Conv2d(32, 40, 2, 2)
        self.norm = nn.LayerNorm(40)
        self.grouped = nn.Conv2d(40, 40, 3, padding=1, groups=4)

    def forward(self, x):
        first = F.hardswish(self.first(x))
        left, right = first.chunk(2, 1)
        y = torch.cat([F.relu(self.left(left)), self.right(right)], 1)
        y = F.interpolate(F.max_pool2d(y, 2), scale_factor=2)
        z = self.norm(self.patch(y).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        z = self.grouped(z) + z * z.mean((2, 3), keepdim=True)
        views = F.silu(first).flatten(2), F.relu(first)[:, 1:3], first.sin().transpose(2, 3)
        return z, y, z.flatten(2), y[:, 1:3].flatten(1), *views


@pytest.mark.parametrize("make", [Narrow, Shuffled])
@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("freezing", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_bf16_models(make, images, freezing, last):
    """Their insides lie channels-last, and what the caller gets as eager's does."""
    model = make().eval().requires_grad_(False).bfloat16()
    x = torch.randn(images, 3, 64, 64).bfloat16()
    x = x.to(memory_format=LAST) if last else x
    eager = model(x)
    with torch.no_grad():
        want = model.double()(x.double())
        model.bfloat16()
        options = {"strict": True, "freezing": freezing}
        compiled = torch.compile(model, backend="ipex", options=options, fullgraph=True)
        for _ in range(2):
            for found, same, wide in zip(compiled(x), eager, want, strict=True):
                assert found.stride() == same.stride()
                torch.testing.assert_close(found.double(), wide, rtol=5e-2, atol=5e-2)


@pytest.mark.parametrize("freezing", [False, True])
def test_bf16_row_major_chain(freezing, graphs):
    """No call of ATen is left between the first layer's planes and a result without images."""
    layers = [nn.Conv2d(3, 16, 3, 2, 1), nn.Hardswish(), nn.Conv2d(16, 16, 3, padding=1, groups=16)]
    layers += [nn.Conv2d(16, 32, 5, 2, 2), nn.ReLU(), nn.Conv2d(32, 300, 3), nn.Conv2d(300, 24, 1)]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval().bfloat16()
    check_wide(model, torch.randn(2, 3, 32, 40).bfloat16(), freezing=freezing)
    assert graphs[0].calls == 0


def test_bf16_row_major_weights_are_never_stale():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Flatten()).eval().bfloat16()
    x = torch.randn(1, 3, 14, 14).bfloat16()
    check_wide(model, x)
    with torch.no_grad():
        compiled = torch.compile(model, backend="ipex", options={"strict": True})
        compiled(x)
        model[1].weight.data.mul_(2)
        model[0].weight.data.mul_(3)
        torch.testing.assert_close(compiled(x), model(x), rtol=3e-2, atol=3e-2)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("kind", ["3x3", "1x1", "depthwise", "1d", "strided"])
def test_f16(kind, last, graphs):
    """Computed in f32 where the processor has no arithmetic of f16, and rounded once."""
    make = {
        "3x3": lambda: nn.Conv2d(12, 20, 3, padding=1),
        "1x1": lambda: nn.Conv2d(12, 20, 1, bias=False),
        "depthwise": lambda: nn.Conv2d(12, 12, 5, padding=2, groups=12),
        "1d": lambda: nn.Conv1d(12, 20, 3, 2),
        "strided": lambda: nn.Conv2d(12, 300, 3, 2, 1),
    }[kind]
    x = torch.randn(2, 12, 20, 24).half()
    x = x[:, :, 0] if kind == "1d" else x
    model = make().half().eval()
    if last and x.dim() == 4:
        model, x = (v.to(memory_format=LAST) for v in (model, x))
    check_wide(model, x)
    has_f16 = "avx512_fp16" in Path("/proc/cpuinfo").read_text()
    assert graphs[0].calls == 0 or has_f16


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("width", [33, 48, 95])
@pytest.mark.parametrize("images", [1, 3])
def test_few_channels(groups, width, images):
    """Rows of the planes are read where they are."""
    x, w, b = torch.randn(images, 6, 17, width), weights(22, 6 // groups, 5, 3), torch.randn(22)
    check(lambda x: F.relu(F.conv2d(x, w, b, (2, 1), (2, 1), 1, groups)), x)
    check(lambda x: F.conv2d(x, w[..., :1], None, 2, 1, 2, groups).mean((2, 3)), x)


@pytest.mark.parametrize("dilation,calls", [(4, 0), (12, 1)])
def test_taps_on_padding_are_left_out(dilation, calls, graphs):
    """Where most of a window is padding, ATen is faster: it leaves those taps out."""
    w = weights(12, 8, 3, 3)
    check(
        lambda x: F.relu(F.conv2d(x, w, padding=dilation, dilation=dilation)),
        torch.randn(1, 8, 28, 28),
    )
    assert graphs[0].calls == calls


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("size", [(4, 7), (2, 2)])
def test_results_that_lie_in_both_orders(dtype, last, size):
    """One channel or one pixel: strides say nothing about the order that the kernel has."""
    for images, inputs, outputs, dilation in (
        (3, 5, 1, 1),
        (2, 6, 1, 1),
        (1, 4, 9, 1),
        (3, 5, 1, 2),
    ):
        if min(size) <= dilation:
            continue
        x = torch.randn(images, inputs, *size).to(dtype)
        w = weights(outputs, inputs, 2, 2).to(dtype)
        b = torch.randn(outputs).to(dtype)
        if last:
            x, w = (t.contiguous(memory_format=LAST) for t in (x, w))
        f = lambda x: F.relu(F.conv2d(x, w, b, 2, 0, dilation))  # noqa: B023, E731
        with torch.no_grad():
            compiled = torch.compile(f, backend="ipex", options={"strict": True}, dynamic=False)
            bound = {"rtol": 2e-2, "atol": 2e-2} if dtype is torch.bfloat16 else {}
            for _ in range(3):
                torch.testing.assert_close(compiled(x), f(x), **bound)
