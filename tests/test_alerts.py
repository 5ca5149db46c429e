"""Alerts as stamps: real ones through every format, and each policy for what packets lack."""

import h5py
import numpy as np
import pytest
from alert_packets import (
    RUBIN,
    SIZE,
    WRITE,
    ZTF,
    image_bytes,
    one_stamp,
    rubin,
    sky,
    write_avro,
    ztf,
)
from programs import call

from rotinv.alerts.files import Alerts
from rotinv.alerts.packets import read_packet, reading_of_rows
from rotinv.alerts.stamp import BIT, Packet, stamp_of


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


def test_a_ztf_alert(tmp_path):
    cutouts = sky()
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
    template, science, difference = sky()
    path = write_avro(tmp_path / "a.avro", ZTF, [ztf("Z", 1, (science, template, difference), word)])
    _, stamp, flags = one_stamp(path)
    whole = np.moveaxis(np.stack([template, science, difference]), 0, 2)[21:42, 21:42]
    np.testing.assert_array_equal(stamp[..., :3], whole)
    assert flags & BIT["negative"]


def test_a_fading_rubin_source_is_turned_as_well(tmp_path):
    """Rubin's difference is science - template always: it changes its sign too."""
    template, science, difference = sky(30)
    variance = np.full((30, 30), 4.0)
    record = rubin(5, (science, template, -difference), variance, isNegative=True)
    _, stamp, flags = one_stamp(write_avro(tmp_path / "a.avro", RUBIN, [record]))
    whole = np.moveaxis(np.stack([template, science, difference, difference / 2]), 0, 2)[5:26, 5:26]
    np.testing.assert_array_equal(stamp, whole)
    assert flags == BIT["negative"]


def test_few_pixels_without_a_value_get_the_median():
    cutouts = sky(SIZE)
    cutouts[:, :, :3] = np.nan
    stamp, flags = stamp_of(Packet("", "", "", 0, *cutouts), SIZE)
    assert flags == BIT["filled"] | BIT["robust_noise"]
    for c in range(3):
        np.testing.assert_array_equal(stamp[:, :3, c], np.median(cutouts[c][:, 3:]))
        np.testing.assert_array_equal(stamp[:, 3:, c], cutouts[c][:, 3:])


@pytest.mark.parametrize("where", [(slice(None), slice(0, 6)), (10, 12), (8, 8)])
def test_many_or_central_pixels_without_a_value_leave_none(where):
    cutouts = sky(SIZE)
    cutouts[1][where] = np.inf
    stamp, flags = stamp_of(Packet("", "", "", 0, *cutouts), SIZE)
    assert flags == BIT["gaps"] | BIT["robust_noise"]
    assert np.isnan(stamp[..., 1]).all()
    assert np.isfinite(stamp[..., [0, 2, 3]]).all()


def test_a_variance_that_is_no_variance_has_no_snr():
    cutouts, variance = sky(SIZE), np.ones((SIZE, SIZE))
    variance[0, :4] = 0, -1, np.inf, np.nan  # Rubin's is infinite off the image
    stamp, flags = stamp_of(Packet("", "", "", 0, *cutouts, variance), SIZE)
    assert flags == BIT["filled"]
    known = cutouts[2].ravel()[4:]
    np.testing.assert_array_equal(stamp[0, :4, 3], np.median(known))


@pytest.mark.parametrize("part", [(slice(0, 50), slice(0, 63)), (slice(13, 63), slice(20, 63))])
def test_a_cutout_that_an_edge_cuts_keeps_its_source_in_the_middle(tmp_path, part):
    """The source is still at its own pixel: the cut sides are those where the position is near the edge."""
    cutouts = sky()
    x = 12.4 if part[1].start else 1500.0
    y = 3062.3 if part[0].start == 0 else 19.2
    record = ztf("Z", 1, [one[part] for one in cutouts], position=(x, y))
    _, stamp, flags = one_stamp(write_avro(tmp_path / "a.avro", ZTF, [record]))
    np.testing.assert_array_equal(stamp[..., :3], np.moveaxis(cutouts[:, 21:42, 21:42], 0, 2))
    assert flags == BIT["robust_noise"]


