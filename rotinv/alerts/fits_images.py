"""The images in a packet's FITS cut-out, some ten times faster than a general reader opens the file.

A night has tens of millions of such cut-outs, of one to three small images each (FITS Standard 4.0, sections
3 to 5 and 7.1): headers of 2880 bytes in cards of 80, and big-endian pixels, value = BZERO + BSCALE stored.
A file of another form, compressed in tiles or with more axes, is left to astropy.
"""

import functools
import io
import math
import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rotinv.alerts.unzip import unzip
from rotinv.system.errors import require_extra
from rotinv.system.files import first_line
from rotinv.system.scratch import njit

_BLOCK, _CARD = 2880, 80
_TYPES = {8: ">u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
_MOST = 1 << 26  # bytes of a cut-out, unpacked: no packet makes this program fill the memory
_USED = ("EXTNAME", "UTYPE", "CRPIX1", "CRPIX2")  # keywords that readers of packets use
_NAMES = (  # the keywords of a header that are read
    *("XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "NAXIS3", "PCOUNT", "GCOUNT"),
    *("BSCALE", "BZERO", "BLANK", "ZIMAGE", *_USED),
)
_LATER = ("CRPIX1", "CRPIX2")  # their cards are kept as they are, for few surveys need them: see crpix_of
_CODES = np.frombuffer("".join(f"{key:8}" for key in (*_NAMES, "END")).encode(), np.uint64)  # END is last
_GZIP = b"\x1f\x8b"
STARTS = (b"SIMPLE  =", _GZIP)  # what the bytes of a cut-out begin with
_Cards = tuple[tuple[str, bytes], ...]  # keywords, and what follows each


class Image(NamedTuple):
    """An image and the keywords of its header."""

    header: dict[str, Any]
    pixels: NDArray[np.floating]  # (rows, columns), float32, or float64 where the file has 32 bits of integer


def read_images(data: bytes, only_first: bool = False) -> list[Image]:
    """The images of two axes in a FITS file, gzipped or plain, in order; or the first alone.

    Raises ValueError if the file is damaged, is no FITS file, or has no such image.
    """
    if data[:2] == _GZIP:
        data = unzip(data, _MOST)
    images, start, plain = [], 0, True
    while start < len(data) and (start == 0 or data[start : start + 8] == b"XTENSION"):
        form, later, length = _header_of(data, start)
        body = start + length
        if form.stored is None or form.size < 0 or body + form.size > len(data):
            raise ValueError("its FITS image is cut off or damaged")
        if form.is_other:
            plain = False
            break
        if form.is_image:
            pixels = _pixels(np.frombuffer(data, form.stored, form.pixels, body), form.header)
            images.append(Image({**form.header, **later}, pixels.reshape(form.shape)))
            if only_first:
                break
        start = body + -(-form.size // _BLOCK) * _BLOCK
    if not plain:
        images = _read_by_astropy(data)
    if not images:
        raise ValueError("its FITS file has no image of two axes")
    return images


def variance_of(header: dict[str, Any], pixels: NDArray[Any]) -> NDArray[Any] | None:
    """The variance that an image of uncertainties holds; None if it is an image of something else.

    UTYPE says of which kind the uncertainty is, as CCDData of astropy writes it; an extension UNCERT
    without UTYPE holds standard deviations, as astropy reads it.
    """
    kind = str(header.get("UTYPE") or header.get("EXTNAME", "")).lower()
    if kind in ("varianceuncertainty", "variance", "var"):
        return pixels
    if kind in ("stddevuncertainty", "uncert", "uncertainty", "stddev"):
        return np.square(pixels, dtype=np.float64)
    if kind == "inversevariance":
        with np.errstate(divide="ignore"):
            return 1 / np.asarray(pixels, np.float64)
    return None


def crpix_of(header: dict[str, Any]) -> tuple[float, float] | None:
    """CRPIX1 and CRPIX2, where the source is in a cut-out, counted from 1; None if they are not there."""
    found = [header.get(key) for key in _LATER]
    x, y = (_value(value) if isinstance(value, bytes) else value for value in found)
    return (float(x), float(y)) if isinstance(x, int | float) and isinstance(y, int | float) else None


def as_float(pixels: NDArray[Any]) -> NDArray[np.floating]:
    """Pixels of any kind of number as float32, or as float64 where float32 would round them."""
    exact = (pixels.dtype.kind in "iu" and pixels.dtype.itemsize > 2) or pixels.dtype.itemsize > 4
    return pixels.astype(np.float64 if exact else np.float32)


class _Form(NamedTuple):
    """What a header says of what follows it."""

    header: dict[str, Any]
    shape: tuple[int, ...]
    stored: np.dtype | None  # of the pixels in the file; None for a BITPIX that there is not
    pixels: int
    size: int  # bytes
    is_other: bool  # more axes than two, or compressed in tiles: left to astropy
    is_image: bool  # of two axes


@functools.lru_cache(256)  # a night's cut-outs differ in their pixels, hardly in their form
def _form(cards: _Cards) -> _Form:
    """What these cards say, each a keyword and what follows it. Raises ValueError if they cannot be read."""
    header = {key: _value(text) for key, text in cards}
    shape = tuple(_whole(header, f"NAXIS{i}") for i in range(min(_whole(header, "NAXIS"), 3), 0, -1))
    stored = _TYPES.get(_whole(header, "BITPIX"))
    count = math.prod(shape) if shape else 0
    whole = (count + _whole(header, "PCOUNT", 0)) * _whole(header, "GCOUNT", 1)
    return _Form(
        header,
        shape,
        np.dtype(stored) if stored else None,
        count,
        np.dtype(stored).itemsize * whole if stored else 0,
        len(shape) > 2 or header.get("ZIMAGE") is True,
        len(shape) == 2 and header.get("XTENSION", "IMAGE") == "IMAGE",
    )


def _header_of(data: bytes, start: int) -> tuple[_Form, dict[str, bytes], int]:
    """What the header at `start` says, the cards of _LATER, and how many bytes it has.

    Raises ValueError if it is none.
    """
    found, length = _cards_of(data[start : start + _BLOCK]), _BLOCK
    while found is None and start + length < len(data):
        length *= 4  # not all at once, which would copy the rest of the file for each of its headers
        found = _cards_of.__wrapped__(data[start : start + length])
    if found is None:
        raise ValueError("its FITS header has no end")
    cards, later, length = found
    return _form(cards), later, length


@functools.lru_cache(256)  # most surveys' headers are the same bytes all night
def _cards_of(header: bytes) -> tuple[_Cards, dict[str, bytes], int] | None:
    """The cards that are read of a header, those of _LATER apart, and how many bytes it has; None if it does
    not end here."""
    if header[:9] not in (b"SIMPLE  =", b"XTENSION="):
        raise ValueError("is no FITS file")
    words = np.ndarray((len(header) // _CARD, _CARD // 8), np.uint64, header)
    found, end = _cards(words, _CODES)
    if end < 0:
        return None
    cards, later = [], {}
    for number, card in found.tolist():
        at, key = card * _CARD, _NAMES[number]
        if header[at + 8 : at + 10] != b"= ":
            continue
        if key in _LATER:
            later[key] = header[at + 10 : at + _CARD]
        else:
            cards.append((key, header[at + 10 : at + _CARD]))
    return tuple(cards), later, -(-(end + 1) * _CARD // _BLOCK) * _BLOCK


@njit(nogil=True)
def _cards(words: Any, codes: Any) -> Any:
    """The cards whose first eight letters are one of the codes, as pairs (which code, which card), and the
    card END, whose code is the last; -1 where there is none."""
    found, count = np.empty((len(words), 2), np.int64), 0
    for i in range(len(words)):
        word = words[i, 0]
        if word == codes[-1]:
            return found[:count], i
        for k in range(len(codes) - 1):
            if word == codes[k]:
                found[count, 0], found[count, 1] = k, i
                count += 1
    return found[:count], -1


def _value(text: bytes) -> Any:
    """A card's value: text, truth, or number; a comment is left out."""
    if text[20:21] in (b" ", b"/", b""):  # an integer stands there in most cards, in columns 11 to 30
        try:
            return int(text[:20])
        except ValueError:
            pass
    field = text.strip()
    if field[:1] == b"'":
        return field[1:].split(b"'", 1)[0].rstrip().decode("ascii", "replace")
    field = field.split(b"/", 1)[0].strip()
    if field in (b"T", b"F"):
        return field == b"T"
    for kind, number in ((int, field), (float, field.replace(b"D", b"E"))):  # 1.0D-01 is a float as well
        try:
            return kind(number)
        except ValueError:
            continue
    return field.decode("ascii", "replace")


def _whole(header: dict[str, Any], key: str, otherwise: int | None = None) -> int:
    """A whole number of a header; `otherwise` where it has none. Raises ValueError for any other value."""
    value = header.get(key, otherwise)
    if type(value) is not int or (value < 0 and key != "BITPIX"):
        raise ValueError(f"its FITS header has {key} = {value}")
    return value


def _number(header: dict[str, Any], key: str, otherwise: float) -> float:
    value = header.get(key, otherwise)
    if type(value) not in (int, float):
        raise ValueError(f"its FITS header has {key} = {value}")
    return float(value)


def _pixels(stored: NDArray[Any], header: dict[str, Any]) -> NDArray[np.floating]:
    """The values of stored pixels; those marked BLANK have none, NaN."""
    pixels = as_float(stored)
    if stored.dtype.kind != "f" and "BLANK" in header:
        pixels[stored == header["BLANK"]] = np.nan
    scale, zero = _number(header, "BSCALE", 1.0), _number(header, "BZERO", 0.0)
    return pixels if (scale, zero) == (1, 0) else pixels * scale + zero


def _read_by_astropy(data: bytes) -> list[Image]:
    """The images of a file, read by astropy; axes of one plane, before rows and columns, are left out."""
    fits = require_extra("astropy.io.fits", "alerts", "a FITS cut-out")
    images, others = [], []
    try:
        with warnings.catch_warnings(), fits.open(io.BytesIO(data), memmap=False) as hdus:
            warnings.simplefilter("ignore")  # of headers that are odd but can be read
            for hdu in hdus:
                shape = tuple(hdu.shape) if hdu.is_image else ()
                if len(shape) < 2 or math.prod(shape[:-2]) != 1 or 8 * math.prod(shape) > _MOST:
                    others += [shape] if shape else []
                    continue
                header = {key: hdu.header[key] for key in _USED if key in hdu.header}
                images.append(Image(header, as_float(hdu.data.reshape(shape[-2:]))))
    except Exception as error:  # astropy's dozen kinds, for a file that is damaged
        raise ValueError(f"its FITS image cannot be read ({first_line(error)})") from error
    if others and not images:
        raise ValueError(f"its FITS image has the shape {others[0]}, not (rows, columns)")
    return images
