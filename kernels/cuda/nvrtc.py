"""What NVRTC, CUDA's compiler, says of the kernels: registers, shared memory and spills. Needs no GPU.

`python -m rotinv.kernels.cuda.nvrtc` prints a table. NVRTC comes as a wheel (extra `cuda-check`).
"""

import ctypes
import functools
import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rotinv.kernels.cuda import launch

ARCHITECTURES = ("sm_70", "sm_80", "sm_90")
TENSOR_CORES = "sm_80"  # the first with tf32
OPTIONS = ("-std=c++17", "-ftz=true", "--ptxas-options=-v")  # as CuPy compiles, and with its figures

_ENTRY = re.compile(
    r"Compiling entry function '(\w+)' for '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
    r"(\d+) bytes spill loads.*?Used (\d+) registers(.*?)\n",
    re.DOTALL,
)


class Resources(NamedTuple):
    """What a kernel uses when it is compiled for an architecture; sizes in bytes."""

    kernel: str
    architecture: str
    threads: int
    registers: int
    shared: int
    stack: int
    spilled: int


class Made(NamedTuple):
    """What the compiler makes of a source: what it says, and the machine code as sass.py reads it."""

    log: str
    cubin: bytes


class CompileError(Exception):
    """A source that does not compile: the compiler's log."""


@functools.cache
def library() -> ctypes.CDLL | None:
    """NVRTC of CUDA 12 from its wheel, or None."""
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in Path(folder).glob("cuda_nvrtc/lib/libnvrtc.so.12"):
            return ctypes.CDLL(str(path))
    return None


def families(architecture: str) -> list[str]:
    """The names of the sources that compile for an architecture."""
    return [
        name for name in launch.FAMILIES if architecture >= TENSOR_CORES or not launch.on_tensor_cores(name)
    ]


def compiled(family: str, text: str, architecture: str) -> Made:
    """A family's source compiled for an architecture. Raises CompileError with the log."""
    nvrtc = library()
    if nvrtc is None:
        raise ImportError("NVRTC is not installed: pip install 'rotinv[cuda-check]'")
    program = ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), text.encode(), f"{family}.cu".encode(), 0, None, None)
    options = [f"--gpu-architecture={architecture}".encode(), *(option.encode() for option in OPTIONS)]
    status = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    log = _read(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program).rstrip(b"\0").decode()
    made = b"" if status else _read(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    if status:
        raise CompileError(f"{family}.cu for {architecture}:\n{log}")
    return Made(log, made)


def _read(size_of: Callable[..., int], get: Callable[..., int], program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    size_of(program, ctypes.byref(size))
    found = ctypes.create_string_buffer(size.value)
    get(program, found)
    return found.raw


def resources(family: str, log: str) -> list[Resources]:
    """What the compiler says of each kernel of a family in its log."""
    bounds = {name: declaration.bound for name, declaration in launch.declarations(family).items()}
    found = []
    for name, architecture, stack, stores, loads, registers, rest in _ENTRY.findall(log):
        shared = re.search(r"(\d+) bytes smem", rest)
        threads = bounds[name] or launch.THREADS
        numbers = int(registers), int(shared[1]) if shared else 0, int(stack), int(stores) + int(loads)
        found.append(Resources(name, architecture, threads, *numbers))
    return found


def main() -> int:
    """Print the table."""
    print(f"{'kernel':<30}{'for':>7}{'threads':>9}{'registers':>11}{'shared':>8}{'stack':>7}{'spilled':>9}")
    for family in launch.FAMILIES:
        for architecture in ARCHITECTURES:
            if family in families(architecture):
                for row in resources(family, compiled(family, launch.source(family), architecture).log):
                    print(
                        f"{row.kernel:<30}{row.architecture:>7}{row.threads:>9}{row.registers:>11}"
                        f"{row.shared:>8}{row.stack:>7}{row.spilled:>9}"
                    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
