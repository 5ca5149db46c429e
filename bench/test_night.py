"""A night of alerts from Avro to CSV: the whole program, timed with --benchmark only."""

import gzip
import io

import numpy as np
import processes
import pytest

COUNTS = (500, 4_500)  # alerts: the difference is free of the program's start
CUTOUTS = ("cutoutTemplate", "cutoutScience", "cutoutDifference")


def make_night(path, count):
    """Alerts as ZTF sends them: three zipped images of 63 x 63 pixels, and a history of 30 detections."""
    fastavro, fits = pytest.importorskip("fastavro"), pytest.importorskip("astropy.io.fits")
    rng = np.random.default_rng(0)

    def cutout():
        file = io.BytesIO()
        fits.PrimaryHDU(rng.normal(100, 10, (63, 63)).astype(np.float32)).writeto(file)
        return {"stampData": gzip.compress(file.getvalue(), mtime=0)}

    numbers = [{"name": f"n{i}", "type": ["null", "float"]} for i in range(80)]
    fields = [{"name": "jd", "type": "double"}, {"name": "isdiffpos", "type": "string"}, *numbers]
    detection = {"type": "record", "name": "detection", "fields": fields}
    image = {"type": "record", "name": "cutout", "fields": [{"name": "stampData", "type": "bytes"}]}
    kinds = {"objectId": "string", "candid": "long", "candidate": detection}
    kinds |= {"prv_candidates": {"type": "array", "items": "ztf.detection"}, CUTOUTS[0]: image}
    kinds |= dict.fromkeys(CUTOUTS[1:], "ztf.cutout")
    named = [{"name": name, "type": kind} for name, kind in kinds.items()]
    schema = {"type": "record", "name": "alert", "namespace": "ztf", "fields": named}
    seen = {"jd": 2460000.5, "isdiffpos": "t", **{f"n{i}": float(i) if i % 3 else None for i in range(80)}}
    images = [{name: cutout() for name in CUTOUTS} for _ in range(20)]
    records = (
        {"objectId": f"ZTF25{i:07d}", "candid": i + 1, "candidate": seen, "prv_candidates": [seen] * 30}
        | images[i % 20]
        for i in range(count)
    )
    with path.open("wb") as file:
        fastavro.writer(file, fastavro.parse_schema(schema), records)
    return path


def test_time_from_avro_to_csv(time_process, tmp_path):
    run = tmp_path / "run"
    train = processes.make_store(tmp_path / "train.h5", 400, 100)
    time_process(["rotinv.train", "--data", str(train), "--iterations", "20", "--out", str(run)])
    seconds = []
    for count in (COUNTS[0], *COUNTS):  # the first compiles what no program here has needed before
        night, out = make_night(tmp_path / f"{count}.avro", count), tmp_path / f"{count}.csv"
        command = ["rotinv.score", str(run), str(night), "--out", str(out), "--overwrite"]
        seconds.append(time_process(command)["seconds"])
        assert len(out.read_text().splitlines()) == count + 1
    few, many = seconds[1:]
    print(f"{(COUNTS[1] - COUNTS[0]) / (many - few):,.0f} alerts/s, without the start")
    assert many > few
