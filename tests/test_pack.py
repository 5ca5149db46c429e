"""A store from a user's own arrays."""

import subprocess
import sys

import numpy as np
import pytest

from rotinv import pack
from rotinv.stamps.store import StampStore
from rotinv.system.errors import UserError

COUNT = 60


def arrays(**changes):
    """Sixty stamps of twenty images."""
    rng = np.random.default_rng(0)
    made = {
        "stamps": rng.normal(size=(COUNT, 5, 5, 4)).astype(np.float32),
        "label": np.arange(COUNT) % 2,
        "snr": rng.uniform(3, 20, COUNT),
        "kind": np.array(["star", "cosmic ray", "noise"] * (COUNT // 3)),
        "image": np.repeat(np.arange(20) + 1000, 3),
    }
    made.update(changes)
    return {name: array for name, array in made.items() if array is not None}


def run(tmp_path, made, *options):
    np.savez(tmp_path / "in.npz", **made)
    assert pack.main([str(tmp_path / "in.npz"), "--out", str(tmp_path / "out.h5"), *options]) == 0
    return StampStore(tmp_path / "out.h5")


@pytest.mark.parametrize("channels_first", [False, True])
def test_every_stamp_arrives_with_its_columns(tmp_path, capsys, channels_first):
    made = arrays()
    stamps = made["stamps"]
    given = {**made, "stamps": np.moveaxis(stamps, 3, 1)} if channels_first else made
    with run(tmp_path, given) as store:
        assert store.sizes == {"train": 48, "validate": 6, "test": 6}
        assert store.channels == ["template", "science", "difference", "snr_difference"]
        assert store.kinds == ["cosmic ray", "noise", "star"] and store.normalisation == "none"
        splits = [store.split(name) for name in store.sizes]
        known = {stamp.tobytes(): n for n, stamp in enumerate(stamps)}
        seen = []
        for split in splits:
            rows = [known[stamp.tobytes()] for stamp in split.raw(0, len(split))]
            seen += rows
            np.testing.assert_array_equal(split.label, made["label"][rows])
            np.testing.assert_array_equal(split.snr, made["snr"][rows].astype(np.float32))
            np.testing.assert_array_equal(split.image, made["image"][rows])
            assert [store.kinds[k] for k in split.kind] == made["kind"][rows].tolist()
        assert sorted(seen) == list(range(COUNT))
        images = [set(split.image) for split in splits]
        assert not images[0] & images[1] and not images[0] & images[2] and not images[1] & images[2]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[0].startswith("train: 48 stamps (") and lines[0].endswith("of 16 images")


def test_labels_alone_are_enough(tmp_path):
    with run(tmp_path, arrays(snr=None, kind=None, image=None), "--split", "0.5,0.25,0.25") as store:
        assert list(store.sizes.values()) == [30, 15, 15]
        images = np.concatenate([store.split(name).image for name in store.sizes])
        assert len(set(images)) == COUNT


def test_the_seed_decides_which_images_go_where(tmp_path):
    found = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / name).mkdir()
        with run(tmp_path / name, arrays(), "--seed", seed) as store:
            found.append(store.split("train").image.tolist())
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    "fractions, sizes",
    [
        ("0,0,1", [0, 0, COUNT]),
        ("1,0,0", [COUNT, 0, 0]),
        ("0.5,0.5,0", [30, 30, 0]),
        ("0.1,0.2,0.7", [6, 12, 42]),
    ],
)
def test_fractions(tmp_path, fractions, sizes):
    with run(tmp_path, arrays(), "--split", fractions) as store:
        assert list(store.sizes.values()) == sizes


def test_channels_and_normalisation_are_recorded(tmp_path):
    made = arrays(stamps=np.zeros((COUNT, 3, 5, 5)), kind=np.arange(COUNT) % 4)
    with run(tmp_path, made, "--channels", "a, b,c", "--normalisation", "minmax") as store:
        assert (store.channels, store.normalisation) == (["a", "b", "c"], "minmax")
        assert store.kinds == ["0", "1", "2", "3"] and store.split("train").shape == (5, 5, 3)


def test_bad_pixels_can_be_dropped(tmp_path, capsys):
    made = arrays(image=None)
    made["stamps"][[4, 8], 0, 0, 0] = np.nan, np.inf
    with run(tmp_path, made, "--on-bad", "drop", "--split", "1,0,0") as store:
        rows = [n for n in range(COUNT) if n not in (4, 8)]
        np.testing.assert_array_equal(store.split("train").raw(0, 58), made["stamps"][rows])
        np.testing.assert_array_equal(store.split("train").image, rows)
    assert "dropped 2 of 60 stamps" in capsys.readouterr().out


