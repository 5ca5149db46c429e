"""The contracts of the kernels' optional members (contract.py). Three take several layers at once: a
network's scoring (`chain`) and a training's convolutions in a row (`row`), depth first, and a whole training
step (`step`). The fourth (`targets`) begins a relevance pass without a wait for the host."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

Array = Any  # as in rotinv.nn.contract


class Form(NamedTuple):
    """A network whose layers are CAP's or Deep-HiTS's, with numbers of its own.

    Stamps of `in_shape` (h, w, c) get `border` pixels of zeros and are turned; then come `convolutions`, each
    (size, filters, pad, pool), and dense layers of `dense` units, the last one's being the classes. All but
    the last are activated with `slope`. With `mean` the rotations are averaged before the last dense layer
    (CAP), else they are put side by side before the first (Deep-HiTS).

    `dropouts` are (rate, key) of the dropout after each dense layer but the last; None if there are others.
    """

    in_shape: tuple[int, ...]
    border: int
    convolutions: tuple[tuple[int, int, int, int], ...]
    dense: tuple[int, ...]
    slope: float
    mean: bool
    dropouts: tuple[tuple[float, int], ...] | None


class ChainKernels(Protocol):
    """Scoring a network depth first: the maps of a stamp stay in fast memory from layer to layer."""

    def takes(self, form: Form) -> bool:
        """Whether there is a kernel for networks of this form."""

    def forward(
        self, form: Form, x: Array, weights: list[tuple[Array, Array]], each: bool
    ) -> tuple[Array, Array | None, Array]:
        """The logits (n, classes) of stamps x (n, h, w, c), of a form that it takes.

        `weights` are (w, b) of the layers in a row. The other results are the logits (4, n, classes) of each
        rotation, or None unless `each`, and the units (n, m) that the last layer reads. The logits' bits do
        not depend on `each`.
        """


class Convolution(NamedTuple):
    """One of several convolutions in a row: the arguments of Conv2dKernels.forward, besides x."""

    w: Array
    b: Array
    pad: int
    slope: float
    pool: int


class RowKernels(Protocol):
    """Convolutions in a row, a few images at a time through all of them: y of one is x of the next.

    Results are those of Conv2dKernels.forward and backward one after another, to the last bit.
    """

    def takes(self, row: Sequence[Convolution], wanted: bool) -> bool:
        """Whether there is a kernel for these convolutions; `wanted` as in backward."""

    def forward(self, x: Array, row: Sequence[Convolution]) -> list[tuple[Array, Array | None]]:
        """(y, winners) of each convolution."""

    def backward(
        self,
        x: Array,
        row: Sequence[Convolution],
        kept: Sequence[tuple[Array, Array | None]],
        dy: Array,
        grads: Sequence[tuple[Array, Array]],
        wanted: bool,
    ) -> Array | None:
        """dx, or None where it is not wanted; writes `grads`, (dw, db) of each convolution.

        `kept` is what forward gave, dy the gradient of the last y.
        """


class StepKernels(Protocol):
    """A training step of a whole network: forward, backward and update in few kernels."""

    def takes(self, form: Form) -> bool:
        """Whether there are kernels for networks of this form."""

    def take(
        self,
        form: Form,
        params: Array,
        weights: list[tuple[Array, Array]],
        x: Array,
        label: Array,
        weight: Array,
        seed: int,
        step: int,
        rate: float,
    ) -> Array:
        """Write params -= rate times their gradient, for stamps x (n, h, w, c); gives the loss (n,) of each.

        `weights` are (w, b) of the layers in a row, views of params. `label`, `weight` and the loss are those
        of SoftmaxKernels.cross_entropy, `seed` and `step` those of the dropouts.
        """


class TargetKernels(Protocol):
    """R at the logits, of a class that the device chooses itself, so that nothing waits for the host."""

    def relevance(self, z: Array, what: str, given: int, candidate: int, threshold: float) -> Array:
        """R (n, classes) from logits z: `what` is one of rotinv.lrp.targets.TARGETS.

        The class explained is `given`. Where that is -1, it is `candidate` if its probability is at least the
        threshold, and the most probable of the others if not; where `candidate` is -1 too, that of the
        largest logit. The first of several equal ones counts. Logits are not searched for NaN.
        """
