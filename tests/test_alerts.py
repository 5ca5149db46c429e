"""Alert files: real alerts through every format, and each policy for what packets lack."""

import gzip
import io
import shutil
import tarfile

import h5py
import numpy as np
import pytest
from alert_packets import (
    RUBIN,
    ZTF,
    fastavro,
    fits,
    image_bytes,
    rubin,
    write_avro,
    write_fits_images,
    write_fits_table,
    write_parquet,
    ztf,
)
from programs import assert_refused, call

from rotinv.alerts import fits_images
from rotinv.alerts.files import Alerts, find_files
from rotinv.alerts.packets import read_packet, reader_for
from rotinv.alerts.parquet import ParquetFile
from rotinv.alerts.stamp import BIT, Packet, stamp_of
from rotinv.system.errors import UserError

SIZE = 21


@pytest.fixture(scope="module")
def real(real_data):
    """The 47 real Rubin alerts: cut-outs (47, 3, 30, 30), variances, ids, SNR."""
    with h5py.File(real_data / "rubin_alerts.h5") as file:
        names = ("template_science_difference", "difference_variance", "dia_source_id", "snr")
        return tuple(file[name][()] for name in names)


@pytest.fixture(scope="module")
def authors(real_data, tmp_path_factory):
    """The authors' CAP, as a run, and its probabilities of the 47 alerts."""
    folder = tmp_path_factory.mktemp("runs") / "authors"
    source = real_data / "authors_cap_3channel.h5"
    channels = "template,science,difference"
    assert call("import_weights", source, "--out", folder, "--channels", channels).returncode == 0
    with h5py.File(source) as file:
        return folder, file["check/rubin_p_candidate"][()]


def rubin_records(real):
    cutouts, variance, ids, snr = real
    return [rubin(int(i), c, v, snr=float(s)) for c, v, i, s in zip(cutouts, variance, ids, snr, strict=True)]


WRITE = {
    "avro": lambda path, real: write_avro(path, RUBIN, rubin_records(real)),
    "snappy avro": lambda path, real: write_avro(path, RUBIN, rubin_records(real), "snappy"),
    "deflate avro": lambda path, real: write_avro(path, RUBIN, rubin_records(real), "deflate", 1),
    "fits table": lambda path, real: write_fits_table(path, *real[:3]),
    "fits images": lambda path, real: write_fits_images(
        path, None, alerts=list(zip(real[0], real[1], strict=True))
    ),
    "parquet": lambda path, real: write_parquet(path, *real[:3]),
    "nested parquet": lambda path, real: write_parquet(path, *real[:3], nested=True),
}


@pytest.mark.parametrize("kind", WRITE)
def test_real_alerts_score_as_the_store(real, authors, tmp_path, kind):
    """Directly, and through import_alerts: the same bits, and the authors' own probabilities."""
    run, expected = authors
    path = tmp_path / f"alerts.{kind.split()[-1]}"
    WRITE[kind](path, real)
    assert call("import_alerts", path, "--out", tmp_path / "alerts.h5").returncode == 0
    for source, out in ((path, "files.h5"), (tmp_path / "alerts.h5", "store.h5")):
        result = call("score", run, source, "--out", tmp_path / out)
        assert result.returncode == 0, result.stderr
    with h5py.File(tmp_path / "files.h5") as one, h5py.File(tmp_path / "store.h5") as other:
        assert set(one) == set(other)
        for name in one:
            np.testing.assert_array_equal(one[name][()], other[name][()], err_msg=name)
        np.testing.assert_allclose(one["probability"], expected, atol=1e-5)
        if "images" not in kind:
            assert list(one["candidate_id"].asstr()[()]) == [str(i) for i in real[2]]
    cutouts, variance = real[:2]
    with h5py.File(tmp_path / "alerts.h5") as file:
        stamps = file["test/stamps"][()]
        inner = np.moveaxis(cutouts[:, :, 5:26, 5:26], 1, 3)
        np.testing.assert_array_equal(stamps[..., :3], inner)
        snr = cutouts[:, 2, 5:26, 5:26] / np.sqrt(variance[:, 5:26, 5:26].astype(np.float64))
        np.testing.assert_array_equal(stamps[..., 3], snr.astype(np.float32))
        assert "label" not in file["test"]


