"""The scales of a reproduction, and its settings, which are kept in its folder."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rotinv import survey
from rotinv.runs.protocol import PAPER, Schedule
from rotinv.system import files, locks
from rotinv.system.errors import UserError
from rotinv.system.version import __version__

SETTINGS = "reproduction.json"
_FOLDERS = ("sheets", "scores", "trials", "survey.h5.part")  # what `remove` removes, with the steps' records
_FILES = (
    "report.html",
    "survey.h5",
    SETTINGS,
)  # the settings last: till then it is a reproduction
SURVEY_SEED = 2018
MOST_TRIALS = 12  # all ensembles of up to six of more would take hours


@dataclass(frozen=True)
class Scale:
    """The sizes of a reproduction."""

    survey: dict[str, int]  # stamps to simulate where no data is given
    schedule: Schedule
    trials: int
    explained: int  # test stamps of Fig. 5 and Table III
    viewed: int  # stamps in the report's viewer
    draws: int  # of the bootstrap


SCALES = {
    "smoke": Scale(
        {"train": 2_000, "validate": 200, "test": 1_000},
        Schedule(halve_every=40, iterations=80, extend_by=0, validate_every=40),
        trials=2,
        explained=100,
        viewed=4,
        draws=200,
    ),
    "quick": Scale(
        {"train": 80_000, "validate": 4_000, "test": 20_000},
        Schedule(halve_every=400, iterations=2_400, extend_by=0, validate_every=300),
        trials=6,
        explained=5_000,
        viewed=12,
        draws=1_000,
    ),
    "tenth": Scale(  # a tenth of the paper's least: what of its claims is seen by then?
        {"train": 100_000, "validate": 4_000, "test": 100_000},
        Schedule(halve_every=2_500, iterations=10_000, extend_by=0, validate_every=1_000),
        trials=4,
        explained=5_000,
        viewed=12,
        draws=1_000,
    ),
    "claim": Scale(  # as long as the paper trained at least: is CAP better than Deep-HiTS?
        {"train": 400_000, "validate": 20_000, "test": 100_000},
        Schedule(halve_every=25_000, iterations=100_000, extend_by=0, validate_every=5_000),
        trials=4,
        explained=5_000,
        viewed=12,
        draws=1_000,
    ),
    "paper-gpu": Scale(  # as many iterations as the paper's least, in the time that a card may be had for
        {"train": 200_000, "validate": 10_000, "test": 20_000},
        Schedule(halve_every=25_000, iterations=100_000, extend_by=0, validate_every=10_000),
        trials=6,
        explained=5_000,
        viewed=12,
        draws=1_000,
    ),
    "paper": Scale(
        {"train": 1_220_000, "validate": 100_000, "test": 100_000},
        PAPER,
        trials=6,
        explained=5_000,
        viewed=12,
        draws=1_000,
    ),
}


@dataclass(frozen=True)
class Settings:
    """All that decides a reproduction's results; kept in its folder. A simulated survey has no `data`."""

    scale: str
    trials: int
    data: str
    survey: dict[str, Any]
    schedule: Schedule
    explained: int
    viewed: int
    draws: int
    on_bad: str
    device: str
    version: str = __version__
    precision: str | None = None  # of trainings and scores; None is the device's own


def settings(
    scale: str,
    trials: int | None,
    data: str | Path | None,
    on_bad: str,
    device: str,
    precision: str | None = None,
) -> Settings:
    """The settings of a new reproduction."""
    data = None if data is None else Path(data)
    sizes = SCALES[scale]
    made = {} if data else {**sizes.survey, "seed": SURVEY_SEED, "band": "g", "version": survey.VERSION}
    return Settings(
        scale,
        trials or sizes.trials,
        str(data.resolve()) if data else "",
        made,
        sizes.schedule,
        sizes.explained,
        sizes.viewed,
        sizes.draws,
        on_bad,
        device,
        precision=precision,
    )


def begun(folder: str | Path) -> Settings | None:
    """The settings of the reproduction in a folder; None where there is none yet.

    Raises UserError if the folder is a file, holds other files, or settings that are damaged.
    """
    folder = Path(folder)
    path = folder / SETTINGS
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; name a folder")
    if not path.exists():
        if folder.is_dir() and any(one for one in folder.iterdir() if not one.name.endswith(".part")):
            raise UserError(f"{folder}: holds other files and no reproduction; name another folder")
        return None
    with files.read_errors(path):
        text = path.read_bytes()
    try:
        values = json.loads(text)
        return Settings(**{**values, "schedule": Schedule(**values["schedule"])})
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: is damaged ({error}); name another folder") from error


def remove(folder: str | Path, data: str | Path | None) -> None:
    """Remove a reproduction from its folder, to begin one of `data` anew; other files in it stay.

    Raises UserError if the folder holds files and no reproduction, or the data, or if a process is at work in
    it.
    """
    folder = Path(folder)
    if begun(folder) is None:
        return
    if data and Path(data).resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{data}: lies in {folder}, which is to be begun anew; move it")
    steps = folder / "steps"
    with files.disk_errors(folder):
        steps.mkdir(exist_ok=True)
        with locks.held(steps, about=folder):
            for path in (one for one in steps.iterdir() if one.name != locks.NAME):
                path.unlink()
            for name in _FOLDERS:
                shutil.rmtree(folder / name, ignore_errors=not (folder / name).exists())
            for name in _FILES:
                (folder / name).unlink(missing_ok=True)


def check_same(folder: str | Path, was: Settings, asked: Settings) -> None:
    """Raise UserError unless the reproduction in a folder was begun with the settings that are asked for."""
    for name, value in asdict(asked).items():
        if (found := asdict(was)[name]) != value:
            raise UserError(
                f"{folder}: was begun with {name} {found or 'simulated'}, not {value or 'simulated'}; "
                "name another folder, or give the same options"
            )


def write(folder: str | Path, of: Settings) -> None:
    """Write the settings."""
    folder = Path(folder)
    files.write_json(folder / SETTINGS, asdict(of))
