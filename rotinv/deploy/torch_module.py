"""A network as PyTorch reads it: the source of a module, a page long, and its state dict.

The state dict is written without PyTorch, as the zip archive of torch.save.
"""

import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.nn.cyclic import CyclicConcat, CyclicMean, CyclicSlice
from rotinv.nn.layers import Dropout, Flatten, Layer, Shape, ZeroPad
from rotinv.nn.linear import Conv2d, Dense
from rotinv.nn.network import Network
from rotinv.runs import checkpoints
from rotinv.runs.model import Model
from rotinv.system.errors import UserError
from rotinv.system.files import written_whole
from rotinv.system.version import __version__

_EPOCH = (1980, 1, 1, 0, 0, 0)  # of the archive's members: the same weights give the same bytes


def state_dict(network: Network, params: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
    """The weights as PyTorch's layers have them: (out, in, h, w) and (out, in), for maps flattened (c, h,
    w)."""
    found: dict[str, NDArray[np.float32]] = {}
    shape: Shape = network.in_shape
    flattened: Shape | None = None
    triples = zip(network.layers, checkpoints.names(network), network.views(params), strict=True)
    for (layer, names, views), out in zip(triples, network.out_shapes, strict=True):
        if isinstance(layer, Flatten):
            flattened = shape
        for key, name in names.items():
            array = np.float32(views[key])
            if key == "w" and array.ndim == 4:
                array = np.transpose(array, (3, 2, 0, 1))
            elif key == "w":
                array = _channels_first(array, flattened).T
                flattened = None  # only the first dense layer reads flattened maps
            stem = name.partition("/")[0]
            found[f"{stem}.{'weight' if key == 'w' else 'bias'}"] = np.ascontiguousarray(array)
        shape = out
    return found


def _channels_first(w: NDArray[Any], flattened: Shape | None) -> NDArray[Any]:
    """Weights (in, out) whose inputs are maps flattened (h, w, c), perhaps of four rotations, as (c, h,
    w)."""
    if flattened is None:
        return w
    each = w.reshape(-1, *flattened, w.shape[1])
    return np.transpose(each, (0, 3, 1, 2, 4)).reshape(w.shape)


def write(path: str | Path, arrays: Mapping[str, NDArray[Any]], *, overwrite: bool = False) -> None:
    """Write a state dict as torch.save does. Raises UserError if the file exists or cannot be written."""
    with written_whole(path, overwrite=overwrite) as temporary, zipfile.ZipFile(temporary, "w") as archive:

        def put(name: str, data: bytes) -> None:
            archive.writestr(zipfile.ZipInfo(f"weights/{name}", _EPOCH), data)

        put("data.pkl", _pickle(arrays))
        put("byteorder", b"little")
        for number, array in enumerate(arrays.values()):
            put(f"data/{number}", np.ascontiguousarray(array, "<f4").tobytes())
        put("version", b"3\n")


def _pickle(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The instructions of protocol 2 that make an OrderedDict of tensors of float32."""
    out = [pickle.PROTO + b"\x02", _global("collections", "OrderedDict"), pickle.EMPTY_TUPLE + pickle.REDUCE]
    out.append(pickle.MARK)
    for number, (name, array) in enumerate(arrays.items()):
        storage = _text("storage") + _global("torch", "FloatStorage") + _text(str(number)) + _text("cpu")
        strides = [step // array.itemsize for step in np.ascontiguousarray(array).strides]
        out += [
            _text(name),
            _global("torch._utils", "_rebuild_tensor_v2"),
            pickle.MARK,
            pickle.MARK + storage + _number(array.size) + pickle.TUPLE + pickle.BINPERSID,
            _number(0),
            _numbers(array.shape),
            _numbers(strides),
            pickle.NEWFALSE,
            _global("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE,
            pickle.TUPLE + pickle.REDUCE,
        ]
    return b"".join([*out, pickle.SETITEMS, pickle.STOP])


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _text(text: str) -> bytes:
    data = text.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


def _number(value: int) -> bytes:
    return pickle.BININT + struct.pack("<i", value)


def _numbers(values: Any) -> bytes:
    return pickle.MARK + b"".join(_number(int(value)) for value in values) + pickle.TUPLE


def source(model: Model, weights: str) -> str:
    """The source of a module that reads the state dict `weights`, a file's name."""
    config, network = model.config, model.network
    made, steps = [], []
    shape: Shape = network.in_shape
    for layer, names, out in zip(network.layers, checkpoints.names(network), network.out_shapes, strict=True):
        write_step = _STEPS.get(type(layer))
        if write_step is None:
            raise UserError(f"{model.name}: the layer '{layer.name}' cannot be exported")
        name = next(iter(names.values()), "").partition("/")[0]
        part, lines = write_step(layer, name, shape)
        made += [part] if part else []
        steps += lines
        shape = out
    return _PAGE.format(
        name=model.name,
        arch=config.arch,
        version=__version__,
        weights=weights,
        channels=repr(tuple(config.channels)),
        classes=repr(config.classes.names),
        size=config.size,
        cut="any size that can be cut so" if config.crop else f"{config.size} x {config.size} pixels",
        layers="\n".join(f"        {line}" for line in made),
        steps="\n".join(f"        {line}" for line in steps),
    )


Written = tuple[str, list[str]]  # a line of __init__, and lines of forward


def _zero_pad(layer: Any, name: str, shape: Shape) -> Written:
    return "", [f"x = F.pad(x, ({', '.join([str(layer.pad)] * 4)}))"]


def _slice(layer: Any, name: str, shape: Shape) -> Written:
    return "", ["x = torch.cat([torch.rot90(x, k, (2, 3)) for k in range(4)])  # four rotations, one batch"]


def _conv(layer: Any, name: str, shape: Shape) -> Written:
    pad = f", padding={layer.pad}" if layer.pad else ""
    lines = [f"x = {_activated(f'self.{name}(x)', layer.slope)}"]
    lines += [f"x = F.max_pool2d(x, {layer.pool})"] if layer.pool > 1 else []
    return f"self.{name} = nn.Conv2d({shape[2]}, {layer.filters}, {layer.size}{pad})", lines


def _dense(layer: Any, name: str, shape: Shape) -> Written:
    made = f"self.{name} = nn.Linear({shape[0]}, {layer.units})"
    return made, [f"x = {_activated(f'self.{name}(x)', layer.slope)}"]


def _activated(text: str, slope: float) -> str:
    if slope == 1:
        return text
    return f"F.relu({text})" if slope == 0 else f"F.leaky_relu({text}, {slope})"


def _flatten(layer: Any, name: str, shape: Shape) -> Written:
    return "", ["x = x.flatten(1)"]


def _mean(layer: Any, name: str, shape: Shape) -> Written:
    return "", [f"x = x.reshape(4, -1, {_units(shape)}).mean(0)  # over the rotations"]


def _concat(layer: Any, name: str, shape: Shape) -> Written:
    return "", [f"x = x.reshape(4, -1, {_units(shape)}).transpose(0, 1).flatten(1)  # side by side"]


def _units(shape: Shape) -> int:
    if len(shape) != 1:
        raise UserError("rotations that are brought together as maps cannot be exported; flatten them before")
    return shape[0]


def _dropout(layer: Any, name: str, shape: Shape) -> Written:
    return "", []


_STEPS: dict[type[Layer], Callable[[Any, str, Shape], Written]] = {
    ZeroPad: _zero_pad,
    CyclicSlice: _slice,
    Conv2d: _conv,
    Dense: _dense,
    Flatten: _flatten,
    CyclicMean: _mean,
    CyclicConcat: _concat,
    Dropout: _dropout,
}

_PAGE = '''"""{name}: {arch} of rotinv {version} in PyTorch.

    network = load()
    p = network(stamps)  # (n, classes)

`stamps` are raw pixels (n, channels, S, S), as a tensor of float32; S is {cut}.
Stamps with NaN or infinite pixels get NaN.
"""

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

CHANNELS = {channels}
CLASSES = {classes}
SIZE = {size}  # pixels a side that the network reads
WEIGHTS = Path(__file__).with_name("{weights}")


def load(weights=WEIGHTS):
    """The network with its weights, ready to score."""
    network = Network()
    network.load_state_dict(torch.load(weights, weights_only=True))
    return network.eval()


def scaled(stamps):
    """The centre of each stamp, each channel scaled to 0-1 by its least and largest pixel; constant ones are
    0."""
    over = stamps.shape[2] - SIZE
    if over < 0 or over % 2 or stamps.shape[2] != stamps.shape[3]:
        raise ValueError(f"{{tuple(stamps.shape[2:])}} pixels have no centre of {{SIZE}} x {{SIZE}}")
    x = stamps[:, :, over // 2 : over // 2 + SIZE, over // 2 : over // 2 + SIZE].double()
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    span = torch.where(high == low, 1.0, high - low)
    return ((x - low) / span).float()


class Network(nn.Module):
    """Raw stamps to the classes' probabilities."""

    def __init__(self):
        super().__init__()
{layers}

    def forward(self, stamps):
        x = scaled(stamps)
        bad = x.isnan().any(3).any(2).any(1)
{steps}
        p = torch.softmax(x, 1)
        return torch.where(bad[:, None], torch.nan, p)
'''
