"""Launching kernels. The one function `launch` checks every argument against the kernel's declaration in its
source.

A device `on` is a GPU (gpu.py) or its emulation (tests/cuda_emulation). Its kernels are called as
    on.launch("conv2d_forward_64", blocks, threads, *args)
where `blocks` is a number or a tuple of up to three. An array may be None, which becomes a null pointer.
Kernels with DYNAMIC_SHARED also take `shared`, its bytes.
"""

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SOURCES = Path(__file__).resolve().parent / "sources"
FAMILIES = tuple(sorted(path.stem for path in SOURCES.glob("*.cu")))
THREADS = 256  # a block of an elementwise kernel
_NULL = np.uint64(0)  # a null pointer
_TYPES = {
    "float": np.float32,
    "int": np.int32,
    "unsigned char": np.uint8,
    "unsigned short": np.float16,  # a half's bits: NVRTC has no header for halves
    "unsigned long long": np.uint64,
}
_KERNEL = re.compile(
    r'extern "C" __global__ void\s+(?:__launch_bounds__\((\d+)(?:, \d+)?\)\s*)?(\w+)\s*\(([^)]*)\)', re.DOTALL
)
_PARAMETER = re.compile(r"(const )?([a-z ]+?)\s*(\*?)\s*(?:__restrict__ )?(\w+)")


class Parameter(NamedTuple):
    """A kernel's parameter as declared; `written` tells of an array whether it is not const."""

    name: str
    dtype: np.dtype
    is_array: bool
    written: bool


class Declaration(NamedTuple):
    """A kernel as declared; `bound` is the number of threads of its __launch_bounds__, 0 if it has none."""

    family: str
    bound: int
    parameters: list[Parameter]


def source(family: str) -> str:
    """The source of a family with its includes inserted, since CuPy's cache does not look into included
    files."""
    included: set[Path] = set()

    def expanded(path: Path) -> str:
        if path in included:
            return ""
        included.add(path)
        there = path.parent
        return re.sub(
            r'^#include "(\S+)"$',
            lambda m: expanded(there / m[1]),
            path.read_text(encoding="utf-8"),
            flags=re.M,
        )

    return expanded(SOURCES / f"{family}.cu")


def on_tensor_cores(family: str) -> bool:
    """Whether a family's kernels are for GPUs from sm_80 on, which have tensor cores for tf32."""
    return "mma.sync" in source(family)


def declarations(family: str) -> dict[str, Declaration]:
    """The kernels of a family by name. Their parameters may be written as a macro."""
    text = re.sub(r"//.*", "", source(family)).replace("\\\n", " ")
    macros = dict(re.findall(r"#define (\w+) (.*)", text))
    found = {}
    for bound, name, parameters in _KERNEL.findall(text):
        parameters = macros.get(parameters.strip(), parameters)
        parsed = [_parameter(name, parameter) for parameter in parameters.split(",")]
        found[name] = Declaration(family, int(bound or 0), parsed)
    return found


def _parameter(kernel: str, text: str) -> Parameter:
    match = _PARAMETER.fullmatch(" ".join(text.split()))
    if match is None or match[2] not in _TYPES:
        raise ValueError(f"{kernel}: the declaration {text!r} is not understood")
    const, kind, star, name = match.groups()
    return Parameter(name, np.dtype(_TYPES[kind]), bool(star), bool(star) and not const)


