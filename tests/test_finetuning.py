"""Fine-tuning: weights of another run to begin with, layers that keep them, and what is refused."""

import json
import shutil

import h5py
import numpy as np
import pytest
from conftest import DEVICES, EMULATED, kernels_of
from programs import assert_refused, call, toy_arrays
from test_train import assert_same_run, assert_same_weights, weights_of

import rotinv
from rotinv import pack, train
from rotinv.nn import architectures
from rotinv.nn.layers import Train
from rotinv.runs import trials
from rotinv.runs.folder import read_config
from rotinv.runs.protocol import FINETUNE, Progress, Schedule
from rotinv.system.errors import UserError

FEW = Schedule(batch=20, rate=0.01, iterations=20, extend_by=0, validate_every=10)
NUMBERS = ("--iterations", 20, "--batch", 20, "--validate-every", 10)


def packed(folder, name, names="difference", **options):
    np.savez(folder / f"{name}.npz", **toy_arrays(**options))
    arguments = [folder / f"{name}.npz", "--out", folder / f"{name}.h5", "--channels", names]
    assert pack.main([str(one) for one in arguments]) == 0
    return folder / f"{name}.h5"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return packed(tmp_path_factory.mktemp("data"), "toy")


@pytest.fixture(scope="module")
def source(store, tmp_path_factory):
    """A run to begin with: the small CAP after 20 iterations."""
    out = tmp_path_factory.mktemp("runs") / "source"
    assert call("train", "--data", store, "--out", out, "--arch", "cap-mini", *NUMBERS).returncode == 0
    return out


def tuned(store, source, out, *more):
    result = call("train", "--data", store, "--out", out, "--init-from", source, *NUMBERS, *more)
    assert result.returncode == 0, result.stderr
    return out


def test_it_begins_with_the_other_runs_best_weights(store, source, tmp_path):
    run = tuned(store, source, tmp_path / "run", "--rate", "1e-30")
    assert_same_weights(run / "last.h5", source / "best.h5")
    config = read_config(run)
    assert (config.init_from, config.arch, config.freeze) == (str(source), "cap-mini", 0)
    assert len(config.init_sha256) == 64 and config.schedule.halve_every == FINETUNE.halve_every


@pytest.mark.parametrize("frozen", [1, 2])
def test_frozen_layers_keep_their_bits(store, source, tmp_path, frozen):
    """The first layers are the source's to the bit, and every other array of weights has moved."""
    run = tuned(store, source, tmp_path / "run", "--freeze", frozen)
    before, after = weights_of(source / "best.h5"), weights_of(run / "last.h5")
    for place, layer in enumerate(["conv1", "dense1", "dense2"]):
        for array in ("w", "b"):
            same = np.array_equal(before[f"{layer}/{array}"], after[f"{layer}/{array}"])
            assert same == (place < frozen), f"{layer}/{array}"


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("arch", ["cap", "deephits"])
@pytest.mark.parametrize("frozen", [1, 3, 6])
def test_gradients_of_trained_layers_are_those_without_frozen_ones(device, arch, frozen, rng):
    k = kernels_of(device)
    network = architectures.build(arch, 13, 1)
    params = k.asarray(network.initial("he", 3))
    x, label = k.asarray(rng.uniform(size=(3, 13, 13, 1))), k.asindex([0, 1, 1])
    logits, tape = network.record(k, params, x, Train(1, 2))
    _, dz = k.softmax.cross_entropy(logits, label, k.asarray([1.0, 1.0]))
    whole, part = k.zeros((network.size,)), k.zeros((network.size,))
    network.backward(k, params, whole, tape, dz)
    network.backward(k, params, part, tape, dz, frozen=frozen)
    _, start = network.first_trained(frozen)
    whole, part = k.to_host(whole), k.to_host(part)
    np.testing.assert_array_equal(part[start:], whole[start:])
    assert 0 < start < network.size and not part[:start].any() and whole[:start].any()


