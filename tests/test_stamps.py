"""The stamp store, the one normalisation, and arrays to score."""

import pickle
import subprocess
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rotinv.stamps.opening import open_stamps
from rotinv.stamps.pixels import crop, normalise, prepare
from rotinv.stamps.splits import count_constant, find_bad, usable
from rotinv.stamps.store import StampStore, create_store
from rotinv.system import hdf5
from rotinv.system.errors import UserError

CHANNELS = ["science", "template", "difference"]


def stamps_of(count, size=5, channels=3, seed=0):
    return np.random.default_rng(seed).normal(size=(count, size, size, channels)).astype(np.float32)


def write(path, count=200, size=5, **options):
    """A store whose train split has `count` stamps, in appends of uneven length."""
    stamps = stamps_of(count, size)
    with create_store(path, channels=CHANNELS, size=size, **options) as writer:
        for start in range(0, count, 37):
            part = stamps[start : start + 37]
            writer.append("train", part, np.arange(start, start + len(part)) % 2)
    return stamps


def one_line(error):
    text = str(error.value)
    assert "\n" not in text and text
    return text


# The store


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "store.h5"
    stamps = stamps_of(10)
    label, snr = np.arange(10) % 2, np.linspace(1, 20, 10)
    kind, image = np.arange(10) % 3, np.arange(10) + 2**40
    with create_store(
        path,
        channels=CHANNELS,
        size=5,
        kinds=["noise", "cosmic ray", "star"],
        normalisation="minmax",
        attributes={"seed": 3},
    ) as writer:
        writer.append("test", stamps, label, snr, kind, image)
    with StampStore(path) as store:
        assert (store.path, store.channels, store.size) == (path, CHANNELS, 5)
        assert (store.normalisation, store.kinds) == ("minmax", ["noise", "cosmic ray", "star"])
        assert store.sizes == {"train": 0, "validate": 0, "test": 10}
        split = store.split("test")
        assert (split.name, len(split), split.shape) == ("test", 10, (5, 5, 3))
        np.testing.assert_array_equal(split.raw(0, 10), stamps)
        for found, wanted in (
            (split.label, label),
            (split.snr, snr.astype("f4")),
            (split.kind, kind),
            (split.image, image),
        ):
            np.testing.assert_array_equal(found, wanted)
        assert (split.label.dtype, split.snr.dtype, split.image.dtype) == (np.uint8, np.float32, np.int64)
    with h5py.File(path) as file:
        assert file.attrs["seed"] == 3
        assert file["test/stamps"].dtype == np.float32


def test_missing_columns_get_their_defaults(tmp_path):
    path = tmp_path / "store.h5"
    with create_store(path, channels=CHANNELS, size=5) as writer:
        writer.append("train", stamps_of(3), [0, 1, 0])
        writer.append("test", stamps_of(2), [0, 1])
    with StampStore(path) as store:
        train, test = store.split("train"), store.split("test")
    assert np.isnan(train.snr).all() and not train.kind.any() and store.kinds == []
    assert not set(train.image) & set(test.image), "without image every stamp is an image of its own"


def test_optional_columns_and_splits_may_be_absent(tmp_path):
    path = tmp_path / "store.h5"
    write(path, 5)
    with h5py.File(path, "r+") as file:
        del file["test"], file["validate"]
        for name in ("snr", "kind", "image"):
            del file["train"][name]
    with StampStore(path) as store:
        split = store.split("train")
        assert (split.snr, split.kind, split.image) == (None, None, None)
        assert store.sizes["test"] == 0


@pytest.mark.parametrize("indices", [[], [0], [199, 0, 64, 63, 65, 64], list(range(200))[::-1]])
def test_stamps_are_read_in_the_order_asked_for(tmp_path, indices):
    stamps = write(tmp_path / "store.h5")
    with StampStore(tmp_path / "store.h5") as store:
        split = store.split("train")
        np.testing.assert_array_equal(split.raw(indices), stamps[indices])
        np.testing.assert_array_equal(split.raw(60, 70), stamps[60:70])


