"""As much of CuPy as kernels/cuda/gpu.py uses, over NumPy and the emulated device, to run its logic.

While a stream captures, launches are recorded and not run, as CUDA does.
"""

import contextlib
import types

import numpy as np

from cuda_emulation.device import EmulatedDevice


class Array(np.ndarray):
    """An array on the fake GPU; others are on the host."""

    def set(self, array, stream=None):
        assert array.flags.c_contiguous and array.dtype == self.dtype and not isinstance(array, Array)
        self[...] = array


class Graph:
    def __init__(self, launches):
        self._launches = launches

    def launch(self, stream=None):
        for run in self._launches:
            run()


class Stream:
    capturing = None

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
        Stream.capturing = []

    def end_capture(self):
        launches, Stream.capturing = Stream.capturing, None
        return Graph(launches)


class Event:
    def __init__(self, disable_timing=False):
        pass

    def record(self, stream):
        pass

    def synchronize(self):
        pass


class RuntimeFailure(Exception):
    """cupy.cuda.runtime.CUDARuntimeError."""


class CompileException(Exception):
    """cupy.cuda.compiler.CompileException."""


class RawModule:
    def __init__(self, code, options):
        self._device = EmulatedDevice()

    def get_function(self, name):
        def kernel(grid, block, args):
            def run():
                self._device._run(name, grid, block[0], list(args))

            run() if Stream.capturing is None else Stream.capturing.append(run)

        return kernel


def modules(devices=1, capability="90", failure=None, compile_error=None):
    """What to put in sys.modules as cupy and cupyx."""

    def device_count():
        if failure:
            raise RuntimeFailure(failure)
        return devices

    def raw_module(code, options):
        if compile_error:
            raise CompileException(compile_error)
        return RawModule(code, options)

    def empty(shape, dtype=np.float32):
        return np.empty(shape, dtype).view(Array)

    def asarray(array, dtype=None):
        assert Stream.capturing is None
        return np.array(array, dtype).view(Array)

    runtime = types.SimpleNamespace(
        CUDARuntimeError=RuntimeFailure, getDeviceCount=device_count, runtimeGetVersion=lambda: 12090
    )
    cuda = types.SimpleNamespace(
        runtime=runtime,
        driver=types.SimpleNamespace(CUDADriverError=type("CUDADriverError", (Exception,), {})),
        compiler=types.SimpleNamespace(CompileException=CompileException),
        Device=lambda: types.SimpleNamespace(compute_capability=capability),
        Stream=Stream,
        Event=Event,
        MemoryPool=lambda: types.SimpleNamespace(malloc=None),
        using_allocator=lambda malloc: contextlib.nullcontext(),
    )
    cupy, cupyx = types.ModuleType("cupy"), types.ModuleType("cupyx")
    cupy.cuda, cupy.ndarray, cupy.RawModule = cuda, Array, raw_module
    cupy.empty, cupy.asarray = empty, asarray
    cupy.ascontiguousarray = lambda array, dtype=None: np.ascontiguousarray(array, dtype).view(Array)
    cupy.asnumpy = lambda array, stream=None: np.array(array.view(np.ndarray))
    cupy.copyto = np.copyto
    cupyx.empty_pinned = np.empty
    return {"cupy": cupy, "cupyx": cupyx}
