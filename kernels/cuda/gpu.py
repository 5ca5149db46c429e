"""An NVIDIA GPU through CuPy: its kernels as RawModules, uploads through pinned memory, steps as CUDA graphs.

All work of a thread is in the order of one stream, which is CuPy's current one there: threads that train a
model each make a Gpu each, and their graphs run beside one another.
"""

import tempfile
import threading
from pathlib import Path

import cupy
import cupyx
import numpy as np

from rotinv.kernels.cuda import launch

_TENSOR_CORES = 80  # compute capability from which there is tf32
_OLDEST = 70


_thread = threading.local()


class Unusable(Exception):
    """What keeps this machine from computing on a GPU, in one line."""


class Gpu(launch.Device):
    """The current GPU. Raises Unusable if there is none, or if it cannot run the kernels."""

    xp = cupy

    def __init__(self, precision):
        capability = _capability()
        super().__init__("fp32" if capability < _TENSOR_CORES else precision)
        self._stream = _stream_of_thread()
        self._uploads = {}
        families = [name for name in launch.FAMILIES if capability >= _TENSOR_CORES or "_tf32" not in name]
        self._functions = {name: f for family in families for name, f in _compiled(family).items()}

    def _run(self, name, grid, threads, args):
        self._functions[name](grid, (threads,), tuple(args))

    def to_host(self, array):
        """A NumPy array; waits for what computes it."""
        return cupy.asnumpy(array, stream=self._stream)

    def _moved(self, array, dtype):
        if isinstance(array, cupy.ndarray):
            return cupy.ascontiguousarray(array, dtype)
        array = np.asarray(array, dtype)
        key = array.shape, array.dtype
        if key not in self._uploads:
            self._uploads[key] = _Upload(*key)
        return self._uploads[key](array, self._stream)

    def fill_in(self, there, array):
        there.set(np.ascontiguousarray(array, np.float32), stream=self._stream)
        self._stream.synchronize()  # the host's array may be gone after this

    def room(self):
        """Half of what is free: the rest is for the arithmetic."""
        return cupy.cuda.Device().mem_info[0] // 2

    def repeated(self, function):
        """As in launch.Device: the first call runs and is then captured as a graph, the others replay it.

        The graph's arrays are of a memory pool of its own, so that nobody else is given them.
        """
        state = {}

        def call(*args):
            if not state:
                state["pool"] = cupy.cuda.MemoryPool()
                with cupy.cuda.using_allocator(state["pool"].malloc):
                    state["inputs"] = [launch.as_input(self, value) for value in args]
                    outputs = function(*state["inputs"])
                    self._stream.synchronize()
                    self._stream.begin_capture()
                    state["outputs"] = function(*state["inputs"])
                    state["graph"] = self._stream.end_capture()
                return outputs
            for held, value in zip(state["inputs"], args, strict=True):
                if launch.is_number(value):
                    held.fill(value)
                else:
                    cupy.copyto(held, value)
            state["graph"].launch(stream=self._stream)
            return state["outputs"]

        return call


class _Upload:
    """Uploads of one shape through two pinned buffers, on a stream beside the one that computes."""

    def __init__(self, shape, dtype):
        self._pinned = [cupyx.empty_pinned(shape, dtype) for _ in range(2)]
        self._there = [cupy.empty(shape, dtype) for _ in range(2)]
        self._taken = [cupy.cuda.Event(disable_timing=True) for _ in range(2)]
        self._stream = cupy.cuda.Stream(non_blocking=True)
        self._turn = 0

    def __call__(self, array, stream):
        """A fresh array on the device, for use on `stream`."""
        self._turn ^= 1
        pinned, there, taken = self._pinned[self._turn], self._there[self._turn], self._taken[self._turn]
        taken.synchronize()  # the upload before the last has left the buffers
        pinned[...] = array
        there.set(pinned, stream=self._stream)
        stream.wait_event(self._stream.record())
        found = there.copy()
        taken.record(stream)
        return found


def _stream_of_thread():
    if not hasattr(_thread, "stream"):
        _thread.stream = cupy.cuda.Stream(non_blocking=True)
        _thread.stream.use()
    return _thread.stream


def _capability():
    """The GPU's compute capability times ten."""
    runtime = cupy.cuda.runtime
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        if "InsufficientDriver" in str(error):
            version = _version(runtime.runtimeGetVersion())
            raise Unusable(
                f"the NVIDIA driver is absent, or too old for CUDA {version}: install or update it"
            ) from None
        raise Unusable(f"finds no usable GPU ({error})") from None
    if count == 0:
        raise Unusable("finds no GPU on this machine")
    capability = int(cupy.cuda.Device().compute_capability)
    if capability < _OLDEST:
        raise Unusable(f"the GPU has compute capability {capability / 10}; the least is {_OLDEST / 10}")
    return capability


def _version(number):
    return f"{number // 1000}.{number % 1000 // 10}"


def _compiled(family):
    """The functions of a family's source; CuPy keeps on disk what it compiled."""
    declared = launch.declarations(family)
    try:
        module = cupy.RawModule(code=launch.source(family), options=("-std=c++17",))
        return {name: module.get_function(name) for name in declared}
    except cupy.cuda.compiler.CompileException as error:
        log = Path(tempfile.gettempdir()) / f"rotinv-{family}.log"
        log.write_text(str(error))
        lines = [line for line in str(error).splitlines() if "error" in line] or [str(error)]
        raise Unusable(f"{family}.cu does not compile: {lines[0].strip()} (log: {log})") from None
    except RuntimeError as error:  # CUDA's own, or libnvrtc is not found: CuPy's wheel does not bring it
        reason = str(error).splitlines()[0]
        raise Unusable(
            f"{family}.cu does not load ({reason}); is the driver too old, or NVRTC missing?"
        ) from None
