"""Files of alerts: ranges, folders, damaged files, and files that are not alerts."""

import errno
import gzip
import io
import os
import shutil
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from alert_packets import (
    RUBIN,
    SIZE,
    WRITE,
    ZTF,
    fastavro,
    fits,
    rubin,
    sky,
    write_avro,
    write_fits_images,
    write_parquet,
    ztf,
)
from programs import assert_refused, call

from rotinv.alerts import cutouts as cutout_reader
from rotinv.alerts.files import Alerts, find_files
from rotinv.alerts.stamp import stamp_of
from rotinv.system.errors import MissingLibrary, UserError


def test_any_range_of_many_files_is_the_same_alerts(tmp_path):
    """Blocks of one alert and of many, files in a folder in the order of their names."""
    write_avro(tmp_path / "a.avro", ZTF, [ztf(f"A{i}", i, sky(63, i)) for i in range(7)], sync_interval=1)
    write_avro(tmp_path / "b.avro", RUBIN, [rubin(100 + i, sky(30, i)) for i in range(5)], "deflate", 30000)
    write_fits_images(tmp_path / "c.fits", sky(30))
    files = Alerts(find_files([tmp_path]))
    ids = [packet.candidate_id for packet in files.packets(0, 13)]
    assert ids == [*map(str, range(7)), *map(str, range(100, 105)), "101"]
    for start in range(13):
        for stop in (start, start + 1, start + 4, 13):
            assert [p.candidate_id for p in files.packets(start, stop)] == ids[start:stop]
    assert not files.problems


OTHER = {"type": "record", "name": "x", "fields": [{"name": "ra", "type": "float"}]}


def mutated(rng, data):
    """Bytes cut off, flipped, or set to 0."""
    data = bytearray(data)
    kind, at = rng.integers(3), int(rng.integers(len(data)))
    if kind == 0:
        return data[:at]
    if kind == 1:
        for place in rng.integers(len(data), size=rng.integers(1, 20)):
            data[place] ^= 1 << rng.integers(8)
    else:
        data[at : at + 40] = bytes(len(data[at : at + 40]))
    return data


@pytest.mark.parametrize("kind", ["avro", "deflate avro", "fits images", "fits table", "parquet"])
def test_damaged_files_are_read_told_or_refused(tmp_path, rng, kind):
    """Every alert that a file claims to have is given, readable or not; nothing else is raised."""
    cutouts = np.stack([sky(SIZE, i) for i in range(3)])
    made = tmp_path / "whole"
    WRITE[kind](made, (cutouts, np.ones((3, SIZE, SIZE)), np.arange(3), np.ones(3)))
    path, counts = tmp_path / "damaged", [0, 0]
    for _ in range(100):
        path.write_bytes(mutated(rng, made.read_bytes()))
        try:
            files = Alerts([path])
            packets = list(files.packets(0, len(files)))
        except UserError as error:
            assert str(path) in str(error)
            counts[0] += 1
            continue
        assert len(packets) == len(files)
        counts[1] += 1
        for packet in packets:
            stamp_of(packet, SIZE)
    assert min(counts) > 0


