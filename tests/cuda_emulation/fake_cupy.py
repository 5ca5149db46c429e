"""As much of CuPy as kernels/cuda/gpu.py uses, over NumPy and the emulated device, to run its logic.

While a stream captures, launches are recorded and not run, as CUDA does.
"""

import contextlib
import threading
import types

import numpy as np

from cuda_emulation.device import EmulatedDevice


class Array(np.lib.mixins.NDArrayOperatorsMixin):
    """An array on the fake GPU. As CuPy's it is never turned into one of the host, nor joined with one."""

    def __init__(self, array):
        self.array = array

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __array_ufunc__(self, ufunc, method, *args, **options):
        if method != "__call__" or any(isinstance(a, np.ndarray) and a.ndim for a in args):
            return NotImplemented
        if out := options.get("out"):
            options["out"] = tuple(array.array for array in out)
        found = ufunc(*map(bare, args), **options)
        return out[0] if out else Array(found)

    def __array_function__(self, function, types, args, options):
        if function is not np.where:
            return NotImplemented
        return Array(np.where(*map(bare, args)))

    def __getattr__(self, name):
        if name not in ("shape", "dtype", "size", "ndim", "flags", "fill"):
            raise AttributeError(f"the fake of CuPy has no {name}")
        return getattr(self.array, name)

    def __len__(self):
        return len(self.array)

    def __getitem__(self, key):
        return Array(self.array[key])

    def __setitem__(self, key, value):
        self.array[key] = bare(value)

    def reshape(self, *shape):
        return Array(self.array.reshape(*shape))

    def copy(self):
        return Array(self.array.copy())

    def clip(self, low, high):
        return Array(self.array.clip(low, high))

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
        for run in self._launches:
            run()


_capture = threading.local()  # its launches: a thread has one stream


class Stream:
    def __init__(self, non_blocking=False):
        assert non_blocking

    def use(self):
        pass

    synchronize = use

    def record(self):
        return Event()

    def wait_event(self, event):
        assert isinstance(event, Event)

    def begin_capture(self):
        _capture.launches = []

    def end_capture(self):
        launches, _capture.launches = _capture.launches, None
        return Graph(launches)


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
        def kernel(grid, block, args):
            def run():
                self._device._run(name, grid, block[0], [bare(value) for value in args])

            launches = getattr(_capture, "launches", None)
            run() if launches is None else launches.append(run)

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
        return Array(np.empty(shape, dtype))

    def asarray(array, dtype=None):
        assert getattr(_capture, "launches", None) is None
        return Array(np.array(bare(array), dtype))

    runtime = types.SimpleNamespace(
        CUDARuntimeError=RuntimeFailure, getDeviceCount=device_count, runtimeGetVersion=lambda: 12090
    )
    cuda = types.SimpleNamespace(
        runtime=runtime,
        compiler=types.SimpleNamespace(CompileException=CompileException),
        Device=lambda: types.SimpleNamespace(compute_capability=capability, mem_info=(1 << 24, 1 << 25)),
        Stream=Stream,
        Event=Event,
        MemoryPool=lambda: types.SimpleNamespace(malloc=None),
        using_allocator=lambda malloc: contextlib.nullcontext(),
    )
    cupy, cupyx = types.ModuleType("cupy"), types.ModuleType("cupyx")
    cupy.cuda, cupy.ndarray, cupy.RawModule = cuda, Array, raw_module
    cupy.empty, cupy.asarray = empty, asarray
    cupy.ascontiguousarray = lambda array, dtype=None: Array(np.ascontiguousarray(bare(array), dtype))
    cupy.asnumpy = lambda array, stream=None: np.array(bare(array))
    cupy.copyto = lambda there, array: np.copyto(bare(there), array.array)
    cupyx.empty_pinned = np.empty
    return {"cupy": cupy, "cupyx": cupyx}
