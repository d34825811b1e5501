"""Writes defaults.json: the arguments, with defaults, of operators that have a rule.

    ipexc operators > operators
    python backend/src/protocol/defaults.py operators backend/src/protocol/defaults.json

Programs saved by torch.export leave defaults out; the compiler completes calls from this table.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch._inductor.inductor_prims  # registers prims.fma
import torch.ao.quantization.fx._decomposed  # registers quantized_decomposed
from ipex.arguments import argument


def arguments(name: str) -> list[dict[str, Any]]:
    """The arguments of `aten.add.Tensor`, in order; `default` is encoded as the protocol does."""
    namespace, operator, overload = name.split(".")
    schema = getattr(getattr(getattr(torch.ops, namespace), operator), overload)._schema
    rows = []
    for arg in schema.arguments:
        row = {"name": arg.name}
        if arg.has_default_value():
            row["default"] = argument(arg.default_value, name)
        rows.append(row)
    return rows


def main() -> None:
    operators, table = map(Path, sys.argv[1:])
    names = sorted(operators.read_text().split())
    rows = [f"{json.dumps(name)}: {json.dumps(arguments(name))}" for name in names]
    table.write_text("{\n" + ",\n".join(rows) + "\n}\n")


if __name__ == "__main__":
    main()
