"""Cases of `test_gpu.py`, in a process that has a GPU: `python gpu_models.py CASE...`."""

from __future__ import annotations

import os
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from recording import COMPILED


def compiled(f: Any, freezing: bool = False) -> Any:
    options = {"device": "gpu", "strict": True, "freezing": freezing}
    return torch.compile(f, backend="ipex", options=options)


def tensor(result: Any) -> torch.Tensor:
    """A model's result."""
    for name in ("logits", "last_hidden_state"):
        result = getattr(result, name, result)
    return result


def check(
    model: nn.Module,
    args: tuple[Any, ...],
    bound: float,
    round_trips: int = 0,
    at_most: int | None = None,
) -> None:
    """Compares with eager, and prints what the second call did; `at_most` so many launches."""
    model.eval()
    with torch.no_grad():
        want = tensor(model(*args))
        run = compiled(model, freezing=True)
        run(*args)
        before = [c.gpu_counts for c in COMPILED]
        got = tensor(run(*args))
    error = (got.float() - want.float()).abs().max() / (1 + want.float().abs().max())
    after = [c.gpu_counts for c in COMPILED]
    launches, up, down, trips, _, blocks = (
        sum(b[k] - a[k] for a, b in zip(before, after, strict=True)) for k in range(6)
    )
    left = Counter(why for c in COMPILED for why in c.gpu_left_to_cpu)
    print(
        f"{type(model).__name__}: error {error:.1e}, a call: {launches} launches, {up} uploads,"
        f" {down} downloads, {trips} round trips, {blocks} products of 2D blocks; left to the"
        f" CPU: {dict(left) or 'nothing'}"
    )
    assert error <= bound
    assert launches > 0
    assert trips <= round_trips
    assert at_most is None or launches <= at_most, launches


def mlp(dtype: torch.dtype = torch.float32, bound: float = 1e-5, launches: int = 3) -> None:
    layers = (nn.Linear(64, 130), nn.GELU(), nn.LayerNorm(130), nn.Linear(130, 10))
    # Two products, of which the first ends in the activation, and the norm.
    x = torch.randn(9, 64, dtype=dtype)
    check(nn.Sequential(*layers).to(dtype), (x,), bound, 0, launches)


def mlp_bf16() -> None:
    # Where there are matrix instructions, rows of 260 bytes are copied for them.
    mlp(torch.bfloat16, 2e-2, 4)


