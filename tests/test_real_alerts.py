"""Real alerts of every survey, each held against an independent reading by fastavro, pyarrow and astropy."""

import dataclasses
import gzip
import io
import json
import re
import struct
from collections import Counter

import numpy as np
import pytest
from alert_packets import fastavro, fits

from rotinv.alerts.files import Alerts, find_files
from rotinv.alerts.stamp import BIT, stamp_of

parquet = pytest.importorskip("pyarrow.parquet")
KINDS = {  # the folder: its survey, how many alerts it has, and in what their values are
    "ztf": ("ztf", 12, "candidate"),
    "ztf-fink": ("ztf", 31, "candidate"),
    "ztf-fink-parquet": ("ztf", 72, "candidate"),
    "alerce-ztf": ("ztf", 6, "candidate"),
    "rubin-fink": ("lsst", 7, "diaSource"),
    "rubin-parquet-7.1": ("lsst", 50, "diaSource"),
    "gattini": ("gattini", 4, "candidate"),
    "winter": ("winter", 3, "candidate"),
    "decam": ("decam", 1, "candidate"),
    "atlas": ("atlas", 2, "candidate"),
    "turbo": ("turbo", 2, "candidate"),
}


def container(path):
    """The records of an Avro container. Where fastavro refuses a default of the schema (TURBO's, and before
    1.9.2 ZTF's), defaults are taken out of its text, with blanks in their place, so that lengths stay."""
    data = path.read_bytes()
    try:
        return list(fastavro.reader(io.BytesIO(data)))
    except (fastavro.schema.SchemaParseException, TypeError):
        start = data.index(b"{", data.index(b"avro.schema"))
        end = start + json.JSONDecoder().raw_decode(data[start:].decode("latin-1"))[1]
        default = rb',\s*"default":\s*(null|"[^"]*"|[^,}\s]+)|"default":\s*(null|"[^"]*"|[^,}\s]+)\s*,'
        plain = re.sub(default, lambda found: b" " * len(found[0]), data[start:end])
        return list(fastavro.reader(io.BytesIO(data[:start] + plain + data[end:])))


def records(folder):
    """All records of a folder, in the order of its files' names."""
    for path in sorted(folder.iterdir()):
        yield from parquet.read_table(path).to_pylist() if path.suffix == ".parquet" else container(path)


def hdus(cutout):
    """The HDUs of a cut-out, by astropy; None where there is none."""
    data = cutout.get("stampData") if isinstance(cutout, dict) else cutout
    if not data:
        return None
    return fits.open(io.BytesIO(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data))


def expected_sign(survey, source):
    """Whether the source is brighter in the template, as the survey's documents say."""
    if survey == "lsst":
        flag = source.get("isNegative")
        return source["psfFlux"] < 0 if flag is None else flag
    return source["flux"] < 0 if survey == "atlas" else str(source["isdiffpos"]) in ("f", "0", "0.0", "False")


