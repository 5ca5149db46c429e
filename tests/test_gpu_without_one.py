"""kernels/cuda/gpu.py over a fake CuPy: uploads, graphs, and what it says where it cannot compute."""

import sys

import numpy as np
import pytest
from cuda_emulation import fake_cupy
from cuda_emulation.device import emulated, why_not
from programs import assert_refused, call, toy_arrays
from test_cuda_networks import SHAPES, trained

from rotinv.backend import get_kernels
from rotinv.errors import UserError

needs_emulator = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")


@pytest.fixture
def gpu(monkeypatch):
    """Put a fake CuPy in place; its arguments are the fake's."""

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


def test_without_cupy_the_remedy_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.delitem(sys.modules, "rotinv.kernels.cuda.gpu", raising=False)
    with pytest.raises(UserError, match=r"rotinv\[cuda\]"):
        get_kernels("cuda")
