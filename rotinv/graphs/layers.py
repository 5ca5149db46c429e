"""The layers of a graph: what operators of ONNX compute, and how they hand relevance down.

They are layers of rotinv/nn, on the float64 reference, so that rules and ledger are the same. A layer of a
graph may read several values: `join` makes them one array `a`, and `split` divides R of it again. Maps are
(n, c, h, w).

Most operators are one of two things. `Sums` are weighted sums of elements, each named by its index: sums of
branches, means over windows or axes, and scaling by constants. `Moves` only put elements elsewhere: Reshape,
Concat, Slice, Pad.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rotinv.graphs.windows import Windows
from rotinv.lrp.rules import Epsilon
from rotinv.nn.contract import Kernels
from rotinv.nn.layers import Layer, Params, Rule, Shape, Term
from rotinv.nn.linear import Shared, Signed, Weighted

Indices = NDArray[np.int64]  # of elements in the joined input, row by row; -1 is a zero that padding adds
PROPORTIONAL = Epsilon(0.0)  # Eq. 2, by which sums of branches and means share


@dataclass(frozen=True)
class Inputs:
    """The values that a layer reads, by their shapes."""

    shapes: tuple[Shape, ...]

    def join(self, values: Sequence[NDArray]) -> NDArray:
        """The values as one array: a single one as it is, several in a row."""
        return values[0] if len(values) == 1 else np.concatenate([one.ravel() for one in values])

    def split(self, joined: NDArray) -> list[NDArray]:
        """What `join` put together."""
        sizes = [math.prod(shape) for shape in self.shapes]
        parts = np.split(joined.ravel(), np.cumsum(sizes)[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True)]


class GraphLayer(Layer):
    """What a graph asks of each of its layers, besides `forward_signed`, `relevance` and `lost`."""

    inputs: Inputs

    @property
    def passes(self) -> bool:
        """Whether R of the output is R of the input, element by element, so that nothing is to be told."""
        return False

    def rule(self, rule: Rule) -> Rule:
        """The rule that the layer goes by where a composite gives its place this one."""
        return rule


class Linear(GraphLayer, Weighted):
    """z = b + sum a w without activation. Subclasses say how one term is summed and redistributed."""

    def contributions(
        self, k: Kernels, a: NDArray, w: NDArray, b: NDArray, exact_z: bool
    ) -> tuple[NDArray, NDArray]:
        """z+ and z-; with `exact_z` the parts of z, of which one is 0 in each place."""
        raise NotImplementedError

    def handed_down(self, k: Kernels, a: NDArray, w: NDArray, c_pos: NDArray, c_neg: NDArray) -> NDArray:
        """R_i = sum_j z_ij^+ c+_j + z_ij^- c-_j, shaped as a."""
        raise NotImplementedError

    def forward_signed(
        self, k: Kernels, p: Params, a: NDArray, exact_z: bool = False
    ) -> tuple[NDArray, Signed]:
        z_pos, z_neg = self.contributions(k, a, p["w"], p["b"], exact_z)
        y = z_pos + z_neg
        return y, Signed(a, y, None, z_pos, z_neg)

    def sums(self, k: Kernels, terms: list[Term]) -> tuple[NDArray, NDArray]:
        each = [self.contributions(k, a, w, b, False) for a, w, b in terms]
        return k.asarray(sum(pos for pos, _ in each)), k.asarray(sum(neg for _, neg in each))

    def redistribute(self, k: Kernels, shared: Shared) -> NDArray:
        c = shared.c_pos, shared.c_neg
        return k.asarray(sum(self.handed_down(k, a, w, *c) for a, w, _ in shared.terms))


@dataclass(frozen=True, eq=False)
class Convolution(Linear):
    """A convolution (n, c, h, w) -> (n, o, p, q) in groups: w (o, c / groups, i, j), b (o, 1, 1).

    Each window is a row of a dense layer: windows that are equal then have sums that are equal to the last
    bit, which max-pooling compares.
    """

    inputs: Inputs
    windows: Windows
    groups: int
    name: str = "convolution"  # type: ignore[misc]  # of each layer its own, not of the class

    def contributions(
        self, k: Kernels, a: NDArray, w: NDArray, b: NDArray, exact_z: bool
    ) -> tuple[NDArray, NDArray]:
        shape = self.windows.of(a[:, :1]).shape[:4]
        found = [
            _dense_contributions(k, rows, matrix, own, exact_z)
            for rows, matrix, own in zip(
                self._rows(a), self._matrices(w), np.split(b.ravel(), self.groups), strict=True
            )
        ]
        z_pos, z_neg = (np.concatenate(side, axis=1) for side in zip(*found, strict=True))
        return self._maps(z_pos, shape), self._maps(z_neg, shape)

    def handed_down(self, k: Kernels, a: NDArray, w: NDArray, c_pos: NDArray, c_neg: NDArray) -> NDArray:
        n, c, _, _ = a.shape
        p, q = c_pos.shape[2:]
        rows = []
        for windows, matrix, pos, neg in zip(
            self._rows(a), self._matrices(w), self._split(c_pos), self._split(c_neg), strict=True
        ):
            r = k.dense.redistribute(windows, matrix, pos, neg)
            rows.append(r.reshape(n, p, q, c // self.groups, *self.windows.kernel))
        return self.windows.fold(np.concatenate(rows, axis=3).transpose(0, 3, 1, 2, 4, 5), a.shape)

    def _rows(self, a: NDArray) -> list[NDArray]:
        """The windows of each group, (n p q, c i j)."""
        each = np.split(self.windows.of(a), self.groups, axis=1)
        taps = math.prod(each[0].shape[1:2] + each[0].shape[4:])
        return [np.ascontiguousarray(one.transpose(0, 2, 3, 1, 4, 5)).reshape(-1, taps) for one in each]

    def _matrices(self, w: NDArray) -> list[NDArray]:
        """The weights of each group, (c i j, o)."""
        return [np.ascontiguousarray(one.reshape(len(one), -1).T) for one in np.split(w, self.groups)]

    def _split(self, maps: NDArray) -> list[NDArray]:
        """Maps (n, o, p, q) as rows (n p q, o), those of each group."""
        rows = maps.transpose(0, 2, 3, 1).reshape(-1, maps.shape[1])
        return [np.ascontiguousarray(one) for one in np.split(rows, self.groups, axis=1)]

    def _maps(self, rows: NDArray, shape: Shape) -> NDArray:
        """Rows (n p q, o) as maps (n, o, p, q)."""
        n, _, p, q = shape
        return np.ascontiguousarray(rows.reshape(n, p, q, -1).transpose(0, 3, 1, 2))


@dataclass(frozen=True, eq=False)
class Dense(Linear):
    """Weighted sums over the last axis, (…, c) -> (…, o): w (c, o), b (o,)."""

    inputs: Inputs
    name: str = "dense"  # type: ignore[misc]

    def contributions(
        self, k: Kernels, a: NDArray, w: NDArray, b: NDArray, exact_z: bool
    ) -> tuple[NDArray, NDArray]:
        pos, neg = _dense_contributions(k, self._rows(a), w, b, exact_z)
        shape = (*a.shape[:-1], w.shape[1])
        return pos.reshape(shape), neg.reshape(shape)

    def handed_down(self, k: Kernels, a: NDArray, w: NDArray, c_pos: NDArray, c_neg: NDArray) -> NDArray:
        return k.dense.redistribute(self._rows(a), w, self._rows(c_pos), self._rows(c_neg)).reshape(a.shape)

    def _rows(self, a: NDArray) -> NDArray:
        return np.ascontiguousarray(a).reshape(-1, a.shape[-1])


@dataclass(frozen=True, eq=False)
class Sums(Linear):
    """Sums of m elements each: z_o = b_o + sum_m a[index_om] w_om.

    `index` is (…, m), the axes before the last being the output's; w and b broadcast to (…, m) and (…).
    A sum of branches, a mean, and a scaling without a bias have no rule of their own choice: they share by
    Eq. 2, in proportion to what they sum, or in equal parts under rules that do not look at their input.
    """

    inputs: Inputs
    index: Indices
    name: str  # type: ignore[misc]
    scales: bool = False  # whether it is w a + b of learned w and b, as BatchNormalization is
    biased: bool = False  # whether b is not 0

    def rule(self, rule: Rule) -> Rule:
        return rule if self.biased or rule.mean == "equal" else PROPORTIONAL

    def contributions(
        self, k: Kernels, a: NDArray, w: NDArray, b: NDArray, exact_z: bool
    ) -> tuple[NDArray, NDArray]:
        products = self._taken(a) * w
        if exact_z:
            z = products.sum(axis=-1) + b
            return k.asarray(np.maximum(z, 0)), k.asarray(np.minimum(z, 0))
        z_pos = np.maximum(products, 0).sum(axis=-1) + np.maximum(b, 0)
        z_neg = np.minimum(products, 0).sum(axis=-1) + np.minimum(b, 0)
        return k.asarray(z_pos), k.asarray(z_neg)

    def handed_down(self, k: Kernels, a: NDArray, w: NDArray, c_pos: NDArray, c_neg: NDArray) -> NDArray:
        products = self._taken(a) * w
        r = np.where(products > 0, c_pos[..., None], c_neg[..., None]) * products
        return put_back(self.index, r, a.shape)

    def _taken(self, a: NDArray) -> NDArray:
        return np.append(a.ravel(), 0.0)[self.index]  # -1, the last, is the zero of padding


@dataclass(frozen=True, eq=False)
class Largest(GraphLayer):
    """The largest of m elements each, by `index` (…, m): max-pooling. The first of several takes all."""

    inputs: Inputs
    index: Indices
    name: str = "max-pooling"  # type: ignore[misc]

    def forward_signed(
        self, k: Kernels, p: Params, a: NDArray, exact_z: bool = False
    ) -> tuple[NDArray, tuple[Indices, Shape]]:
        taken = np.append(a.ravel(), -np.inf)[self.index]
        winner = np.take_along_axis(self.index, taken.argmax(axis=-1)[..., None], axis=-1)[..., 0]
        return a.ravel()[winner], (winner, a.shape)

    def relevance(
        self, k: Kernels, p: Params, saved: tuple[Indices, Shape], r: NDArray, rule: Rule
    ) -> NDArray:
        winner, shape = saved
        return put_back(winner, r, shape)


@dataclass(frozen=True, eq=False)
class Moves(GraphLayer):
    """Elements put elsewhere: y = a[index]. What is handed to zeros that padding added is lost as `crop`."""

    inputs: Inputs
    index: Indices
    name: str  # type: ignore[misc]

    @property
    def passes(self) -> bool:
        single = len(self.inputs.shapes) == 1 and self.index.size == math.prod(self.inputs.shapes[0])
        return single and len(np.unique(self.index)) == self.index.size and self.index.min(initial=0) >= 0

    def forward_signed(
        self, k: Kernels, p: Params, a: NDArray, exact_z: bool = False
    ) -> tuple[NDArray, Shape]:
        return np.append(a.ravel(), 0.0)[self.index], a.shape

    def relevance(self, k: Kernels, p: Params, saved: Shape, r: NDArray, rule: Rule) -> NDArray:
        return put_back(self.index, r, saved)

    def lost(self, k: Kernels, saved: Shape, r: NDArray, rule: Rule) -> Params:
        return {"crop": np.where(self.index < 0, r, 0.0)}


@dataclass(frozen=True, eq=False)
class Activation(GraphLayer):
    """A function of each element, which hands on all relevance."""

    inputs: Inputs
    function: Callable[[NDArray], NDArray] = field(repr=False)
    name: str = "activation"  # type: ignore[misc]

    @property
    def passes(self) -> bool:
        return True

    def forward_signed(
        self, k: Kernels, p: Params, a: NDArray, exact_z: bool = False
    ) -> tuple[NDArray, None]:
        return self.function(a), None

    def relevance(self, k: Kernels, p: Params, saved: None, r: NDArray, rule: Rule) -> NDArray:
        return r


def put_back(index: Indices, r: NDArray, shape: Shape) -> NDArray:
    """The sum of r over all places that an element of an array of that shape went to."""
    places = index.ravel() + 1  # bincount counts from 0, which is the zero of padding
    return np.bincount(places, r.ravel(), minlength=math.prod(shape) + 1)[1:].reshape(shape)


def _dense_contributions(
    k: Kernels, rows: NDArray, matrix: NDArray, b: NDArray, exact_z: bool
) -> tuple[NDArray, NDArray]:
    if not exact_z:
        return k.dense.contributions(rows, matrix, b)
    z = k.dense.sums(rows, matrix, b)
    return z.clip(0, None), z.clip(None, 0)
