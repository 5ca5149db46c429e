"""The scores of trained networks: the classes' probabilities of stamps, and their spread over the rotations.

Stamps are read and scored block by block, so that memory does not grow with their number.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from rotinv.metrics import ensembles
from rotinv.metrics.scores import ClassScores, Scores, SurveyScores
from rotinv.nn.contract import Array, Kernels
from rotinv.nn.network import Network, Rotations
from rotinv.runs.model import Model, check_finite, unique_names
from rotinv.stamps.classes import TWO
from rotinv.stamps.pixels import prepare
from rotinv.stamps.splits import BLOCK, Split
from rotinv.system.errors import UserError

T = TypeVar("T")
U = TypeVar("U")


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
    """The classes' probabilities (n, classes) of the stamps at `indices`; params on the device. `progress` is
    told how many stamps were scored, again and again."""
    parts = [np.zeros((0, *network.out_shapes[-1]), k.dtype)]
    blocks = (stamps for stamps, _ in blocks_as_read(split, indices, side))
    for p in _probabilities(k, network, params, _made_ahead(blocks) if k.streams else blocks):
        parts.append(p)
        if progress:
            progress(len(p))
    return np.concatenate(parts)


def labelled_scores(
    k: Kernels,
    models: Sequence[Model],
    split: Split,
    indices: NDArray[np.int64],
    progress: Callable[[int], object] | None = None,
) -> dict[str, Scores]:
    """Each network's scores of the stamps at `indices`, by its name, and, of several, those of their vote.

    The stamps' labels, SNRs and kinds come with them, so that they can be evaluated. Raises UserError if the
    stamps have no labels of the networks' classes.
    """
    classes = models[0].config.classes
    if split.label is None:
        of = "" if classes == TWO else f" of the classes {classes}"
        raise UserError(
            f"{split.path}: has no labels{of}, and an evaluation needs them: add an array 'label'"
        )
    each = {}
    for name, model in zip(unique_names(models), models, strict=True):
        own = k.asarray(model.params)
        each[name] = score_split(k, model.network, own, split, indices, model.config.size, progress)
    if len(models) > 1:
        each[vote_name(len(models))] = ensembles.majority(np.stack(list(each.values())))
    label = split.label[indices]
    is_candidate = label if classes == TWO else classes.is_candidate(label)
    snr = None if split.snr is None else split.snr[indices]
    kind = None if split.kind is None else split.kind[indices]
    survey = None
    if "survey_score" in split.alerts:
        columns = (split.alerts[name][:][indices] for name in ("survey_score", "survey_score_version"))
        survey = SurveyScores(*columns)
    return {
        name: Scores(
            is_candidate,
            p[:, classes.candidate],
            snr,
            kind,
            split.kinds,
            survey=survey,
            by_class=ClassScores(classes, label, p) if classes.further else None,
        )
        for name, p in each.items()
    }


def vote_name(count: int) -> str:
    """What the vote of so many networks is called."""
    return f"majority of {count}"


def class_probabilities(k: Kernels, network: Network, params: Array, stamps: NDArray[np.float32]) -> NDArray:
    """The probabilities (n, classes) of stamps (n, h, w, c) that are cut and normalised already.

    Raises UserError if any is not a number: the weights are not those of a network that learned.
    """
    none = np.zeros((0, *network.out_shapes[-1]), k.dtype)
    return np.concatenate([none, *_probabilities(k, network, params, [stamps])])


def _probabilities(
    k: Kernels, network: Network, params: Array, blocks: Iterable[NDArray[np.float32]]
) -> Iterator[NDArray]:
    """class_probabilities of blocks of stamps, batch by batch."""

    def begin(batch: NDArray[np.float32]) -> tuple[Array, Array]:
        logits = network.forward(k, params, k.asarray(batch))
        return logits, k.softmax.forward(logits)

    def finish(batch: NDArray[np.float32], begun: tuple[Array, Array]) -> NDArray:
        logits, p = begun[0], k.to_host(begun[1])
        if k.in_float32 and (over := _overflowed(k, logits)).any():
            p[over] = class_probabilities(k.in_float32, network, params, batch[over])
        return _checked(p)

    return _batches(blocks, k.batch, begin, finish)


def _made_ahead(blocks: Iterator[T]) -> Iterator[T]:
    """The blocks, each made in a thread of its own while the one before it is scored."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, blocks, None)
        while (block := coming.result()) is not None:
            coming = reader.submit(next, blocks, None)
            yield block


