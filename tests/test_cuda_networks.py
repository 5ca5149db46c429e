"""Whole training steps, scoring and relevance on the emulated GPU, beside the cpu and the reference."""

import time
import weakref
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from cuda_emulation.device import EmulatedDevice, emulated, why_not
from programs import assert_refused, call, toy_arrays, toy_store

from rotinv.lrp import composites
from rotinv.lrp.ledger import Widener
from rotinv.lrp.relevance import relevance
from rotinv.nn import architectures, devices
from rotinv.nn.devices import get_kernels
from rotinv.nn.layers import Train
from rotinv.paper import material
from rotinv.paper.place import Place
from rotinv.runs import history, model, predictions, steps, training, trials
from rotinv.runs.batches import Batches
from rotinv.runs.protocol import QUICK, Progress
from rotinv.stamps.store import StampStore, create_store

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")
SHAPES = [("cap", 13, 2), ("deephits", 13, 3)]


def begun(k, arch, size, channels, folder):
    network = architectures.build(arch, size, channels)
    params, grads = k.asarray(np.float32(network.initial("authors", 1))), k.zeros((network.size,))
    schedule = replace(QUICK, rate=0.01, halve_every=2)
    return training.Run(k, network, schedule, 7, folder, params.copy(), grads, 0, Progress(10))


def batches(network, count):
    rng = np.random.default_rng(2)
    return [(rng.uniform(size=(3, *network.in_shape)), np.arange(3) % 2) for _ in range(count)]


def trained(k, shape, folder, steps=3):
    """Losses and parameters after some steps."""
    run = begun(k, *shape, folder)
    losses = [k.to_host(training.step(run, *batch)) for batch in batches(run.network, steps)]
    return np.concatenate([*losses, k.to_host(run.params)])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("precision, tolerance", [("fp32", 1e-5), ("tf32", 2e-3)])
def test_training_steps_agree_with_the_cpu(shape, precision, tolerance, tmp_path):
    """The second and third step are replayed, as from a CUDA graph: new stamps, rate and dropout reach it."""
    expected = trained(get_kernels("cpu"), shape, tmp_path)
    found = trained(emulated(precision), shape, tmp_path)
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("how", [{}, {"balanced": True}, {"balanced": True, "augment": ("shifts",)}], ids=str)
def test_a_data_set_on_the_device_gives_the_same_batches(tmp_path, monkeypatch, how):
    """In whatever order it is read; one that is too large for the device is streamed."""
    rng = np.random.default_rng(3)
    stamps, k = rng.normal(size=(150, 5, 5, 2)), emulated()
    with create_store(tmp_path / "store.h5", channels=["a", "b"], size=5) as writer:
        writer.append("train", stamps, rng.uniform(size=len(stamps)) < 0.3)
    with StampStore(tmp_path / "store.h5") as store:
        split, indices = store.split("train"), np.arange(3, 148)
        found = {}
        for name, on in (("host", None), ("device", k), ("cpu", get_kernels("cpu"))):
            with Batches(split, indices, batch=40, seed=1, first=2, on=on, **how) as source:
                found[name] = [(k.to_host(x), label) for x, label in islice(source, 9)]
        monkeypatch.setattr(EmulatedDevice, "room", lambda self: 4 * 145 * 50 - 1)
        with Batches(split, indices, batch=40, seed=1, first=2, on=emulated(), **how) as source:
            found["too large"] = [(k.to_host(x), label) for x, label in islice(source, 9)]
    for other in ("device", "cpu", "too large"):
        for (x, label), (same, as_label) in zip(found[other], found["host"], strict=True):
            np.testing.assert_array_equal(x, same)
            np.testing.assert_array_equal(label, as_label)


class SmallDevice(EmulatedDevice):
    """An emulated GPU of little memory: arrays that are alive count."""

    def __init__(self, precision, most):
        super().__init__(precision)
        self._free, self.refused = most, 0

    def empty(self, shape, dtype=np.float32):
        array = super().empty(shape, dtype)
        if array.nbytes > self._free:
            self.refused += 1
            raise MemoryError(f"Out of memory allocating {array.nbytes:,} bytes")
        self._free -= array.nbytes
        weakref.finalize(array.base, self._freed, array.nbytes)
        return array

    def _freed(self, size):
        self._free += size


