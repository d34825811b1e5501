"""Matrices of bytes that a graph dequantises: the product reads them as bytes."""

import os
import subprocess
import sys

import pytest
import torch
import torch.ao.quantization.fx._decomposed  # noqa: F401 (defines the operators)
import torch.nn.functional as F

Q = torch.ops.quantized_decomposed
STRICT = {"strict": True}
VECTORS = os.environ.get("IPEX_ISA") != "scalar"

FORMS = {
    # w.to(x.dtype) * scale, then linear
    "scaled_weight": lambda m, x: F.linear(x, m.w.to(x.dtype) * m.s[:, None], m.b),
    # as gpt-fast writes it
    "scaled_result": lambda m, x: F.linear(x, m.w.to(x.dtype)) * m.s,
    "addmm": lambda m, x: torch.addmm(m.b, x, (m.w.float() * m.s[:, None].float()).to(x.dtype).t()),
    "columns": lambda m, x: x @ (m.w.t().to(x.dtype) * m.s),
    "one_scale": lambda m, x: F.linear(x, m.w.to(x.dtype) * 0.03, m.b),
    "one_scale_of_a_tensor": lambda m, x: F.linear(x, m.w.to(x.dtype) * m.s[3]),
    "zeros": lambda m, x: F.linear(x, (m.w.to(x.dtype) - m.z[:, None].to(x.dtype)) * m.s[:, None]),
    "zeros_of_integers": lambda m, x: F.linear(
        x, (m.w.to(torch.int32) - m.z[:, None]).to(x.dtype) * m.s[:, None], m.b
    ),
    "one_zero": lambda m, x: F.linear(x, (m.w.to(x.dtype) - 3) * m.s[:, None]),
    "per_channel": lambda m, x: F.linear(
        x,
        Q.dequantize_per_channel(m.w, m.s.float(), m.z, 0, -128, 127, m.w.dtype).to(x.dtype),
        m.b,
    ),
    "per_tensor": lambda m, x: F.linear(
        x, Q.dequantize_per_tensor(m.w, 0.02, 7, -128, 127, m.w.dtype).to(x.dtype)
    ),
    "per_tensor_of_tensors": lambda m, x: F.linear(
        x,
        Q.dequantize_per_tensor.tensor(m.w, m.s[:1].float(), m.z[:1], -128, 127, m.w.dtype).to(
            x.dtype
        ),
    ),
    "a_batch": lambda m, x: F.linear(x[None], m.w.to(x.dtype) * m.s[:, None], m.b),
}


class Layer(torch.nn.Module):
    """Weights of bytes; `form` makes a linear layer of them."""

    def __init__(self, form, out, inner, dtype=torch.float32, of=torch.int8):
        super().__init__()
        self.form = form
        low = -128 if of is torch.int8 else 0
        self.register_buffer("w", torch.randint(low, low + 256, (out, inner), dtype=of))
        self.register_buffer("s", (torch.rand(out) / inner).to(dtype))
        self.register_buffer("b", torch.randn(out).to(dtype))
        self.register_buffer("z", torch.randint(-9, 10, (out,)))

    def forward(self, x):
        return self.form(self, x)


class Wide(torch.overrides.TorchFunctionMode):
    """Conversions to floats give f64, whatever the graph asks for."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        def widened(t):
            return t.double() if isinstance(t, torch.Tensor) and t.is_floating_point() else t

        name = getattr(function, "__name__", "")
        if name == "float" or (name == "to" and args[1].is_floating_point):
            return args[0].double()
        if name.startswith("dequantize_per_channel_group"):
            w, s, z = args[:3]
            return grouped(w, s.double(), z, args[6], torch.float64)
        if name.startswith("dequantize_per_channel"):
            w, s, z = args[:3]
            return (w.double() - z[:, None]) * s[:, None].double()
        if name.startswith("dequantize_per_tensor"):
            return (args[0].double() - args[2]) * args[1]
        return widened(function(*(widened(a) for a in args), **(kwargs or {})))


def in_f64(layer, x):
    """The layer's result without any rounding of f32 and below."""
    with Wide():
        return layer.form(layer, x.double())


