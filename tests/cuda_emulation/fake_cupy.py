"""Stands for CuPy over NumPy and the emulated device: all that kernels/cuda/gpu.py uses, so that its logic is
run.

While a stream captures, launches and CuPy's own arithmetic are recorded and not run, as CUDA does. An array
whose memory pool is gone may not be used any more. `counted` counts what the host does.
"""

import contextlib
import threading
import types
import weakref
from collections import Counter

import numpy as np

from cuda_emulation.device import MOST_SHARED, EmulatedDevice

_thread = threading.local()  # what is each thread's own: stream, memory pool, launches that are captured


def fresh(array):
    """An array in new memory: of the thread's pool, where it uses one."""
    return Array(array, getattr(_thread, "pool", None))


def computed(function):
    """What a kernel of CuPy's own makes: while a stream captures it comes with each replay only."""
    counted["kernels of CuPy's own"] += 1
    if _captured() is None:
        return fresh(function())
    with np.errstate(all="ignore"):
        out = fresh(np.full_like(function(), -1))  # its shape and dtype are known, its numbers are not
    _captured().append(lambda: np.copyto(out.array, function()))
    return out


class Array(np.lib.mixins.NDArrayOperatorsMixin):
    """An array on the fake GPU. As CuPy's it is never turned into one of the host, nor joined with one."""

    def __init__(self, array, pool=None):
        self._array, self._pool = array, pool

    @property
    def array(self):
        assert self._pool is None or self._pool() is not None, "its memory pool is gone"
        return self._array

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __array_ufunc__(self, ufunc, method, *args, **options):
        if method != "__call__" or any(isinstance(a, np.ndarray) and a.ndim for a in args):
            return NotImplemented
        if out := options.get("out"):
            assert _captured() is None
            options["out"] = tuple(array.array for array in out)
            ufunc(*map(bare, args), **options)
            return out[0]
        return computed(lambda: ufunc(*map(bare, args), **options))

    def __array_function__(self, function, types, args, options):
        if function is not np.where:
            return NotImplemented
        return computed(lambda: np.where(*map(bare, args)))

    def __getattr__(self, name):
        if name not in ("shape", "dtype", "size", "ndim", "flags", "fill"):
            raise AttributeError(f"the fake of CuPy has no {name}")
        return getattr(self.array, name)

    def __len__(self):
        return len(self.array)

    def __getitem__(self, key):
        return Array(self.array[key], self._pool)

    def __setitem__(self, key, value):
        self.array[key] = bare(value)

    def reshape(self, *shape):
        return Array(self.array.reshape(*shape), self._pool)

    def copy(self):
        assert _captured() is None
        return fresh(self.array.copy())

    def min(self):
        return computed(lambda: np.array(self.array.min()))

    def max(self):
        return computed(lambda: np.array(self.array.max()))

    def __float__(self):
        assert _captured() is None
        counted["waits"] += 1
        return float(self.array)

    def clip(self, low, high):
        return computed(lambda: self.array.clip(low, high))

    def set(self, array, stream=None):
        assert array.flags.c_contiguous and array.dtype == self.dtype
        self.array[...] = array


def bare(value):
    """The host's array of one that is on the fake GPU."""
    return value.array if isinstance(value, Array) else value


class Graph:
    def __init__(self, launches):
        self._launches = launches

    def launch(self, stream=None):
        counted["graphs"] += 1
        for run in self._launches:
            run()


launched_on = []  # the stream of each launch
counted = Counter()  # launches, kernels of CuPy's own, graphs, and waits for what the device has to finish


class Stream:
    def __init__(self, non_blocking=False):
        assert non_blocking

    def use(self):
        _thread.stream = self

    def synchronize(self):
        assert _captured() is None
        counted["waits"] += 1

    def record(self):
        return Event()

    def wait_event(self, event):
        assert isinstance(event, Event)

    def begin_capture(self):
        assert _thread.stream is self and _captured() is None
        _thread.launches = []

    def end_capture(self):
        launches, _thread.launches = _thread.launches, None
        return Graph(launches)


def _captured():
    return getattr(_thread, "launches", None)


class MemoryPool:
    def malloc(self, size):
        raise NotImplementedError


@contextlib.contextmanager
def using_allocator(malloc):
    _thread.pool = weakref.ref(malloc.__self__)
    try:
        yield
    finally:
        _thread.pool = None


class Event:
    def __init__(self, disable_timing=False):
        pass

    def record(self, stream):
        pass

    def synchronize(self):
        pass


class RuntimeFailure(RuntimeError):
    """cupy.cuda.runtime.CUDARuntimeError."""


class CompileException(Exception):
    """cupy.cuda.compiler.CompileException."""


class RawModule:
    def __init__(self, code, options):
        self._device = EmulatedDevice()

    def get_function(self, name):
        def kernel(grid, block, args, shared_mem=0):
            def run():
                self._device._run(name, grid, block[0], shared_mem, [bare(value) for value in args])

            launched_on.append(_thread.stream)
            counted["launches"] += 1
            run() if _captured() is None else _captured().append(run)

        return kernel


def modules(devices=1, capability="90", failure=None, compile_error=None, load_error=None):
    """What to put in sys.modules as cupy and cupyx."""

    def device_count():
        if failure:
            raise RuntimeFailure(failure)
        return devices

    def raw_module(code, options):
        if load_error:
            raise RuntimeError(load_error)
        if compile_error:
            raise CompileException(compile_error)
        return RawModule(code, options)

    def empty(shape, dtype=np.float32):
        return fresh(np.empty(shape, dtype))

    def asarray(array, dtype=None):
        assert _captured() is None
        return fresh(np.array(bare(array), dtype))

    def contiguous(array, dtype=None):
        if array.flags.c_contiguous and dtype in (None, array.dtype):
            return array
        return computed(lambda: np.array(bare(array), dtype, order="C"))

    def asnumpy(array, stream=None):
        assert _captured() is None and stream is _thread.stream
        counted["waits"] += 1
        return np.array(bare(array))

    runtime = types.SimpleNamespace(
        CUDARuntimeError=RuntimeFailure, getDeviceCount=device_count, runtimeGetVersion=lambda: 12090
    )
    cuda = types.SimpleNamespace(
        runtime=runtime,
        compiler=types.SimpleNamespace(CompileException=CompileException),
        Device=lambda: types.SimpleNamespace(
            compute_capability=capability,
            mem_info=(1 << 24, 1 << 25),
            attributes={"MaxSharedMemoryPerBlockOptin": MOST_SHARED},
        ),
        Stream=Stream,
        Event=Event,
        MemoryPool=MemoryPool,
        using_allocator=using_allocator,
        get_current_stream=lambda: getattr(_thread, "stream", None),
    )
    cupy, cupyx = types.ModuleType("cupy"), types.ModuleType("cupyx")
    cupy.cuda, cupy.ndarray, cupy.RawModule = cuda, Array, raw_module
    cupy.empty, cupy.asarray = empty, asarray
    cupy.ascontiguousarray = contiguous
    cupy.asnumpy = asnumpy
    cupy.copyto = lambda there, array: np.copyto(bare(there), array.array)
    cupyx.empty_pinned = lambda shape, dtype: np.empty(shape, dtype)
    return {"cupy": cupy, "cupyx": cupyx}
