"""What the tests share: the devices, the tolerances, the folder of real data."""

import os
import signal
from pathlib import Path

# The tests multiply small matrices by the thousand. OpenBLAS's threads wait for each other at every one, and
# on a machine with other work such a product takes 30 times as long. It reads this when NumPy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# With `pytest -n 2` two processes share the cores, and Numba's threads (OpenMP's) spin while they wait for
# each other: trainings then take twice as long. Passive ones sleep. OpenMP reads this when Numba starts them.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import chromium
import numpy as np
import pytest
from cuda_emulation import device as emulation
from programs import toy_store

from rotinv.nn.devices import get_kernels

# `pytest &` in a shell script ignores SIGINT, and so would the programs that the tests interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The largest deviation from the float64 reference, relative to the largest value, of one kernel.
TOLERANCE = {np.dtype(np.float64): 1e-12, np.dtype(np.float32): 2e-5}


EMULATED = pytest.param(
    "cuda-emulated", marks=pytest.mark.skipif(bool(emulation.why_not()), reason=emulation.why_not() or "-")
)
DEVICES = ["reference", "cpu", EMULATED]


def kernels_of(device, precision="fp32"):
    """The kernels of a device that every machine has, or of the emulated GPU."""
    return emulation.emulated(precision) if device == "cuda-emulated" else get_kernels(device)


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=20, help="kills of each program by a drill")
    text = "damaged files of each kind by a drill"
    parser.addoption("--mutations", type=int, default=200, help=text)


@pytest.fixture(scope="session")
def kills(request):
    return request.config.getoption("--kills")


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """A stamp store of 300 toy stamps, which no test changes."""
    return toy_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def cluster():
    """A Dask cluster of two processes."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=2, processes=True, dashboard_address=":0", memory_limit=0
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A page of a browser; tests that need one are skipped where there is no Chromium."""
    if not chromium.find():
        pytest.skip("there is no Chromium on this machine (apt-get install chromium)")
    with chromium.opened(tmp_path_factory.mktemp("chromium")) as page:
        yield page


@pytest.fixture(params=DEVICES)
def k(request):
    """The kernels of each device that every machine has, and the CUDA kernels emulated."""
    return kernels_of(request.param)


@pytest.fixture
def cpu():
    return get_kernels("cpu")


@pytest.fixture
def reference():
    return get_kernels("reference")


@pytest.fixture
def rng():
    return np.random.default_rng(20181101)


@pytest.fixture(scope="session")
def real_data():
    """The folder of real data; tests that need it are skipped where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("ROTINV_REAL_DATA") or default)
    if not folder.is_dir():
        pytest.skip("the real data are not on this machine (ROTINV_REAL_DATA names their folder)")
    return folder


def assert_close(actual, expected):
    """actual agrees with the float64 `expected` to its own dtype's tolerance."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.isfinite(expected).all()
    scale = np.max(np.abs(expected), initial=1e-30)
    np.testing.assert_allclose(actual / scale, expected / scale, rtol=0, atol=TOLERANCE[actual.dtype])
