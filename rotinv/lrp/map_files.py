"""The file of explanations, HDF5: maps as they are, never scaled, written block by block.

The root has `indices` and what else is known of the stamps, and the question as attributes. A group
models/NAME for each model has `maps`, `average`, `logits`, `probability`, and `explained`, the class that
each stamp's maps are of (see Explanation), and the attributes `layer` and `channels`; of other classes than
artifact and candidate also `classes` and `candidate`, and of a network that decides at a threshold of its own
`threshold`.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from rotinv.lrp.attribution import Explanation, Question
from rotinv.stamps.classes import TWO, Classes
from rotinv.system.errors import UserError
from rotinv.system.hdf5 import create_hdf5, open_hdf5

_OTHER_FORMATS = (".npz", ".npy", ".fits", ".csv", ".parquet", ".json", ".png", ".pdf", ".txt")
_ARRAYS = ("logits", "probability", "explained", "maps")  # of an Explanation


class Writer:
    """Appends stamps' explanations to a file that is being made (see create)."""

    def __init__(self, file: h5py.File) -> None:
        self._file = file

    def append(self, columns: Mapping[str, NDArray[Any]], answers: Sequence[Explanation]) -> None:
        """Add n stamps: columns (n,) of what is known of them, with `indices`, and each model's answer."""
        for name, values in columns.items():
            _extend(self._file, name, values)
        for one in answers:
            group = self._file.require_group(f"models/{one.name}")
            group.attrs["layer"] = one.layer
            group.attrs.create("channels", np.array(one.channels, dtype=object), dtype=h5py.string_dtype())
            if one.classes != TWO:
                group.attrs["classes"] = list(one.classes.names)
                group.attrs["candidate"] = one.classes.names[one.classes.candidate]
            if one.threshold is not None:
                group.attrs["threshold"] = one.threshold
            for name in (*_ARRAYS, "average"):
                _extend(group, name, getattr(one, name))


@contextlib.contextmanager
def create(
    path: str | Path, question: Question, about: Mapping[str, Any], *, overwrite: bool = False
) -> Iterator[Writer]:
    """Make a file of explanations; `about` are further attributes.

    Raises UserError as create_hdf5 does, and for a path that is named like another format's.
    """
    check_name(path)
    with create_hdf5(path, overwrite=overwrite) as file:
        rule = question.rule if question.method == "lrp" else ""
        file.attrs.update(method=question.method, rule=rule, target=str(question.target), scale="none")
        file.attrs.update(about)
        yield Writer(file)


def check_name(path: str | Path) -> None:
    """Raise UserError for a path that is named like a file of another format than HDF5."""
    if Path(path).suffix.lower() in _OTHER_FORMATS:
        raise UserError(f"{path}: maps are written as HDF5; name the file .h5")


def read(path: str | Path) -> tuple[dict[str, NDArray[Any]], list[Explanation]]:
    """The columns and the answers of a small file of explanations."""
    with open_hdf5(path) as file:
        columns = {name: one.asstr()[()] if h5py.check_string_dtype(one.dtype) else one[()]
                   for name, one in file.items() if isinstance(one, h5py.Dataset)}  # fmt: skip
        answers = [
            Explanation(
                name,
                group.attrs["layer"],
                tuple(group.attrs["channels"]),
                **{what: group[what][()] for what in _ARRAYS},
                classes=_classes(group.attrs),
                threshold=group.attrs.get("threshold"),
            )
            for name, group in file["models"].items()
        ]
    return columns, answers


def _classes(attributes: Mapping[str, Any]) -> Classes:
    if "classes" not in attributes:
        return TWO
    return Classes.of(list(attributes["classes"]), attributes["candidate"])


def _extend(group: h5py.Group, name: str, values: NDArray[Any]) -> None:
    if name not in group:
        dtype = h5py.string_dtype() if values.dtype == object else values.dtype
        rest, block = values.shape[1:], 1 if values.ndim > 2 else 1024
        group.create_dataset(name, (0, *rest), dtype, maxshape=(None, *rest), chunks=(block, *rest))
    dataset = group[name]
    dataset.resize(len(dataset) + len(values), axis=0)
    dataset[len(dataset) - len(values) :] = values
