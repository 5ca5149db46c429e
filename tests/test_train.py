"""The program rotinv.train: what it leaves behind, resuming after a kill, bad input."""

import csv
import itertools
import json
import shutil
import signal
import subprocess
import time

import h5py
import numpy as np
import pytest
from programs import ENVIRONMENT, assert_refused, call, command, run, toy_arrays

from rotinv import pack, score, train
from rotinv.runs import history
from rotinv.runs.folder import read_config
from rotinv.system import pictures
from rotinv.system.errors import UserError


def options(store, out, *more):
    return ["--data", str(store), "--out", str(out), *map(str, more)]


@pytest.fixture(scope="module")
def finished(store, tmp_path_factory):
    """A run of 60 iterations."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert train.main(options(store, out, "--iterations", 60, "--validate-every", 25, "--batch", 20)) == 0
    return out


def weights_of(path):
    with h5py.File(path) as file:
        found = {}
        file["params"].visititems(
            lambda n, d: found.update({n: d[()]} if isinstance(d, h5py.Dataset) else {})
        )
    return found


def assert_same_weights(one, other):
    one, other = weights_of(one), weights_of(other)
    assert one.keys() == other.keys() and one
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_a_run_leaves_what_it_promises(finished):
    config = json.loads((finished / "config.json").read_text())
    assert (config["arch"], config["size"], config["channels"]) == ("cap", 13, ["difference"])
    with (finished / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["iteration", "seconds", "loss", "learning_rate", "validation_error"]
    assert [int(row["iteration"]) for row in rows] == [20, 25, 40, 50, 60]
    assert [bool(row["validation_error"]) for row in rows] == [False, True, False, True, True]
    assert all(float(a["seconds"]) < float(b["seconds"]) for a, b in itertools.pairwise(rows))
    metrics = json.loads((finished / "metrics.json").read_text())
    assert {"accuracy", "precision", "recall", "f1", "confusion", "fnr_at_fpr"} <= metrics.keys()
    assert list(metrics["fnr_at_fpr"]) == ["0.001", "0.002", "0.005", "0.01"]
    assert sum(metrics["confusion"].values()) == metrics["stamps"] == 30
    with h5py.File(finished / "last.h5") as file:
        assert file.attrs["iteration"] == 60
    if pictures.matplotlib_available():
        for name in ("learning_curve.png", "det_curve.png"):
            assert (finished / name).read_bytes().startswith(b"\x89PNG")


def test_the_learning_curve_marks_what_is_kept():
    """The first of the lowest errors, as the protocol keeps it."""
    axes = pytest.importorskip("matplotlib.figure").Figure().subplots()
    errors = [None, 0.3, 0.1, None, 0.1, 0.2]
    rows = [history.Row(10 * i, i, 0.5, 0.04, error) for i, error in enumerate(errors)]
    (right,) = (one for one in history.draw_learning_curve(rows, axes).figure.axes if one is not axes)
    star = right.get_lines()[-1]
    assert [float(*values) for values in star.get_data()] == [20, 10]
    assert "kept: iteration 20, 10%" in [text.get_text() for text in right.get_legend().get_texts()]


def test_it_learns(finished):
    rows = history.read(finished / "history.csv")
    assert rows[-1].loss < 0.5 * rows[0].loss


def test_the_same_command_gives_the_same_bits(store, finished, tmp_path):
    arguments = ("--iterations", 60, "--validate-every", 25, "--batch", 20, "--threads", 1)
    assert train.main(options(store, tmp_path / "again", *arguments)) == 0
    assert_same_weights(tmp_path / "again" / "last.h5", finished / "last.h5")
    assert_same_weights(tmp_path / "again" / "best.h5", finished / "best.h5")


def test_another_seed_gives_other_weights(store, finished, tmp_path):
    assert train.main(options(store, tmp_path / "run", "--iterations", 1, "--seed", 1)) == 0
    one, other = weights_of(tmp_path / "run" / "last.h5"), weights_of(finished / "last.h5")
    assert not np.array_equal(one["conv1/w"], other["conv1/w"])


PROTOCOL = ("--iterations", 200, "--extend-by", 50, "--validate-every", 30, "--batch", 20)


@pytest.fixture(scope="module")
def unbroken(store, tmp_path_factory):
    """A run by PROTOCOL that nothing stopped."""
    out = tmp_path_factory.mktemp("runs") / "unbroken"
    assert train.main(options(store, out, *PROTOCOL)) == 0
    return out


def start(store, out):
    """A training in a process of its own, which has been validated at least once and has not ended."""
    process = subprocess.Popen(command("train", *options(store, out, *PROTOCOL)), env=ENVIRONMENT,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip
    deadline = time.monotonic() + 120
    while not (out / "best.h5").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    return process


def assert_same_run(one, other):
    """Weights, protocol and history are the same but for the clock."""
    for name in ("best.h5", "last.h5"):
        assert_same_weights(one / name, other / name)
        with h5py.File(one / name) as left, h5py.File(other / name) as right:
            assert dict(left.attrs) == dict(right.attrs)
    rows = [
        [row._replace(seconds=0) for row in history.read(folder / "history.csv")] for folder in (one, other)
    ]
    assert rows[0] == rows[1]


def test_a_killed_run_resumes_to_the_same_bits(store, unbroken, tmp_path):
    process = start(store, tmp_path / "killed")
    process.kill()
    process.wait()
    assert not (tmp_path / "killed" / "metrics.json").exists()
    assert train.main(["--resume", str(tmp_path / "killed")]) == 0
    assert_same_run(tmp_path / "killed", unbroken)


def test_ctrl_c_saves_and_says_how_to_resume(store, unbroken, tmp_path):
    process = start(store, tmp_path / "stopped")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"--resume {tmp_path / 'stopped'}" in output
    with h5py.File(tmp_path / "stopped" / "last.h5") as file:
        assert 30 <= file.attrs["iteration"] < 200
    assert train.main(["--resume", str(tmp_path / "stopped")]) == 0
    assert_same_run(tmp_path / "stopped", unbroken)


def test_a_run_that_lost_its_checkpoint_is_not_begun_anew(finished, tmp_path):
    for name in ("config.json", "history.csv", "best.h5"):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    with pytest.raises(UserError, match=r"last\.h5"):
        train.main(["--resume", str(tmp_path)])
    assert (tmp_path / "best.h5").read_bytes() == (finished / "best.h5").read_bytes()


def test_options_beside_resume_are_refused(finished):
    result = call("train", "--resume", finished, "--iterations", 500, "--seed", 9)
    assert_refused(result, "--iterations", "--seed")


def test_a_step_that_diverges_is_seen_in_the_validation(store, tmp_path):
    with pytest.raises(UserError, match="diverged"):
        train.main(options(store, tmp_path / "run", "--iterations", 1, "--rate", "1e30"))
    assert not (tmp_path / "run" / "best.h5").exists()


@pytest.mark.parametrize("field, value", [("size", "13"), ("batch", 0), ("seed", -1)])
def test_a_damaged_configuration_is_refused(finished, tmp_path, field, value):
    config = json.loads((finished / "config.json").read_text())
    (config if field in config else config["schedule"])[field] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"config\.json.*" + field):
        train.main(["--resume", str(tmp_path)])


def test_a_torn_history_is_mended_by_resuming(store, tmp_path):
    arguments = ("--iterations", 40, "--batch", 20)
    assert train.main(options(store, tmp_path / "run", *arguments)) == 0
    with (tmp_path / "run" / "history.csv").open("a") as file:
        file.write("60,1.0")  # killed while writing
    assert train.main(["--resume", str(tmp_path / "run")]) == 0
    assert [row.iteration for row in history.read(tmp_path / "run" / "history.csv")] == [20, 40]


def test_what_a_kill_left_half_written_is_cleared_by_resuming(store, tmp_path):
    assert train.main(options(store, tmp_path / "run", "--iterations", 2)) == 0
    (tmp_path / "run" / ".last.h5.abc.part").write_bytes(b"half")
    assert train.main(["--resume", str(tmp_path / "run")]) == 0
    assert not list((tmp_path / "run").glob(".*"))


def test_a_training_that_diverges_is_stopped(store, tmp_path):
    with pytest.raises(UserError, match="diverged"):
        train.main(options(store, tmp_path / "run", "--iterations", 50, "--rate", "1e30"))
    weights = weights_of(tmp_path / "run" / "last.h5")
    assert all(np.isfinite(array).all() for array in weights.values())


def test_larger_stamps_are_cut(tmp_path):
    np.savez(tmp_path / "big.npz", **toy_arrays(n=100, side=33))
    pack.main([str(tmp_path / "big.npz"), "--out", str(tmp_path / "big.h5"), "--channels", "difference"])
    arguments = ("--iterations", 2, "--crop", 15, "--arch", "deephits", "--init", "authors")
    assert train.main(options(tmp_path / "big.h5", tmp_path / "run", *arguments)) == 0
    assert read_config(tmp_path / "run").size == 15
    assert (
        score.main([str(tmp_path / "run"), str(tmp_path / "big.h5"), "--out", str(tmp_path / "s.csv")]) == 0
    )


BAD_OPTIONS = [
    (["--rate", "-1"], "--rate"),
    (["--rate", "nan"], "--rate"),
    (["--batch", "0"], "--batch"),
    (["--dropout", "1"], "--dropout"),
    (["--iterations", "many"], "--iterations"),
    (["--arch", "resnet"], "resnet"),
    (["--threads", "4096"], "4096"),
    (["--device", "tpu"], "tpu"),
    (["--crop", "99"], "99"),
    (["--crop", "12"], "12"),
    (["--crop", "5"], "5x5"),
    (["--data", "absent.h5"], "absent.h5"),
    (["--resume", "nowhere"], "nowhere"),
]


@pytest.mark.parametrize("bad, word", BAD_OPTIONS, ids=lambda value: str(value))
def test_bad_options_are_refused(store, tmp_path, monkeypatch, bad, word):
    good = [] if "--resume" in bad else options(store, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert_refused(call("train", *good, *bad), word)
    assert not list(tmp_path.iterdir())


def test_no_gpu_is_said(store, tmp_path):
    with pytest.raises(UserError, match="--device cpu"):
        train.main(options(store, tmp_path / "run", "--device", "cuda"))
    assert not (tmp_path / "run").exists()


def test_another_run_is_not_overwritten(store, finished):
    before = (finished / "best.h5").read_bytes()
    with pytest.raises(UserError, match="--resume"):
        train.main(options(store, finished, "--iterations", 1))
    assert (finished / "best.h5").read_bytes() == before


def test_bad_pixels_are_counted_or_dropped(tmp_path):
    arrays = toy_arrays(n=60)
    arrays["stamps"][[3, 17], 0, 0, 0] = np.nan, np.inf
    arrays["image"] = np.arange(60)
    np.savez(tmp_path / "bad.npz", **arrays)
    pack.main(
        [
            str(tmp_path / "bad.npz"),
            "--out",
            str(tmp_path / "clean.h5"),
            "--channels",
            "d",
            "--on-bad",
            "drop",
        ]
    )
    with h5py.File(tmp_path / "clean.h5", "a") as file:
        file["train/stamps"][4, 0, 0, 0] = np.nan
    result = run("train", *options(tmp_path / "clean.h5", tmp_path / "run", "--iterations", 1))
    assert_refused(result, "clean.h5", "index 4", "--on-bad drop")
    assert not (tmp_path / "run").exists()
    arguments = options(tmp_path / "clean.h5", tmp_path / "run", "--iterations", 1, "--on-bad", "drop")
    assert train.main(arguments) == 0


def test_a_disk_that_fills_up_is_told(store, tmp_path):
    """A limit on the size of files stands in for the disk: the first checkpoint does not fit."""
    resource = pytest.importorskip("resource")
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))  # noqa: E731
    result = run("train", *options(store, tmp_path / "run", "--iterations", 1), preexec_fn=limit)
    assert_refused(result, "last.h5", "written")
    assert not list((tmp_path / "run").glob("*.h5")) and not list((tmp_path / "run").glob(".*"))


@pytest.mark.parametrize("damage", ["truncated", "foreign", "other network"])
def test_a_damaged_checkpoint_is_refused(store, finished, tmp_path, damage):
    for name in ("config.json", "history.csv"):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    content = (finished / "last.h5").read_bytes()
    if damage == "other network":
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({**config, "arch": "deephits"}))
    bad = {"truncated": content[:-5000], "foreign": b"not HDF5 at all", "other network": content}[damage]
    (tmp_path / "last.h5").write_bytes(bad)
    with pytest.raises(UserError, match=r"last\.h5"):
        train.main(["--resume", str(tmp_path)])


def test_a_run_whose_data_moved_goes_on(store, tmp_path, capsys):
    """It is told where they are; other stamps are refused; a run of before there were digests is trusted."""
    data, elsewhere, run = tmp_path / "data.h5", tmp_path / "elsewhere.h5", tmp_path / "run"
    shutil.copy(store, data)
    assert train.main(options(data, run, "--iterations", 2, "--arch", "cap-mini")) == 0
    data.rename(elsewhere)
    with pytest.raises(UserError, match=r"data\.h5: no such file.*--resume .*--data FILE"):
        train.main(["--resume", str(run)])
    assert train.main(["--resume", str(run), "--data", str(elsewhere)]) == 0
    assert read_config(run).data == str(elsewhere)
    assert train.main(["--resume", str(run)]) == 0
    np.savez(tmp_path / "toy.npz", **toy_arrays(seed=1))
    other = tmp_path / "other.h5"
    pack.main([str(tmp_path / "toy.npz"), "--out", str(other), "--channels", "difference"])
    with pytest.raises(UserError, match=r"other\.h5: holds other stamps"):
        train.main(["--resume", str(run), "--data", str(other)])
    assert read_config(run).data == str(elsewhere)
    config = json.loads((run / "config.json").read_text())
    del config["data_sha256"]
    (run / "config.json").write_text(json.dumps(config))
    capsys.readouterr()
    result = call("train", "--resume", run, "--data", elsewhere)
    assert result.returncode == 0 and "keeps no digest of its data" in result.stderr


def test_a_network_that_accepts_nothing_is_told(store, tmp_path):
    arrays = toy_arrays(n=400)
    kept = np.flatnonzero((arrays["label"] == 0) | (np.arange(400) % 10 == 1))
    np.savez(tmp_path / "few.npz", **{name: array[kept] for name, array in arrays.items()})
    few = tmp_path / "few.h5"
    split = ["--split", "0.5,0.25,0.25"]
    pack.main([str(tmp_path / "few.npz"), "--out", str(few), "--channels", "difference", *split])
    run = tmp_path / "run"
    result = call(
        "train", *options(few, run, "--iterations", 2, "--batch", 20, "--rate", "1e-3", "--balance", "none")
    )
    metrics = json.loads((run / "metrics.json").read_text())
    counts = metrics["confusion"]
    assert counts["true_positives"] + counts["false_positives"] in (0, metrics["stamps"])
    assert result.returncode == 0 and "--at-fpr 0.01" in result.stderr and str(run) in result.stderr


def test_thresholds_of_the_validation_are_kept(finished):
    (entry,) = json.loads((finished / "thresholds.json").read_text())["entries"]
    assert entry["split"] == "validate" and set(entry["thresholds"]) == {"0.001", "0.002", "0.005", "0.01"}
