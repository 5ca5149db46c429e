"""Checks at the door of a device's kernels: what reads by address must get arrays of the right sizes.

Each kernel's arrays are declared in ARRAYS, as the contract has them. `checked` wraps a kernel so that other
arrays are refused; that takes some microseconds, where a kernel takes hundreds.
"""

import functools
import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from rotinv.system.errors import UserError

# An array's extents, a letter each: the same letter is the same extent. "*" and "+" are a whole shape.
ARRAYS = {
    "conv2d.forward": "x:nhwc w:iico b:o",
    "conv2d.epilogue_backward": "dy:npqo y:npqo index:npqo",
    "conv2d.backward": "x:nhwc w:iico y:npqo index:npqo dy:npqo dw:iico db:o",
    "conv2d.contributions": "x:nhwc w:iico b:o",
    "conv2d.sums": "x:nhwc w:iico b:o",
    "conv2d.epilogue": "z_pos:npqo z_neg:npqo",
    "conv2d.redistribute": "x:nhwc w:iico c_pos:npqo c_neg:npqo",
    "dense.forward": "x:nc w:co b:o",
    "dense.backward_input": "dz:no w:co",
    "dense.backward_params": "x:nc dz:no dw:co db:o",
    "dense.contributions": "x:nc w:co b:o",
    "dense.sums": "x:nc w:co b:o",
    "dense.redistribute": "x:nc w:co c_pos:no c_neg:no",
    "pool2d.max_forward": "x:nhwc",
    "pool2d.max_backward": "dy:npqc index:npqc",
    "pool2d.average_forward": "x:nhwc",
    "pool2d.average_backward": "dy:npqc",
    "pool2d.average_relevance": "x:nhwc r:npqc",
    "cyclic.slice": "x:nhhc",
    "cyclic.slice_backward": "dy:nhhc",
    "cyclic.align": "x:*",
    "cyclic.align_backward": "dy:*",
    "cyclic.stack": "x:*",
    "cyclic.stack_backward": "dy:*",
    "cyclic.roll": "x:*",
    "cyclic.roll_backward": "dy:*",
    "cyclic.mean": "x:*",
    "cyclic.mean_backward": "dy:+",
    "cyclic.mean_relevance": "x:* r:+",
    "cyclic.max": "x:*",
    "cyclic.max_backward": "dy:+ index:+",
    "cyclic.rms": "x:*",
    "cyclic.rms_backward": "dy:+ x:* y:+",
    "activation.forward": "z:*",
    "activation.backward": "dy:* y:*",
    "dropout.forward": "x:*",
    "dropout.backward": "dy:*",
    "shares.joint": "z_pos:* z_neg:* r:*",
    "shares.apart": "z_pos:* z_neg:* r:*",
    "softmax.forward": "z:nk",
    "softmax.cross_entropy": "z:nk label:n weight:k",
    "sgd.update": "params:* grads:*",
}
_INTEGERS: dict[str, np.dtype] = {"index": np.dtype(np.uint8), "label": np.dtype(np.int32)}

Sizes = dict[str, Any]  # the extents by their letters; of "*" and "+" the shapes


class _Array(NamedTuple):
    """A declared array: its place among the arguments, its name, its extents, its dtype."""

    place: int
    name: str
    extents: str
    dtype: np.dtype


def checked(name: str, kernel: Callable[..., Any], dtype: np.dtype) -> Callable[..., Any]:
    """A kernel, named as in ARRAYS, that refuses arrays of other sizes than it is made for.

    `dtype` is the device's. The kernel then raises UserError for arrays whose sizes do not go together, of
    another dtype, or not contiguous.
    """
    signature = inspect.signature(kernel)
    places = {parameter: place for place, parameter in enumerate(signature.parameters)}
    pairs = (text.split(":") for text in ARRAYS[name].split())
    arrays = [_Array(places[one], one, extents, _INTEGERS.get(one, dtype)) for one, extents in pairs]
    fits = _FITS.get(name)

    @functools.wraps(kernel)
    def call(*args: Any, **named: Any) -> Any:
        if named:
            args = signature.bind(*args, **named).args
        sizes: Sizes = {}
        for place, _, extents, kind in arrays:
            array = args[place]
            if array is not None and not _take(array, extents, kind, sizes):
                raise _refusal(name, arrays, args)
        if fits is not None and not fits(sizes, args):
            raise _refusal(name, arrays, args)
        return kernel(*args)

    return call


def checked_row(kernels: Any, dtype: np.dtype) -> SimpleNamespace:
    """Kernels for convolutions in a row (rotinv.nn.depth_first), refusing what the single kernels refuse."""
    check_forward = checked("conv2d.forward", lambda x, w, b, pad, slope, pool: None, dtype)
    check_backward = checked(
        "conv2d.backward", lambda x, w, y, index, dy, pad, slope, dw, db, wanted: None, dtype
    )

    def forward(x: Any, row: Any) -> Any:
        check_forward(x, *row[0])  # the others read what the ones before them write
        return kernels.forward(x, row)

    def backward(x: Any, row: Any, kept: Any, dy: Any, grads: Any, wanted: bool) -> Any:
        a = x
        for place, (one, (y, index), pair) in enumerate(zip(row, kept, grads, strict=True)):
            own = dy if place == len(row) - 1 else y  # the others' dy is made on the way
            check_backward(a, one.w, y, index, own, one.pad, one.slope, *pair, wanted)
            a = y
        return kernels.backward(x, row, kept, dy, grads, wanted)

    return SimpleNamespace(takes=kernels.takes, forward=forward, backward=backward)


