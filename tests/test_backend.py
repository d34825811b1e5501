"""Registration, options, errors, training, models."""

import subprocess
import sys
import warnings

import pytest
import torch
from ipex.backend import check_version
from ipex.errors import CompileError
from torch import nn


def test_registered_without_an_import():
    code = "import torch; assert 'ipex' in torch.compiler.list_backends(None)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "options, error", [({"stict": True}, "valid options: strict: bool"), ({"strict": 1}, "bool")]
)
def test_bad_options(options, error):
    f = torch.compile(lambda x: x + 1, backend="ipex", options=options)
    with pytest.raises(Exception, match=error):
        f(torch.ones(2))


def test_training_is_right():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 1))
    x = torch.randn(4, 8)
    model(x).sum().backward()
    want = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    torch.compile(model, backend="ipex")(x).sum().backward()
    for p, w in zip(model.parameters(), want, strict=True):
        torch.testing.assert_close(p.grad, w)


def test_what_cannot_be_compiled_warns_once_and_runs():
    x = torch.randn(4)
    f = torch.compile(lambda x: torch.view_as_real(x * 1j).sum(), backend="ipex")
    with torch.no_grad(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        got = [f(x) for _ in range(2)]
    want = torch.view_as_real(x * 1j).sum()
    torch.testing.assert_close(got, [want, want])
    assert sum("ipex" in str(w.message) for w in caught) <= 1


def test_sizes_may_change():
    f = torch.compile(lambda x: (x * 2).sum(-1), backend="ipex")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for n in (3, 5, 9):
            x = torch.randn(4, n)
            torch.testing.assert_close(f(x), (x * 2).sum(-1))


def test_a_changed_weight_counts():
    model = nn.Linear(4, 4)
    f = torch.compile(model, backend="ipex", options={"strict": True})
    x = torch.randn(2, 4)
    with torch.no_grad():
        f(x)
        model.weight.data = model.weight.data * 2
        model.bias.data.add_(1)
        torch.testing.assert_close(f(x), model(x))


def transformer():
    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
    return nn.TransformerEncoder(layer, 2), torch.randn(2, 10, 64)


def convnet():
    block = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Hardswish(), nn.MaxPool2d(2)]
    return nn.Sequential(*block, nn.Flatten(), nn.Linear(8 * 16, 5)), torch.randn(2, 3, 8, 8)


@pytest.mark.parametrize("build", [transformer, convnet])
def test_models(build):
    model, x = build()
    model.eval()
    with torch.no_grad():
        got = torch.compile(model, backend="ipex", options={"strict": True})(x)
        torch.testing.assert_close(got, model(x))


@pytest.mark.parametrize("version", ["2.10.1", "2.16.0a0+git1234", "3.0"])
def test_unsupported_pytorch_is_named(version):
    with pytest.raises(CompileError, match="PyTorch 2.11 to 2.15; this is " + version[:3]):
        check_version(version)


def test_supported_pytorch():
    for version in ("2.11.0+cpu", "2.15.1"):
        check_version(version)
