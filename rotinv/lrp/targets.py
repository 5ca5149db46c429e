"""What is explained: which number of the network's answer is shared out, or differentiated.

"predicted" is the logit of the predicted class (the authors' choice), a number the logit of that class,
"probability" the predicted class's probability, "one" gives the predicted class the relevance 1, and
"difference" is its logit less the runner-up's.
"""

import numpy as np
from numpy.typing import NDArray

from rotinv.nn.contract import Array, Kernels
from rotinv.system.errors import UserError

TARGETS = ("predicted", "probability", "one", "difference")  # or a class, as a number
Target = str | int


def relevance(k: Kernels, logits: Array, target: Target) -> Array:
    """R at the logits (n, classes). Raises UserError for a target that the logits do not have."""
    z = k.to_host(logits)
    r = _one_hot(z, target)
    if target == "probability":
        return k.asarray(r * k.to_host(k.softmax.forward(logits)))
    return k.asarray(r if target == "one" else r * z)


def gradient(k: Kernels, logits: Array, target: Target) -> Array:
    """The derivative, by the logits (n, classes), of what the target names; of "one", that of the logit."""
    z = k.to_host(logits)
    d = _one_hot(z, target)
    if target == "probability":
        p = k.to_host(k.softmax.forward(logits))
        d = d * p - (d * p).sum(axis=1, keepdims=True) * p
    return k.asarray(d)


def _one_hot(z: NDArray, target: Target) -> NDArray:
    """1 at the class that is explained, 0 elsewhere; "difference" has -1 at the runner-up."""
    rows, predicted = np.arange(len(z)), z.argmax(axis=1)
    d = np.zeros_like(z)
    if isinstance(target, int) and 0 <= target < z.shape[1]:
        d[:, target] = 1
        return d
    if target not in TARGETS or (target == "difference" and z.shape[1] < 2):
        classes = ", ".join(map(str, range(z.shape[1])))
        raise UserError(
            f"target {target!r} is not known; choose one of {', '.join(TARGETS)}, or a class: {classes}"
        )
    d[rows, predicted] = 1
    if target == "difference":
        others = np.where(d == 1, -np.inf, z)
        d[rows, others.argmax(axis=1)] = -1
    return d


def parse_target(text: str) -> Target:
    """An option's type: a target by its name, or a class by its number."""
    return int(text) if text.lstrip("-").isdecimal() else text
