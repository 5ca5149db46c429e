"""kernels/cuda/gpu.py over a fake CuPy: uploads, graphs, and what it says where it cannot compute."""

import contextlib
import re
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from cuda_emulation import fake_cupy
from cuda_emulation.device import emulated, why_not
from programs import assert_refused, call, toy_arrays
from test_cuda_networks import SHAPES, batches, begun, trained

from rotinv.nn.devices import get_kernels
from rotinv.runs import training
from rotinv.system.errors import UserError

needs_emulator = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """Put a fake CuPy in place; its arguments are the fake's."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # of logs

    def install(**fake):
        for name, module in fake_cupy.modules(**fake).items():
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.delitem(sys.modules, "rotinv.kernels.cuda.gpu", raising=False)

    yield install
    sys.modules.pop("rotinv.kernels.cuda.gpu", None)


@needs_emulator
@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_captured_steps_are_the_emulated_steps(gpu, precision, tmp_path):
    gpu()
    found = trained(get_kernels("cuda", precision=precision), SHAPES[0], tmp_path)
    np.testing.assert_array_equal(found, trained(emulated(precision), SHAPES[0], tmp_path))


@needs_emulator
def test_lists_of_numbers_reach_a_graph(gpu):
    gpu()
    k = get_kernels("cuda")
    params, grads = k.zeros((4,)), k.asarray(np.ones(4))
    update = k.repeated(lambda grads, rates: k.sgd.update(params, grads, rates[1:2]))
    for rates in ([0.0, 1.0], [0.0, 2.0], [5.0, 4.0]):
        update(grads, rates)
    np.testing.assert_array_equal(k.to_host(params), np.full(4, -7.0))


@needs_emulator
def test_without_tensor_cores_all_is_float32(gpu, tmp_path):
    gpu(capability="70")
    found = trained(get_kernels("cuda", precision="tf32"), SHAPES[0], tmp_path)
    np.testing.assert_array_equal(found, trained(emulated("fp32"), SHAPES[0], tmp_path))


@needs_emulator
def test_arrays_go_up_and_come_back(gpu):
    gpu()
    k = get_kernels("cuda")
    for i in range(5):  # the two pinned buffers take turns
        there = k.asarray(np.full((2, 3), i))
        assert isinstance(there, fake_cupy.Array) and there.dtype == np.float32
        assert k.asarray(there) is not None
        np.testing.assert_array_equal(k.to_host(there), np.full((2, 3), i))
    assert k.asindex([1, 2]).dtype == np.int32


@needs_emulator
def test_uploads_of_many_shapes_share_their_buffers(gpu, monkeypatch):
    """Alerts' blocks have any number of stamps: pinned memory for each would grow without end."""
    gpu()
    made, k = [], get_kernels("cuda")
    empty = sys.modules["cupyx"].empty_pinned
    monkeypatch.setattr(sys.modules["cupyx"], "empty_pinned", lambda *a: made.append(a) or empty(*a))
    for size in (40, 7, 40, 0, 13, 39):
        array = np.random.default_rng(size).normal(size=(size, 3)).astype(np.float32)
        np.testing.assert_array_equal(k.to_host(k.asarray(array[:, ::-1])), array[:, ::-1])
    assert len(made) == 2


@needs_emulator
def test_threads_that_share_a_device_do_not_share_what_they_upload(gpu, monkeypatch):
    gpu()
    k, copy = get_kernels("cuda"), fake_cupy.Array.set
    monkeypatch.setattr(fake_cupy.Array, "set", lambda *a, **how: time.sleep(0.002) or copy(*a, **how))
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda i: k.to_host(k.asarray(np.full(100, i, np.float32))), range(16)))
    for i, array in enumerate(found):
        np.testing.assert_array_equal(array, np.full(100, i))


@needs_emulator
def test_all_work_of_a_device_is_on_its_stream(gpu):
    """From whichever thread it comes, as a Dask worker's: a copy to the host must come after the kernels."""
    gpu()
    k, others = get_kernels("cuda"), []
    fake_cupy.launched_on.clear()

    def work():
        others.append(get_kernels("cuda"))  # this thread's own; it uses k all the same
        others[0].zeros((2,))
        k.to_host(k.softmax.forward(k.asarray(np.ones((2, 2)))))

    k.zeros((2,))
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    first, second, third = fake_cupy.launched_on
    assert first is third and second is not first


