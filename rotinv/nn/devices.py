"""The devices: `get_kernels("cpu")` loads a device's kernels, by the contract of rotinv/nn/contract.py."""

import contextlib
import importlib
import inspect
import os
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from rotinv.nn.contract import FAMILIES, Array, Kernels
from rotinv.nn.shapes import ARRAYS, checked, checked_row
from rotinv.system import scratch
from rotinv.system.errors import UserError, not_known

DEVICES = ("cpu", "cuda", "reference")
PRECISIONS = ("tf32", "fp32", "fp16")
TRAINED = PRECISIONS[:2]  # those that networks are trained in
_SPINS = 3000  # a thread's looks for work before it sleeps, some 50 us: the gap between two kernels


def get_kernels(device: str, threads: int | None = None, precision: str | None = "fp32") -> Kernels:
    """The kernels of a device: what computes, below all layers.

    Parameters
    ----------
    device : str
        "cpu" (Numba, float32), "reference" (NumPy, float64, slow) or "cuda" (float32, tf32).
    threads : int, optional
        Of cpu; all by default.
    precision : str, optional
        Of cuda: "tf32" lets training and scoring multiply on tensor cores, where there are any, and "fp16"
        does so with half-precision numbers where there is a kernel for it: both have 10 bits of mantissa.
        Relevance is float32 always. Other devices have "fp32" only. None is tf32 on cuda, fp32 elsewhere.

    Returns
    -------
    Kernels

    Raises
    ------
    UserError
        If there is no such device, or if it cannot be used so on this machine.

    Examples
    --------
    >>> import rotinv
    >>> k = rotinv.get_kernels("reference")
    >>> k.device, k.dtype
    ('reference', dtype('float64'))
    """
    precision = _checked_precision(device, precision)
    source = partial(_get_again, device, threads, precision)
    if device == "cuda":
        return replace(cuda_kernels("cuda", _gpu(precision)), source=source)
    if device not in ("cpu", "reference"):
        raise not_known("device", device, DEVICES)
    if device == "cpu":
        _set_threads(threads)
    dtype = np.dtype(np.float64 if device == "reference" else np.float32)
    families = _checked(_families(device), dtype)
    return Kernels(
        device=device,
        dtype=dtype,
        zeros=lambda shape: np.zeros(shape, dtype),
        zero_pad=_zero_pad,
        asarray=lambda array: np.ascontiguousarray(array, dtype),
        asindex=lambda array: np.ascontiguousarray(array, np.int32),
        to_host=np.asarray,
        resident=lambda shape: None,
        repeated=lambda function: function,
        batch=200,
        streams=False,
        **_depth_first(device, dtype),
        source=source,
        **families,
    )


def _depth_first(device: str, dtype: np.dtype) -> dict[str, Any]:
    """What the device computes depth first, if it does."""
    if device != "cpu":
        return {}
    chain, row = (importlib.import_module(f"rotinv.kernels.cpu.{name}") for name in ("chain", "row"))
    return {"chain": chain, "row": checked_row(row, dtype)}


def _checked_precision(device: str, precision: str | None) -> str:
    if precision is None:
        return PRECISIONS[0] if device == "cuda" else "fp32"
    if precision not in PRECISIONS:
        raise not_known("precision", precision, PRECISIONS)
    if device in DEVICES and device != "cuda" and precision != "fp32":
        raise UserError(
            f"--precision {precision}: the device {device} computes in fp32 only; use --device cuda"
        )
    return precision


def cuda_kernels(device: str, on: Any) -> Kernels:
    """The CUDA kernels on `on`: a GPU (kernels/cuda/gpu.py), or what stands for one in tests."""
    modules = _families("cuda")
    resident, chain, step, targets = (
        importlib.import_module(f"rotinv.kernels.cuda.{name}")
        for name in ("resident", "chain", "step", "targets")
    )
    return Kernels(
        device=device,
        dtype=np.dtype(np.float32),
        zeros=on.zeros,
        zero_pad=partial(modules["pool2d"].zero_pad, on),
        asarray=on.asarray,
        asindex=on.asindex,
        to_host=on.to_host,
        resident=partial(resident.resident, on),
        repeated=on.repeated,
        batch=2000,
        streams=True,
        steps_at_once=20,
        chain=None if on.precision == "fp32" else _bound(chain, on),
        step=None if on.precision == "fp32" else _bound(step, on),
        targets=_bound(targets, on),
        in_float32=cuda_kernels(device, on.in_precision("fp32")) if on.precision == "fp16" else None,
        **_checked({name: _bound(module, on) for name, module in modules.items()}, np.dtype(np.float32)),
    )


