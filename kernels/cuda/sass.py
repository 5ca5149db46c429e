"""The machine code (SASS) of the kernels, by NVIDIA's disassembler. Needs no GPU.

`python -m rotinv.kernels.cuda.sass FAMILY` prints the loops of its kernels that multiply on tensor cores. The
disassembler comes as a wheel (extra `cuda-check`).
"""

import importlib.util
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from rotinv.kernels.cuda import launch, nvrtc

_KERNEL = re.compile(r"\.text\.(\w+):(.*?)(?=\n\s*\.section|\Z)", re.DOTALL)
_LABEL = re.compile(r"\s*(\.L_x_\d+):")
_INSTRUCTION = re.compile(r"\s+/\*[0-9a-f]{4,}\*/\s+(.*?)\s*;")
_OPCODE = re.compile(r"(?:@!?U?P\w+ )?([A-Z0-9]+)")
_BRANCH = re.compile(r"BRA.*?`\((\.L_x_\d+)\)")


def disassembler() -> Path | None:
    """nvdisasm from its wheel, or None."""
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in Path(folder).glob("*/bin/nvdisasm"):
            return path
    return None


def instructions(cubin: bytes) -> dict[str, tuple[list[str], list[tuple[int, int]]]]:
    """Of each kernel that NVRTC made its instructions, and its loops as (first, last) of them."""
    tool = disassembler()
    if tool is None:
        raise ImportError("nvdisasm is not installed: pip install 'rotinv[cuda-check]'")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        done = subprocess.run([tool, "-c", file.name], capture_output=True, text=True, check=True)
    return {name: _parsed(body) for name, body in _KERNEL.findall(done.stdout)}


def _parsed(body: str) -> tuple[list[str], list[tuple[int, int]]]:
    rows: list[str] = []
    labels: dict[str, int] = {}
    for line in body.splitlines():
        if label := _LABEL.match(line):
            labels[label[1]] = len(rows)
        if instruction := _INSTRUCTION.match(line):
            rows.append(instruction[1])
    loops = []
    for last, row in enumerate(rows):
        branch = _BRANCH.search(row)
        if branch and labels.get(branch[1], last + 1) <= last:
            loops.append((labels[branch[1]], last))
    return rows, loops


def opcodes(rows: list[str]) -> Counter[str]:
    """How often each operation occurs, without its modifiers."""
    return Counter(found[1] for row in rows if (found := _OPCODE.match(row)))


def inner_loops(rows: list[str], loops: list[tuple[int, int]]) -> list[Counter[str]]:
    """The operations of each loop with tensor-core products that has no other such loop in it."""
    counted = {loop: opcodes(rows[loop[0] : loop[1] + 1]) for loop in loops}
    multiplying = {loop: count for loop, count in counted.items() if count["HMMA"]}
    return [
        count
        for loop, count in multiplying.items()
        if not any(loop[0] <= other[0] and other[1] <= loop[1] for other in multiplying if other != loop)
    ]


def main(families: list[str]) -> int:
    """Print the loops of families, or of all that multiply on tensor cores."""
    for family in families or [name for name in launch.FAMILIES if launch.on_tensor_cores(name)]:
        made = nvrtc.compiled(family, launch.source(family), "sm_90")
        for kernel, (rows, loops) in instructions(made.cubin).items():
            for count in inner_loops(rows, loops):
                print(f"{kernel}: {sum(count.values())} instructions: {dict(count.most_common(12))}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
