"""Cases of `test_xpu.py`, in a process with the tests' `xpu` device: `python models.py CASE...`."""

from __future__ import annotations

import copy
import os
import sys
import threading
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import device as xpu
import torch
import torch.nn as nn
import torch.nn.functional as F
from ipex.errors import FallbackWarning
from recording import COMPILED

SYCL = xpu.install()


def compiled(f: Any, **options: Any) -> Any:
    torch._dynamo.reset()
    COMPILED.clear()
    return torch.compile(f, backend="ipex", options={"strict": True, **options})


def counts() -> Counter[str]:
    names = ("launches", "uploads", "downloads", "round trips")
    total = Counter({name: 0 for name in names})
    for one in COMPILED:
        total.update(dict(zip(names, one.gpu_counts, strict=False)))
    return total


def reasons() -> list[str]:
    return [why for c in COMPILED for why in c.gpu_left_to_cpu]


def tensors(results: Any) -> list[torch.Tensor]:
    return [results] if isinstance(results, torch.Tensor) else list(results)


def there(x: Any) -> Any:
    """On the device, as it lies here."""
    if not isinstance(x, torch.Tensor):
        return x
    span = x.untyped_storage().size() // x.element_size()
    whole = torch.as_strided(x.detach(), (span,), (1,), 0).to("xpu")
    return torch.as_strided(whole, x.shape, x.stride(), x.storage_offset())


def check(
    f: Any, args: tuple[Any, ...], bound: float = 1e-5, moved: int = 0, **options: Any
) -> Counter[str]:
    """Compares results, and the arguments afterwards, with eager on the CPU, in two calls; `moved`
    so many tensors go up or down in the second."""
    on_device = copy.deepcopy(f).to("xpu") if isinstance(f, nn.Module) else f
    run = compiled(on_device, **options)
    ours = tuple(there(a) for a in args)
    addresses = [a.data_ptr() for a in ours if isinstance(a, torch.Tensor)]
    for _ in range(2):
        before = counts()
        got = tensors(run(*ours))
        did = counts() - before
        want = tensors(f(*args))
        assert len(got) == len(want)
        pairs = [*zip(got, want, strict=True)]
        pairs += [(a, b) for a, b in zip(ours, args, strict=True) if isinstance(a, torch.Tensor)]
        for a, b in pairs:
            assert a.device == torch.device("xpu:0"), a.device
            assert (a.shape, a.stride(), a.dtype) == (b.shape, b.stride(), b.dtype)
            a, b = a.cpu().to(torch.complex128), b.to(torch.complex128)
            if a.numel():
                error, largest = (a - b).abs().max(), b.abs().max()
                assert error <= bound * (1 + largest), float(error)
    assert addresses == [a.data_ptr() for a in ours if isinstance(a, torch.Tensor)]
    print(dict(did), reasons())
    assert did["uploads"] + did["downloads"] == moved, did
    return did


DTYPES = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}