def exact_kernels() -> Kernels:
    """The reference's equations in fractions, without any rounding: for small networks, and slow.

    The layers' and rules' own numbers must be fractions too (composites.with_fractions). Probabilities are no
    fractions: the softmax takes and gives float64.
    """
    families = _checked(_families("reference"), np.dtype(object))
    softmax = _families("reference")["softmax"].forward
    families["softmax"] = SimpleNamespace(forward=lambda z: softmax(np.asarray(z, np.float64)))
    return Kernels(
        device="exact",
        dtype=np.dtype(object),
        zeros=lambda shape: np.full(shape, Fraction(0)),
        asarray=_fractions,
        asindex=lambda array: np.ascontiguousarray(array, np.int32),
        to_host=np.asarray,
        resident=lambda shape: None,
        zero_pad=_zero_pad,
        repeated=lambda function: function,
        batch=1,
        streams=False,
        **families,
    )


def _families(device: str) -> dict[str, Any]:
    """The modules of a device's kernels, held to the Protocols by tests/test_kernels.py."""
    modules = [f"rotinv.kernels.{device}.{name}" for name in FAMILIES]
    found = scratch.with_numba_cache(lambda: [importlib.import_module(module) for module in modules])
    scratch.tell_of_numba_cache()
    return dict(zip(FAMILIES, found, strict=True))


def _checked(families: dict[str, Any], dtype: np.dtype) -> dict[str, Any]:
    """The families with each kernel of the contract checked (shapes.py)."""
    found: dict[str, Any] = {family: SimpleNamespace() for family in families}
    for name in ARRAYS:
        family, kernel = name.split(".")
        setattr(found[family], kernel, checked(name, getattr(families[family], kernel), dtype))
    return found


def _fractions(array: Any) -> np.ndarray:
    values = np.asarray(array)
    values = values if values.dtype == object else values.astype(np.float64)
    return np.ascontiguousarray(np.frompyfunc(Fraction, 1, 1)(values), dtype=object)


def _get_again(device: str, threads: int | None, precision: str) -> Kernels:
    """The kernels of a pickle, in the process that reads it; of the threads, as many as there are here."""
    return get_kernels(device, threads and min(threads, _most_threads()), precision)


def _most_threads() -> int:
    import numba

    return int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]  # made at run time


def _set_threads(threads: int | None) -> None:
    """Set the number of Numba's threads, the only ones that compute."""
    import numba

    most = _most_threads()
    if threads is None:
        threads = most
    elif not isinstance(threads, int | np.integer) or not 1 <= threads <= most:
        raise UserError(f"threads {threads!r}: this machine has {most}; give a number from 1 to {most}")
    try:
        _start_threads()
        numba.set_num_threads(threads)
    except ValueError as error:  # the environment names a threading library that is not here
        layer = numba.config.THREADING_LAYER  # type: ignore[attr-defined]  # made at run time
        remedy = "unset that variable of the environment, or install the library"
        why = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"NUMBA_THREADING_LAYER={layer}: {why}; {remedy}") from error


@cache  # once, for other threads of the process may read the environment that this writes
def _start_threads() -> None:
    """Start Numba's threads. Raises ValueError if their library is not here."""
    import numba

    with _short_waits():
        numba.get_num_threads()


@contextlib.contextmanager
def _short_waits() -> Iterator[None]:
    """While Numba's threads are started: let them sleep soon where they wait for work.

    By default GNU's OpenMP, which Numba takes on Linux, lets them spin for milliseconds, and a thread that
    reads the next stamps has no core meanwhile. It reads these variables once, when it is loaded. A user's
    own are kept, and programs that are started later do not see ours.
    """
    variable = "GOMP_SPINCOUNT"
    if variable in os.environ or "OMP_WAIT_POLICY" in os.environ:
        yield
        return
    os.environ[variable] = str(_SPINS)
    try:
        yield
    finally:
        os.environ.pop(variable, None)


def _zero_pad(x: Array, pad: int) -> Array:
    n, h, w, c = x.shape
    y = np.zeros((n, h + 2 * pad, w + 2 * pad, c), x.dtype)
    y[:, pad : pad + h, pad : pad + w] = x
    return y


def _bound(module: Any, on: Any) -> Any:
    """A family's kernels, whose first argument is the device to run on, on that device."""
    functions = {name: f for name, f in vars(module).items() if inspect.isfunction(f) and name[0] != "_"}
    return SimpleNamespace(**{name: partial(f, on) for name, f in functions.items()})


def _gpu(precision: str) -> Any:
    """The GPU. Raises UserError saying what is missing."""
    try:
        gpu = importlib.import_module("rotinv.kernels.cuda.gpu")
    except ImportError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip(" =")]
        why = "needs CuPy" if error.name == "cupy" else f"CuPy does not load ({lines[0]})"
        raise UserError(f"--device cuda: {why}: pip install 'rotinv[cuda]', or use --device cpu") from None
    try:
        return gpu.Gpu(precision)
    except gpu.Unusable as error:
        raise UserError(f"--device cuda: {error}; use --device cpu") from None
