"""The stamp store: an HDF5 file with the groups train, validate and test, checked completely when it is
opened.

Each group holds `stamps` (N, S, S, C) float32 and `label` (1 candidate, 0 artifact), and may hold
`snr`, `kind` (an index into the attribute `kinds`) and `image` (whose stamps stay in one split).
A store of alerts has ALERT_COLUMNS, ids and what the survey says of each, and `flags` (rotinv/alerts/stamp.py
says what each bit means); it has `label` where somebody has labelled the alerts. The root's attributes are
`format`, `channels`, `normalisation` ('none' or 'minmax') and `kinds`. A store of other classes than artifact
and candidate has `classes`, their names by label, and `candidate`, the name of the one that is searched for.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rotinv.stamps.alert_columns import ALERT_COLUMNS, MEASURES, TEXTS, alert_column, refuse_alerts
from rotinv.stamps.classes import TWO, Classes, check_labels
from rotinv.stamps.pixels import NORMALISATIONS
from rotinv.stamps.splits import CHUNK, Split
from rotinv.stamps.store_checks import check_kinds, list_of_texts, read_column, read_dataset
from rotinv.system.errors import UserError
from rotinv.system.hdf5 import create_hdf5, open_hdf5, reading_hdf5

FORMAT = "rotinv-stamps-1"
SPLITS = ("train", "validate", "test")
CHANNELS = ("template", "science", "difference", "snr_difference")  # HiTS's, in its order
_NUMBERS = {"snr": np.float32, "kind": np.uint8, "image": np.int64, "flags": np.uint32}
_COLUMNS = ("snr", "kind", "image")
_ALERT_COLUMNS = ("flags", *ALERT_COLUMNS)


class StampStore:
    """An open stamp store; a context manager that closes it.

    Parameters
    ----------
    path : str or Path
        The HDF5 file.

    Attributes
    ----------
    sizes : dict of str to int
        How many stamps each split has.
    size : int
        The side of the stamps, in pixels.
    channels, kinds : list of str
        The names of the channels, and of the kinds of artifacts.
    classes : Classes
        The names of the labels' classes.
    normalisation : str
        "none" of raw pixels, "minmax" of pixels that are scaled to 0-1.

    Raises
    ------
    UserError
        For anything in the file that is not as the format says.

    Examples
    --------
    >>> import rotinv
    >>> with rotinv.StampStore("survey.h5") as store:
    ...     print(store.sizes, store.size, store.channels)
    ...     print(store.split("test").raw(0, 5).shape)
    {'train': 160, 'validate': 20, 'test': 20} 21 ['difference']
    (5, 21, 21, 1)
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() in (".npy", ".npz"):
            raise UserError(f"{self.path}: is not a stamp store; make one of arrays with rotinv pack")
        refuse_alerts(self.path)
        self._file = open_hdf5(self.path)
        try:
            with reading_hdf5(self.path):
                self._read()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "StampStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; its splits can then read no more pixels."""
        self._file.close()

    @property
    def sizes(self) -> dict[str, int]:
        """The number of stamps of each split; 0 for a split that the file lacks."""
        return {name: len(self._splits[name]) if name in self._splits else 0 for name in SPLITS}

    def split(self, name: str) -> Split:
        """The split of that name. Raises UserError if there is none, or if it is empty."""
        if not self.sizes.get(name):
            what = "is empty" if name in SPLITS else "does not exist"
            full = ", ".join(f"{key} ({size})" for key, size in self.sizes.items() if size) or "none"
            raise UserError(f"{self.path}: split '{name}' {what}; splits with stamps: {full}")
        return self._splits[name]

    def _read(self) -> None:
        path, root = self.path, self._file
        if list_of_texts(root.attrs.get("format")) != [FORMAT]:
            raise UserError(
                f"{path}: is not a stamp store (its attribute 'format' is not '{FORMAT}'); "
                "make one with rotinv pack"
            )
        self.channels = list_of_texts(root.attrs.get("channels"))
        self.kinds = list_of_texts(root.attrs.get("kinds"))
        self.classes = _classes(path, root.attrs)
        self.normalisation = "".join(list_of_texts(root.attrs.get("normalisation")))
        if self.normalisation not in NORMALISATIONS:
            raise UserError(
                f"{path}: normalisation '{self.normalisation}' is unknown; "
                f"the attribute must be one of {', '.join(NORMALISATIONS)}"
            )
        self._splits = {name: self._read_split(name) for name in SPLITS if name in root}
        shapes = {split.shape for split in self._splits.values()}
        if len(shapes) != 1:
            found = ", ".join(f"{name} {split.shape}" for name, split in self._splits.items()) or "no split"
            raise UserError(f"{path}: stamps of all splits must have one shape; found {found}")
        self.size, _, channels = shapes.pop()
        if len(self.channels) != channels:
            raise UserError(
                f"{path}: stamps have {channels} channels, but the attribute 'channels' names "
                f"{len(self.channels)}; name each"
            )

    def _read_split(self, name: str) -> Split:
        group, where = self._file[name], f"{self.path}: {name}"
        if not isinstance(group, h5py.Group):
            raise UserError(f"{where} is not a group; make the store with rotinv pack")
        stamps = read_dataset(where, group, "stamps", "fiu")
        if stamps.ndim != 4 or stamps.shape[1] != stamps.shape[2] or 0 in stamps.shape[1:]:
            raise UserError(f"{where}/stamps has the shape {stamps.shape}; it must be (N, S, S, C)")
        columns: dict[str, Any] = {}
        alerts = {key: alert_column(where, group, key, len(stamps)) for key in ALERT_COLUMNS if key in group}
        if "label" in group or not alerts:
            label = read_column(where, group, "label", "iub", len(stamps))
            columns["label"] = check_labels(f"{where}/label", label, self.classes)
        for key, dtype in _NUMBERS.items():
            if key in group:
                columns[key] = read_column(where, group, key, "fiu" if key == "snr" else "iu", len(stamps))
                if key == "kind":
                    check_kinds(f"{where}/kind", columns[key], len(self.kinds))
                columns[key] = columns[key].astype(dtype)
        columns |= {"channels": tuple(self.channels), "kinds": tuple(self.kinds), "alerts": alerts}
        return Split(self.path, name, stamps, self.normalisation, classes=self.classes, **columns)


