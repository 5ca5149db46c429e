"""A kernel's source is spoiled, and which orders of threads notice is found out."""

from collections.abc import Callable, Sequence

import numpy as np

from cuda_emulation.device import ORDERS, EmulatedDevice, EmulationError, built
from rotinv.kernels.cuda import launch


def noticed_by(
    family: str,
    text: str,
    other: str,
    run: Callable[[EmulatedDevice], Sequence[np.ndarray]],
    precision: str,
    right: Sequence[np.ndarray] | None = None,
    flags: Sequence[str] = (),
) -> set[str]:
    """The orders in which a family with `other` in the place of `text` does what no kernel may do, or gives
    other bits than the right one.

    `run` gives what the kernels of a device compute; `right` is that of the right kernels, where it is known.
    """
    source = launch.source(family)
    assert text in source
    spoiled = source.replace(text, other)
    built(family, spoiled, flags)  # that it compiles is not what is noticed
    right = run(EmulatedDevice(precision)) if right is None else right
    on, noticed = EmulatedDevice(precision, changed={family: spoiled}, flags=flags), set()
    for on.order in ORDERS:
        try:
            same = [np.array_equal(a, b, equal_nan=True) for a, b in zip(run(on), right, strict=True)]
        except EmulationError:
            noticed.add(on.order)
            continue
        if not all(same):
            noticed.add(on.order)
    return noticed