@pytest.mark.parametrize("device", [EMULATED])
def test_a_step_captured_by_a_gpu_keeps_frozen_layers(device, store, source, tmp_path, monkeypatch):
    """On the emulated GPU the steps after the first are repeated launches, as in a CUDA graph."""
    k = kernels_of(device)
    monkeypatch.setattr("rotinv.classifier.fitting.get_kernels", lambda *_, **__: k)
    few = Schedule(batch=20, rate=0.01, iterations=3, extend_by=0, validate_every=3)
    rotinv.fit(store, out=tmp_path / "run", init_from=source, freeze=1, schedule=few)
    before, after = weights_of(source / "best.h5"), weights_of(tmp_path / "run" / "last.h5")
    for name in before:
        assert np.array_equal(before[name], after[name]) == name.startswith("conv1"), name


def test_a_stopped_run_resumes_to_the_same_bits_without_its_source(store, source, tmp_path, monkeypatch):
    """The first checkpoint has the initial weights, so that the source may be gone."""
    own = shutil.copytree(source, tmp_path / "own")
    whole = tuned(store, own, tmp_path / "whole", "--freeze", 1)
    seen = iter(range(100))
    end = trials.train_to_end

    def soon_stopped(run, data, config, observer, stopped):
        return end(run, data, config, observer, lambda: next(seen) > 0)

    monkeypatch.setattr(trials, "train_to_end", soon_stopped)
    arguments = ("--init-from", own, "--freeze", 1, *NUMBERS)
    result = call("train", "--data", store, "--out", tmp_path / "run", *arguments)
    assert result.returncode == 130
    with h5py.File(tmp_path / "run" / "last.h5") as file:
        assert file.attrs["iteration"] == 10
    monkeypatch.undo()
    shutil.rmtree(own)
    assert train.main(["--resume", str(tmp_path / "run")]) == 0
    assert_same_weights(tmp_path / "run" / "last.h5", whole / "last.h5")


def test_a_run_killed_before_its_first_checkpoint_begins_with_the_same_weights(store, source, tmp_path):
    whole = tuned(store, source, tmp_path / "whole")
    (tmp_path / "run").mkdir()
    shutil.copy(whole / "config.json", tmp_path / "run")
    assert train.main(["--resume", str(tmp_path / "run")]) == 0
    assert_same_run(tmp_path / "run", whole)
    config = json.loads((whole / "config.json").read_text())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text(json.dumps({**config, "init_sha256": "0" * 64}))
    assert_refused(call("train", "--resume", tmp_path / "other"), "source", "other weights by now")
    assert not (tmp_path / "other" / "last.h5").exists()


def test_weights_that_were_trained_elsewhere(store, source, tmp_path):
    weights = {name.replace("conv", "CNN"): value for name, value in weights_of(source / "best.h5").items()}
    with h5py.File(tmp_path / "theirs.h5", "w") as file:
        for name, value in weights.items():
            file[name.replace("dense", "FC").replace("/w", "/W").replace("/b", "/B")] = value
    how = ("--size", 13, "--channels", "difference", "--arch", "cap-mini")
    assert call("import_weights", tmp_path / "theirs.h5", "--out", tmp_path / "in", *how).returncode == 0
    one, other = tuned(store, tmp_path / "in", tmp_path / "one"), tuned(store, source, tmp_path / "two")
    assert_same_weights(one / "last.h5", other / "last.h5")


def test_trials_begin_with_the_same_weights_and_part(store, source, tmp_path):
    tuned(store, source, tmp_path / "run", "--trials", 2, "--freeze", 1)
    one, two = (weights_of(tmp_path / f"run-{i}" / "last.h5") for i in (1, 2))
    np.testing.assert_array_equal(one["conv1/w"], two["conv1/w"])
    assert not np.array_equal(one["dense1/w"], two["dense1/w"])


def test_arrays_are_tuned_from_python(source, tmp_path):
    """An array has no names of channels: they are those of the run, as when it is scored."""
    arrays = toy_arrays(n=100, seed=5)
    clf = rotinv.fit(
        arrays["stamps"], arrays["label"], out=tmp_path / "run", init_from=source, freeze=2, schedule=FEW
    )
    before, after = weights_of(source / "best.h5"), weights_of(tmp_path / "run" / "last.h5")
    assert [name for name in before if not np.array_equal(before[name], after[name])] == [
        "dense2/b",
        "dense2/w",
    ]
    assert clf.channels == ["difference"]


