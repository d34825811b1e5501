"""Matrix products through the backend, against f64: no less accurate than eager."""

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from processor import has

STRICT = {"strict": True}


def randn(*sizes, dtype=torch.float32):
    return torch.randn(*sizes).to(dtype)


PRODUCTS = {
    "linear": lambda t: (
        F.linear,
        randn(37, 65, dtype=t),
        randn(70, 65, dtype=t),
        randn(70, dtype=t),
    ),
    "one_row": lambda t: (F.linear, randn(1, 65, dtype=t), randn(70, 65, dtype=t), None),
    "mm": lambda t: (torch.mm, randn(37, 65, dtype=t), randn(65, 70, dtype=t)),
    "mm_transposed": lambda t: (torch.mm, randn(65, 37, dtype=t).t(), randn(65, 70, dtype=t)),
    "one_column": lambda t: (torch.mm, randn(300, 65, dtype=t), randn(65, 1, dtype=t)),
    "no_inner": lambda t: (torch.mm, randn(3, 0, dtype=t), randn(0, 4, dtype=t)),
    "no_rows": lambda t: (torch.mm, randn(0, 3, dtype=t), randn(3, 4, dtype=t)),
    "addmm": lambda t: (
        lambda c, a, b: torch.addmm(c, a, b, beta=0.5, alpha=-2.0),
        *(randn(37, 1, dtype=t), randn(37, 65, dtype=t), randn(65, 70, dtype=t)),
    ),
    "bmm": lambda t: (
        lambda q, k: q.transpose(1, 2) @ k.permute(0, 2, 3, 1),
        *(randn(2, 19, 3, 16, dtype=t), randn(2, 19, 3, 16, dtype=t)),
    ),
    "baddbmm": lambda t: (
        torch.baddbmm,
        *(randn(s, dtype=t) for s in ((4, 1, 9), (4, 7, 5), (4, 5, 9))),
    ),
    "expanded": lambda t: (
        torch.mm,
        randn(1, 33, dtype=t).expand(20, 33),
        randn(33, 1, dtype=t).expand(33, 40),
    ),
    "a_column_of_a_view": lambda t: (
        torch.mm,
        randn(40, 80, dtype=t)[:, 3:36],
        randn(50, 33, dtype=t).t(),
    ),
}


def worst(f, args, kind=None):
    got = (f if kind is None else torch.compile(f, backend="ipex", options=STRICT, dynamic=False))(
        *args
    )
    double = [a.double() if isinstance(a, torch.Tensor) else a for a in args]
    want = f(*double)
    assert got.shape == want.shape
    return 0.0 if got.numel() == 0 else (got.double() - want).abs().max().item()


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str
)
@pytest.mark.parametrize("name", PRODUCTS)
def test_product(name, dtype):
    torch.manual_seed(0)
    torch._dynamo.reset()
    f, *args = PRODUCTS[name](dtype)
    with torch.no_grad():
        own, eager = worst(f, args, "ipex"), worst(f, args)
    assert own <= 2 * eager + 16 * torch.finfo(dtype).eps, (own, eager)


# Rows, columns and K; what follows runs on each part of the result: of rows, of columns (a packed
# weight, few rows), of the transposed product, of K (one sum at the end), and of one row.
PARTS = {
    "rows": (200, 130, 64),
    "columns": (40, 300, 128),
    "deep": (12, 70, 9000),
    "one_row": (1, 700, 300),
    "few_rows": (5, 700, 300),
}


@pytest.mark.parametrize("freezing", [False, True])
@pytest.mark.parametrize("batch", [(), (3,)], ids=["matrix", "batch"])
@pytest.mark.parametrize("name", PARTS)
def test_what_follows_runs_on_parts(name, batch, freezing):
    rows, columns, k = PARTS[name]
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(*batch, columns, k) / k**0.5)

    class Layer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = weight

        def forward(self, x, scale):
            return F.gelu(x @ self.weight.mT) * scale

    args = (torch.randn(*batch, rows, k), torch.randn(*batch, rows, columns))
    model = Layer().eval()
    f = torch.compile(model, backend="ipex", options={**STRICT, "freezing": freezing})
    with torch.no_grad():
        torch.testing.assert_close(f(*args), model(*args))


