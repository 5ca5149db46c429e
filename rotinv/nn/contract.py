"""The contract of the kernels: what every device computes, and how precisely. rotinv/nn/devices.py loads a
device.

Arrays: maps are (n, h, w, c), n image, h w pixel, c channel ("NHWC"); vectors are (n, c). Weights of a
convolution are (i, j, c, o), i j the tap, o the output channel; of a dense layer (c, o). The dtype is float32
on cpu and cuda, float64 on the reference. A kernel returns fresh arrays and leaves its inputs alone, except
where it says that it writes into one. Arrays that do not fit together are refused (shapes.py).

Exactness, on every device: an image's result does not depend on its place in the batch; sums over images are
taken in an order that does not depend on the number of threads; sign(0) = +1; of several equal maxima the
first in row-major order wins; sums over the four rotations are (0 + 2) + (1 + 3).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from rotinv.nn.depth_first import ChainKernels, RowKernels, StepKernels, TargetKernels

Array = Any  # numpy.ndarray on reference and cpu, cupy.ndarray on cuda


class Conv2dKernels(Protocol):
    """Convolution (cross-correlation, stride 1, `pad` zeros on each side) with its epilogue.

    z[n,p,q,o] = b[o] + sum_{i,j,c} x[n, p+i-pad, q+j-pad, c] w[i,j,c,o],   p < h + 2 pad - size + 1.
    """

    def forward(
        self, x: Array, w: Array, b: Array, pad: int, slope: float, pool: int
    ) -> tuple[Array, Array | None]:
        """y = max-pool(act(z)), act(z) = z where z > 0 and slope z elsewhere (0 ReLU, 1 identity).

        `pool` is 1 (none) or 2: windows of 2x2, stride 2, where an odd last row or column is dropped. With
        pooling the second result, uint8 and shaped as y, is the place of the maximum in its window, row by
        row, 0..3; without it is None.
        """

    def epilogue_backward(
        self, dy: Array, y: Array, index: Array | None, slope: float, shape: tuple[int, ...]
    ) -> Array:
        """dz, of shape `shape`, from dy: each dy goes to the pixel that won the pooling, times 1 where y > 0
        and slope elsewhere."""

    def backward(
        self,
        x: Array,
        w: Array,
        y: Array,
        index: Array | None,
        dy: Array,
        pad: int,
        slope: float,
        dw: Array,
        db: Array,
        wanted: bool,
    ) -> Array | None:
        """dx, or None where it is not wanted; writes dw and db. With dz = epilogue_backward(dy, …):

            dx[n,h,w,c] = sum_{i,j,o} dz[n, h-i+pad, w-j+pad, o] w[i,j,c,o],
            dw[i,j,c,o] = sum_{n,p,q} x[n, p+i-pad, q+j-pad, c] dz[n,p,q,o],
            db[o] = sum_{n,p,q} dz[n,p,q,o].

        They are one kernel because they share most of their work.
        """

    def contributions(self, x: Array, w: Array, b: Array, pad: int) -> tuple[Array, Array]:
        """z+ and z-: the sums of the positive and of the negative x w, each with b where b has that sign.

        With z_ij = x_i w_ij (Eq. 2), z+_j = b_j^+ + sum_i z_ij^+ and z-_j = b_j^- + sum_i z_ij^-. Each is a
        direct sum of numbers of one sign, so that an empty side is exactly 0. x may be negative. Where two
        windows of x are equal, so are their sums, to the last bit.
        """

    def sums(self, x: Array, w: Array, b: Array, pad: int) -> Array:
        """z = z+ + z-, added up in float64 and rounded once: exact to a rounding where z+ and z- cancel.

        Where two windows of x are equal, so are their sums, to the last bit.
        """

    def epilogue(self, z_pos: Array, z_neg: Array, slope: float, pool: int) -> tuple[Array, Array | None]:
        """y and the winners, as `forward` returns them, from z = z+ + z-."""

    def redistribute(self, x: Array, w: Array, c_pos: Array, c_neg: Array, pad: int) -> Array:
        """R_i = sum_j z_ij^+ c+_j + z_ij^- c-_j, shaped as x."""


class DenseKernels(Protocol):
    """z[n,o] = b[o] + sum_c x[n,c] w[c,o], with the same methods as Conv2dKernels."""

    def forward(self, x: Array, w: Array, b: Array, slope: float) -> Array:
        """y = act(z), act as in Conv2dKernels.forward."""

    def backward_input(self, dz: Array, w: Array) -> Array:
        """dx[n,c] = sum_o dz[n,o] w[c,o]."""

    def backward_params(self, x: Array, dz: Array, dw: Array, db: Array) -> None:
        """Write dw[c,o] = sum_n x[n,c] dz[n,o] and db[o] = sum_n dz[n,o]."""

    def contributions(self, x: Array, w: Array, b: Array) -> tuple[Array, Array]:
        """z+ and z- of each unit, as Conv2dKernels.contributions."""

    def sums(self, x: Array, w: Array, b: Array) -> Array:
        """z of each unit, as Conv2dKernels.sums."""

    def redistribute(self, x: Array, w: Array, c_pos: Array, c_neg: Array) -> Array:
        """R_i = sum_j z_ij^+ c+_j + z_ij^- c-_j, shaped as x."""


class Pool2dKernels(Protocol):
    """Pooling over windows of size x size, with that stride; rows and columns that do not fill a window are
    dropped."""

    def max_forward(self, x: Array, size: int) -> tuple[Array, Array]:
        """y = the window's maximum, and its place in the window, row by row (uint8); the first wins a tie."""

    def max_backward(self, dy: Array, index: Array, size: int, shape: tuple[int, ...]) -> Array:
        """dx, of shape `shape`: dy at the pixel that won, 0 elsewhere. Relevance is handed down in the same
        way."""

    def average_forward(self, x: Array, size: int) -> Array:
        """y = the window's mean."""

    def average_backward(self, dy: Array, size: int, shape: tuple[int, ...]) -> Array:
        """dx, of shape `shape`: dy / size^2 at each pixel of the window."""

    def average_relevance(self, x: Array, r: Array, size: int) -> Array:
        """R_i = x_i / sum(x) R over the window (Eq. 2); 0 where the sum is 0."""


