"""Cases of `test_gpu.py`, each in a process that has a GPU: `python gpu_models.py CASE`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import torch.nn as nn
from ipex import _core

torch.manual_seed(0)
COMPILED: list[_core.Compiled] = []


def _record(compile: Callable[..., Any]) -> Callable[..., Any]:
    """Keeps what is compiled, to ask it what ran where."""

    def run(*args: Any) -> Any:
        COMPILED.append(compile(*args))
        return COMPILED[-1]

    return run


_core.compile = _record(_core.compile)  # type: ignore[assignment]


def compiled(f: Any, freezing: bool = False) -> Any:
    options = {"device": "gpu", "strict": True, "freezing": freezing}
    return torch.compile(f, backend="ipex", options=options)


def tensor(result: Any) -> torch.Tensor:
    """A model's result."""
    for name in ("logits", "last_hidden_state"):
        result = getattr(result, name, result)
    return result


def check(model: nn.Module, args: tuple[Any, ...], bound: float, round_trips: int) -> None:
    """Compares with eager, and prints what the second call did."""
    model.eval()
    with torch.no_grad():
        want = tensor(model(*args))
        run = compiled(model, freezing=True)
        run(*args)
        before = [c.gpu_counts for c in COMPILED]
        got = tensor(run(*args))
    error = (got.float() - want.float()).abs().max() / (1 + want.float().abs().max())
    after = [c.gpu_counts for c in COMPILED]
    launches, up, down, trips, _ = (
        sum(b[k] - a[k] for a, b in zip(before, after, strict=True)) for k in range(5)
    )
    left = Counter(why for c in COMPILED for why in c.gpu_left_to_cpu)
    print(
        f"{type(model).__name__}: error {error:.1e}, a call: {launches} launches, {up} uploads,"
        f" {down} downloads, {trips} round trips; left to the CPU: {dict(left) or 'nothing'}"
    )
    assert error <= bound
    assert launches > 0
    assert trips <= round_trips


def mlp(dtype: torch.dtype = torch.float32, bound: float = 1e-5) -> None:
    layers = (nn.Linear(64, 130), nn.GELU(), nn.LayerNorm(130), nn.Linear(130, 10))
    check(nn.Sequential(*layers).to(dtype), (torch.randn(9, 64, dtype=dtype),), bound, 0)


def mlp_bf16() -> None:
    mlp(torch.bfloat16, 2e-2)


def training() -> None:
    """Gradients of a step against eager's."""
    model = nn.Sequential(nn.Linear(20, 33), nn.Tanh(), nn.Linear(33, 5))
    x, y = torch.randn(16, 20), torch.randn(16, 5)

    def loss(x: torch.Tensor) -> torch.Tensor:
        return (model(x) - y).square().mean()

    loss(x).backward()
    want = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    compiled(loss)(x).backward()
    for p, w in zip(model.parameters(), want, strict=True):
        torch.testing.assert_close(p.grad, w, rtol=1e-4, atol=1e-5)
    assert sum(c.gpu_counts[0] for c in COMPILED) > 0


def frozen_and_stale() -> None:
    """Without freezing no result comes from a stale weight, also one changed through `.data`."""
    model = nn.Linear(8, 4)
    x = torch.randn(3, 8)
    with torch.no_grad():
        run = compiled(model)
        torch.testing.assert_close(run(x), model(x))
        model.weight.data.mul_(2)
        torch.testing.assert_close(run(x), model(x))
        uploads = COMPILED[0].gpu_counts[1]
        assert uploads == 6, uploads  # x, weight and bias, twice


def bert(dtype: torch.dtype = torch.float32, bound: float = 1e-5) -> None:
    from transformers import BertConfig, BertModel

    model = BertModel(BertConfig(num_hidden_layers=2)).to(dtype)
    check(model, (torch.randint(0, 30000, (1, 33)),), bound, 0)


def gpt2(dtype: torch.dtype = torch.float32, bound: float = 1e-5) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(n_layer=2, use_cache=False)).to(dtype)
    check(model, (torch.randint(0, 50000, (1, 33)),), bound, 0)


def gpt2_bf16() -> None:
    gpt2(torch.bfloat16, 2e-2)


def resnet() -> None:
    import torchvision

    check(torchvision.models.resnet18(), (torch.randn(1, 3, 64, 64),), 1e-4, 0)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
