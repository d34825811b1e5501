"""Eager, Inductor and ipex on whole models: results are checked, then calls are interleaved.

    python benches/models/side_by_side.py [--models bert,gpt2,resnet50x8,...] [--rounds 15]
        [--freezing] [--bf16] [--channels-last] [--no-inductor] [--save DIR]

Prints first-call times (s), of ipex's the part that is its own (document and Rust compile, s),
medians of steady calls (ms), and the ratios of the other rivals to ipex. A name may end in the
number of inputs of a batch, as bertx8. --freezing adds ipex and Inductor with constant parameters,
and compares ipex's with the faster of Inductor's two. --channels-last lays models and images out
so, for all rivals. --save writes the table as Markdown and a picture of it (needs matplotlib).
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Inductor's first call is one without its caches on disk.
os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"

import ipex.backend  # noqa: E402
import torch  # noqa: E402


def bert(batch: int) -> tuple[Any, torch.Tensor]:
    from transformers import BertConfig, BertModel

    return BertModel(BertConfig()), torch.randint(0, 30522, (batch, 128))


def gpt2(batch: int) -> tuple[Any, torch.Tensor]:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(use_cache=False)), torch.randint(0, 50257, (batch, 64))


def llama(rows: int) -> Callable[[int], tuple[Any, torch.Tensor]]:
    """A decoder with gated layers, 4 queries to a key; `rows` tokens."""

    def build(batch: int) -> tuple[Any, torch.Tensor]:
        from transformers import LlamaConfig, LlamaForCausalLM

        sizes = {"hidden_size": 1024, "intermediate_size": 2816, "vocab_size": 8000}
        heads = {"num_attention_heads": 16, "num_key_value_heads": 4, "num_hidden_layers": 8}
        config = LlamaConfig(use_cache=False, **sizes, **heads)
        return LlamaForCausalLM(config), torch.randint(0, 8000, (batch, rows))

    return build


def timm_model(name: str) -> Callable[[int], tuple[Any, torch.Tensor]]:
    def build(batch: int) -> tuple[Any, torch.Tensor]:
        import timm

        return timm.create_model(name), torch.randn(batch, 3, 224, 224)

    return build


MODELS = {
    "bert": bert,
    "gpt2": gpt2,
    "llama": llama(128),
    "llama_1": llama(1),
    "resnet50": timm_model("resnet50"),
    "vit": timm_model("vit_base_patch16_224"),
    "mobilenetv3": timm_model("mobilenetv3_large_100"),
    "convnext": timm_model("convnext_tiny"),
    "efficientnet": timm_model("efficientnet_b0"),
}


def first_tensor(out: Any) -> torch.Tensor:
    return out if isinstance(out, torch.Tensor) else out[0]


@dataclass
class Row:
    """One model: seconds of first calls, milliseconds of steady ones, by rival."""

    name: str
    first: dict[str, float]
    own: float
    steady: dict[str, float]

    def ratios(self) -> dict[str, float]:
        """Times of the others over ipex's; over 1 is ipex's gain."""
        ms = self.steady
        found = {f"{r}/ipex": ms[r] / ms["ipex"] for r in ("eager", "inductor") if r in ms}
        if "inductor frozen" in ms:
            fastest = min(ms["inductor"], ms["inductor frozen"])
            found["fastest inductor/ipex frozen"] = fastest / ms["ipex frozen"]
        return found


def own_share() -> Callable[[], float]:
    """Starts to count the seconds that ipex itself spends compiling; the result reads the sum."""
    total = 0.0
    compile_graph = ipex.backend.compile_graph

    def timed(*args: Any) -> Any:
        nonlocal total
        start = time.perf_counter()
        try:
            return compile_graph(*args)
        finally:
            total += time.perf_counter() - start

    ipex.backend.compile_graph = timed

    def stop() -> float:
        ipex.backend.compile_graph = compile_graph
        return total

    return stop


def build(name: str, bf16: bool, channels_last: bool) -> tuple[Any, torch.Tensor]:
    """A model with random weights and its input."""
    torch.manual_seed(0)
    base, _, batch = name.partition("x") if name not in MODELS else (name, "", "")
    model, given = MODELS[base](int(batch or 1))
    if bf16:
        model = model.bfloat16()
        given = given.bfloat16() if given.is_floating_point() else given
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
        given = given.to(memory_format=torch.channels_last)
    return model.eval(), given


def rivals_of(model: Any, inductor: bool, freezing: bool) -> dict[str, Callable[..., Any]]:
    """Ways to run a model, by name."""
    rivals = {"eager": model}
    for frozen in [False, True] if freezing else [False]:
        suffix = " frozen" if frozen else ""
        ours = {"strict": True, "freezing": frozen}
        rivals["ipex" + suffix] = torch.compile(model, backend="ipex", options=ours)
        if inductor:
            rivals["inductor" + suffix] = torch.compile(model, options={"freezing": frozen})
    return rivals


def reference(model: Any, given: torch.Tensor) -> torch.Tensor:
    """The result in f32: rivals that round to bf16 differ from each other as much as from it."""
    wide = copy.deepcopy(model).float()
    return first_tensor(wide(given.float() if given.is_floating_point() else given))


def compare(name: str, args: argparse.Namespace) -> Row:
    """Times one model; raises AssertionError if a result is off by more than the dtype allows."""
    print(f"{name}: building and compiling ...", flush=True)
    torch._dynamo.reset()
    model, given = build(name, args.bf16, args.channels_last)
    rivals = rivals_of(model, not args.no_inductor, args.freezing)
    want = reference(model, given)
    first = {}
    own = own_share()
    for rival, f in rivals.items():
        start = time.perf_counter()
        got = first_tensor(f(given))
        first[rival] = time.perf_counter() - start
        error = ((got - want).abs().max() / want.abs().max()).item()
        print(
            f"{name:12s} {rival:15s} first call {first[rival]:6.2f} s, error {error:.1e}",
            flush=True,
        )
        assert error <= (5e-2 if args.bf16 else 1e-4), (name, rival, error)
    own_seconds = own()
    print(f"{name:12s} ipex's own share of its first call {own_seconds * 1e3:.0f} ms", flush=True)
    times: dict[str, list[float]] = {rival: [] for rival in rivals}
    for round_ in range(args.rounds + 2):
        for rival, f in rivals.items():
            start = time.perf_counter()
            f(given)
            if round_ >= 2:
                times[rival].append((time.perf_counter() - start) * 1e3)
    medians = {rival: statistics.median(t) for rival, t in times.items()}
    line = "  ".join(f"{rival} {ms:7.1f} ms" for rival, ms in medians.items())
    print(f"{name:12s} {line}", flush=True)
    row = Row(name, first, own_seconds, medians)
    print(f"{name:12s} " + "  ".join(f"{k} {v:.2f}" for k, v in row.ratios().items()), flush=True)
    return row


def save(rows: list[Row], folder: Path) -> None:
    """Writes side_by_side.md and side_by_side.png."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    rivals = list(rows[0].steady)
    head = ["model", *(f"{r}: first call, s" for r in rivals), "of it ipex's own, s"]
    head += [f"{r}: steady, ms" for r in rivals]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [row.name, *(f"{row.first[r]:.2f}" for r in rivals), f"{row.own:.3f}"]
        cells += [f"{row.steady[r]:.1f}" for r in rivals]
        lines.append("| " + " | ".join(cells) + " |")
    (folder / "side_by_side.md").write_text("\n".join(lines) + "\n")
    figure, axes = plt.subplots(1, 2, figsize=(10, 4))
    width = 0.8 / len(rivals)
    for axis, title, value in (
        (axes[0], "first call, s", lambda row, r: row.first[r]),
        (axes[1], "steady call, ms", lambda row, r: row.steady[r]),
    ):
        for k, rival in enumerate(rivals):
            places = [n + k * width for n in range(len(rows))]
            axis.bar(places, [value(row, rival) for row in rows], width, label=rival)
        ticks = [n + width * (len(rivals) - 1) / 2 for n in range(len(rows))]
        axis.set_xticks(ticks, [row.name for row in rows])
        axis.set_title(title)
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(folder / "side_by_side.png")
    print(f"saved {folder / 'side_by_side.md'} and {folder / 'side_by_side.png'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="bert,gpt2,resnet50,vit,mobilenetv3")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--freezing", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--no-inductor", action="store_true")
    parser.add_argument("--save", type=Path)
    args = parser.parse_args()
    rows = []
    with torch.no_grad():
        for name in args.models.split(","):
            rows.append(compare(name, args))
    for ratio in rows[0].ratios():
        mean = statistics.geometric_mean(row.ratios()[ratio] for row in rows)
        print(f"geometric mean {ratio} {mean:.2f}")
    if args.save:
        save(rows, args.save)


if __name__ == "__main__":
    main()
