"""Where a reproduction's files are, and what its steps share."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from rotinv.nn.contract import Kernels
from rotinv.nn.devices import get_kernels
from rotinv.paper import sheets
from rotinv.paper.published import NAMES
from rotinv.paper.sheets import Sheet
from rotinv.runs.model import Model, load_model
from rotinv.runs.protocol import PAPER, Schedule

ARCHS = ("deephits", "deephits-relu", "cap")
_LEARNED = 1_000  # iterations below which a network has learned too little for any comparison


@dataclass(frozen=True)
class Place:
    """The folder of a reproduction, its stamp store, and how its steps compute."""

    folder: Path
    data: Path
    on_bad: str = "error"
    device: str = "cpu"
    threads: int = 1
    caution: str = ""  # what every picture and table of trained networks must say of itself
    precision: str | None = None  # of trainings and scores

    @property
    def sheets(self) -> Path:
        """The folder of the tables and pictures."""
        return self.folder / "sheets"

    @property
    def steps(self) -> Path:
        """The folder of the steps' records (see rotinv/system/pipeline.py)."""
        return self.folder / "steps"

    def run(self, arch: str, trial: int) -> Path:
        """The run of a trial."""
        return self.folder / "trials" / f"{arch}-{trial}"

    def scores(self, arch: str, trial: int) -> Path:
        """The test stamps' scores by a trial."""
        return self.folder / "scores" / f"{arch}-{trial}.h5"

    def sigma(self, arch: str) -> Path:
        """sigma-bar of test stamps by an architecture's first trial."""
        return self.folder / "scores" / f"sigma-{arch}.npz"

    def sheet(self, name: str) -> Path:
        """The sheet of a table or figure."""
        return self.sheets / f"{name}.json"

    def write_sheet(self, name: str, sheet: Sheet) -> None:
        """Write the sheet of something that trained networks have shown, with the caution."""
        sheets.write(self.sheet(name), dataclasses.replace(sheet, caution=self.caution))

    def captioned(self, title: str) -> str:
        """A picture's title, with the caution below it."""
        return f"{title}\n{self.caution}" if self.caution else title

    def relative(self, path: Path) -> str:
        """A path below the folder."""
        return path.relative_to(self.folder).as_posix()

    def kernels(self, precision: str | None = "fp32") -> Kernels:
        """The device's kernels; without a precision, those that are fastest for training and scoring."""
        return get_kernels(self.device, self.threads, precision)

    def model(self, arch: str, trial: int = 1) -> Model:
        """A trial's network, under the paper's name."""
        model = load_model(self.run(arch, trial))
        return Model(f"{NAMES[arch]}, trial {trial}", model.config, model.network, model.params)


def caution(schedule: Schedule) -> str:
    """What must be said of networks of fewer iterations than the paper's; nothing of others."""
    count = schedule.iterations
    if count >= PAPER.iterations:
        return ""
    theirs = f"the paper's: {PAPER.iterations:,} or more"
    if count < _LEARNED:
        return (
            f"ONLY A TEST THAT IT RUNS: networks of {count} iterations ({theirs}) decide none of its claims"
        )
    return f"Networks of {count:,} iterations ({theirs})"
