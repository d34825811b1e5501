"""Programs that torch.export.save writes, through ipexc: a process without Python."""

import json
import subprocess
from pathlib import Path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def ipexc():
    """Builds the program and finds it."""
    build = ["cargo", "build", "-q", "-p", "ipex-backend", "--bin", "ipexc"]
    done = subprocess.run(
        [*build, "--message-format=json"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    messages = map(json.loads, done.stdout.splitlines())
    return next(m["executable"] for m in messages if m.get("executable"))


def mlp():
    return nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4)), torch.randn(2, 8)


def encoder():
    return nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), torch.randn(2, 5, 16)


def convnet():
    block = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Hardswish(), nn.MaxPool2d(2)]
    return nn.Sequential(*block, nn.Flatten(), nn.Linear(8 * 16, 5)), torch.randn(2, 3, 8, 8)


# What must be fused: origins of nodes in one group.
FUSED = {
    mlp: [["gelu = aten.gelu.default"]],
    encoder: [["_softmax = aten._softmax.default", "eq = aten.eq.Scalar"]],
    convnet: [["add = aten.add.Tensor", "mul = aten.mul.Tensor", "div = aten.div.Tensor"]],
}


def explain(ipexc, path, *options):
    # No environment: nothing of Python or PyTorch can be found.
    command = [ipexc, "explain", *options, str(path)]
    return subprocess.run(command, env={}, check=True, capture_output=True, text=True).stdout


def groups(text):
    """Origins in each group."""
    found = []
    for line in text.splitlines():
        if line.startswith("group "):
            found.append([])
        elif line.startswith("    ") and found:
            found[-1].append(line.strip())
    return found


@pytest.mark.parametrize("build", FUSED)
def test_saved_programs(ipexc, build, tmp_path):
    torch.manual_seed(0)
    model, x = build()
    program = torch.export.export(model.eval(), (x,)).run_decompositions()
    path = tmp_path / f"{build.__name__}.pt2"
    torch.export.save(program, path)
    text = explain(ipexc, path)
    outputs = [n for n in program.graph.nodes if n.op == "output"]
    sizes = list(outputs[0].args[0][0].meta["val"].shape)
    assert f"; {build.__name__}/models/model.json" in text
    assert f"f32{sizes}" in text.split("\nreturn")[0].splitlines()[-1]
    for together in FUSED[build]:
        assert any(set(together) <= set(group) for group in groups(text)), text
    code = explain(ipexc, path, "--code")
    kernels = sum("kernel" in line.split("->")[0] for line in text.splitlines() if "->" in line)
    assert kernels > 0
    assert code.count("\nkernel (") >= kernels


def test_operators_that_are_not_decomposed_are_calls(ipexc, tmp_path):
    model, x = mlp()
    torch.export.save(torch.export.export(model, (x,)), tmp_path / "mlp.pt2")
    text = explain(ipexc, tmp_path / "mlp.pt2")
    assert "call aten.linear.default" in text


def test_symbolic_sizes_are_specialised(ipexc, tmp_path):
    model, x = mlp()
    sizes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(model, (x,), dynamic_shapes=sizes)
    torch.export.save(program, tmp_path / "mlp.pt2")
    text = explain(ipexc, tmp_path / "mlp.pt2")
    assert text.splitlines()[1].startswith("; for s") and text.splitlines()[1].endswith(" = 2")
    assert "f32[2, 8] = input 4" in text


def test_sizes_that_depend_on_data_are_refused(ipexc, tmp_path):
    class Nonzero(nn.Module):
        def forward(self, x):
            return x.nonzero() * 2

    program = torch.export.export(Nonzero(), (torch.ones(3),))
    torch.export.save(program, tmp_path / "nonzero.pt2")
    command = [ipexc, "explain", str(tmp_path / "nonzero.pt2")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "has no hint" in done.stderr


def test_a_truncated_archive_is_an_error(ipexc, tmp_path):
    model, x = mlp()
    path = tmp_path / "mlp.pt2"
    torch.export.save(torch.export.export(model, (x,)), path)
    path.write_bytes(path.read_bytes()[:-100])
    done = subprocess.run([ipexc, "explain", str(path)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "mlp.pt2: invalid document: archive: " in done.stderr


@pytest.mark.parametrize(
    ("then", "line"),
    [
        (nn.Hardswish(), "by oneDNN, Hardswish"),
        (nn.SiLU(), "oneDNN's SiLU is slower than a kernel"),
        (nn.ReLU(), "oneDNN's ReLU is another function of NaN or infinities"),
        (nn.Softplus(), "no post-op of oneDNN's"),
        (nn.Softmax(1), "not by oneDNN: _softmax = aten._softmax.default: "),
    ],
)
def test_what_onednn_computes(ipexc, tmp_path, then, line):
    model, x = nn.Sequential(nn.ConvTranspose2d(16, 12, 3, 2), then), torch.randn(2, 16, 9, 9)
    program = torch.export.export(model.eval(), (x,)).run_decompositions()
    torch.export.save(program, tmp_path / "model.pt2")
    assert line in explain(ipexc, tmp_path / "model.pt2")


def test_too_little_for_onednn(ipexc, tmp_path):
    model, x = nn.Sequential(nn.ConvTranspose2d(3, 4, 3), nn.Hardswish()), torch.randn(1, 3, 9, 9)
    program = torch.export.export(model.eval(), (x,)).run_decompositions()
    torch.export.save(program, tmp_path / "model.pt2")
    text = explain(ipexc, tmp_path / "model.pt2")
    assert "the convolution stays ATen's: 8748 multiplications are too few" in text


class Twice(torch.nn.Module):
    def forward(self, x):
        y = x * 2
        return y, (y + 1).sum()


class Apart(torch.nn.Module):
    def forward(self, x):
        y = x * 2
        return y, y @ y


def test_only_large_results_that_are_not_read_stream(ipexc, tmp_path):
    for model, size, streams in [
        (Twice(), 4096, True),
        (Twice(), 64, False),
        (Apart(), 4096, False),
    ]:
        path = tmp_path / "model.pt2"
        program = torch.export.export(model, (torch.zeros(size, size),))
        torch.export.save(program, path)
        assert ("stream f32" in explain(ipexc, path, "--code")) == streams