def linear() -> None:
    for dtype, bound in DTYPES.items():
        for freezing in (False, True):
            layer = nn.Linear(64, 130).to(dtype)
            did = check(layer, (torch.randn(9, 64, dtype=dtype),), bound, freezing=freezing)
            assert 1 <= did["launches"] <= 3, did


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(64), nn.LayerNorm(64)
        self.qkv, self.out = nn.Linear(64, 192), nn.Linear(64, 64)
        self.up, self.down = nn.Linear(64, 128), nn.Linear(128, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(self.before(x)).view(b, n, 3, 4, 16).permute(2, 0, 3, 1, 4)
        # In this build of PyTorch `scaled_dot_product_attention` knows nothing of the device.
        hidden = torch.ones(n, n, dtype=torch.bool, device=x.device).triu(1)
        scores = (q @ k.transpose(2, 3) * 0.25).masked_fill(hidden, -torch.inf)
        a = scores.softmax(-1) @ v
        x = x + self.out(a.transpose(1, 2).reshape(b, n, 64))
        return x + self.down(F.gelu(self.up(self.between(x))))


def block() -> None:
    for dtype, bound in DTYPES.items():
        check(Block().to(dtype).eval(), (torch.randn(2, 33, 64, dtype=dtype),), bound)


def attention() -> None:
    """What `scaled_dot_product_attention` is where PyTorch has the device."""
    fused = torch.ops.aten._scaled_dot_product_fused_attention_overrideable
    flash = torch.ops.aten._scaled_dot_product_flash_attention

    def ours(q: Any, k: Any, v: Any, mask: Any = None, causal: bool = False) -> torch.Tensor:
        return fused(q, k, v, mask, 0.0, causal, scale=0.3)[0]

    def ours_flash(q: Any, k: Any, v: Any) -> torch.Tensor:
        return flash(q, k, v, 0.0, True)[0]

    for dtype, bound in DTYPES.items():
        q, k, v = (torch.randn(2, 4, n, 16).to(dtype) for n in (9, 13, 13))
        mask = torch.randn(2, 1, 9, 13).to(dtype)
        sdpa = F.scaled_dot_product_attention
        for f, extra, want in (
            (ours, (), sdpa(q, k, v, scale=0.3)),
            (ours, (mask,), sdpa(q, k, v, mask, scale=0.3)),
            (ours, (None, True), sdpa(q, k, v, is_causal=True, scale=0.3)),
            (ours_flash, (), sdpa(q, k, v, is_causal=True)),
        ):
            args = [t.to("xpu") if isinstance(t, torch.Tensor) else t for t in (q, k, v, *extra)]
            got = compiled(f)(*args).cpu()
            assert (got - want).abs().max() <= bound * (1 + want.abs().max())
            assert [c.attentions for c in COMPILED] == [1], reasons()


def mutation() -> None:
    """An argument that is changed in place: whole, in part, to what PyTorch computes."""

    def whole(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        x.mul_(2).add_(w)
        return x @ w

    def part(x: torch.Tensor) -> torch.Tensor:
        x[1:3].sub_(1)
        return x.sum(0)

    def ordered(x: torch.Tensor) -> torch.Tensor:
        x.copy_(x.sort(1).values)
        return x * 2

    check(whole, (torch.randn(8, 8), torch.randn(8, 8)))
    check(part, (torch.randn(5, 7),))
    check(part, (torch.randn(7, 5).t(),))
    check(ordered, (torch.randn(5, 7),))
    check(ordered, (torch.randn(5, 14)[:, ::2],))


def calls() -> None:
    """Operators without a kernel of ours are PyTorch's on its device: nothing goes up or down."""

    def f(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch.linalg.inv(x @ w + torch.eye(8, device=x.device)) @ w

    check(f, (torch.randn(8, 8), torch.randn(8, 8)), 1e-2)
    assert reasons()[0] == "aten.linalg_inv_ex.default: no GPU kernel", reasons()

    def last(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return tuple(torch.linalg.qr(x))  # type: ignore[return-value]

    check(last, (torch.randn(6, 6),))
    # Of what a kernel has made in our arena, and of a constant.
    check(lambda x: (x * 2).sort(1).values + 1, (torch.randn(3, 9),))
    numbers = [3.0, 1.0, 2.0]
    check(lambda x: x + torch.tensor(numbers).to(x.device).sort().values, (torch.randn(3),))

    def noise(x: torch.Tensor) -> torch.Tensor:
        return (x + torch.rand_like(x)) * torch.rand(3, device=x.device)

    # A view of what is in our arena, which the next call uses again.
    run = compiled(lambda x: (x * 2).diagonal())
    x = torch.randn(3, 4, 4, device="xpu")
    first = run(x)
    run(x + 1)
    assert torch.equal(first.cpu(), 2 * x.cpu().diagonal()) and reasons(), reasons()

    # Memory that PyTorch would not take: the CPU does it.
    os.environ["IPEX_TEST_STRANGE_MEMORY"] = "1"
    try:
        check(lambda x: (x * 2).sort(1).values + 1, (torch.randn(3, 9),), moved=2)
    finally:
        del os.environ["IPEX_TEST_STRANGE_MEMORY"]

    x = torch.randn(4, 3, device="xpu")
    run = compiled(noise)
    for seed in (0, 1):
        torch.manual_seed(seed)
        want = noise(x)
        torch.manual_seed(seed)
        assert torch.allclose(run(x).cpu(), want.cpu())


def left_to_cpu() -> None:
    """Steps between kernels that the CPU does: right, and with a reason."""

    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.out = nn.Embedding(50, 32), nn.Linear(32, 8)

        def forward(self, words: torch.Tensor) -> torch.Tensor:
            return self.out(self.table(words))

    # The CPU looks at indices.
    check(Words(), (torch.randint(0, 50, (2, 5)),), moved=1)
    assert "indices are checked before they are used" in reasons()
    try:
        compiled(Words().to("xpu"))(torch.full((3,), 50, device="xpu"))
    except IndexError:
        pass
    else:
        raise AssertionError("an index out of range")


def layouts() -> None:
    """Arguments that are views: transposed, with gaps, at odd places, expanded, empty."""

    def f(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return F.relu(x @ w) + x.sum()

    for dtype, bound in DTYPES.items():
        w = torch.randn(64, 32, dtype=dtype)
        for x in (
            torch.randn(64, 9).t(),
            torch.randn(9, 131)[:, 1:129:2],
            torch.randn(9 * 64 + 1)[1:].view(9, 64),
            torch.randn(1, 64).expand(9, 64),
            torch.randn(0, 64),
        ):
            whole = x.as_strided((x.untyped_storage().size() // 4,), (1,), 0).to(dtype)
            x = whole.as_strided(x.shape, x.stride(), x.storage_offset())
            check(f, (x, w), 8 * bound)
            check(f, (x, w[:, ::2]), 8 * bound)
            check(f, (x, torch.randn(33, 64, dtype=dtype)[1:].t()), 8 * bound)
    check(lambda x, y: x * y + 1, (torch.randn(()), torch.randn(3)))


def results() -> None:
    """Results that are arguments, views of them, views of each other, of other types."""

    def f(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        z = x + y
        return z, z.t(), x, y[1:], (x > y), z.argmax(1), z.half(), z[0, 0]

    check(f, (torch.randn(4, 4), torch.randn(4, 4)), 1e-3)
    x, y = torch.randn(4, 4, device="xpu"), torch.randn(4, 4, device="xpu")
    z, t, same, part, *_ = compiled(f)(x, y)
    assert z.data_ptr() == t.data_ptr() and same is x and part._base is y
    assert part.data_ptr() == y.data_ptr() + 16


def constants() -> None:
    """Tensors that the program makes, on either device, and numbers that are CPU tensors."""

    def f(x: torch.Tensor) -> torch.Tensor:
        weights = torch.tensor([1.0, 2.0, 3.0], device=x.device)
        steps = torch.arange(3, device=x.device) + torch.ones(3, device=x.device)
        return x * weights + steps * torch.tensor(0.5)

    check(f, (torch.randn(2, 3),))
    x, number = torch.randn(5), torch.tensor(3.0)
    got = compiled(lambda x, n: x * n)(x.to("xpu"), number)
    assert torch.equal(got.cpu(), x * 3) and got.device.type == "xpu"


def order() -> None:
    """What PyTorch has queued before a call has run when the call reads it, and what is queued
    after finds its results."""
    run = compiled(lambda x: x * 2)
    x = torch.zeros(1000, device="xpu")
    run(x)
    kept = []
    for k in range(1, 20):
        value = torch.full((1000,), float(k))
        x.copy_(value)
        assert SYCL.xpu_pending() > 0
        kept.append(run(x))
        assert SYCL.xpu_pending() == 0
        # The device's memory as it is now, by a copy that waits for nobody else.
        assert torch.equal(xpu.now(SYCL, kept[-1]), 2 * value), k


def stale() -> None:
    """No result is from a stale weight; frozen ones are packed once and found where they are."""
    layer = nn.Linear(32, 32).to("xpu", torch.bfloat16)
    x = torch.randn(4, 32, device="xpu", dtype=torch.bfloat16)
    run = compiled(layer)
    for change in (lambda w: w.mul_(2), lambda w: w.data.add_(1)):
        run(x)
        change(layer.weight)
        want = F.linear(x.cpu(), layer.weight.cpu(), layer.bias.cpu())
        assert (run(x).cpu() - want).abs().max() <= 0.1
    layer.weight.data = torch.zeros_like(layer.weight)
    assert torch.equal(run(x).cpu(), layer.bias.cpu().expand(4, 32))
    frozen = compiled(layer, freezing=True)
    launches = []
    for _ in range(3):
        before = counts()
        frozen(x)
        launches.append((counts() - before)["launches"])
    assert launches[0] > launches[1] == launches[2], launches


def devices() -> None:
    """The `device` option beside tensors that are on a device already."""
    x = torch.ones(3, device="xpu")
    for fine in ("cpu", "auto", "gpu", "gpu:0", "xpu", "xpu:0"):
        assert compiled(lambda x: x + 1, device=fine)(x).device.type == "xpu"
        assert counts()["uploads"] == 0
    refuses(lambda: compiled(lambda x: x + 1, device="gpu:1")(x), "which is gpu:0")
    refuses(lambda: compiled(lambda x: x + 1, device="xpu:1")(x), "are on xpu:0")
    refuses(lambda: compiled(lambda x: x + 1, device="xpu")(x.cpu()), "no tensors of PyTorch's xpu")


def training() -> None:
    """Three steps with momentum: losses and parameters, and nothing moves."""
    layers = (nn.Linear(8, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 4))
    model = nn.Sequential(*layers)
    on_device = copy.deepcopy(model).to("xpu")
    x, losses = torch.randn(5, 8), []
    runs = ((model, model, x), (compiled(on_device), on_device, x.to("xpu")))
    with torch.enable_grad():
        for run, own, x in runs:
            optimizer = torch.optim.SGD(own.parameters(), lr=0.1, momentum=0.9)
            for _ in range(3):
                loss = run(x).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
    assert torch.allclose(torch.tensor(losses[:3]), torch.tensor(losses[3:])), losses
    for a, b in zip(model.parameters(), on_device.parameters(), strict=True):
        assert torch.allclose(a, b.cpu(), atol=1e-6)
    did = counts()
    assert did["launches"] and not did["uploads"] + did["downloads"], did


def refuses(f: Callable[[], Any], *texts: str) -> None:
    try:
        f()
    except Exception as error:
        said = str(error.__cause__ or error)
        assert "CompileError" in repr(error) + repr(error.__cause__) + said, repr(error)
        assert all(text in said for text in texts), said
    else:
        raise AssertionError(f"not refused: {texts}")


def mixed() -> None:
    """Tensors of several devices in a graph: an error with their names, or eager with a warning."""
    x, y = torch.ones(3, device="xpu"), torch.ones(3)

    def down(x: torch.Tensor) -> torch.Tensor:
        return x.cpu() + 1

    def up(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y.to("xpu")

    refuses(lambda: compiled(up)(x, y), "several devices: l_y_ ([3]) on cpu", "xpu:0")
    refuses(lambda: compiled(down)(x), "add: on cpu", "xpu:0")
    torch._dynamo.reset()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert torch.equal(torch.compile(up, backend="ipex")(x, y).cpu(), torch.full((3,), 2.0))
    assert any(w.category is FallbackWarning and "l_y_" in str(w.message) for w in caught)


def backend() -> None:
    """A queue of another backend, and one that there is not."""
    x = torch.ones(3, device="xpu")
    SYCL.xpu_backend(1)
    try:
        refuses(lambda: compiled(lambda x: x + 1)(x), "is OpenCL; Level Zero is needed")
    finally:
        SYCL.xpu_backend(2)
    assert torch.equal(compiled(lambda x: x + 1)(x).cpu(), torch.full((3,), 2.0))


def doubles() -> None:
    """Where the device has no f64 the CPU writes results and arguments, which lie on the device."""
    has = os.environ["ZE_CPU_DEVICE"] == "hpc"

    def f(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        z = x * y
        y.add_(1)
        return z, z.float() @ z.float()

    x, y = torch.randn(4, 4).double(), torch.randn(4, 4).double()
    check(f, (x, y), moved=0 if has else 5)


def types() -> None:
    """Types that no kernel has are PyTorch's."""
    x = torch.randn(4, 4, dtype=torch.complex64)
    check(lambda x: (x * 2, x.abs() + 1), (x,))
    check(lambda x: x // 2 + 1, (torch.randint(0, 100, (5,)),))


def sizes() -> None:
    """One trace for many sizes, and sizes that data decide."""
    torch._dynamo.reset()
    COMPILED.clear()
    run = torch.compile(
        lambda x: F.softmax(x @ x.t(), 1), backend="ipex", dynamic=True, options={"strict": True}
    )
    for n in (3, 5, 8):
        x = torch.randn(n, 4)
        want = F.softmax(x @ x.t(), 1)
        assert (run(x.to("xpu")).cpu() - want).abs().max() <= 1e-5
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        x = torch.tensor([1.0, 0.0, 2.0, 0.0, 3.0])
        got = compiled(lambda x: x[x.nonzero()].sum() + 1)(x.to("xpu"))
    assert got.item() == 7 and got.device.type == "xpu"


def threads() -> None:
    run = compiled(lambda x: x * 2 + 1)
    x = torch.ones(100, device="xpu")
    run(x)
    wrong = []

    def work(k: int) -> None:
        with torch.no_grad():
            for _ in range(5):
                if not torch.equal(run(x * k).cpu(), torch.full((100,), 2.0 * k + 1)):
                    wrong.append(k)

    all = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in all:
        t.start()
    for t in all:
        t.join()
    assert not wrong, wrong


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in sys.argv[1:]:
        torch.manual_seed(0)
        try:
            with torch.no_grad():
                globals()[name]()
        except Exception:
            traceback.print_exc()
        else:
            print(f"--- {name} passed", flush=True)
