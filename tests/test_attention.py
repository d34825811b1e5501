"""Attention through the backend, against eager in f64: no less accurate than eager."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.nn.functional import scaled_dot_product_attention as sdpa

STRICT = {"strict": True}


def heads(batch=2, heads=3, rows=19, depth=16, dtype=torch.float32):
    """Heads as a projection gives them: `[batch, rows, heads, depth]` transposed."""
    return torch.randn(batch, rows, heads, depth).to(dtype).transpose(1, 2)


def compiled(f):
    return torch.compile(f, backend="ipex", options=STRICT, fullgraph=True, dynamic=False)


def strides(x):
    """Those that say something: PyTorch's own meta function differs in dimensions of size 1."""
    return [s for n, s in zip(x.shape, x.stride(), strict=True) if n > 1] if x.numel() else []


def check(f, *args):
    """Like eager in shape, strides and special values, and about as far from f64."""
    want = f(*args)
    double = [a.double() if a.is_floating_point() else a for a in args]
    exact = f(*double)
    got = compiled(f)(*args)
    assert got.shape == want.shape and strides(got) == strides(want)
    assert torch.equal(got.isnan(), want.isnan())
    own, eager = (
        torch.nan_to_num(x.double() - exact).abs().amax().item() if x.numel() else 0.0
        for x in (got, want)
    )
    assert own <= 2 * eager + 8 * torch.finfo(got.dtype).eps, (own, eager)
    return got


def bools(*sizes):
    return torch.rand(*sizes) > 0.3


def floats(*sizes):
    mask = torch.randn(*sizes)
    return mask.masked_fill(torch.rand(*sizes) > 0.8, -math.inf)