def expected_pixel(survey, source, shape):
    """The row and column of the source in a cut-out."""
    if survey == "lsst":  # as Rubin's pipeline cuts a box: afw.geom, Box2I.makeCenteredBox
        centre = np.array([source["y"], source["x"]])
        corner = np.floor(centre - np.array(shape) / 2 + 0.5 + 0.5)
        return np.floor(centre - corner + 0.5).astype(int).tolist()
    out = []
    for axis, n in zip(("ypos", "xpos"), shape, strict=True):
        near_start = n < 63 and survey == "ztf" and source[axis] < 100
        out.append(round(source[axis]) - 1 if near_start else n // 2)
    return out


def expected_ids(survey, record, source):
    if survey == "lsst":
        thing = record.get("diaObject") or {}
        ids = (thing.get("diaObjectId"), source["diaObjectId"], source["ssObjectId"])
        return str(next((one for one in ids if one), "")), str(source["diaSourceId"])
    candid = record.get("candid") or source["candid"]
    return record.get("objectId") or record["objectid"], str(candid)


def expected_snr(survey, source):
    if survey == "decam":
        return source["psfFlux"] / source["psfFluxErr"]
    if survey == "atlas":
        return abs(source["flux"] / source["Dflux"])
    value = source.get("snr" if survey == "lsst" else "scorr")
    return float("nan") if value is None else value


@pytest.mark.filterwarnings("ignore:.*SIMPLE card")
@pytest.mark.parametrize("kind", KINDS)
def test_real_alerts_are_read_as_independent_readers_read_them(real_data, kind):
    survey, count, inside = KINDS[kind]
    folder = real_data / "alerts" / kind
    if not folder.exists():
        pytest.skip(f"no real alerts of {kind}")
    files = Alerts(find_files([folder]))
    found = list(files.packets(0, len(files)))
    expected = list(records(folder))
    assert len(found) == len(expected) == count
    assert not files.problems
    for packet, record in zip(found, expected, strict=True):
        check(packet, record, survey, inside)


def check(packet, record, survey, inside):
    """One alert: ids, SNR, sign, pixels, own pixel, variance, position and time."""
    source = record[inside]
    assert packet.survey == survey
    assert (packet.object_id, packet.candidate_id) == expected_ids(survey, record, source)
    np.testing.assert_allclose(packet.snr, expected_snr(survey, source), rtol=1e-6)
    assert packet.negative == expected_sign(survey, source)
    assert not packet.flags & BIT["sign_unknown"]
    names = {what: f"cutout{what.title()}" for what in ("template", "science", "difference")}
    names = {what: name if name in record else f"cutout_{what}" for what, name in names.items()}
    images = {what: hdus(record.get(name)) for what, name in names.items()}
    for what, image in images.items():
        if image is None:
            assert getattr(packet, what) is None
        else:
            np.testing.assert_array_equal(getattr(packet, what), image[0].data)
    shape = packet.difference.shape
    row, column = expected_pixel(survey, source, shape)
    marked = np.zeros(shape)
    marked[row, column] = 1
    alone = dataclasses.replace(packet, template=None, science=marked, difference=None, negative=False)
    stamp, _ = stamp_of(alone, 5)
    assert stamp[2, 2, 1] == 1
    if survey == "lsst":
        np.testing.assert_array_equal(packet.variance, images["difference"]["UNCERT"].data)
    else:
        assert packet.variance is None
    ra, dec = (source.get(a, source.get(b)) for a, b in (("ra", "RA"), ("dec", "Dec")))
    assert (packet.ra, packet.dec) == (ra, dec)
    jd = source.get("jd")
    mjd = jd - 2400000.5 if jd else source.get("mjd", source.get("midpointMjdTai"))
    assert packet.mjd == pytest.approx(mjd, abs=1e-9)


def test_the_world_coordinates_of_rubins_cutouts_name_the_same_pixel(real_data):
    """From schema 9.0 on CRPIX is the source's place, and BABAMUL's messages have nothing else."""
    folder = real_data / "alerts" / "rubin-fink"
    if not folder.exists():
        pytest.skip("no real alerts of Rubin")
    for record in records(folder):
        header = hdus(record["cutoutDifference"])[0].header
        shape = header["NAXIS2"], header["NAXIS1"]
        row, column = expected_pixel("lsst", record["diaSource"], shape)
        assert [row, column] == [round(header["CRPIX2"] - 1), round(header["CRPIX1"] - 1)]


def test_the_real_alerts_together_are_told_by_survey(real_data):
    folder = real_data / "alerts"
    if not folder.exists():
        pytest.skip("no real alerts")
    paths = [path for path in find_files([folder]) if "framed" not in str(path)]
    files = Alerts(paths)
    surveys = Counter(packet.survey for packet in files.packets(0, len(files)))
    expected = Counter()
    for survey, count, _ in KINDS.values():
        expected[survey] += count
    assert surveys == expected


def test_ztfs_fading_sources_stand_bright_in_the_difference(real_data):
    """What `flipped` rests on: the difference of an f alert has its sign turned already."""
    folder = real_data / "alerts"
    if not folder.exists():
        pytest.skip("no real alerts")
    bright = []
    for kind in ("ztf", "ztf-fink", "ztf-fink-parquet"):
        files = Alerts(find_files([folder / kind]))
        for packet in files.packets(0, len(files)):
            if packet.negative and packet.difference.shape == (63, 63):
                middle = packet.difference[28:35, 28:35]
                bright.append(np.nanmax(middle) > -np.nanmin(middle))
    assert len(bright) > 10 and np.mean(bright) > 0.9


def test_a_framed_message_of_rubins_is_refused_with_its_schema(real_data):
    folder = real_data / "alerts" / "rubin-framed"
    if not folder.exists():
        pytest.skip("no framed message")
    (path,) = folder.iterdir()
    (number,) = struct.unpack(">I", path.read_bytes()[1:5])
    with pytest.raises(Exception, match=f"schema {number}"):
        Alerts([path])
