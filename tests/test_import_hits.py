"""The original files: chunks as Python 2 pickled them, hostile pickles, and the store made of them."""

import pickle
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import programs
import pytest
import python2_pickles as p2
from hypothesis import given, settings
from hypothesis import strategies as st

from rotinv import import_hits
from rotinv.stamps.store import SPLITS, StampStore
from rotinv.stamps.unpickling import read_dict
from rotinv.system.errors import UserError

IMAGES = ("temp_images", "sci_images", "diff_images", "SNR_images")


def columns(count=4, dtype="<f4", seed=0, **changes):
    """The arrays of a chunk."""
    rng = np.random.default_rng(seed)
    made = {name: rng.normal(size=(count, 441)).astype(dtype) for name in IMAGES}
    made |= {"labels": np.arange(count) % 2, "SNRs": rng.uniform(5, 50, count)}
    made |= changes
    return {name: values for name, values in made.items() if values is not None}


def stamps_of(made):
    """The stamps that a chunk's arrays are, (N, 21, 21, 4) float32."""
    return np.stack([np.asarray(made[name]) for name in IMAGES], -1).reshape(-1, 21, 21, 4).astype("f4")


def put(folder, made, name="chunk_0_5000.pkl", **options):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(p2.chunk(made, **options))
    return folder / name


def run(source, *options, split="test"):
    """The store made of a source, as arrays by split, and its attributes."""
    out = Path(source).parent / "hits.h5"
    given = ["--split", split] if split else []
    assert import_hits.main([str(source), "--out", str(out), *given, *options]) == 0
    with StampStore(out) as store:
        assert store.channels == ["template", "science", "difference", "snr_difference"]
        full = {name: store.split(name) for name, size in store.sizes.items() if size}
        found = {n: (s.raw(0, len(s)), s.label, s.snr) for n, s in full.items()}
        attributes = dict(store._file.attrs)
    out.unlink()
    return found, attributes


def refusal(path, *options):
    """The one line with which a source is refused; nothing is left behind."""
    folder = Path(path).parent
    before = sorted(folder.iterdir())
    with pytest.raises(UserError) as error:
        import_hits.main([str(path), "--out", str(folder / "out.h5"), *options])
    text = str(error.value)
    assert "\n" not in text and text.isprintable() and sorted(folder.iterdir()) == before
    return text


# What is read


