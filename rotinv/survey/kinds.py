"""What a stamp shows: the candidates, and the kinds of artifact, in the order of their precedence.

A pixel that several defects touch carries the largest number: a cosmic ray on a galaxy is a cosmic ray.
"""

import numpy as np

from rotinv.system.scratch import njit

KINDS = (
    "candidate",
    "noise peak",
    "galaxy residual",
    "star residual",
    "variable star",
    "dipole",
    "edge",
    "saturation",
    "bad row",
    "hot pixel",
    "dead pixel",
    "cosmic ray",
    "collapsed variance",
    "masked variance",
    "trail (label noise)",
    "transient (label noise)",
)
NUMBER = {name: number for number, name in enumerate(KINDS)}
CANDIDATE = NUMBER["candidate"]
NOISE = NUMBER["noise peak"]
LABEL_NOISE = (NUMBER["trail (label noise)"], NUMBER["transient (label noise)"])


def blank(size: int) -> np.ndarray:
    """A map (size, size) of kinds in which every pixel is noise."""
    return np.full((size, size), NOISE, np.uint8)


@njit()
def paint(kind_map: np.ndarray, y: float, x: float, radius: int, kind: int) -> None:
    """Mark the pixels within `radius` of (y, x), unless something of higher precedence is there."""
    size = kind_map.shape[0]
    row, column = round(y), round(x)
    for i in range(max(row - radius, 0), min(row + radius + 1, size)):
        for j in range(max(column - radius, 0), min(column + radius + 1, size)):
            kind_map[i, j] = max(kind_map[i, j], kind)


@njit()
def read(kind_map: np.ndarray, rows: np.ndarray, columns: np.ndarray, radius: int) -> np.ndarray:
    """The kind of highest precedence within `radius` pixels of each position (N,)."""
    kinds = np.zeros(rows.size, np.uint8)
    size = kind_map.shape[0]
    for n in range(rows.size):
        for i in range(max(rows[n] - radius, 0), min(rows[n] + radius + 1, size)):
            for j in range(max(columns[n] - radius, 0), min(columns[n] + radius + 1, size)):
                kinds[n] = max(kinds[n], kind_map[i, j])
    return kinds
