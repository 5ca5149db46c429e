"""The low end of the DET curve: what few artifacts that look like candidates make of it.

At a false-positive rate of 1e-3 one artifact in a thousand decides. So these gates hold the share of such
kinds to what the real scores allow, and the DET curve of a trained network to the real survey's.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from rotinv.metrics import rates, significance
from rotinv.survey import kinds
from rotinv.survey.gates import Gate

# FNR by FPR of Deep-HiTS at the end of its training, on the 100,000 test stamps of the real survey.
REAL_FNR = {1e-3: 0.0770, 2e-3: 0.0281, 5e-3: 0.0059, 1e-2: 0.0021}
FACTOR = 2.0  # a survey as hard as the real one gives FNRs that differ by less
DRAWS = 200  # of the bootstrap that gives the errors of the FNRs

# The share of artifacts of a kind. In the real scores at most .1% of the artifacts look like candidates. The
# real survey's pipeline removed most cosmic rays.
SHARES = {
    "cosmic ray": (0.0, 0.1),
    "trail (label noise)": (0.0005, 0.004),
    "transient (label noise)": (0.0001, 0.001),
}


def share_gates(kind: NDArray[np.uint8]) -> Iterator[Gate]:
    """The share of each of SHARES among artifacts of these kinds (n,).

    The error is that of as many draws at the nearer end of the range.
    """
    for name, (low, high) in SHARES.items():
        share = float(np.mean(kind == kinds.NUMBER[name])) if kind.size else float("nan")
        end = low if share < low else high
        error = float(np.sqrt(end * (1 - end) / max(kind.size, 1)))
        yield Gate(f"share of artifacts: {name}", share, low, high, error)


def det_gates(label: NDArray, probability: NDArray) -> Iterator[Gate]:
    """The FNR at each FPR of REAL_FNR, of the scores p(candidate) (n,) of stamps of both classes.

    The scores are to be those of a network of the paper, trained for 10,000 iterations or more, the rate
    halved until its error no longer fell. A younger one has larger FNRs.
    """
    drawn = significance.resampled_fnr(label, probability, list(REAL_FNR), DRAWS)[:, 0]
    for (fpr, real), draws in zip(REAL_FNR.items(), drawn.T, strict=True):
        fnr = rates.fnr_at_fpr(label, probability, fpr)
        name = f"FNR at FPR {fpr:g} (real: {real:g})"
        yield Gate(name, fnr, real / FACTOR, real * FACTOR, float(draws.std(ddof=1)))
