"""Reading the weights of a network that was trained elsewhere, whatever library wrote the file."""

import io
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from rotinv.deploy import onnx_files, safetensors_files, tensorflow_files, torch_files
from rotinv.deploy.layer_weights import Found, layers_of
from rotinv.system.errors import UserError
from rotinv.system.hdf5 import open_hdf5, reading_hdf5

_OURS = re.compile(r"(.*/)?(conv|dense|CNN|FC)\d+/[wbWB]")  # rotinv's own names, and the paper's authors'
LAYOUTS = ("first", "last")
KINDS = (
    ".h5, .hdf5, .keras (HDF5, Keras), .safetensors, .pt, .pth, .bin (PyTorch), .onnx, .index (TensorFlow)"
)


def read(path: str | Path, layout: str | None = None, flatten: str | None = None) -> Found:
    """The layers of a file, whose suffix says what wrote it.

    `layout` ("first" or "last") says where weights have their channels, `flatten` ("hwc" or "chw") how maps
    were flattened, where that is not the library's own way. Raises UserError for another suffix, and for a
    file that is missing, damaged or holds no layers. Nothing in a file is run.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: its suffix is none that is known; weights are read from {KINDS}")
    if not path.is_file():
        raise UserError(f"{path}: {'is not a file' if path.exists() else 'no such file'}")
    return reader(path, layout, flatten)


def _safetensors(path: Path, layout: str | None, flatten: str | None) -> Found:
    arrays, about = safetensors_files.read(path)
    found = layers_of(path, arrays, layout, flatten, ordered=False)
    return Found(found.layers, found.ordered, found.flatten, about)


def _torch(path: Path, layout: str | None, flatten: str | None) -> Found:
    return layers_of(path, torch_files.read(path), layout or "first", flatten, ordered=True)


def _tensorflow(path: Path, layout: str | None, flatten: str | None) -> Found:
    return layers_of(path, tensorflow_files.read(path), layout or "last", flatten, ordered=False)


def _onnx(path: Path, layout: str | None, flatten: str | None) -> Found:
    if layout:
        raise UserError(f"{path}: a graph says itself where its channels are; leave --layout out")
    found = onnx_files.read(path)
    return Found(found.layers, found.ordered, flatten or found.flatten, found.about)


def _hdf5(path: Path, layout: str | None, flatten: str | None) -> Found:
    with open_hdf5(path) as file, reading_hdf5(path):
        return _of_hdf5(path, file, layout, flatten)


def _keras(path: Path, layout: str | None, flatten: str | None) -> Found:
    """Keras 3's archive, whose weights are an HDF5 file in it."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as member:
            data = io.BytesIO(member.read())
        with reading_hdf5(path), h5py.File(data) as file:
            return _of_hdf5(path, file, layout, flatten)
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise UserError(f"{path}: is damaged, or no archive of Keras ({error})") from error


def _of_hdf5(path: Path, file: h5py.File, layout: str | None, flatten: str | None) -> Found:
    root = file.get("model_weights", file)
    names: Sequence[Any] | None = root.attrs.get("layer_names")
    arrays: dict[str, NDArray[Any]] = {}
    if names is not None:  # Keras 1 and 2 say the order
        for name in _texts(names):
            for weight in _texts(root[name].attrs["weight_names"]):
                arrays[f"{name}/{weight.removesuffix(':0')}"] = np.asarray(root[name][weight][()])
    else:
        root.visititems(lambda name, item: _take(arrays, name, item))
        arrays = {name: array for name, array in arrays.items() if _OURS.fullmatch(name)} or arrays
    found = layers_of(path, arrays, layout, flatten, ordered=names is not None)
    about = {name: _text(value) for name, value in file.attrs.items() if isinstance(value, str | bytes)}
    return Found(found.layers, found.ordered, found.flatten, about)


def _take(arrays: dict[str, NDArray[Any]], name: str, item: Any) -> None:
    if isinstance(item, h5py.Dataset) and item.dtype.kind == "f":
        arrays[name] = item[()]


def _texts(values: Any) -> list[str]:
    return [_text(value) for value in np.ravel(values)]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


_READERS: dict[str, Callable[[Path, str | None, str | None], Found]] = {
    **dict.fromkeys((".h5", ".hdf5"), _hdf5),
    ".keras": _keras,
    ".safetensors": _safetensors,
    **dict.fromkeys((".pt", ".pth", ".bin"), _torch),
    ".onnx": _onnx,
    ".index": _tensorflow,
}
