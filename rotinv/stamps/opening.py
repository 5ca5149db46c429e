"""Opens stamps of either kind: a split of a store, or an array of a .npy or .npz file."""

from pathlib import Path

from rotinv.stamps.arrays import check_shape, read_arrays, split_of_arrays
from rotinv.stamps.classes import TWO, Classes
from rotinv.stamps.splits import Split
from rotinv.stamps.store import StampStore
from rotinv.system.errors import UserError


def has_splits(path: str | Path) -> bool:
    """Whether a file of stamps is a store, judged by its name. Arrays have no splits."""
    return Path(path).suffix.lower() not in (".npy", ".npz")


def open_stamps(
    path: str | Path,
    split: str | None = None,
    *,
    channels: int | None = None,
    size: int | None = None,
    classes: Classes = TWO,
) -> Split:
    """Open stamps to score: a split of a store, or an array of a .npy or .npz file.

    Parameters
    ----------
    path : str or Path
        A stamp store, or an array (N, S, S, C) or (N, C, S, S) of raw pixels. An .npz file may have `label`
        and `snr` beside it.
    split : str, optional
        "train", "validate" or "test", the default, of a store.
    channels, size : int, optional
        The number of channels (a store may have more), and of pixels a side; any by default. `channels` tells
        which axis of an array they are.
    classes : Classes
        What an array's labels mean; a store says so itself.

    Returns
    -------
    Split
        The stamps, which stay on disk until they are asked for; the file is open as long as this is kept.

    Raises
    ------
    UserError
        If the file is missing, damaged or of another kind, for other channels or another size, and for a
        split of an array, which has none.

    Examples
    --------
    >>> import rotinv
    >>> stamps = rotinv.open_stamps("survey.h5", "validate")
    >>> len(stamps), stamps.shape, stamps.channels
    (20, (21, 21, 1), ('difference',))
    """
    path = Path(path)
    if has_splits(path):
        found = StampStore(path).split(split or "test")
        few = channels and found.pixels.shape[3] < channels  # of more, the caller chooses by name
        check_shape(path, found.pixels.shape, channels if few else None, size)
        return found
    if split is not None:
        raise UserError(f"{path}: is an array, which has no splits; leave --split {split} out")
    arrays = read_arrays(path, keep=("label", "snr"))
    return split_of_arrays(path, arrays, channels, size, classes=classes)
