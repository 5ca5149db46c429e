"""A run's folder: config.json, history.csv, best.h5, last.h5, metrics.json, and the network they are of."""

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from rotinv.nn import architectures
from rotinv.nn.network import Network
from rotinv.runs.augmentation import KINDS
from rotinv.runs.protocol import PAPER, Schedule
from rotinv.stamps.classes import TWO, Classes
from rotinv.system import files, locks
from rotinv.system.errors import UserError
from rotinv.system.version import __version__

BALANCES = ("none", "weights", "batches")  # what is done about classes of unequal size
CONFIG_FILE, HISTORY_FILE, METRICS_FILE = "config.json", "history.csv", "metrics.json"
BEST_FILE, LAST_FILE = "best.h5", "last.h5"


@dataclass(frozen=True)
class Config:
    """Everything that decides a run's weights."""

    arch: str
    size: int  # side of the stamps that the network sees, pixels
    channels: list[str]
    seed: int = 0
    init: str = "he"
    data: str = ""  # the stamp store; empty where the weights come from elsewhere
    crop: int | None = None
    on_bad: str = "error"
    schedule: Schedule = PAPER
    version: str = __version__
    data_sha256: str = ""  # of the data (trials.digest); empty in older runs
    init_from: str = ""  # the run whose weights are the initial ones; empty where they are drawn by `init`
    init_sha256: str = ""  # of those weights (model.weights_digest)
    freeze: int = 0  # how many of the first layers with weights keep them
    balance: str = "none"  # "batches": an epoch has as many stamps of each class, by repetition; "weights":
    # the losses of the smaller class weigh more, by the next line
    class_weights: list[float] = field(default_factory=list)  # of each class, by its label; 1 each by default
    augment: list[str] = field(default_factory=list)  # random changes: augmentation.KINDS
    classes: Classes = TWO  # what the logits are of

    def __post_init__(self) -> None:
        if not self.class_weights:
            object.__setattr__(self, "class_weights", [1.0] * len(self.classes))

    def network(self) -> Network:
        """The network of this run."""
        return architectures.build(
            self.arch, self.size, len(self.channels), self.schedule.dropout, len(self.classes)
        )


def runs_and_stamps(inputs: Sequence[str | Path]) -> tuple[list[Path], list[Path]]:
    """Of a program's arguments the runs' folders, which come first, and the rest: what to score.

    Raises UserError if there is no run, or nothing after the runs.
    """
    paths = [Path(one) for one in inputs]
    runs = list(itertools.takewhile(lambda path: (path / CONFIG_FILE).is_file(), paths))
    if not runs:
        raise UserError(f"{paths[0]}: holds no run (no {CONFIG_FILE}); name runs first, then what to score")
    if len(runs) == len(paths):
        raise UserError(f"{paths[-1]}: no stamps are named after it; name a stamp store, an array or alerts")
    return runs, paths[len(runs) :]


def create_run_folder(folder: str | Path | None, arch: str) -> Path:
    """Make an empty folder for a run: `folder`, or the next free runs/ARCH-N.

    Raises UserError if `folder` holds anything already, or cannot be made.
    """
    folder = None if folder is None else Path(folder)
    try:
        if folder is None:
            return _next_free(Path("runs"), arch)
        check_folder_free(folder)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder or 'runs'}: cannot be made ({error.strerror})") from error
    return folder


def check_folder_free(folder: str | Path) -> None:
    """Raise UserError if `folder` is a file, or holds anything but the traces of a process killed at its
    start."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; name a folder")
    if folder.is_dir() and not all(map(_is_trace, folder.iterdir())):
        holds = "a run (--resume goes on with it)" if (folder / CONFIG_FILE).exists() else "files"
        raise UserError(f"{folder}: holds {holds} already; name another folder")


def write_config(folder: str | Path, config: Config) -> None:
    """Write config.json. Classes are named there if they are not artifact and candidate."""
    folder, values = Path(folder), asdict(config)
    del values["classes"]
    if config.classes != TWO:
        values["classes"] = config.classes.names
        values["candidate"] = config.classes.names[config.classes.candidate]
    files.write_json(folder / CONFIG_FILE, values)


def read_config(folder: str | Path) -> Config:
    """Read config.json. Raises UserError if the folder holds no run, or a damaged one."""
    folder = Path(folder)
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise UserError(f"{folder}: holds no run (no {CONFIG_FILE})")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        values["schedule"] = Schedule(**values["schedule"])
        if "classes" in values:
            values["classes"] = Classes.of(values["classes"], values.pop("candidate"))
        config = Config(**values)
        for what in (config, config.schedule):
            for entry in fields(what):
                value = getattr(what, entry.name)
                if entry.type is int and (type(value) is not int or value < 0):
                    raise ValueError(f"{entry.name} is {value!r}, not a whole number")
        if not min(config.schedule.batch, config.schedule.halve_every, config.schedule.validate_every):
            raise ValueError("batch, halve_every and validate_every are at least 1")
        if config.balance not in BALANCES or not set(config.augment) <= set(KINDS):
            raise ValueError(f"balance is {config.balance!r} and augment {config.augment!r}")
        count, weights = len(config.classes), config.class_weights
        if len(weights) != count or not all(0 < weight < math.inf for weight in weights):
            raise ValueError(f"class_weights are {weights!r}, not {count} positive numbers")
        if config.freeze and config.freeze >= len(config.network().weighted):
            raise ValueError(f"freeze is {config.freeze}, and no layer is left to train")
        return config
    except (OSError, ValueError, KeyError, TypeError, UserError) as error:
        names = ", ".join(entry.name for entry in fields(Config))
        raise UserError(f"{path}: is not a run's configuration ({error}); it has {names}") from error


def _is_trace(path: Path) -> bool:
    """Whether a file is one that a killed process leaves before it has written anything of a run."""
    return path.name == locks.NAME or files.is_temporary(path)


def _next_free(parent: Path, arch: str) -> Path:
    parent.mkdir(exist_ok=True)
    number = 1
    while True:
        try:
            (parent / f"{arch}-{number}").mkdir()
            return parent / f"{arch}-{number}"
        except FileExistsError:
            number += 1
