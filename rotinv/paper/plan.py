"""What a reproduction consists of: where its files are, and its steps. scales.py has the settings."""

import functools
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from rotinv.paper import differences, material, report, table1_fig1, table2_fig2, table3_figs3to5
from rotinv.paper.place import ARCHS, Place, caution
from rotinv.paper.scales import Settings
from rotinv.runs.folder import BEST_FILE, CONFIG_FILE, HISTORY_FILE
from rotinv.system.pipeline import Step
from rotinv.system.version import __version__


def place(folder: str | Path, of: Settings, threads: int) -> Place:
    """Where the files are, and what the steps share."""
    folder = Path(folder)
    data = Path(of.data) if of.data else folder / "survey.h5"
    return Place(folder, data, of.on_bad, of.device, threads, caution(of.schedule), of.precision)


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
        yield self._sheet("differences", differences.differences, needs=every, trials=trials, draws=draws)
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
        computing = {
            "device": self.of.device,
            **({"precision": self.of.precision} if self.of.precision else {}),
        }
        return {"version": self.of.version, "on_bad": self.of.on_bad, **computing, **values}

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


SHEETS = ("table1", "table2", "table3", "fig1", "fig2", "fig3", "fig4", "fig5", "differences", "ensembles")
CHOICES = (*SHEETS, "viewer", "report")  # of --only
