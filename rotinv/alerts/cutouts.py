"""The images of an alert's cut-outs, in whatever form packets and tables hold them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.alerts.fits_images import STARTS, Image, read_images, variance_of
from rotinv.system.errors import MissingLibrary


def read_cutouts(cutouts: Mapping[str, Any]) -> tuple[dict[str, list[Image]], list[str]]:
    """The images of those cut-outs that are there, by name, and what is wrong with others.

    Of the difference all images are given, for its variance is beside it; of others the first.
    """
    found, wrong = {}, []
    for what, value in cutouts.items():
        try:
            if value is not None and (images := _images(value, what != "difference")):
                found[what] = images
        except MissingLibrary:  # it says nothing of the cut-out
            raise
        except (ValueError, TypeError) as error:
            wrong.append(f"its {what} cut-out: {error}")
    return found, wrong


def variance_with(images: list[Image]) -> NDArray[Any] | None:
    """The variance that comes with an image, from whichever kind of uncertainty is written beside it."""
    found = (variance_of(image.header, image.pixels) for image in images[1:])
    return next((variance for variance in found if variance is not None), None)


def _images(value: Any, only_first: bool) -> list[Image]:
    """A cut-out: FITS bytes, a record around them, or pixels (rows, columns) or in one row of a square."""
    if isinstance(value, Mapping):
        value = value.get("stampData")
    if isinstance(value, ValueError):  # found by the reader of the table
        raise value
    if value is None or len(value) == 0:
        return []
    if isinstance(value, bytes):
        return read_images(value, only_first)
    pixels = np.asarray(value)
    if pixels.dtype.kind not in "fiu":
        raise ValueError(f"it holds {pixels.dtype}, not numbers")
    if pixels.ndim == 1 and (data := _as_bytes(pixels)):
        return read_images(data, only_first)
    side = round(pixels.size**0.5)
    if pixels.ndim == 1 and side * side == pixels.size:
        pixels = pixels.reshape(side, side)
    if pixels.ndim != 2:
        raise ValueError(f"its shape is {pixels.shape}, not (rows, columns)")
    return [Image({}, pixels)]


def _as_bytes(numbers: NDArray[Any]) -> bytes:
    """The bytes of a FITS file that stand in a column as a list of numbers; none if they are pixels.

    Some programs write bytes with a sign, -128 to 127.
    """
    if numbers.dtype.kind not in "iu":
        return b""
    start = numbers[: len(STARTS[0])].astype(np.int64)
    if start.min() < -128 or start.max() > 255 or not start.astype(np.uint8).tobytes().startswith(STARTS):
        return b""
    return numbers.astype(np.uint8).tobytes()
