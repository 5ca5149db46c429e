"""The layers with weights, Conv2d and Dense: z = b + sum a w, an activation, and a pooling where it pays.

Their relevance is shared out by a rule: `share` finds c+ and c-, `redistribute` hands R down.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from rotinv.nn.contract import Array, Kernels
from rotinv.nn.layers import Built, Layer, Mode, Params, Rule, Shape, Term
from rotinv.system.errors import UserError


class Signed(NamedTuple):
    """What `forward_signed` saves: all that `Affine` has, and z+ and z- for the relevance.

    Of an exact z they are its parts: in each place one of the two is 0.
    """

    a: Array
    y: Array
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


class Weighted(Layer):
    """A layer with weights: its relevance is redistribute(share)."""

    def sums(self, k: Kernels, terms: list[Term]) -> tuple[Array, Array]:
        """z+ and z- of a rule's terms together."""
        raise NotImplementedError

    def unpooled(self, k: Kernels, saved: Signed, r: Array) -> Array:
        """R_j of each output before activation and pooling: the activation hands everything on."""
        return r

    def redistribute(self, k: Kernels, shared: Shared) -> Array:
        """R of the input from c+ and c-."""
        raise NotImplementedError

    def share(self, k: Kernels, p: Params, saved: Signed, r: Array, rule: Rule) -> Shared:
        """c+ and c- by the rule, with what they were made from."""
        r = self.unpooled(k, saved, r)
        terms = rule.terms(saved.a, p["w"], p["b"])
        if terms is None:
            terms, z = [(saved.a, p["w"], p["b"])], (saved.z_pos, saved.z_neg)
        else:
            terms = [(k.asarray(a), k.asarray(w), k.asarray(b)) for a, w, b in terms]
            z = self.sums(k, terms)
        return Shared(terms, *z, r, *rule.shares(k, *z, r))

    def relevance(self, k: Kernels, p: Params, saved: Signed, r: Array, rule: Rule) -> Array:
        return self.redistribute(k, self.share(k, p, saved, r, rule))


@dataclass(frozen=True)
class Conv2d(Weighted):
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
        self, k: Kernels, p: Params, g: Params, saved: Affine | Signed, dy: Array, wanted: bool
    ) -> Array | None:
        return k.conv2d.backward(
            saved.a, p["w"], saved.y, saved.winner, dy, self.pad, self.slope, g["w"], g["b"], wanted
        )

    def forward_signed(self, k: Kernels, p: Params, a: Array, exact_z: bool = False) -> tuple[Array, Signed]:
        args = a, p["w"], p["b"], self.pad
        z_pos, z_neg = _parts(k.conv2d.sums(*args)) if exact_z else k.conv2d.contributions(*args)
        y, winner = k.conv2d.epilogue(z_pos, z_neg, self.slope, self.pool)
        return y, Signed(a, y, winner, z_pos, z_neg)

    def unpooled(self, k: Kernels, saved: Signed, r: Array) -> Array:
        """Pooling hands everything to the winner, the activation hands everything on."""
        if saved.winner is None:
            return r
        return k.conv2d.epilogue_backward(r, r, saved.winner, 1, saved.z_pos.shape)

    def sums(self, k: Kernels, terms: list[Term]) -> tuple[Array, Array]:
        return _added([k.conv2d.contributions(*term, self.pad) for term in terms])

    def redistribute(self, k: Kernels, shared: Shared) -> Array:
        c = shared.c_pos, shared.c_neg
        return _total([k.conv2d.redistribute(a, w, *c, self.pad) for a, w, _ in shared.terms])


@dataclass(frozen=True)
class Dense(Weighted):
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
        self, k: Kernels, p: Params, g: Params, saved: Affine | Signed, dy: Array, wanted: bool
    ) -> Array | None:
        dz = k.activation.backward(dy, saved.y, self.slope)
        k.dense.backward_params(saved.a, dz, g["w"], g["b"])
        return k.dense.backward_input(dz, p["w"]) if wanted else None

    def forward_signed(self, k: Kernels, p: Params, a: Array, exact_z: bool = False) -> tuple[Array, Signed]:
        args = a, p["w"], p["b"]
        z_pos, z_neg = _parts(k.dense.sums(*args)) if exact_z else k.dense.contributions(*args)
        y, _ = k.conv2d.epilogue(z_pos[:, None, None], z_neg[:, None, None], self.slope, 1)  # maps of 1x1
        y = y.reshape(z_pos.shape)
        return y, Signed(a, y, None, z_pos, z_neg)

    def sums(self, k: Kernels, terms: list[Term]) -> tuple[Array, Array]:
        return _added([k.dense.contributions(*term) for term in terms])

    def redistribute(self, k: Kernels, shared: Shared) -> Array:
        c = shared.c_pos, shared.c_neg
        return _total([k.dense.redistribute(a, w, *c) for a, w, _ in shared.terms])


def _parts(z: Array) -> tuple[Array, Array]:
    """z where it is positive and where it is negative, 0 elsewhere."""
    return z.clip(0, None), z.clip(None, 0)


def _added(pairs: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    return _total([pos for pos, _ in pairs]), _total([neg for _, neg in pairs])


def _total(arrays: list[Array]) -> Array:
    total = arrays[0]
    for more in arrays[1:]:
        total = total + more
    return total
