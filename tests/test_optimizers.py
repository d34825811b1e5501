"""Optimizers' steps through `torch.compile`: kernels alone, with the results of eager."""

from __future__ import annotations

import pytest
import torch

STRICT = {"strict": True}


def lamb(parameters, gradients, means, squares, step):
    """A step of Lamb (You et al., 2019), written with lists as optimizers are."""
    torch._foreach_lerp_(means, gradients, 0.1)
    torch._foreach_mul_(squares, 0.999)
    torch._foreach_addcmul_(squares, gradients, gradients, 0.001)
    first, second = 1 - torch.pow(0.9, step), 1 - torch.pow(0.999, step)
    update = torch._foreach_div(means, first)
    root = torch._foreach_sqrt(torch._foreach_div(squares, second))
    update = torch._foreach_div(update, torch._foreach_add(root, 1e-6))
    torch._foreach_add_(update, parameters, alpha=0.01)
    sizes, ways = torch._foreach_norm(parameters), torch._foreach_norm(update)
    trust = [torch.where((p > 0) & (w > 0), p / w, 1.0) for p, w in zip(sizes, ways, strict=True)]
    torch._foreach_mul_(update, trust)
    torch._foreach_add_(parameters, update, alpha=-0.01)


def draw(sizes):
    torch.manual_seed(0)
    lists = [[torch.randn(s) * by for s in sizes] for by in (1, 0.1, 0.1)]
    return [*lists, [torch.rand(s) for s in sizes], torch.tensor(3.0)]


SIZES = [*[(64, 48)] * 6, *[(48,)] * 6, (3, 5, 7), (), (4096, 40)]


def test_lamb(graphs):
    ours, eagers = draw(SIZES), draw(SIZES)
    ours[0][1].zero_()  # trusted as it is
    eagers[0][1].zero_()
    step = torch.compile(lamb, backend="ipex", options=STRICT, fullgraph=True)
    with torch.no_grad():
        for _ in range(3):
            step(*ours)
            lamb(*eagers)
    for got, want in zip(ours[:4], eagers[:4], strict=True):
        for g, w in zip(got, want, strict=True):
            torch.testing.assert_close(g, w)
    assert [g.calls for g in graphs] == [0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("order", [1, 2, float("inf"), 3])
def test_norms_of_lists(graphs, order, dtype):
    """Unusual orders are left to ATen."""

    def f(tensors):
        return torch._foreach_norm(tensors, order)

    tensors = [torch.randn(s).to(dtype) for s in [(3, 700), (5,), ()]]
    got = torch.compile(f, backend="ipex", options=STRICT, fullgraph=True)(tensors)
    for g, w in zip(got, f(tensors), strict=True):
        torch.testing.assert_close(g, w)
    assert [g.calls for g in graphs] == [int(order == 3)]


KINDS = {
    "SGD": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    "Adam": {"amsgrad": True, "weight_decay": 0.01},
    "AdamW": {"maximize": True},
    "Adagrad": {"lr_decay": 0.1},
}


@pytest.mark.parametrize("kind", KINDS)
def test_steps_are_kernels_alone(graphs, kind):
    """PyTorch's own, over many parameters: no call of ATen, far fewer kernels than parameters."""
    torch.manual_seed(0)
    sizes = [(17,)] * 10 + [(9, 33)] * 10
    lists = [[torch.nn.Parameter(torch.randn(s)) for s in sizes] for _ in range(2)]
    for p, q in zip(*lists, strict=True):
        q.data.copy_(p.data)
    steps = []
    for parameters in lists:
        optimizer = getattr(torch.optim, kind)(parameters, lr=0.05, **KINDS[kind])
        steps.append(optimizer.step)
    steps[1] = torch.compile(steps[1], backend="ipex", options=STRICT)
    for _ in range(4):
        for p, q in zip(*lists, strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        for step in steps:
            step()
    for p, q in zip(*lists, strict=True):
        torch.testing.assert_close(q, p)
    assert graphs
    assert [g.calls for g in graphs] == [0] * len(graphs)


def test_products_with_sums_are_rounded_once(graphs):
    """As PyTorch splits `addcmul` and `addcdiv` since 2.15; its own fallback rounds twice."""
    inductor_prims = pytest.importorskip("torch._inductor.inductor_prims")
    fma = getattr(inductor_prims, "fma", None)
    if fma is None:
        pytest.skip("this PyTorch has no prims.fma")

    def f(x, y, z):
        return fma(x, y, z)

    x = torch.tensor([1.0, 1 + 2**-13, 3.0, -1 - 2**-20])
    args = x, x, -x * x
    got = torch.compile(f, backend="ipex", options=STRICT, fullgraph=True)(*args)
    exact = args[0].double() * args[1].double() + args[2].double()
    torch.testing.assert_close(got, exact.float(), rtol=0, atol=0)
    assert [g.calls for g in graphs] == [0]
