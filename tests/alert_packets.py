"""Alert files for tests, built as the surveys build them: nested Avro schemas, FITS cut-outs, tables.

The schemas have the surveys' own nesting, names and types (public schemas ztf 4.01 and lsst.v10_0), and of
their some hundred numbers a few of each kind.
"""

import gzip
import io

import numpy as np
import pytest

fastavro = pytest.importorskip("fastavro")
fits = pytest.importorskip("astropy.io.fits")

from rotinv.alerts.files import Alerts  # noqa: E402
from rotinv.alerts.stamp import stamp_of  # noqa: E402

FLOAT, LONG, BOOLEAN = ["null", "float"], ["null", "long"], ["null", "boolean"]


def field(name, kind):
    nullable = isinstance(kind, list)
    return {"name": name, "type": kind, **({"default": None} if nullable else {})}


DETECTION = [
    field("jd", "double"),
    field("fid", "int"),
    field("pid", "long"),
    field("candid", ["null", "long"]),
    field("isdiffpos", ["null", "string"]),
    field("xpos", FLOAT),
    field("ypos", FLOAT),
    field("ra", ["null", "double"]),
    field("magpsf", FLOAT),
    field("scorr", ["null", "double"]),
]
ZTF = {
    "type": "record",
    "name": "alert",
    "namespace": "ztf",
    "version": "4.01",
    "fields": [
        field("schemavsn", "string"),
        field("publisher", "string"),
        field("objectId", "string"),
        field("candid", "long"),
        field(
            "candidate",
            {"type": "record", "name": "candidate", "namespace": "ztf.alert", "fields": DETECTION},
        ),
        field(
            "prv_candidates",
            [
                "null",
                {
                    "type": "array",
                    "items": {
                        "type": "record",
                        "name": "prv_candidate",
                        "namespace": "ztf.alert",
                        "fields": DETECTION,
                    },
                },
            ],
        ),
        field(
            "cutoutScience",
            [
                "null",
                {
                    "type": "record",
                    "name": "cutout",
                    "namespace": "ztf.alert",
                    "fields": [field("fileName", "string"), field("stampData", "bytes")],
                },
            ],
        ),
        field("cutoutTemplate", ["null", "ztf.alert.cutout"]),
        field("cutoutDifference", ["null", "ztf.alert.cutout"]),
    ],
}
SOURCE = {
    "type": "record",
    "name": "diaSource",
    "namespace": "lsst.v10_0",
    "fields": [
        field("diaSourceId", "long"),
        field("visit", "long"),
        field("detector", "int"),
        field("diaObjectId", LONG),
        field("ssObjectId", LONG),
        field("midpointMjdTai", "double"),
        field("ra", "double"),
        field("raErr", FLOAT),
        field("x", "float"),
        field("y", "float"),
        field("isNegative", BOOLEAN),
        field("snr", FLOAT),
        field("psfFlux", FLOAT),
        field("reliability", FLOAT),
        field("band", ["null", "string"]),
    ],
}
RUBIN = {
    "type": "record",
    "name": "alert",
    "namespace": "lsst.v10_0",
    "fields": [
        field("diaSourceId", "long"),
        field("target_name", ["null", "string"]),
        field("diaSource", SOURCE),
        field("prvDiaSources", ["null", {"type": "array", "items": "lsst.v10_0.diaSource"}]),
        field(
            "diaObject",
            [
                "null",
                {
                    "type": "record",
                    "name": "diaObject",
                    "namespace": "lsst.v10_0",
                    "fields": [
                        field("diaObjectId", "long"),
                        field("ra", "double"),
                        field("nDiaSources", "int"),
                    ],
                },
            ],
        ),
        field("cutoutDifference", ["null", "bytes"]),
        field("cutoutScience", ["null", "bytes"]),
        field("cutoutTemplate", ["null", "bytes"]),
    ],
}


def image_bytes(pixels, variance=None, zipped=False):
    """A cut-out as FITS: with a variance as CCDData writes it for Rubin; gzipped as by ZTF."""
    hdus = fits.HDUList([fits.PrimaryHDU(np.asarray(pixels, np.float32))])
    if variance is not None:
        hdus.append(fits.ImageHDU(np.asarray(variance, np.float32), name="UNCERT"))
        hdus[1].header["UTYPE"] = "VarianceUncertainty"
    out = io.BytesIO()
    hdus.writeto(out)
    return gzip.compress(out.getvalue(), mtime=0) if zipped else out.getvalue()