def field(side=63, seed=0):
    """Template, science, difference (3, side, side), with a source in the middle pixel of the last two."""
    rng = np.random.default_rng(seed)
    template = rng.normal(100, 3, (side, side))
    difference = rng.normal(0, 3, (side, side))
    difference[side // 2, side // 2] += 90
    return np.float32([template, template + difference, difference])


def one_stamp(path, number=0):
    files = Alerts([path])
    packet = next(files.packets(number, number + 1))
    stamp, flags = stamp_of(packet, SIZE)
    return packet, stamp, flags


def test_a_ztf_alert(tmp_path):
    cutouts = field()
    packet, stamp, flags = one_stamp(write_avro(tmp_path / "a.avro", ZTF, [ztf("ZTF18abc", 123, cutouts)]))
    assert (packet.survey, packet.object_id, packet.candidate_id, packet.snr) == (
        "ztf",
        "ZTF18abc",
        "123",
        12.5,
    )
    np.testing.assert_array_equal(stamp[..., :3], np.moveaxis(cutouts[:, 21:42, 21:42], 0, 2))
    d = np.float64(cutouts[2])
    sigma = 1.4826 * np.median(np.abs(d - np.median(d)))
    np.testing.assert_allclose(stamp[..., 3], d[21:42, 21:42] / sigma, rtol=1e-6)
    assert flags == BIT["robust_noise"]


@pytest.mark.parametrize("word", ["f", "0", "F"])
def test_a_fading_ztf_source_is_one_that_appears_in_reversed_time(tmp_path, word):
    """ZTF's difference is then template - science already: template and science change places."""
    template, science, difference = field()
    path = write_avro(tmp_path / "a.avro", ZTF, [ztf("Z", 1, (science, template, difference), word)])
    _, stamp, flags = one_stamp(path)
    whole = np.moveaxis(np.stack([template, science, difference]), 0, 2)[21:42, 21:42]
    np.testing.assert_array_equal(stamp[..., :3], whole)
    assert flags & BIT["negative"]


def test_a_fading_rubin_source_is_turned_as_well(tmp_path):
    """Rubin's difference is science - template always: it changes its sign too."""
    template, science, difference = field(30)
    variance = np.full((30, 30), 4.0)
    record = rubin(5, (science, template, -difference), variance, isNegative=True)
    _, stamp, flags = one_stamp(write_avro(tmp_path / "a.avro", RUBIN, [record]))
    whole = np.moveaxis(np.stack([template, science, difference, difference / 2]), 0, 2)[5:26, 5:26]
    np.testing.assert_array_equal(stamp, whole)
    assert flags == BIT["negative"]


def test_few_pixels_without_a_value_get_the_median():
    cutouts = field(SIZE)
    cutouts[:, :, :3] = np.nan
    stamp, flags = stamp_of(Packet("", "", "", 0, *cutouts), SIZE)
    assert flags == BIT["filled"] | BIT["robust_noise"]
    for c in range(3):
        np.testing.assert_array_equal(stamp[:, :3, c], np.median(cutouts[c][:, 3:]))
        np.testing.assert_array_equal(stamp[:, 3:, c], cutouts[c][:, 3:])


@pytest.mark.parametrize("where", [(slice(None), slice(0, 6)), (10, 12), (8, 8)])
def test_many_or_central_pixels_without_a_value_leave_none(where):
    cutouts = field(SIZE)
    cutouts[1][where] = np.inf
    stamp, flags = stamp_of(Packet("", "", "", 0, *cutouts), SIZE)
    assert flags == BIT["gaps"] | BIT["robust_noise"]
    assert np.isnan(stamp[..., 1]).all()
    assert np.isfinite(stamp[..., [0, 2, 3]]).all()


def test_a_variance_that_is_no_variance_has_no_snr():
    cutouts, variance = field(SIZE), np.ones((SIZE, SIZE))
    variance[0, :2] = 0, -1
    stamp, flags = stamp_of(Packet("", "", "", 0, *cutouts, variance), SIZE)
    assert flags == BIT["filled"]
    known = cutouts[2].ravel()[2:]
    np.testing.assert_array_equal(stamp[0, :2, 3], np.median(known))


@pytest.mark.parametrize("part", [(slice(0, 50), slice(0, 63)), (slice(13, 63), slice(20, 63))])
def test_a_cutout_that_an_edge_cuts_keeps_its_source_in_the_middle(tmp_path, part):
    """The source is still at its own pixel: the cut sides are those where the position is near the edge."""
    cutouts = field()
    x = 5.0 if part[1].start else 1500.0
    y = 3075.0 if part[0].start == 0 else 5.0
    record = ztf("Z", 1, [one[part] for one in cutouts], position=(x, y))
    _, stamp, flags = one_stamp(write_avro(tmp_path / "a.avro", ZTF, [record]))
    np.testing.assert_array_equal(stamp[..., :3], np.moveaxis(cutouts[:, 21:42, 21:42], 0, 2))
    assert flags == BIT["robust_noise"]


def test_a_cutout_that_ends_within_the_stamp_is_filled_and_told(tmp_path):
    cutouts = field()
    record = ztf("Z", 1, [one[:, 24:] for one in cutouts], position=(8.0, 1500.0))
    _, stamp, flags = one_stamp(write_avro(tmp_path / "a.avro", ZTF, [record]))
    assert flags == BIT["edge"] | BIT["filled"] | BIT["robust_noise"]
    np.testing.assert_array_equal(stamp[:, 3:, 2], cutouts[2][21:42, 24:42])


def test_a_cutout_of_odd_size_without_a_position_is_not_guessed():
    cutouts = [one[:40, :] for one in field()]
    stamp, flags = stamp_of(Packet("", "", "", 0, *cutouts), SIZE)
    assert flags & BIT["off_centre"]
    assert np.isnan(stamp).all()


def test_a_missing_cutout_leaves_its_channel_without_values(tmp_path):
    _, science, difference = field(30)
    path = write_avro(tmp_path / "a.avro", RUBIN, [rubin(1, (None, science, difference), np.ones((30, 30)))])
    _, stamp, flags = one_stamp(path)
    assert flags == BIT["missing_cutout"]
    assert np.isnan(stamp[..., 0]).all()
    assert np.isfinite(stamp[..., 1:]).all()


def damaged(kind):
    packed = image_bytes(np.ones((30, 30)), zipped=True)
    plain = image_bytes(np.ones((30, 30)))
    return {
        "cut gzip": packed[:-20],
        "flipped gzip": packed[:40] + bytes([packed[40] ^ 255]) + packed[41:],
        "cut fits": plain[:3000],
        "png": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "no end": plain[:240],
        "huge": plain.replace(b"                  30", b"          3000000000"),
    }[kind]


@pytest.mark.parametrize("kind", ["cut gzip", "flipped gzip", "cut fits", "png", "no end", "huge"])
def test_a_packet_that_is_refused_is_told_and_the_others_go_on(tmp_path, kind):
    good = [ztf(f"Z{i}", i, field()) for i in range(3)]
    good[1]["cutoutScience"]["stampData"] = damaged(kind)
    path = write_avro(tmp_path / "a.avro", ZTF, good)
    files = Alerts([path])
    packets = list(files.packets(0, 3))
    assert [packet.candidate_id for packet in packets] == ["0", "1", "2"]
    assert [packet.flags for packet in packets] == [0, BIT["unreadable"], 0]
    assert len(files.problems) == 1
    assert "alert 1 (1): its science cut-out" in files.problems[0]


def test_images_of_any_fits_type_are_read():
    pixels = np.arange(12).reshape(3, 4)
    for dtype in ("u1", "i2", "i4", "i8", "f4", "f8"):
        out = io.BytesIO()
        fits.PrimaryHDU(pixels.astype(dtype)).writeto(out)
        found = fits_images.read_images(out.getvalue())
        np.testing.assert_array_equal(found[0].pixels, pixels)
    scaled = fits.ImageHDU(np.int16(pixels))
    scaled.scale("int16", bscale=0.5, bzero=10)
    scaled.header["BLANK"] = int(np.int16((3 - 10) / 0.5))
    out = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), scaled]).writeto(out)
    found = fits_images.read_images(gzip.compress(out.getvalue()))
    assert len(found) == 1
    np.testing.assert_array_equal(found[0].pixels.ravel()[[0, 5, 11]], [0, 5, 11])
    assert np.isnan(found[0].pixels.ravel()[3])