def test_a_store_is_whole_or_absent(tmp_path):
    path = tmp_path / "store.h5"
    with pytest.raises(KeyError), create_store(path, channels=CHANNELS, size=5) as writer:
        writer.append("train", stamps_of(3), [0, 1, 0])
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    write(path)
    before = path.read_bytes()
    with pytest.raises(UserError, match="exists already"):
        write(path)
    assert path.read_bytes() == before
    write(path, 20, overwrite=True)
    with StampStore(path) as store:
        assert len(store.split("train")) == 20


def test_a_full_disk_is_one_line_and_leaves_no_file(tmp_path):
    code = f"""
import resource, signal, numpy as np
from rotinv import cli
from rotinv.stamps.store import create_store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
def main():
    with create_store({str(tmp_path / "full.h5")!r}, channels=["a"], size=21) as writer:
        for _ in range(100):
            writer.append("train", np.ones((64, 21, 21, 1)), np.ones(64))
    return 0
cli.run("pack", main)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1 and "cannot be written" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "stamps, label, error",
    [
        (stamps_of(2, 4), [0, 1], ValueError),
        (stamps_of(2), [0, 1, 1], ValueError),
        (stamps_of(2), [0, 2], UserError),
    ],
)
def test_the_writer_refuses_what_does_not_fit(tmp_path, stamps, label, error):
    with pytest.raises(error), create_store(tmp_path / "s.h5", channels=CHANNELS, size=5) as writer:
        writer.append("train", stamps, label)
    assert list(tmp_path.iterdir()) == []


def damage(file, what):
    """Spoil an open store in one way."""
    train = file["train"]
    label = train["label"][()]
    match what:
        case "format":
            del file.attrs["format"]
        case "normalisation":
            file.attrs["normalisation"] = "zscore"
        case "no normalisation":
            del file.attrs["normalisation"]
        case "channels":
            file.attrs["channels"] = ["a", "b"]
        case "labels":
            label[[7, 9]] = 3
            train["label"][...] = label
        case "label length":
            del train["label"]
            train["label"] = label[:-1]
        case "no label":
            del train["label"]
        case "float label":
            del train["label"]
            train["label"] = label.astype("f4")
        case "kind":
            train["kind"][4] = 7
        case "text stamps":
            del train["stamps"]
            train["stamps"] = np.array(["x"] * len(label), dtype=object)
        case "flat stamps":
            del train["stamps"]
            train["stamps"] = np.zeros((len(label), 75), "f4")
        case "oblong stamps":
            del train["stamps"]
            train["stamps"] = np.zeros((len(label), 5, 4, 3), "f4")
        case "other split":
            del file["test"]
            file.create_group("test")["stamps"] = np.zeros((0, 7, 7, 3), "f4")
            file["test"]["label"] = np.zeros(0, "u1")
        case "split is a dataset":
            del file["test"]
            file["test"] = np.zeros(3)
        case "no group":
            for name in ("train", "validate", "test"):
                del file[name]


@pytest.mark.parametrize(
    "what, message",
    [
        ("format", "not a stamp store"),
        ("normalisation", "'zscore' is unknown.*none, minmax"),
        ("no normalisation", "normalisation '' is unknown"),
        ("channels", "3 channels.*names 2"),
        ("labels", r"2 of 20 labels.*first is 3 at index 7"),
        ("label length", r"\(19,\).*20 stamps"),
        ("no label", "no dataset 'label'"),
        ("float label", "float32"),
        ("kind", "7 at index 4"),
        ("text stamps", "object, not numbers"),
        ("flat stamps", r"\(20, 75\).*\(N, S, S, C\)"),
        ("oblong stamps", r"\(20, 5, 4, 3\)"),
        ("other split", r"one shape.*\(5, 5, 3\).*\(7, 7, 3\)"),
        ("split is a dataset", "test is not a group"),
        ("no group", "no split"),
    ],
)
def test_a_foreign_store_is_refused_when_it_is_opened(tmp_path, what, message):
    path = tmp_path / "store.h5"
    write(path, 20)
    with h5py.File(path, "r+") as file:
        damage(file, what)
    with pytest.raises(UserError, match=message) as error:
        StampStore(path)
    assert str(path) in one_line(error)
    with h5py.File(path, "r+"):  # the failed opening has left it closed
        pass


def test_arrays_are_no_store(tmp_path):
    with pytest.raises(UserError, match="rotinv pack"):
        StampStore(tmp_path / "arrays.npz")


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "no such file"),
        (b"", "not an HDF5 file"),
        (b"index,probability\n", "not an HDF5 file"),
        ("half", "damaged|not an HDF5"),
    ],
)
def test_a_file_that_is_no_hdf5_is_refused(tmp_path, content, message):
    path = tmp_path / "store.h5"
    if content == "half":
        write(path)
        content = path.read_bytes()
        content = content[: len(content) // 2]
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        StampStore(path)
    assert str(path) in one_line(error)


@pytest.mark.parametrize("name, message", [("test", "is empty.*train"), ("tset", "does not exist.*train")])
def test_a_split_without_stamps_is_refused(tmp_path, name, message):
    write(tmp_path / "store.h5", 20)
    with StampStore(tmp_path / "store.h5") as store, pytest.raises(UserError, match=message) as error:
        store.split(name)
    assert "train (20)" in one_line(error)


# Normalisation


def test_every_channel_is_scaled_by_itself():
    raw = stamps_of(6) * 100 + np.array([0, 500, -20], dtype=np.float32)
    scaled, constant = normalise(raw)
    low = raw.min(axis=(1, 2), keepdims=True).astype(float)
    high = raw.max(axis=(1, 2), keepdims=True)
    np.testing.assert_array_equal(scaled, ((raw - low) / (high - low)).astype(np.float32))
    assert (scaled.dtype, constant) == (np.float32, 0)
    assert (scaled.min(axis=(1, 2)) == 0).all() and (scaled.max(axis=(1, 2)) == 1).all()


@pytest.mark.parametrize("value", [0.0, -0.0, 7.5, -3e38])
def test_constant_channels_become_zeros_and_are_counted(value):
    raw = stamps_of(4)
    raw[1, :, :, 2] = value
    raw[3] = value
    scaled, constant = normalise(raw)
    assert constant == 4
    assert not scaled[1, :, :, 2].any() and not scaled[3].any()
    assert not np.signbit(scaled[3]).any()


any_stamps = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.just(3), st.just(3), st.integers(1, 4)),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)


@given(any_stamps)
@settings(max_examples=60, deadline=None)
def test_turned_stamps_get_the_turned_bits(raw):
    scaled, constant = normalise(raw)
    assert np.isfinite(scaled).all() and scaled.min() >= 0 and scaled.max() <= 1
    for turns in range(4):
        turned, same = normalise(np.rot90(raw, turns, axes=(1, 2)))
        assert turned.tobytes() == np.ascontiguousarray(np.rot90(scaled, turns, axes=(1, 2))).tobytes()
        assert same == constant


@pytest.mark.parametrize("side, channels", [(21, 1), (21, 3), (9, 4), (5, 5), (3, 70), (1, 2)])
def test_pixels_that_are_scaled_side_by_side_have_the_bits_of_the_formula(side, channels):
    """However many channels there are; with a channel of zeros of both signs, and the largest numbers."""
    raw = np.random.default_rng(1).normal(size=(4, side, side, channels)).astype(np.float32)
    raw[1, ..., -1] = np.where(raw[1, ..., -1] > 0, 0.0, -0.0)
    raw[2, 0, 0], raw[2, -1, -1] = 3e38, -3e38
    low, high = (np.float64(reduce(raw, axis=(1, 2), keepdims=True)) for reduce in (np.min, np.max))
    span = high - (low + 0.0)
    expected = np.where(span == 0, 0.0, (np.float64(raw) - (low + 0.0)) / np.where(span == 0, 1, span))
    found, constant = normalise(raw)
    np.testing.assert_array_equal(found, np.float32(expected))
    assert constant == (span == 0).sum()


def test_a_stamp_gets_the_same_bits_in_any_batch():
    raw = stamps_of(30)
    together = normalise(raw)[0]
    for n in range(30):
        assert normalise(raw[n : n + 1])[0].tobytes() == together[n].tobytes()
    assert normalise(raw[::-1])[0].tobytes() == together[::-1].tobytes()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("everywhere", [False, True])
def test_pixels_that_are_not_finite_do_not_vanish(bad, everywhere):
    raw = stamps_of(2)
    raw[(1,) if everywhere else (1, 0, 0, 0)] = bad
    with np.errstate(invalid="ignore"):
        scaled, _ = normalise(raw)
    assert np.isfinite(scaled[0]).all() and np.isnan(scaled[1]).any()


def test_minmax_stamps_are_taken_as_they_are():
    raw = stamps_of(3)
    assert prepare(raw, "minmax")[0].tobytes() == raw.tobytes()
    np.testing.assert_array_equal(prepare(raw, "minmax", 3)[0], raw[:, 1:4, 1:4])
    np.testing.assert_array_equal(prepare(raw, "none", 3)[0], normalise(raw[:, 1:4, 1:4])[0])


@pytest.mark.parametrize("size, side", [(5, 5), (5, 3), (5, 1), (6, 4), (63, 21)])
def test_crop_cuts_the_centre(size, side):
    stamps = stamps_of(2, size)
    cut = crop(stamps, side)
    edge = (size - side) // 2
    assert cut.shape == (2, side, side, 3)
    np.testing.assert_array_equal(cut, stamps[:, edge : size - edge, edge : size - edge])
    np.testing.assert_array_equal(crop(np.rot90(stamps, axes=(1, 2)), side), np.rot90(cut, axes=(1, 2)))


@pytest.mark.parametrize(
    "size, side, message",
    [
        (5, 7, "from 1 to 5"),
        (5, 0, "from 1 to 5"),
        (5, -1, "from 1 to 5"),
        (5, 4, "odd"),
        (6, 3, "even"),
    ],
)
def test_crop_refuses_what_has_no_centre(size, side, message):
    with pytest.raises(UserError, match=message) as error:
        crop(stamps_of(2, size), side)
    one_line(error)


# Stamps that no network can take


def spoiled(path, rows, count=200):
    write(path, count)
    with h5py.File(path, "r+") as file:
        for row in rows:
            file["train/stamps"][row, 1, 2, 0] = (np.nan, np.inf, -np.inf)[row % 3]
    return path


@pytest.mark.parametrize("rows", [[], [0], [63, 64, 65, 199], list(range(0, 200, 7))])
@pytest.mark.parametrize("scan", [1, 5000, 1 << 23])
def test_bad_stamps_are_found_whatever_the_block(tmp_path, monkeypatch, rows, scan):
    monkeypatch.setattr("rotinv.stamps.splits._SCAN", scan)
    with StampStore(spoiled(tmp_path / "store.h5", rows)) as store:
        split = store.split("train")
        assert find_bad(split).tolist() == rows
        assert usable(split, "drop").tolist() == [n for n in range(200) if n not in rows]


def test_bad_stamps_are_counted_and_named(tmp_path):
    path = spoiled(tmp_path / "store.h5", [3, 4, 70, 71, 72, 150])
    with StampStore(path) as store, pytest.raises(UserError, match="6 of 200") as error:
        usable(store.split("train"), "error")
    text = one_line(error)
    assert "index 3, 4, 70, 71, 72, ..." in text and "--on-bad drop" in text and str(path) in text


def test_nothing_left_is_an_error(tmp_path):
    path = spoiled(tmp_path / "store.h5", range(4), 4)
    with StampStore(path) as store, pytest.raises(UserError, match="all 4"):
        usable(store.split("train"), "drop")


def test_constant_channels_of_a_split_are_counted(tmp_path):
    write(tmp_path / "store.h5")
    with h5py.File(tmp_path / "store.h5", "r+") as file:
        file["train/stamps"][5, :, :, 1] = 2
        file["train/stamps"][100, 1:4, 1:4, 0] = 2
    with StampStore(tmp_path / "store.h5") as store:
        assert count_constant(store.split("train")) == 1
        assert count_constant(replace(store.split("train"), side=3)) == 2


# Arrays to score


def save(path, stamps, **columns):
    if path.suffix == ".npy":
        np.save(path, stamps)
    else:
        np.savez(path, stamps=stamps, **columns)
    return path


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i2", ">f4"])
def test_arrays_of_either_axis_order_are_read(tmp_path, name, first, dtype):
    stamps = (stamps_of(7) * 50).astype(dtype)
    path = save(tmp_path / name, np.moveaxis(stamps, 3, 1) if first else stamps)
    split = open_stamps(path, channels=3, size=5)
    assert (len(split), split.shape, split.normalisation, split.label) == (7, (5, 5, 3), "none", None)
    for found in (split.raw(0, 7), split.raw(np.arange(7))):
        assert found.dtype == np.float32 and found.flags.c_contiguous
        np.testing.assert_array_equal(found, stamps.astype("f4"))
    assert usable(split, "error").tolist() == list(range(7))


def test_the_channel_count_settles_the_axes(tmp_path):
    """(N, 5, 5, 5) is channels last; without a count the square axes decide."""
    cube = stamps_of(2, 5, 5)
    np.testing.assert_array_equal(open_stamps(save(tmp_path / "c.npy", cube), channels=5).raw(0, 2), cube)
    assert open_stamps(save(tmp_path / "d.npy", np.zeros((2, 3, 5, 5)))).shape == (5, 5, 3)


def test_an_npz_may_bring_labels(tmp_path):
    path = save(tmp_path / "a.npz", stamps_of(4), label=np.array([0.0, 1, 1, 0]), snr=np.arange(4))
    split = open_stamps(path)
    assert split.label.tolist() == [0, 1, 1, 0] and split.snr.tolist() == [0, 1, 2, 3]


def test_the_only_array_of_four_axes_is_the_stamps(tmp_path):
    np.savez(tmp_path / "a.npz", cutouts=stamps_of(4), ids=np.arange(4))
    assert len(open_stamps(tmp_path / "a.npz")) == 4


def test_values_beyond_float32_are_bad_pixels(tmp_path):
    stamps = stamps_of(4).astype("f8")
    stamps[2, 0, 0, 0] = 1e300
    assert find_bad(open_stamps(save(tmp_path / "a.npy", stamps))).tolist() == [2]


class Bomb:
    """An object whose unpickling would leave a mark."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('a pickle ran')",))


