"""The cyclic layers of Dieleman et al. (2016) and of the paper (Sec. III): four rotations in one batch.

After `CyclicSlice` a batch of n images is one of 4n, [0° × n, 90° × n, 180° × n, 270° × n]; the other
layers bring the four together. Maps are turned back first; vectors have nothing to turn. The exception is
`CyclicConcat` of Deep-HiTS, which flattens the maps as they are and so only joins vectors.
"""

from dataclasses import dataclass
from typing import ClassVar

from rotinv.nn.contract import Array, Kernels
from rotinv.nn.layers import Built, Layer, Mode, Params, Rule, Shape
from rotinv.system.errors import UserError


@dataclass(frozen=True)
class CyclicSlice(Layer):
    """S(x) = [x, r x, r² x, r³ x]: the batch and its three turned copies."""

    name: ClassVar[str] = "cyclic slice"

    def init(self, shape: Shape) -> Built:
        if len(shape) != 3 or shape[0] != shape[1]:
            raise UserError(f"only square stamps can be turned, and these are {'x'.join(map(str, shape))}")
        return Built(shape, {})

    def forward(self, k: Kernels, p: Params, x: Array, mode: Mode) -> tuple[Array, None]:
        return k.cyclic.slice(x), None

    def backward(self, k: Kernels, p: Params, g: Params, saved: None, dy: Array, wanted: bool) -> Array:
        return k.cyclic.slice_backward(dy)

    def relevance(self, k: Kernels, p: Params, saved: None, r: Array, rule: Rule) -> Array:
        return k.cyclic.slice_backward(r)  # the sum of the four maps, turned back


@dataclass(frozen=True)
class CyclicConcat(Layer):
    """The four rotations of each sample side by side, [f_0 | f_90 | f_180 | f_270] (cyclic stacking)."""

    name: ClassVar[str] = "cyclic concatenation"

    def init(self, shape: Shape) -> Built:
        return Built((*shape[:-1], 4 * shape[-1]), {})

    def forward(self, k: Kernels, p: Params, x: Array, mode: Mode) -> tuple[Array, None]:
        return k.cyclic.stack(k.cyclic.align(x)), None

    def backward(self, k: Kernels, p: Params, g: Params, saved: None, dy: Array, wanted: bool) -> Array:
        return k.cyclic.align_backward(k.cyclic.stack_backward(dy))

    def relevance(self, k: Kernels, p: Params, saved: None, r: Array, rule: Rule) -> Array:
        return self.backward(k, p, {}, saved, r, True)

    def each_rotation(self, k: Kernels, x: Array) -> Array:
        """(4n, …): what this layer would give, at quarter j, for the stamps turned by j."""
        return k.cyclic.roll(k.cyclic.align(x))


@dataclass(frozen=True)
class CyclicRoll(Layer):
    """Each rotation gets all four, itself first: T(x)_k = r^k stack(r^-k x_k, r^-(k+1) x_(k+1), …)."""

    name: ClassVar[str] = "cyclic roll"

    def init(self, shape: Shape) -> Built:
        return Built((*shape[:-1], 4 * shape[-1]), {})

    def forward(self, k: Kernels, p: Params, x: Array, mode: Mode) -> tuple[Array, None]:
        return k.cyclic.align_backward(k.cyclic.roll(k.cyclic.align(x))), None

    def backward(self, k: Kernels, p: Params, g: Params, saved: None, dy: Array, wanted: bool) -> Array:
        return k.cyclic.align_backward(k.cyclic.roll_backward(k.cyclic.align(dy)))

    def relevance(self, k: Kernels, p: Params, saved: None, r: Array, rule: Rule) -> Array:
        return self.backward(k, p, {}, saved, r, True)


@dataclass(frozen=True)
class CyclicMean(Layer):
    """P(x) with p the mean: the paper's cyclic average pooling."""

    name: ClassVar[str] = "cyclic average pooling"

    def init(self, shape: Shape) -> Built:
        return Built(shape, {})

    def forward(self, k: Kernels, p: Params, x: Array, mode: Mode) -> tuple[Array, Array]:
        aligned = k.cyclic.align(x)
        return k.cyclic.mean(aligned), aligned

    def backward(self, k: Kernels, p: Params, g: Params, saved: Array, dy: Array, wanted: bool) -> Array:
        return k.cyclic.align_backward(k.cyclic.mean_backward(dy))

    def relevance(self, k: Kernels, p: Params, saved: Array, r: Array, rule: Rule) -> Array:
        equal = rule.mean == "equal"
        shared = k.cyclic.mean_backward(r) if equal else k.cyclic.mean_relevance(saved, r)
        return k.cyclic.align_backward(shared)

    def lost(self, k: Kernels, saved: Array, r: Array, rule: Rule) -> Params:
        return {} if rule.mean == "equal" else {"dead": r * (k.cyclic.mean(saved) == 0)}

    def each_rotation(self, k: Kernels, x: Array) -> Array:
        """(4n, …): each rotation on its own, not averaged."""
        return k.cyclic.align(x)


@dataclass(frozen=True)
class CyclicMax(Layer):
    """P(x) with p the maximum."""

    name: ClassVar[str] = "cyclic max-pooling"

    def init(self, shape: Shape) -> Built:
        return Built(shape, {})

    def forward(self, k: Kernels, p: Params, x: Array, mode: Mode) -> tuple[Array, Array]:
        return k.cyclic.max(k.cyclic.align(x))

    def each_rotation(self, k: Kernels, x: Array) -> Array:
        """(4n, …): each rotation on its own, not pooled."""
        return k.cyclic.align(x)

    def backward(self, k: Kernels, p: Params, g: Params, saved: Array, dy: Array, wanted: bool) -> Array:
        return k.cyclic.align_backward(k.cyclic.max_backward(dy, saved))

    def relevance(self, k: Kernels, p: Params, saved: Array, r: Array, rule: Rule) -> Array:
        return self.backward(k, p, {}, saved, r, True)  # to the winner


@dataclass(frozen=True)
class CyclicRms(Layer):
    """P(x) with p the root mean square."""

    name: ClassVar[str] = "cyclic root-mean-square pooling"

    def init(self, shape: Shape) -> Built:
        return Built(shape, {})

    def forward(self, k: Kernels, p: Params, x: Array, mode: Mode) -> tuple[Array, tuple[Array, Array]]:
        aligned = k.cyclic.align(x)
        y = k.cyclic.rms(aligned)
        return y, (aligned, y)

    def each_rotation(self, k: Kernels, x: Array) -> Array:
        """(4n, …): each rotation on its own, not pooled."""
        return k.cyclic.align(x)

    def backward(
        self, k: Kernels, p: Params, g: Params, saved: tuple[Array, Array], dy: Array, wanted: bool
    ) -> Array:
        return k.cyclic.align_backward(k.cyclic.rms_backward(dy, *saved))

    def relevance(self, k: Kernels, p: Params, saved: tuple[Array, Array], r: Array, rule: Rule) -> Array:
        raise UserError(f"the layer '{self.name}' has no relevance pass; use cyclic average or max-pooling")