def test_any_range_of_many_files_is_the_same_alerts(tmp_path):
    """Blocks of one alert and of many, files in a folder in the order of their names."""
    write_avro(tmp_path / "a.avro", ZTF, [ztf(f"A{i}", i, field(63, i)) for i in range(7)], sync_interval=1)
    write_avro(tmp_path / "b.avro", RUBIN, [rubin(100 + i, field(30, i)) for i in range(5)], "deflate", 30000)
    write_fits_images(tmp_path / "c.fits", field(30))
    files = Alerts(find_files([tmp_path]))
    ids = [packet.candidate_id for packet in files.packets(0, 13)]
    assert ids == [*map(str, range(7)), *map(str, range(100, 105)), "101"]
    for start in range(13):
        for stop in (start, start + 1, start + 4, 13):
            assert [p.candidate_id for p in files.packets(start, stop)] == ids[start:stop]
    assert not files.problems


def test_a_truncated_container_gives_its_whole_blocks(tmp_path):
    whole = write_avro(
        tmp_path / "a.avro", ZTF, [ztf(f"Z{i}", i, field()) for i in range(6)], sync_interval=1
    )
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) * 2 // 3])
    files = Alerts([whole])
    assert [p.candidate_id for p in files.packets(0, 9)] == ["0", "1", "2"]
    assert "cut off or damaged after its first 3 alerts" in files.problems[0]


