"""A whole training step and scoring pass: checked against the reference, then timed beside PyTorch."""

import numpy as np
import operations
import pytest
from interleave import Peer

from rotinv.lrp.ledger import Widener
from rotinv.nn import architectures
from rotinv.nn.devices import get_kernels
from rotinv.nn.layers import Train


@pytest.mark.parametrize("arch", architectures.ARCHITECTURES)
def test_a_training_step_against_the_reference(arch):
    """Logits, loss and gradients of one batch, to 1e-4 of the largest.

    The reference goes backward from the activations of the cpu's own forward pass. Where float32 takes
    another branch of an activation or maximum, both then take the same one, and only arithmetic is compared.
    """
    network, cpu, reference = architectures.build(arch), get_kernels("cpu"), get_kernels("reference")
    params = np.float32(network.initial("he", 5))
    stamps = np.random.default_rng(6).uniform(size=(8, *network.in_shape)).astype(np.float32)
    label, mode = cpu.asindex(np.arange(8) % 2), Train(1, 2)
    logits, tape = network.record(cpu, params, stamps, mode)
    loss, dz = cpu.softmax.cross_entropy(logits, label, cpu.asarray([1.0, 1.0]))
    grads = cpu.zeros((network.size,))
    network.backward(cpu, params, grads, tape, dz)
    exact_logits, _ = network.record(reference, np.float64(params), np.float64(stamps), mode)
    exact_loss, _ = reference.softmax.cross_entropy(exact_logits, label, reference.asarray([1.0, 1.0]))
    exact = np.zeros(network.size)
    network.backward(reference, np.float64(params), exact, Widener(cpu, reference)(tape), np.float64(dz))
    for found, expected in ((logits, exact_logits), (loss, exact_loss), (grads, exact)):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_time_the_peak(time_beside, threads):
    time_beside("peak", threads)


TORCH = Peer("torch", "pytorch.py")
RUNTIMES = (
    Peer("onnxruntime", "onnx_runtime.py"),
    Peer("openvino", "openvino_cpu.py", ("f32",)),
    Peer("openvino", "openvino_cpu.py", ("bf16",), counts=False),
)


@pytest.mark.parametrize("operation", operations.TRAINING)
def test_time_training_beside_pytorch_and_jax(time_beside, operation, threads):
    time_beside(operation, threads, TORCH, Peer("jax", "jax_cpu.py"))


@pytest.mark.parametrize("operation", operations.SCORING)
def test_time_scoring_beside_pytorch_and_two_runtimes(time_beside, operation, threads):
    time_beside(operation, threads, TORCH, *RUNTIMES)


@pytest.mark.parametrize("operation", operations.DENSE)
def test_time_beside_numpy(time_beside, operation, threads):
    time_beside(operation, threads, Peer("numpy", "openblas.py"))


@pytest.mark.parametrize("operation", operations.CONVOLUTIONS)
def test_time_the_convolutions(time_beside, operation, threads):
    time_beside(operation, threads)
