"""Checks of a store's groups, dataset by dataset. Each refuses in one line."""

from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from rotinv.system.errors import UserError


def check_kinds(where: str, kind: NDArray[Any], count: int) -> None:
    """Raise UserError, naming the first, for kinds that are not indices into `count` names."""
    wrong = np.flatnonzero((kind < 0) | (kind >= max(count, 1)))
    if len(wrong):
        raise UserError(
            f"{where}: {kind[wrong[0]]} at index {wrong[0]} is no index into the {count} names "
            "of the attribute 'kinds'; name every kind there"
        )


def read_dataset(where: str, group: h5py.Group, name: str, types: str) -> h5py.Dataset:
    """A dataset of numbers of these types (NumPy's letters). Raises UserError for anything else."""
    found = group.get(name)
    if not isinstance(found, h5py.Dataset):
        raise UserError(f"{where} has no dataset '{name}'; make the store with rotinv pack")
    if found.dtype.kind not in types:
        raise UserError(f"{where}/{name} holds {found.dtype}, not numbers; make the store with rotinv pack")
    return found


def read_column(where: str, group: h5py.Group, name: str, types: str, count: int) -> NDArray[Any]:
    """The numbers of a column, one for each stamp. Raises UserError for anything else."""
    found = read_dataset(where, group, name, types)
    if found.shape != (count,):
        raise UserError(f"{where}/{name} has the shape {found.shape}, but there are {count} stamps")
    return np.asarray(found[()])


def list_of_texts(value: Any) -> list[str]:
    """A text attribute as a list of texts: h5py returns one or an array, text or bytes."""
    if value is None or isinstance(value, h5py.Empty):
        return []
    items = np.ravel(np.asarray(value, dtype=object))
    return [item.decode() if isinstance(item, bytes) else str(item) for item in items]
