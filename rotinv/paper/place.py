"""Where a reproduction's files are, and what its steps share."""

from dataclasses import dataclass
from pathlib import Path

from rotinv.nn.contract import Kernels
from rotinv.nn.devices import get_kernels
from rotinv.paper.published import NAMES
from rotinv.runs.model import Model, load_model

ARCHS = ("deephits", "deephits-relu", "cap")


@dataclass(frozen=True)
class Place:
    """The folder of a reproduction, its stamp store, and how its steps compute."""

    folder: Path
    data: Path
    on_bad: str = "error"
    device: str = "cpu"
    threads: int = 1

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

    def relative(self, path: Path) -> str:
        """A path below the folder."""
        return path.relative_to(self.folder).as_posix()

    def kernels(self, precision: str = "fp32") -> Kernels:
        """The device's kernels."""
        return get_kernels(self.device, self.threads, precision)

    def model(self, arch: str, trial: int = 1) -> Model:
        """A trial's network, under the paper's name."""
        model = load_model(self.run(arch, trial))
        return Model(f"{NAMES[arch]}, trial {trial}", model.config, model.network, model.params)