def error_of(got, want):
    return ((got.double() - want).abs().max() / want.abs().max()).item()


BOUNDS = {torch.float32: 2e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}


@pytest.mark.parametrize("freezing", [False, True], ids=["fresh", "frozen"])
@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("rows", [1, 6, 16, 37])
@pytest.mark.parametrize("form", FORMS)
def test_weights_of_bytes(form, rows, dtype, freezing, graphs):
    """Against f64: one rounding of the result, also where eager rounds weights."""
    layer = Layer(FORMS[form], 70, 131, dtype)
    x = torch.randn(rows, 131).to(dtype)
    f = torch.compile(layer, backend="ipex", options={**STRICT, "freezing": freezing})
    with torch.no_grad():
        for _ in range(2):
            assert error_of(f(x), in_f64(layer, x)) < BOUNDS[dtype]
        if not freezing:
            layer.w.data.add_(1)
            assert error_of(f(x), in_f64(layer, x)) < BOUNDS[dtype]
    if VECTORS:
        assert graphs[0].of_bytes == 1
        # The bytes themselves are what is read.
        assert graphs[0].packed_bytes == 0 and graphs[0].python_calls == 0


@pytest.mark.parametrize("rows", [1, 5, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_unsigned_weights(dtype, rows, graphs):
    def form(m, x):
        return F.linear(x, (m.w.to(x.dtype) - 128) * m.s[:, None], m.b)

    layer = Layer(form, 70, 131, dtype, of=torch.uint8)
    x = torch.randn(rows, 131).to(dtype)
    f = torch.compile(layer, backend="ipex", options=STRICT)
    with torch.no_grad():
        assert error_of(f(x), in_f64(layer, x)) < BOUNDS[dtype]
    assert graphs[0].of_bytes == int(VECTORS)


@pytest.mark.parametrize("rows", [1, 4, 33])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_weight_int8pack_mm(dtype, rows, graphs):
    layer = Layer(lambda m, x: torch.ops.aten._weight_int8pack_mm(x, m.w, m.s), 96, 128, dtype)
    x = torch.randn(rows, 128).to(dtype)
    f = torch.compile(layer, backend="ipex", options=STRICT)
    with torch.no_grad():
        want = (x.double() @ layer.w.double().t()) * layer.s.double()
        assert error_of(f(x), want) < BOUNDS[dtype]
    assert graphs[0].of_bytes == int(VECTORS)


@pytest.mark.parametrize("rows", [1, 20])
@pytest.mark.parametrize("form", ["scaled_weight", "scaled_result", "per_channel"])
def test_numbers_that_are_not_finite(form, rows):
    """A scale that is NaN or infinite spoils its channel, one in x its row, nothing else."""
    layer = Layer(FORMS[form], 70, 131)
    layer.s[3], layer.s[5] = float("nan"), float("inf")
    x = torch.randn(rows, 131)
    f = torch.compile(layer, backend="ipex", options=STRICT)
    with torch.no_grad():
        got = f(x)
        spoiled = torch.zeros(70, dtype=torch.bool)
        spoiled[[3, 5]] = True
        assert torch.equal(got.isfinite(), ~spoiled.expand(rows, 70))
        assert got[:, 3].isnan().all()
        x[0, 7] = float("inf")
        got = f(x)
        assert not got[0].isfinite().any()
        assert torch.equal(got[1:].isfinite(), ~spoiled.expand(rows - 1, 70))


REFUSED = {
    "per_element": lambda m, x: F.linear(x, m.w.to(x.dtype) * (m.s[:, None] * x[0])),
    "along_the_sum": lambda m, x: x[:, :70] @ (m.w.to(x.dtype) * m.s[:, None]),
    "computed": lambda m, x: F.linear(x, (m.w + 1).to(x.dtype)),
    "activation": lambda m, x: F.linear(x, m.w.to(x.dtype).relu()),
    "scaled": lambda m, x: torch.addmm(m.b, x, m.w.to(x.dtype).t(), alpha=0.5),
    "zero_after_scale": lambda m, x: F.linear(x, m.w.to(x.dtype) * m.s[:, None] - 1),
    "small_integers": lambda m, x: F.linear(x, (m.w - m.z[:, None].to(torch.int8)).to(x.dtype)),
}


@pytest.mark.parametrize("form", REFUSED)
def test_other_weights_are_floats(form, graphs):
    layer = Layer(REFUSED[form], 70, 131)
    x = torch.randn(7, 131)
    f = torch.compile(layer, backend="ipex", options=STRICT)
    with torch.no_grad():
        assert error_of(f(x), layer(x).double()) < BOUNDS[torch.float32]
    assert graphs[0].of_bytes == 0


def grouped(w, s, z, group, dtype):
    w = w.view(len(w), -1, group).to(dtype)
    if z is not None:
        w = w - z.to(dtype)[..., None]
    return (w * s[..., None]).view(len(w), -1)


GROUPED = {
    "views": lambda m, x: F.linear(x, grouped(m.w, m.s, None, m.group, x.dtype), m.b),
    "zeros": lambda m, x: F.linear(x, grouped(m.w, m.s, m.z, m.group, x.dtype)),
    "one_zero": lambda m, x: F.linear(
        x, ((m.w.view(len(m.w), -1, m.group).to(x.dtype) - 5) * m.s[..., None]).view_as(m.w)
    ),
    # as gpt-fast writes it
    "flat": lambda m, x: F.linear(
        x,
        (
            (m.w.reshape(-1, m.group).to(x.dtype) - m.z.reshape(-1, 1).to(x.dtype))
            * m.s.reshape(-1, 1)
        ).reshape_as(m.w),
        m.b,
    ),
    "of_channels_too": lambda m, x: F.linear(
        x, grouped(m.w, m.s, None, m.group, x.dtype) * m.b[:, None]
    ),
    "zeros_alone": lambda m, x: F.linear(
        x, (m.w.view(len(m.w), -1, m.group).to(x.dtype) - m.z[..., None].to(x.dtype)).view_as(m.w)
    ),
    "of_all_channels": lambda m, x: F.linear(
        x, (m.w.view(len(m.w), -1, m.group).to(x.dtype) * m.s[:1, :, None]).view_as(m.w)
    ),
    "decomposed": lambda m, x: F.linear(
        x,
        Q.dequantize_per_channel_group(
            m.w, m.s.float(), m.z, -128, 127, m.w.dtype, m.group, torch.float32
        ).to(x.dtype),
        m.b,
    ),
}


class Grouped(torch.nn.Module):
    """Weights of bytes whose scales change every `group` inputs."""

    def __init__(self, form, out, inner, group, dtype=torch.float32, of=torch.int8):
        super().__init__()
        self.form, self.group = form, group
        low = -128 if of is torch.int8 else 0
        self.register_buffer("w", torch.randint(low, low + 256, (out, inner), dtype=of))
        self.register_buffer("s", (torch.rand(out, inner // group) / inner).to(dtype))
        self.register_buffer("b", torch.randn(out).to(dtype))
        self.register_buffer("z", torch.randint(-9, 10, (out, inner // group)))

    def forward(self, x):
        return self.form(self, x)

    def in_f64(self, x):
        """The result without any rounding of f32 and below."""
        wide = Grouped(self.form, *self.w.shape, self.group, of=self.w.dtype)
        wide.w, wide.z = self.w, self.z
        wide.s, wide.b = self.s.double(), self.b.double()
        with Wide():
            return wide.form(wide, x.double())


# Where the weight is rounded to the type of x, as eager does: dot products do not.
GROUPED_BOUNDS = {torch.float32: 2e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}


@pytest.mark.parametrize("freezing", [False, True], ids=["fresh", "frozen"])
@pytest.mark.parametrize("dtype", GROUPED_BOUNDS, ids=str)
@pytest.mark.parametrize("rows", [1, 3, 6, 16, 37])
@pytest.mark.parametrize("form", GROUPED)
def test_scales_of_groups(form, rows, dtype, freezing, graphs):
    layer = Grouped(GROUPED[form], 70, 192, 32, dtype)
    x = torch.randn(rows, 192).to(dtype)
    f = torch.compile(layer, backend="ipex", options={**STRICT, "freezing": freezing})
    with torch.no_grad():
        for _ in range(2):
            assert error_of(f(x), layer.in_f64(x)) < GROUPED_BOUNDS[dtype]
        if not freezing:
            layer.w.data.add_(1)
            layer.s.data.mul_(2)
            assert error_of(f(x), layer.in_f64(x)) < GROUPED_BOUNDS[dtype]
    if VECTORS:
        assert graphs[0].of_bytes == 1
        # The bytes themselves are what is read.
        assert graphs[0].packed_bytes < layer.w.numel() and graphs[0].python_calls == 0


@pytest.mark.parametrize("group", [16, 48, 64, 192])
@pytest.mark.parametrize("of", [torch.int8, torch.uint8], ids=str)
def test_groups_of_any_sixteens(of, group, graphs):
    layer = Grouped(GROUPED["zeros"], 70, 192, group, of=of)
    f = torch.compile(layer, backend="ipex", options=STRICT, dynamic=False)
    with torch.no_grad():
        for rows in (2, 50):
            x = torch.randn(rows, 192)
            assert error_of(f(x), layer.in_f64(x)) < GROUPED_BOUNDS[torch.float32]
    assert [g.of_bytes for g in graphs] == [int(VECTORS)] * 2


def test_groups_of_dynamic_rows(graphs):
    layer = Grouped(GROUPED["zeros"], 70, 192, 64)
    f = torch.compile(layer, backend="ipex", options=STRICT, dynamic=True)
    with torch.no_grad():
        for rows in (5, 2, 33, 16, 17, 200):
            x = torch.randn(rows, 192)
            assert error_of(f(x), layer.in_f64(x)) < GROUPED_BOUNDS[torch.float32]
    if VECTORS:
        assert all(g.of_bytes == 1 for g in graphs)


def test_rows_that_follow_groups(graphs):
    """What reads the result row by row runs on rows just computed."""
    layer = Grouped(lambda m, x: F.softmax(GROUPED["zeros"](m, x) * 3, -1), 70, 192, 64)
    f = torch.compile(layer, backend="ipex", options=STRICT, dynamic=False)
    with torch.no_grad():
        for rows in (1, 3, 40):
            x = torch.randn(rows, 192)
            torch.testing.assert_close(f(x), layer(x))


@pytest.mark.parametrize("rows", [1, 20])
def test_group_scales_that_are_not_finite(rows):
    """A scale that is NaN or infinite spoils its channel, one in x its row, nothing else."""
    layer = Grouped(GROUPED["zeros"], 70, 192, 64)
    layer.s[3, 1], layer.s[5, 2] = float("nan"), float("inf")
    x = torch.randn(rows, 192)
    f = torch.compile(layer, backend="ipex", options=STRICT)
    with torch.no_grad():
        spoiled = torch.zeros(70, dtype=torch.bool)
        spoiled[[3, 5]] = True
        assert torch.equal(f(x).isfinite(), ~spoiled.expand(rows, 70))
        x[0, 7] = float("inf")
        got = f(x)
        assert not got[0].isfinite().any()
        assert torch.equal(got[1:].isfinite(), ~spoiled.expand(rows - 1, 70))


OTHER_GROUPS = {
    # no whole vectors
    "of_eight": lambda m, x: F.linear(x, grouped(m.w, m.s, None, m.group, x.dtype)),
    # groups that are no neighbours
    "interleaved": lambda m, x: F.linear(
        x,
        (m.w.view(len(m.w), m.group, -1).to(x.dtype) * m.s[:, None]).reshape(len(m.w), -1),
    ),
    # groups of columns, which are summed apart
    "along_columns": lambda m, x: (
        x
        @ (m.w.t().reshape(-1, m.group, len(m.w)).to(x.dtype) * m.s.t()[:, None]).reshape(
            -1, len(m.w)
        )
    ),
    "twice": lambda m, x: F.linear(
        x,
        (m.w.view(len(m.w), -1, m.group).to(x.dtype) * m.s[..., None] * m.z[..., None]).view_as(
            m.w
        ),
    ),
}


@pytest.mark.parametrize("form", OTHER_GROUPS)
def test_other_groups_are_floats(form, graphs):
    layer = Grouped(OTHER_GROUPS[form], 70, 192, 8 if form == "of_eight" else 32)
    x = torch.randn(7, 192)
    f = torch.compile(layer, backend="ipex", options=STRICT)
    with torch.no_grad():
        torch.testing.assert_close(f(x), layer(x), rtol=1e-4, atol=1e-4)
    assert graphs[0].of_bytes == 0


def test_every_rounding_is_kept_where_asked_for(graphs):
    layer = Layer(FORMS["scaled_weight"], 70, 131, torch.bfloat16)
    options = {**STRICT, "emulate_precision_casts": True}
    with torch.no_grad():
        torch.compile(layer, backend="ipex", options=options)(torch.randn(3, 131).bfloat16())
    assert graphs[0].of_bytes == 0


def quantised(x, scale, zero, of=torch.uint8):
    low = -128 if of is torch.int8 else 0
    x = Q.quantize_per_tensor(x, scale, zero, low, low + 255, of)
    return Q.dequantize_per_tensor(x, scale, zero, low, low + 255, of)


class Static(torch.nn.Module):
    """What `convert_pt2e` leaves of two layers. Scales are powers of two: all sums are exact."""

    def __init__(self, inner, hidden, out, of, activation, zeros):
        super().__init__()
        self.of, self.activation = of, activation
        for n, (i, o) in enumerate([(inner, hidden), (hidden, out)]):
            w = torch.randint(-128, 128, (o, i), dtype=torch.int8)
            self.register_buffer(f"w{n}", w)
            self.register_buffer(f"s{n}", 2.0 ** torch.randint(-9, -4, (o,)))
            z = torch.randint(-5, 6, (o,)) if zeros else torch.zeros(o, dtype=torch.int64)
            self.register_buffer(f"z{n}", z)
            self.register_buffer(f"b{n}", torch.randint(-50, 50, (o,)) / 16)

    def linear(self, n, x):
        w, s, z, b = (getattr(self, f"{name}{n}") for name in "wszb")
        return F.linear(x, Q.dequantize_per_channel(w, s, z, 0, -128, 127, torch.int8), b)

    def forward(self, x):
        zero = 93 if self.of is torch.uint8 else -5
        x = self.linear(0, quantised(x, 2.0**-5, zero, self.of))
        x = quantised(self.activation(x), 2.0**1, 0, self.of)
        return self.linear(1, x)


@pytest.mark.parametrize("freezing", [False, True], ids=["fresh", "frozen"])
@pytest.mark.parametrize("zeros", [False, True], ids=["symmetric", "zeros"])
@pytest.mark.parametrize("of", [torch.uint8, torch.int8], ids=str)
@pytest.mark.parametrize("shape", [(1, 131), (20, 131), (2, 50, 131)], ids=str)
def test_static_quantisation(shape, of, zeros, freezing, graphs):
    net = Static(131, 70, 48, of, torch.relu, zeros)
    x = 3 * torch.randn(shape)
    f = torch.compile(net, backend="ipex", options={**STRICT, "freezing": freezing})
    with torch.no_grad():
        want = net(x)
        for _ in range(2):
            assert torch.equal(f(x), want)
        if not freezing:
            net.w1.data.neg_()
            assert torch.equal(f(x), net(x))
    if VECTORS:
        assert graphs[0].of_bytes == 2 and graphs[0].calls == 0


def test_static_quantisation_with_any_scale():
    """Sums of integers are exact; what is left is the rounding of scales, of f32."""
    inner, out = 3000, 90
    w = torch.randint(-128, 128, (out, inner), dtype=torch.int8)
    s, b = torch.rand(out) / 1000, torch.randn(out)
    z = torch.zeros(out, dtype=torch.int64)

    def net(x):
        x = quantised(x, 0.031, 141)
        return F.linear(x, Q.dequantize_per_channel(w, s, z, 0, -128, 127, torch.int8), b)

    for rows in (1, 17, 64):
        x = torch.randn(rows, inner)
        bytes_of_x = Q.quantize_per_tensor(x, 0.031, 141, 0, 255, torch.uint8)
        exact = (bytes_of_x.double() - 141) @ w.double().t()
        want = exact * (0.031 * s.double()) + b.double()
        got = torch.compile(net, backend="ipex", options=STRICT)(x)
        bound = 4 * torch.finfo(torch.float32).eps * (want.abs() + b.abs()).double()
        assert ((got.double() - want).abs() <= bound).all()


def test_rows_with_scales_of_their_own(graphs):
    """Dynamic quantisation: a scale for each row of x, found in the graph."""
    w, s = torch.randint(-128, 128, (70, 131), dtype=torch.int8), torch.rand(70) / 131

    def net(x):
        scale = x.abs().amax(-1, keepdim=True) / 127
        x = (x / scale).round().clamp(-127, 127).to(torch.int8)
        return F.linear(x.float() * scale, w.float() * s[:, None])

    f = torch.compile(net, backend="ipex", options=STRICT)
    for shape in ((1, 131), (3, 20, 131)):
        x = torch.randn(shape)
        torch.testing.assert_close(f(x), net(x))
    if VECTORS:
        assert graphs[0].of_bytes == 1 and graphs[0].calls == 0


def test_freezing_keeps_no_floats(graphs):
    """A weight that is read as bytes is kept as such, whatever the rows, and not lost."""
    layer = Layer(FORMS["scaled_weight"], 256, 512)
    options = {**STRICT, "freezing": "discard"}
    f = torch.compile(layer, backend="ipex", options=options, dynamic=False)
    with torch.no_grad():
        for rows in (1, 40, 500):
            x = torch.randn(rows, 512)
            assert error_of(f(x), in_f64(layer, x)) < BOUNDS[torch.float32]
    if VECTORS:
        assert [g.packed_bytes for g in graphs] == [0] * 3


CAPPED = """
import torch, torch.nn.functional as F
from tests.test_quantised import BOUNDS, FORMS, GROUPED, GROUPED_BOUNDS, Grouped, Layer
from tests.test_quantised import STRICT, Static, error_of, in_f64
with torch.no_grad():
    for dtype in (torch.float32, torch.bfloat16):
        for rows in (1, 9, 40):
            layer = Layer(FORMS["zeros"], 70, 131, dtype)
            x = torch.randn(rows, 131).to(dtype)
            f = torch.compile(layer, backend="ipex", options=STRICT)
            assert error_of(f(x), in_f64(layer, x)) < BOUNDS[dtype]
            layer = Grouped(GROUPED["zeros"], 70, 192, 32, dtype)
            x = torch.randn(rows, 192).to(dtype)
            f = torch.compile(layer, backend="ipex", options=STRICT)
            assert error_of(f(x), layer.in_f64(x)) < GROUPED_BOUNDS[dtype]
    for of in (torch.uint8, torch.int8):
        net, x = Static(131, 70, 48, of, torch.relu, True), torch.randn(20, 131)
        assert torch.equal(torch.compile(net, backend="ipex", options=STRICT)(x), net(x))
"""


@pytest.mark.parametrize("isa", ["scalar", "avx2", "avx512"])
def test_older_processors(isa):
    environment = {**os.environ, "IPEX_ISA": isa}
    subprocess.run([sys.executable, "-c", CAPPED], env=environment, check=True)
