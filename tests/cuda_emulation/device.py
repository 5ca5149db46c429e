"""The emulated device: compiles each family of kernels/cuda by g++ and runs it on NumPy arrays."""

import ctypes
import hashlib
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rotinv.kernels.cuda import launch
from rotinv.nn.contract import Kernels
from rotinv.nn.devices import cuda_kernels
from rotinv.system import scratch

HERE = Path(__file__).resolve().parent
ORDERS = ("forward", "reverse", "random", "first warp", "last warp")  # schedule.h tells what they are
FLAGS = ("-std=c++17", "-O2", "-ffp-contract=off", "-g1", "-fPIC", "-shared", "-w")
MOST_SHARED = 227 * 1024  # bytes of a block's shared memory on sm_90
_ONE_AT_A_TIME = threading.Lock()  # there is one emulated processor
NAN_BYTE = 0xFF  # float32 of such bytes is NaN


def why_not() -> str:
    """Why this machine cannot emulate; empty where it can."""
    if shutil.which("g++") is None:
        return "the emulator of CUDA needs g++"
    if os.uname().machine != "x86_64":
        return "the emulator of CUDA switches its threads by x86-64 instructions"
    return ""


class Wavefronts(NamedTuple):
    """Of a line's accesses to shared memory: bytes of a lane, stores?, wavefronts, the least."""

    size: int
    store: int
    found: int
    least: int


class DeviceArray(np.ndarray):
    """An emulated device's array. While launches are recorded, so is what is computed with it."""

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any, out: Any = None, **how: Any) -> Any:
        run = partial(getattr(ufunc, method), *map(_plain, args), **how)
        found = run() if out is None else run(out=tuple(map(_plain, out)))
        if not isinstance(found, np.ndarray):
            assert _recorded() is None, "the host waits for a number while launches are recorded"
            return found
        if (recorded := _recorded()) is not None:
            recorded.append(partial(run, out=found))
        return found.view(DeviceArray) if out is None else out[0]


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, DeviceArray) else value


_thread = threading.local()  # `recorded`: what a repeated function's later calls do again


def _recorded() -> list[Callable[[], Any]] | None:
    return getattr(_thread, "recorded", None)


class EmulatedDevice(launch.Device):
    """A device whose threads run one after another, in one of ORDERS.

    `changed` puts other text in place of a family's source (the emulator's own tests seed defects with it);
    `flags` are more of g++'s.
    """

    xp = np

    def __init__(
        self,
        precision: str = "fp32",
        order: str = "forward",
        changed: dict[str, str] | None = None,
        flags: Sequence[str] = (),
        most_shared: int = MOST_SHARED,
    ) -> None:
        super().__init__(precision, most_shared)
        self.order, self._flags, self.changed = order, tuple(flags), changed or {}
        self.launched: set[str] = set()
        self._libraries: dict[str, ctypes.CDLL] = {}

    def empty(self, shape: Any, dtype: Any = np.float32) -> np.ndarray:
        """A fresh array of poison, no byte longer, so that a sanitizer sees what is read beyond its end."""
        dtype, shape = np.dtype(dtype), tuple(np.atleast_1d(shape))
        raw = np.full(int(np.prod(shape)) * dtype.itemsize, NAN_BYTE, np.uint8)
        assert raw.ctypes.data % 16 == 0  # as CUDA's arrays, for loads of four floats
        return raw.view(dtype).reshape(shape).view(DeviceArray)

    def _moved(self, array: Any, dtype: Any) -> np.ndarray:
        if isinstance(array, np.ndarray) and array.dtype == dtype and array.flags.c_contiguous:
            return array.view(DeviceArray)
        fresh = self.empty(np.shape(array), dtype)
        fresh[...] = array
        if isinstance(array, DeviceArray) and (recorded := _recorded()) is not None:
            recorded.append(partial(np.copyto, _plain(fresh), _plain(array)))
        return fresh

    def fill_in(self, there: np.ndarray, array: np.ndarray) -> None:
        there[...] = array

    def room(self) -> int:
        return 1 << 24

    def to_host(self, array: np.ndarray) -> np.ndarray:
        assert _recorded() is None, "the host waits while launches are recorded"
        return np.array(array)

    def _run(self, name: str, grid: tuple[int, ...], threads: int, shared: int, args: list[Any]) -> None:
        _check_apart(name, self.declared[name].parameters, args)
        if (recorded := _recorded()) is not None:
            recorded.append(partial(self._run, name, grid, threads, shared, args))
        self.launched.add(name)
        keep = [_as_c(value) for value in args]
        pointers = (ctypes.c_void_p * len(keep))(*[ctypes.addressof(value) for value in keep])
        run = getattr(self._library(self.declared[name].family), f"run_{name}")
        run.restype = ctypes.c_char_p
        order = ORDERS.index(self.order)
        with _ONE_AT_A_TIME:
            failure = run((ctypes.c_uint * 3)(*grid), threads, shared, order, pointers)
        if failure:
            raise EmulationError(f"{name}: {failure.decode()}")

    def repeated(self, function):
        """As a CUDA graph: the first call runs and records the device's work, later ones only repeat it."""
        captured: dict[str, Any] = {}

        def call(*args):
            if "recorded" not in captured:
                captured["inputs"] = [launch.as_input(self, value) for value in args]
                _thread.recorded = recorded = []
                try:
                    captured["outputs"] = function(*captured["inputs"])
                finally:
                    _thread.recorded = None
                captured["recorded"] = recorded
                return captured["outputs"]
            for held, value in zip(captured["inputs"], args, strict=True):
                held[...] = value
            for again in captured["recorded"]:
                again()
            return captured["outputs"]

        return call

    def counted(self, family: str, run: Callable[[], object]) -> dict[int, Wavefronts]:
        """The wavefronts of shared memory in what a family's kernels do while `run` runs, by source line."""
        library = self._library(family)
        library.emu_count(1)
        try:
            run()
            rows = (ctypes.c_uint64 * 5 * library.emu_counts(None, 0))()
            library.emu_counts(rows, len(rows))
        finally:
            library.emu_count(0)
        return {line: Wavefronts(*row) for line, *row in rows}

    def _library(self, family: str) -> ctypes.CDLL:
        if family not in self._libraries:
            text = self.changed.get(family) or launch.source(family)
            self._libraries[family] = ctypes.CDLL(str(built(family, text, self._flags)))
        return self._libraries[family]


