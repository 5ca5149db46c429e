"""Scoring with CAP, Deep-HiTS and networks like them (ChainKernels): the convolutions depth first, then the
rest layer by layer. The bits are those of the layers one after another."""

from rotinv.kernels.cpu import cyclic, dense, winograd, winograd_few
from rotinv.kernels.cpu.depth_first import convolve_stamps
from rotinv.kernels.cpu.layer_table import Convolution


def takes(form):
    """Whether the convolutions can be taken depth first."""
    channels = form.in_shape[2]
    for layer, (size, filters, _, pool) in enumerate(form.convolutions):
        shape = size, size, channels, filters
        if not (winograd.suits(shape) if layer else winograd_few.suits(shape) and pool == 1):
            return False
        channels = filters
    return True


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