def rubin(number, cutouts, variance=None, **source):
    """An alert of cut-outs (3, rows, columns), template, science, difference; None has no cut-out."""
    template, science, difference = (None if one is None else one for one in cutouts)
    own = {"visit": 1, "detector": 2, "midpointMjdTai": 61000.5, "ra": 10.5, "diaObjectId": number + 7}
    own |= {"x": 1000.75, "y": 2000.75, "isNegative": False}  # the source is at pixel 15 of 30
    source = {"diaSourceId": number, **own, "band": "i", **source}
    return {
        "diaSourceId": number,
        "diaSource": source,
        "prvDiaSources": [{**source, "diaSourceId": number - i} for i in range(1, 4)],
        "diaObject": {"diaObjectId": number + 7, "ra": 10.5, "nDiaSources": 4},
        "cutoutTemplate": None if template is None else image_bytes(template),
        "cutoutScience": None if science is None else image_bytes(science),
        "cutoutDifference": None if difference is None else image_bytes(difference, variance),
    }


def ztf(name, number, cutouts, isdiffpos="t", position=(1500.0, 1500.0)):
    """An alert of cut-outs (3, rows, columns), template, science, difference; None has no cut-out."""
    detection = {"jd": 2460000.5, "fid": 1, "pid": 5, "candid": number, "isdiffpos": isdiffpos, "ra": 1.5}
    detection |= {"xpos": position[0], "ypos": position[1], "scorr": 12.5}
    packed = [
        None if one is None else {"fileName": "c.fits.gz", "stampData": image_bytes(one, zipped=True)}
        for one in cutouts
    ]
    keys = ("cutoutTemplate", "cutoutScience", "cutoutDifference")
    return {
        "schemavsn": "4.01",
        "publisher": "ztf",
        "objectId": name,
        "candid": number,
        "candidate": detection,
        "prv_candidates": [detection] * 3,
        **dict(zip(keys, packed, strict=True)),
    }


def write_avro(path, schema, records, codec="null", sync_interval=16000):
    with open(path, "wb") as file:
        fastavro.writer(file, schema, records, codec=codec, sync_interval=sync_interval)
    return path


def write_fits_images(path, cutouts, variance=None, alerts=None):
    """One alert, or a list of (cut-outs, variance) told apart by EXTVER."""
    hdus = fits.HDUList([fits.PrimaryHDU()])
    for number, (three, var) in enumerate(alerts or [(cutouts, variance)], 1):
        for name, pixels in zip(("TEMPLATE", "SCIENCE", "DIFFERENCE"), three, strict=True):
            hdus.append(fits.ImageHDU(np.asarray(pixels, np.float32), name=name, ver=number))
            hdus[-1].header["CANDID"] = 100 + number
        if var is not None:
            hdus.append(fits.ImageHDU(np.asarray(var, np.float32), name="VARIANCE", ver=number))
    hdus.writeto(path)
    return path


def write_fits_table(path, cutouts, variance, ids):
    n, _, rows, columns = cutouts.shape
    names = ("template", "science", "difference")
    dimension = f"({columns},{rows})"
    table = [
        fits.Column(name, f"{rows * columns}E", dim=dimension, array=cutouts[:, c])
        for c, name in enumerate(names)
    ]
    table.append(fits.Column("variance", f"{rows * columns}E", dim=dimension, array=variance))
    table.append(fits.Column("candidate_id", "K", array=ids))
    table.append(fits.Column("object_id", "20A", array=[f"obj{i}" for i in range(n)]))
    fits.BinTableHDU.from_columns(table).writeto(path)
    return path


def write_parquet(path, cutouts, variance, ids, nested=False):
    """Cut-outs in rows of one list each, or nested in lists of rows."""
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")

    def column(pixels):
        return [one.tolist() if nested else one.ravel().tolist() for one in pixels]

    kind = pa.list_(pa.list_(pa.float32())) if nested else pa.list_(pa.float32())
    names = ("template", "science", "difference")
    table = {name: pa.array(column(cutouts[:, c]), kind) for c, name in enumerate(names)}
    table["variance"] = pa.array(column(variance), kind)
    table |= {
        "candidate_id": pa.array([int(i) for i in ids]),
        "object_id": [f"obj{i}" for i in range(len(ids))],
    }
    parquet.write_table(pa.table(table), path, row_group_size=10)
    return path


SIZE = 21  # of the stamps


def sky(side=63, seed=0):
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
