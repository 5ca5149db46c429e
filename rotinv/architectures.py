"""Table I of the paper and CAP as data, and the program that prints the table for an architecture."""

import math
from collections.abc import Sequence

from rotinv import cli
from rotinv.cyclic import CyclicConcat, CyclicMean, CyclicSlice
from rotinv.errors import UserError
from rotinv.layers import Dropout, Flatten, Layer, Shape, ZeroPad
from rotinv.linear import Conv2d, Dense
from rotinv.network import Network

SMALLEST_STAMP = 13  # pixels; 13 + 6 of padding leaves 4x4 maps before the dense layers
CLASSES = 2  # artifact 0, candidate 1
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


def _deep_hits(slope: float, dropout: float) -> tuple[Layer, ...]:
    return (*_convolutions(slope), CyclicConcat(), *_dense(slope, dropout), Dense(CLASSES))


def _cap(slope: float, dropout: float) -> tuple[Layer, ...]:
    return (*_convolutions(slope), *_dense(slope, dropout), CyclicMean(), Dense(CLASSES))


def _cap_mini(slope: float, dropout: float) -> tuple[Layer, ...]:
    units = (Flatten(), Dense(3, slope), Dropout(dropout, 1), CyclicMean(), Dense(CLASSES))
    return (ZeroPad(1), CyclicSlice(), Conv2d(2, 4, slope=slope, pool=2), *units)


ARCHITECTURES = {
    "deephits": (_deep_hits, LEAKY_RELU, "Deep-HiTS (Cabrera-Vives et al. 2017)"),
    "deephits-relu": (_deep_hits, RELU, "Deep-HiTS with ReLU"),
    "cap": (_cap, RELU, "cyclic average pooling, the paper's network"),
    "cap-mini": (_cap_mini, RELU, "two filters and three units, to be followed by hand and in fractions"),
}


def build(arch: str, size: int = 21, channels: int = 4, dropout: float = DROPOUT) -> Network:
    """The network `arch` for stamps of size x size pixels and any number of channels.

    Raises UserError for an unknown architecture, or for stamps below 13 pixels.
    """
    if arch not in ARCHITECTURES:
        raise UserError(f"architecture {arch!r} is not known; choose one of {', '.join(ARCHITECTURES)}")
    if size < SMALLEST_STAMP:
        least = f"{SMALLEST_STAMP}x{SMALLEST_STAMP}"
        raise UserError(f"stamps of {size}x{size} are too small; {arch} needs at least {least}")
    layers, slope, _ = ARCHITECTURES[arch]
    return Network(layers(slope, dropout), (size, size, channels))


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


def main(argv: Sequence[str] | None = None) -> int:
    """The program: print Table I."""
    parser = cli.Parser("architectures", "Print Table I of the paper for an architecture.")
    parser.add_argument("arch", help=", ".join(f"{a}: {text}" for a, (*_, text) in ARCHITECTURES.items()))
    parser.add_argument("--size", type=cli.integer(1), default=21, help="side of the stamps in pixels")
    parser.add_argument("--channels", type=cli.integer(1), default=4, help="channels of the stamps")
    options = parser.parse_args(argv)
    network = build(options.arch, options.size, options.channels)
    print(f"{'layer':<26}{'parameters':>12}   output size")
    for name, count, shape in table(network):
        print(f"{name:<26}{count:>12,}   {'x'.join(map(str, shape))}")
    print(f"{'total':<26}{network.size:>12,}")
    return 0


if __name__ == "__main__":
    cli.run("architectures", main)
