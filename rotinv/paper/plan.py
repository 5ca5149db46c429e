"""What a reproduction consists of: its scales, its settings, where its files are, and its steps."""

import functools
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from rotinv import survey
from rotinv.paper import material, report, table1_fig1, table2_fig2, table3_figs3to5
from rotinv.paper.place import ARCHS, Place, caution
from rotinv.runs.folder import BEST_FILE, CONFIG_FILE, HISTORY_FILE
from rotinv.runs.protocol import PAPER, Schedule
from rotinv.system import files
from rotinv.system.errors import UserError
from rotinv.system.pipeline import Step
from rotinv.system.version import __version__

SETTINGS = "reproduction.json"
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


def settings(scale: str, trials: int | None, data: str | Path | None, on_bad: str, device: str) -> Settings:
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
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Settings(**{**values, "schedule": Schedule(**values["schedule"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: is damaged ({error}); name another folder") from error


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


def place(folder: str | Path, of: Settings, threads: int) -> Place:
    """Where the files are, and what the steps share."""
    folder = Path(folder)
    data = Path(of.data) if of.data else folder / "survey.h5"
    return Place(folder, data, of.on_bad, of.device, threads, caution(of.schedule))


def steps(folder: str | Path, of: Settings, workers: int, threads: int) -> list[Step]:
    """All steps, each after those that it needs."""
    return list(_Steps(place(folder, of, threads), of, workers).all())


@dataclass(frozen=True)
class _Steps:
    """The steps of one reproduction."""

    at: Place
    of: Settings
    workers: int

    def all(self) -> Iterator[Step]:
        if not self.of.data:
            yield self._survey()
        simulated = not self.of.data
        yield self._sheet("table1", table1_fig1.table_1, simulated=simulated)
        yield self._sheet("fig1", table1_fig1.fig_1, ("fig1.png",), simulated=simulated)
        for trial in range(1, self.of.trials + 1):
            for arch in ARCHS:
                yield self._train(arch, trial)
        for trial in range(1, self.of.trials + 1):
            for arch in ARCHS:
                yield self._score(arch, trial)
        yield from self._sheets()

    def _sheets(self) -> Iterator[Step]:
        trials, draws = self.of.trials, self.of.draws
        every = tuple(self._name("score", arch, i) for i in range(1, trials + 1) for arch in ARCHS)
        caps = tuple(name for name in every if name.startswith("score cap-"))
        two = tuple(self._name("score", arch, 1) for arch in ("deephits", "cap"))
        yield Step(
            "viewer",
            functools.partial(table3_figs3to5.viewer, self.at, self.of.viewed),
            self._settings(viewed=self.of.viewed, program=_program()),
            ("sheets/viewer.html",),
            needs=two,
            files=self._files,
            work=2.0 * self.of.viewed,
        )
        yield self._sheet("table2", table2_fig2.table_2, needs=every, trials=trials)
        yield self._sheet("fig2", table2_fig2.fig_2, ("fig2.png",), needs=every, trials=trials, draws=draws)
        yield self._sheet("ensembles", table2_fig2.ensemble, ("ensembles.png",), needs=caps, trials=trials)
        yield self._sheet("fig3", table3_figs3to5.fig_3, needs=two, work=5)
        yield self._sheet("fig4", table3_figs3to5.fig_4, needs=two, work=5)
        for arch in ("deephits", "cap"):
            yield self._sigma(arch)
        sigma = tuple(self._name("sigma", arch, 1) for arch in ("deephits", "cap"))
        yield self._sheet("table3", table3_figs3to5.table_3, needs=sigma, work=5)
        yield self._sheet("fig5", table3_figs3to5.fig_5, ("fig5.png",), needs=sigma, work=5)
        yield Step(
            "report",
            functools.partial(report.write, self.at, asdict(self.of)),
            {**asdict(self.of), "version": __version__, "program": _program()},
            ("report.html",),
            needs=(*SHEETS, "viewer"),
        )

    def _survey(self) -> Step:
        made = self.of.survey
        counts = {name: made[name] for name in ("train", "validate", "test")}
        return Step(
            "survey",
            functools.partial(material.simulate, self.at, made, self.workers),
            made,
            ("survey.h5",),
            work=sum(counts.values()) / 300 + 30,
            alone=True,
            begun=lambda: 0.0,
        )

    def _train(self, arch: str, trial: int) -> Step:
        folder = self.at.run(arch, trial)
        schedule = self.of.schedule
        return Step(
            self._name("train", arch, trial),
            functools.partial(material.train_trial, self.at, schedule, arch, trial),
            self._settings(arch=arch, seed=trial, schedule=asdict(schedule)),
            tuple(self.at.relative(folder / name) for name in (CONFIG_FILE, HISTORY_FILE, BEST_FILE)),
            needs=self._survey_made,
            files=self._files,
            work=0.12 * schedule.iterations,
            begun=functools.partial(material.share_done, self.at, arch, trial),
        )

    def _score(self, arch: str, trial: int) -> Step:
        return Step(
            self._name("score", arch, trial),
            functools.partial(material.score_trial, self.at, arch, trial),
            self._settings(),
            (self.at.relative(self.at.scores(arch, trial)),),
            needs=(self._name("train", arch, trial),),
            files=self._files,
            work=0.0006 * self.of.survey.get("test", 100_000) + 3,
        )

    def _sigma(self, arch: str) -> Step:
        count = self.of.explained
        return Step(
            self._name("sigma", arch, 1),
            functools.partial(table3_figs3to5.sigma, self.at, arch, count),
            self._settings(count=count),
            (self.at.relative(self.at.sigma(arch)),),
            needs=(self._name("train", arch, 1),),
            files=self._files,
            work=0.006 * count + 3,
        )

    def _sheet(
        self,
        name: str,
        does: Callable[..., None],
        pictures: tuple[str, ...] = (),
        needs: tuple[str, ...] = (),
        work: float = 3,
        **values: Any,
    ) -> Step:
        """A step that makes a sheet, with the pictures that it always has."""
        made = [self.at.sheet(name), self.at.sheet(name).with_suffix(".txt")]
        made += [self.at.sheets / picture for picture in pictures]
        return Step(
            name,
            functools.partial(does, self.at, *values.values()),
            self._settings(**values, program=_program()),
            tuple(map(self.at.relative, made)),
            needs=needs,
            files=self._files,
            work=work,
        )

    def _settings(self, **values: Any) -> dict[str, Any]:
        return {"version": self.of.version, "on_bad": self.of.on_bad, "device": self.of.device, **values}

    def _name(self, what: str, arch: str, trial: int) -> str:
        return f"{what} {arch}-{trial}"

    @property
    def _survey_made(self) -> tuple[str, ...]:
        return () if self.of.data else ("survey",)

    @property
    def _files(self) -> tuple[Path, ...]:
        """The user's data, of every step; a simulated survey is a step's output."""
        return (self.at.data,) if self.of.data else ()


@functools.cache
def _program() -> str:
    """The hash of the package's sources: a sheet costs seconds, and is made anew when any of them changes.

    What costs hours (survey, trials, scores, sigma-bar) goes by the version alone.
    """
    digest = hashlib.sha256()
    with resources.as_file(resources.files("rotinv")) as folder:
        for path in sorted(one for one in folder.rglob("*") if one.suffix in (".py", ".js", ".css")):
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


SHEETS = ("table1", "table2", "table3", "fig1", "fig2", "fig3", "fig4", "fig5", "ensembles")
CHOICES = (*SHEETS, "viewer", "report")  # of --only