def test_a_compression_without_its_library_is_told(tmp_path, monkeypatch):
    path = write_avro(tmp_path / "a.avro", ZTF, [ztf("Z", 1, field())])
    files = Alerts([path])

    def lacking(*arguments, **options):
        raise ValueError("zstandard codec is supported but you need to install one of …")
        yield

    monkeypatch.setattr(files.files[0], "_records", lacking)
    with pytest.raises(UserError, match=r"a\.avro.*zstandard.*rotinv\[alerts\]"):
        list(files.packets(0, 1))


def test_a_damaged_block_costs_its_own_alerts_only(tmp_path):
    path = write_avro(tmp_path / "a.avro", ZTF, [ztf(f"Z{i}", i, field()) for i in range(6)], "deflate", 1)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 30] = bytes(30)
    path.write_bytes(data)
    files = Alerts([path])
    packets = list(files.packets(0, 6))
    assert len(packets) == 6
    assert sum(packet.flags == BIT["unreadable"] for packet in packets) == 1
    assert len(files.problems) == 1


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
    cutouts = np.stack([field(SIZE, i) for i in range(3)])
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
    fastavro.schemaless_writer(out, fastavro.parse_schema(RUBIN), rubin(5, field(30)))
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
    write_avro(tmp_path / "a.avro", ZTF, [ztf("Z", 1, field())])
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
    write_avro(tmp_path / "a.avro", ZTF, [ztf("Z", 1, field())])
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
    path = write_avro(tmp_path / "a.avro", ZTF, [ztf("Z", 1, field())])
    (tmp_path / "link.avro").symlink_to(path)
    for paths in ([tmp_path / "a.avro", path], [tmp_path], [tmp_path / "link.avro", path]):
        with pytest.raises(UserError, match="twice"):
            find_files(paths)


@pytest.mark.parametrize(
    ("column", "value", "negative"),
    [
        *(("isdiffpos", value, True) for value in (0.0, -1, -1.0, False, "f", "False", "0", b"f", "-1")),
        *(("isdiffpos", value, False) for value in (1.0, 1, True, "t", "True", "1", float("nan"), None)),
        *(("isnegative", value, True) for value in (1, 1.0, True, "True", "t", np.True_)),
        *(("isnegative", value, False) for value in (0, False, "False", "f", float("nan"), None, "")),
    ],
)
def test_signs_as_tables_write_them(column, value, negative):
    record = dict(zip(("template", "science", "difference"), field(), strict=True)) | {column: value}
    problems = []
    packet = read_packet(reader_for(record), record, "row 0", problems)
    assert packet.negative == negative
    assert packet.flipped == (column == "isdiffpos" and value == value and value is not None)
    assert not problems


def test_a_sign_that_says_neither_is_told():
    record = dict(zip(("template", "science", "difference"), field(), strict=True)) | {"isdiffpos": "maybe"}
    problems = []
    assert read_packet(reader_for(record), record, "row 0", problems).flags == BIT["unreadable"]
    assert "isdiffpos is 'maybe'" in problems[0]


def test_ragged_rows_of_a_parquet_file_cost_their_own_alert_only(tmp_path):
    """Rows of 20 and of 22 pixels have the sum of two of 21, and must not be read as those."""
    import pyarrow as pa
    from pyarrow import parquet

    good = np.ones((21, 21)).tolist()
    uneven, short, null = [[*map(list, good)] for _ in range(3)]
    uneven[1].append(uneven[0].pop())
    short[2].pop()
    null[0] = None
    kind = pa.list_(pa.list_(pa.float32()))
    columns = {"template": [good, uneven, good, short, null, good]}
    columns |= {name: [good] * 6 for name in ("science", "difference")}
    table = {name: pa.array(cells, kind) for name, cells in columns.items()} | {"candid": list(range(6))}
    parquet.write_table(pa.table(table), tmp_path / "a.parquet")
    file = ParquetFile(tmp_path / "a.parquet")
    found = list(file.packets(0, 6))
    assert [bool(packet.flags & BIT["unreadable"]) for packet in found] == [
        False,
        True,
        False,
        True,
        True,
        False,
    ]
    assert len(file.problems) == 3
    assert "row 1 (1): its template cut-out: its rows are not of one length" in file.problems[0]
    assert [packet.candidate_id for packet in found] == list("012345")
    assert found[1].science is not None