def test_trials_that_begin_together_do_not_count_on_the_same_memory():
    class Device(SmallDevice):
        def room(self):
            free = self._free // 2
            time.sleep(0.05)  # the other thread asks meanwhile
            return free

    k = devices.cuda_kernels("cuda-emulated", Device("fp32", 4000))
    jobs = [lambda stopped: k.resident((10, 5, 5, 2)) or "streamed"] * 2  # 2000 bytes each
    found = trials.run_side_by_side(jobs, True, lambda: False)
    assert sorted(each == "streamed" for each in found) == [False, True]


def test_replayed_steps_are_the_steps(tmp_path):
    k = emulated()
    plain = k.__class__(**{**vars(k), "repeated": lambda function: function})
    replayed = trained(k, SHAPES[0], tmp_path)
    np.testing.assert_array_equal(replayed, trained(plain, SHAPES[0], tmp_path))
    np.testing.assert_array_equal(replayed, trained(emulated(order="random"), SHAPES[0], tmp_path))


@pytest.mark.parametrize("arch, size, channels", SHAPES)
def test_gradients_agree_with_the_reference(arch, size, channels):
    """The reference goes backward over the emulated tape, so that both take the same branches."""
    network, k, reference = architectures.build(arch, size, channels), emulated(), get_kernels("reference")
    params, mode = np.float32(network.initial("he", 3)), Train(1, 2)
    x = np.float32(np.random.default_rng(4).uniform(size=(2, *network.in_shape)))
    y, tape = network.record(k, k.asarray(params), k.asarray(x), mode)
    dy = k.asarray(np.random.default_rng(5).normal(size=y.shape))
    grads, exact = k.zeros((network.size,)), np.zeros(network.size)
    dx = network.backward(k, k.asarray(params), grads, tape, dy, to_input=True)
    exact_y, _ = network.record(reference, np.float64(params), np.float64(x), mode)
    tape = Widener(k, reference)(tape)
    exact_dx = network.backward(reference, np.float64(params), exact, tape, np.float64(dy), to_input=True)
    for found, expected in ((y, exact_y), (grads, exact), (dx, exact_dx)):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("rule", ["alpha2beta1", "epsilon-gamma-box", "flat"])
@pytest.mark.parametrize("arch, size, channels", SHAPES)
def test_relevance_agrees_with_the_reference(arch, size, channels, rule):
    network, reference = architectures.build(arch, size, channels), get_kernels("reference")
    params = np.float32(network.initial("authors", 3))
    x = np.float32(np.random.default_rng(4).uniform(size=(2, *network.in_shape)))
    exact = relevance(reference, network, np.float64(params), np.float64(x), composites.named(rule))
    k = emulated()
    found = relevance(k, network, k.asarray(params), k.asarray(x), composites.named(rule))
    np.testing.assert_allclose(found.logits, exact.logits, atol=1e-5)
    for one, two in zip(found.relevance, exact.relevance, strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=3e-4 * np.abs(two).max())  # some z nearly cancel


@pytest.fixture
def gpu(monkeypatch):
    """The programs' --device cuda is the emulated GPU."""

    def get(precision):
        k = emulated(precision)
        return k.__class__(**{**vars(k), "batch": 40})

    monkeypatch.setattr(devices, "_gpu", lambda precision: precision)
    monkeypatch.setattr(devices, "cuda_kernels", lambda device, precision: get(precision))


