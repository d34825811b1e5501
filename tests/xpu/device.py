"""PyTorch's `xpu` device in a build without it, on the memory of `ze_cpu`.

`build` compiles the libraries; `install` loads two of them into this process, before anything is
compiled. `accelerator.so` belongs into `LD_PRELOAD`.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

HERE = Path(__file__).parent
TORCH = Path(torch.__file__).parent
FOLDER = "IPEX_TEST_XPU"


def build(to: Path) -> None:
    """Compiles the libraries. Raises CalledProcessError or FileNotFoundError."""
    compiler = [os.environ.get("CXX", "g++"), "-std=c++20", "-O0", "-fPIC", "-shared", "-w"]
    sycl = [str(HERE / "sycl.cpp"), "-o", str(to / "libsycl.so.9"), "-Wl,-soname,libsycl.so.9"]
    subprocess.run([*compiler, *sycl, "-l:libze_loader.so.1"], check=True)
    accelerator = [str(HERE / "accelerator.cpp"), "-o", str(to / "accelerator.so")]
    subprocess.run([*compiler, *accelerator], check=True)
    device = [str(HERE / "device.cpp"), "-o", str(to / "device.so"), f"-I{TORCH}/include"]
    libraries = [f"-L{TORCH}/lib", "-ltorch_cpu", "-lc10", f"-L{to}", "-l:libsycl.so.9"]
    subprocess.run([*compiler, *device, *libraries], check=True)


def install() -> ctypes.CDLL:
    """Gives this process the device; the library that is its libsycl."""
    folder = Path(os.environ[FOLDER])
    sycl = ctypes.CDLL(str(folder / "libsycl.so.9"), mode=ctypes.RTLD_GLOBAL)
    for name in ("xpu_waits", "xpu_pending"):
        getattr(sycl, name).restype = ctypes.c_long
    torch.ops.load_library(str(folder / "device.so"))
    answers: dict[str, Any] = {
        "_lazy_init": None,
        "is_initialized": True,
        "is_available": True,
        "current_device": 0,
        "device_count": 1,
        "get_device_properties": SimpleNamespace(has_fp64=False, name="ze_cpu"),
        "get_rng_state": torch.zeros(8, dtype=torch.uint8),
        "set_rng_state": None,
    }
    for name, answer in answers.items():
        setattr(torch.xpu, name, lambda *args, answer=answer: answer)
    return sycl


def now(sycl: ctypes.CDLL, x: torch.Tensor) -> torch.Tensor:
    """What is in the memory of a tensor without gaps, whatever PyTorch has queued."""
    copy = torch.empty(x.shape, dtype=x.dtype)
    to, of = (ctypes.c_void_p(t.data_ptr()) for t in (copy, x))
    sycl.xpu_read(to, of, ctypes.c_size_t(x.nbytes))
    return copy


if __name__ == "__main__":
    build(Path(sys.argv[1]))
