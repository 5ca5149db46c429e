"""On a GPU (`--benchmark --device cuda`): steps, scoring and relevance beside PyTorch and zennit, and kernels
beside the card's measured ceilings. The kernels themselves are checked by `pytest tests -m gpu`."""

import operations
import processes
import pytest
from interleave import Peer
from test_start import READY


@pytest.mark.parametrize(
    "operation, precision", [("ceiling fp32", "fp32"), ("ceiling tf32", "tf32"), ("ceiling memory", "fp32")]
)
def test_time_the_ceilings(time_on_gpu, operation, precision):
    time_on_gpu(operation, precision, ours="peers/pytorch_cuda.py")


BOTH = [
    (operation, precision) for operation in ("cap training", "cap scoring") for precision in ("tf32", "fp32")
]
EXACT = ("contributions", "redistribute")  # for relevance, float32 always


@pytest.mark.parametrize(
    "operation, precision",
    [*BOTH, ("deephits training", "tf32"), ("cap scoring uploaded", "tf32"), ("cap scoring", "fp16")],
)
def test_time_beside_pytorch(time_on_gpu, operation, precision):
    time_on_gpu(operation, precision, Peer("torch", "pytorch_cuda.py"))


@pytest.mark.parametrize("operation", operations.RELEVANCE)
def test_time_beside_zennit(time_on_gpu, operation):
    time_on_gpu(operation, "fp32", Peer("zennit", "zennit_cuda.py"))


@pytest.mark.parametrize("operation", operations.CONVOLUTIONS)
def test_time_the_convolutions(time_on_gpu, operation):
    time_on_gpu(operation, "fp32" if operation.split()[1] in EXACT else "tf32")


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """One to train with, and one of many stamps to score."""
    folder = tmp_path_factory.mktemp("stores")
    train = processes.make_store(folder / "train.h5", 20_000, 100)
    return train, processes.make_store(folder / "100000.h5", 100, 100_000)


@pytest.mark.parametrize("precision", ["tf32", "fp32"])
def test_time_programs(time_process_on_gpu, request, tmp_path, precision):
    """A training of 20,000 iterations, and stamps scored from the disk."""
    store, many = request.getfixturevalue("stores")  # not made where this is skipped
    run, how = str(tmp_path / "run"), ["--device", "cuda", "--precision", precision]
    train = ["rotinv.train", "--data", str(store), "--iterations", "20000", "--out", run, *how]
    time_process_on_gpu(train, until=READY)
    time_process_on_gpu(["rotinv.score", run, str(many), "--out", str(tmp_path / "scores.csv"), *how])