class Fused(nn.Module):
    """Each product and what follows it is one launch, but for the second, which two others read."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation
        self.a, self.b = nn.Linear(32, 64), nn.Linear(64, 32)
        self.c, self.d = nn.Linear(32, 32, bias=False), nn.Linear(32, 32, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.b(self.activation(self.a(x))) + x
        x = self.activation(self.c(x) * 0.5) + x
        y = self.d(x)
        return torch.sin(y) + torch.cos(y @ self.c.weight)


def epilogues(dtype: torch.dtype = torch.float32, bound: float = 1e-5) -> None:
    for activation in (nn.ReLU(), nn.GELU(), nn.GELU("tanh"), nn.SiLU()):
        torch._dynamo.reset()
        COMPILED.clear()
        # Five products and the sum of sines.
        check(Fused(activation).to(dtype), (torch.randn(5, 32, dtype=dtype),), bound, 0, 6)


def epilogues_bf16() -> None:
    epilogues(torch.bfloat16, 2e-2)


def precision() -> None:
    """f32 products in the precision that the person asked for: numbers, and which kernel ran."""
    a, b = torch.randn(40, 70), torch.randn(70, 64)
    exact = a.double() @ b.double()
    rounded = a.bfloat16().double() @ b.bfloat16().double()

    def far(x: torch.Tensor, y: torch.Tensor) -> float:
        return float((x - y).abs().max())

    launched = {}
    for name in ("highest", "high", "medium"):
        torch.set_float32_matmul_precision(name)
        for form, x in (("rows", a), ("columns", a.t().contiguous().t())):
            torch._dynamo.reset()
            COMPILED.clear()
            got = compiled(lambda a, b: a @ b)(x, b).double()
            launched[name, form], *_, blocks = COMPILED[0].gpu_counts
            assert blocks == (name == "medium" and os.environ.get("ZE_CPU_DEVICE") == "hpc")
            print(name, form, f"{far(got, exact):.1e} {far(got, rounded):.1e}", launched)
            if name == "medium":
                assert far(got, rounded) <= 1e-4 and far(got, exact) > 1e-3
            else:
                assert far(got, exact) <= 1e-4
    # By matrix instructions both operands are rounded first, by kernels of their own.
    want = {"highest": 1, "high": 1, "medium": 3}
    assert launched == {(name, form): want[name] for name, form in launched}


def blocks() -> None:
    """Products that can read 2D blocks pack nothing, unless it is once and for all; others do."""
    kinds = [
        # Columns of the weight, rows of the first matrix, whether frozen; launches of two calls.
        (64, 40, False, (1, 1), 1),
        (64, 3, False, (1, 1), 1),
        (64, 40, True, (2, 1), 1),
        (70, 40, False, (3, 3), 1),  # rows of 140 bytes: copied, and the copy is read so
        (24, 40, False, (3, 3), 1),  # of 48
    ]
    for depth, rows, freezing, launches, reads in kinds:
        torch._dynamo.reset()
        COMPILED.clear()
        model = nn.Linear(depth, 96, dtype=torch.bfloat16)
        x = torch.randn(rows, depth, dtype=torch.bfloat16)
        with torch.no_grad():
            run = compiled(model, freezing)
            got = []
            for _ in launches:
                before = COMPILED[0].gpu_counts if COMPILED else [0] * 6
                torch.testing.assert_close(run(x), model(x), rtol=2e-2, atol=2e-2)
                after = COMPILED[0].gpu_counts
                got.append(after[0] - before[0])
                assert after[5] - before[5] == reads, (depth, rows, after)
        print(depth, rows, freezing, got)
        assert tuple(got) == launches, (depth, rows, freezing)
    # Both operands of a product of activations, and its transpose.
    torch._dynamo.reset()
    COMPILED.clear()
    a, b = (torch.randn(2, 48, 48, dtype=torch.float16) for _ in range(2))
    with torch.no_grad():
        got = compiled(lambda a, b: torch.relu(a @ b) @ b.transpose(1, 2))(a, b)
    between = torch.relu(a.double() @ b.double()).half().double()
    want = between @ b.double().transpose(1, 2)
    torch.testing.assert_close(got.double(), want, rtol=1e-3, atol=1e-2)
    assert COMPILED[0].gpu_counts[0] == COMPILED[0].gpu_counts[5] == 2, COMPILED[0].gpu_counts


class Quantized(nn.Module):
    """Linear layers of bytes: activations are quantized by a number, weights by row."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        pairs = list(zip(sizes, sizes[1:], strict=False))
        for n, (depth, outputs) in enumerate(pairs):
            bytes_ = torch.randint(-128, 128, (outputs, depth), dtype=torch.int8)
            self.register_buffer(f"weight{n}", bytes_)
            self.register_buffer(f"scale{n}", torch.rand(outputs) / depth / 50)
        self.layers = len(pairs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for n in range(self.layers):
            x = torch.clamp(torch.round(x * 50.0), -128, 127).to(torch.int8)
            sums = torch._int_mm(x, getattr(self, f"weight{n}").t())
            x = torch.relu(sums.float() * getattr(self, f"scale{n}"))
        return x


def quantized() -> None:
    """Products of bytes: exact, in few rows and in many, depths read in place and copied."""
    for rows, sizes in ((3, [64, 128, 40]), (70, [64, 128, 40]), (33, [70, 65, 50])):
        torch._dynamo.reset()
        COMPILED.clear()
        model, x = Quantized(sizes), torch.randn(rows, sizes[0])
        with torch.no_grad():
            got, want = compiled(model)(x), model(x)
        left = COMPILED[0].gpu_left_to_cpu
        print(rows, sizes, COMPILED[0].gpu_counts, left)
        assert torch.equal(got, want)
        # Devices without matrix instructions leave them to the CPU, and say so.
        assert left == [] or os.environ.get("ZE_CPU_DEVICE") not in ("hpg", "hpc")
        assert all("no matrix instructions" in why for why in left)


def training() -> None:
    """Gradients of a step against eager's."""
    model = nn.Sequential(nn.Linear(20, 33), nn.Tanh(), nn.Linear(33, 5))
    x, y = torch.randn(16, 20), torch.randn(16, 5)

    def loss(x: torch.Tensor) -> torch.Tensor:
        return (model(x) - y).square().mean()

    loss(x).backward()
    want = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    compiled(loss)(x).backward()
    for p, w in zip(model.parameters(), want, strict=True):
        torch.testing.assert_close(p.grad, w, rtol=1e-4, atol=1e-5)
    assert sum(c.gpu_counts[0] for c in COMPILED) > 0


def frozen_and_stale() -> None:
    """Without freezing no result comes from a stale weight, also one changed through `.data`."""
    model = nn.Linear(8, 4)
    x = torch.randn(3, 8)
    with torch.no_grad():
        run = compiled(model)
        torch.testing.assert_close(run(x), model(x))
        model.weight.data.mul_(2)
        torch.testing.assert_close(run(x), model(x))
        uploads = COMPILED[0].gpu_counts[1]
        assert uploads == 6, uploads  # x, weight and bias, twice


def bert(dtype: torch.dtype = torch.float32, bound: float = 1e-5, launches: int = 21) -> None:
    from transformers import BertConfig, BertModel

    model = BertModel(BertConfig(num_hidden_layers=2)).to(dtype)
    check(model, (torch.randint(0, 30000, (1, 33)),), bound, 0, launches)


def bert_bf16() -> None:
    # Keys and values of two attentions are packed for matrix instructions.
    bert(torch.bfloat16, 2e-2, 25)


def gpt2(dtype: torch.dtype = torch.float32, bound: float = 1e-5, launches: int = 17) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    # The last product has few columns: the instructions of a GPU are slow on a CPU.
    config = GPT2Config(n_layer=2, use_cache=False, vocab_size=5000)
    model = GPT2LMHeadModel(config).to(dtype)
    check(model, (torch.randint(0, 5000, (1, 33)),), bound, 0, launches)


def gpt2_bf16() -> None:
    # As of BERT.
    gpt2(torch.bfloat16, 2e-2, 21)


def attention() -> None:
    """Ragged sizes, masks and types against f64, by matrix instructions where there are any."""
    bounds = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
    sizes = [(1, 17, 64, 64), (19, 50, 64, 64), (33, 33, 40, 40), (9, 70, 96, 96)]
    worst, attentions = dict.fromkeys(bounds, 0.0), dict.fromkeys(bounds, 0)
    for dtype in bounds:
        for queries, keys, depth, width in sizes:
            # Heads lie beside each other, as models have them. Late scores may be far above.
            q = torch.randn(2, queries, 4, depth).to(dtype).transpose(1, 2)
            k = torch.randn(2, keys, 2, depth).to(dtype).transpose(1, 2)
            v = torch.randn(2, 2, keys, width).to(dtype)
            if queries == 19:
                k[:, :, 32:] *= 6
                v *= 0.5
            mask = torch.rand(2, 1, queries, keys) < 0.7
            mask[0, 0, 0] = False  # a row that sees nothing
            masks = [None, mask, torch.randn(queries, keys).to(dtype)]
            for how in [*masks, "causal"]:
                wide = depth > 64 and (how is masks[2] or dtype == torch.float16)
                if dtype != torch.float32 and wide:
                    continue  # a module for each: as for the other depths and for bf16
                options: dict[str, Any] = {"enable_gqa": True}
                options |= {"is_causal": True} if how == "causal" else {"attn_mask": how}

                def f(*qkv: torch.Tensor, options: dict[str, Any] = options) -> torch.Tensor:
                    return F.scaled_dot_product_attention(*qkv, **options)

                torch._dynamo.reset()
                COMPILED.clear()
                with torch.no_grad():
                    got = compiled(f)(q, k, v)
                    if isinstance(options.get("attn_mask"), torch.Tensor) and how is masks[2]:
                        options["attn_mask"] = how.double()
                    want = f(q.double(), k.double(), v.double(), options=options)
                error = (got.double() - want).abs().max().item()
                # Some of these PyTorch decomposes itself.
                ours = COMPILED[0].attentions == 1 and COMPILED[0].gpu_left_to_cpu == []
                attentions[dtype] += ours
                assert error <= bounds[dtype], (dtype, queries, keys, depth, width, how, error)
                worst[dtype] = max(worst[dtype], error)
    for dtype, n in attentions.items():
        print(f"{dtype}: {n} attentions, error {worst[dtype]:.1e}")
        assert n >= 5


def bags() -> None:
    """What has no GPU kernel is computed on the CPU in between, and goes on to the GPU."""
    table, layer = nn.EmbeddingBag(20, 16, mode="sum"), nn.Linear(16, 40)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.layer = table, layer

        def forward(self, indices: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
            return torch.tanh(self.layer(self.table(indices, offsets) + 1))

    args = (torch.randint(0, 20, (30,)), torch.arange(0, 30, 3))
    check(Model(), args, 1e-5, 0)
    assert any("bags" in why for c in COMPILED for why in c.gpu_left_to_cpu)


def resnet(dtype: torch.dtype = torch.float32, bound: float = 1e-4, at_most: int = 26) -> None:
    import torchvision

    # 20 convolutions, two poolings, a product, and three kernels that each follow two convolutions.
    model = torchvision.models.resnet18().to(dtype)
    check(model, (torch.randn(1, 3, 64, 64, dtype=dtype),), bound, 0, at_most)


def resnet_bf16() -> None:
    # The windows of each image are packed for the matrix instructions.
    resnet(torch.bfloat16, 2e-2, 46)


def convolutions() -> None:
    """Shapes, groups and layouts of convolutions and pooling of narrow types against f32."""
    shapes: list[tuple[Any, ...]] = [
        # images, inputs, height, width, outputs, kernel, and others
        (2, 3, 11, 9, 16, 3, {"padding": 1, "stride": 2}),
        (1, 8, 7, 7, 40, 1, {}),
        (2, 12, 8, 10, 24, (3, 2), {"groups": 2, "dilation": 2}),
        (1, 6, 9, 9, 6, 3, {"groups": 6, "padding": 1}),
        (3, 4, 6, 7, 9, 5, {"bias": False}),
        (1, 16, 6, 6, 8, 3, {"padding": (2, 0)}),
    ]
    for dtype, bound in ((torch.bfloat16, 1e-2), (torch.float16, 2e-3)):
        for n, inputs, height, width, outputs, kernel, others in shapes:
            torch._dynamo.reset()
            COMPILED.clear()
            layers = [nn.Conv2d(inputs, outputs, kernel, **others), nn.SiLU()]
            model = nn.Sequential(*layers, nn.MaxPool2d(2, 1)).to(dtype).eval()
            x = torch.randn(n, inputs, height, width).to(dtype)
            with torch.no_grad():
                got = compiled(model)(x)
                want = model.float()(x.float())
            error = ((got.float() - want).abs() / (1 + want.abs())).max().item()
            left = COMPILED[0].gpu_left_to_cpu
            print(dtype, tuple(want.shape), f"{error:.1e}, {COMPILED[0].gpu_counts}")
            assert got.shape == want.shape and error <= bound and left == []


def edges() -> None:
    """Batched products and attention of no or one batch, row, column or element."""
    sizes = [
        *((0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0), (1, 1, 1, 1), (3, 1, 7, 1)),
        *((1, 9, 1, 6), (2, 1, 64, 1), (1, 40, 64, 1), (2, 1, 64, 40), (0, 0, 0, 0)),
    ]
    for dtype, bound in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
        for batch, m, k, n in sizes:
            a, b = torch.randn(batch, m, k).to(dtype), torch.randn(batch, k, n).to(dtype)
            c = torch.randn(batch, m, n).to(dtype)
            kinds: list[Callable[..., torch.Tensor]] = [
                lambda a, b, c: torch.relu(a @ b),
                lambda a, b, c: torch.baddbmm(c, a, b, beta=0.5, alpha=2),
            ]
            for f in kinds:
                _same(f, (a, b, c), bound, (dtype, batch, m, k, n))
        for batch, queries, keys, depth in [
            *((0, 3, 3, 8), (1, 0, 4, 8), (1, 3, 1, 8), (1, 1, 1, 1), (2, 1, 5, 16)),
            *((1, 3, 0, 8), (2, 17, 1, 1), (0, 0, 0, 8), (1, 1, 70, 64)),
        ]:
            q, k, v = (torch.randn(batch, 2, s, depth).to(dtype) for s in (queries, keys, keys))
            for causal in (False, True):

                def attend(*qkv: torch.Tensor, causal: bool = causal) -> torch.Tensor:
                    return F.scaled_dot_product_attention(*qkv, is_causal=causal) + 1

                _same(attend, (q, k, v), bound, (dtype, batch, queries, keys, depth, causal))


def _same(f: Any, args: tuple[torch.Tensor, ...], bound: float, what: object) -> None:
    """A result is eager's, NaN too, also in a second call."""
    torch._dynamo.reset()
    COMPILED.clear()
    with torch.no_grad():
        want, run = f(*args), compiled(f)
        for _ in range(2):
            got = run(*args)
            assert got.shape == want.shape and got.dtype == want.dtype, what
            torch.testing.assert_close(
                got, want, rtol=bound, atol=bound, equal_nan=True, msg=lambda m: f"{what}: {m}"
            )
    print(what, [c.gpu_counts[0] for c in COMPILED], [c.gpu_left_to_cpu for c in COMPILED])


def profile() -> None:
    """`IPEX_PROFILE` prints what each step took on the device."""
    import os
    import tempfile

    os.environ["IPEX_PROFILE"] = "2"
    model = nn.Sequential(nn.Linear(64, 130), nn.GELU(), nn.LayerNorm(130))
    kept = os.dup(2)
    with torch.no_grad(), tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        run = compiled(model)
        for _ in range(2):
            run(torch.randn(9, 64))
        os.dup2(kept, 2)
        file.seek(0)
        text = file.read().decode()
    del os.environ["IPEX_PROFILE"]
    print(text)
    rows = [line.split(maxsplit=2) for line in text.splitlines() if "#" in line]
    launched = [row for row in rows if "addmm" in row[2] or "kernel" in row[2]]
    assert len(launched) == 2, rows
    assert all(float(row[0]) > 0 for row in launched), rows


def channels_last() -> None:
    """Convolutions and pooling in channels-last order stay on the device, with what follows."""
    shapes: list[tuple[Any, ...]] = [
        # images, inputs, height, width, outputs, kernel, others; launches with frozen weights
        (2, 3, 11, 9, 16, 3, {"padding": 1, "stride": 2}, 2),  # windows and product
        (2, 64, 7, 6, 40, 1, {}, 1),  # pixels in place
        (1, 6, 9, 9, 5, 1, {}, 1),  # few outputs: directly
        (2, 12, 8, 10, 24, (3, 2), {"groups": 2, "dilation": 2}, 1),  # groups: directly
        (1, 16, 6, 6, 8, 3, {"padding": (2, 0), "bias": True}, 3),  # a kernel after the bias
    ]
    for dtype, bound in ((torch.bfloat16, 1e-2), (torch.float16, 2e-3), (torch.float32, 1e-5)):
        for n, inputs, height, width, outputs, kernel, others, launches in shapes:
            torch._dynamo.reset()
            COMPILED.clear()
            options = {"bias": False} | others
            norm = nn.BatchNorm2d(outputs)
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            layers = [nn.Conv2d(inputs, outputs, kernel, **options), norm, nn.ReLU()]
            model = nn.Sequential(*layers, nn.MaxPool2d(2, 1)).to(dtype).eval()
            if n == 2:  # the weight as well
                model = model.to(memory_format=torch.channels_last)
            x = torch.randn(n, inputs, height, width).to(dtype)
            x = x.to(memory_format=torch.channels_last)
            with torch.no_grad():
                run = compiled(model, freezing=True)
                run(x)
                before = COMPILED[0].gpu_counts[0]
                got = run(x)
                want = model.float()(x.float())
            error = ((got.float() - want).abs() / (1 + want.abs())).max().item()
            left, did = COMPILED[0].gpu_left_to_cpu, COMPILED[0].gpu_counts[0] - before
            print(dtype, tuple(want.shape), f"{error:.1e}, {did} launches", left)
            assert got.shape == want.shape and error <= bound and left == []
            assert got.stride() == want.stride()
            # And the pooling; of f32 there are no windows.
            assert did == 1 + (launches if dtype != torch.float32 else max(1, launches - 1)), did


def resnet_last(dtype: torch.dtype = torch.bfloat16, bound: float = 2e-2) -> None:
    import torchvision

    model = torchvision.models.resnet18().to(dtype).to(memory_format=torch.channels_last)
    x = torch.randn(1, 3, 64, 64, dtype=dtype).to(memory_format=torch.channels_last)
    check(model, (x,), bound, 0)


def run(name: str) -> bool:
    """Runs a case, and says on a line of its own how it ended."""
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("highest")
    torch._dynamo.reset()
    COMPILED.clear()
    try:
        globals()[name]()
        passed = True
    except Exception:
        traceback.print_exc(file=sys.stdout)
        passed = False
    print(f"--- {name} {'passed' if passed else 'failed'}", flush=True)
    return passed


if __name__ == "__main__":
    sys.exit(not all([run(name) for name in sys.argv[1:]]))
