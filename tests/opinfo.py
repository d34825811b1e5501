"""OpInfo samples through the compiler, without Dynamo: trace, compile, compare with eager.

    python tests/opinfo.py [OP ...] [--samples N]

Prints one line for each operator and dtype: samples that passed, and calls that were not lowered.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from ipex import _core
from ipex.backend import LIBTORCH
from ipex.decompositions import table
from ipex.serialize import Unsupported, serialize
from torch.fx.experimental.proxy_tensor import make_fx
from torch.testing._internal.common_methods_invocations import op_db
from torch.utils import _pytree as pytree

DTYPES = (torch.float32, torch.bfloat16, torch.int64, torch.bool)

POINTWISE = """
    abs neg exp exp2 expm1 log log2 log10 log1p tanh erf erfc sin cos tan asin acos atan sinh
    cosh asinh acosh atanh sqrt rsqrt reciprocal sigmoid floor ceil trunc round sign signbit
    isnan isinf isfinite logical_not bitwise_not square add sub mul div true_divide floor_divide
    remainder fmod maximum minimum fmax fmin pow float_power atan2 hypot copysign eq ne lt le gt
    ge logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor bitwise_left_shift
    bitwise_right_shift where clamp clamp_min clamp_max lerp addcmul addcdiv masked_fill
    nan_to_num xlogy rsub heaviside nn.functional.relu nn.functional.gelu nn.functional.silu
    nn.functional.hardtanh nn.functional.hardsigmoid nn.functional.hardswish
    nn.functional.leaky_relu nn.functional.elu nn.functional.softplus nn.functional.mish
    nn.functional.relu6 nn.functional.logsigmoid deg2rad rad2deg frac positive
""".split()
REDUCTIONS = """sum mean amax amin prod any all argmax argmin var std var_mean std_mean
    logsumexp count_nonzero softmax log_softmax
    nn.functional.layer_norm nn.functional.rms_norm""".split()
MOVEMENT = """index_select nn.functional.embedding gather take_along_dim cat stack nn.functional.pad
    narrow select unsqueeze squeeze view reshape permute transpose t expand expand_as flip unbind
    split chunk tril triu full_like zeros_like ones_like clone contiguous to""".split()
NAMED = POINTWISE + REDUCTIONS + MOVEMENT


@dataclass
class Report:
    """What became of an operator's samples of one dtype."""

    passed: int = 0
    failed: list[str] = field(default_factory=list)
    not_lowered: set[str] = field(default_factory=set)


def samples(op: Any, dtype: torch.dtype, limit: int) -> Iterator[Any]:
    torch.manual_seed(0)
    yield from itertools.islice(op.sample_inputs("cpu", dtype), limit)


def calls_of(gm: torch.fx.GraphModule, compiled: Any) -> set[str]:
    """The targets in a graph that the compiled one still calls; empty if it calls nothing."""
    if compiled.calls == 0:
        return set()
    return {str(n.target) for n in gm.graph.nodes if n.op == "call_function"}


def run(op: Any, sample: Any) -> tuple[Any, Any, set[str]]:
    """Eager's and the compiler's results, and the calls that were left."""
    values = (sample.input, sample.args, sample.kwargs)
    leaves, spec = pytree.tree_flatten(values)
    places = [k for k, v in enumerate(leaves) if isinstance(v, torch.Tensor)]

    def call(*tensors: torch.Tensor) -> Any:
        filled = list(leaves)
        for k, tensor in zip(places, tensors, strict=True):
            filled[k] = tensor
        first, args, kwargs = pytree.tree_unflatten(filled, spec)
        return pytree.tree_leaves(op.op(first, *args, **kwargs))

    tensors = [leaves[k] for k in places]
    want = call(*tensors)
    gm = make_fx(torch.func.functionalize(call), decomposition_table=table(), tracing_mode="fake")(
        *tensors
    )
    gm.graph.eliminate_dead_code()
    graph = serialize(gm, "inference")
    compiled = _core.compile(
        graph.document, graph.callables, graph.constants, lambda args, reason: gm(*args), LIBTORCH
    )
    return want, compiled(list(tensors)), calls_of(gm, compiled)


TOLERANCE = {
    torch.bfloat16: {"rtol": 1.6e-2, "atol": 1e-2},
    torch.float32: {"rtol": 1e-4, "atol": 1e-5},
}


def check(op: Any, dtype: torch.dtype, limit: int) -> Report:
    """Compares shape, dtype and elements of every sample."""
    report = Report()
    for n, sample in enumerate(samples(op, dtype, limit)):
        try:
            want, got, left = run(op, sample)
            for g, w in zip(got, want, strict=True):
                torch.testing.assert_close(
                    g, w, equal_nan=True, **TOLERANCE.get(w.dtype, {"rtol": None, "atol": None})
                )
        except Unsupported as error:
            report.failed.append(f"sample {n}: {error}")
        except Exception as error:  # noqa: BLE001
            text = " ".join(str(error).split())
            report.failed.append(f"sample {n}: {type(error).__name__}: {text[:200]}")
        else:
            report.passed += 1
            report.not_lowered |= left
    return report


def operators(names: list[str]) -> list[Any]:
    """The OpInfos of these names; a name that PyTorch lacks is an error."""
    known: dict[str, list[Any]] = {}
    for op in op_db:
        known.setdefault(op.name, []).append(op)
    return [op for name in names for op in known[name]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ops", nargs="*", default=NAMED)
    parser.add_argument("--samples", type=int, default=10**9)
    args = parser.parse_args()
    failures = 0
    with torch.no_grad():
        for op in operators(args.ops or NAMED):
            for dtype in DTYPES:
                if dtype not in op.dtypes:
                    continue
                report = check(op, dtype, args.samples)
                failures += len(report.failed)
                name = op.name + (f".{op.variant_test_name}" if op.variant_test_name else "")
                print(
                    f"{name:32s} {str(dtype)[6:]:9s} {report.passed:4d} passed"
                    + "".join(f"\n    {f}" for f in report.failed[:3])
                    + (f"  calls {sorted(report.not_lowered)}" if report.not_lowered else ""),
                    flush=True,
                )
    print(f"{failures} samples failed")


if __name__ == "__main__":
    main()
