"""The files of a scoring on a Dask cluster: one file per shard, joined in the order of the stamps."""

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from rotinv.system.errors import UserError
from rotinv.system.hdf5 import create_hdf5, open_hdf5, reading_hdf5

SHARD_FILES = re.compile(r"\d{12}-\d{12}\.h5|maps-\d{8}\.h5")  # what there is in a folder of shards

Rows = dict[str, NDArray[Any]]


def write_shard(path: str | Path, rows: Rows, about: str, problems: Sequence[str]) -> None:
    """Write a shard's file: its columns, a text about what they are of, and what could not be read."""
    with create_hdf5(path, overwrite=True) as file:
        file.attrs["about"] = about
        file["problems"] = np.array(problems, dtype=h5py.string_dtype())
        for name, values in rows.items():
            dtype = h5py.string_dtype() if values.dtype == object else values.dtype
            file.create_dataset(f"rows/{name}", data=values, dtype=dtype)


def read_shard(path: str | Path) -> tuple[Rows, list[str]]:
    with open_hdf5(path) as file, reading_hdf5(path):
        rows = {
            name: one.asstr()[()] if h5py.check_string_dtype(one.dtype) else one[()]
            for name, one in file["rows"].items()
        }
        return rows, list(file["problems"].asstr()[()])


def is_whole_shard(path: str | Path, about: str) -> bool:
    """Whether a shard is there already, for the same stamps, networks and threshold."""
    path = Path(path)
    if not path.exists():
        return False
    with contextlib.suppress(UserError), open_hdf5(path) as file, reading_hdf5(path):
        return bool(file.attrs.get("about") == about)
    return False
