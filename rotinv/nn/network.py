"""A network: layers in a row, their parameters in one array; one loop forward, one backward.

The parameters of all layers are views of one flat array, and so are the gradients: a step of SGD is one
kernel, an ensemble a list of arrays, moving to a device one copy.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy  # which loads a part of it where that is first used: all would take a third of a start

from rotinv.nn.contract import Array, Kernels
from rotinv.nn.depth_first import Convolution
from rotinv.nn.forms import form_of, rows_of
from rotinv.nn.layers import SCORE, Layer, Mode, Params, Score, Shape
from rotinv.nn.linear import Affine
from rotinv.system.errors import UserError

Tape = list[Any]  # what each layer saved, in the order of the layers


class Rotations(NamedTuple):
    """What `forward_rotations` gives of n stamps: `logits` (n, classes), to the bit those of forward; `each`
    (4, n, classes), of the four rotations; `units` (n, m), what the last layer reads of the stamps."""

    logits: Array
    each: Array
    units: Array


class Network:
    """Layers in a row, with the shapes that they have for stamps of `in_shape`, (size, size, channels).

    `names` tells the layers apart, counted as in Table I: "convolution 2" is the second convolution there,
    with the pooling that follows it; a layer that is the only one of its kind has no number.

    Raises UserError if a layer cannot take the shape that reaches it.
    """

    def __init__(self, layers: Sequence[Layer], in_shape: Shape) -> None:
        self.layers = tuple(layers)
        self.in_shape = tuple(in_shape)
        self.names = numbered([layer.name for layer in self.layers])
        self.out_shapes: list[Shape] = []
        self.param_shapes: list[dict[str, Shape]] = []
        shape = in_shape
        for layer in self.layers:
            shape, params = layer.init(shape)
            self.out_shapes.append(shape)
            self.param_shapes.append(params)
        self.form = form_of(self.layers, self.in_shape)
        self._rows = rows_of(self.layers)
        self.size = sum(math.prod(s) for params in self.param_shapes for s in params.values())

    def initial(self, init: str, seed: int) -> np.ndarray:
        """Fresh parameters, float64.

        init "he": weights normal of std sqrt(2 / fan_in), biases 0 (the paper). init "authors": weights
        normal of std 0.05 truncated at two std, biases 0.05 (the authors' own CAP run).
        """
        rng = np.random.default_rng([seed, 0x696E6974])
        params = np.empty(self.size)
        for views in self.views(params):
            for name, view in views.items():
                view[...] = _draw(rng, init, name, view.shape)
        return params

    def views(self, params: Array) -> list[Params]:
        """A layer's arrays by name, for each layer: views of the flat array."""
        views, start = [], 0
        for shapes in self.param_shapes:
            layer = {}
            for name, shape in shapes.items():
                stop = start + math.prod(shape)
                layer[name] = params[start:stop].reshape(shape)
                start = stop
            views.append(layer)
        return views

    @property
    def weighted(self) -> list[int]:
        """The places of the layers that have parameters."""
        return [i for i, shapes in enumerate(self.param_shapes) if shapes]

    @property
    def ruled(self) -> list[str]:
        """The names of the layers that a rule of relevance can be given to."""
        return [self.names[i] for i in self.weighted]

    def first_trained(self, frozen: int) -> tuple[int, int]:
        """The first layer that is trained, where the first `frozen` of those with parameters are not.

        Gives its place, and where its parameters begin in the flat array; the ends of both if none is left.
        """
        place = [*self.weighted, len(self.layers)][frozen]
        return place, sum(math.prod(s) for params in self.param_shapes[:place] for s in params.values())

    def forward(self, k: Kernels, params: Array, x: Array, mode: Mode = SCORE) -> Array:
        """The logits (n, classes) of stamps (n, h, w, c) as the network reads them: scaled, on the device.

        Raises UserError if stamps or parameters are not of the network's shapes, not of the device's dtype,
        or not contiguous (k.asarray makes them so). Pixels are not searched for NaN and infinity: these make
        the logits of their stamp NaN.

        Examples
        --------
        >>> from rotinv.nn.architectures import build
        >>> from rotinv.nn.devices import get_kernels
        >>> network, k = build("cap-mini", size=13, channels=1), get_kernels("reference")
        >>> params, stamps = k.asarray(network.initial("he", seed=0)), k.asarray(np.ones((2, 13, 13, 1)))
        >>> network.forward(k, params, stamps).shape
        (2, 2)
        """
        self._check(k, params, x)
        if isinstance(mode, Score) and (found := self._depth_first(k, params, x, each=False)):
            return found.logits
        for layer, p in zip(self.layers, self.views(params), strict=True):
            x, _ = layer.forward(k, p, x, mode)
        return x

    def _depth_first(self, k: Kernels, params: Array, x: Array, each: bool) -> Rotations | None:
        """The stamps' scores, where the device has a kernel for the whole network."""
        if k.chain is None or self.form is None or not k.chain.takes(self.form):
            return None
        weights = [(p["w"], p["b"]) for p in self.views(params) if p]
        return Rotations(*k.chain.forward(self.form, x, weights, each))

    def record(self, k: Kernels, params: Array, x: Array, mode: Mode) -> tuple[Array, Tape]:
        """The logits as `forward` gives them, and what each layer saved for its backward pass."""
        self._check(k, params, x)
        views, tape = self.views(params), list[Any]()
        while (i := len(tape)) < len(self.layers):
            row = self._row(k, views, i, self._rows.get(i, i), wanted=False)
            if k.row and row:
                for y, winner in k.row.forward(x, row):
                    tape.append(Affine(x, y, winner))
                    x = y
            else:
                x, saved = self.layers[i].forward(k, views[i], x, mode)
                tape.append(saved)
        return x, tape

    def _row(
        self, k: Kernels, views: list[Params], first: int, last: int, wanted: bool
    ) -> list[Convolution] | None:
        """The convolutions from `first` to `last`, if they are several that the device takes depth first."""
        if k.row is None or first == last:
            return None
        pairs = zip(self.layers[first : last + 1], views[first:], strict=False)
        row = [Convolution(p["w"], p["b"], one.pad, one.slope, one.pool) for one, p in pairs]  # type: ignore[attr-defined]
        return row if k.row.takes(row, wanted) else None

    def _check(self, k: Kernels, params: Array, x: Array) -> None:
        """Raise UserError unless stamps and parameters are what the layers' kernels may read."""
        if not (hasattr(x, "shape") and x.shape[1:] == self.in_shape):
            shape = ", ".join(map(str, self.in_shape))
            raise UserError(f"stamps {_described(x)}: the network reads (n, {shape})")
        if not (hasattr(params, "shape") and params.shape == (self.size,)):
            raise UserError(f"parameters {_described(params)}: the network has {self.size:,} in one row")
        for what, array in (("stamps", x), ("parameters", params)):
            if not _is_of(k, array):
                raise UserError(
                    f"{what} {_described(array)}: the device {k.device} takes contiguous {k.dtype}; make "
                    "them so by asarray of its kernels"
                )

    def backward(
        self,
        k: Kernels,
        params: Array,
        grads: Array,
        tape: Tape,
        dy: Array,
        *,
        to_input: bool = False,
        frozen: int = 0,
    ) -> Array | None:
        """Write the gradients of the parameters into `grads`, given dy at the logits.

        Goes down to the first layer that is trained (see first_trained), or, with `to_input`, to the stamps,
        whose gradient it then returns.
        """
        last = 0 if to_input else self.first_trained(frozen)[0]
        if grads.shape != (self.size,) or not (_is_of(k, grads) and _is_of(k, params)):
            raise UserError(f"gradients {_described(grads)}: the network has {self.size:,} of {k.dtype}")
        p, g, i = self.views(params), self.views(grads), len(self.layers) - 1
        begins = {end: begin for begin, end in self._rows.items()}
        while i >= last:
            first = max(last, begins.get(i, i))
            wanted = to_input or first > last
            row = self._row(k, p, first, i, wanted)
            if k.row and row:
                kept = [(saved.y, saved.winner) for saved in tape[first : i + 1]]
                pairs = [(views["w"], views["b"]) for views in g[first : i + 1]]
                dy = k.row.backward(tape[first].a, row, kept, dy, pairs, wanted)
                i = first
            else:
                dy = self.layers[i].backward(k, p[i], g[i], tape[i], dy, to_input or i > last)
            i -= 1
        return dy if to_input else None

    def record_signed(
        self, k: Kernels, params: Array, x: Array, exact_z: Sequence[bool] | None = None
    ) -> Tape:
        """What each layer saved in a forward pass that sums z as z+ + z-, or exactly where `exact_z` says so.

        Unlike the sums of `forward`, which may be reckoned by a shortcut that rounds otherwise from pixel to
        pixel, these are equal where their inputs are: so pooling's winners do not depend on rounding.
        """
        self._check(k, params, x)
        signed: Tape = []
        exact_z = exact_z or [False] * len(self.layers)
        for layer, p, exact in zip(self.layers, self.views(params), exact_z, strict=True):
            x, saved = layer.forward_signed(k, p, x, exact)
            signed.append(saved)
        return signed

    def forward_rotations(self, k: Kernels, params: Array, x: Array) -> Rotations:
        """The logits of stamps, those of each of their rotations, and the units that the last layer reads.

        A network that averages the rotations gives each one's own logits; one that concatenates them
        gives the logits of the stamps turned by 0, 90, 180 and 270 degrees. What comes before is shared.

        Raises UserError if the network has no cyclic layer: it has one orientation only.
        """
        self._check(k, params, x)
        if found := self._depth_first(k, params, x, each=True):
            return found
        n = len(x)
        alone: Array = None
        units = x
        for layer, p in zip(self.layers, self.views(params), strict=True):
            each = layer.each_rotation(k, x if alone is None else alone)
            if each is not None:
                alone = each
            elif alone is not None:
                alone, _ = layer.forward(k, p, alone, SCORE)
            units = x
            x, _ = layer.forward(k, p, x, SCORE)
        if alone is None:
            raise UserError(
                "the network has no layer that brings rotations together, so none can be told apart"
            )
        return Rotations(x, alone.reshape(4, n, -1), units)


def _described(array: Any) -> str:
    """An argument's shape and dtype, for a message."""
    if not hasattr(array, "shape"):
        return f"as a {type(array).__name__}"
    return f"{array.dtype} {tuple(array.shape)}{'' if array.flags.c_contiguous else ' (not contiguous)'}"


def _is_of(k: Kernels, array: Any) -> bool:
    return bool(array.dtype == k.dtype and array.flags.c_contiguous)


def numbered(kinds: Sequence[str]) -> list[str]:
    """The layers' names: their kinds, counted from 1 where several are alike."""
    met = Counter[str]()
    names = []
    for kind in kinds:
        met[kind] += 1
        names.append(kind if list(kinds).count(kind) == 1 else f"{kind} {met[kind]}")
    return names


def _draw(rng: np.random.Generator, init: str, name: str, shape: Shape) -> np.ndarray | float:
    """Initial values of one array."""
    if init == "he":
        fan_in = math.prod(shape[:-1])
        return rng.normal(0, math.sqrt(2 / fan_in), shape) if name == "w" else 0.0
    if name == "b":
        return 0.05
    return scipy.stats.truncnorm.rvs(-2, 2, scale=0.05, size=shape, random_state=rng)
