"""The layers: frozen descriptions that call a device's kernels; the arrays live in the network.

`Layer` says what every layer has; those with weights are in linear.py. Here k is the device's kernels, p a
layer's parameters and g their gradients by name, `saved` what its backward and its relevance need. A shape is
one image's, (h, w, c) or (c,). `Rule` is what a layer asks of a rule of relevance propagation.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from rotinv.nn.contract import Array, Kernels
from rotinv.system.errors import UserError

Shape = tuple[int, ...]
Params = dict[str, Array]


class Built(NamedTuple):
    """What a layer makes of an input's shape."""

    out_shape: Shape
    params: dict[str, Shape]


@dataclass(frozen=True)
class Score:
    """The mode of a forward pass that only wants the scores: no dropout."""


SCORE = Score()


@dataclass(frozen=True)
class Train:
    """The mode of a training step: dropout is drawn from (seed, step)."""

    seed: int
    step: int


Mode = Score | Train


Term = tuple[Array, Array, Array]  # a', w', b': what stands for a, w, b in the products


MeanShares = Literal["proportional", "equal"]
Signs = Literal["z", "R", "none"]


class Taken(NamedTuple):
    """The parts of each R_j that a rule does not hand down in z+_j c+_j + z-_j c-_j, each by its own formula.

    `rounding` is the difference between the device's shares and the rule's equation in float64.
    """

    stabiliser: Array
    one_sided: Array
    dead: Array
    rounding: Array


class Rule(Protocol):
    """What a layer asks of a rule of relevance propagation."""

    @property
    def mean(self) -> MeanShares:
        """How a mean shares R among its inputs a_i: "proportional" to a_i (Eq. 2), or "equal" parts.

        Equal for rules that do not look at their input, such as w² and flat.
        """

    @property
    def divides_by_z(self) -> bool:
        """Whether it divides by z itself, in which z+ and z- may cancel, and so needs an exact z."""

    @property
    def signs(self) -> Signs:
        """Whose sign the relevance of a positive product has.

        That of z_j R_j (Eqs. 2 and 3), so that of R_j = z_j it is positive; that of R_j (Eq. 4), which is
        negative where R_j = z_j < 0; or none of its own.
        """

    @property
    def reads_input(self) -> bool:
        """Whether `terms` looks at the numbers of a, for which the host has to wait for the device."""

    def terms(self, a: Array, w: Array, b: Array) -> list[Term] | None:
        """The terms whose products are shared out; None for a, w, b themselves."""

    def shares(self, k: Kernels, z_pos: Array, z_neg: Array, r: Array) -> tuple[Array, Array]:
        """c+_j and c-_j."""

    def account(self, z_pos: Array, z_neg: Array, r: Array, c_pos: Array, c_neg: Array) -> Taken:
        """What of R_j the shares leave out: R = z+ c+ + z- c- + the lines of `Taken`."""


class Layer:
    """What the network asks of a layer, and what a layer does unless it says otherwise.

    A layer without weights that hands on all relevance needs the first four methods only.
    """

    name: ClassVar[str]

    def init(self, shape: Shape) -> Built:
        """The shape of the output and of the parameters. Raises UserError for a shape that does not fit."""
        raise NotImplementedError

    def forward(self, k: Kernels, p: Params, x: Array, mode: Mode) -> tuple[Array, Any]:
        """The output, and what `backward` and `relevance` need."""
        raise NotImplementedError

    def backward(self, k: Kernels, p: Params, g: Params, saved: Any, dy: Array, wanted: bool) -> Array | None:
        """dx, or None where it is not wanted; the gradients of the parameters are written into g."""
        raise NotImplementedError

    def relevance(self, k: Kernels, p: Params, saved: Any, r: Array, rule: Rule) -> Array:
        """R of the input from R of the output."""
        raise NotImplementedError

    def forward_signed(self, k: Kernels, p: Params, x: Array, exact_z: bool = False) -> tuple[Array, Any]:
        """The output, and what `relevance` and `backward` need.

        Where there are weights it is z+ + z-, each summed by itself, or with `exact_z` a z that is summed in
        float64 and rounded once.
        """
        return self.forward(k, p, x, SCORE)

    def lost(self, k: Kernels, saved: Any, r: Array, rule: Rule) -> Params:
        """The part of R that `relevance` does not hand down, by the names of the ledger's lines.

        A layer that keeps relevance and does not say so here leaves a closing error, and audits fail.
        """
        return {}

    def each_rotation(self, k: Kernels, x: Array) -> Array | None:
        """(4n, …): each rotation on its own, of a layer that brings the four together; None of others."""
        return None


@dataclass(frozen=True)
class ZeroPad(Layer):
    """`pad` pixels of zeros on each side of the map."""

    pad: int
    name: ClassVar[str] = "zero padding"

    def init(self, shape: Shape) -> Built:
        h, w, c = shape
        return Built((h + 2 * self.pad, w + 2 * self.pad, c), {})

    def forward(self, k: Kernels, p: Params, x: Array, mode: Mode) -> tuple[Array, None]:
        return k.zero_pad(x, self.pad), None

    def backward(self, k: Kernels, p: Params, g: Params, saved: None, dy: Array, wanted: bool) -> Array:
        inner = slice(self.pad, dy.shape[1] - self.pad)
        return k.asarray(dy[:, inner, inner])

    def relevance(self, k: Kernels, p: Params, saved: None, r: Array, rule: Rule) -> Array:
        return self.backward(k, p, {}, saved, r, True)

    def lost(self, k: Kernels, saved: None, r: Array, rule: Rule) -> Params:
        border = r.copy()
        inner = slice(self.pad, r.shape[1] - self.pad)
        border[:, inner, inner] = 0
        return {"crop": border}


