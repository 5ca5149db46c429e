"""Loading trained runs as a Classifier."""

from collections.abc import Sequence
from pathlib import Path

from rotinv.classifier.classifier import Classifier
from rotinv.nn.devices import get_kernels
from rotinv.runs.model import open_models
from rotinv.system.errors import UserError


def load(
    runs: str | Path | Sequence[str | Path],
    *,
    device: str = "cpu",
    threads: int | None = None,
    precision: str | None = None,
) -> Classifier:
    """Load a trained run, or several, which vote by majority.

    Parameters
    ----------
    runs : str, Path or a sequence of them
        The folders of runs, as the program train or `fit` made them.
    device : str
        "cpu", "cuda" or "reference" (float64, slow).
    threads : int, optional
        Of the device "cpu"; all by default.
    precision : str, optional
        Of the scores on the device "cuda": "tf32" (the default), "fp32" or "fp16". Relevance is float32
        always.

    Returns
    -------
    Classifier

    Raises
    ------
    UserError
        If a folder holds no run or a damaged one, if the runs were trained on stamps of different size or
        channels, or if the device cannot be used.

    Examples
    --------
    >>> import rotinv
    >>> rotinv.load("runs/cap-1")
    <Classifier cap-1, 13x13 pixels of difference, on cpu>
    """
    try:
        folders = [Path(runs)] if isinstance(runs, str | Path) else [Path(one) for one in runs]
    except TypeError:
        raise UserError(f"{runs!r} names no run: give the path of a folder, or a list of several") from None
    if not folders:
        raise UserError("no run is named: give the folder of one, or a list of several")
    return Classifier(open_models(folders), folders, get_kernels(device, threads, precision))
