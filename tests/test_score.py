"""The program rotinv.score: its table, votes, exactness, real alerts, bad input."""

import csv
import os
import re
import subprocess

import h5py
import numpy as np
import pytest
from programs import ENVIRONMENT, assert_refused, call, command, make_run, run, toy_arrays

from rotinv import import_weights, pack, score
from rotinv.runs.folder import Config, read_config
from rotinv.runs.model import load_model, write_weights
from rotinv.runs.predictions import score_stamps
from rotinv.stamps.pixels import prepare
from rotinv.system.errors import UserError

CHANNELS = ["difference"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return [make_run(folder / f"cap-{seed}", seed=seed) for seed in range(3)]


@pytest.fixture
def stamps(tmp_path):
    arrays = toy_arrays(n=40)
    np.savez(tmp_path / "stamps.npz", **arrays)
    return tmp_path / "stamps.npz"


def table(*arguments, out):
    assert score.main([*map(str, arguments), "--out", str(out)]) == 0
    with open(out, newline="") as file:
        return list(csv.DictReader(file))


def column(rows, name):
    return np.array([float(row[name]) for row in rows])


def test_one_model(models, stamps, tmp_path):
    rows = table(models[0], stamps, out=tmp_path / "scores.csv")
    assert list(rows[0]) == [
        "index",
        "probability",
        "class",
        "label",
        "snr",
        "probability_cap-0",
        "rotation_std_cap-0",
        "flags",
    ]
    assert [row["index"] for row in rows] == [str(i) for i in range(40)]
    p = column(rows, "probability")
    np.testing.assert_array_equal(p, column(rows, "probability_cap-0"))
    np.testing.assert_array_equal(column(rows, "class"), p >= 0.5)
    assert (column(rows, "rotation_std_cap-0") > 0).all()
    with np.load(stamps) as arrays:
        np.testing.assert_array_equal(column(rows, "label"), arrays["label"])
        np.testing.assert_array_equal(np.float32(column(rows, "snr")), arrays["snr"])


def test_digits_read_back_to_the_same_bits(cpu, models, stamps, tmp_path):
    rows = table(models[0], stamps, out=tmp_path / "scores.csv")
    model = load_model(models[0])
    params = cpu.asarray(model.params)
    ready = prepare(np.load(stamps)["stamps"])[0]
    p = score_stamps(cpu, model.network, params, ready)
    assert p.dtype == np.float32
    np.testing.assert_array_equal(np.float32(column(rows, "probability")), p)
    assert max(len(row["probability"]) for row in rows) <= 14


def test_three_models_vote(models, stamps, tmp_path):
    rows = table(*models, stamps, out=tmp_path / "scores.csv")
    each = np.array([column(rows, f"probability_cap-{i}") for i in range(3)])
    np.testing.assert_array_equal(column(rows, "probability"), np.median(each, axis=0))
    np.testing.assert_array_equal(column(rows, "class"), (each >= 0.5).sum(axis=0) >= 2)


def test_turned_stamps_score_alike_in_the_table(models, stamps, tmp_path):
    arrays = dict(np.load(stamps))
    arrays["stamps"] = np.rot90(arrays["stamps"], axes=(1, 2))
    np.savez(tmp_path / "turned.npz", **arrays)
    one, other = (
        table(models[0], path, out=tmp_path / f"{path.stem}.csv")
        for path in (stamps, tmp_path / "turned.npz")
    )
    np.testing.assert_array_equal(column(one, "probability"), column(other, "probability"))
    spread = column(one, "rotation_std_cap-0")  # the same four margins, summed in another order
    np.testing.assert_allclose(spread, column(other, "rotation_std_cap-0"), rtol=1e-4)


def test_each_rotation_is_the_turned_stamps_own(cpu, rng):
    """Concatenated: the margins are those of the turned stamps. Averaged: their mean is the score's."""
    x = np.float32(rng.uniform(size=(5, 13, 13, 1)))
    for arch in ("cap", "deephits"):
        config = Config(arch=arch, size=13, channels=CHANNELS)
        network = config.network()
        params = cpu.asarray(network.initial("he", 0))
        z = network.forward_rotations(cpu, params, x)[1]
        if arch == "cap":
            np.testing.assert_allclose(z.mean(axis=0), network.forward(cpu, params, x), rtol=1e-5, atol=1e-6)
        else:
            turned = [
                network.forward(cpu, params, cpu.asarray(np.rot90(x, q, axes=(1, 2)))) for q in range(4)
            ]
            np.testing.assert_allclose(z, turned, rtol=1e-4, atol=1e-5)


def test_channels_first_and_npy_and_standard_output(models, stamps, tmp_path):
    pixels = np.load(stamps)["stamps"]
    np.save(tmp_path / "first.npy", np.moveaxis(pixels, 3, 1))
    rows = table(models[0], stamps, out=tmp_path / "last.csv")
    result = run("score", models[0], tmp_path / "first.npy")
    assert result.returncode == 0
    printed = list(csv.DictReader(result.stdout.splitlines()))
    assert [row["probability"] for row in printed] == [row["probability"] for row in rows]
    assert "label" not in printed[0]


def test_real_alerts(real_data, tmp_path):
    """Through the programs, the authors' CAP gives its known probabilities on 47 Rubin alerts."""
    source = real_data / "authors_cap_3channel.h5"
    channels = "template,science,difference"
    assert import_weights.main([str(source), "--out", str(tmp_path / "authors"), "--channels", channels]) == 0
    with h5py.File(source) as file:
        np.savez(tmp_path / "alerts.npz", stamps=file["check/rubin_input_nchw"][()])
        expected = file["check/rubin_p_candidate"][()]
    rows = table(tmp_path / "authors", tmp_path / "alerts.npz", out=tmp_path / "scores.csv")
    np.testing.assert_allclose(column(rows, "probability"), expected, atol=1e-5)


def arrays_with(name, value):
    return lambda path: np.savez(path, **{**toy_arrays(n=8), name: value})


BAD_STAMPS = {
    "missing": (lambda path: None, "no such file"),
    "text": (lambda path: path.write_text("not stamps"), "stamps.npz"),
    "wrong channels": (arrays_with("stamps", np.zeros((8, 13, 13, 3))), "13"),
    "wrong size": (arrays_with("stamps", np.zeros((8, 15, 15, 1))), "15"),
    "no stamps": (lambda path: np.savez(path, stamps=np.zeros((0, 13, 13, 1))), "no stamps"),
    "objects": (arrays_with("stamps", np.array([None] * 8)), "stamps.npz"),
    "not finite": (arrays_with("stamps", np.full((8, 13, 13, 1), np.nan)), "--on-bad drop"),
    "labels": (arrays_with("label", np.full(8, 7)), "label"),
}


@pytest.mark.parametrize("case", BAD_STAMPS)
def test_bad_stamps_are_refused_in_one_line(models, tmp_path, case):
    make, word = BAD_STAMPS[case]
    make(tmp_path / "stamps.npz")
    before = set(tmp_path.iterdir())
    result = run("score", models[0], tmp_path / "stamps.npz", "--out", tmp_path / "scores.csv")
    assert_refused(result, "stamps.npz", word)
    assert set(tmp_path.iterdir()) == before


def test_models_that_read_other_stamps_do_not_vote_together(models, stamps, tmp_path):
    other = make_run(tmp_path / "other", channels=["science"])
    with pytest.raises(UserError, match="channels"):
        score.main([str(models[0]), str(other), str(stamps)])


def test_what_is_no_run_is_refused(stamps, tmp_path):
    with pytest.raises(UserError, match=r"config\.json"):
        score.main([str(tmp_path), str(stamps)])


def test_nothing_is_overwritten(models, stamps, tmp_path):
    (tmp_path / "scores.csv").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        score.main([str(models[0]), str(stamps), "--out", str(tmp_path / "scores.csv")])
    assert (tmp_path / "scores.csv").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_told(models, stamps, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(UserError, match="cannot be written"):
        score.main([str(models[0]), str(stamps), "--out", str(tmp_path / "locked" / "scores.csv")])


def test_a_store_of_other_channels_is_refused(models, tmp_path):
    channels = read_config(models[0]).channels
    arrays = toy_arrays(n=40, channels=len(channels))
    np.savez(tmp_path / "other.npz", **arrays)
    names = ",".join(f"other{c}" for c in range(len(channels)))
    pack.main([str(tmp_path / "other.npz"), "--out", str(tmp_path / "other.h5"), "--channels", names])
    with pytest.raises(UserError, match=r"other\.h5.*other0.*trained on"):
        score.main([str(models[0]), str(tmp_path / "other.h5")])


def test_weights_that_overflow_are_told(models, stamps, tmp_path):
    config = read_config(models[0])
    (tmp_path / "run").mkdir()
    write_weights(tmp_path / "run", config, np.full(config.network().size, 1e38))
    with pytest.raises(UserError, match="not numbers"):
        score.main([str(tmp_path / "run"), str(stamps), "--out", str(tmp_path / "scores.csv")])
    assert not (tmp_path / "scores.csv").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_standard_output_is_one_line():
    with open("/dev/full", "w") as full:
        result = subprocess.run(command("architectures", "cap"), stdout=full, stderr=subprocess.PIPE,
                                text=True, env=ENVIRONMENT)  # fmt: skip
    assert_refused(result, "No space left")


def test_it_says_how_many_candidates_at_which_threshold_and_how_long(models, stamps, tmp_path):
    result = call("score", models[0], stamps, "--out", tmp_path / "scores.csv")
    with open(tmp_path / "scores.csv", newline="") as file:
        count = sum(row["class"] == "1" for row in csv.DictReader(file))
    noun = "candidate" if count == 1 else "candidates"
    assert re.search(
        rf"scores.csv: 40 stamps scored in [\d.]+ s, {count} {noun} at the threshold 0\.5\n", result.stderr
    )
    np.savez(stamps, **toy_arrays(n=1))
    assert "1 stamp scored in" in call("score", models[0], stamps, "--out", tmp_path / "one.csv").stderr


def test_a_split_of_stamps_that_have_none_is_refused(models, stamps):
    assert_refused(call("score", models[0], stamps, "--split", "validate"), "stamps.npz", "--split validate")