CASES = {
    "plain": lambda t: (sdpa, heads(dtype=t), heads(dtype=t), heads(dtype=t)),
    "other_rows": lambda t: (sdpa, heads(rows=7, dtype=t), *(heads(dtype=t) for _ in "kv")),
    "one_row": lambda t: (sdpa, heads(rows=1, dtype=t), *(heads(rows=700, dtype=t) for _ in "kv")),
    "one_key": lambda t: (sdpa, heads(dtype=t), heads(rows=1, dtype=t), heads(rows=1, dtype=t)),
    "odd_depth": lambda t: (sdpa, *(heads(depth=13, dtype=t) for _ in "qkv")),
    "contiguous": lambda t: (sdpa, *(heads(dtype=t).contiguous() for _ in "qkv")),
    "three_dimensions": lambda t: (sdpa, *(heads(dtype=t)[0] for _ in "qkv")),
    "five_dimensions": lambda t: (sdpa, *(torch.randn(2, 2, 3, 9, 8).to(t) for _ in "qkv")),
    "sliced": lambda t: (
        lambda x: sdpa(*x.view(2, 19, 3, 4, 16).permute(2, 0, 3, 1, 4).unbind(0)),
        torch.randn(2, 19, 192).to(t),
    ),
    "causal": lambda t: (
        lambda q, k, v: sdpa(q, k, v, is_causal=True),
        *(heads(dtype=t) for _ in "qkv"),
    ),
    "causal_more_keys": lambda t: (
        lambda q, k, v: sdpa(q, k, v, is_causal=True),
        heads(rows=5, dtype=t),
        *(heads(dtype=t) for _ in "kv"),
    ),
    "causal_fewer_keys": lambda t: (
        lambda q, k, v: sdpa(q, k, v, is_causal=True),
        heads(rows=40, dtype=t),
        *(heads(dtype=t) for _ in "kv"),
    ),
    "scale": lambda t: (
        lambda q, k, v: sdpa(q, k, v, scale=-0.7),
        *(heads(dtype=t) for _ in "qkv"),
    ),
    "groups": lambda t: (
        lambda q, k, v: sdpa(q, k, v, enable_gqa=True),
        heads(heads=6, dtype=t),
        *(heads(dtype=t) for _ in "kv"),
    ),
    "groups_one_row": lambda t: (
        lambda q, k, v: sdpa(q, k, v, enable_gqa=True),
        heads(heads=6, rows=1, dtype=t),
        *(heads(rows=600, dtype=t) for _ in "kv"),
    ),
}
MASKS = {
    "keys": lambda m: m(2, 1, 1, 19),
    "rows": lambda m: m(19, 19),
    "heads": lambda m: m(1, 3, 19, 19),
    "all": lambda m: m(2, 3, 19, 19),
    "rows_transposed": lambda m: m(19, 19).t(),
    "one_column": lambda m: m(2, 3, 19, 1),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_sdpa(name, dtype):
    f, *args = CASES[name](dtype)
    with torch.no_grad():
        check(f, *args)


@pytest.mark.parametrize("kind", [bools, floats])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", MASKS)
def test_masks(name, dtype, kind):
    mask = MASKS[name](kind)
    mask = mask if kind is bools else mask.to(dtype)
    q, k, v = (heads(dtype=dtype) for _ in "qkv")
    with torch.no_grad():
        check(lambda q, k, v, m: sdpa(q, k, v, attn_mask=m), q, k, v, mask)


@pytest.mark.parametrize("kind", ["bool", "float"])
def test_rows_without_keys_are_zero(kind):
    mask = torch.ones(19, 19, dtype=torch.bool)
    mask[4] = False
    if kind == "float":
        mask = torch.zeros(19, 19).masked_fill(~mask, -math.inf)
    q, k, v = (heads() for _ in "qkv")
    with torch.no_grad():
        got = check(lambda q, k, v, m: sdpa(q, k, v, attn_mask=m), q, k, v, mask)
    assert (got[:, :, 4] == 0).all() and (got[:, :, 5] != 0).all()


@pytest.mark.parametrize("x", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", [0, 1, 2])
def test_special_values(x, where):
    args = [heads() for _ in "qkv"]
    args[where][0, 1, 3, 5] = x
    with torch.no_grad():
        check(sdpa, *args)


@pytest.mark.parametrize("sizes", [(0, 3, 5, 5), (2, 0, 5, 5), (2, 3, 0, 5), (2, 3, 5, 0)])
def test_empty(sizes):
    batch, n, rows, keys = sizes
    q = heads(batch, n, rows)
    k, v = heads(batch, n, keys), heads(batch, n, keys)
    with torch.no_grad():
        check(sdpa, q, k, v)


@pytest.mark.parametrize("case", ["plain", "causal", "mask", "groups", "fully_masked"])
def test_gradients(case):
    """ATen's backward reads our result and its logarithms of sums."""
    q, k, v = heads(heads=6), heads(), heads()
    if case != "groups":
        q = heads()
    mask = bools(2, 1, 19, 19)
    mask[..., 0] = True
    if case == "fully_masked":
        mask[:, :, 7] = False
    options = {
        "causal": {"is_causal": True},
        "mask": {"attn_mask": mask},
        "fully_masked": {"attn_mask": mask},
        "groups": {"enable_gqa": True},
    }.get(case, {})

    def grads(f):
        args = [x.clone().requires_grad_() for x in (q, k, v)]
        out = f(*args)
        out.backward(torch.cos(torch.arange(out.numel()).view(out.shape).float()))
        return out, *(x.grad for x in args)

    def f(q, k, v):
        return sdpa(q, k, v, **options)

    for got, want in zip(grads(compiled(f)), grads(f), strict=True):
        torch.testing.assert_close(got, want, rtol=2e-5, atol=2e-5, check_stride=True)


def test_dropout_is_left_to_pytorch():
    q, k, v = (heads().requires_grad_() for _ in "qkv")

    def f(q, k, v):
        return sdpa(q, k, v, dropout_p=0.5)

    torch.manual_seed(3)
    want = f(q, k, v)
    torch.manual_seed(3)
    got = compiled(f)(q, k, v)
    torch.testing.assert_close(got, want)
    assert (F.dropout(torch.ones(100), 0.5) == 0).any()
