"""Surveys by their profiles: how each is recognised, its sign and own pixel, and what is refused by name."""

import copy
import io
import re
from pathlib import Path

import numpy as np
import pytest
from alert_packets import RUBIN, SIZE, ZTF, fits, image_bytes, one_stamp, rubin, sky, write_avro, ztf
from programs import assert_refused, call

from rotinv.alerts.files import Alerts
from rotinv.alerts.profile_files import read_profile
from rotinv.alerts.stamp import BIT
from rotinv.alerts.surveys import SURVEYS
from rotinv.system.errors import UserError

NAMES = ("cutoutTemplate", "cutoutScience", "cutoutDifference")


def schema_of(name, candidate, ids=(("objectId", "string"), ("candid", "long")), cutouts=NAMES):
    """A schema of a survey's name: ids, the record `candidate` of these fields, cut-outs as bytes."""
    fields = [{"name": key, "type": kind} for key, kind in candidate.items()]
    record = {"type": "record", "name": f"{name}.candidate", "fields": fields}
    return {
        "type": "record",
        "name": name,
        "fields": [
            *({"name": key, "type": kind} for key, kind in ids),
            {"name": "candidate", "type": record},
            *({"name": cutout, "type": ["null", "bytes"]} for cutout in cutouts),
        ],
    }


