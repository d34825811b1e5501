"""Compiles the kernels for real GPUs by Intel's offline compiler, and counts their instructions.

Prints a row for each module and target, and fails if one has fewer DPAS than `kernels.txt`
declares, spills registers, or calls what is not there. Debian's intel-opencl-icd (ocloc) and
libigc-tools (iga64).

Usage: python census.py FOLDER, a folder of .spv files.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
TARGETS = {"acm-g10": ("sg8", "12p71"), "pvc": ("sg16", "12p72")}


def run(*command: str) -> str:
    """What a command prints. An error if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    text = done.stdout + done.stderr
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{text}")
    return text


def main_loop(lines: list[str]) -> tuple[int, int]:
    """DPAS and all instructions of the innermost loop around the first DPAS."""
    first = next((n for n, line in enumerate(lines) if "dpas" in line), None)
    if first is None:
        return 0, 0
    labels = {m[1]: n for n, line in enumerate(lines) if (m := re.match(r"(L\d+):", line))}
    for n in range(first, len(lines)):
        jump = re.search(r"\b(?:jmpi|while)\b.*?\b(L\d+)", lines[n])
        if jump and labels.get(jump[1], n) < first:
            body = [line for line in lines[labels[jump[1]] : n + 1] if not line.startswith("L")]
            return sum("dpas" in line for line in body), len(body)
    return 0, 0


def census(spv: Path, target: str, platform: str) -> dict[str, object]:
    """What a module is made of on a target."""
    large = ["-options", "-ze-opt-large-register-file"] if "_sg" in spv.name else []
    with tempfile.TemporaryDirectory() as folder:
        log = run(
            *("ocloc", "compile", "-spirv_input", "-file", str(spv), "-device", target, *large),
            *("-output", "binary", "-output_no_suffix", "-out_dir", folder),
        )
        binary, dump = f"{folder}/binary", f"{folder}/dump"
        # It says that it cannot load iga, and disassembles nothing: that is for the next command.
        subprocess.run(
            ["ocloc", "disasm", "-file", binary, "-device", target, "-dump", dump],
            capture_output=True,
        )
        heaps = list(Path(dump).glob("*_KernelHeap.dat"))
        if not heaps:
            raise SystemExit(f"{spv.name} on {target}: no kernel in the binary")
        lines = []
        for heap in heaps:
            lines += run("iga64", "-d", f"-p={platform}", str(heap)).splitlines()
        spilled = re.findall(r"spilled around (\d+)", log)
        in_loop, loop = main_loop(lines)
        return {
            "dpas": sum("dpas" in line for line in lines),
            "loop": f"{in_loop}/{loop}" if loop else "-",
            "spills": sum(map(int, spilled)),
            "calls": sum(bool(re.search(r"\bcalla\b", line)) for line in lines),
            "instructions": sum(not line.startswith("L") for line in lines),
            "bytes": sum(h.stat().st_size for h in heaps),
        }


def main() -> None:
    failed = False
    print(f"{'module':20} {'target':8} DPAS in loop  spills calls instructions bytes")
    for row in (HERE / "kernels.txt").read_text().splitlines():
        if row.startswith("#"):
            continue
        name, _, declared, *_ = row.split()
        for target, (lanes, platform) in TARGETS.items():
            if "_sg" in name and lanes not in name.split("_"):
                continue
            c = census(Path(sys.argv[1]) / f"{name}.spv", target, platform)
            bad = int(str(c["dpas"])) < int(declared) or c["spills"] or c["calls"]
            failed |= bool(bad)
            print(
                f"{name:20} {target:8} {c['dpas']:4} {c['loop']:>8} {c['spills']:6} {c['calls']:5}"
                f" {c['instructions']:12} {c['bytes']}{'  BELOW WHAT IS DECLARED' if bad else ''}"
            )
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
