"""Augmentation: training stamps mirrored and shifted at random, batch by batch.

Quarter turns are not among the changes: the networks see all four rotations of every stamp anyway.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from rotinv.stamps.pixels import Stamps
from rotinv.system.errors import UserError, not_known

KINDS = ("flips", "shifts")
_FURTHEST = 1  # pixels; a survey's detections are centred to about so much


def checked(kinds: Sequence[str]) -> tuple[str, ...]:
    """The kinds, each once and in the order of KINDS. Raises UserError for others."""
    if isinstance(kinds, str) or not isinstance(kinds, Iterable):
        raise UserError(f"augment {kinds!r}: give a list of {', '.join(KINDS)}")
    for kind in kinds:
        if kind not in KINDS:
            raise not_known("augmentation", kind, KINDS)
    return tuple(kind for kind in KINDS if kind in kinds)


def augmented(stamps: Stamps, kinds: Sequence[str], seed: int, step: int) -> Stamps:
    """The batch (n, s, s, c) of a step, changed at random in the ways that `kinds` names; (seed, step)
    decides how.

    "flips": each stamp is mirrored or not, along each axis. "shifts": each is moved by up to a pixel along
    each axis, and the row or column at the edge is repeated. All channels of a stamp are changed alike.
    """
    rng = np.random.default_rng([seed, 3, step])
    if "flips" in kinds:
        up, left = rng.integers(0, 2, (2, len(stamps)), dtype=bool)
        stamps[up] = stamps[up, ::-1]
        stamps[left] = stamps[left, :, ::-1]
    if "shifts" in kinds:
        side = np.arange(stamps.shape[1])
        moved = side + rng.integers(-_FURTHEST, _FURTHEST + 1, (2, len(stamps), 1))
        rows, columns = np.clip(moved, 0, len(side) - 1)
        stamps = stamps[np.arange(len(stamps))[:, None, None], rows[:, :, None], columns[:, None, :]]
    return stamps