def layers(inputs=65):
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(inputs, 130), torch.nn.GELU(), torch.nn.Linear(130, 48), torch.nn.ReLU()
    )
    return model.eval(), torch.randn(100, inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_freezing_packs_once(dtype, graphs):
    model, x = layers()
    model, x = model.to(dtype), x.to(dtype)
    f = torch.compile(model, backend="ipex", options={**STRICT, "freezing": True})
    with torch.no_grad():
        want = model(x)
        bound = {"rtol": 2e-2, "atol": 2e-2} if dtype is torch.bfloat16 else {}
        torch.testing.assert_close(f(x), want, **bound)
        if dtype is torch.bfloat16 and not has("avx512_bf16"):
            assert graphs[0].packed_bytes == 0  # products of ATen's
            return
        assert graphs[0].packed_bytes >= (65 * 130 + 130 * 48) * dtype.itemsize
        model[0].weight.mul_(2)  # documented as unseen
        torch.testing.assert_close(f(x), want, **bound)


def test_without_freezing_an_edit_counts():
    model, x = layers()
    f = torch.compile(model, backend="ipex", options=STRICT)
    with torch.no_grad():
        f(x)
        model[0].weight.data.mul_(2)
        torch.testing.assert_close(f(x), model(x))


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_lower_precision_is_obeyed(precision):
    """bf16 operands, or 16 bits of them: a processor without such products keeps f32."""
    model, x = layers(64)
    want = model.double()(x.double())
    model.float()
    try:
        torch.set_float32_matmul_precision(precision)
        with torch.no_grad():
            got = torch.compile(model, backend="ipex", options=STRICT | {"freezing": True})(x)
    finally:
        torch.set_float32_matmul_precision("highest")
    error = (got.double() - want).abs().max().item()
    isa, most, least = {
        "high": ("amx", 1e-4, 1e-6),
        "medium": ("avx512_bf16", 2e-2, 1e-5),
    }[precision]
    assert error < most and (not has(isa) or error > least)


def test_nan_and_infinity():
    a, b = torch.zeros(20, 40), torch.ones(40, 30)
    b[3, 5], b[0, 7] = float("inf"), float("nan")
    with torch.no_grad():
        got = torch.compile(torch.mm, backend="ipex", options=STRICT)(a, b)
    assert got[:, [5, 7]].isnan().all() and got.isnan().sum() == 40


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("k", [2, 4])
def test_few_terms_are_rounded_as_eager_rounds_them(k, dtype):
    """Scores in the thousands: their softmax would show another rounding of the products before."""

    def f(c, a, b):
        return torch.addmm(c, a, b), torch.baddbmm(c, a.view(2, -1, k), b.expand(2, -1, -1)), a @ b

    args = [100 * randn(*sizes, dtype=dtype) for sizes in ((4,), (10, k), (k, 4))]
    with torch.no_grad():
        got, want = torch.compile(f, backend="ipex", options=STRICT, dynamic=False)(*args), f(*args)
    assert all(map(torch.equal, got, want))


@pytest.mark.parametrize("isa", ["avx2", "avx512", "avx512_bf16"])
def test_under_a_cap(isa):
    environment = {**os.environ, "IPEX_ISA": isa}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        f"{__file__}::test_product",
        "-k",
        "float32 or bfloat16",
    ]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0 and "24 passed" in ran.stdout, ran.stdout


@pytest.mark.parametrize("sizes", [(3, 64, 40), (33, 70, 50), (1, 1, 1), (4, 0, 5), (0, 8, 8)])
def test_bytes(sizes: tuple[int, int, int]) -> None:
    """Products of bytes, ATen's own too, are written into memory of the plan's."""
    rows, depth, columns = sizes
    a = torch.randint(-128, 128, (rows, depth), dtype=torch.int8)
    b = torch.randint(-128, 128, (columns, depth), dtype=torch.int8)

    def f(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch._int_mm(a, b.t()) * 2 + 1

    got = torch.compile(f, backend="ipex", options={"strict": True})(a, b)
    want = (a.double() @ b.double().t()) * 2 + 1
    assert got.dtype == torch.int32
    assert torch.equal(got.double(), want)


def dequantised(x, w, rows, columns, bias):
    return torch._int_mm(x, w).float() * rows * columns + bias


@pytest.mark.parametrize("freezing", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("m,n,k", [(1, 300, 70), (17, 33, 5), (64, 96, 130), (200, 31, 257)])
def test_products_of_bytes(m, n, k, transposed, freezing, graphs):
    """Exact sums, with everything that follows inside of one step."""

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            w = torch.randint(-128, 128, (n, k) if transposed else (k, n), dtype=torch.int8)
            self.register_buffer("w", w)
            self.register_buffer("columns", torch.rand(n))
            self.register_buffer("bias", torch.randn(n))

        def forward(self, x, rows):
            w = self.w.t() if transposed else self.w
            return dequantised(x, w, rows, self.columns, self.bias)

    net = Net()
    x, rows = torch.randint(-128, 128, (m, k), dtype=torch.int8), torch.rand(m, 1)
    compiled = torch.compile(net, backend="ipex", options={**STRICT, "freezing": freezing})

    def want():
        w = net.w.t() if transposed else net.w
        product = (x.long() @ w.long()).to(torch.int32)
        return product.float() * rows * net.columns + net.bias

    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(compiled(x, rows), want())
        if not freezing:
            net.w.data.neg_()
            torch.testing.assert_close(compiled(x, rows), want())
    if has("avx512_vnni"):
        assert (graphs[0].calls == 0) == (freezing or 9 <= m <= 32)


def test_products_of_bytes_are_exact():
    """The largest sums, and what is returned as integers."""
    x = torch.full((70, 3000), -128, dtype=torch.int8)
    compiled = torch.compile(torch._int_mm, backend="ipex", options=STRICT)
    for w in (x.t().contiguous(), x.neg().t(), torch.full((3000, 40), 127, dtype=torch.int8)):
        assert torch.equal(compiled(x, w), (x.long() @ w.long()).to(torch.int32))
