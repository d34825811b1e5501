"""``{"freezing": "discard"}``: parameters that only their packed form is read of leave memory.

They move to a file without a name, which is mapped in their place: whoever reads one (eager,
``state_dict``, a compile for another size) gets it from there, page by page, and it can be changed.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
import warnings
from collections.abc import Sequence

import torch

from ipex import _core

SMALLEST = 1 << 16
"""Bytes from which a parameter is worth a file."""


def discard(tensors: Sequence[torch.Tensor]) -> int | None:
    """Moves these tensors out of memory, as far as nobody else shows their memory; the bytes freed.

    None if other calls are running, which may be reading them. Where there is no room for the file
    they stay, with a warning.
    """
    moved = []
    for tensor in tensors:
        if not _is_alone(tensor):
            continue
        try:
            moved.append((tensor, _on_disk(tensor)))
        except (OSError, RuntimeError) as error:
            warnings.warn(f"ipex keeps parameters in memory: {error}", stacklevel=2)
            break
    if not _core.replace_data(moved):
        return None
    if moved:
        _trim()
    return sum(copy.untyped_storage().nbytes() for _, copy in moved)


def _is_alone(tensor: torch.Tensor) -> bool:
    """Whether a tensor is all of its memory, of PyTorch's allocator, and no other shows it."""
    count = getattr(torch._C, "_storage_Use_Count", None)
    if count is None or tensor.is_inference() or tensor.layout != torch.strided:
        return False
    own, fresh = tensor.untyped_storage(), torch.empty(1)
    size = own.nbytes()
    return (
        tensor.device.type == "cpu"
        and size >= SMALLEST
        and tensor.numel() * tensor.itemsize == size
        and own.resizable()
        and count(own._cdata) == count(fresh.untyped_storage()._cdata)
    )


def _on_disk(tensor: torch.Tensor) -> torch.Tensor:
    """A copy whose memory is a mapping of a file that has no name any more."""
    storage = tensor.untyped_storage()
    size = storage.nbytes()
    with tempfile.NamedTemporaryFile(
        prefix="ipex-", dir=os.environ.get("TMPDIR", "/var/tmp")
    ) as file:
        file.write(memoryview((ctypes.c_char * size).from_address(storage.data_ptr())))
        file.flush()
        os.fdatasync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        mapped = torch.UntypedStorage.from_file(file.name, False, size)
    # Tensors of inference mode are of another kind, which guards tell apart.
    with torch.inference_mode(False):
        copy = torch.empty(0, dtype=tensor.dtype)
        layout = tensor.storage_offset(), tensor.size(), tensor.stride()
        return copy.set_(mapped, *layout)  # type: ignore[arg-type]


def _trim() -> None:
    """Has the allocator give back what was freed between other blocks."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))