def _classes(path: Path, attributes: Mapping[str, Any]) -> Classes:
    """The classes that a store's attributes name; artifact and candidate where they name none."""
    names, candidate = (list_of_texts(attributes.get(key)) for key in ("classes", "candidate"))
    if not names:
        return TWO
    try:
        return Classes.of(names, "".join(candidate) or None)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


class Writer:
    """Appends stamps to a new store (see create_store)."""

    def __init__(self, file: h5py.File, size: int, channels: int, classes: Classes) -> None:
        self._file, self._classes = file, classes
        self._shape = (size, size, channels)
        self._written = 0

    def append(
        self,
        split: str,
        stamps: ArrayLike,
        label: ArrayLike | None,
        snr: ArrayLike | None = None,
        kind: ArrayLike | None = None,
        image: ArrayLike | None = None,
        **alerts: ArrayLike,
    ) -> None:
        """Add stamps (n, S, S, C) with their labels (n,) to a split.

        Missing `snr` is NaN, missing `kind` 0, and without `image` each stamp is an image of its own.
        `label` is None in a store without labels. `alerts` are ALERT_COLUMNS and `flags`, in a store of
        alerts; of what is not given texts are empty, numbers NaN and flags 0.
        """
        pixels = np.asarray(stamps, dtype=np.float32)
        count = len(pixels)
        if pixels.shape != (count, *self._shape):
            raise ValueError(f"stamps of shape {pixels.shape} in a store of {self._shape}")
        columns = {
            "snr": np.full(count, np.nan) if snr is None else np.asarray(snr),
            "kind": np.zeros(count) if kind is None else np.asarray(kind),
            "image": np.arange(self._written, self._written + count) if image is None else np.asarray(image),
            **{name: np.asarray(values) for name, values in alerts.items()},
        }
        if "candidate_id" in self._file[split]:
            empty: dict[str, NDArray] = {name: np.full(count, "", object) for name in TEXTS}
            empty |= {name: np.full(count, np.nan) for name in MEASURES} | {"flags": np.zeros(count)}
            columns = {**empty, **columns}
        if label is not None:
            columns["label"] = check_labels("label", np.asarray(label), self._classes)
        for name, values in columns.items():
            if values.shape != (count,):
                raise ValueError(f"{name} of shape {values.shape} for {count} stamps")
            if name == "image" and count and values.max() > np.iinfo(np.int64).max:
                raise UserError(f"image {values.max()} is too large a number: a store holds up to 2^63 - 1")
        group = self._file[split]
        for name, values in {"stamps": pixels, **columns}.items():
            dataset = group[name]
            start = len(dataset)
            dataset.resize(start + count, axis=0)
            dataset[start:] = values
        self._written += count

    def note(self, attributes: Mapping[str, Any]) -> None:
        """Add attributes to the store's root."""
        self._file.attrs.update(attributes)


@contextlib.contextmanager
def create_store(
    path: str | Path,
    *,
    channels: Sequence[str],
    size: int,
    normalisation: Literal["none", "minmax"] = "none",
    kinds: Sequence[str] = (),
    classes: Classes = TWO,
    attributes: Mapping[str, Any] | None = None,
    labels: bool = True,
    alerts: bool = False,
    overwrite: bool = False,
) -> Iterator[Writer]:
    """Make a store of stamps (size, size, len(channels)); the file appears whole, or not at all.

    It has labels, unless `labels` is False, and where `alerts` is True the columns of alerts.
    """
    with create_hdf5(path, overwrite=overwrite) as file:
        file.attrs["format"] = FORMAT
        file.attrs["normalisation"] = normalisation
        listed = {"channels": channels, "kinds": kinds}
        if classes != TWO:
            listed["classes"], file.attrs["candidate"] = classes.names, classes.names[classes.candidate]
        for name, texts in listed.items():
            file.attrs.create(name, np.array(list(texts), dtype=object), dtype=h5py.string_dtype())
        file.attrs.update(attributes or {})
        for split in SPLITS:
            columns = [*(["label"] if labels else []), *_COLUMNS, *(_ALERT_COLUMNS if alerts else [])]
            _create_split(file.create_group(split), (size, size, len(channels)), columns)
        yield Writer(file, size, len(channels), classes)


def _create_split(group: h5py.Group, shape: tuple[int, int, int], columns: Sequence[str]) -> None:
    block = max(1, min(CHUNK, (1 << 20) // (4 * int(np.prod(shape)))))  # a block fits HDF5's cache
    group.create_dataset("stamps", (0, *shape), np.float32, maxshape=(None, *shape), chunks=(block, *shape))
    dtypes = {"label": np.uint8, **_NUMBERS, **MEASURES, **dict.fromkeys(TEXTS, h5py.string_dtype())}
    for name in columns:
        group.create_dataset(name, (0,), dtypes[name], maxshape=(None,), chunks=(8192,))