def test_the_programs_run_on_it(gpu, tmp_path):
    """train, resume, score, explain: the same program text, another device."""
    store, folder = toy_store(tmp_path, 60), tmp_path / "run"
    # With some seeds rounding chooses other winners of a pooling, and then the weights part; not with this.
    arguments = ["--data", store, "--out", folder, "--iterations", 4, "--batch", 4, "--arch", "cap"]
    arguments += ["--seed", 3]
    done = call("train", *arguments, "--device", "cuda", "--precision", "fp32")
    assert done.returncode == 0, done.stderr
    assert (folder / "metrics.json").exists()
    expected = model.load_model(folder)
    other = tmp_path / "cpu"
    arguments[3] = other
    assert call("train", *arguments).returncode == 0
    np.testing.assert_allclose(expected.params, model.load_model(other).params, atol=1e-5)
    assert call("score", folder, store, "--device", "cuda", "--out", tmp_path / "s.csv").returncode == 0
    assert call("score", folder, store, "--out", tmp_path / "t.csv").returncode == 0
    one, two = (np.genfromtxt(tmp_path / name, delimiter=",", names=True) for name in ("s.csv", "t.csv"))
    np.testing.assert_allclose(one["probability"], two["probability"], atol=5e-3)  # the default is tf32
    maps = "--index", 1, "--device", "cuda", "--out", tmp_path / "fig.png"
    assert call("explain", folder, store, *maps).returncode == 0


def test_a_batch_that_does_not_fit_is_told_with_one_that_does(tmp_path, monkeypatch):
    """The steps that failed hold no memory any more: a batch that is told fits."""
    store = toy_store(tmp_path, 60)
    most = 25_000_000
    monkeypatch.setattr(devices, "_gpu", lambda precision: SmallDevice(precision, most))
    arguments = "--data", store, "--iterations", 2, "--device", "cuda", "--precision", "fp32", "--quiet"
    told = call("train", *arguments, "--out", tmp_path / "run", "--batch", 64)
    assert_refused(told, "--batch 64", " does")
    batch = int(told.stderr.split("; ")[1].split()[0])
    assert 0 < batch < 64
    done = call("train", *arguments, "--out", tmp_path / "fits", "--batch", batch)
    assert done.returncode == 0, done.stderr
    assert_refused(call("train", *arguments, "--out", tmp_path / "no", "--batch", 2 * batch), "--batch")
    most = 2_000_000
    assert_refused(
        call("train", *arguments, "--out", tmp_path / "none", "--batch", 2), "nor does any smaller"
    )


def test_stamps_are_scored_in_batches_that_fit():
    network, stamps = architectures.build("cap", 13, 1), np.float32(toy_arrays(21)["stamps"])
    params, found = np.float32(network.initial("he", 1)), []
    for most in (4_000_000, 1_000_000_000):
        device = SmallDevice("fp32", most)
        k = devices.cuda_kernels("cuda-emulated", device)
        found.append(predictions.score_with_rotation_std(k, network, k.asarray(params), stamps))
        found.append((predictions.score_stamps(k, network, k.asarray(params), stamps), found[-1][1]))
        assert (device.refused > 0) == (most == 4_000_000)
    for p, spread in found:
        np.testing.assert_array_equal(p, found[0][0])
        np.testing.assert_array_equal(spread, found[0][1])
    k = devices.cuda_kernels("cuda-emulated", SmallDevice("fp32", 100_000))
    with pytest.raises(MemoryError):
        predictions.score_stamps(k, network, k.asarray(params), stamps)


