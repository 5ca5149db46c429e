"""What of a network a device may compute depth first (rotinv.nn.depth_first): its form, its rows of
convolutions."""

import itertools
from collections.abc import Sequence

from rotinv.nn.cyclic import CyclicConcat, CyclicMean, CyclicSlice
from rotinv.nn.depth_first import Form
from rotinv.nn.layers import Dropout, Flatten, Layer, Shape, ZeroPad
from rotinv.nn.linear import Conv2d, Dense


def form_of(layers: Sequence[Layer], in_shape: Shape) -> Form | None:
    """The form of layers in a row; None if they are not those of CAP or Deep-HiTS, whatever their numbers."""
    active = [layer for layer in layers if not isinstance(layer, Dropout)]
    convolutions = [layer for layer in active if isinstance(layer, Conv2d)]
    dense = [layer for layer in active if isinstance(layer, Dense)]
    if not (dense and convolutions and isinstance(active[0], ZeroPad)):
        return None
    slope, classes = convolutions[0].slope, dense[-1]
    first = (active[0], CyclicSlice(), *convolutions, Flatten())
    deep_hits, cap = (*first, CyclicConcat(), *dense), (*first, *dense[:-1], CyclicMean(), dense[-1])
    if tuple(active) not in (deep_hits, cap):
        return None
    slopes = {*(layer.slope for layer in convolutions), *(layer.slope for layer in dense[:-1])}
    if slopes != {slope} or classes.slope != 1:
        return None
    return Form(
        tuple(in_shape),
        active[0].pad,
        tuple((layer.size, layer.filters, layer.pad, layer.pool) for layer in convolutions),
        tuple(layer.units for layer in dense),
        slope,
        tuple(active) == cap,
        _dropouts(layers),
    )


def rows_of(layers: Sequence[Layer]) -> dict[int, int]:
    """The rows of two or more convolutions, with nothing between them: the first one's place, and the last
    one's."""
    rows, first = {}, 0
    for place, layer in enumerate([*layers, None]):
        if not isinstance(layer, Conv2d):
            if place - first > 1:
                rows[first] = place - 1
            first = place + 1
    return rows


def _dropouts(layers: Sequence[Layer]) -> tuple[tuple[float, int], ...] | None:
    """(rate, key) of the dropout after each dense layer but the last; None if any lacks it or others are."""
    found = []
    for layer, after in itertools.pairwise(layers):
        if isinstance(after, Dropout) and isinstance(layer, Dense):
            found.append((after.rate, after.key))
    dense = sum(isinstance(layer, Dense) for layer in layers)
    dropouts = sum(isinstance(layer, Dropout) for layer in layers)
    return tuple(found) if len(found) == dropouts == dense - 1 else None
