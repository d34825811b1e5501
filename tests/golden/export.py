"""Writes bias_gelu.pt2, the saved program that backend/tests/export.rs reads."""

from pathlib import Path

import torch
from torch import nn


class BiasGelu(nn.Module):
    """A parameter, defaults that torch.export leaves out, and a symbolic size."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.gelu(x + self.bias).view(x.shape[0] * 3)


def main() -> None:
    batch = torch.export.Dim("batch")
    model, x = BiasGelu(), torch.randn(4, 3)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: batch},)).run_decompositions()
    for node in program.graph.nodes:
        # Paths of the machine that wrote it.
        node.meta.pop("stack_trace", None)
    torch.export.save(program, Path(__file__).parent / "bias_gelu.pt2")


if __name__ == "__main__":
    main()
