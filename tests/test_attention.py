"""Attention through the backend, against eager in f64: no less accurate than eager."""

import math
import os

import pytest
import torch
import torch.nn.functional as F
from ipex import _core
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
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
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
        got = compiled(sdpa)(q, k, v)
    # Not against eager: in PyTorch 2.11 it divides by the number of heads, and the process dies.
    assert got.shape == q.shape and not got.any()


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


def attentions(f, *args):
    """How many attentions our kernel computes in the compiled graphs, and the result."""
    counts = []
    compile = _core.compile

    def counted(*given):
        compiled = compile(*given)
        counts.append(compiled.attentions)
        return compiled

    _core.compile = counted
    try:
        result = compiled(f)(*args)
    finally:
        _core.compile = compile
    return sum(counts), result


def hand(scale=None, mask=None, keep=None, dropped=None, cast=False):
    """Attention as models write it, on heads of four dimensions."""

    def f(q, k, v):
        scores = torch.matmul(q, k.transpose(-1, -2))
        if scale is not None:
            scores = scores / scale
        if mask is not None:
            scores = scores + mask.to(scores.dtype)
        if keep is not None:
            scores = torch.where(keep, scores, -1e9)
        if dropped is not None:
            scores = scores.masked_fill(dropped, -math.inf)
        weights = scores.softmax(-1, dtype=torch.float32 if cast else None).to(v.dtype)
        out = torch.matmul(F.dropout(weights, 0.1, training=False), v)
        return out.transpose(1, 2).contiguous().flatten(2)

    return f


def repeated(q, k, v):
    """Groups of heads that share keys and values, repeated in memory."""
    k, v = (x[:, :, None].expand(-1, -1, 2, -1, -1).reshape(2, 6, 19, 16) for x in (k, v))
    return torch.matmul((q @ k.transpose(2, 3) * 0.25).softmax(-1), v)


def repeated_sdpa(q, k, v):
    k, v = (x[:, :, None].expand(-1, -1, 2, -1, -1).reshape(2, 6, 19, 16) for x in (k, v))
    return sdpa(q, k, v, is_causal=True)


def three_dimensions(q, k, v):
    q, k, v = (x.flatten(0, 1) for x in (q, k, v))
    return torch.bmm(torch.bmm(q, k.transpose(1, 2)).mul(0.25).softmax(-1), v)


def three_dimensions_mask(q, k, v):
    q, k, v = (x.flatten(0, 1) for x in (q, k, v))
    mask = torch.ones(19, 19, dtype=torch.bool).tril()
    scores = torch.bmm(q, k.transpose(1, 2)).masked_fill(~mask, -math.inf)
    return torch.bmm(scores.softmax(-1), v)


def projections(q, k, v):
    """From a projection of everything, as in timm."""
    x = torch.cat([x.transpose(1, 2) for x in (q, k, v)], -1).reshape(2, 19, 3, 3, 16)
    q, k, v = x.permute(2, 0, 3, 1, 4).unbind(0)
    weights = (q * 0.25 @ k.transpose(-2, -1)).softmax(dim=-1)
    return (weights @ v).transpose(1, 2).reshape(2, 19, 48)


