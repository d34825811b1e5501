"""What compiling BERT-base, forward and backward, takes of our own: documents to executable code.

    python benches/generation.py [--rounds 5]

Prints milliseconds for each document and each group; Dynamo and AOTAutograd come on top.
"""

from __future__ import annotations

import argparse
import time
from typing import Any
from unittest import mock

import torch
from ipex import _core
from transformers import BertConfig, BertModel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    model = BertModel(BertConfig(), add_pooling_layer=False)
    ids = torch.randint(30000, (1, 128))
    made: list[tuple[float, int]] = []
    compile_document = _core.compile

    def timed(*args: Any) -> Any:
        start = time.perf_counter()
        compiled = compile_document(*args)
        made.append(((time.perf_counter() - start) * 1e3, compiled.groups))
        return compiled

    with mock.patch.object(_core, "compile", timed):
        for _ in range(rounds):
            torch._dynamo.reset()
            made.clear()
            compiled = torch.compile(model, backend="ipex", dynamic=False)
            compiled(ids).last_hidden_state.sum().backward()
            total, groups = (sum(column) for column in zip(*made, strict=True))
            each = ", ".join(f"{ms:.1f} ms for {n} groups" for ms, n in made)
            print(f"{each}; {total:.1f} ms in all, {total / groups:.2f} ms a group")


if __name__ == "__main__":
    main()
