"""What a store keeps of alerts beside their pixels: ids, and what their surveys say of each."""

import contextlib
import shlex
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from rotinv.system.errors import UserError

TEXTS = ("object_id", "candidate_id", "survey", "band", "survey_score_version", "pixel_flags")  # of alerts
MEASURES = {  # as their survey gives them
    **dict.fromkeys(("ra", "dec", "mjd"), np.float64),
    **dict.fromkeys(("magnitude", "flux", "survey_score"), np.float32),
}
ALERT_COLUMNS = (*TEXTS[:3], "ra", "dec", "mjd", "band", *("magnitude", "flux"), "survey_score", *TEXTS[4:])
_FILES = (b"Obj\x01", b"PAR1", b"SIMPLE  =", b"\x1f\x8b")  # what Avro, Parquet and FITS files begin with


def alert_column(where: str, group: h5py.Group, name: str, count: int) -> Any:
    """A column of alerts, left in the file: for ten million alerts it would take too much memory."""
    found, is_text = group[name], name in TEXTS
    kind = getattr(found, "dtype", np.dtype(object))
    right = h5py.check_string_dtype(kind) is not None if is_text else kind.kind == "f"
    if not right or found.shape != (count,):
        what = "texts" if is_text else "numbers"
        raise UserError(
            f"{where}/{name} is no column of {count} {what}; make the store with rotinv import_alerts"
        )
    return found.asstr() if is_text else found


def refuse_alerts(path: str | Path) -> None:
    """Raise UserError, with the remedy, for files of alerts: only score and import_alerts read them."""
    path, start = Path(path), b""
    if path.is_file():
        with contextlib.suppress(OSError), path.open("rb") as file:
            start = file.read(16)
    if start.startswith(_FILES) or path.is_dir():
        what = "is a folder" if path.is_dir() else "holds alerts or images"
        raise UserError(
            f"{path}: {what}, not a stamp store; of alerts make one first: "
            f"rotinv import_alerts {shlex.quote(str(path))} --out alerts.h5"
        )