@pytest.mark.parametrize("dtype", ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("fortran", [False, True])
def test_a_python_2_chunk_arrives(tmp_path, dtype, fortran):
    made = columns(7, dtype, RF_pbbs=np.ones(7), features=np.zeros((7, 56), "f4"))
    path = put(tmp_path / "flat", made, fortran=fortran)
    found, attributes = run(path.parent)
    stamps, label, snr = found["test"]
    np.testing.assert_array_equal(stamps, stamps_of(made))
    np.testing.assert_array_equal(label, made["labels"])
    np.testing.assert_array_equal(snr, made["SNRs"].astype("f4"))
    assert attributes["rows_read"] == 7 and attributes["normalisation"] == "none"
    assert not any(value for name, value in attributes.items() if name.startswith("skipped_"))


def test_the_pickles_of_these_tests_are_pickles(tmp_path):
    """What Python itself makes of them is what is read."""
    made = columns(3, labels=[np.int64(1), np.int64(0), np.int64(1)], extra=[1.5, True, -7, 2**40, 300])
    path = put(tmp_path, made)
    theirs, ours = pickle.loads(path.read_bytes(), encoding="latin1"), read_dict(path)
    assert theirs.keys() == ours.keys() == made.keys()
    for name in made:
        np.testing.assert_array_equal(theirs[name], ours[name])
        np.testing.assert_array_equal(made[name], ours[name])


@pytest.mark.parametrize("protocol", [3, 4])
def test_a_python_3_chunk_arrives(tmp_path, protocol):
    made = columns(5)
    path = put(tmp_path / "flat", made)
    path.write_bytes(pickle.dumps(made, protocol))
    np.testing.assert_array_equal(run(path)[0]["test"][0], stamps_of(made))


@pytest.mark.parametrize("split, sizes", [("validate", [0, 40, 0]), ("0.5,0.25,0.25", [20, 10, 10])])
def test_the_authors_one_pickle(tmp_path, split, sizes):
    images = np.random.default_rng(0).normal(size=(40, 21, 21, 4)).astype("f4")
    (tmp_path / "a").mkdir()
    path = put(tmp_path / "a", {"images": images, "labels": np.arange(40) % 2}, "all.pkl")
    found, _ = run(path, split=split)
    assert [len(found[name][0]) if name in found else 0 for name in SPLITS] == sizes
    known = {stamp.tobytes(): n for n, stamp in enumerate(images)}
    seen = []
    for stamps, label, snr in found.values():
        rows = [known[stamp.tobytes()] for stamp in stamps]
        assert rows == sorted(rows) and np.isnan(snr).all()
        np.testing.assert_array_equal(label, np.array(rows) % 2)
        seen += rows
    assert sorted(seen) == list(range(40))


def test_folders_are_splits_in_lexicographic_order(tmp_path, capsys):
    source = tmp_path / "hits"
    order = {"train": ["chunk_0_50000.pkl", "chunk_10_50000.pkl", "chunk_2_50000.pkl"]}
    order |= {"validate": ["chunk_1_5000.pkl"], "test": ["chunk_9_5000.pkl"]}
    wanted = {}
    for split, names in order.items():
        chunks = [columns(3 + n, seed=n) for n in range(len(names))]
        for name, made in zip(names, chunks, strict=True):
            put(source / f"chunks_{split}", made, name)
        wanted[split] = np.concatenate([stamps_of(made) for made in chunks])
    put(source / "chunks_train", columns(9), "90_chunk_0_50000.pkl")
    (source / "chunks_train" / "notes.txt").write_text("x")
    found, attributes = run(source, split=None)
    for split, stamps in wanted.items():
        np.testing.assert_array_equal(found[split][0], stamps)
    assert (attributes["skipped_rotated_copies"], attributes["skipped_other_files"]) == (1, 1)
    printed = capsys.readouterr().out
    assert "train: 12 stamps" in printed and "1 files that are rotated copies" in printed


def test_chunks_go_whole_where_the_fractions_say(tmp_path):
    for n in range(10):
        put(tmp_path / "flat", columns(3, seed=n), f"chunk_{n}_5000.pkl")
    found, _ = run(tmp_path / "flat", split="0.6,0.2,0.2")
    assert [len(found[name][0]) for name in SPLITS] == [18, 6, 6]
    again, again_attributes = run(tmp_path / "flat", split="0.6,0.2,0.2")
    np.testing.assert_array_equal(found["test"][0], again["test"][0])
    assert list(again_attributes["split"]) == [0.6, 0.2, 0.2]
    other, _ = run(tmp_path / "flat", "--seed", "3", split="0.6,0.2,0.2")
    assert not np.array_equal(found["test"][0], other["test"][0])


def test_bad_rows_are_skipped_and_counted(tmp_path, capsys):
    made = columns(9, "<f8", labels=(np.arange(9) % 2).astype("f4"))
    made["temp_images"][1, 5], made["SNR_images"][2, 0] = np.nan, np.inf
    made["diff_images"][3, 440] = 1e300  # more than float32 holds
    made["SNRs"][4], made["labels"][5] = np.inf, np.nan
    made["sci_images"] = list(made["sci_images"])
    made["sci_images"][6] = np.zeros(440)
    whole = made | {"sci_images": [row if len(row) == 441 else np.zeros(441) for row in made["sci_images"]]}
    found, attributes = run(put(tmp_path / "flat", made).parent)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(found["test"][0], stamps_of(whole)[[0, 7, 8]])
    np.testing.assert_array_equal(found["test"][1], [0, 1, 0])
    counts = {name[8:]: int(n) for name, n in attributes.items() if name.startswith("skipped_") and n}
    assert counts == {"pixels_not_finite": 3, "snr_not_finite": 1, "label_not_finite": 1, "wrong_length": 1}
    assert "3 rows with NaN or infinite pixels" in capsys.readouterr().out


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f8"])
def test_faithful_normalisation_repeats_the_original(tmp_path, capsys, dtype):
    made = columns(5, dtype)
    made["sci_images"][3] = 7
    found, attributes = run(put(tmp_path / "flat", made).parent, "--normalisation", "faithful")
    stamps = found["test"][0]
    for c, name in enumerate(IMAGES):
        for n, image in enumerate(made[name]):
            if (n, name) == (3, "sci_images"):
                assert np.isnan(stamps[n, ..., c]).all()
            else:
                wanted = ((image - image.min()) / (image.max() - image.min())).astype("f4")
                np.testing.assert_array_equal(stamps[n, ..., c], wanted.reshape(21, 21))
    assert attributes["normalisation"] == "minmax" and attributes["constant_channels"] == 1
    assert "1 constant channel of stamps became NaN" in capsys.readouterr().out


def test_unreadable_files_stop_or_are_skipped(tmp_path, capsys):
    put(tmp_path / "flat", columns(2))
    lone = put(tmp_path / "flat", columns(2), "chunk_1_5000.pkl")
    lone.write_bytes(b"nothing")
    assert "--skip-bad-files" not in refusal(lone, "--split", "test")
    assert "chunk_1_5000.pkl: is damaged" in refusal(tmp_path / "flat", "--split", "test")
    assert "--skip-bad-files" in refusal(tmp_path / "flat", "--split", "test")
    found, attributes = run(tmp_path / "flat", "--skip-bad-files")
    assert len(found["test"][0]) == 2 and attributes["skipped_unreadable_files"] == 1
    assert list(attributes["unreadable_files"]) == ["flat/chunk_1_5000.pkl"]
    assert "left out: " in capsys.readouterr().err
    (tmp_path / "flat" / "chunk_0_5000.pkl").unlink()
    assert "no good stamp is left for 'test'" in refusal(
        tmp_path / "flat", "--split", "test", "--skip-bad-files"
    )


# What is refused


def test_sources_that_do_not_fit(tmp_path):
    assert "no such file or folder" in refusal(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    assert "has no chunk" in refusal(tmp_path / "empty", "--split", "test")
    path = put(tmp_path / "flat", columns())
    assert "say with --split" in refusal(tmp_path / "flat")
    assert "is one file; say with --split" in refusal(path)
    for contents in (b"", b"\x89HDF\r\n"):
        path.with_name("other.h5").write_bytes(contents)
        assert "is not a pickle" in refusal(path.with_name("other.h5"))
    path.with_name("other.h5").unlink()
    put(tmp_path / "parts" / "chunks_train", columns())
    assert "but no chunks_validate" in refusal(tmp_path / "parts")
    assert "leave --split out" in refusal(tmp_path / "parts", "--split", "train")
    put(tmp_path / "flat", columns(), "chunk_0_50000.pkl")
    assert "--chunk-size 50000" in refusal(tmp_path / "flat", "--split", "test")
    assert "too few" in refusal(tmp_path / "flat", "--split", "0.8,0.1,0.1", "--chunk-size", "all")
    assert len(run(tmp_path / "flat", "--chunk-size", "5000")[0]["test"][0]) == 4
    assert len(run(tmp_path / "flat", "--chunk-size", "all")[0]["test"][0]) == 8


BAD_COLUMNS = {
    "no labels": (columns(labels=None), "has no labels; it has"),
    "no science": (columns(sci_images=None), "has no sci_images"),
    "nothing": ({}, "has no temp_images, sci_images"),
    "label 2": (columns(labels=np.arange(4)), "2 of 4 labels are not 0 or 1"),
    "integers": (columns(temp_images=np.zeros((4, 441), "i4")), "temp_images holds int32"),
    "shape": (columns(temp_images=np.zeros((4, 400))), r"the shape (4, 400); wanted is (N, 441)"),
    "short labels": (columns(labels=np.zeros(3, int)), "3 and 4 rows"),
    "long SNRs": (columns(SNRs=np.ones(5)), "4 and 5 rows"),
    "flat SNRs": (columns(SNRs=np.ones((4, 1))), "SNRs has the shape (4, 1)"),
    "a number": (columns(temp_images=1.5), "temp_images is not an array but float"),
    "mixed": (
        columns(temp_images=[np.zeros(441), *np.zeros((3, 441), "f4")]),
        "several types (float32, float64)",
    ),
    "none": (columns(0), "no good stamp"),
    "images": ({"images": np.zeros((4, 21, 21, 3)), "labels": np.zeros(4)}, "wanted is (N, 21, 21, 4)"),
}


@pytest.mark.parametrize("what", BAD_COLUMNS)
def test_arrays_that_do_not_fit(tmp_path, what):
    made, message = BAD_COLUMNS[what]
    assert message in refusal(put(tmp_path / "flat", made), "--split", "test")


def evil_array(shape=(4, 441), kind="f4", data=b"", **options):
    return p2.dict_({"temp_images": p2.raw_array(p2.Memo(), shape, kind, data, **options)})


def calling(module, name, *arguments):
    return p2.call(p2.global_(module, name), *arguments)


MANY_REFERENCES = p2.chunk(columns(labels=None))[2:-1]
HOSTILE = {
    "os.system": (calling("os", "system", p2.string("touch hacked")), "asks for os.system"),
    "posix": (calling("posix", "system", p2.string("touch hacked")), "asks for posix.system"),
    "eval": (calling("builtins", "eval", p2.string("1")), "asks for builtins.eval"),
    "python 2 eval": (calling("__builtin__", "eval", p2.string("1")), "asks for __builtin__.eval"),
    "numpy load": (calling("numpy", "load", p2.string("x")), "asks for numpy.load"),
    "numpy test": (calling("numpy.testing._private.utils", "runstring"), "asks for numpy.testing"),
    "encode": (calling("_codecs", "encode", p2.string("x")), "asks for _codecs.encode"),
    "dotted": (b"\x8c\x05numpy\x8c\x0dndarray.dumps\x93", "numpy.ndarray.dumps"),
    "line breaks": (b"\x8c\x03a\nb\x8c\x01c\x93", r"asks for 'a\nb.c'"),
    "long name": (p2.global_("os" * 500, "system"), "a name without an end"),
    "call of a class": (calling("numpy", "ndarray", p2.tuple_(p2.number(2**40))), "calls something"),
    "call of a text": (p2.call(p2.string("x")), "calls something"),
    "another class": (
        calling(p2.MULTIARRAY, "_reconstruct", p2.string("x"), p2.tuple_(), p2.string("b")),
        "another class",
    ),
    "huge shape": (evil_array((2**40, 441)), "array of the shape (1099511627776, 441)"),
    "huge product": (evil_array((200, 200, 200, 200)), "array of the shape (200, 200, 200, 200)"),
    "huge and zero": (evil_array((0, 2**62)), "array of the shape"),
    "negative": (evil_array((-4, 441)), "array of the shape (-4, 441)"),
    "too many axes": (evil_array((1,) * 64), "up to four"),
    "too few bytes": (evil_array((1, 3), data=bytes(11)), "with 11 bytes"),
    "too many bytes": (evil_array((1, 3), data=bytes(13)), "with 13 bytes"),
    "objects": (evil_array((1,), "O8", bytes(8), order="|"), "dtype O8, Python objects"),
    "strings": (evil_array((1,), "S8", bytes(8), order="|"), "dtype S8"),
    "records": (evil_array((1,), "V8", bytes(8), order="|"), "dtype V8"),
    "dates": (evil_array((1,), "M8", bytes(8)), "dtype M8"),
    "long doubles": (evil_array((1,), "f16", bytes(16)), "dtype f16"),
    "byte order": (evil_array((1,), "f4", bytes(4), order="="), "byte order ="),
    "scalar": (
        p2.call(p2.global_(p2.MULTIARRAY, "scalar"), p2.dtype(p2.Memo(), "f8"), p2.string("x")),
        "1 bytes",
    ),
    "object scalar": (
        p2.call(p2.global_(p2.MULTIARRAY, "scalar"), p2.dtype(p2.Memo(), "O8", "|"), p2.string("x")),
        "Python objects",
    ),
    "huge memo": (b"Nr\xff\xff\xff\xff}u", "without its mark"),
    "huge string": (b"T\xff\xff\xff\x7f", "breaks off"),
    "negative string": (b"T\xff\xff\xff\xff", "breaks off"),
    "huge bytes": (b"\x8e" + struct.pack("<Q", 2**63), "breaks off"),
    "huge number": (b"\x8a\xff" + bytes(255), "whole number of 255 bytes"),
    "no dict": (p2.list_([]), "holds no dict"),
    "empty stack": (b"", "without its operands"),
    "no mark": (b"]e", "without its mark"),
    "nothing to recall": (b"h\x07", "reference to nothing"),
    "key": (b"}]Ns", "a name that is not a text"),
    "persistent": (b"Pabc\n", "instruction b'P'"),
    "instance": (b"(ios\nsystem\n", "instruction b'i'"),
    "object": (b"(" + p2.global_("os", "system") + b"o", "asks for os.system"),
    "new object": (p2.global_("numpy", "ndarray") + b")\x81", r"instruction b'\x81'"),
    "extension": (b"\x82\x01", r"instruction b'\x82'"),
    "out of band": (b"\x97", r"instruction b'\x97'"),
    "state of a dict": (b"}}b", "sets the state"),
    "list as its own item": (b"}(U\x06labels](h\x00" + b"]q\x00h\x00aeu", "reference to nothing"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_pickles_get_one_line(tmp_path, monkeypatch, what):
    value, message = HOSTILE[what]
    (tmp_path / "flat").mkdir()
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "flat" / "chunk_0_5000.pkl"
    path.write_bytes(p2.pickled(value))
    text = refusal(path, "--split", "test")
    assert message in text and str(path) in text and not (tmp_path / "hacked").exists()


def test_a_list_of_many_names_is_read_once(tmp_path):
    """One list under 4,000 names: 80 kB that copied for each would be gigabytes and a minute."""
    items = p2.list_([b"N"] * 50_000) + b"r\x00\x01\x00\x00"
    again = {f"name {n}": b"j\x00\x01\x00\x00" for n in range(4000)}
    path = tmp_path / "chunk_0_5000.pkl"
    path.write_bytes(p2.pickled(p2.dict_({"first": items} | again)))
    begin = time.perf_counter()
    assert "temp_images" in refusal(path, "--split", "test")
    assert time.perf_counter() - begin < 10


def test_rows_larger_than_their_file_are_refused(tmp_path):
    """A list may name the same array again and again."""
    row = p2.raw_array(p2.Memo(), (441,), "f4", bytes(1764))
    many = p2.list_([row + b"r\x00\x01\x00\x00", *[b"j\x00\x01\x00\x00"] * 5000])
    made = columns(5001)
    names = {name: p2.array(p2.Memo(), made[name]) for name in ("labels", "SNRs")}
    path = tmp_path / "chunk_0_5000.pkl"
    path.write_bytes(p2.pickled(p2.dict_(dict.fromkeys(IMAGES, many) | names)))
    assert "larger than its file" in refusal(path, "--split", "test")


def test_a_file_cut_at_any_byte_is_refused(tmp_path):
    whole = p2.chunk(columns(1))
    path = tmp_path / "chunk_0_5000.pkl"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError) as error:
            read_dict(path)
        assert "\n" not in str(error.value)
    path.write_bytes(whole + b"x")
    assert "goes on after its end" in refusal(path, "--split", "test")


def test_no_existing_file_is_touched(tmp_path):
    path = put(tmp_path / "flat", columns())
    (tmp_path / "hits.h5").write_text("precious")
    with pytest.raises(UserError, match="exists already"):
        run(path.parent)
    assert (tmp_path / "hits.h5").read_text() == "precious"


@pytest.mark.parametrize(
    "options, message",
    [
        (["--split", "all"], "neither train"),
        (["--split", "0.8,0.1,0.2"], "neither train"),
        (["--split", "nan,0,1"], "neither train"),
        (["--chunk-size", "big"], "not a whole number"),
        (["--normalisation", "minmax"], "invalid choice"),
    ],
)
def test_bad_options_get_one_line(tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as error:
        import_hits.main([str(tmp_path), "--out", str(tmp_path / "out.h5"), *options])
    printed = capsys.readouterr().err
    assert error.value.code == 2 and printed.count("\n") == 1 and message in printed


# The whole program


def test_the_program_refuses_with_status_2(tmp_path):
    (tmp_path / "flat").mkdir()
    path = tmp_path / "flat" / "chunk_0_5000.pkl"
    path.write_bytes(p2.pickled(HOSTILE["os.system"][0]))
    done = programs.run("import_hits", path.parent, "--out", "out.h5", "--split", "test", cwd=tmp_path)
    programs.assert_refused(done, str(path), "os.system", "nothing in it was run")
    assert [found.name for found in tmp_path.iterdir()] == ["flat"]


def test_a_full_disk_names_the_store_and_leaves_nothing(tmp_path):
    source = put(tmp_path / "flat", columns(200)).parent
    call = " ".join(programs.command("import_hits", source, "--split", "test", "--out", tmp_path / "out.h5"))
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 500; exec {call}"],
        capture_output=True,
        text=True,
        env=programs.ENVIRONMENT,
    )
    programs.assert_refused(done, f"{tmp_path / 'out.h5'}: cannot be written")
    assert [found.name for found in tmp_path.iterdir()] == ["flat"]


def test_an_imported_store_trains(tmp_path):
    for split in SPLITS:
        made = columns(60)
        made["sci_images"][3] = 7  # constant: NaN in the faithful store
        put(tmp_path / "hits" / f"chunks_{split}", made)
    for normalisation in ("none", "faithful"):
        out = tmp_path / f"{normalisation}.h5"
        made = programs.run(
            "import_hits", tmp_path / "hits", "--out", out, "--normalisation", normalisation, cwd=tmp_path
        )
        assert made.returncode == 0, made.stderr
    options = ["--arch", "cap", "--iterations", "1", "--batch", "8", "--data", out]
    refused = programs.run("train", *options, "--out", tmp_path / "no", cwd=tmp_path)
    programs.assert_refused(refused, "--on-bad drop")
    for normalisation, more in (("none", []), ("faithful", ["--on-bad", "drop"])):
        options[-1] = tmp_path / f"{normalisation}.h5"
        folder = tmp_path / f"run-{normalisation}"
        done = programs.run("train", *options, "--out", folder, *more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        scored = programs.run("score", folder, options[-1], "--out", folder / "s.csv", *more, cwd=tmp_path)
        assert scored.returncode == 0, scored.stderr
        assert len((folder / "s.csv").read_text().splitlines()) == (60 if more else 61)


# Random folders

ROW = st.sampled_from(["good"] * 6 + ["nan pixel", "infinite pixel", "short", "nan SNR", "nan label"])
CHUNK = st.tuples(
    st.lists(ROW, max_size=6),
    st.sampled_from(["<f2", "<f4", ">f4", "<f8", ">f8"]),
    st.booleans(),
    st.integers(0, 120),
)


def chunk_of(rows, dtype, seed):
    """A chunk with good and bad rows; a column with a short row becomes a list."""
    made = columns(len(rows), dtype, seed, labels=(np.arange(len(rows)) + seed) % 2 + 0.0)
    good = [n for n, row in enumerate(rows) if row == "good"]
    wanted = stamps_of(made)[good], made["labels"][good], made["SNRs"][good].astype("f4")
    for n, row in enumerate(rows):
        if row == "nan SNR":
            made["SNRs"][n] = np.nan
        elif row == "nan label":
            made["labels"][n] = np.nan
        elif row != "good":
            made[IMAGES[n % 4]][n, 17 * n] = np.inf if row == "infinite pixel" else np.nan
    for c, name in enumerate(IMAGES):
        if any(row == "short" and n % 4 == c for n, row in enumerate(rows)):
            made[name] = [v[:9] if rows[n] == "short" else v for n, v in enumerate(made[name])]
    return made, wanted


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.integers(0, 120), CHUNK, min_size=1, max_size=4), st.sampled_from(SPLITS))
def test_every_good_row_arrives_once_in_order(chunks, split):
    with tempfile.TemporaryDirectory() as name:
        folder, wanted, bad = Path(name) / "flat", {}, 0
        for number, (rows, dtype, fortran, seed) in chunks.items():
            made, good = chunk_of(rows, dtype, seed)
            file = put(folder, made, f"chunk_{number}_5000.pkl", fortran=fortran)
            put(folder, made, f"180_chunk_{number}_5000.pkl")
            wanted[file.name] = good
            bad += len(rows) - len(good[0])
        ordered = [np.concatenate(part) for part in zip(*(wanted[k] for k in sorted(wanted)), strict=True)]
        if not len(ordered[0]):
            assert "no good stamp" in refusal(folder, "--split", split)
            return
        found, attributes = run(folder, split=split)
        assert list(found) == [split]
        for ours, theirs in zip(found[split], ordered, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        rows = ("wrong_length", "pixels_not_finite", "snr_not_finite", "label_not_finite")
        assert sum(attributes[f"skipped_{reason}"] for reason in rows) == bad
        assert attributes["skipped_rotated_copies"] == len(chunks)
