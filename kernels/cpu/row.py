"""Convolutions in a row, depth first, for training (RowKernels). The bits are those of one after another."""

from rotinv.kernels.cpu.winograd import depth_first, depth_first_gradients, few
from rotinv.kernels.cpu.winograd.layer_table import Convolution


def takes(row, wanted):
    shapes, pools = [w.shape for w, *_ in row], [one[4] for one in row]
    return depth_first.suit_in_a_row(shapes, pools) and not (wanted and few.suits(shapes[0]))


def forward(x, row):
    return depth_first.convolve_all(x, [Convolution(*one) for one in row])


def backward(x, row, kept, dy, grads, wanted):
    return depth_first_gradients.backward(x, [Convolution(*one) for one in row], kept, dy, grads, wanted)