class CyclicKernels(Protocol):
    """The quarter-turn operations, named as by Dieleman et al. 2016.

    A batch of 4n holds [0° × n, 90° × n, 180° × n, 270° × n]. r is a counter-clockwise quarter turn of a map
    (numpy.rot90 over its pixel axes). Maps are square; vectors (n, c) are not turned.
    """

    def slice(self, x: Array) -> Array:
        """S(x) = [x, r x, r² x, r³ x], (4n, h, h, c)."""

    def slice_backward(self, dy: Array) -> Array:
        """The adjoint: dx = (dy_0 + r^-2 dy_2) + (r^-1 dy_1 + r^-3 dy_3). Relevance is summed in the same
        way."""

    def align(self, x: Array) -> Array:
        """Turn each quarter's maps back: [x_0, r^-1 x_1, r^-2 x_2, r^-3 x_3]. Vectors: x itself."""

    def align_backward(self, dy: Array) -> Array:
        """The adjoint of align, which is its inverse."""

    def stack(self, x: Array) -> Array:
        """(4n, …, c) -> (n, …, 4c): the four rotations side by side, [f_0 | f_90 | f_180 | f_270]."""

    def stack_backward(self, dy: Array) -> Array:
        """The adjoint of stack, which is its inverse."""

    def roll(self, x: Array) -> Array:
        """(4n, …, c) -> (4n, …, 4c): quarter k becomes [x_k | x_k+1 | x_k+2 | x_k+3], counted modulo 4."""

    def roll_backward(self, dy: Array) -> Array:
        """The adjoint of roll: part j of quarter k belongs to x_(k+j); summed over j as (0 + 2) + (1 + 3)."""

    def mean(self, x: Array) -> Array:
        """(4n, …) -> (n, …): ((x_0 + x_2) + (x_1 + x_3)) / 4."""

    def mean_backward(self, dy: Array) -> Array:
        """dy / 4 to each of the four."""

    def mean_relevance(self, x: Array, r: Array) -> Array:
        """R_i = x_i / sum(x) R over the four (Eq. 2); 0 where the sum is 0."""

    def max(self, x: Array) -> tuple[Array, Array]:
        """(4n, …) -> (n, …): the largest of the four, and which one it is (uint8, the first wins a tie)."""

    def max_backward(self, dy: Array, index: Array) -> Array:
        """dy to the winner, 0 to the other three."""

    def rms(self, x: Array) -> Array:
        """(4n, …) -> (n, …): sqrt(((x_0² + x_2²) + (x_1² + x_3²)) / 4)."""

    def rms_backward(self, dy: Array, x: Array, y: Array) -> Array:
        """dx = x dy / (4 y); 0 where y is 0."""


class ActivationKernels(Protocol):
    """act(z) = z where z > 0, slope z elsewhere: 0 is ReLU, 0.01 the paper's leaky ReLU."""

    def forward(self, z: Array, slope: float) -> Array:
        """y = act(z)."""

    def backward(self, dy: Array, y: Array, slope: float) -> Array:
        """dz = dy where y > 0, slope dy elsewhere."""


class DropoutKernels(Protocol):
    """Each element is kept with probability 1 - rate; a hash of (seed, step, layer, index) decides
    (reference/dropout.py)."""

    def forward(self, x: Array, rate: float, seed: int, step: int, layer: int) -> Array:
        """y = x / (1 - rate) where kept, 0 elsewhere."""

    def backward(self, dy: Array, rate: float, seed: int, step: int, layer: int) -> Array:
        """dx = dy / (1 - rate) where kept: the same elements as in forward."""


