"""Seeded defects: a kernel's source is spoiled, and which orders of threads notice is found out."""

from collections.abc import Callable, Sequence

import numpy as np

from cuda_emulation.device import ORDERS, EmulatedDevice, EmulationError, built
from rotinv.kernels.cuda import launch

EVERY, BY_WARPS = frozenset(ORDERS), frozenset(ORDERS[3:])


def noticed_by(
    family: str,
    text: str,
    other: str,
    run: Callable[[EmulatedDevice], Sequence[np.ndarray]],
    precision: str = "tf32",
) -> set[str]:
    """The orders in which a kernel with `other` in the place of `text` fails, or gives other bits than the
    right one. `run` gives what the kernels of a device compute."""
    source = launch.source(family)
    assert source.count(text) == 1
    spoiled = source.replace(text, other)
    built(family, spoiled)  # that it compiles is not what is noticed
    right, noticed = run(EmulatedDevice(precision)), set()
    on = EmulatedDevice(precision, changed={family: spoiled})
    for on.order in ORDERS:
        try:
            found = run(on)
        except EmulationError:
            noticed.add(on.order)
            continue
        if not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(found, right, strict=True)):
            noticed.add(on.order)
    return noticed
