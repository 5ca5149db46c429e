"""Scoring with CAP, Deep-HiTS and networks like them (ChainKernels): the convolutions depth first, then the
rest layer by layer. The bits are those of the layers one after another."""

from rotinv.kernels.cpu import cyclic, dense
from rotinv.kernels.cpu.winograd import few
from rotinv.kernels.cpu.winograd.depth_first import convolve_stamps, suit_in_a_row
from rotinv.kernels.cpu.winograd.layer_table import Convolution


def takes(form):
    """Whether the convolutions can be taken depth first."""
    filters = [form.in_shape[2], *(one[1] for one in form.convolutions)]
    shapes = [(one[0], one[0], c, one[1]) for c, one in zip(filters, form.convolutions, strict=False)]
    return few.suits(shapes[0]) and suit_in_a_row(shapes, [one[3] for one in form.convolutions])


def forward(form, x, weights, each):
    count = len(form.convolutions)
    pairs = zip(weights, form.convolutions, strict=False)  # the dense layers' weights follow
    convolutions = [Convolution(w, b, pad, form.slope, pool) for (w, b), (_, _, pad, pool) in pairs]
    maps = convolve_stamps(x, form.border, convolutions)
    features, hidden, last = maps.reshape(len(maps), -1), weights[count:-1], weights[-1]
    if form.mean:
        alone = _dense(features, hidden, form.slope)
        units = cyclic.mean(alone)
    else:  # the stamps themselves are the first of the four rotations
        alone = _dense(cyclic.roll(features) if each else cyclic.stack(features), hidden, form.slope)
        units = alone[: len(x)]
    logits = dense.forward(units, *last, 1.0)
    return logits, dense.forward(alone, *last, 1.0).reshape(4, len(x), -1) if each else None, units


def _dense(x, weights, slope):
    for w, b in weights:
        x = dense.forward(x, w, b, slope)
    return x
