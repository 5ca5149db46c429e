"""Opens what decisions are asked of: folders of trained runs, or networks in ONNX."""

from collections.abc import Sequence
from pathlib import Path

from rotinv.graphs.reading import is_onnx
from rotinv.graphs.subject import GraphSubject
from rotinv.lrp.subjects import Run, Subject, runs
from rotinv.nn.devices import get_kernels
from rotinv.runs import thresholds
from rotinv.runs.model import open_models
from rotinv.system.errors import UserError

HELP = "folder of a trained run, or a network of another library as .onnx"


def open_subjects(
    paths: Sequence[str | Path], device: str, threads: int | None = None, at_fpr: float | None = None
) -> list[Subject]:
    """What is at some paths: trained runs on a device, or networks in ONNX, on the reference always.

    With `at_fpr` runs decide at their thresholds for that rate. Raises UserError if one cannot be read, or if
    they do not read the same stamps in the same way.
    """
    onnx = [path for path in paths if is_onnx(path)]
    if not onnx:
        models = thresholds.at_fpr(paths, open_models(paths), at_fpr)
        return [*runs(get_kernels(device, threads), models)]
    if len(onnx) < len(paths):
        raise UserError(
            f"{onnx[0]}: is compared with a run, whose stamps are scaled by itself; name networks of one kind"
        )
    if at_fpr is not None:
        raise UserError(f"{onnx[0]}: a network in ONNX has no thresholds; leave --at-fpr out")
    if device == "cuda":
        raise UserError(
            f"{onnx[0]}: networks in ONNX are explained in float64 on the CPU; leave --device out"
        )
    stems = [Path(path).stem for path in paths]
    names = [stem if stems.count(stem) == 1 else f"{stem}-{i}" for i, stem in enumerate(stems, 1)]
    found = [GraphSubject(path, name) for path, name in zip(paths, names, strict=True)]
    for one in found[1:]:
        if one.wanted != found[0].wanted:
            raise UserError(f"{one.path}: reads {one.wanted}, {found[0].path} {found[0].wanted}")
    return [*found]


def only_runs(subjects: Sequence[Subject], what: str) -> list[Run]:
    """The subjects, which must be runs for what is asked. Raises UserError otherwise."""
    found = [one for one in subjects if isinstance(one, Run)]
    if len(found) < len(subjects):
        raise UserError(f"{what} is of trained runs, not of networks in ONNX")
    return found