def score_stamps(
    k: Kernels, network: Network, params: Array, stamps: NDArray[np.float32], candidate: int = TWO.candidate
) -> NDArray:
    """p(candidate) (n,) of stamps, the probability of that class: see class_probabilities."""
    return class_probabilities(k, network, params, stamps)[:, candidate]


class RotationScores(NamedTuple):
    """Of n stamps: the classes' probabilities (n, classes); the logit margins (4, n) of their four rotations,
    which are the candidate's logit less the largest of the others; and the units (n, m) that the network's
    last layer reads."""

    probabilities: NDArray
    margins: NDArray
    units: NDArray


def score_rotations(
    k: Kernels, network: Network, params: Array, stamps: NDArray[np.float32], candidate: int = TWO.candidate
) -> RotationScores:
    """Score stamps (n, h, w, c) that are cut and normalised already, and each of their rotations.

    Raises UserError as class_probabilities does, whose bits the probabilities are.
    """

    def begin(batch: NDArray[np.float32]) -> tuple[Rotations, Array]:
        found = network.forward_rotations(k, params, k.asarray(batch))
        return found, k.softmax.forward(found.logits)

    def finish(batch: NDArray[np.float32], begun: tuple[Rotations, Array]) -> RotationScores:
        (logits, each, units), p = begun
        z = k.to_host(each)
        margin = z[:, :, candidate] - np.delete(z, candidate, axis=2).max(axis=2)
        found = RotationScores(k.to_host(p), margin, k.to_host(units))
        if k.in_float32 and (over := _overflowed(k, logits, each)).any():
            again = score_rotations(k.in_float32, network, params, batch[over], candidate)
            found.probabilities[over], found.margins[:, over], found.units[over] = again
        return found

    (classes,), width = network.out_shapes[-1], network.out_shapes[-2][-1]
    none = RotationScores(*(np.zeros(shape, k.dtype) for shape in ((0, classes), (4, 0), (0, width))))
    parts = list(_batches([stamps], k.batch, begin, finish)) or [none]
    return RotationScores(
        _checked(np.concatenate([part.probabilities for part in parts])),
        np.concatenate([part.margins for part in parts], axis=1),
        np.concatenate([part.units for part in parts]),
    )


def score_with_rotation_std(
    k: Kernels, network: Network, params: Array, stamps: NDArray[np.float32], candidate: int = TWO.candidate
) -> tuple[NDArray, NDArray]:
    """p(candidate), and the std (ddof 0) over the four rotations of each one's own logit margin.

    The std (n,) tells how far the network would disagree with itself if the stamp were turned.
    """
    found = score_rotations(k, network, params, stamps, candidate)
    return found.probabilities[:, candidate], found.margins.std(axis=0)


def _checked(probability: NDArray) -> NDArray:
    check_finite("the network", "probabilities", probability)
    return probability


def _overflowed(k: Kernels, *logits: Array) -> NDArray[np.bool_]:
    """The stamps with logits (…, n, classes) that are not finite, which are scored again in float32.

    A device that multiplies halves gives such logits where a number overflowed. A stamp's score does not
    depend on those that it is scored with, nor on theirs that are scored again.
    """
    finite = [np.isfinite(k.to_host(z)).all(axis=-1) for z in logits]
    return ~np.logical_and.reduce([each.all(axis=0) if each.ndim > 1 else each for each in finite])


def _batches(
    blocks: Iterable[NDArray[np.float32]],
    batch: int,
    begin: Callable[[NDArray], T],
    finish: Callable[[NDArray, T], U],
) -> Iterator[U]:
    """What `finish` makes of each batch and of what `begin` gives for it. A stamp's score does not depend on
    those that it is scored with.

    A batch is begun before the one before it is finished, in the next block too: a GPU computes while the
    host makes and copies the next stamps. A batch that the device has no memory for is halved, and so are
    those after it; MemoryError where not even one stamp fits.
    """
    waiting = None
    for stamps in blocks:
        start = 0
        while start < len(stamps):
            part = stamps[start : start + batch]
            begun = _unless_too_large(begin, part, last_try=waiting is None)
            if waiting is not None:
                yield finish(*waiting)
            if begun is not None:
                start += len(part)
            elif waiting is None:  # else the batch before may have had the memory
                batch = len(part) // 2
            waiting = None if begun is None else (part, begun)
    if waiting is not None:
        yield finish(*waiting)


def _unless_too_large(begin: Callable[[NDArray], T], stamps: NDArray[np.float32], last_try: bool) -> T | None:
    try:
        return begin(stamps)
    except MemoryError:
        if last_try and len(stamps) == 1:
            raise
        return None