class SoftmaxKernels(Protocol):
    """p_k = exp(z_k) / sum exp(z), for each row."""

    def forward(self, z: Array) -> Array:
        """p, shaped as z (n, classes)."""

    def cross_entropy(self, z: Array, label: Array, weight: Array) -> tuple[Array, Array]:
        """loss (n,) = -w log p_label for each image, where w = weight[label] is its class's weight, and
        dz = w (p - onehot(label)) / n, the gradient of their mean.

        A label that is no class has the loss NaN.
        """


class SgdKernels(Protocol):
    """Plain stochastic gradient descent."""

    def update(self, params: Array, grads: Array, rate: float) -> None:
        """Write params -= rate grads."""


class SharesKernels(Protocol):
    """c+_j and c-_j, the relevance that output j hands down per unit of its z+_j and z-_j; 0/0 = 0.

    `redistribute` then gives the relevance of the inputs, R_i = sum_j z_ij^+ c+_j + z_ij^- c-_j.
    """

    def joint(self, z_pos: Array, z_neg: Array, r: Array, gamma: float, eps: float) -> tuple[Array, Array]:
        """c± = g± R / (g+ z+ + g- z- + eps sign z), z = z+ + z-.

        g is 1 + gamma on the side that has the sign of z, and 1 on the other. Rules 0 and epsilon (Eqs. 2, 3)
        have gamma 0.
        """

    def apart(
        self, z_pos: Array, z_neg: Array, r: Array, alpha: float, beta: float, eps: float, conserve: bool
    ) -> tuple[Array, Array]:
        """c+ = alpha R / (z+ + eps), c- = -beta R / (z- - eps) (Eq. 4).

        With `conserve`, where one side is exactly 0 the other has the weight 1 in place of alpha or -beta.
        """


class Resident(Protocol):
    """A data set's stamps (n, h, w, c) in the memory of a device that is not the host's."""

    def put(self, start: int, stamps: np.ndarray) -> None:
        """Copy stamps there, as the rows from `start` on."""

    def take(self, rows: np.ndarray) -> Array:
        """A batch: the stamps of these rows."""


@dataclass(frozen=True)
class Kernels:
    """A device: its kernels by family, its dtype, and the functions that move arrays to it and back."""

    device: str
    dtype: np.dtype
    conv2d: Conv2dKernels
    dense: DenseKernels
    pool2d: Pool2dKernels
    cyclic: CyclicKernels
    activation: ActivationKernels
    dropout: DropoutKernels
    shares: SharesKernels
    softmax: SoftmaxKernels
    sgd: SgdKernels
    zeros: Callable[[tuple[int, ...]], Array]
    zero_pad: Callable[[Array, int], Array]  # maps with a border of so many zeros
    asarray: Callable[[Any], Array]  # of the device's dtype, contiguous, on the device
    asindex: Callable[[Any], Array]  # int32, on the device: labels
    to_host: Callable[[Array], np.ndarray]
    # Room for a data set of a shape (n, h, w, c) in the device's memory. It gives None if the data
    # set is too large, or if the device's memory is the host's: then each batch is copied when it is needed.
    resident: Callable[[tuple[int, ...]], Resident | None]
    # Prepares a function that is called often with arrays of the same shapes, and only calls kernels and
    # computes with the device's arrays. On a GPU it becomes a graph: numbers reach the kernels as arrays
    # (1,), lists of n numbers as arrays (n,), and what it returns is overwritten by the next call.
    repeated: Callable[[Callable[..., Any]], Callable[..., Any]]
    batch: int  # how many stamps are scored together
    streams: bool  # whether threads, each with its own Kernels, compute at the same time
    steps_at_once: int = 1  # how many training steps one repeated function is best made of
    chain: ChainKernels | None = None  # scoring depth first, on devices that have it
    row: RowKernels | None = None  # a training's convolutions depth first, on devices that have it
    step: StepKernels | None = None  # a training step in few kernels, on devices that have it
    targets: TargetKernels | None = None  # relevance at the logits, where the host would be waited for
    # The same device without the halves of precision "fp16", for stamps that overflow them; None of other
    # precisions.
    in_float32: "Kernels | None" = None
    source: Callable[[], "Kernels"] | None = None  # gives them in another process; None: they cannot go there

    def __reduce__(self) -> tuple[Callable[[], "Kernels"], tuple[()]]:
        """A pickle names what gives the kernels again: no function of a device is in it."""
        if self.source is None:
            raise TypeError(
                f"the kernels of the device {self.device!r} are not get_kernels': no pickle holds them"
            )
        return self.source, ()

    def __deepcopy__(self, memo: Any) -> "Kernels":
        return self  # nothing of them changes


FAMILIES = ("conv2d", "dense", "pool2d", "cyclic", "activation", "dropout", "shares", "softmax", "sgd")
