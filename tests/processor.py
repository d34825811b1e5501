"""What the processor has, of what `IPEX_ISA` leaves."""

from __future__ import annotations

import os
from pathlib import Path

ISAS = ["scalar", "avx2", "avx512", "avx512_vnni", "avx512_bf16", "amx", "amx_fp16"]
FLAGS = {"avx512_vnni": "avx512_vnni", "avx512_bf16": "avx512_bf16", "amx": "amx_bf16"}


def has(isa: str) -> bool:
    """Whether kernels may use this instruction set, one of `FLAGS`."""
    most = os.environ.get("IPEX_ISA", ISAS[-1])
    flags = Path("/proc/cpuinfo").read_text().split()
    return FLAGS[isa] in flags and ISAS.index(most) >= ISAS.index(isa)