REFUSED = [
    (["--freeze", 2], "--init-from RUN"),
    (["--init-from", "SOURCE", "--freeze", 3], "has 3 layers with weights"),
    (["--init-from", "SOURCE", "--freeze", -1], "--freeze"),
    (["--init-from", "SOURCE", "--init", "he"], "--init-from"),
    (["--init-from", "SOURCE", "--arch", "deephits"], "source: conv1/w has shape"),
    (["--init-from", "nowhere"], "nowhere: holds no run"),
]


@pytest.mark.parametrize("bad, words", REFUSED, ids=str)
def test_what_cannot_be_is_refused_in_one_line(store, source, tmp_path, bad, words):
    arguments = [source if one == "SOURCE" else one for one in bad]
    result = call("train", "--data", store, "--out", tmp_path / "run", *arguments)
    assert_refused(result, words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "channels, options, words",
    [
        ("science", {}, ["source", "difference", "science"]),
        ("difference,science", {"channels": 2}, ["source", "difference, science"]),
        ("difference", {"side": 21}, ["source", "13x13", "--crop 13"]),
    ],
)
def test_other_stamps_are_refused(source, tmp_path, channels, options, words):
    data = packed(tmp_path, "other", channels, n=60, **options)
    result = call("train", "--data", data, "--out", tmp_path / "run", "--init-from", source)
    assert_refused(result, *words)
    assert not (tmp_path / "run").exists()


def test_python_leaves_no_folder_behind(source, tmp_path):
    arrays = toy_arrays(n=60)
    for bad in ({"channels": ["science"]}, {"freeze": 3}):
        with pytest.raises(UserError, match=r"science|3 layers"):
            rotinv.fit(
                arrays["stamps"], arrays["label"], out=tmp_path / "run", **{"init_from": source, **bad}
            )
        assert not (tmp_path / "run").exists()


def test_the_schedule_stops_early():
    """It ends 200 iterations after the error last fell."""
    progress = Progress(FINETUNE.iterations)
    iteration = 0
    while iteration < progress.limit:
        iteration += FINETUNE.validate_every
        progress = progress.validated(FINETUNE, iteration, max(0.1 - 1e-4 * iteration, 0.07))
    assert (iteration, progress.best_iteration) == (500, 300)


def other_survey(n, seed):
    """Stamps of another recipe: fainter and wider stars, and noise that is correlated from row to row."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 2
    y, x = np.mgrid[-6:7, -6:7]
    star = 3 * np.exp(-(y**2 + x**2) / 9)[:, :, None]
    sky = rng.normal(size=(n, 13, 13, 1))
    return (sky + np.roll(sky, 1, axis=1) + label[:, None, None, None] * star).astype(np.float32), label


def test_few_stamps_of_another_survey_are_enough_to_tune(tmp_path):
    """Ten steps on 240 of its stamps: above what the network was before, and far above one from scratch."""
    learned = Schedule(batch=20, iterations=60, extend_by=0, validate_every=30, dropout=0)
    arrays = toy_arrays(n=600)
    source = tmp_path / "source"
    rotinv.fit(arrays["stamps"], arrays["label"], out=source, schedule=learned, threads=1)
    test, label = other_survey(400, 4)
    few = Schedule(batch=20, rate=0.01, iterations=10, extend_by=0, validate_every=5)

    def right(name, **options):
        run = tmp_path / name
        clf = rotinv.fit(*other_survey(300, 3), out=run, schedule=few, threads=1, **options)
        return np.mean(clf.predict(test) == label)

    before = np.mean(rotinv.load(source).predict(test) == label)
    scratch, tuned = right("scratch"), right("tuned", init_from=source)
    frozen = right("frozen", init_from=source, freeze=3)
    assert min(tuned, frozen) > 0.95 and before < 0.9 and scratch < 0.7, (before, scratch, tuned, frozen)


@pytest.mark.parametrize(
    "field, value",
    [
        ("freeze", 3),
        ("freeze", -1),
        ("balance", "weight"),
        ("class_weights", [1.0, -1.0]),
        ("class_weights", [1.0]),
        ("augment", ["turns"]),
    ],
)
def test_a_damaged_configuration_is_refused(source, tmp_path, field, value):
    run = shutil.copytree(source, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, field: value}))
    assert_refused(call("train", "--resume", run), "config.json", field)
