"""A science module for Fink: p(candidate) of each alert, by a network of rotinv, as a pandas UDF.

In Fink's stream a column of this module is added so:

    from fink_science_module import rotinv_probability
    df = df.withColumn("rotinv", rotinv_probability("objectId", "candidate", "cutoutScience",
                                                    "cutoutTemplate", "cutoutDifference"))

ROTINV_RUN names the folder of the run, on every worker. Each Python worker of Spark loads it once, and takes
one thread, for Spark has a worker for each core.
"""

import functools
import os

import pandas as pd

from rotinv.deploy.records import RecordScorer

try:
    from pyspark.sql.functions import pandas_udf
    from pyspark.sql.types import DoubleType
except ImportError:  # without Spark the function is one of pandas
    pandas_udf = None


@functools.cache
def _scorer():
    return RecordScorer([os.environ["ROTINV_RUN"]], threads=1)


def probability(objectId, candidate, cutoutScience, cutoutTemplate, cutoutDifference):
    """p(candidate) of a batch of alerts; NaN where there is no score.

    `objectId` is a Series of texts; the others are frames whose columns are the fields of Spark's structs.
    """
    structs = {
        "candidate": candidate,
        "cutoutScience": cutoutScience,
        "cutoutTemplate": cutoutTemplate,
        "cutoutDifference": cutoutDifference,
    }
    rows = {name: frame.to_dict("records") for name, frame in structs.items()}
    records = [
        {"objectId": name, **{field: values[i] for field, values in rows.items()}}
        for i, name in enumerate(objectId)
    ]
    return pd.Series([row["probability"] for row in _scorer()(records)], dtype="float64")


def _as_udf(function):
    """The function as Spark calls it; its arguments are annotated, for Spark reads the kinds of them."""
    frames = ("candidate", "cutoutScience", "cutoutTemplate", "cutoutDifference")
    function.__annotations__ = {
        "objectId": pd.Series,
        **dict.fromkeys(frames, pd.DataFrame),
        "return": pd.Series,
    }
    return pandas_udf(function, DoubleType())  # a text would need a session, and workers have none


rotinv_probability = _as_udf(probability) if pandas_udf else None
