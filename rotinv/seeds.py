"""What is explained: which number of the network's answer is shared out, or differentiated.

"predicted" is the logit of the predicted class (the authors' choice), a number the logit of that class,
"probability" the predicted class's probability, "one" gives the predicted class the relevance 1, and
"difference" is its logit less the runner-up's.
"""

import numpy as np
from numpy.typing import NDArray

from rotinv.backend import Array, Kernels
from rotinv.errors import UserError

SEEDS = ("predicted", "probability", "one", "difference")  # or a class, as a number
Seed = str | int


def relevance(k: Kernels, logits: Array, seed: Seed) -> Array:
    """R at the logits (n, classes). Raises UserError for a seed that the logits do not have."""
    z = k.to_host(logits)
    r = _one_hot(z, seed)
    if seed == "probability":
        return k.asarray(r * k.to_host(k.softmax.forward(logits)))
    return k.asarray(r if seed == "one" else r * z)


def gradient(k: Kernels, logits: Array, seed: Seed) -> Array:
    """The derivative, by the logits (n, classes), of what the seed names; of "one", that of the logit."""
    z = k.to_host(logits)
    d = _one_hot(z, seed)
    if seed == "probability":
        p = k.to_host(k.softmax.forward(logits))
        d = d * p - (d * p).sum(axis=1, keepdims=True) * p
    return k.asarray(d)


def _one_hot(z: NDArray, seed: Seed) -> NDArray:
    """1 at the class that is explained, 0 elsewhere; "difference" has -1 at the runner-up."""
    rows, predicted = np.arange(len(z)), z.argmax(axis=1)
    d = np.zeros_like(z)
    if isinstance(seed, int) and 0 <= seed < z.shape[1]:
        d[:, seed] = 1
        return d
    if seed not in SEEDS or (seed == "difference" and z.shape[1] < 2):
        classes = ", ".join(map(str, range(z.shape[1])))
        raise UserError(
            f"seed {seed!r} is not known; choose one of {', '.join(SEEDS)}, or a class: {classes}"
        )
    d[rows, predicted] = 1
    if seed == "difference":
        others = np.where(d == 1, -np.inf, z)
        d[rows, others.argmax(axis=1)] = -1
    return d


def parse(text: str) -> Seed:
    """An option's type: a seed by its name, or a class by its number."""
    return int(text) if text.lstrip("-").isdecimal() else text
