"""What surveys say of their alerts: kept in the store, and written in every format of the catalogue."""

import h5py
import numpy as np
import pytest
from alert_packets import RUBIN, SIZE, ZTF, rubin, sky, write_avro, ztf
from programs import assert_refused, call
from test_score import make_run

from rotinv.stamps.alert_columns import ALERT_COLUMNS, MEASURES
from rotinv.stamps.store import CHANNELS

table = pytest.importorskip("astropy.table")
UNITS = {"ra": "deg", "dec": "deg", "mjd": "d", "magnitude": "mag", "flux": "nJy"}
EXPECTED = {
    "object_id": ["ZTF18aaa", "12"],
    "candidate_id": ["1", "5"],
    "survey": ["ztf", "lsst"],
    "ra": [1.5, 10.5],
    "dec": [np.nan, np.nan],
    "mjd": [60000, 61000.5],
    "band": ["g", "i"],
    "magnitude": [18.25, np.nan],
    "flux": [np.nan, -3.5],
    "survey_score": [np.nan, 0.75],
    "survey_score_version": ["", "reliability"],
    "pixel_flags": ["", ""],
}


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """An alert of ZTF and one of Rubin."""
    folder = tmp_path_factory.mktemp("night")
    record = ztf("ZTF18aaa", 1, sky())
    record["candidate"]["magpsf"] = 18.25
    write_avro(folder / "a.avro", ZTF, [record])
    source = rubin(5, sky(30), np.ones((30, 30)), psfFlux=-3.5, reliability=0.75, snr=9.0)
    write_avro(folder / "b.avro", RUBIN, [source])
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "run", size=SIZE, channels=list(CHANNELS))


def same(found, name):
    if name in MEASURES:
        np.testing.assert_array_equal(np.ma.filled(found, np.nan), EXPECTED[name], err_msg=name)
    else:
        assert [str(value).strip() for value in found] == EXPECTED[name], name


@pytest.mark.parametrize("suffix", ["h5", "fits", "ecsv", "csv", "parquet"])
def test_what_the_surveys_say_is_in_the_catalogue(night, run, tmp_path, suffix):
    """Of the files and of the store made of them alike, with units and UCDs."""
    assert call("import_alerts", night, "--out", tmp_path / "alerts.h5").returncode == 0
    for source, name in ((night, "files"), (tmp_path / "alerts.h5", "store")):
        result = call("score", run, source, "--out", tmp_path / f"{name}.{suffix}")
        assert result.returncode == 0, result.stderr
    one, other = ((tmp_path / f"{name}.{suffix}") for name in ("files", "store"))
    if suffix != "h5":
        assert one.read_bytes() == other.read_bytes()
    if suffix == "h5":
        with h5py.File(one) as file:
            assert {name: file[name].attrs["unit"] for name in UNITS} == UNITS
            for name in ALERT_COLUMNS:
                same(file[name][()] if name in MEASURES else file[name].asstr()[()], name)
        return
    if suffix == "parquet":
        arrow = pytest.importorskip("pyarrow.parquet").read_table(one)
        metadata = {name: arrow.schema.field(name).metadata for name in UNITS}
        assert {name: about[b"unit"].decode() for name, about in metadata.items()} == UNITS
        found = {name: arrow[name].to_pylist() for name in ALERT_COLUMNS}
    else:
        kind = {"ecsv": "ascii.ecsv", "csv": "ascii.csv"}.get(suffix)
        found = table.Table.read(one, format=kind) if kind else table.Table.read(one)
    for name in ALERT_COLUMNS:
        values = found[name]
        same(values if name in MEASURES else ["" if one is np.ma.masked else one for one in values], name)
    if suffix in ("ecsv", "fits"):
        assert {name: str(found[name].unit) for name in UNITS} == UNITS
    if suffix == "ecsv":
        assert found["ra"].info.meta == {"ucd": "pos.eq.ra;meta.main"}
        assert found.meta["threshold"] == 0.5 and found["index"].dtype == np.int64


def test_a_text_of_any_sign_is_whole_in_an_ecsv(run, tmp_path):
    name = 'a "quoted", one'
    write_avro(tmp_path / "a.avro", ZTF, [ztf(name, 1, sky())])
    assert call("score", run, tmp_path / "a.avro", "--out", tmp_path / "s.ecsv").returncode == 0
    assert table.Table.read(tmp_path / "s.ecsv", format="ascii.ecsv")["object_id"][0] == name


def test_flags_of_pixels_are_named(night, tmp_path):
    from test_alert_surveys import with_fields

    from rotinv.alerts.files import Alerts

    add = (("pixelFlags", "boolean"), ("pixelFlags_edge", "boolean"), ("pixelFlags_crCenter", "boolean"))
    values = {"pixelFlags": False, "pixelFlags_edge": True, "pixelFlags_crCenter": True}
    record = rubin(1, sky(30), np.ones((30, 30)), **values)
    path = write_avro(tmp_path / "a.avro", with_fields(add), [record])
    (packet,) = Alerts([path]).packets(0, 1)
    assert packet.pixel_flags == "crCenter edge"


@pytest.mark.parametrize("program", ["explain", "view"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_alerts_given_to_other_programs_are_refused_with_what_to_do(night, run, tmp_path, program, kind):
    given = night if kind == "folder" else night / "a.avro"
    extra = {"explain": ("--index", 0, "--out", tmp_path / "f.png"), "view": ("--out", tmp_path / "p.html")}
    result = call(program, run, given, *extra.get(program, ()))
    assert_refused(result, str(given), "rotinv import_alerts")


def test_alerts_given_to_evaluate_are_held_against_their_surveys_score(night, run):
    """Without labels it cannot tell how good a network is; it says so, and where labels come in."""
    result = call("evaluate", run, night)
    assert result.returncode == 0 and "no labels: rotinv import_alerts --labels" in result.stdout
    assert "agreement with the survey's own score" in result.stdout and "accuracy" not in result.stdout
    without = night / "a.avro"
    assert_refused(call("evaluate", run, without), str(without), "rotinv import_alerts --labels")
