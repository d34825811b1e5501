"""Cases of `test_gpu.py`, in a process that has a GPU: `python gpu_models.py CASE...`."""

from __future__ import annotations

import sys
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from ipex import _core

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


def bert_bf16() -> None:
    bert(torch.bfloat16, 2e-2)


def gpt2(dtype: torch.dtype = torch.float32, bound: float = 1e-5) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    # The last product has few columns: the instructions of a GPU are slow on a CPU.
    config = GPT2Config(n_layer=2, use_cache=False, vocab_size=5000)
    model = GPT2LMHeadModel(config).to(dtype)
    check(model, (torch.randint(0, 5000, (1, 33)),), bound, 0)


def gpt2_bf16() -> None:
    gpt2(torch.bfloat16, 2e-2)


def attention() -> None:
    """Ragged sizes, masks and types against f64, by matrix instructions where there are any."""
    bounds = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
    sizes = [(1, 17, 64, 64), (19, 50, 64, 64), (33, 33, 40, 40), (9, 70, 96, 96)]
    worst, attentions = dict.fromkeys(bounds, 0.0), dict.fromkeys(bounds, 0)
    for dtype in bounds:
        for queries, keys, depth, width in sizes:
            q = torch.randn(2, 4, queries, depth).to(dtype)
            k = torch.randn(2, 2, keys, depth).to(dtype)
            v = torch.randn(2, 2, keys, width).to(dtype)
            mask = torch.rand(2, 1, queries, keys) < 0.7
            mask[0, 0, 0] = False  # a row that sees nothing
            masks = [None, mask, torch.randn(queries, keys).to(dtype)]
            for how in [*masks, "causal"]:
                wide = depth > 64 and (how is masks[2] or dtype == torch.float16)
                if dtype != torch.float32 and wide:
                    continue  # a module for each: as for the other depths and for bf16
                options: dict[str, Any] = {"enable_gqa": True}
                options |= {"is_causal": True} if how == "causal" else {"attn_mask": how}

                def f(*qkv: torch.Tensor, options: dict[str, Any] = options) -> torch.Tensor:
                    return F.scaled_dot_product_attention(*qkv, **options)

                torch._dynamo.reset()
                COMPILED.clear()
                with torch.no_grad():
                    got = compiled(f)(q, k, v)
                    if isinstance(options.get("attn_mask"), torch.Tensor) and how is masks[2]:
                        options["attn_mask"] = how.double()
                    want = f(q.double(), k.double(), v.double(), options=options)
                error = (got.double() - want).abs().max().item()
                # Some of these PyTorch decomposes itself.
                ours = COMPILED[0].attentions == 1 and COMPILED[0].gpu_left_to_cpu == []
                attentions[dtype] += ours
                assert error <= bounds[dtype], (dtype, queries, keys, depth, width, how, error)
                worst[dtype] = max(worst[dtype], error)
    for dtype, n in attentions.items():
        print(f"{dtype}: {n} attentions, error {worst[dtype]:.1e}")
        assert n >= 5


def bags() -> None:
    """What has no GPU kernel is computed on the CPU in between, and goes on to the GPU."""
    table, layer = nn.EmbeddingBag(20, 16, mode="sum"), nn.Linear(16, 40)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.layer = table, layer

        def forward(self, indices: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
            return torch.tanh(self.layer(self.table(indices, offsets) + 1))

    args = (torch.randint(0, 20, (30,)), torch.arange(0, 30, 3))
    check(Model(), args, 1e-5, 0)
    assert any("bags" in why for c in COMPILED for why in c.gpu_left_to_cpu)


def resnet(dtype: torch.dtype = torch.float32, bound: float = 1e-4, round_trips: int = 0) -> None:
    import torchvision

    model = torchvision.models.resnet18().to(dtype)
    check(model, (torch.randn(1, 3, 64, 64, dtype=dtype),), bound, round_trips)


def resnet_bf16() -> None:
    # ATen computes convolutions of bf16: each is a way to the CPU and back.
    resnet(torch.bfloat16, 2e-2, 21)


def run(name: str) -> bool:
    """Runs a case, and says on a line of its own how it ended."""
    torch.manual_seed(0)
    torch._dynamo.reset()
    COMPILED.clear()
    try:
        globals()[name]()
        passed = True
    except Exception:
        traceback.print_exc(file=sys.stdout)
        passed = False
    print(f"--- {name} {'passed' if passed else 'failed'}", flush=True)
    return passed


if __name__ == "__main__":
    sys.exit(not all([run(name) for name in sys.argv[1:]]))
