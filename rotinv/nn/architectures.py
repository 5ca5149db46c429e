"""The paper's networks, layer by layer (Table I), and a CAP that is small enough for fractions."""

import math

from rotinv.nn.cyclic import CyclicConcat, CyclicMean, CyclicSlice
from rotinv.nn.layers import Dropout, Flatten, Layer, Shape, ZeroPad
from rotinv.nn.linear import Conv2d, Dense
from rotinv.nn.network import Network
from rotinv.system.errors import UserError, not_known

SMALLEST_STAMP = 13  # pixels; 13 + 6 of padding leaves 4x4 maps before the dense layers
RELU = 0.0
LEAKY_RELU = 0.01  # the slope below zero in Deep-HiTS
DROPOUT = 0.5


def _convolutions(slope: float) -> tuple[Layer, ...]:
    return (
        ZeroPad(3),
        CyclicSlice(),
        Conv2d(32, 4, slope=slope),
        Conv2d(32, 3, pad=1, slope=slope, pool=2),
        Conv2d(64, 3, pad=1, slope=slope),
        Conv2d(64, 3, pad=1, slope=slope),
        Conv2d(64, 3, pad=1, slope=slope, pool=2),
        Flatten(),
    )


def _dense(slope: float, dropout: float) -> tuple[Layer, ...]:
    return (Dense(64, slope), Dropout(dropout, 1), Dense(64, slope), Dropout(dropout, 2))


def _deep_hits(slope: float, dropout: float, classes: int) -> tuple[Layer, ...]:
    return (*_convolutions(slope), CyclicConcat(), *_dense(slope, dropout), Dense(classes))


def _cap(slope: float, dropout: float, classes: int) -> tuple[Layer, ...]:
    return (*_convolutions(slope), *_dense(slope, dropout), CyclicMean(), Dense(classes))


def _cap_mini(slope: float, dropout: float, classes: int) -> tuple[Layer, ...]:
    units = (Flatten(), Dense(3, slope), Dropout(dropout, 1), CyclicMean(), Dense(classes))
    return (ZeroPad(1), CyclicSlice(), Conv2d(2, 4, slope=slope, pool=2), *units)


ARCHITECTURES = {
    "deephits": (_deep_hits, LEAKY_RELU, "Deep-HiTS (Cabrera-Vives et al. 2017)"),
    "deephits-relu": (_deep_hits, RELU, "Deep-HiTS with ReLU"),
    "cap": (_cap, RELU, "cyclic average pooling, the paper's network"),
    "cap-mini": (_cap_mini, RELU, "two filters and three units, to be followed by hand and in fractions"),
}


def build(
    arch: str, size: int = 21, channels: int = 4, dropout: float = DROPOUT, classes: int = 2
) -> Network:
    """Build the network of an architecture; it has no weights yet.

    Parameters
    ----------
    arch : str
        "cap", "deephits", "deephits-relu" or "cap-mini".
    size, channels : int
        Of the stamps, (size, size, channels); at least 13 pixels.
    dropout : float
        The share of units dropped in training.
    classes : int
        How many logits the network gives: by default those of artifact and candidate.

    Returns
    -------
    Network

    Raises
    ------
    UserError
        For an unknown architecture, or stamps below 13 pixels.

    Examples
    --------
    >>> import rotinv
    >>> rotinv.build("cap").size  # parameters
    255490
    """
    if arch not in ARCHITECTURES:
        raise not_known("architecture", arch, ARCHITECTURES)
    if size < SMALLEST_STAMP:
        least = f"{SMALLEST_STAMP}x{SMALLEST_STAMP}"
        raise UserError(f"stamps of {size}x{size} are too small; {arch} needs at least {least}")
    layers, slope, _ = ARCHITECTURES[arch]
    return Network(layers(slope, dropout, classes), (size, size, channels))


def table(network: Network) -> list[tuple[str, int, Shape]]:
    """Table I of the paper for a network: (layer, parameters, output size), convolution and pool apart."""
    rows = [("input", 0, network.in_shape)]
    shape = network.in_shape
    for layer, params, out in zip(network.layers, network.param_shapes, network.out_shapes, strict=True):
        count = sum(math.prod(s) for s in params.values())
        if isinstance(layer, Conv2d):
            rows.append((f"convolution {layer.size}x{layer.size}", count, layer.map_shape(shape)))
            if layer.pool > 1:
                rows.append((f"max-pooling {layer.pool}x{layer.pool}", 0, out))
        else:
            rows.append((_label(layer), count, out))
        shape = out
    return rows


def _label(layer: Layer) -> str:
    if isinstance(layer, ZeroPad):
        return f"{layer.name} {layer.pad}"
    if isinstance(layer, Dropout):
        return f"{layer.name} {layer.rate:g}"
    return layer.name