def test_a_batch_is_begun_before_the_one_before_is_waited_for(tmp_path, monkeypatch):
    """So that a GPU computes while the host copies the next stamps."""
    network, stamps = architectures.build("cap", 13, 1), np.float32(toy_arrays(21)["stamps"])
    params, did = np.float32(network.initial("he", 1)), []
    plain = emulated()
    k = replace(
        plain,
        batch=8,
        asarray=lambda x: did.append("up") or plain.asarray(x),
        to_host=lambda x: did.append("down") or np.array(x),
    )
    p = predictions.score_stamps(k, network, plain.asarray(params), stamps)
    assert did == ["up", "up", "down", "up", "down", "down"]
    np.testing.assert_array_equal(p, predictions.score_stamps(plain, network, params, stamps))
    did.clear()  # and so is the first batch of a block that comes from a store
    monkeypatch.setattr(predictions, "BLOCK", 8)
    with StampStore(toy_store(tmp_path, 21)) as store:
        split = store.split("train")
        asked = network, plain.asarray(params), split, np.arange(len(split)), None
        told = []
        found = predictions.score_split(k, *asked, told.append)
        np.testing.assert_array_equal(found, predictions.score_split(plain, *asked))
    assert did[:4] == ["up", "up", "down", "up"] and len(did) == 2 * len(told)
    assert sum(told) == len(split) and len(told) == -(-len(split) // 8) > 2


def test_trials_are_the_runs_of_their_seeds(tmp_path):
    """Each is what a training of that seed alone gives, to the bit."""
    store = toy_store(tmp_path, 60)
    common = "--data", store, "--iterations", 3, "--batch", 4
    done = call("train", *common, "--out", tmp_path / "run", "--trials", 3, "--seed", 5)
    assert done.returncode == 0, done.stderr
    assert call("train", *common, "--out", tmp_path / "alone", "--seed", 7).returncode == 0
    params = [model.load_model(tmp_path / name).params for name in ("run-1", "run-2", "run-3", "alone")]
    np.testing.assert_array_equal(params[2], params[3])
    assert not np.array_equal(params[0], params[1])
    assert_refused(call("train", *common, "--out", tmp_path / "run", "--trials", 2), "run-1")


def test_trials_at_once_stop_together():
    def fails(stopped):
        raise ValueError("it diverged")

    def waits(stopped):
        while not stopped():
            time.sleep(0.001)
        return False

    with pytest.raises(ValueError, match="diverged"):
        trials.run_side_by_side([waits, fails, waits], True, lambda: False)
    assert trials.run_side_by_side([waits, lambda stopped: True], True, lambda: True) == [False, True]


def test_a_trial_of_the_paper_runs_on_it(gpu, tmp_path):
    """Trained in tf32 and scored in halves: what `reproduce --scale paper-gpu` does eighteen times."""
    store = toy_store(tmp_path, 60)
    schedule = replace(QUICK, batch=4, iterations=2, extend_by=0, validate_every=1)
    at = Place(tmp_path / "paper", store, device="cuda", precision="fp16")
    told = []
    material.train_trial(at, schedule, "cap", 1, told.append)
    material.score_trial(at, "cap", 1, told.append)
    assert told[-1] == 1 and at.scores("cap", 1).exists()


def test_several_steps_at_once_are_the_steps(tmp_path, monkeypatch):
    """As on a GPU, where twenty are one graph: batches, steps and rates reach it. If the memory does not
    suffice for them, steps are taken one by one."""
    store, found, taken, several = toy_store(tmp_path, 60), [], [], steps.several

    def counting(*args):
        losses = several(*args)
        taken.append(len(losses))
        if fails:
            raise MemoryError("Out of memory allocating 512 bytes")
        return losses

    monkeypatch.setattr(steps, "several", counting)
    monkeypatch.setattr(devices, "_gpu", lambda precision: precision)
    for at_once, fails in ((1, False), (3, False), (3, True)):
        k = replace(emulated(), batch=40, steps_at_once=at_once)
        monkeypatch.setattr(devices, "cuda_kernels", lambda device, precision, k=k: k)
        how = "--arch", "cap-mini", "--batch", 4, "--iterations", 7, "--seed", 1
        folder = tmp_path / f"{at_once}-{fails}"
        done = call(
            "train", "--data", store, "--out", folder, *how, "--device", "cuda", "--precision", "fp32"
        )
        assert done.returncode == 0, done.stderr
        rows = history.read(folder / "history.csv")
        found.append((model.load_model(folder).params, [(row.iteration, row.loss) for row in rows]))
    assert taken == [3, 3]  # captured once and replayed; tried once and given up
    for params, rows in found[1:]:
        np.testing.assert_array_equal(params, found[0][0])
        assert rows == found[0][1]