BAD_ARRAYS = {
    "objects.npy": (lambda p: np.save(p, np.array([Bomb()] * 3, dtype=object)), "objects"),
    "objects.npz": (lambda p: np.savez(p, stamps=np.array([Bomb()], dtype=object)), "objects"),
    "pickle.npy": (lambda p: p.write_bytes(pickle.dumps(Bomb())), "objects"),
    "empty.npy": (lambda p: p.write_bytes(b""), "damaged|not a NumPy"),
    "text.npz": (lambda p: p.write_text("stamps"), "objects|not a NumPy"),
    "zip.npz": (lambda p: p.write_bytes(b"PK\x03\x04" + b"x" * 40), "not a NumPy"),
    "half.npy": (lambda p: np.save(p, stamps_of(9)) or p.write_bytes(p.read_bytes()[:900]), "damaged"),
    "half.npz": (lambda p: save(p, stamps_of(9)).write_bytes(p.read_bytes()[:900]), "damaged"),
    "missing.npy": (lambda p: None, "no such file"),
    "folder.npy": (lambda p: p.mkdir(), "not a file"),
    "flat.npy": (lambda p: np.save(p, np.zeros((4, 75))), r"\(4, 75\)"),
    "scalar.npy": (lambda p: np.save(p, np.float32(1)), r"\(\)"),
    "oblong.npy": (lambda p: np.save(p, np.zeros((4, 5, 4, 3))), r"\(4, 5, 4, 3\)"),
    "channels.npy": (lambda p: np.save(p, np.zeros((4, 5, 5, 4))), r"\(4, 5, 5, 4\).*\(N, 5, 5, 3\)"),
    "size.npy": (lambda p: np.save(p, np.zeros((4, 3, 63, 63))), r"\(4, 3, 63, 63\).*\(N, 3, 5, 5\)"),
    "complex.npy": (lambda p: np.save(p, np.zeros((4, 5, 5, 3), complex)), "complex128"),
    "words.npy": (lambda p: np.save(p, np.full((4, 5, 5, 3), "x")), "not numbers"),
    "none.npy": (lambda p: np.save(p, np.zeros((0, 5, 5, 3))), "no stamps at all"),
    "nostamps.npz": (lambda p: np.savez(p, a=np.zeros(3), b=np.zeros(4)), "no array 'stamps'.*a, b"),
    "label.npz": (lambda p: save(p, stamps_of(4), label=[0, 1, 2, 5]), "2 of 4 labels.*2 at index 2"),
    "length.npz": (lambda p: save(p, stamps_of(4), label=[0, 1]), r"label has the shape \(2,\)"),
    "snr.npz": (lambda p: save(p, stamps_of(4), snr=["a"] * 4), "snr holds <U1"),
    "store.h5": (lambda p: write(p, 9, 7), r"split 'test' is empty"),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_bad_arrays_get_one_line(tmp_path, name):
    make, message = BAD_ARRAYS[name]
    path = tmp_path / name
    make(path)
    with pytest.raises(UserError, match=message) as error:
        open_stamps(path, channels=3, size=5)
    assert str(path) in one_line(error)


@pytest.mark.parametrize("wanted", [{"channels": 4}, {"size": 21}, {"channels": 4, "size": 21}])
def test_a_store_of_another_shape_is_refused(tmp_path, wanted):
    write(tmp_path / "store.h5", 9)
    with pytest.raises(UserError, match=r"shape \(9, 5, 5, 3\); wanted is \(N, ") as error:
        open_stamps(tmp_path / "store.h5", "train", **wanted)
    one_line(error)


def test_a_split_keeps_its_file_open(tmp_path):
    stamps = write(tmp_path / "store.h5", 9)
    split = open_stamps(tmp_path / "store.h5", "train", channels=3, size=5)
    np.testing.assert_array_equal(split.raw(0, 9), stamps)


def test_a_store_from_elsewhere_may_be_contiguous(tmp_path):
    """Chunks and resizable datasets are a choice of this program, not of the format."""
    path, stamps = tmp_path / "store.h5", stamps_of(70)
    with h5py.File(path, "w") as file:
        file.attrs.update({"format": "rotinv-stamps-1", "channels": CHANNELS, "normalisation": b"none"})
        file["train/stamps"], file["train/label"] = stamps, np.arange(70) % 2 == 1
    with StampStore(path) as store:
        np.testing.assert_array_equal(store.split("train").raw([69, 3]), stamps[[69, 3]])
        assert store.split("train").label[:2].tolist() == [0, 1]
    assert hdf5.open_hdf5(path)