@needs_emulator
def test_a_graph_leaves_nothing_of_its_memory_behind(gpu, tmp_path):
    """Programs warm up by a step of a graph of its own, which is gone when they train."""
    gpu()
    k = get_kernels("cuda")
    run = begun(k, *SHAPES[0], tmp_path)
    training.warm_up(run)
    for batch in batches(run.network, 3):
        losses = k.to_host(training.step(run, *batch))
    assert np.isfinite(losses).all()


@needs_emulator
def test_what_fails_in_a_capture_ends_it(gpu):
    gpu()
    k, calls = get_kernels("cuda"), []

    def function(x):
        calls.append(x)
        if len(calls) == 2:  # the first call runs, the second is captured
            raise MemoryError
        return k.activation.forward(x, 0.0)

    with contextlib.suppress(MemoryError):
        k.repeated(function)(k.asarray([1.0]))
    assert len(calls) == 2
    np.testing.assert_array_equal(k.to_host(k.activation.forward(k.asarray([-1.0, 1.0]), 0.0)), [0, 1])


@pytest.mark.slow
@needs_emulator
def test_the_programs_leave_their_arrays_on_the_gpu_until_they_ask_for_them(gpu, tmp_path):
    """CuPy refuses to turn its arrays into NumPy's unasked, or to join the two, and so does the fake."""
    gpu()
    np.savez(tmp_path / "toy.npz", **toy_arrays(60))
    store, folder, cuda = tmp_path / "toy.h5", tmp_path / "run", ("--device", "cuda")
    explain = "explain", folder, store, "--index", 1, "--out"
    commands = [
        ("pack", tmp_path / "toy.npz", "--out", store, "--channels", "difference"),
        ("train", "--data", store, "--out", folder, "--iterations", 3, "--batch", 4, *cuda),
        ("train", "--data", store, "--out", folder, "--iterations", 3, "--batch", 4, "--trials", 2, *cuda),
        ("score", folder, store, "--out", tmp_path / "scores.csv", *cuda),
        (*explain, tmp_path / "a.png", *cuda),
        (*explain, tmp_path / "b.png", "--method", "guided", *cuda),
        (*explain, tmp_path / "c.png", "--rule", "epsilon-gamma-box", *cuda),
        ("audit", folder, store, "--index", 1, *cuda),
        ("invariance", folder, store, "--csv", tmp_path / "d.csv", *cuda),
        ("perturb", folder, store, "--csv", tmp_path / "e.csv", "--steps", 2, "--count", 2, *cuda),
    ]
    for command in commands:
        done = call(*command)
        assert done.returncode == 0, (command, done.stderr)


OLD = "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version"


@pytest.mark.parametrize(
    "fake, words",
    [
        ({"devices": 0}, ["no GPU", "--device cpu"]),
        ({"failure": "cudaErrorNoDevice: no CUDA-capable device is detected"}, ["no CUDA-capable device"]),
        ({"failure": OLD}, ["driver", "12.9", "update"]),
        ({"load_error": "CuPy failed to load libnvrtc.so.12\nmore"}, ["libnvrtc", "NVRTC missing"]),
        ({"capability": "61"}, ["compute capability 6.1", "7.0"]),
        ({"compile_error": "X\nconv.cu(3): error: no such thing\nY"}, ["error: no such thing", "log:"]),
    ],
)
def test_what_is_missing_is_told_in_one_line(gpu, fake, words, tmp_path):
    gpu(**fake)
    with pytest.raises(UserError) as error:
        get_kernels("cuda")
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)
    assert_refused(call("train", "--device", "cuda", "--out", tmp_path / "run"), *words)


def test_the_log_of_a_kernel_that_does_not_compile_is_kept(gpu):
    gpu(compile_error="X\nconv.cu(3): error: no such thing\nY")
    logs = []
    for _ in range(2):
        with pytest.raises(UserError) as error:
            get_kernels("cuda")
        logs.append(Path(re.search(r"log: (.*)\)", str(error.value))[1]))
    assert logs[0] != logs[1]
    for log in logs:
        assert log.read_text() == "X\nconv.cu(3): error: no such thing\nY"


def test_without_cupy_the_remedy_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.delitem(sys.modules, "rotinv.kernels.cuda.gpu", raising=False)
    with pytest.raises(UserError, match=r"rotinv\[cuda\]"):
        get_kernels("cuda")


def test_a_cupy_that_does_not_load_is_told_with_the_reason(monkeypatch, tmp_path):
    (tmp_path / "cupy.py").write_text("raise ImportError('=====\\nlibcuda.so.1: cannot open it\\n=====')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.delitem(sys.modules, "rotinv.kernels.cuda.gpu", raising=False)
    with pytest.raises(UserError, match=r"does not load \(libcuda.so.1: cannot open it\)"):
        get_kernels("cuda")
