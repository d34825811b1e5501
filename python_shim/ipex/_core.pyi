from collections.abc import Callable, Sequence
from typing import Any

class CompileError(RuntimeError): ...

class Compiled:
    groups: int
    calls: int
    attentions: int
    joined: list[int]
    of_bytes: int
    packed_bytes: int
    freed_bytes: int
    gpu_counts: list[int]
    gpu_left_to_cpu: list[str]
    def __call__(self, args: list[Any]) -> Any: ...

def compile(
    document: bytes,
    callables: Sequence[Callable[..., Any]],
    constants: Sequence[Any],
    fallback: Callable[[list[Any], str], Any],
    libtorch: str,
    discard: Callable[[list[Any]], int | None] | None = None,
) -> Compiled: ...
def replace_data(pairs: Sequence[tuple[Any, Any]]) -> bool: ...
def find_gpu(index: int) -> str: ...
def find_xpu(index: int, libtorch: str) -> tuple[str, int]: ...