def test_a_cutout_that_ends_within_the_stamp_is_filled_and_told(tmp_path):
    cutouts = sky()
    record = ztf("Z", 1, [one[:, 24:] for one in cutouts], position=(8.0, 1500.0))
    _, stamp, flags = one_stamp(write_avro(tmp_path / "a.avro", ZTF, [record]))
    assert flags == BIT["edge"] | BIT["filled"] | BIT["robust_noise"]
    np.testing.assert_array_equal(stamp[:, 3:, 2], cutouts[2][21:42, 24:42])


def test_a_cutout_of_odd_size_without_a_position_is_not_guessed():
    cutouts = [one[:40, :] for one in sky()]
    stamp, flags = stamp_of(Packet("", "", "", 0, *cutouts), SIZE)
    assert flags & BIT["off_centre"]
    assert np.isnan(stamp).all()


@pytest.mark.parametrize(
    ("side", "position"),
    [
        (41, (1500.0, 1500.0)),
        (41, (1600.0, 1600.0)),
        (51, (8.0, 8.0)),  # nearer the edge than what is lacking
        (41, (float("nan"), 1500.0)),
        (41, (None, None)),
        (65, (1500.0, 1500.0)),
    ],
)
def test_a_cutout_of_another_size_than_the_surveys_is_not_centred_by_guess(tmp_path, side, position):
    """No edge is where it would have to be: the cut-out was cropped by somebody, or is another survey's."""
    record = ztf("Z", 1, sky(side), position=position)
    _, stamp, flags = one_stamp(write_avro(tmp_path / "a.avro", ZTF, [record]))
    assert flags == BIT["off_centre"] | BIT["robust_noise"]
    assert np.isnan(stamp).all()


def test_a_missing_cutout_leaves_its_channel_without_values(tmp_path):
    _, science, difference = sky(30)
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
    good = [ztf(f"Z{i}", i, sky()) for i in range(3)]
    good[1]["cutoutScience"]["stampData"] = damaged(kind)
    path = write_avro(tmp_path / "a.avro", ZTF, good)
    files = Alerts([path])
    packets = list(files.packets(0, 3))
    assert [packet.candidate_id for packet in packets] == ["0", "1", "2"]
    assert [packet.flags for packet in packets] == [0, BIT["unreadable"], 0]
    assert len(files.problems) == 1
    assert "alert 1 (1): its science cut-out" in files.problems[0]


@pytest.mark.parametrize("value", [float("nan"), None, ""])
def test_a_sign_that_is_null_is_told(value):
    record = dict(zip(("template", "science", "difference"), sky(), strict=True)) | {"isdiffpos": value}
    packet = read_packet(reading_of_rows(dict.fromkeys(record, ()), ()), record, "row 0", [])
    assert packet.flags == BIT["sign_unknown"] and not packet.negative


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
    record = dict(zip(("template", "science", "difference"), sky(), strict=True)) | {column: value}
    problems = []
    packet = read_packet(reading_of_rows(dict.fromkeys(record, ()), ()), record, "row 0", problems)
    assert packet.negative == negative
    assert packet.flipped == (column == "isdiffpos" and value == value and value is not None)
    assert not problems


def test_a_sign_that_says_neither_is_told():
    record = dict(zip(("template", "science", "difference"), sky(), strict=True)) | {"isdiffpos": "maybe"}
    problems = []
    packet = read_packet(reading_of_rows(dict.fromkeys(record, ()), ()), record, "row 0", problems)
    assert packet.flags == BIT["unreadable"]
    assert packet.difference is None
    assert "isdiffpos is 'maybe'" in problems[0]