torch.manual_seed(1)
PATTERNS = {
    "plain": hand(),
    "scaled": hand(scale=4.0),
    "mask": hand(4.0, torch.randn(2, 1, 1, 19)),
    "mask_of_rows": hand(4.0, torch.randn(19, 19)),
    "infinite_mask": hand(4.0, floats(2, 1, 19, 19)),
    "keep": hand(4.0, keep=bools(2, 1, 1, 19)),
    "keep_nothing": hand(4.0, keep=torch.zeros(2, 1, 1, 19, dtype=torch.bool)),
    "dropped": hand(4.0, dropped=torch.ones(19, 19, dtype=torch.bool).triu(1)),
    "drop_all": hand(4.0, dropped=torch.ones(19, 1, dtype=torch.bool)),
    "softmax_in_f32": hand(4.0, torch.randn(2, 1, 1, 19), cast=True),
    "groups": repeated,
    "groups_sdpa": repeated_sdpa,
    "three_dimensions": three_dimensions,
    "three_dimensions_mask": three_dimensions_mask,
    "projections": projections,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", PATTERNS)
def test_written_by_hand(name, dtype):
    f = PATTERNS[name]
    q = heads(heads=6 if name.startswith("groups") else 3, dtype=dtype)
    k, v = heads(dtype=dtype), heads(dtype=dtype)
    with torch.no_grad():
        check(f, q, k, v)
        torch._dynamo.reset()
        # Where this processor has a kernel for the type.
        own, _ = attentions(sdpa, *(heads(dtype=dtype) for _ in "qkv"))
        assert attentions(f, q, k, v)[0] == own


def transformed(change):
    """An attention with something between its products."""

    def f(q, k, v):
        return torch.matmul(change(torch.matmul(q, k.transpose(-1, -2))).softmax(-1), v)

    return f


def weights_too(q, k, v):
    weights = torch.matmul(q, k.transpose(-1, -2)).softmax(-1)
    return torch.matmul(weights, v), weights


def along_queries(q, k, v):
    return torch.matmul(torch.matmul(q, k.transpose(-1, -2)).softmax(-2), v)


MASK = torch.randn(19, 19)
OTHERS = {
    "tanh": transformed(torch.tanh),
    "two_masks": transformed(lambda s: torch.where(MASK > 0, s, -1e9) + MASK),
    "scaled_mask": transformed(lambda s: (s + MASK) * 0.5),
    "other_heads": transformed(lambda s: (s.reshape(1, 6, 19, 19) + MASK).reshape(2, 3, 19, 19)),
    "weights_too": weights_too,
    "along_queries": along_queries,
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_attention(name):
    f = OTHERS[name]
    q, k, v = (heads() for _ in "qkv")
    with torch.no_grad():
        count, got = attentions(f, q, k, v)
    assert count == 0
    torch.testing.assert_close(got, f(q, k, v))


def test_weights_that_the_backward_graph_reads():
    def grads(f):
        torch.manual_seed(5)
        args = [heads().requires_grad_() for _ in "qkv"]
        out = f(*args)
        out.square().sum().backward()
        return out, *(x.grad for x in args)

    f = hand(4.0)
    for got, want in zip(grads(compiled(f)), grads(f), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kept", [None, torch.float32])
def test_a_bool_mask_is_read_as_it_is(kept, graphs):
    """No kernel makes a float one of it, unless somebody else wants that."""

    def f(q, k, v, m):
        float_mask = torch.where(m, 0.0, -math.inf)
        got = sdpa(q, k, v, attn_mask=m if kept is None else float_mask)
        return got if kept is None else (got, float_mask)

    q, k, v = (heads() for _ in "qkv")
    m = bools(2, 1, 1, 19)
    with torch.no_grad():
        got, want = compiled(f)(q, k, v, m), f(q, k, v, m)
    torch.testing.assert_close(got, want)
    if graphs[0].attentions:
        assert graphs[0].groups == int(kept is not None)


def test_a_mask_of_other_numbers_is_added():
    def f(q, k, v, m):
        return sdpa(q, k, v, attn_mask=torch.where(m, 0.5, -2.0))

    q, k, v = (heads() for _ in "qkv")
    m = bools(2, 1, 19, 19)
    with torch.no_grad():
        torch.testing.assert_close(compiled(f)(q, k, v, m), f(q, k, v, m))


@pytest.mark.parametrize("f", [sdpa, hand(4.0)])
def test_attention_of_f16(f):
    with torch.no_grad():
        count, _ = attentions(f, *(heads(dtype=torch.float16) for _ in "qkv"))
    capped = os.environ.get("IPEX_ISA") in ("scalar", "avx2")
    assert count == int(torch.backends.cpu.get_cpu_capability() == "AVX512" and not capped)


def test_sdpa_is_one_attention():
    with torch.no_grad():
        count, _ = attentions(sdpa, *(heads() for _ in "qkv"))
    vectors = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    assert count == int(vectors and os.environ.get("IPEX_ISA") != "scalar")
