"""An NVIDIA GPU through CuPy: its kernels as RawModules, uploads through pinned memory, steps as CUDA graphs.

All work of a Gpu is in the order of one stream, from whichever thread it comes; Gpus that are made in one
thread share it. Threads that train a model each make a Gpu each, and their graphs run beside one another.
"""

import contextlib
import tempfile
import threading

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
        self._uploads = {np.dtype(kind): _Upload(kind) for kind in (np.float32, np.int32, np.uint64)}
        families = [name for name in launch.FAMILIES if capability >= _TENSOR_CORES or "_tf32" not in name]
        self._functions = {name: f for family in families for name, f in _compiled(family).items()}

    def _use_stream(self):
        """Make its stream the calling thread's current one: CuPy's own arithmetic is in that order too."""
        if cupy.cuda.get_current_stream() is not self._stream:
            self._stream.use()

    def empty(self, shape, dtype=np.float32):
        self._use_stream()  # CuPy gives freed memory out again in the order of the current stream
        return cupy.empty(shape, dtype)

    def _run(self, name, grid, threads, args):
        self._use_stream()
        self._functions[name](grid, (threads,), tuple(args))

    def to_host(self, array):
        """A NumPy array; waits for what computes it."""
        self._use_stream()
        return cupy.asnumpy(array, stream=self._stream)

    def _moved(self, array, dtype):
        self._use_stream()
        if isinstance(array, cupy.ndarray):
            return cupy.ascontiguousarray(array, dtype)
        return self._uploads[np.dtype(dtype)](np.asarray(array, dtype), self._stream)

    def fill_in(self, there, array):
        there.set(np.ascontiguousarray(array, np.float32), stream=self._stream)
        self._stream.synchronize()  # the host's array may be gone after this

    def room(self):
        """Half of what is free: the rest is for the arithmetic."""
        return cupy.cuda.Device().mem_info[0] // 2

    def repeated(self, function):
        """As in launch.Device: the first call runs and is then captured as a graph, the others replay it."""
        captured = []

        def call(*args):
            self._use_stream()
            if captured:
                return captured[0].replay(args)
            inputs = [launch.as_input(self, value) for value in args]
            graph = _Graph(self._stream, function, inputs)
            captured.append(graph)
            return graph.first

        return call


class _Graph:
    """A function captured over its own inputs; `first` and `outputs` are what it gave then and gives now.

    Its arrays are of a memory pool of its own, so that nobody else is given them, and live as long as it.
    """

    def __init__(self, stream, function, inputs):
        self._stream, self._inputs, self._pool = stream, inputs, cupy.cuda.MemoryPool()
        with cupy.cuda.using_allocator(self._pool.malloc):
            self.first = function(*inputs)
            stream.synchronize()
            stream.begin_capture()
            try:
                self.outputs = function(*inputs)
            except BaseException:
                with contextlib.suppress(RuntimeError):
                    stream.end_capture()  # or nothing more could be done on this stream
                raise
            self._graph = stream.end_capture()

    def replay(self, args):
        """What the function gives for other arguments; overwritten by the next replay."""
        for held, value in zip(self._inputs, args, strict=True):
            if launch.is_number(value):
                held.fill(value)
            else:
                cupy.copyto(held, value)
        self._graph.launch(stream=self._stream)
        return self.outputs


class _Upload:
    """Uploads of a dtype through two pinned buffers, on a stream beside the one that computes.

    The buffers grow to the largest array: shapes may vary without end, as those of alerts' blocks do.
    """

    def __init__(self, dtype):
        self._dtype, self._size, self._turn = dtype, 0, 0
        self._taken = [cupy.cuda.Event(disable_timing=True) for _ in range(2)]
        self._stream = cupy.cuda.Stream(non_blocking=True)

    def __call__(self, array, stream):
        """A fresh array on the device, for use on `stream`."""
        size = array.size
        if size > self._size:
            self._grow(size, stream)
        if size == 0:
            return cupy.empty(array.shape, self._dtype)
        self._turn ^= 1
        pinned, there, taken = self._pinned[self._turn], self._there[self._turn], self._taken[self._turn]
        taken.synchronize()  # the upload before the last has left the buffers
        pinned[:size] = array.reshape(-1)
        there[:size].set(pinned[:size], stream=self._stream)
        stream.wait_event(self._stream.record())
        found = there[:size].copy()
        taken.record(stream)
        return found.reshape(array.shape)

    def _grow(self, size, stream):
        """Larger buffers. What `stream` computes may still use them, or the memory that the new ones get."""
        stream.synchronize()
        self._pinned = [cupyx.empty_pinned(size, self._dtype) for _ in range(2)]
        self._there = [cupy.empty(size, self._dtype) for _ in range(2)]
        self._size = size


def _stream_of_thread():
    if not hasattr(_thread, "stream"):
        _thread.stream = cupy.cuda.Stream(non_blocking=True)
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
        with tempfile.NamedTemporaryFile("w", prefix=f"rotinv-{family}-", suffix=".log", delete=False) as log:
            log.write(str(error))  # a file of its own: another user's could not be overwritten
        lines = [line for line in str(error).splitlines() if "error" in line] or [str(error)]
        raise Unusable(f"{family}.cu does not compile: {lines[0].strip()} (log: {log.name})") from None
    except RuntimeError as error:  # CUDA's own, or libnvrtc is not found: CuPy's wheel does not bring it
        reason = str(error).splitlines()[0]
        raise Unusable(
            f"{family}.cu does not load ({reason}); is the driver too old, or NVRTC missing?"
        ) from None
