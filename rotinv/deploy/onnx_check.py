"""Whether a network that took the weights of an ONNX graph computes what the graph computes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from rotinv.graphs.reading import input_shape, only_input, read_onnx
from rotinv.nn.devices import get_kernels
from rotinv.nn.network import Network
from rotinv.system.errors import UserError, require_extra
from rotinv.system.files import first_line

_STAMPS = 3
_BOUND = (
    1e-4  # of the largest number: graphs are of float32, which sums to some 1e-6; other steps differ more
)


def check_graph(path: str | Path, network: Network, params: NDArray[np.float64], turned: bool) -> None:
    """Raise UserError unless the graph gives the network's logits, or their softmax, for random stamps.

    Shapes of weights do not tell whether a graph has other activations, poolings or paddings, normalises its
    units, or scales its stamps. The stamps reach from 0 to 1 in each channel, as rotinv scales them. `turned`
    says that the network has the graph's two classes in the other order.
    """
    stamps = np.random.default_rng(0).random((_STAMPS, *network.in_shape))
    stamps[:, 0, 0], stamps[:, 0, 1] = 0, 1
    k = get_kernels("reference")
    logits = network.forward(k, k.asarray(params), k.asarray(stamps))[:, :: -1 if turned else 1]
    wanted = logits, softmax(logits, axis=1), log_softmax(logits, axis=1)
    found = list(_outputs(path, stamps))
    off = min((_apart(one, ours) for one in found for ours in wanted), default=np.inf)
    if not off <= _BOUND:
        told = f"by {off:.2g} of the largest" if np.isfinite(off) else "of another shape"
        raise UserError(
            f"{path}: its weights fit, but its graph gives other numbers for a stamp ({told}): it has other "
            "steps between its layers, or scales stamps otherwise; give another --arch, or export it anew "
            "without them"
        )


def _apart(theirs: NDArray[Any], ours: NDArray[np.float64]) -> float:
    """The largest difference, as a share of our largest number; infinite for arrays of another shape."""
    if theirs.shape != ours.shape:
        return np.inf
    return float(np.abs(theirs - ours).max() / np.abs(ours).max())


def _outputs(path: str | Path, stamps: NDArray[np.float64]) -> Iterator[NDArray[Any]]:
    """Each output (n, …) of the graph, by ONNX's own reference, for stamps (n, h, w, c).

    The graph may read their channels last, and a fixed number of stamps at once.
    """
    model = read_onnx(path)
    batch, *shape = input_shape(path, model)
    onnx = require_extra("onnx", "onnx", path)
    evaluator = require_extra("onnx.reference", "onnx", path).ReferenceEvaluator(model)
    given = only_input(path, model)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(given.type.tensor_type.elem_type)
    last = shape[-1] == stamps.shape[-1] != shape[0]
    ordered = (stamps if last else stamps.transpose(0, 3, 1, 2)).astype(dtype)
    try:
        each = [evaluator.run(None, {given.name: np.stack([one] * (batch or 1))}) for one in ordered]
        for found in zip(*each, strict=True):
            yield np.stack([np.asarray(one)[0] for one in found])
    except Exception as error:  # each operator has its own
        raise UserError(f"{path}: its graph cannot be computed for a check ({first_line(error)})") from error
