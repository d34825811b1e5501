"""Compiles the kernels for real GPUs by Intel's offline compiler, and counts their instructions.

Prints a row for each module and target, and fails if one has fewer DPAS than `kernels.txt`
declares, spills registers, or calls what is not there. Debian's intel-opencl-icd (ocloc) and
libigc-tools (iga64); OCLOC names another compiler, of which one that knows Xe2 compiles for that too.

Usage: python census.py FOLDER [MODULE...], a folder of .spv files; without modules all of them.
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

HERE = Path(__file__).parent
OCLOC = os.environ.get("OCLOC", "ocloc")
TARGETS = {"acm-g10": ("sg8", "12p71"), "pvc": ("sg16", "12p72")}
# Of compilers that disassemble themselves.
NEWER = {"bmg-g21": ("sg16", "xe2"), "lnl-m": ("sg16", "xe2")}
# Where B lies: the specialization constant of modules that read 2D blocks, and its values.
B_LAYOUT, LAYOUTS = 5, {"packed": 0, "rows": 1, "columns": 2}
# The epilogue that needs most registers: GELU with erf of rows' scale, columns' bias and a residual.
HEAVIEST = {0: 2, 1: 1, 2: 2, 3: 2}
SUMS = {"matmul_i8_sg8", "matmul_i8_sg16", "matmul_i8_sg16_2d"}
SPEC_CONSTANT, DECORATE, SPEC_ID = 50, 71, 1


def specialized(spirv: bytes, values: dict[int, int]) -> bytes:
    """A module whose specialization constants of these numbers are other ones by default."""
    words = list(struct.unpack(f"<{len(spirv) // 4}I", spirv))
    at, ids = 5, {}
    while at < len(words):
        operation = words[at] & 0xFFFF
        if operation == DECORATE and words[at + 2] == SPEC_ID:
            ids[words[at + 1]] = words[at + 3]
        if operation == SPEC_CONSTANT:
            number = ids.get(words[at + 2])
            words[at + 3] = values.get(-1 if number is None else number, words[at + 3])
        at += words[at] >> 16
    return struct.pack(f"<{len(words)}I", *words)


def run(*command: str) -> str:
    """What a command prints. An error if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    text = done.stdout + done.stderr
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{text}")
    return text


def is_dpas(line: str) -> bool:
    """Whether an instruction is one of the matrix unit, of a sub-group or of a pair."""
    return re.match(r"\s*(?:\([^)]*\)\s*)*dpasw?\.", line) is not None


def main_loop(lines: list[str]) -> tuple[int, int]:
    """DPAS and all instructions of the innermost loop around the first DPAS."""
    first = next((n for n, line in enumerate(lines) if is_dpas(line)), None)
    if first is None:
        return 0, 0
    labels = {m[1]: n for n, line in enumerate(lines) if (m := re.match(r"(L\d+):", line))}
    for n in range(first, len(lines)):
        if not re.search(r"\b(?:jmpi|while|goto)\b", lines[n]):
            continue
        to = min((labels.get(m, n) for m in re.findall(r"\bL\d+\b", lines[n])), default=n)
        if to < first:
            body = [line for line in lines[to : n + 1] if not line.startswith("L")]
            return sum(map(is_dpas, body)), len(body)
    return 0, 0


def disassembled(dump: Path, platform: str) -> tuple[list[str], int]:
    """The kernels' instructions, and their bytes."""
    heaps = sorted(dump.glob("*_KernelHeap.dat"))
    listings = [run("iga64", "-d", f"-p={platform}", str(heap)) for heap in heaps]
    if not heaps:
        # A compiler that disassembles by itself.
        texts = sorted(dump.glob(".text.*.asm"))
        listings = [text.read_text() for text in texts]
    lines = [line for listing in listings for line in listing.splitlines()]
    size = sum(h.stat().st_size for h in heaps)
    return [line for line in lines if line.strip()], size


def census(spv: Path, target: str, platform: str, spirv: bytes) -> dict[str, object]:
    """What a module is made of on a target."""
    large = ["-options", "-ze-opt-large-register-file"] if "_sg" in spv.name else []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / spv.name
        source.write_bytes(spirv)
        log = run(
            *(OCLOC, "compile", "-spirv_input", "-file", str(source), "-device", target, *large),
            *("-output", "binary", "-output_no_suffix", "-out_dir", folder),
        )
        binary, dump = next(Path(folder).glob("binary*")), Path(folder) / "dump"
        # Older ones say that they cannot load iga, and disassemble nothing: that is for the next command.
        subprocess.run(
            [OCLOC, "disasm", "-file", str(binary), "-device", target, "-dump", str(dump)],
            capture_output=True,
        )
        lines, size = disassembled(dump, platform)
        if not lines:
            raise SystemExit(f"{spv.name} on {target}: no kernel in the binary")
        spilled = re.findall(r"spilled around (\d+)", log)
        in_loop, loop = main_loop(lines)
        return {
            "dpas": sum(map(is_dpas, lines)),
            "loop": f"{in_loop}/{loop}" if loop else "-",
            "spills": sum(map(int, spilled)),
            "calls": sum(bool(re.search(r"\bcalla\b", line)) for line in lines),
            "instructions": sum(not line.startswith("L") for line in lines),
            "bytes": size or "-",
        }


def main() -> None:
    failed = False
    folder, only = Path(sys.argv[1]), sys.argv[2:]
    newer = subprocess.run([OCLOC, "ids", "bmg-g21"], capture_output=True).returncode == 0
    targets = TARGETS | (NEWER if newer else {})
    print(f"{'module':31} {'target':8} DPAS in loop  spills calls instructions bytes")
    for row in (HERE / "kernels.txt").read_text().splitlines():
        if row.startswith("#"):
            continue
        name, _, declared, *_ = row.split()
        if only and name not in only:
            continue
        spv = folder / f"{name}.spv"
        spirv = spv.read_bytes()
        variants = {name: spirv}
        if "_2d" in name:
            variants = {
                f"{name} {layout}": specialized(spirv, {B_LAYOUT: value})
                for layout, value in LAYOUTS.items()
            }
        # Sums of bytes have none.
        if name.startswith("matmul") and name not in SUMS:
            variants[f"{name} heaviest"] = specialized(spirv, HEAVIEST)
        for (variant, code), (target, (lanes, platform)) in product(
            variants.items(), targets.items()
        ):
            if "_sg" in name and lanes not in name.split("_"):
                continue
            c = census(spv, target, platform, code)
            bad = int(str(c["dpas"])) < int(declared) or c["spills"] or c["calls"]
            failed |= bool(bad)
            print(
                f"{variant:31} {target:8} {c['dpas']:4} {c['loop']:>8} {c['spills']:6} {c['calls']:5}"
                f" {c['instructions']:12} {c['bytes']}{'  BELOW WHAT IS DECLARED' if bad else ''}"
            )
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