class EmulationError(Exception):
    """The emulated kernel did what no kernel may do."""


def emulated(precision: str = "fp32", order: str = "forward", **more: Any) -> Kernels:
    """The kernels on an emulated device."""
    return cuda_kernels("cuda-emulated", EmulatedDevice(precision, order, **more))


def cache_folder(name: str) -> Path:
    """A folder for what is compiled and kept: in the user's cache, or, where that cannot be written, in a
    temporary one of this process."""
    usual = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    parent = Path(usual).expanduser() / "rotinv" if scratch.writable(usual) else scratch.folder()
    (parent / name).mkdir(parents=True, exist_ok=True)
    return parent / name


def built(family: str, text: str, flags: Sequence[str] = ()) -> Path:
    """The shared library of a family's source, compiled once for each of its states."""
    program = "\n".join([f'#line 1 "{family}.cu"', text, *_trampolines(family)])
    parts = [
        program,
        *(header.read_text() for header in sorted(HERE.glob("*.h"))),
        *FLAGS,
        *flags,
    ]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
    cache = cache_folder("cuda-emulation")
    path = cache / f"{family}-{key}.so"
    if not path.exists():
        unfinished = cache / f".{path.name}.{os.getpid()}"
        command = ["g++", *FLAGS, *flags, "-include", str(HERE / "shim.h"), "-x", "c++", "-"]
        done = subprocess.run(
            [*command, "-o", str(unfinished)], input=program, text=True, capture_output=True
        )
        if done.returncode:
            raise EmulationError(f"{family}.cu does not compile:\n{done.stderr}")
        unfinished.replace(path)
    return path


def _trampolines(family: str) -> list[str]:
    """A C function for each kernel that takes pointers to its arguments."""
    found = []
    for name, (_, _, parameters) in launch.declarations(family).items():
        types = [_C_TYPES[p.dtype] + ("*" if p.is_array else "") for p in parameters]
        args = ", ".join(f"*({kind}*)args[{i}]" for i, kind in enumerate(types))
        found.append(
            f'extern "C" const char* run_{name}'
            "(const unsigned* grid, unsigned block, unsigned shared, int how, void** args)"
            f" {{ return emu::run(grid, block, shared, how, [&] {{ {name}({args}); }}); }}"
        )
    return found


_C_TYPES = {
    np.dtype(np.float32): "float",
    np.dtype(np.int32): "int",
    np.dtype(np.uint8): "unsigned char",
    np.dtype(np.float16): "unsigned short",
    np.dtype(np.uint64): "unsigned long long",
}


def _as_c(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return ctypes.c_void_p(value.ctypes.data)
    kind = {"f": ctypes.c_float, "i": ctypes.c_int, "u": ctypes.c_uint64}[value.dtype.kind]
    return kind(value.item())


def _check_apart(name: str, parameters: list[launch.Parameter], args: list[Any]) -> None:
    """Raise EmulationError if an array that is written overlaps another: all are __restrict__."""
    arrays = [(p, value) for p, value in zip(parameters, args, strict=True) if isinstance(value, np.ndarray)]
    for p, value in arrays:
        for other, another in arrays:
            if p.written and other is not p and np.may_share_memory(value, another):
                raise EmulationError(f"{name}: {p.name} is written and overlaps {other.name}")
