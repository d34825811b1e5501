"""Arguments of which kernels get addresses instead of handles (backend/src/py/bridge.rs)."""

import subprocess
import sys

import pytest
import torch
from ipex.errors import CompileError, FallbackWarning
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

FUNCTION = "_torchinductor_pyobject_tensor_data_ptr"
STRICT = {"backend": "ipex", "options": {"strict": True}}


def f(x):
    return x.sin() * 2 + 1


def zero_size():
    return torch.randn(0, 5)


ARGUMENTS = {
    "plain": lambda: torch.randn(7, 5),
    "parameter": lambda: nn.Parameter(torch.randn(7, 5)),
    "view": lambda: torch.randn(9, 5)[2:],
    "columns": lambda: torch.randn(7, 11)[:, 3:8],
    "transposed": lambda: torch.randn(5, 7).t(),
    "expanded": lambda: torch.randn(1, 5).expand(7, 5),
    "leaf": lambda: torch.randn(7, 5, requires_grad=True),
    "not_leaf": lambda: torch.randn(7, 5, requires_grad=True) * 1,
    "zero_size": zero_size,
    "scalar": lambda: torch.tensor(2.0),
    "buffer": lambda: nn.Buffer(torch.randn(7, 5)),
}


class Named(torch.Tensor):
    """A subclass without a function of its own."""


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments(name, graphs):
    compiled = torch.compile(f, dynamic=False, **STRICT)
    with torch.no_grad():
        for _ in range(3):
            x = ARGUMENTS[name]()
            torch.testing.assert_close(compiled(x), f(x))
    assert len(graphs) == 1


@pytest.mark.parametrize("cold", [False, True])
def test_subclasses(cold):
    compiled = torch.compile(f, dynamic=False, **STRICT)
    if not cold:
        compiled(torch.randn(7, 5))
    for _ in range(2):
        x = torch.randn(7, 5).as_subclass(Named)
        torch.testing.assert_close(compiled(x), f(x))


def test_written():
    compiled = torch.compile(lambda x: x.add_(1), dynamic=False, **STRICT)
    for _ in range(2):
        base = torch.zeros(6, 4)
        compiled(base[2:4])
        assert base.sum(1).tolist() == [0, 0, 4, 4, 0, 0]


def test_transforms_of_a_compiled_function():
    compiled = torch.compile(f, **STRICT)
    x = torch.randn(3, 4)
    for _ in range(2):
        compiled(x)
        compiled(x[0])
        torch.testing.assert_close(torch.func.vmap(compiled)(x), f(x))
        grad = torch.func.grad(lambda x: compiled(x).sum())
        torch.testing.assert_close(grad(x), x.cos() * 2)


def test_another_size_or_place_in_the_same_tensor():
    compiled = torch.compile(f, dynamic=False, **STRICT)
    x = torch.randn(8)
    for n in (8, 3, 100_000):
        x.resize_(n).fill_(n)
        torch.testing.assert_close(compiled(x), f(x))
    x.data = torch.randn(100_000)
    torch.testing.assert_close(compiled(x), f(x))
    x.set_(torch.randn(200_000)[5:100_005])
    torch.testing.assert_close(compiled(x), f(x))


def test_another_device():
    compiled = torch.compile(f, dynamic=False, **STRICT)
    compiled(torch.randn(8))
    with pytest.raises(Exception, match="not on the CPU"):
        compiled(torch.empty(8, device="meta"))


def no_memory(kind):
    x = torch.randn(16)
    if kind == "fake":
        return FakeTensorMode().from_tensor(x)
    if kind == "view":
        x = x[8:]
    x.untyped_storage().resize_(0)
    return x


@pytest.mark.parametrize("kind", ["fake", "storage", "view"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_no_memory(kind, dynamic):
    """It passes the guards."""
    compiled = torch.compile(f, dynamic=dynamic, **STRICT)
    x = no_memory(kind)
    compiled(torch.randn(x.shape))
    with pytest.raises(CompileError, match="argument . has no memory"):
        compiled(x)


def test_no_memory_where_data_decide_a_size():
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        compiled = torch.compile(lambda x: x[x > 0].sin() * 2, dynamic=False, **STRICT)
        x = no_memory("storage")
        compiled(torch.randn(16))
        with pytest.raises(CompileError, match="argument . has no memory"):
            compiled(x)


def test_fake_tensors_without_strict_mode():
    compiled = torch.compile(f, backend="ipex", dynamic=False)
    x = torch.randn(16)
    compiled(x)
    with FakeTensorMode() as mode, pytest.warns(FallbackWarning, match="no memory"):
        assert compiled(mode.from_tensor(x)).shape == x.shape


def test_negated_without_memory_of_its_own():
    x = torch.randn(4, dtype=torch.complex64)
    compiled = torch.compile(f, backend="ipex")
    torch.testing.assert_close(compiled(x.imag), f(x.imag))
    assert x.conj().imag.is_neg()
    with pytest.warns(FallbackWarning, match="negative"):
        torch.testing.assert_close(compiled(x.conj().imag), f(x.conj().imag))


def test_a_pytorch_without_the_function():
    """All of these tests by handles: it is looked up once for a process."""
    script = f"""
import sys, pytest, torch
from torch._C._dynamo import guards
del guards.{FUNCTION}
args = ["-q", "-p", "no:cacheprovider", "-k", "not without_the_function"]
sys.exit(pytest.main([*args, {__file__!r}]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