def _take(array: Any, extents: str, dtype: np.dtype, sizes: Sizes) -> bool:
    """Whether an array is of the dtype, contiguous, and of the extents that are known; others are noted."""
    shape = getattr(array, "shape", None)
    if shape is None or array.dtype != dtype or not array.flags.c_contiguous:
        return False
    if extents in "*+":
        return bool(sizes.setdefault(extents, shape) == shape)
    if len(shape) != len(extents):
        return False
    for letter, extent in zip(extents, shape, strict=True):
        if sizes.setdefault(letter, extent) != extent:
            return False
    return True


def _refusal(name: str, arrays: list[_Array], args: tuple[Any, ...]) -> UserError:
    got = ", ".join(f"{one.name} {_shown(args[one.place])}" for one in arrays)
    wanted = ", ".join(f"{one.name} {one.dtype} ({', '.join(one.extents)})" for one in arrays)
    return UserError(f"kernel {name}: {got} do not fit together; it takes contiguous arrays {wanted}")


def _shown(array: Any) -> str:
    if not hasattr(array, "shape"):
        return type(array).__name__
    return f"{array.dtype} {tuple(array.shape)}{'' if array.flags.c_contiguous else ' not contiguous'}"


# What the letters do not say. `a` are the arguments in the contract's order.


def _windows(s: Sizes, pad: int) -> tuple[int, int]:
    """How many windows a convolution has down and across; (0, 0) where there is none or `pad` is negative."""
    down, across = (s[side] + 2 * pad - s["i"] + 1 for side in "hw")
    return (down, across) if pad >= 0 and s["i"] > 0 and min(down, across) > 0 else (0, 0)


def _is_forward(s: Sizes, a: tuple[Any, ...]) -> bool:
    return _windows(s, a[3]) != (0, 0) and a[5] in (1, 2)


def _is_epilogue_backward(s: Sizes, a: tuple[Any, ...]) -> bool:
    pool = 1 if a[2] is None else 2
    return _is_pooled(tuple(a[4]), (s["n"], s["p"], s["q"], s["o"]), pool)


def _is_backward(s: Sizes, a: tuple[Any, ...]) -> bool:
    pool, (down, across) = 1 if a[3] is None else 2, _windows(s, a[5])
    return down > 0 and (down // pool, across // pool) == (s["p"], s["q"])


def _is_pooled(whole: tuple[int, ...], pooled: tuple[int, ...], size: int) -> bool:
    """Whether maps of a shape (n, h, w, c) give such maps when pooled by windows of size x size."""
    if len(whole) != 4 or size < 1:
        return False
    n, h, w, c = whole
    return (n, h // size, w // size, c) == pooled


def _pools(s: Sizes, a: tuple[Any, ...]) -> bool:
    return 1 <= a[1] <= 16


def _un_pools(s: Sizes, a: tuple[Any, ...]) -> bool:
    size, shape = a[-2:]
    return size <= 16 and _is_pooled(tuple(shape), (s["n"], s["p"], s["q"], s["c"]), size)


def _shares_pooled(s: Sizes, a: tuple[Any, ...]) -> bool:
    return _is_pooled(a[0].shape, a[1].shape, a[2])


def _is_fourfold(s: Sizes, a: tuple[Any, ...]) -> bool:
    """Whether the batch is four quarters, and as large as four times another array, where there is one."""
    whole = s["*"]
    return len(whole) > 1 and whole[0] % 4 == 0 and ("+" not in s or (whole[0] // 4, *whole[1:]) == s["+"])


def _turns(s: Sizes, a: tuple[Any, ...]) -> bool:
    whole = s["*"]
    square = len(whole) == 2 or (len(whole) == 4 and whole[1] == whole[2])
    return square and whole[0] % 4 == 0


def _has_four_parts(s: Sizes, a: tuple[Any, ...]) -> bool:
    return len(s["*"]) > 1 and s["*"][-1] % 4 == 0


_FITS: dict[str, Callable[[Sizes, tuple[Any, ...]], bool]] = {
    "conv2d.forward": _is_forward,
    "conv2d.epilogue_backward": _is_epilogue_backward,
    "conv2d.backward": _is_backward,
    "conv2d.contributions": lambda s, a: _windows(s, a[3]) != (0, 0),
    "conv2d.sums": lambda s, a: _windows(s, a[3]) != (0, 0),
    "conv2d.epilogue": lambda s, a: a[3] in (1, 2),
    "conv2d.redistribute": lambda s, a: _windows(s, a[4]) == (s["p"], s["q"]),
    "pool2d.max_forward": _pools,
    "pool2d.max_backward": _un_pools,
    "pool2d.average_forward": _pools,
    "pool2d.average_backward": _un_pools,
    "pool2d.average_relevance": _shares_pooled,
    "cyclic.slice_backward": lambda s, a: s["n"] % 4 == 0,
    "cyclic.align": _turns,
    "cyclic.align_backward": _turns,
    "cyclic.stack_backward": _has_four_parts,
    "cyclic.roll_backward": lambda s, a: _has_four_parts(s, a) and _is_fourfold(s, a),
    **{f"cyclic.{name}": _is_fourfold for name in ("stack", "roll", "mean", "mean_relevance", "max", "rms")},
    "cyclic.rms_backward": _is_fourfold,
    "softmax.forward": lambda s, a: s["k"] > 0,
    "softmax.cross_entropy": lambda s, a: s["k"] > 0,
}
