"""Stamps mirrored and shifted, and classes of unequal size, in a training."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import DEVICES, kernels_of
from programs import assert_refused, call, toy_arrays
from scipy import special

import rotinv
from rotinv import pack
from rotinv.nn import architectures
from rotinv.nn.devices import get_kernels
from rotinv.nn.layers import Train
from rotinv.runs import training, trials
from rotinv.runs.augmentation import augmented
from rotinv.runs.folder import BALANCES, read_config
from rotinv.runs.protocol import Progress, Schedule
from rotinv.stamps.store import create_store
from rotinv.system.errors import UserError


def mirrored(stamp):
    return [stamp, stamp[::-1], stamp[:, ::-1], stamp[::-1, ::-1]]


def index_of(stamp, those):
    (found,) = [i for i, one in enumerate(those) if np.array_equal(one, stamp)]
    return found


def test_stamps_are_mirrored_along_each_axis(rng):
    stamps = rng.normal(size=(400, 5, 5, 3)).astype(np.float32)
    changed = augmented(stamps.copy(), ["flips"], 1, 7)
    found = [index_of(one, mirrored(stamp)) for one, stamp in zip(changed, stamps, strict=True)]
    assert np.bincount(found).min() > 70


def test_stamps_are_shifted_by_up_to_a_pixel_and_the_edge_repeated(rng):
    stamps = rng.normal(size=(900, 5, 5, 2)).astype(np.float32)
    changed = augmented(stamps.copy(), ["shifts"], 1, 7)
    padded = np.pad(stamps, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    found = [
        index_of(one, [wide[y : y + 5, x : x + 5] for y in range(3) for x in range(3)])
        for one, wide in zip(changed, padded, strict=True)
    ]
    assert np.bincount(found, minlength=9).min() > 60


def test_the_seed_and_the_step_decide(rng):
    stamps = rng.normal(size=(20, 5, 5, 1)).astype(np.float32)

    def change(*where):
        return augmented(stamps.copy(), ("flips", "shifts"), *where)

    np.testing.assert_array_equal(change(1, 7), change(1, 7))
    assert not np.array_equal(change(1, 7), change(1, 8))
    assert not np.array_equal(change(1, 7), change(2, 7))
    np.testing.assert_array_equal(augmented(stamps.copy(), (), 1, 7), stamps)


def store_of(folder, share, n=600):
    """A store of toy stamps, of which such a share are candidates."""
    arrays = toy_arrays(n=n)
    kept = np.flatnonzero((arrays["label"] == 0) | (np.arange(n) % (2 * round((1 - share) / share)) == 1))
    np.savez(folder / "toy.npz", **{name: array[kept] for name, array in arrays.items()})
    arguments = [folder / "toy.npz", "--out", folder / "toy.h5", "--channels", "difference"]
    assert pack.main([str(one) for one in arguments]) == 0
    return folder / "toy.h5"


QUICK = ("--arch", "cap-mini", "--batch", 20)


@pytest.mark.parametrize(
    "share, asked, found",
    [
        (0.1, [], "batches"),
        (0.1, ["--balance", "none"], "none"),
        (0.25, [], "none"),
        (0.25, ["--balance", "batches"], "batches"),
        (0.25, ["--balance", "weights"], "weights"),
    ],
)
def test_the_rule_is_a_fifth_and_told(tmp_path, share, asked, found):
    data = store_of(tmp_path, share)
    result = call("train", "--data", data, "--out", tmp_path / "run", "--iterations", 1, *QUICK, *asked)
    assert result.returncode == 0 and read_config(tmp_path / "run").balance == found
    assert ("--balance none" in result.stderr) == (found != "none")


def test_one_candidate_to_fifty_is_learned_where_batches_are_balanced(tmp_path):
    """At the threshold 0.5, of 1,000 stamps of noise and 20 with a star."""
    arrays = toy_arrays(n=2000)
    kept = (arrays["label"] == 0) | (np.arange(2000) % 100 == 1)
    stamps, label = arrays["stamps"][kept], arrays["label"][kept]
    test = toy_arrays(n=200, seed=9)
    few = Schedule(batch=20, iterations=40, extend_by=0, validate_every=20, dropout=0)
    right = {}
    for balance in BALANCES:
        clf = rotinv.fit(stamps, label, out=tmp_path / balance, schedule=few, balance=balance, threads=1)
        right[balance] = np.mean(clf.predict(test["stamps"]) == test["label"])
    assert right["batches"] > 0.9 and right["none"] < 0.6, right
    assert right["weights"] > right["none"] + 0.1, right  # slower: every second batch has no candidate


def test_weights_make_up_for_the_sizes_of_classes(tmp_path):
    """By hand: of 90 artifacts and 30 candidates to train with, losses weigh 120 / 180 and 120 / 60."""
    rng = np.random.default_rng(0)
    with create_store(tmp_path / "s.h5", channels=["difference"], size=13) as writer:
        for split, count in (("train", 120), ("validate", 8), ("test", 8)):
            writer.append(split, rng.normal(size=(count, 13, 13, 1)), np.arange(count) % 4 == 1)
    done = call("train", "--data", tmp_path / "s.h5", "--out", tmp_path / "run", "--iterations", 1, *QUICK,
                "--balance", "weights")  # fmt: skip
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(read_config(tmp_path / "run").class_weights, [120 / 180, 120 / 60], rtol=1e-15)
    assert "losses weigh 2 of a candidate and 0.667 of an artifact" in done.stderr


def test_classes_are_counted_without_the_stamps_that_are_left_out(tmp_path):
    """Of 90 artifacts 60 are bad: the candidates are no small class then, and the weights are 60 / 60."""
    rng, label = np.random.default_rng(0), np.arange(120) % 4 == 1
    stamps = rng.normal(size=(120, 13, 13, 1))
    stamps[np.flatnonzero(~label)[:60], 0, 0] = np.nan
    with create_store(tmp_path / "s.h5", channels=["difference"], size=13) as writer:
        writer.append("train", stamps, label)
        for split in ("validate", "test"):
            writer.append(split, stamps[-8:], label[-8:])
    for asked, weights in ((["--balance", "weights"], [1, 1]), ([], [1, 1])):
        options = ["--out", tmp_path / f"run{len(asked)}", "--iterations", 1, "--on-bad", "drop", *QUICK]
        done = call("train", "--data", tmp_path / "s.h5", *options, *asked)
        assert done.returncode == 0, done.stderr
        config = read_config(tmp_path / f"run{len(asked)}")
        assert (config.balance, config.class_weights) == ("weights" if asked else "none", weights)


def test_a_small_class_is_small_among_the_stamps_that_are_left(tmp_path):
    """Of 30 candidates among 120 stamps 24 are bad: 6 of 96 are balanced without being asked for."""
    rng, label = np.random.default_rng(0), np.arange(120) % 4 == 1
    stamps = rng.normal(size=(120, 13, 13, 1))
    stamps[np.flatnonzero(label)[:24], 0, 0] = np.inf
    with create_store(tmp_path / "s.h5", channels=["difference"], size=13) as writer:
        for split in ("train", "validate", "test"):
            writer.append(split, stamps, label)
    options = ["--out", tmp_path / "run", "--iterations", 1, "--on-bad", "drop", *QUICK]
    assert call("train", "--data", tmp_path / "s.h5", *options).returncode == 0
    assert read_config(tmp_path / "run").balance == "batches"
    stamps[label] = np.nan
    with create_store(tmp_path / "none.h5", channels=["difference"], size=13) as writer:
        for split in ("train", "validate", "test"):
            writer.append(split, stamps, label)
    options = ["--out", tmp_path / "other", "--on-bad", "drop", "--balance", "weights", *QUICK]
    assert_refused(call("train", "--data", tmp_path / "none.h5", *options), "none.h5", "one class")


@pytest.mark.parametrize("device", DEVICES)
def test_gradients_of_weighted_losses_are_their_slopes(device, rng):
    """The step's gradient against the slope, in float64, of the weighted mean of -log p_label."""
    k, exact = kernels_of(device), get_kernels("reference")
    network = architectures.build("cap-mini", 13, 1)
    params, weight = network.initial("he", 3).astype(float), np.array([0.6, 3.0])
    x, label = np.float32(rng.uniform(size=(5, 13, 13, 1))), np.array([0, 1, 1, 0, 0])
    run = training.Run(
        k,
        network,
        Schedule(batch=5),
        1,
        Path(),
        k.asarray(params.copy()),
        k.zeros((network.size,)),
        0,
        Progress(1),
    )
    run = replace(run, class_weights=weight)
    training.step(run, x, label)

    def loss(at):
        logits, _ = network.record(exact, at, x.astype(float), Train(1, 0))
        log_p = logits - special.logsumexp(logits, axis=1, keepdims=True)
        return -np.mean(weight[label] * log_p[np.arange(5), label])

    gradient = k.to_host(run.grads)
    for i in np.argsort(-np.abs(gradient))[:40:4]:
        h = np.zeros(network.size)
        h[i] = 1e-6
        slope = (loss(params + h) - loss(params - h)) / 2e-6
        assert gradient[i] == pytest.approx(slope, rel=2e-4), i