class Device:
    """What launches need of a device, over an array module `xp` with NumPy's interface.

    `precision` is that of the products that may be rounded: "fp32", or on tensor cores "tf32", or "fp16"
    where a kernel has it and tf32 elsewhere. `most_shared` is how many bytes of shared memory a block may
    have.
    """

    xp: Any
    precision: str
    most_shared: int

    def __init__(self, precision: str, most_shared: int) -> None:
        self.precision, self.most_shared = precision, most_shared
        self.declared = {
            name: declaration for family in FAMILIES for name, declaration in declarations(family).items()
        }

    @property
    def of_products(self) -> str:
        """The precision of products that have no kernel in halves: "fp32" or "tf32"."""
        return "fp32" if self.precision == "fp32" else "tf32"

    def in_precision(self, precision: str) -> "Device":
        """The same device with another precision."""
        other = copy.copy(self)
        other.precision = precision
        return other

    def empty(self, shape: Any, dtype: Any = np.float32) -> Any:
        """A fresh array, not filled."""
        return self.xp.empty(shape, dtype)

    def zeros(self, shape: Any) -> Any:
        """A fresh array of zeros."""
        array = self.empty(shape)
        self.launch("fill", blocks_for(array.size), THREADS, array, 0.0, array.size)
        return array

    def asarray(self, array: Any) -> Any:
        """float32, contiguous, on the device."""
        return self._moved(array, np.float32)

    def asindex(self, array: Any) -> Any:
        """int32, contiguous, on the device."""
        return self._moved(array, np.int32)

    def number(self, value: Any, dtype: Any) -> Any:
        """A number in the device's memory, from where a captured graph reads its current value."""
        return self._moved([value], dtype) if is_number(value) else value

    def numbers(self, values: list[Any]) -> Any:
        """Numbers in the device's memory: of floats float32, of whole numbers uint64."""
        is_float = isinstance(values[0], (float, np.floating))
        return self._moved(values, np.float32 if is_float else np.uint64)

    def _moved(self, array: Any, dtype: Any) -> Any:
        return self.xp.ascontiguousarray(self.xp.asarray(array, dtype))

    def fill_in(self, there: Any, array: np.ndarray) -> None:
        """Copy a float32 array of the host into one on the device."""
        raise NotImplementedError

    def room(self) -> int:
        """Bytes of the device's memory that a data set may take."""
        raise NotImplementedError

    def launch(self, name: str, blocks: Any, threads: int, *args: Any, shared: int = 0) -> None:
        """Run a kernel.

        Raises TypeError or ValueError for arguments that do not fit its declaration, and MemoryError if an
        array has more elements than the kernel's ints can count.
        """
        declaration = self.declared[name]
        grid = (blocks,) if isinstance(blocks, int) else tuple(blocks)
        grid += (1,) * (3 - len(grid))
        if max(grid[1:]) > 65535 or grid[0] >= 2**31:
            raise ValueError(f"{name}: a grid of {grid} is too large")
        if not 1 <= threads <= 1024 or declaration.bound not in (0, threads):
            raise ValueError(f"{name}: {threads} threads; it is made for {declaration.bound}")
        if len(args) != len(declaration.parameters):
            raise TypeError(f"{name}: takes {len(declaration.parameters)} arguments, got {len(args)}")
        pairs = zip(declaration.parameters, args, strict=True)
        held = [self._held(name, parameter, value) for parameter, value in pairs]
        if min(grid) > 0:
            self._run(name, grid, threads, shared, held)

    def _held(self, kernel: str, parameter: Parameter, value: Any) -> Any:
        """An argument as the kernel takes it. Correct arguments are checked quickly, since the GPU waits for
        launches."""
        dtype = parameter.dtype
        if parameter.is_array:
            if value is None:
                return _NULL
            if isinstance(value, self.xp.ndarray) and value.dtype == dtype and value.flags.c_contiguous:
                return value
        elif is_number(value) and (dtype.kind == "f" or not isinstance(value, float)):
            if dtype.kind != "i" or -(2**31) <= value < 2**31:
                return dtype.type(value)
        raise self._refusal(f"{kernel}: {parameter.name}", parameter, value)

    def _refusal(self, where: str, parameter: Parameter, value: Any) -> Exception:
        """What is wrong with an argument."""
        if not parameter.is_array and isinstance(value, (int, np.integer)):
            return MemoryError(f"{where} is {value}, more than an int counts: the batch is too large")
        if not parameter.is_array:
            return TypeError(f"{where} is a {parameter.dtype}, got {value!r}")
        if isinstance(value, self.xp.ndarray) and value.dtype == parameter.dtype:
            return ValueError(f"{where} is not contiguous")
        got = f"{value.dtype} of {type(value).__module__}" if hasattr(value, "dtype") else repr(value)
        return TypeError(f"{where} is an array of {parameter.dtype} on the device, got {got}")

    def _run(self, name: str, grid: tuple[int, ...], threads: int, shared: int, args: list[Any]) -> None:
        raise NotImplementedError

    def repeated(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, of arrays and numbers, prepared to be called often with the same shapes.

        Each call overwrites what the one before returned.
        """
        raise NotImplementedError


def blocks_for(count: int, threads: int = THREADS) -> int:
    """How many blocks an elementwise kernel gets: enough for a thread for each of `count`, but no more than a
    GPU can use."""
    return min(-(-count // threads), 16 * 1024)


def is_number(value: Any) -> bool:
    """Whether an argument of a repeated function is a number, and not an array."""
    return isinstance(value, (int, float, np.number))


def as_input(on: Device, value: Any) -> Any:
    """An argument of a repeated function as a fresh array on the device; a number becomes an array (1,), a
    list of n numbers one (n,)."""
    if isinstance(value, list):
        return on.numbers(value)
    return on.numbers([value]) if is_number(value) else value.copy()