def bright(side=63, at=None):
    """Cut-outs with one bright pixel, by default the middle one."""
    cutouts = np.zeros((3, side, side), np.float32)
    row, column = at or (side // 2, side // 2)
    cutouts[1:, row, column] = 100
    return cutouts + sky(side) / 100


def packed(cutouts, names=NAMES):
    return {name: image_bytes(one, zipped=True) for name, one in zip(names, cutouts, strict=True)}


def middle(stamp):
    """Whether the brightest pixel of the difference is the stamp's own."""
    row, column = np.unravel_index(np.argmax(stamp[..., 2]), stamp.shape[:2])
    return (row, column) == (SIZE // 2, SIZE // 2)


SOURCE = {"isdiffpos": "string", "xpos": "float", "ypos": "float", "scorr": "double"}


def of_source(**more):
    return {"isdiffpos": "1", "xpos": 745.8, "ypos": 141.2, "scorr": 20.0, **more}


@pytest.mark.parametrize("position", [(745.8, 141.2), (2000.0, 2000.0)])
def test_gattinis_alerts_are_not_ztfs(tmp_path, position):
    x, y = position
    record = {
        "objectId": "PGIR00aaa",
        "candid": 1,
        "candidate": of_source(xpos=x, ypos=y),
        **packed(bright(61)),
    }
    packet, stamp, flags = one_stamp(
        write_avro(tmp_path / "a.avro", schema_of("pgir.alert", SOURCE), [record])
    )
    assert packet.survey == "gattini" and middle(stamp)
    assert flags == BIT["robust_noise"]


def test_a_negative_alert_is_not_scored_where_nobody_knows_whether_its_difference_is_turned(tmp_path):
    record = {
        "objectId": "PGIR00aaa",
        "candid": 1,
        "candidate": of_source(isdiffpos="0"),
        **packed(bright(61)),
    }
    _, stamp, flags = one_stamp(write_avro(tmp_path / "a.avro", schema_of("pgir.alert", SOURCE), [record]))
    assert flags == BIT["negative"] | BIT["sign_unknown"] | BIT["robust_noise"]
    assert np.isnan(stamp[..., 2:]).all() and np.isfinite(stamp[..., :2]).all()


def test_winters_alerts_have_ids_and_cutouts(tmp_path):
    names = ("cutout_template", "cutout_science", "cutout_difference")
    schema = schema_of("winter.alert", SOURCE, (("objectid", "string"), ("candid", "long")), names)
    record = {
        "objectid": "WNTR24a",
        "candid": 7,
        "candidate": of_source(isdiffpos="True"),
        **packed(bright(81), names),
    }
    packet, stamp, flags = one_stamp(write_avro(tmp_path / "a.avro", schema, [record]))
    assert (packet.survey, packet.object_id, packet.candidate_id) == ("winter", "WNTR24a", "7")
    assert middle(stamp) and flags == BIT["robust_noise"]


def test_decams_snr_is_the_flux_over_its_error(tmp_path):
    fields = {"isdiffpos": "long", "psfFlux": "double", "psfFluxErr": "double", "forcediffimflux": "double"}
    candidate = {"isdiffpos": 1, "psfFlux": -50.0, "psfFluxErr": 5.0, "forcediffimflux": 1.0}
    record = {"objectId": "c4d", "candid": 7, "candidate": candidate, **packed(bright())}
    packet, _, _ = one_stamp(write_avro(tmp_path / "a.avro", schema_of("desirt.alert", fields), [record]))
    assert (packet.survey, packet.snr) == ("decam", 10)


@pytest.mark.parametrize(("sign", "negative"), [("t", False), ("f", True)])
def test_records_that_spark_renamed_are_known_by_publisher_or_id(tmp_path, sign, negative):
    """ZTF as in ALeRCE's tests: the schema is topLevelRecord, candid is within candidate."""
    fields = {**SOURCE, "candid": "long"}
    ids = (("publisher", "string"), ("objectId", "string"))
    schema = schema_of("topLevelRecord", fields, ids)
    made = []
    for publisher, name in (("ZTF (www.ztf.caltech.edu)", "x"), ("Fink", "ZTF18abcdefg")):
        candidate = of_source(isdiffpos=sign, candid=5)
        made.append({"publisher": publisher, "objectId": name, "candidate": candidate, **packed(bright())})
    files = Alerts([write_avro(tmp_path / "a.avro", schema, made)])
    for packet in files.packets(0, 2):
        assert (packet.survey, packet.candidate_id, packet.snr) == ("ztf", "5", 20)
        assert packet.negative == negative and packet.flipped


def test_one_record_of_nobody_among_known_ones_is_told(tmp_path):
    schema = schema_of("topLevelRecord", SOURCE, (("publisher", "string"), ("objectId", "string")))
    ids = (("ZTF", "x"), ("Nobody", "y"), ("Fink", "ZTF18abcdefg"))
    made = [
        {"publisher": publisher, "objectId": name, "candidate": of_source(), **packed(bright())}
        for publisher, name in ids
    ]
    files = Alerts([write_avro(tmp_path / "a.avro", schema, made)])
    assert [packet.survey for packet in files.packets(0, 3)] == ["ztf", "", "ztf"]
    assert len(files.problems) == 1 and "publisher 'Nobody', object 'y'" in files.problems[0]


@pytest.mark.parametrize(
    ("name", "publisher", "word"),
    [
        ("hits.alert", "ZTF", "schema is 'hits.alert'"),  # the schema goes first
        ("topLevelRecord", "Nobody", "publisher 'Nobody'"),
        ("alert", "Nobody", "object 'x'"),
    ],
)
def test_alerts_of_no_known_survey_are_refused_by_name(tmp_path, name, publisher, word):
    schema = schema_of(name, SOURCE, (("publisher", "string"), ("objectId", "string")))
    record = {"publisher": publisher, "objectId": "x", "candidate": of_source(), **packed(bright())}
    path = write_avro(tmp_path / "a.avro", schema, [record])
    assert_refused(call("import_alerts", path, "--out", tmp_path / "o.h5"), "a.avro", word, "--profile")
    assert not (tmp_path / "o.h5").exists()


def with_fields(add=(), leave=(), name="lsst.v10_0.alert"):
    """Rubin's schema with other fields of a source."""
    schema = copy.deepcopy(RUBIN)
    schema["name"], schema["namespace"] = name, ""
    (source,) = (one["type"] for one in schema["fields"] if one["name"] == "diaSource")
    source["fields"] = [one for one in source["fields"] if one["name"] not in leave]
    source["fields"] += [{"name": key, "type": ["null", kind], "default": None} for key, kind in add]
    return schema


@pytest.mark.parametrize(
    ("version", "add", "values", "negative", "unknown"),
    [
        ("8_0", (), {"isNegative": True, "psfFlux": 5.0}, True, False),  # the flag goes first
        ("10_0", (), {"isNegative": None, "psfFlux": -5.0}, True, False),
        ("11_1", (), {"isNegative": False, "psfFlux": -5.0}, False, False),
        ("7_4", (("is_negative", "boolean"),), {"is_negative": True, "psfFlux": 5.0}, True, False),
        ("7_1", (), {"psfFlux": -5.0}, True, False),
        ("4_0", (("psFlux", "float"),), {"psFlux": -5.0}, True, False),
        ("7_1", (), {"psfFlux": float("nan")}, False, True),
        ("7_1", (), {"psfFlux": None}, False, True),
    ],
)
def test_rubins_sign_is_that_of_its_version(tmp_path, version, add, values, negative, unknown):
    leave = [] if "isNegative" in values else ["isNegative"]
    record = rubin(1, sky(30), np.ones((30, 30)), **values)
    if leave:
        for source in (record["diaSource"], *record["prvDiaSources"]):
            source.pop("isNegative")
    schema = with_fields(add, leave, f"lsst.v{version}.alert")
    packet, stamp, flags = one_stamp(write_avro(tmp_path / "a.avro", schema, [record]))
    assert packet.survey == "lsst" and packet.negative == negative
    assert bool(flags & BIT["sign_unknown"]) == unknown
    inner = sky(30)[2, 5:26, 5:26]
    np.testing.assert_array_equal(stamp[..., 2], -inner if negative else inner)


@pytest.mark.parametrize("side", [30, 31, 45, 102])
@pytest.mark.parametrize(("x", "y"), [(754.23, 3346.29), (816.87, 3299.54), (190.5, 2573.49), (50.0, 60.99)])
def test_rubins_own_pixel_comes_of_x_and_y(tmp_path, side, x, y):
    """The box's corner is the centre less half the side, and a half, rounded (Box2I.makeCenteredBox)."""
    x, y = np.float32(x), np.float32(y)
    corner_x, corner_y = (int(np.floor(float(at) - side / 2 + 1)) for at in (x, y))
    at = int(np.floor(y - corner_y + 0.5)), int(np.floor(x - corner_x + 0.5))
    record = rubin(1, bright(side, at), np.ones((side, side)), x=float(x), y=float(y))
    _, stamp, flags = one_stamp(write_avro(tmp_path / "a.avro", RUBIN, [record]))
    assert middle(stamp) and not flags


@pytest.mark.parametrize("position", [{"x": float("nan")}, {"y": float("inf")}])
def test_without_a_position_rubins_own_pixel_is_not_guessed(tmp_path, position):
    record = rubin(1, bright(30), np.ones((30, 30)), **position)
    _, stamp, flags = one_stamp(write_avro(tmp_path / "a.avro", RUBIN, [record]))
    assert flags & BIT["off_centre"] and np.isnan(stamp[..., 2]).all()
    record = rubin(1, bright(31), np.ones((31, 31)), **position)
    _, stamp, flags = one_stamp(write_avro(tmp_path / "b.avro", RUBIN, [record]))
    assert not flags and middle(stamp)  # an odd side has its middle wherever the source is in its pixel


def test_an_alert_whose_cutouts_are_all_null_is_told(tmp_path):
    """Rubin writes such where the centroid is off the image."""
    record = rubin(1, (None, None, None))
    packet, stamp, flags = one_stamp(write_avro(tmp_path / "a.avro", RUBIN, [record]))
    assert packet.candidate_id == "1" and flags == BIT["missing_cutout"]
    assert np.isnan(stamp).all()


def babamul(isnegative, isdiffpos, crpix=(15.6, 15.2)):
    """An LSST message of BABAMUL's: Rubin's FITS, the source in `candidate`, neither x nor y."""
    fields = {"diaSourceId": "long", "isNegative": ["null", "boolean"], "isdiffpos": "boolean"}
    fields |= {
        "snr": "float",
        "psfFlux": ["null", "float"],
        "reliability": ["null", "float"],
        "band": "string",
    }
    candidate = {"diaSourceId": 9, "isNegative": isnegative, "isdiffpos": isdiffpos, "snr": 8.0}
    candidate |= {"psfFlux": -4.0, "reliability": 0.75, "band": "i"}
    cutouts = {}
    for name, pixels in zip(NAMES, bright(30, (14, 15)), strict=True):
        header = fits.Header({"CRPIX1": crpix[0], "CRPIX2": crpix[1]}) if crpix else None
        out = fits.HDUList([fits.PrimaryHDU(-pixels if "Diff" in name else pixels, header)])
        cutouts[name] = hdu_bytes(out)
    return schema_of("EnrichedLsstAlert", fields), {
        "objectId": "17",
        "candid": 9,
        "candidate": candidate,
        **cutouts,
    }


def hdu_bytes(hdus):
    out = io.BytesIO()
    hdus.writeto(out)
    return out.getvalue()


@pytest.mark.parametrize(("isnegative", "isdiffpos"), [(True, True), (None, False)])
def test_babamuls_messages_of_lsst_have_rubins_sign_and_pixel(tmp_path, isnegative, isdiffpos):
    schema, record = babamul(isnegative, isdiffpos)
    packet, stamp, flags = one_stamp(write_avro(tmp_path / "a.avro", schema, [record]))
    assert (packet.survey, packet.object_id, packet.candidate_id) == ("lsst", "17", "9")
    assert packet.negative and not packet.flipped and middle(stamp)
    assert flags == BIT["negative"] | BIT["robust_noise"]
    assert (packet.band, packet.survey_score, packet.flux) == ("i", 0.75, -4)


def test_babamuls_messages_without_a_place_are_not_centred_by_guess(tmp_path):
    schema, record = babamul(True, False, None)
    _, _, flags = one_stamp(write_avro(tmp_path / "a.avro", schema, [record]))
    assert flags & BIT["off_centre"]


def test_babamuls_messages_of_ztf(tmp_path):
    fields = {"candid": "long", "isdiffpos": "boolean", "scorr": ["null", "double"], "band": "string"}
    candidate = {"candid": 3, "isdiffpos": False, "scorr": 7.0, "band": "r"}
    record = {"objectId": "ZTF18abcdefg", "candid": 3, "candidate": candidate, **packed(bright())}
    schema = schema_of("EnrichedZtfAlert", fields)
    packet, stamp, _ = one_stamp(write_avro(tmp_path / "a.avro", schema, [record]))
    assert (packet.survey, packet.negative, packet.flipped, packet.band) == ("ztf", True, True, "r")
    assert middle(stamp)


@pytest.mark.parametrize("kind", ["text", "number"])
def test_signs_within_records_of_tables(tmp_path, kind):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    values, column, expected = {
        "text": (["false", "true", "f", "0", None], pa.string(), [False, True, False, False, None]),
        "number": ([0.0, 1.0, float("nan"), None], pa.float64(), [False, True, None, None]),
    }[kind]
    n = len(values)
    parts = {"diaSourceId": pa.array(range(1, n + 1)), "isNegative": pa.array(values, column)}
    parts |= {"x": pa.array([100.75] * n), "y": pa.array([100.75] * n)}
    columns = {name: pa.array([one] * n) for name, one in packed(sky(30)).items()}
    source = pa.StructArray.from_arrays(list(parts.values()), list(parts))
    parquet.write_table(pa.table({"diaSource": source, **columns}), tmp_path / "a.parquet")
    found = list(Alerts([tmp_path / "a.parquet"]).packets(0, n))
    assert [None if one.flags & BIT["sign_unknown"] else one.negative for one in found] == expected


def test_every_survey_has_ids_a_sign_and_a_name_of_its_schema():
    for profile in SURVEYS:
        assert (
            profile.schemas and profile.object_id and profile.candidate_id and profile.sign and profile.fields
        )
        assert all(path.count(".") <= 1 for path in profile.wanted)


def test_the_documented_profile_is_read(tmp_path):
    """docs/alerts.md's example: written as it stands there, and used by import_alerts and score's reader."""
    page = (Path(__file__).resolve().parents[1] / "docs" / "alerts.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "goto.toml").write_text(example, encoding="utf-8")
    profile = read_profile(tmp_path / "goto.toml")
    candidate = {
        "id": "long",
        "positive": "boolean",
        "snr": "float",
        "filter": "int",
        "jd": "double",
        "rb": "float",
    }
    candidate |= {"ra": "double", "dec": "double"}
    values = {
        "id": 77,
        "positive": False,
        "snr": 9.5,
        "filter": 2,
        "jd": 2460000.5,
        "rb": 0.5,
        "ra": 1.0,
        "dec": 2.0,
    }
    schema = schema_of("goto.alert", candidate, (("source", "string"),), ("tem", "sci", "sub"))
    record = {"source": "GOTO1", "candidate": values, **packed(bright(51), ("tem", "sci", "sub"))}
    path = write_avro(tmp_path / "a.avro", schema, [record])
    with pytest.raises(UserError, match=r"goto\.alert"):
        Alerts([path])
    (packet,) = Alerts([path], [profile]).packets(0, 1)
    assert (packet.survey, packet.object_id, packet.candidate_id) == ("goto", "GOTO1", "77")
    assert (packet.negative, packet.flipped, packet.snr, packet.band) == (True, False, 9.5, "V")
    assert (packet.ra, packet.dec, packet.mjd, packet.survey_score) == (1, 2, 60000, 0.5)
    result = call("import_alerts", path, "--profile", tmp_path / "goto.toml", "--out", tmp_path / "o.h5")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("survey = 3\ndifference = 'd'", "survey"),
        ("survey = 'x'", "difference"),
        ("survey = 'x'\ndifference = 'd'\nschema = 'y'", "'schema'"),
        ("survey = 'x'\ndifference = 'd'\nplace = 'left'", "'left'"),
        ("survey = 'x'\ndifference = 'd'\nplace = 'edge'", "needs side"),
        ("survey = 'x'\ndifference = 'd'\n[sign]\nfield = 's'\nsays = 'up'", "'up'"),
        ("survey = 'x'\ndifference = 'd'\nobject_ids = '('", "object_ids is '('"),
        ("survey = ", "TOML"),
    ],
)
def test_a_profile_that_is_wrong_is_refused_in_one_line(tmp_path, text, word):
    path = write_avro(tmp_path / "a.avro", ZTF, [ztf("Z", 1, sky())])
    (tmp_path / "p.toml").write_text(text)
    result = call("import_alerts", path, "--profile", tmp_path / "p.toml", "--out", tmp_path / "o.h5")
    assert_refused(result, "p.toml", word)


def test_several_surveys_are_told(tmp_path):
    write_avro(tmp_path / "a.avro", ZTF, [ztf("Z", 1, sky())])
    write_avro(tmp_path / "b.avro", RUBIN, [rubin(1, sky(30), np.ones((30, 30)))])
    result = call("import_alerts", tmp_path, "--out", tmp_path / "o.h5")
    assert result.returncode == 0 and "1 ztf, 1 lsst" in result.stderr
