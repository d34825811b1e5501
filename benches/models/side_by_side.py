"""Eager, Inductor and ipex on whole models: results are checked, then calls are interleaved.

    python benches/models/side_by_side.py [--models bert,gpt2,...] [--rounds 15] [--no-inductor]

Prints first-call times (s), medians of steady calls (ms), the ratio to Inductor and to eager.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch


def bert() -> tuple[Any, tuple[Any, ...]]:
    from transformers import BertConfig, BertModel

    return BertModel(BertConfig()), (torch.randint(0, 30522, (1, 128)),)


def gpt2() -> tuple[Any, tuple[Any, ...]]:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(use_cache=False)), (torch.randint(0, 50257, (1, 64)),)


def timm_model(name: str) -> Callable[[], tuple[Any, tuple[Any, ...]]]:
    def build() -> tuple[Any, tuple[Any, ...]]:
        import timm

        return timm.create_model(name), (torch.randn(1, 3, 224, 224),)

    return build


MODELS = {
    "bert": bert,
    "gpt2": gpt2,
    "resnet50": timm_model("resnet50"),
    "vit": timm_model("vit_base_patch16_224"),
    "mobilenetv3": timm_model("mobilenetv3_large_100"),
}


def first_tensor(out: Any) -> torch.Tensor:
    return out if isinstance(out, torch.Tensor) else out[0]


def compare(name: str, rounds: int, inductor: bool) -> dict[str, float]:
    """Times one model; raises AssertionError if ipex's result is off by more than 1e-4."""
    torch.manual_seed(0)
    model, inputs = MODELS[name]()
    model.eval()
    rivals = {
        "eager": model,
        "ipex": torch.compile(model, backend="ipex", options={"strict": True}),
    }
    if inductor:
        rivals["inductor"] = torch.compile(model)
    want = first_tensor(model(*inputs))
    first = {}
    for rival, f in rivals.items():
        start = time.perf_counter()
        got = first_tensor(f(*inputs))
        first[rival] = time.perf_counter() - start
        error = ((got - want).abs().max() / want.abs().max()).item()
        print(
            f"{name:12s} {rival:9s} first call {first[rival]:6.2f} s, error {error:.1e}", flush=True
        )
        assert error <= 1e-4, (name, rival, error)
    times: dict[str, list[float]] = {rival: [] for rival in rivals}
    for round_ in range(rounds + 2):
        for rival, f in rivals.items():
            start = time.perf_counter()
            f(*inputs)
            if round_ >= 2:
                times[rival].append((time.perf_counter() - start) * 1e3)
    medians = {rival: statistics.median(t) for rival, t in times.items()}
    line = "  ".join(f"{rival} {ms:7.1f} ms" for rival, ms in medians.items())
    ratios = "  ".join(
        f"{r}/ipex {medians[r] / medians['ipex']:.2f}" for r in medians if r != "ipex"
    )
    print(f"{name:12s} {line}  {ratios}", flush=True)
    return medians


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--no-inductor", action="store_true")
    args = parser.parse_args()
    with torch.no_grad():
        for name in args.models.split(","):
            torch._dynamo.reset()
            compare(name, args.rounds, not args.no_inductor)


if __name__ == "__main__":
    main()