def tar_of(data):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo("a.avro")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def avro_record():
    """A packet without its schema, as brokers' streams carry it."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(RUBIN), rubin(5, sky(30)))
    return out.getvalue()


WRONG = {
    "missing": (lambda path: None, "no such file"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "text": (lambda path: path.write_text("ra,dec\n1,2\n"), "begins as neither"),
    "png": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99)), "begins as neither"),
    "header": (lambda path: path.write_bytes(b"Obj\x01\x04\x16avro.sch"), "header"),
    "parquet": (lambda path: path.write_bytes(b"PAR1" + bytes(40)), "Parquet"),
    "fits": (lambda path: path.write_bytes(b"SIMPLE  =                    T" + bytes(40)), "FITS"),
    "gzip": (lambda path: path.write_bytes(gzip.compress(b"hello")), "gunzip"),
    "cut gzip": (lambda path: path.write_bytes(b"\x1f\x8b\x08" + bytes(9)), "FITS"),
    "tar": (lambda path: path.write_bytes(tar_of(b"Obj")), "tar -xf"),
    "tar.gz": (lambda path: path.write_bytes(gzip.compress(tar_of(b"Obj"))), "tar -xzf"),
    "schema registry": (lambda path: path.write_bytes(b"\x00\x00\x00\x02\xbf" + avro_record()), "schema 703"),
    "single object": (lambda path: path.write_bytes(b"\xc3\x01" + bytes(8) + avro_record()), "one Avro"),
    "other avro": (
        lambda path: write_avro(path, OTHER, [{"ra": 1.0}]),
        "records of ra",
    ),
    "no cutouts": (lambda path: fits.PrimaryHDU(np.ones((5, 5))).writeto(path), "no cut-outs"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files_are_refused_in_one_line(tmp_path, case):
    make, word = WRONG[case]
    path = tmp_path / "alerts.avro"
    make(path)
    before = set(tmp_path.iterdir())
    assert_refused(call("import_alerts", path, "--out", tmp_path / "out.h5"), "alerts.avro", word)
    assert set(tmp_path.iterdir()) == before


def test_a_damaged_file_among_others_is_told_not_fatal(tmp_path):
    write_avro(tmp_path / "a.avro", ZTF, [ztf("Z", 1, sky())])
    (tmp_path / "b.avro").write_bytes((tmp_path / "a.avro").read_bytes()[:60])
    (tmp_path / "c.avro").touch()
    result = call("import_alerts", tmp_path, "--out", tmp_path / "out.h5")
    assert result.returncode == 0
    assert "b.avro: its Avro header is cut off" in result.stderr
    assert "c.avro: is empty" in result.stderr
    with h5py.File(tmp_path / "out.h5") as file:
        assert file.attrs["unreadable_files"] == 2
        assert len(file["test/stamps"]) == 1


def test_an_existing_store_is_kept(tmp_path):
    write_avro(tmp_path / "a.avro", ZTF, [ztf("Z", 1, sky())])
    (tmp_path / "out.h5").write_text("mine")
    assert_refused(call("import_alerts", tmp_path / "a.avro", "--out", tmp_path / "out.h5"), "exists already")
    assert (tmp_path / "out.h5").read_text() == "mine"


def test_an_empty_folder_is_told(tmp_path):
    assert_refused(call("import_alerts", tmp_path, "--out", tmp_path / "o.h5"), "nor files of alerts")


def test_a_folder_of_alerts_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    for name in "ab":
        (tmp_path / "in" / f"{name}.avro").write_bytes(b"Obj\x01\x04")
    with pytest.raises(UserError, match="no alert is there"):
        Alerts(find_files([tmp_path / "in"]))
    shutil.rmtree(tmp_path / "in")


def test_a_file_named_twice_is_refused(tmp_path):
    path = write_avro(tmp_path / "a.avro", ZTF, [ztf("Z", 1, sky())])
    (tmp_path / "link.avro").symlink_to(path)
    for paths in ([tmp_path / "a.avro", path], [tmp_path], [tmp_path / "link.avro", path]):
        with pytest.raises(UserError, match="twice"):
            find_files(paths)


def test_a_folder_that_may_not_be_read_is_told(tmp_path, monkeypatch):
    """The alerts in it would be missing without a word."""
    (tmp_path / "sub").mkdir()
    write_avro(tmp_path / "a.avro", ZTF, [ztf("A", 1, sky(63))])
    listed = Path.iterdir

    def refused(path):
        if path.name == "sub":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", refused)
    with pytest.raises(UserError, match=r"sub: cannot be read \(Permission denied\)"):
        find_files([tmp_path])
    (tmp_path / "sub").rename(tmp_path / ".sub")
    assert find_files([tmp_path]) == [tmp_path / "a.avro"]


def test_a_link_to_a_folder_is_passed_over(tmp_path):
    """Often it is called latest, and leads to a folder that is there already."""
    (tmp_path / "night").mkdir()
    write_avro(tmp_path / "night" / "a.avro", ZTF, [ztf("A", 1, sky(63))])
    (tmp_path / "latest").symlink_to("night")
    assert find_files([tmp_path]) == [tmp_path / "night" / "a.avro"]
    assert find_files([tmp_path / "latest"]) == [tmp_path / "latest" / "a.avro"]


@pytest.mark.parametrize("kind", ["avro", "parquet"])
def test_a_library_that_is_not_here_is_no_fault_of_the_alerts(tmp_path, monkeypatch, kind):
    def missing(*_):
        raise MissingLibrary("a FITS cut-out: needs astropy")

    cutouts = np.stack([sky(63, i) for i in range(3)])
    if kind == "avro":
        write_avro(tmp_path / "a.avro", ZTF, [ztf("A", i, cutouts[i]) for i in range(3)])
    else:
        write_parquet(tmp_path / "a.parquet", cutouts, np.ones((3, 63, 63)), np.arange(3))
    files = Alerts(find_files([tmp_path]))
    monkeypatch.setattr(cutout_reader, "_images", missing)
    with pytest.raises(MissingLibrary, match="astropy"):
        list(files.packets(0, 3))
