"""PyTorch's state dicts, read without PyTorch and without running anything in them.

A file of torch.save is a zip archive: data.pkl, a pickle that names tensors, and their bytes, a file for each
storage. The pickle is read by the machine of stamps/unpickling.py, which imports and calls nothing: it knows
the few names that a dict of tensors needs, and refuses all others.
"""

import pickle
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from rotinv.stamps.pickled_arrays import Damaged, Forbidden, Global
from rotinv.stamps.unpickling import Machine
from rotinv.system.errors import UserError
from rotinv.system.files import read_errors

_TENSOR, _DICT, _PARAMETER = "tensor", "dict", "parameter"
_STORAGES = {"FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "LongStorage": "i8",
             "IntStorage": "i4", "BoolStorage": "b1", "ByteStorage": "u1"}  # fmt: skip
_MOST = 1 << 31  # bytes of a file in the archive
_DEEPEST = 4  # dicts within dicts


def read(path: str | Path) -> dict[str, NDArray[Any]]:
    """The tensors of a state dict in their order, also of one inside a checkpoint's dict, by name.

    Raises UserError if the file is damaged, is of PyTorch before 1.6, or asks for anything but tensors.
    """
    path = Path(path)
    try:
        with read_errors(path), path.open("rb") as file, zipfile.ZipFile(file) as archive:
            (name,) = [one for one in archive.namelist() if one.rpartition("/")[2] == "data.pkl"]
            found = _run(archive, name.removesuffix("data.pkl"))
    except UserError:
        raise
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError) as error:
        raise UserError(
            f"{path}: is damaged, or no file of torch.save since PyTorch 1.6 ({error}); save "
            "model.state_dict() anew"
        ) from error
    except (Damaged, Forbidden) as error:
        raise UserError(
            f"{path}: {error}; nothing in it was run: only tensors are read, as "
            "torch.save(model.state_dict(), "
            "FILE) writes them"
        ) from error
    tensors = dict(_tensors(found, ""))
    if not tensors:
        raise UserError(f"{path}: holds no tensors; save model.state_dict()")
    return tensors


def _run(archive: zipfile.ZipFile, folder: str) -> Any:
    order = "<"
    if f"{folder}byteorder" in archive.namelist():
        order = {b"little": "<", b"big": ">"}[_member(archive, f"{folder}byteorder").strip()]
    machine = _TorchMachine(memoryview(_member(archive, f"{folder}data.pkl")))
    machine.bytes_of = lambda key: _member(archive, f"{folder}data/{key}")
    machine.order = order
    return machine.run()


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    if name not in archive.namelist():
        raise Damaged(f"lacks its part {name}")
    if archive.getinfo(name).file_size > _MOST:
        raise Forbidden(f"its part {name} is too large for weights")
    return archive.read(name)


class _TorchMachine(Machine):
    """Reads tensors. A storage is a persistent id, ("storage", type, name, device, count)."""

    globals_: ClassVar[Mapping[tuple[str, str], str]] = {
        ("collections", "OrderedDict"): _DICT,
        ("torch._utils", "_rebuild_tensor_v2"): _TENSOR,
        ("torch._utils", "_rebuild_parameter"): _PARAMETER,
        **{("torch", name): dtype for name, dtype in _STORAGES.items()},
    }
    bytes_of: Any
    order: str

    def persistent(self) -> None:
        """A storage, as a flat array."""
        match self.pop():
            case ("storage", Global(name=dtype), str(key), str(), int(count)) if dtype in _STORAGES.values():
                data = np.frombuffer(self.bytes_of(key), self.order + dtype)
                if len(data) != count:
                    raise Damaged(f"a storage of {len(data)} numbers in place of {count}")
                self.push(data)
            case _:
                raise Forbidden("refers to something that is no storage of plain numbers")

    def call(self) -> None:
        """A tensor, a parameter's tensor, or an empty dict."""
        arguments, function = self.pop(), self.pop()
        name = function.name if isinstance(function, Global) else None
        if name == _DICT and arguments == ():
            self.push({})
        elif name == _PARAMETER and isinstance(arguments, tuple) and len(arguments) == 3:
            self.push(arguments[0])
        elif name == _TENSOR and isinstance(arguments, tuple) and len(arguments) == 6:
            self.push(_tensor(*arguments[:4]))
        else:
            raise Forbidden("calls something that makes no tensor")

    def build(self) -> None:
        """A dict's own attributes (_metadata: the modules' versions) are left out."""
        self.pop()
        if not isinstance(self.top(), dict):
            raise Forbidden("sets the state of something that is no dict")

    def update(self, items: list[Any]) -> None:
        """Items of a dict; a checkpoint's may be numbered."""
        target = self.top()
        if not isinstance(target, dict) or len(items) % 2:
            raise Damaged("items that belong to no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | int):
                raise Damaged("a name that is not a text")
            target[str(key)] = value

    more_steps: ClassVar[Mapping[bytes, Any]] = {pickle.BINPERSID: persistent}


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> NDArray[Any]:
    """A tensor's values, copied from its storage."""
    numbers = isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides) <= 8
    if not (isinstance(storage, np.ndarray) and numbers and isinstance(offset, int) and offset >= 0):
        raise Damaged("a tensor without storage or shape")
    if not all(type(n) is int and n >= 0 for n in (*shape, *strides)):
        raise Damaged(f"a tensor of the shape {shape}")
    if 0 in shape:
        return np.zeros(shape, storage.dtype)
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if last >= len(storage):
        raise Damaged(f"a tensor of the shape {shape} in a storage of {len(storage)} numbers")
    if int(np.prod(shape, dtype=object)) > len(storage):
        raise Forbidden(f"repeats numbers to the shape {shape}")
    size = storage.dtype.itemsize
    return as_strided(storage[offset:], shape, [step * size for step in strides]).copy()


def _tensors(found: Any, prefix: str, depth: int = 0) -> Any:
    """The tensors within dicts, each by the names that lead to it."""
    if depth > _DEEPEST or not isinstance(found, dict):
        return
    for key, value in found.items():
        name = f"{prefix}{key}"
        if isinstance(value, np.ndarray):
            yield name, value
        else:
            yield from _tensors(value, f"{name}.", depth + 1)
