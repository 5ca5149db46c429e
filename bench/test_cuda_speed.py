"""On a GPU (`--benchmark --device cuda`): steps, scoring and relevance beside PyTorch and zennit, and kernels
beside the card's measured ceilings. The kernels themselves are checked by `pytest tests -m gpu`."""

import operations
import pytest


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
    "operation, precision", [*BOTH, ("deephits training", "tf32"), ("cap scoring uploaded", "tf32")]
)
def test_time_beside_pytorch(time_on_gpu, operation, precision):
    time_on_gpu(operation, precision, "torch", "pytorch_cuda.py")


@pytest.mark.parametrize("operation", operations.RELEVANCE)
def test_time_beside_zennit(time_on_gpu, operation):
    time_on_gpu(operation, "fp32", "zennit", "zennit_cuda.py")


@pytest.mark.parametrize("operation", operations.CONVOLUTIONS)
def test_time_the_convolutions(time_on_gpu, operation):
    time_on_gpu(operation, "fp32" if operation.split()[1] in EXACT else "tf32")
