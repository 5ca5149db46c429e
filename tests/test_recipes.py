"""Recipes for brokers give the scores of the files: records as dicts, Fink's module, BOOM's model."""

import importlib.util
import logging
import os
import shutil
import sys

import alert_packets
import numpy as np
import pytest
from programs import ROOT, call, make_run

from rotinv.deploy.records import RecordScorer
from rotinv.system.errors import UserError

CHANNELS = ("template", "science", "difference")


def recipe(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / "deploy" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def records(n=6):
    return [
        alert_packets.ztf(f"ZTF18aaaa{'abcdef'[i]}aa", 10 + i, alert_packets.sky(63, i)) for i in range(n)
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(
        tmp_path_factory.mktemp("recipes") / "net", "cap-mini", size=21, channels=CHANNELS, crop=21
    )


@pytest.fixture(scope="module")
def expected(run, tmp_path_factory):
    """p(candidate) of the records, by `rotinv score` of a file."""
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = tmp_path_factory.mktemp("files")
    alert_packets.write_avro(folder / "a.avro", alert_packets.ZTF, records())
    done = call("score", run, folder / "a.avro", "--out", folder / "s.parquet")
    assert done.returncode == 0, done.stderr
    return parquet.read_table(folder / "s.parquet")["probability"].to_numpy()


def test_records_are_scored_as_files_are(run, expected):
    scorer, some = RecordScorer([run]), records()
    rows = scorer(some)
    np.testing.assert_array_equal([row["probability"] for row in rows], expected)
    assert [row["candidate_id"] for row in rows] == [str(one["candid"]) for one in some]
    without = {**some[0], "cutoutScience": None}
    (row,) = scorer([without])
    assert np.isnan(row["probability"]) and row["class"] == -1 and row["flags"]
    assert scorer([]) == []
    with pytest.raises(UserError, match="no survey"):
        scorer([{"what": 1}])


def test_finks_module(run, expected, monkeypatch):
    pandas = pytest.importorskip("pandas")
    monkeypatch.setenv("ROTINV_RUN", str(run))
    some = records()
    frames = [pandas.DataFrame([one[name] for one in some])
              for name in ("candidate", "cutoutScience", "cutoutTemplate", "cutoutDifference")]  # fmt: skip
    found = recipe("fink_science_module").probability(
        pandas.Series([one["objectId"] for one in some]), *frames
    )
    np.testing.assert_array_equal(found.to_numpy(np.float32), expected)


def test_finks_module_in_spark(run, expected, monkeypatch, tmp_path):
    """The pandas UDF in Spark's own Python workers, on structs as Fink's stream has them."""
    sql = pytest.importorskip("pyspark.sql")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    monkeypatch.setenv("ROTINV_RUN", str(run))
    folders = [str(ROOT / "examples" / "deploy"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(folders))
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    images = ["cutoutScience", "cutoutTemplate", "cutoutDifference"]
    candidate = {"jd": "double", "fid": "int", "pid": "bigint", "candid": "bigint", "isdiffpos": "string"}
    candidate |= {"xpos": "float", "ypos": "float", "ra": "double", "magpsf": "float", "scorr": "double"}
    struct = ", ".join(f"{name}: {kind}" for name, kind in candidate.items())
    cutouts = ", ".join(f"{name} struct<fileName: string, stampData: binary>" for name in images)
    schema = f"objectId string, candidate struct<{struct}>, {cutouts}"
    rows = [
        (
            one["objectId"],
            tuple(one["candidate"].get(name) for name in candidate),
            *(("", one[name]["stampData"]) for name in images),
        )
        for one in records()
    ]
    builder = sql.SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    spark = builder.config("spark.sql.warehouse.dir", str(tmp_path)).getOrCreate()
    try:
        monkeypatch.syspath_prepend(folders[0])  # the workers import it by its name, too
        module = importlib.import_module("fink_science_module")
        frame = spark.createDataFrame(rows, schema).withColumn(
            "rotinv", module.rotinv_probability("objectId", "candidate", *images)
        )
        found = {row["objectId"]: row["rotinv"] for row in frame.select("objectId", "rotinv").collect()}
    finally:
        spark.stop()
    np.testing.assert_array_equal(np.float32([found[one["objectId"]] for one in records()]), expected)


def test_ampels_unit(run, expected):
    pytest.importorskip("ampel.abstract.AbsT3Unit")
    from ampel.struct.T3Store import T3Store
    from ampel.view.SnapView import SnapView

    some, module = records(), recipe("ampel_unit")
    images = ("cutoutScience", "cutoutTemplate", "cutoutDifference")
    views = []
    for one in some:
        body = {name: value for name, value in one["candidate"].items() if name != "candid"}
        cutouts = {name: one[name]["stampData"] for name in images}
        point = {"id": one["candid"], "channel": [], "meta": [], "body": body}
        extra = {module.COMPLEMENT: {one["candid"]: cutouts, 5: None}}
        views.append(SnapView(id=one["objectId"], t0=[point], extra=extra))
    views.append(SnapView(id="none"))
    found = module.RotinvScores(run=str(run), logger=logging.getLogger("ampel")).process(
        iter(views), T3Store()
    )
    p = [found[one["objectId"]][str(one["candid"])] for one in some]
    np.testing.assert_array_equal(np.float32(p), expected)
    assert found["none"] == {} and all(len(found[one["objectId"]]) == 1 for one in some)


def test_booms_model(run, expected, tmp_path):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    done = call("export", run, "--format", "onnx", "--out", tmp_path / "net.onnx")
    assert done.returncode == 0, done.stderr
    onnx.save(recipe("boom_model").convert(onnx.load(tmp_path / "net.onnx")), tmp_path / "boom.onnx")
    cutouts = np.stack([alert_packets.sky(63, i) for i in range(6)])[
        :, [1, 0, 2]
    ]  # science, template, difference
    cutouts /= np.linalg.norm(cutouts, axis=(2, 3), keepdims=True)
    session = onnxruntime.InferenceSession(str(tmp_path / "boom.onnx"), providers=["CPUExecutionProvider"])
    (found,) = session.run(["rb_score"], {"input": np.ascontiguousarray(np.moveaxis(cutouts, 1, 3))})
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    other = make_run(tmp_path / "whole", "cap-mini", size=21, channels=CHANNELS)
    assert call("export", other, "--format", "onnx", "--out", tmp_path / "o.onnx").returncode == 0
    with pytest.raises(SystemExit, match="not at all"):
        recipe("boom_model").convert(onnx.load(tmp_path / "o.onnx"))