def test_equal_weights_change_no_bit(tmp_path):
    """Of classes of one size the weights are 1: the run is that without balance, but for its config."""
    arrays = toy_arrays(n=120)
    for balance in ("none", "weights"):
        few = Schedule(batch=20, iterations=6, extend_by=0, validate_every=3)
        with create_store(tmp_path / f"{balance}.h5", channels=["difference"], size=13) as writer:
            for split, count in (("train", 80), ("validate", 20), ("test", 20)):
                writer.append(split, arrays["stamps"][:count], arrays["label"][:count])
        rotinv.fit(tmp_path / f"{balance}.h5", out=tmp_path / balance, schedule=few, balance=balance)
    assert (tmp_path / "none/last.h5").read_bytes() == (tmp_path / "weights/last.h5").read_bytes()


@pytest.mark.parametrize("balance", ["batches", "weights"])
def test_a_stopped_run_with_all_of_it_resumes_to_the_same_bits(tmp_path, monkeypatch, balance):
    data = store_of(tmp_path, 0.1)
    numbers = ("--iterations", 20, "--validate-every", 10, "--augment", "shifts,flips", *QUICK)
    numbers = (*numbers, *(["--balance", balance] if balance == "weights" else []))
    assert call("train", "--data", data, "--out", tmp_path / "whole", *numbers).returncode == 0
    config = json.loads((tmp_path / "whole" / "config.json").read_text())
    assert (config["augment"], config["balance"]) == (["flips", "shifts"], balance)
    seen = iter(range(100))
    end = trials.train_to_end
    with monkeypatch.context() as patch:
        patch.setattr(trials, "train_to_end", lambda *a: end(*a[:4], lambda: next(seen) > 0))
        assert call("train", "--data", data, "--out", tmp_path / "run", *numbers).returncode == 130
    assert call("train", "--resume", tmp_path / "run").returncode == 0
    for name in ("best.h5", "last.h5"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize(
    "bad, words",
    [
        (["--augment", "flip"], ["'flip' is not known", "did you mean flips"]),
        (["--balance", "weight"], ["weight", "none, weights, batches"]),
    ],
)
def test_what_is_not_known_is_refused_in_one_line(tmp_path, bad, words):
    assert_refused(call("train", "--data", "absent.h5", "--out", tmp_path / "run", *bad), *words)
    with pytest.raises(UserError, match=bad[1]):
        name = bad[0].lstrip("-")
        value = bad[1].split(",") if name == "augment" else bad[1]
        arrays = toy_arrays(n=60)
        rotinv.fit(arrays["stamps"], arrays["label"], out=tmp_path / "run", **{name: value})
    assert not (tmp_path / "run").exists()


def test_one_class_is_not_trained_on(tmp_path):
    arrays = toy_arrays(n=60)
    arrays["label"][:] = 0
    np.savez(tmp_path / "toy.npz", **arrays)
    pack.main([str(tmp_path / "toy.npz"), "--out", str(tmp_path / "toy.h5"), "--channels", "difference"])
    for asked in ((), ("--balance", "batches"), ("--balance", "none")):
        result = call("train", "--data", tmp_path / "toy.h5", "--out", tmp_path / "run", *asked)
        assert_refused(result, "toy.h5", "one class only to train with")
        assert not (tmp_path / "run").exists()
