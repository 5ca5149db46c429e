"""The catalogue of rotinv score: its formats hold the same, alerts without a score are told, maps beside."""

import csv
import itertools
import json
import re

import h5py
import numpy as np
import pytest
from alert_packets import RUBIN, ZTF, fits, rubin, sky, write_avro, ztf
from programs import assert_refused, call, make_run, toy_arrays

from rotinv import __version__
from rotinv.alerts.stamp import BIT
from rotinv.catalogue import explained_pages, formats, scorer
from rotinv.catalogue.formats import TEXT, Column, Fact
from rotinv.runs import model
from rotinv.system.errors import UserError

FOUR = ["template", "science", "difference", "snr_difference"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return [make_run(folder / f"cap-{i}", seed=i, size=21, channels=FOUR) for i in range(2)]


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """Five alerts of two surveys: good, fading, without a template, unreadable, Rubin's own."""
    folder = tmp_path_factory.mktemp("night")
    cutouts = sky()
    records = [
        ztf("ZTF18aaa", 1, cutouts),
        ztf("ZTF18bbb", 2, cutouts, "f"),
        ztf("ZTF18ccc", 3, (None, *cutouts[1:])),
        ztf("ZTF18ddd", 4, cutouts),
    ]
    records[3]["cutoutDifference"]["stampData"] = b"not FITS"
    write_avro(folder / "a.avro", ZTF, records)
    write_avro(folder / "b.avro", RUBIN, [rubin(5, sky(30), np.full((30, 30), 9.0), snr=30.0)])
    return folder


def read(path):
    """A catalogue's columns, and its facts as text by the names in the metadata."""
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        about = json.loads(path.with_name(path.name + "-metadata.json").read_text())
        described = {column["name"]: column["description"] for column in about.pop("columns")}
        assert set(described) == set(columns)
        return columns, {name: str(value) for name, value in about.items()}
    if path.suffix == ".parquet":
        table = pytest.importorskip("pyarrow.parquet").read_table(path)
        facts = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
        return table.to_pydict(), facts
    if path.suffix == ".fits":
        with fits.open(path) as hdus:
            hdus.verify("exception")
            table = hdus["SCORES"]
            return {name: table.data[name].tolist() for name in table.columns.names}, table.header
    with h5py.File(path) as file:
        columns = {name: one.asstr()[()] if one.dtype == object else one[()] for name, one in file.items()}
        return columns, {name: str(value) for name, value in file.attrs.items()}


@pytest.fixture(scope="module")
def scored(models, night, tmp_path_factory):
    """The night in every format."""
    folder = tmp_path_factory.mktemp("scored")
    for suffix in ("csv", "parquet", "fits", "h5"):
        result = call(
            "score", *models, night / "a.avro", night / "b.avro", "--out", folder / f"night.{suffix}"
        )
        assert result.returncode == 0, result.stderr
    return folder


def test_every_format_holds_the_same(scored):
    known, facts = read(scored / "night.h5")
    assert known["probability"].dtype == np.float32
    assert known["flags"].dtype == np.uint32
    for suffix in ("csv", "parquet", "fits"):
        found, others = read(scored / f"night.{suffix}")
        names = [name.replace("-", "_") if suffix == "fits" else name for name in known]
        assert set(names) == set(found)
        for name, own in zip(names, known, strict=True):
            if known[own].dtype == object:
                assert list(found[name]) == list(known[own])
            else:
                values = np.array(found[name], np.float64).astype(known[own].dtype)
                np.testing.assert_array_equal(values, known[own], err_msg=f"{suffix} {name}")
        for name, value in facts.items() if suffix != "fits" else ():
            assert others[name] == value


def test_ids_votes_and_flags(scored, models):
    rows, facts = read(scored / "night.h5")
    assert list(rows["object_id"]) == ["ZTF18aaa", "ZTF18bbb", "ZTF18ccc", "ZTF18ddd", "12"]
    assert list(rows["candidate_id"]) == ["1", "2", "3", "4", "5"]
    assert list(rows["survey"]) == ["ztf"] * 4 + ["lsst"]
    noise, lost = BIT["robust_noise"], BIT["not_scored"]
    assert list(rows["flags"]) == [
        noise,
        noise | BIT["negative"],
        noise | BIT["missing_cutout"] | lost,
        BIT["unreadable"] | lost,
        0,
    ]
    assert list(np.isnan(rows["probability"])) == [False, False, True, True, False]
    assert list(rows["class"][2:4]) == [-1, -1]
    each = np.stack([rows["probability_cap-0"], rows["probability_cap-1"]])
    np.testing.assert_array_equal(rows["probability"], np.median(each, axis=0))
    good = np.isfinite(rows["probability"])
    np.testing.assert_array_equal(rows["class"][good], rows["probability"][good] >= 0.5)
    assert facts["channels"] == ",".join(FOUR)
    assert facts["threshold"] == "0.5" and facts["version"] == __version__
    assert facts["model_2_sha256"] == model.weights_digest(model.load_model(models[1]))
    assert facts["flag_negative"] == str(BIT["negative"])
    assert "max - min" in facts["normalisation"]


def test_a_fits_table_is_described_for_a_virtual_observatory(scored):
    _, header = read(scored / "night.fits")
    kinds = {header[f"TTYPE{i}"]: header[f"TUCD{i}"] for i in range(1, header["TFIELDS"] + 1)}
    assert kinds["object_id"] == "meta.id;src" and kinds["probability_cap_0"] == "stat.probability"
    assert all(name.isidentifier() for name in kinds)
    assert header["THRESH"] == 0.5 and header["FLAG4"] == BIT["filled"] and len(header["MHASH1"]) == 64


def test_what_happened_is_told(models, night, tmp_path):
    result = call("score", models[0], night, "--out", tmp_path / "s.csv")
    assert "alert 3 (4): its difference cut-out: is no FITS file" in result.stderr
    assert "1 negative" in result.stderr and "2 without a score" in result.stderr.replace(" stamps", "")
    assert "several surveys" in result.stderr and "4 ztf, 1 lsst" in result.stderr
    assert "3 stamps scored" in result.stderr


def test_alerts_without_a_score_may_be_dropped(models, night, tmp_path):
    assert call("score", models[0], night, "--out", tmp_path / "s.csv", "--on-bad", "drop").returncode == 0
    assert read(tmp_path / "s.csv")[0]["candidate_id"] == ["1", "2", "5"]


def test_stamps_that_are_not_finite_may_be_flagged(models, tmp_path):
    arrays = toy_arrays(n=6, side=21, channels=4)
    arrays["stamps"][2, 3, 4, 1] = np.nan
    arrays["stamps"][4, :, :, 0] = 7
    np.savez(tmp_path / "s.npz", **arrays)
    assert_refused(call("score", models[0], tmp_path / "s.npz"), "--on-bad drop")
    out = tmp_path / "s.h5"
    assert call("score", models[0], tmp_path / "s.npz", "--out", out, "--on-bad", "flag").returncode == 0
    rows, _ = read(out)
    assert list(rows["flags"]) == [0, 0, BIT["not_scored"], 0, BIT["constant"], 0]
    assert np.flatnonzero(np.isnan(rows["probability"])).tolist() == [2]
    np.testing.assert_array_equal(rows["label"], arrays["label"])


def test_evaluate_reads_what_score_wrote(models, tmp_path):
    np.savez(tmp_path / "s.npz", **toy_arrays(n=40, side=21, channels=4))
    told = []
    for suffix in ("csv", "h5"):
        out = tmp_path / f"s.{suffix}"
        assert call("score", models[0], tmp_path / "s.npz", "--out", out).returncode == 0
        told.append(json.loads(call("evaluate", out, "--json").stdout)["accuracy"])
    assert told[0] == told[1]


def test_maps_beside_the_scores(models, tmp_path):
    """Of the highest and of those nearest the threshold: rotinv explain's maps of the class by the vote."""
    np.savez(tmp_path / "s.npz", **toy_arrays(n=12, side=21, channels=4))
    for name, words in (("top", ("top", 3)), ("near", ("near-threshold", 4)), ("all", ("all",))):
        out = tmp_path / f"{name}.h5"
        result = call("score", *models, tmp_path / "s.npz", "--out", out, "--explain", *words)
        assert result.returncode == 0, result.stderr
    rows = read(tmp_path / "top.h5")[0]
    p, vote = rows["probability"].astype(np.float64), rows["class"]
    chosen = {"top": np.argsort(-p)[:3], "near": np.argsort(np.abs(p - 0.5))[:4], "all": np.arange(12)}
    for name, indices in chosen.items():
        with h5py.File(tmp_path / f"{name}-maps.h5") as file:
            np.testing.assert_array_equal(file["indices"], indices)
            maps = file["models/cap-1/maps"][()]
        for kind in np.unique(vote[indices]):
            here = vote[indices] == kind
            which, out = indices[here].tolist(), tmp_path / f"{name}-{kind}.h5"
            explained = call(
                "explain", models[1], tmp_path / "s.npz", "--index", *which, "--maps", out, "--target", kind
            )
            assert explained.returncode == 0, explained.stderr
            with h5py.File(out) as file:
                np.testing.assert_array_equal(file["models/cap-1/maps"], maps[here])


def test_a_few_explained_stamps_are_drawn_and_named(models, night, tmp_path, monkeypatch):
    """A page for each, in the maps' order; of alerts the survey's own names."""
    pytest.importorskip("matplotlib")
    np.savez(tmp_path / "s.npz", **toy_arrays(n=12, side=21, channels=4))
    for source in (tmp_path / "s.npz", night):
        out = tmp_path / f"{source.stem}.h5"
        result = call("score", *models, source, "--out", out, "--explain", "top", 3)
        assert result.returncode == 0, result.stderr
        with h5py.File(tmp_path / f"{source.stem}-maps.h5") as file:
            columns = {name: list(file[name]) for name in file if name != "models"}
            p = file["models/cap-1/probability"][()]
        lines = [line for line in result.stderr.splitlines() if "-maps.pdf, page " in line]
        assert len(lines) == 3
        for page, line in enumerate(lines):
            name = f"stamp {columns['indices'][page]}"
            if "object_id" in columns:
                name = columns["object_id"][page].decode() or name
            assert f"page {page + 1}: {name}, " in line and f"cap-1 p(candidate) {p[page]:.4g}" in line
        pdf = (tmp_path / f"{source.stem}-maps.pdf").read_bytes()
        assert len(re.findall(rb"/Type /Page\b", pdf)) == 3
    monkeypatch.setattr(explained_pages, "MOST", 2)
    result = call("score", models[0], tmp_path / "s.npz", "--out", tmp_path / "t.h5", "--explain", "top", 3)
    assert "t-maps.pdf: not drawn, there are 3 stamps" in result.stderr
    assert not (tmp_path / "t-maps.pdf").exists()
    again = ("score", models[0], tmp_path / "s.npz", "--out", tmp_path / "s.h5", "--overwrite")
    assert f"{tmp_path / 's-maps.h5'}: is of an earlier catalogue" in call(*again).stderr
    assert (tmp_path / "s-maps.pdf").exists()
    assert "not drawn" in call(*again, "--explain", "top", 3).stderr
    assert not (tmp_path / "s-maps.pdf").exists()  # it showed other maps
    assert_refused(
        call("score", models[0], tmp_path / "s.npz", "--out", tmp_path / "s.csv", "--explain", "all"),
        "s-maps.h5",
    )


@pytest.mark.parametrize(
    "words", [["top"], ["top", "0"], ["top", "x"], ["all", "3"], ["near"], ["top", "2", "3"]]
)
def test_a_choice_that_is_none_is_refused(words):
    with pytest.raises(UserError, match="near-threshold, near-threshold K, top K or all"):
        scorer.Choice(words, 0.5)


def test_outputs_that_exist_are_kept(models, night, tmp_path):
    for name in ("s.csv-metadata.json", "t.parquet", "u-maps.h5"):
        (tmp_path / name).write_text("mine")
    more = {"s.csv": (), "t.parquet": (), "u.fits": ("--explain", "all")}
    for name, options in more.items():
        assert_refused(call("score", models[0], night, "--out", tmp_path / name, *options), "exists already")
    assert {path.read_text() for path in tmp_path.iterdir()} == {"mine"}


def test_hurried_commands_are_refused_in_one_line(models, night, tmp_path):
    stamps = tmp_path / "s.npz"
    np.savez(stamps, **toy_arrays(n=4, side=21, channels=4))
    assert_refused(call("score", *models), "no stamps are named")
    assert_refused(call("score", stamps, models[0]), "s.npz", "runs first")
    assert_refused(call("score", models[0], night, "--explain", "all"), "--out")
    assert_refused(call("score", models[0], night, "--out", tmp_path / "s.txt"), "s.txt", ".parquet")
    assert_refused(call("score", models[0], night / "a.avro", stamps), "s.npz", "by itself")
    assert_refused(call("score", models[0], night, "--on-bad", "error"), "flag or drop")
    assert_refused(call("score", models[0], tmp_path), "neither a run")
    (tmp_path / "empty.avro").touch()
    assert_refused(call("score", models[0], tmp_path / "empty.avro"), "is empty")
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    assert_refused(
        call("score", models[0], night / "a.avro", tmp_path / "x.png"), "x.png", "begins as neither"
    )
    assert not list(tmp_path.glob("*.csv"))


def test_a_network_of_other_channels_cannot_score_alerts(night, tmp_path):
    other = make_run(tmp_path / "other", channels=["weight"])
    assert_refused(call("score", other, night), "weight", "trained on")


def test_long_tables_are_written_in_groups(tmp_path):
    """More rows than are written together, appended in uneven parts, are the same table in every format."""
    columns = [Column("id", TEXT, "a", "meta.id"), Column("p", "float32", "b", "stat.probability")]
    n, edges = 120_001, [0, 1, 49_999, 50_001, 119_000, 120_001]
    ids, p = np.array([f"i{i}" for i in range(n)], object), np.random.default_rng(0).random(n, np.float32)
    for suffix in ("csv", "parquet", "fits", "h5"):
        with formats.create(tmp_path / f"t.{suffix}", columns, [Fact("version", "V", "1")]) as write:
            for start, stop in itertools.pairwise(edges):
                write({"id": ids[start:stop], "p": p[start:stop]})
        found, _ = read(tmp_path / f"t.{suffix}")
        assert list(found["id"]) == list(ids)
        np.testing.assert_array_equal(np.float32(found["p"]), p)


def test_an_id_too_long_for_fits_is_told(tmp_path):
    columns = [Column("id", TEXT, "a", "meta.id")]
    with pytest.raises(UserError, match=r"65 bytes.*parquet"):
        with formats.create(tmp_path / "t.fits", columns, []) as write:
            write({"id": np.array(["x" * 65], object)})
    assert not list(tmp_path.iterdir())


def test_fits_texts_are_ascii(tmp_path):
    with formats.create(tmp_path / "t.fits", [Column("id", TEXT, "a", "meta.id")], []) as write:
        write({"id": np.array(["objet-é", "0b6c3f1e-6a53-4b9e-9d43-0123456789ab"], object)})
    found, _ = read(tmp_path / "t.fits")
    assert list(found["id"]) == ["objet-\\xe9", "0b6c3f1e-6a53-4b9e-9d43-0123456789ab"]


@pytest.mark.parametrize("words", [["near-threshold", "2"], ["top", "2"], ["all"]])
def test_a_choice_is_the_same_in_one_part_or_many(words):
    p = np.array([0.1, 0.6, np.nan, 0.9, 0.45, 0.6])
    chosen = []
    for edges in ([0, 6], [0, 1, 3, 4, 6]):
        choice = scorer.Choice(words, 0.5)
        for start, stop in itertools.pairwise(edges):
            choice.add({"index": np.arange(start, stop), "probability": p[start:stop]})
        chosen.append(list(choice.indices))
    wanted = {"near-threshold": [4, 1], "top": [3, 1], "all": [0, 1, 3, 4, 5]}[words[0]]
    assert chosen == [wanted, wanted]
