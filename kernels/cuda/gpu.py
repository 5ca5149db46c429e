"""An NVIDIA GPU through CuPy: its kernels as RawModules, uploads through pinned memory, training steps as
CUDA graphs.

A Gpu does all its work in the order of one CUDA stream, whichever thread asks for it. Gpus made in one thread
share that stream. Threads that each train a model make a Gpu each, and their graphs then run at the same
time.
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
_SHARED_UNASKED = 48 * 1024  # bytes of shared memory that a block may have without asking


_thread = threading.local()


class Unusable(Exception):
    """The reason why this machine cannot compute on a GPU, in one line."""


class Gpu(launch.Device):
    """The current GPU. Raises Unusable if there is none, or if it cannot run the kernels."""

    xp = cupy

    def __init__(self, precision):
        capability = _capability()
        attributes = cupy.cuda.Device().attributes
        super().__init__(
            "fp32" if capability < _TENSOR_CORES else precision, attributes["MaxSharedMemoryPerBlockOptin"]
        )
        self._stream = _stream_of_thread()
        self._uploads = {np.dtype(kind): _Upload(kind) for kind in (np.float32, np.int32, np.uint64)}
        families = [
            name
            for name in launch.FAMILIES
            if capability >= _TENSOR_CORES or not launch.on_tensor_cores(name)
        ]
        self._given_shared: set[str] = set()  # kernels that were allowed more shared memory than usual
        self._functions = {name: f for family in families for name, f in _compiled(family).items()}

    def _use_stream(self):
        """Make the Gpu's stream current in the calling thread, so that CuPy's own arithmetic is in its order
        too."""
        if cupy.cuda.get_current_stream() is not self._stream:
            self._stream.use()

    def empty(self, shape, dtype=np.float32):
        self._use_stream()  # CuPy reuses freed memory in the order of the current stream
        return cupy.empty(shape, dtype)

    def _run(self, name, grid, threads, shared, args):
        self._use_stream()
        function = self._functions[name]
        if shared > _SHARED_UNASKED and name not in self._given_shared:
            function.max_dynamic_shared_size_bytes = shared
            function.preferred_shared_memory_carveout = 100  # per cent: else fewer blocks run at once
            self._given_shared.add(name)
        function(grid, (threads,), tuple(args), shared_mem=shared)

    def to_host(self, array):
        """A NumPy array; waits until the array has been computed."""
        self._use_stream()
        return cupy.asnumpy(array, stream=self._stream)

    def _moved(self, array, dtype):
        self._use_stream()
        if isinstance(array, cupy.ndarray):
            return cupy.ascontiguousarray(array, dtype)
        return self._uploads[np.dtype(dtype)](np.asarray(array, dtype), self._stream)

    def fill_in(self, there, array):
        there.set(np.ascontiguousarray(array, np.float32), stream=self._stream)
        self._stream.synchronize()  # the caller may free the host's array after this

    def room(self):
        """Bytes that a data set may have: half of the free memory, since computing needs the rest."""
        return cupy.cuda.Device().mem_info[0] // 2

    def repeated(self, function):
        """As launch.Device.repeated: the first call runs the function and captures it as a graph, which the
        others replay."""
        captured = []

        def call(*args):
            self._use_stream()
            if captured:
                return captured[0].replay(args)
            inputs = [launch.as_input(self, value) for value in args]
            graph, first = _captured(self._stream, function, inputs, self.numbers)
            captured.append(graph)
            return first

        return call


def _captured(stream, function, inputs, numbers):
    """A function's graph, and what it gave when it was run before, for CuPy to compile its own kernels."""
    pool = cupy.cuda.MemoryPool()
    with cupy.cuda.using_allocator(pool.malloc):
        first = function(*inputs)
        stream.synchronize()
        stream.begin_capture()
        try:
            outputs = function(*inputs)
        except BaseException:
            with contextlib.suppress(RuntimeError):
                stream.end_capture()  # a stream that still captures could do nothing else
            raise
        return _Graph(stream, inputs, numbers, pool, outputs, stream.end_capture()), first


class _Graph:
    """A function captured as a graph, which reads its own copies of the inputs.

    `outputs` are the arrays that each replay overwrites. Its arrays are in a memory pool of their own, so
    that nothing else uses that memory while the graph lives.
    """

    def __init__(self, stream, inputs, numbers, pool, outputs, graph):
        self._stream, self._inputs, self._pool = stream, inputs, pool
        self._numbers = numbers  # brings lists of numbers to the device
        self.outputs, self._graph = outputs, graph

    def replay(self, args):
        """The function's results for other arguments; the next replay overwrites them."""
        for held, value in zip(self._inputs, args, strict=True):
            if launch.is_number(value):
                held.fill(value)
            else:
                cupy.copyto(held, self._numbers(value) if isinstance(value, list) else value)
        self._graph.launch(stream=self._stream)
        return self.outputs


class _Upload:
    """Uploads of one dtype through two pinned buffers, on a stream of their own beside the one that computes.

    The buffers grow to the largest array so far. Shapes may vary from call to call, as those of blocks of
    alerts do.
    """

    def __init__(self, dtype):
        self._dtype, self._size, self._turn = dtype, 0, 0
        self._one_at_a_time = threading.Lock()  # threads that share a Gpu share its buffers
        self._taken = [cupy.cuda.Event(disable_timing=True) for _ in range(2)]
        self._stream = cupy.cuda.Stream(non_blocking=True)

    def __call__(self, array, stream):
        """A fresh array on the device, for use on `stream`."""
        with self._one_at_a_time:
            return self._uploaded(array, stream)

    def _uploaded(self, array, stream):
        size = array.size
        if size > self._size:
            self._grow(size, stream)
        if size == 0:
            return cupy.empty(array.shape, self._dtype)
        self._turn ^= 1
        pinned, there, taken = self._pinned[self._turn], self._there[self._turn], self._taken[self._turn]
        taken.synchronize()  # the upload before the last no longer needs this buffer
        pinned[:size] = array.reshape(-1)
        there[:size].set(pinned[:size], stream=self._stream)
        stream.wait_event(self._stream.record())
        found = there[:size].copy()
        taken.record(stream)
        return found.reshape(array.shape)

    def _grow(self, size, stream):
        """Make the buffers larger. First waits for `stream`, which may still use the old ones or the memory
        of the new."""
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
    """The functions of a family's source. CuPy keeps compiled kernels on disk."""
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
