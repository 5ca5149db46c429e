"""The layers: frozen descriptions that call a device's kernels; the arrays live in the network.

Every layer has
    init(shape)                         -> Built: the shape of its output and of its parameters
    forward(k, p, x, mode)              -> y, saved
    backward(k, p, g, saved, dy, wanted) -> dx, or None where dx is not wanted; writes the gradients into g
    relevance(k, p, saved, r, rule)     -> R of its input from R of its output
and those with weights also
    explain(k, p, a, saved)             -> y, traced: their forward pass by z+ and z-
    share(k, p, traced, r, rule)        -> c+ and c-, with what they were made from (Shared)
    redistribute(k, shared)             -> R of the input: what their relevance does with them
Some of the others keep a part of R; lost(k, saved, r) names it, line by line of the ledger. Here k is the
device's kernels, p its parameters and g their gradients by name, `saved` what its backward and its
relevance need. A shape is one image's, (h, w, c) or (c,).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

from rotinv.backend import Array, Kernels
from rotinv.errors import UserError
from rotinv.rules import Rule, Term

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


class Layer(Protocol):
    """What the network asks of a layer."""

    @property
    def name(self) -> str: ...
    def init(self, shape: Shape) -> Built: ...
    def forward(self, k: Kernels, p: Params, x: Array, mode: Mode) -> tuple[Array, Any]: ...
    def backward(
        self, k: Kernels, p: Params, g: Params, saved: Any, dy: Array, wanted: bool
    ) -> Array | None: ...
    def relevance(self, k: Kernels, p: Params, saved: Any, r: Array, rule: Rule) -> Array: ...


class Traced(NamedTuple):
    """What Conv2d and Dense keep for their relevance: the input, the winners, z+ and z-."""

    a: Array
    winner: Array | None
    z_pos: Array
    z_neg: Array


class Shared(NamedTuple):
    """How Conv2d and Dense share out R_j, of each output j before activation and pooling."""

    terms: list[Term]
    z_pos: Array
    z_neg: Array
    r: Array
    c_pos: Array
    c_neg: Array


class Affine(NamedTuple):
    """What Conv2d and Dense save: the input a, the output y after activation and pooling, the winners."""

    a: Array
    y: Array
    winner: Array | None


@dataclass(frozen=True)
class ZeroPad:
    """`pad` pixels of zeros on each side of the map."""

    pad: int
    name: ClassVar[str] = "zero padding"

    def init(self, shape: Shape) -> Built:
        h, w, c = shape
        return Built((h + 2 * self.pad, w + 2 * self.pad, c), {})

    def forward(self, k: Kernels, p: Params, x: Array, mode: Mode) -> tuple[Array, None]:
        n, h, w, c = x.shape
        y = k.zeros((n, h + 2 * self.pad, w + 2 * self.pad, c))
        y[:, self.pad : self.pad + h, self.pad : self.pad + w] = x
        return y, None

    def backward(self, k: Kernels, p: Params, g: Params, saved: None, dy: Array, wanted: bool) -> Array:
        inner = slice(self.pad, dy.shape[1] - self.pad)
        return k.asarray(dy[:, inner, inner])

    def relevance(self, k: Kernels, p: Params, saved: None, r: Array, rule: Rule) -> Array:
        return self.backward(k, p, {}, saved, r, True)

    def lost(self, k: Kernels, saved: None, r: Array) -> Params:
        border = r.copy()
        inner = slice(self.pad, r.shape[1] - self.pad)
        border[:, inner, inner] = 0
        return {"crop": border}


@dataclass(frozen=True)
class Conv2d:
    """size x size convolution, activation, and max-pooling of `pool` x `pool` where pool is 2."""

    filters: int
    size: int
    pad: int = 0
    slope: float = 1.0
    pool: int = 1
    name: ClassVar[str] = "convolution"

    def init(self, shape: Shape) -> Built:
        if self.pool not in (1, 2):
            raise UserError(f"{self}: pool must be 1 or 2; for other windows add a MaxPool2d")
        h, w, c = self.map_shape(shape)
        if h < self.pool or w < self.pool:
            raise UserError(f"a map of {shape[0]}x{shape[1]} is too small for {self}; use larger stamps")
        weights = {"w": (self.size, self.size, shape[2], self.filters), "b": (self.filters,)}
        return Built((h // self.pool, w // self.pool, c), weights)

    def map_shape(self, shape: Shape) -> Shape:
        """The shape of z, before pooling."""
        grow = 2 * self.pad - self.size + 1
        return (shape[0] + grow, shape[1] + grow, self.filters)

    def forward(self, k: Kernels, p: Params, x: Array, mode: Mode) -> tuple[Array, Affine]:
        y, index = k.conv2d.forward(x, p["w"], p["b"], self.pad, self.slope, self.pool)
        return y, Affine(x, y, index)

    def backward(
        self, k: Kernels, p: Params, g: Params, saved: Affine, dy: Array, wanted: bool
    ) -> Array | None:
        a, y, index = saved
        shape = (len(a), *self.map_shape(a.shape[1:]))
        dz = k.conv2d.epilogue_backward(dy, y, index, self.slope, shape)
        k.conv2d.backward_params(a, dz, self.pad, g["w"], g["b"])
        return k.conv2d.backward_input(dz, p["w"], self.pad, a.shape) if wanted else None

    def explain(self, k: Kernels, p: Params, a: Array, saved: Affine) -> tuple[Array, Traced]:
        z_pos, z_neg = k.conv2d.contributions(a, p["w"], p["b"], self.pad)
        y = k.conv2d.epilogue(z_pos, z_neg, saved.winner, self.slope)
        return y, Traced(a, saved.winner, z_pos, z_neg)

    def relevance(self, k: Kernels, p: Params, saved: Traced, r: Array, rule: Rule) -> Array:
        return self.redistribute(k, self.share(k, p, saved, r, rule))

    def share(self, k: Kernels, p: Params, saved: Traced, r: Array, rule: Rule) -> Shared:
        """Pooling hands everything to the winner, the activation hands everything on."""
        r = k.conv2d.epilogue_backward(r, r, saved.winner, 1, saved.z_pos.shape)
        return _share(k, self.sums, p, saved, r, rule)

    def sums(self, k: Kernels, terms: list[Term]) -> tuple[Array, Array]:
        """z+ and z- of the terms together."""
        return _added([k.conv2d.contributions(*term, self.pad) for term in terms])

    def redistribute(self, k: Kernels, shared: Shared) -> Array:
        c = shared.c_pos, shared.c_neg
        return _total([k.conv2d.redistribute(a, w, *c, self.pad) for a, w, _ in shared.terms])


@dataclass(frozen=True)
class Dense:
    """`units` weighted sums of a vector, and an activation."""

    units: int
    slope: float = 1.0
    name: ClassVar[str] = "dense"

    def init(self, shape: Shape) -> Built:
        (c,) = shape
        return Built((self.units,), {"w": (c, self.units), "b": (self.units,)})

    def forward(self, k: Kernels, p: Params, x: Array, mode: Mode) -> tuple[Array, Affine]:
        y = k.dense.forward(x, p["w"], p["b"], self.slope)
        return y, Affine(x, y, None)

    def backward(
        self, k: Kernels, p: Params, g: Params, saved: Affine, dy: Array, wanted: bool
    ) -> Array | None:
        dz = k.activation.backward(dy, saved.y, self.slope)
        k.dense.backward_params(saved.a, dz, g["w"], g["b"])
        return k.dense.backward_input(dz, p["w"]) if wanted else None

    def explain(self, k: Kernels, p: Params, a: Array, saved: Affine) -> tuple[Array, Traced]:
        z_pos, z_neg = k.dense.contributions(a, p["w"], p["b"])
        return k.activation.forward(z_pos + z_neg, self.slope), Traced(a, None, z_pos, z_neg)

    def relevance(self, k: Kernels, p: Params, saved: Traced, r: Array, rule: Rule) -> Array:
        return self.redistribute(k, self.share(k, p, saved, r, rule))

    def share(self, k: Kernels, p: Params, saved: Traced, r: Array, rule: Rule) -> Shared:
        return _share(k, self.sums, p, saved, r, rule)

    def sums(self, k: Kernels, terms: list[Term]) -> tuple[Array, Array]:
        """z+ and z- of the terms together."""
        return _added([k.dense.contributions(*term) for term in terms])

    def redistribute(self, k: Kernels, shared: Shared) -> Array:
        c = shared.c_pos, shared.c_neg
        return _total([k.dense.redistribute(a, w, *c) for a, w, _ in shared.terms])


@dataclass(frozen=True)
class Activation:
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
class MaxPool2d:
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
class AveragePool2d:
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
        return k.pool2d.average_relevance(saved, r, self.size)

    def lost(self, k: Kernels, saved: Array, r: Array) -> Params:
        return {"dead": r * (k.pool2d.average_forward(saved, self.size) == 0)}


@dataclass(frozen=True)
class Flatten:
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
class Dropout:
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


def _share(
    k: Kernels, sums: Callable[..., tuple[Array, Array]], p: Params, saved: Traced, r: Array, rule: Rule
) -> Shared:
    """What a convolution and a dense layer have in common: the rule's terms, their sums, its shares."""
    terms = rule.terms(saved.a, p["w"], p["b"])
    if terms is None:
        terms, z = [(saved.a, p["w"], p["b"])], (saved.z_pos, saved.z_neg)
    else:
        terms = [(k.asarray(a), k.asarray(w), k.asarray(b)) for a, w, b in terms]
        z = sums(k, terms)
    return Shared(terms, *z, r, *rule.shares(k, *z, r))


def _added(pairs: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    return _total([pos for pos, _ in pairs]), _total([neg for _, neg in pairs])


def _total(arrays: list[Array]) -> Array:
    total = arrays[0]
    for more in arrays[1:]:
        total = total + more
    return total


def _pooled(shape: Shape, size: int) -> Shape:
    h, w, c = shape
    if h < size or w < size:
        raise UserError(f"a map of {h}x{w} is too small for pooling of {size}; use larger stamps")
    return (h // size, w // size, c)
