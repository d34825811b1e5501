"""The fused kernels that benches compare: a function, and its arguments for a shape and a dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.optim.adamw import adamw as adamw_step

aten = torch.ops.aten
Tensor = torch.Tensor
Shape = tuple[int, int]
Case = Callable[[Shape, torch.dtype], tuple[Callable[..., Any], list[Any]]]

CASES: dict[str, Case] = {}


def case(build: Case) -> Case:
    """Adds a builder of a function and its arguments under its name."""
    CASES[build.__name__] = build
    return build


def pointwise(name: str, f: Callable[..., Any]) -> None:
    """Adds a function of two matrices, a row and a mask."""

    def build(shape: Shape, dtype: torch.dtype) -> tuple[Callable[..., Any], list[Any]]:
        x, y = torch.randn(shape, dtype=dtype), torch.randn(shape, dtype=dtype)
        # Only what the function takes counts as memory that it moves.
        args = {"x": x, "y": y, "b": torch.randn(shape[1], dtype=dtype)}
        args["m"] = torch.rand(shape) > 0.2
        names = f.__code__.co_varnames[: f.__code__.co_argcount]
        return f, [args[n] for n in names]

    CASES[name] = build


pointwise("bias_gelu", lambda x, b: F.gelu(x + b))
pointwise("bias_gelu_tanh", lambda x, b: F.gelu(x + b, approximate="tanh"))
pointwise("silu_mul", lambda x, y: F.silu(x) * y)
pointwise("layer_norm_residual", lambda x, y, b: F.layer_norm(x + y, (x.shape[-1],), b, b))
pointwise("rms_norm", lambda x, b: F.rms_norm(x, (x.shape[-1],), b, 1e-6))
pointwise("masked_softmax", lambda x, m: F.softmax(torch.where(m, x, -1e9), -1))
pointwise("axpy", lambda x, y: x + 2 * y)
pointwise("column_sum", lambda x: x.sum(0))
pointwise("variance", lambda x: x.var(-1))
pointwise("compare_chain", lambda x, y: torch.where((x > 0) & (y < x), x * y, (x - y).clamp(-1, 1)))
pointwise("sin_cos_chain", lambda x, y: torch.sin(x) * torch.cos(y) + torch.sin(x * y))
pointwise("pow_chain", lambda x, y: torch.pow(x.abs() + 0.5, y) + y.pow(3))


@case
def rotary(shape: Shape, dtype: torch.dtype) -> tuple[Callable[..., Any], list[Any]]:
    """Heads of 64 elements, rotated by the angle of their row (the halves of a head are pairs)."""

    def f(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x.view(x.shape[0], -1, 64)
        turned = torch.cat((-x[..., 32:], x[..., :32]), -1)
        return x * cos[:, None] + turned * sin[:, None]

    angle = torch.rand(shape[0], 32).repeat(1, 2)
    return f, [torch.randn(shape, dtype=dtype), angle.cos().to(dtype), angle.sin().to(dtype)]


@case
def transpose_add(shape: Shape, dtype: torch.dtype) -> tuple[Callable[..., Any], list[Any]]:
    def f(x: Tensor, y: Tensor) -> Tensor:
        return x.t() + y

    return f, [torch.randn(shape[::-1], dtype=dtype), torch.randn(shape, dtype=dtype)]


@case
def cross_entropy(shape: Shape, dtype: torch.dtype) -> tuple[Callable[..., Any], list[Any]]:
    return F.cross_entropy, [torch.randn(shape, dtype=dtype), torch.randint(shape[1], shape[:1])]


@case
def cross_entropy_backward(
    shape: Shape, dtype: torch.dtype
) -> tuple[Callable[..., Any], list[Any]]:
    """What autograd calls for the mean loss: the gradient of the logits."""

    def f(grad: Tensor, log_p: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        at = aten.nll_loss_backward(grad, log_p, target, None, 1, -100, weight)
        return aten._log_softmax_backward_data(at, log_p, 1, dtype)

    log_p = torch.randn(shape, dtype=dtype).log_softmax(-1)
    rows = torch.tensor(float(shape[0]), dtype=dtype)
    return f, [torch.tensor(1.0, dtype=dtype), log_p, torch.randint(shape[1], shape[:1]), rows]


@case
def layer_norm_backward(shape: Shape, dtype: torch.dtype) -> tuple[Callable[..., Any], list[Any]]:
    def f(grad: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, w: Tensor) -> Any:
        mask = [True] * 3
        return aten.native_layer_norm_backward(grad, x, shape[1:], mean, rstd, w, w, mask)

    x, w = torch.randn(shape, dtype=dtype), torch.randn(shape[1], dtype=dtype)
    _, mean, rstd = aten.native_layer_norm(x, shape[1:], w, w, 1e-5)
    return f, [torch.randn(shape, dtype=dtype), x, mean, rstd, w]


@case
def embedding_add_norm(shape: Shape, dtype: torch.dtype) -> tuple[Callable[..., Any], list[Any]]:
    def f(ids: Tensor, table: Tensor, position: Tensor, w: Tensor) -> Tensor:
        return F.layer_norm(F.embedding(ids, table) + position, shape[1:], w, w)

    table = torch.randn(4096, shape[1], dtype=dtype)
    position, w = torch.randn(shape, dtype=dtype), torch.randn(shape[1], dtype=dtype)
    return f, [torch.randint(4096, shape[:1]), table, position, w]


@case
def channels_last_norm(shape: Shape, dtype: torch.dtype) -> tuple[Callable[..., Any], list[Any]]:
    """Batch norm (statistics given) and ReLU of images whose pixels are the rows."""

    def f(x: Tensor, mean: Tensor, var: Tensor, w: Tensor) -> Tensor:
        return F.relu(F.batch_norm(x, mean, var, w, w))

    rows, channels = shape
    pixels = min(rows, 256)
    x = torch.randn(rows // pixels, pixels // 4, 4, channels, dtype=dtype).permute(0, 3, 1, 2)
    mean, w = torch.randn(channels, dtype=dtype), torch.randn(channels, dtype=dtype)
    return f, [x, mean, torch.rand(channels, dtype=dtype) + 0.5, w]


@case
def adamw(shape: Shape, dtype: torch.dtype) -> tuple[Callable[..., Any], list[Any]]:
    """One step over 100 tensors that have the shape's elements together; changes its arguments."""

    def f(*tensors: Tensor) -> None:
        p, g, m, v, step = (list(tensors[k::5]) for k in range(5))
        # What `torch.compile` sets in an optimizer.
        compiled = torch.compiler.is_compiling()
        adamw_step(
            p,
            g,
            m,
            v,
            [],
            step,
            foreach=compiled,
            capturable=compiled,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=1e-3,
            weight_decay=1e-2,
            eps=1e-8,
            maximize=False,
        )

    n = -(-shape[0] * shape[1] // 100)
    args: list[Any] = []
    for _ in range(100):
        args += [torch.randn(n, dtype=dtype), torch.randn(n, dtype=dtype)]
        args += [torch.rand(n, dtype=dtype), torch.rand(n, dtype=dtype), torch.tensor(3.0)]
    return f, args