def with_nan():
    made = arrays()
    made["stamps"][7, 1, 1, 1] = np.nan
    return made


BAD = {
    "no stamps": (arrays(stamps=None), [], "no array 'stamps'"),
    "no label": (arrays(label=None), [], "no array 'label'"),
    "empty": (
        arrays(stamps=np.zeros((0, 5, 5, 4)), **dict.fromkeys(("snr", "kind", "image")), label=[]),
        [],
        "no stamps at all",
    ),
    "oblong": (arrays(stamps=np.zeros((COUNT, 5, 4, 3))), [], r"shape \(60, 5, 4, 3\)"),
    "flat": (arrays(stamps=np.zeros((COUNT, 100))), [], r"shape \(60, 100\)"),
    "other channels": (arrays(), ["--channels", "a,b,c"], r"\(60, 5, 5, 4\).*\(N, S, S, 3\)"),
    "labels": (arrays(label=np.arange(COUNT)), [], "58 of 60 labels.*2 at index 2"),
    "nan label": (arrays(label=np.full(COUNT, np.nan)), [], "first is nan at index 0"),
    "short label": (arrays(label=[0, 1]), [], r"label has the shape \(2,\)"),
    "long image": (arrays(image=np.arange(61)), [], r"image has the shape \(61,\)"),
    "float image": (arrays(image=np.arange(COUNT) / 2), [], "image holds float64"),
    "objects": (arrays(stamps=np.array([None] * COUNT, dtype=object)), [], "objects"),
    "object kind": (arrays(kind=np.array(["a"] * COUNT, dtype=object)), [], "objects"),
    "kind": (arrays(kind=np.arange(COUNT) + 250), [], "kind 256 at index 6"),
    "nan": (with_nan(), [], r"1 of 60 stamps.*index 7.*--on-bad drop"),
    "few images": (arrays(image=np.zeros(COUNT, int)), [], "1 image is too few.*gets no stamps"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_arrays_get_one_line_and_leave_no_file(tmp_path, what):
    made, options, message = BAD[what]
    with pytest.raises(UserError, match=message) as error:
        run(tmp_path, made, *options)
    assert "\n" not in str(error.value) and "in.npz" in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in.npz"]


@pytest.mark.parametrize(
    "options, message",
    [
        (["--split", "0.8,0.1"], "not three numbers"),
        (["--split", "a,b,c"], "not three numbers"),
        (["--split", "0.8,0.1,0.2"], "sum to 1.1"),
        (["--split=-0.1,0.1,1"], "between 0 and 1"),
        (["--split", "nan,0,1"], "between 0 and 1"),
        (["--seed", "-1"], "out of range"),
        (["--channels", "a,a"], "a name of its own"),
        (["--normalisation", "zscore"], "invalid choice"),
    ],
)
def test_bad_options_get_one_line(tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as error:
        run(tmp_path, arrays(), *options)
    printed = capsys.readouterr().err
    assert error.value.code == 2 and printed.count("\n") == 1 and message in printed
    assert not (tmp_path / "out.h5").exists()


def test_stamps_said_to_be_scaled_are_looked_at(tmp_path):
    given = arrays()
    with pytest.raises(UserError, match=r"stamp \d+ has a pixel of .*outside 0-1"):
        run(tmp_path, given, "--normalisation", "minmax")
    low, high = (f(given["stamps"], axis=(1, 2), keepdims=True) for f in (np.min, np.max))
    run(tmp_path, given | {"stamps": (given["stamps"] - low) / (high - low)}, "--normalisation", "minmax")


def test_a_store_needs_no_packing(tmp_path):
    run(tmp_path, arrays())
    with pytest.raises(UserError, match="is an HDF5 file"):
        pack.main([str(tmp_path / "out.h5"), "--out", str(tmp_path / "again.h5")])


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "out.h5").write_text("precious")
    with pytest.raises(UserError, match="exists already"):
        run(tmp_path, arrays())
    assert (tmp_path / "out.h5").read_text() == "precious"


def test_the_program_exits_with_status_2(tmp_path):
    command = [sys.executable, "-m", "rotinv.pack", "missing.npz", "--out", str(tmp_path / "out.h5")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "rotinv pack: missing.npz: no such file\n")


def test_one_thing_is_not_told_in_the_plural(tmp_path, capsys):
    """Ten stamps: a validation and a test split of one stamp each."""
    stamps, label = np.random.default_rng(0).normal(size=(10, 5, 5, 1)), np.arange(10) % 2
    with run(tmp_path, {"stamps": stamps, "label": label}):
        told = capsys.readouterr().out
    assert "test: 1 stamp (" in told and "of 1 image\n" in told and "of 8 images" in told
    assert "1 stamps" not in told and "1 artifacts" not in told and "1 candidates" not in told
