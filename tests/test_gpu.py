"""On a GPU, where there is one (`pytest tests -m gpu`): every kernel, whole steps, whole trainings."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
from programs import ENVIRONMENT, ROOT, toy_store
from test_cuda import CASES, PRECISION, precision_of, results
from test_cuda_networks import SHAPES, trained
from test_network import check_authors_cap

from rotinv import train
from rotinv.lrp import composites
from rotinv.lrp.relevance import prepared, relevance
from rotinv.nn import architectures
from rotinv.nn.devices import get_kernels
from rotinv.runs import history, trials
from rotinv.system.errors import UserError

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def gpu():
    """The kernels by precision."""
    try:
        return {precision: get_kernels("cuda", precision=precision) for precision in ("fp32", "tf32", "fp16")}
    except UserError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", CASES)
def test_a_kernel_against_the_reference_on_fresh_numbers(gpu, name):
    precision = precision_of(name)
    k, seed = gpu[precision], np.random.SeedSequence().entropy
    exact, found, again = (results(name, device, seed) for device in (get_kernels("reference"), k, k))
    for one, two, expected in zip(found, again, exact, strict=True):
        error = np.abs(one - expected).max() / (np.abs(expected).max() or 1)
        assert error <= PRECISION[precision], f"seed {seed}"
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("precision", PRECISION)
@pytest.mark.parametrize("shape", SHAPES)
def test_replayed_graphs_are_the_steps_of_the_cpu(gpu, shape, precision, tmp_path):
    k = gpu[precision]
    expected = trained(get_kernels("cpu"), shape, tmp_path)
    found = trained(k, shape, tmp_path)
    tolerance = {"fp32": 1e-5, "tf32": 2e-3}[precision]
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(trained(k, shape, tmp_path), found)


@pytest.mark.parametrize("precision, tolerance", [("fp32", 1e-5), ("tf32", 5e-3), ("fp16", 5e-3)])
def test_authors_cap_on_real_alerts(gpu, real_data, precision, tolerance):
    check_authors_cap(gpu[precision], real_data, tolerance)


def test_models_train_at_once_as_alone(gpu, tmp_path):
    """Three graphs on three streams, each captured while others run; the bits of one after another."""

    def job(number):
        def run(stopped):
            k = get_kernels("cuda", precision="tf32")
            return trained(k, SHAPES[number % 2], tmp_path, steps=30)

        return run

    jobs = [job(number) for number in range(3)]
    together, alone = (trials.run_side_by_side(jobs, at_once, lambda: False) for at_once in (True, False))
    for one, two in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one, two)


def test_four_turns_of_a_stamp_score_alike(gpu, rng):
    network, stamps = architectures.build("cap"), np.float32(rng.uniform(size=(23, 21, 21, 4)))
    for k in gpu.values():
        params = k.asarray(np.float32(network.initial("he", 1)))
        turned = [np.ascontiguousarray(np.rot90(stamps, turn, axes=(1, 2))) for turn in range(4)]
        scores = [k.to_host(network.forward(k, params, k.asarray(x))) for x in turned]
        for other in scores[1:]:
            np.testing.assert_array_equal(other, scores[0])
        for i in (0, 22):
            alone = k.to_host(network.forward(k, params, k.asarray(stamps[i : i + 1])))
            np.testing.assert_array_equal(alone[0], scores[0][i])


@pytest.mark.parametrize("rule", composites.COMPOSITES)
def test_relevance_against_the_reference(gpu, rng, rule):
    network, k = architectures.build("cap"), gpu["fp32"]
    params, x = np.float32(network.initial("authors", 3)), np.float32(rng.uniform(size=(4, 21, 21, 4)))
    exact = relevance(
        get_kernels("reference"), network, np.float64(params), np.float64(x), composites.named(rule)
    )
    found = relevance(k, network, k.asarray(params), k.asarray(x), composites.named(rule))
    for one, two in zip(found.relevance, exact.relevance, strict=True):
        np.testing.assert_allclose(k.to_host(one), two, rtol=0, atol=2e-3 * np.abs(two).max())


def test_relevance_as_a_graph_has_the_bits_of_its_launches(gpu, rng):
    network = architectures.build("cap")
    params, rules = np.float32(network.initial("authors", 3)), composites.named("alpha2beta1")
    for k in gpu.values():
        there = k.asarray(params)
        of_block = prepared(k, network, there, rules)
        for _ in range(4):  # run, captured, replayed twice
            x = k.asarray(rng.uniform(size=(5, 21, 21, 4)))
            expected, found = relevance(k, network, there, x, rules), of_block(x)
            for one, two in zip(found.relevance, expected.relevance, strict=True):
                np.testing.assert_array_equal(k.to_host(one), k.to_host(two))


def test_a_whole_training_learns_as_on_the_cpu(gpu, tmp_path):
    """Three thousand iterations: the mean loss of each third, and the last validation error."""
    store = toy_store(tmp_path, 2000)
    curves = {}
    for device in ("cpu", "cuda"):
        arguments = ["--data", store, "--out", tmp_path / device, "--iterations", 3000, "--batch", 20]
        assert train.main([str(a) for a in [*arguments, "--validate-every", 500, "--device", device]]) == 0
        curves[device] = history.read(tmp_path / device / "history.csv")
    losses = {device: np.array_split([row.loss for row in rows], 3) for device, rows in curves.items()}
    for one, two in zip(losses["cuda"], losses["cpu"], strict=True):
        assert abs(np.mean(one) - np.mean(two)) < 0.02 + 0.15 * np.mean(two)
    errors = [
        [r.validation_error for r in rows if r.validation_error is not None][-1] for rows in curves.values()
    ]
    assert abs(errors[0] - errors[1]) < 0.02


STEP = """
import sys
sys.path.insert(0, "tests")
from pathlib import Path
from test_cuda_networks import SHAPES, trained
from test_network import check_authors_cap
from rotinv.nn.devices import get_kernels
for precision in ("fp32", "tf32"):
    trained(get_kernels("cuda", precision=precision), SHAPES[0], Path("."), steps=2)
"""


@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "initcheck"])
def test_compute_sanitizer_finds_nothing(gpu, tool):
    if shutil.which("compute-sanitizer") is None:
        pytest.skip("compute-sanitizer is not installed")
    command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", sys.executable, "-c", STEP]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