@dataclass(frozen=True)
class Activation(Layer):
    """act(z) = z where z > 0, slope z elsewhere, on its own."""

    slope: float
    name: ClassVar[str] = "activation"

    def init(self, shape: Shape) -> Built:
        return Built(shape, {})

    def forward(self, k: Kernels, p: Params, x: Array, mode: Mode) -> tuple[Array, Array]:
        y = k.activation.forward(x, self.slope)
        return y, y

    def backward(self, k: Kernels, p: Params, g: Params, saved: Array, dy: Array, wanted: bool) -> Array:
        return k.activation.backward(dy, saved, self.slope)

    def relevance(self, k: Kernels, p: Params, saved: Array, r: Array, rule: Rule) -> Array:
        return r


@dataclass(frozen=True)
class MaxPool2d(Layer):
    """The maximum of each size x size window."""

    size: int
    name: ClassVar[str] = "max-pooling"

    def init(self, shape: Shape) -> Built:
        if not 1 <= self.size <= 16:
            raise UserError(f"{self}: size must be between 1 and 16, for a winner's place is one byte")
        return Built(_pooled(shape, self.size), {})

    def forward(self, k: Kernels, p: Params, x: Array, mode: Mode) -> tuple[Array, tuple[Array, Shape]]:
        y, index = k.pool2d.max_forward(x, self.size)
        return y, (index, x.shape)

    def backward(
        self, k: Kernels, p: Params, g: Params, saved: tuple[Array, Shape], dy: Array, wanted: bool
    ) -> Array:
        index, shape = saved
        return k.pool2d.max_backward(dy, index, self.size, shape)

    def relevance(self, k: Kernels, p: Params, saved: tuple[Array, Shape], r: Array, rule: Rule) -> Array:
        return self.backward(k, p, {}, saved, r, True)  # to the winner


@dataclass(frozen=True)
class AveragePool2d(Layer):
    """The mean of each size x size window."""

    size: int
    name: ClassVar[str] = "average pooling"

    def init(self, shape: Shape) -> Built:
        return Built(_pooled(shape, self.size), {})

    def forward(self, k: Kernels, p: Params, x: Array, mode: Mode) -> tuple[Array, Array]:
        return k.pool2d.average_forward(x, self.size), x

    def backward(self, k: Kernels, p: Params, g: Params, saved: Array, dy: Array, wanted: bool) -> Array:
        return k.pool2d.average_backward(dy, self.size, saved.shape)

    def relevance(self, k: Kernels, p: Params, saved: Array, r: Array, rule: Rule) -> Array:
        if rule.mean == "equal":
            return k.pool2d.average_backward(r, self.size, saved.shape)
        return k.pool2d.average_relevance(saved, r, self.size)

    def lost(self, k: Kernels, saved: Array, r: Array, rule: Rule) -> Params:
        if rule.mean == "equal":
            return {}
        return {"dead": r * (k.pool2d.average_forward(saved, self.size) == 0)}


@dataclass(frozen=True)
class Flatten(Layer):
    """A map (h, w, c) as one vector, row by row."""

    name: ClassVar[str] = "flatten"

    def init(self, shape: Shape) -> Built:
        size = 1
        for extent in shape:
            size *= extent
        return Built((size,), {})

    def forward(self, k: Kernels, p: Params, x: Array, mode: Mode) -> tuple[Array, Shape]:
        return x.reshape(len(x), -1), x.shape

    def backward(self, k: Kernels, p: Params, g: Params, saved: Shape, dy: Array, wanted: bool) -> Array:
        return dy.reshape(saved)

    def relevance(self, k: Kernels, p: Params, saved: Shape, r: Array, rule: Rule) -> Array:
        return r.reshape(saved)


@dataclass(frozen=True)
class Dropout(Layer):
    """In training each element is dropped with probability `rate`; `key` tells the dropouts apart."""

    rate: float
    key: int
    name: ClassVar[str] = "dropout"

    def init(self, shape: Shape) -> Built:
        return Built(shape, {})

    def forward(self, k: Kernels, p: Params, x: Array, mode: Mode) -> tuple[Array, Train | None]:
        if isinstance(mode, Score) or self.rate == 0:
            return x, None
        return k.dropout.forward(x, self.rate, mode.seed, mode.step, self.key), mode

    def backward(
        self, k: Kernels, p: Params, g: Params, saved: Train | None, dy: Array, wanted: bool
    ) -> Array:
        if saved is None:
            return dy
        return k.dropout.backward(dy, self.rate, saved.seed, saved.step, self.key)

    def relevance(self, k: Kernels, p: Params, saved: Train | None, r: Array, rule: Rule) -> Array:
        return r


def _pooled(shape: Shape, size: int) -> Shape:
    h, w, c = shape
    if h < size or w < size:
        raise UserError(f"a map of {h}x{w} is too small for pooling of {size}; use larger stamps")
    return (h // size, w // size, c)
