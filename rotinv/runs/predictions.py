"""The scores of trained networks: p(candidate) of stamps, and its spread over the four rotations.

Stamps are read and scored block by block, so that memory does not grow with their number.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from rotinv.metrics import ensembles
from rotinv.metrics.scores import Scores, SurveyScores
from rotinv.nn.contract import Array, Kernels
from rotinv.nn.network import Network
from rotinv.runs.model import Model, check_finite, unique_names
from rotinv.stamps.pixels import prepare
from rotinv.stamps.splits import BLOCK, Split
from rotinv.system.errors import UserError

T = TypeVar("T")


def blocks_as_read(
    split: Split, indices: NDArray[np.int64], side: int | None
) -> Iterator[tuple[NDArray[np.float32], int]]:
    """The stamps at `indices` as the network reads them (cut to `side`, normalised), a block at a time,
    each with the number of its constant channels."""
    for start in range(0, len(indices), BLOCK):
        yield prepare(split.raw(indices[start : start + BLOCK]), split.normalisation, side)


def score_split(
    k: Kernels,
    network: Network,
    params: Array,
    split: Split,
    indices: NDArray[np.int64],
    side: int | None,
    progress: Callable[[int], object] | None = None,
) -> NDArray[np.floating]:
    """p(candidate) of each stamp at `indices`; params on the device. `progress` is told of every block."""
    parts = []
    for stamps, _ in blocks_as_read(split, indices, side):
        parts.append(score_stamps(k, network, params, stamps))
        if progress:
            progress(len(stamps))
    return np.concatenate(parts) if parts else np.zeros(0)


def labelled_scores(
    k: Kernels,
    models: Sequence[Model],
    split: Split,
    indices: NDArray[np.int64],
    progress: Callable[[int], object] | None = None,
) -> dict[str, Scores]:
    """Each network's scores of the stamps at `indices`, by its name, and, of several, those of their vote.

    The stamps' labels, SNRs and kinds come with them, so that they can be evaluated. Raises UserError if the
    stamps have no labels.
    """
    if split.label is None:
        raise UserError(f"{split.path}: has no labels, and an evaluation needs them: add an array 'label'")
    each = {}
    for name, model in zip(unique_names(models), models, strict=True):
        own = k.asarray(model.params)
        each[name] = score_split(k, model.network, own, split, indices, model.config.size, progress)
    if len(models) > 1:
        each[vote_name(len(models))] = ensembles.majority(np.stack(list(each.values())))
    label = split.label[indices]
    snr = None if split.snr is None else split.snr[indices]
    kind = None if split.kind is None else split.kind[indices]
    survey = None
    if "survey_score" in split.alerts:
        columns = (split.alerts[name][:][indices] for name in ("survey_score", "survey_score_version"))
        survey = SurveyScores(*columns)
    return {name: Scores(label, p, snr, kind, split.kinds, survey=survey) for name, p in each.items()}


def vote_name(count: int) -> str:
    """What the vote of so many networks is called."""
    return f"majority of {count}"


def score_stamps(k: Kernels, network: Network, params: Array, stamps: NDArray[np.float32]) -> NDArray:
    """p(candidate) of stamps (n, h, w, c) that are cut and normalised already.

    Raises UserError if any is not a number: the weights are not those of a network that learned.
    """

    def forward(batch: NDArray[np.float32]) -> NDArray:
        return _candidate_probability(k, network.forward(k, params, k.asarray(batch)))

    each = [np.zeros(0, k.dtype), *_batches(stamps, k.batch, forward)]
    return _checked(np.concatenate(each))


class RotationScores(NamedTuple):
    """Of n stamps: p(candidate) (n,), the logit margins z_1 - z_0 of their four rotations (4, n), and the
    units (n, m) that the network's last layer reads."""

    probability: NDArray
    margins: NDArray
    units: NDArray


def score_rotations(
    k: Kernels, network: Network, params: Array, stamps: NDArray[np.float32]
) -> RotationScores:
    """Score stamps (n, h, w, c) that are cut and normalised already, and each of their rotations.

    Raises UserError as score_stamps does, whose bits the probabilities are.
    """

    def forward(batch: NDArray[np.float32]) -> RotationScores:
        logits, each, units = network.forward_rotations(k, params, k.asarray(batch))
        z = k.to_host(each)
        return RotationScores(_candidate_probability(k, logits), z[:, :, 1] - z[:, :, 0], k.to_host(units))

    width = network.out_shapes[-2][-1]
    none = RotationScores(np.zeros(0, k.dtype), np.zeros((4, 0), k.dtype), np.zeros((0, width), k.dtype))
    parts = list(_batches(stamps, k.batch, forward)) or [none]
    return RotationScores(
        _checked(np.concatenate([part.probability for part in parts])),
        np.concatenate([part.margins for part in parts], axis=1),
        np.concatenate([part.units for part in parts]),
    )


def score_with_rotation_std(
    k: Kernels, network: Network, params: Array, stamps: NDArray[np.float32]
) -> tuple[NDArray, NDArray]:
    """p(candidate), and the std (ddof 0) over the four rotations of each one's own logit margin.

    The std (n,) tells how far the network would disagree with itself if the stamp were turned.
    """
    found = score_rotations(k, network, params, stamps)
    return found.probability, found.margins.std(axis=0)


def _checked(probability: NDArray) -> NDArray:
    check_finite("the network", "probabilities", probability)
    return probability


def _candidate_probability(k: Kernels, logits: Array) -> NDArray:
    return k.to_host(k.softmax.forward(logits))[:, 1]


def _batches(stamps: NDArray[np.float32], batch: int, score: Callable[[NDArray], T]) -> Iterator[T]:
    """What `score` gives for each batch. A stamp's score does not depend on those that it is scored with.

    A batch that the device has no memory for is halved, and so are those after it; MemoryError where not
    even one stamp fits.
    """
    start = 0
    while start < len(stamps):
        result = _unless_too_large(score, stamps[start : start + batch])
        if result is None:
            batch = min(batch, len(stamps) - start) // 2
        else:
            yield result
            start += batch


def _unless_too_large(score: Callable[[NDArray], T], stamps: NDArray[np.float32]) -> T | None:
    try:
        return score(stamps)
    except MemoryError:
        if len(stamps) == 1:
            raise
        return None
