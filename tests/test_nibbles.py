"""Weights of four bits as `aten._convert_weight_to_int4pack_for_cpu` packs them."""

import os
import subprocess
import sys

import pytest
import torch

STRICT = {"strict": True}
VECTORS = os.environ.get("IPEX_ISA") != "scalar"
BOUNDS = {torch.float32: 2e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}


class Nibbles(torch.nn.Module):
    def __init__(self, out, inner, group, dtype=torch.float32):
        super().__init__()
        self.group = group
        w = torch.randint(0, 16, (out, inner), dtype=torch.int32)
        self.register_buffer("w", torch.ops.aten._convert_weight_to_int4pack_for_cpu(w, 1))
        s = torch.stack([torch.rand(inner // group, out), torch.randn(inner // group, out)], -1)
        self.register_buffer("s", (s / inner).to(dtype))
        self.whole = w.double()

    def forward(self, x):
        return torch.ops.aten._weight_int4pack_mm_for_cpu(x, self.w, self.group, self.s)

    def in_f64(self, x):
        s, z = (f.t().repeat_interleave(self.group, 1) for f in self.s.double().unbind(-1))
        return x.double() @ ((self.whole - 8) * s + z).t()


def error_of(got, want):
    return ((got.double() - want).abs().max() / want.abs().max()).item()


def check(layer, rows, dtype, **options):
    x = torch.randn(rows, layer.whole.shape[1]).to(dtype)
    f = torch.compile(layer, backend="ipex", options={**STRICT, **options})
    with torch.no_grad():
        got = f(x)
        assert got.dtype is dtype and error_of(got, layer.in_f64(x)) < BOUNDS[dtype]
    return f, x


@pytest.mark.parametrize("freezing", [False, True], ids=["fresh", "frozen"])
@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("rows", [1, 3, 6, 16, 37])
@pytest.mark.parametrize("shape", [(64, 64, 32), (192, 256, 64), (128, 512, 256)], ids=str)
def test_weights_of_nibbles(shape, rows, dtype, freezing, graphs):
    layer = Nibbles(*shape, dtype)
    f, x = check(layer, rows, dtype, freezing=freezing)
    if not freezing:
        with torch.no_grad():
            layer.s.data.mul_(-3)
            assert error_of(f(x), layer.in_f64(x)) < BOUNDS[dtype]
    if VECTORS:
        assert graphs[0].of_bytes == 1 and graphs[0].calls == 0
        assert graphs[0].packed_bytes == 0


def test_what_follows_runs_on_parts_of_it(graphs):
    layer = Nibbles(192, 256, 64)
    f = torch.compile(lambda x: torch.relu(layer(x)) * 2 + x.sum(), backend="ipex", options=STRICT)
    for rows in (1, 3, 40):
        x = torch.randn(rows, 256)
        want = layer.in_f64(x).relu() * 2 + x.double().sum()
        assert error_of(f(x), want) < BOUNDS[torch.float32]
    if VECTORS:
        assert all(g.calls == 0 for g in graphs)


def test_nibbles_of_dynamic_rows(graphs):
    layer = Nibbles(128, 256, 32)
    f = torch.compile(layer, backend="ipex", options=STRICT, dynamic=True)
    with torch.no_grad():
        for rows in (5, 2, 33, 16, 17, 200):
            x = torch.randn(rows, 256)
            assert error_of(f(x), layer.in_f64(x)) < BOUNDS[torch.float32]
    if VECTORS:
        assert all(g.of_bytes == 1 for g in graphs)


def test_columns_that_fill_no_block_are_calls(graphs):
    check(Nibbles(80, 64, 32), 3, torch.float32)
    assert graphs[0].of_bytes == 0 and graphs[0].calls == 1


def test_other_operands_are_eager(graphs):
    """What eager refuses or reads differently is its own."""
    layer = Nibbles(64, 64, 32)
    f = torch.compile(layer, backend="ipex", options=STRICT)
    layer.group, layer.s = 16, torch.rand(4, 64, 2)
    with torch.no_grad(), pytest.raises(Exception, match="qGroupSize"):
        f(torch.randn(3, 64))
    layer = Nibbles(64, 64, 32)
    layer.s = layer.s.bfloat16()
    with torch.no_grad(), pytest.raises(Exception, match="expected scalar type"):
        torch.compile(layer, backend="ipex", options=STRICT)(torch.randn(3, 64))


@pytest.mark.parametrize("rows", [1, 20])
def test_factors_that_are_not_finite(rows):
    layer = Nibbles(128, 64, 32)
    layer.s[0, 3, 0], layer.s[1, 70, 1] = float("nan"), float("inf")
    f = torch.compile(layer, backend="ipex", options=STRICT)
    spoiled = torch.zeros(128, dtype=torch.bool)
    spoiled[[3, 70]] = True
    with torch.no_grad():
        assert torch.equal(f(torch.randn(rows, 64)).isfinite(), ~spoiled.expand(rows, 128))


CAPPED = """
import sys, torch
from ipex import _core
from tests.test_nibbles import BOUNDS, Nibbles, check
made, compile_document = [], _core.compile
def record(*args):
    made.append(compile_document(*args))
    return made[-1]
_core.compile = record
for dtype in BOUNDS:
    for rows in (1, 6, 40):
        torch._dynamo.reset()
        check(Nibbles(128, 256, 64, dtype), rows, dtype)
assert [g.of_bytes for g in made] == [int(sys.argv[1])] * 9, [g.of_bytes for g in made]
"""


@pytest.mark.parametrize("torch_isa", ["avx512", "avx2", "default"])
@pytest.mark.parametrize("isa", ["avx512", "avx2", "scalar"])
def test_layouts_of_instruction_sets(isa, torch_isa):
    """PyTorch packs for what it runs on, whatever runs here; other layouts are its own."""
    environment = {**os.environ, "IPEX_ISA": isa, "ATEN_CPU_CAPABILITY": torch_isa}
    read = isa != "scalar" and torch_isa != "default"
    command = [sys.executable, "-c", CAPPED, str(int(read))]
    subprocess.run(command, env=environment, check=True)
