"""A pipeline of steps, each done once. It goes on after a kill, and repeats only steps whose inputs have
changed.

    FOLDER/steps/NAME.json      a finished step: the hash of its inputs, those of its outputs, its seconds
    FOLDER/steps/NAME.begun     the hash of the inputs with which a step that can be resumed was begun
    FOLDER/steps/files.json     hashes of files with their sizes and times: unchanged files are not read again
    FOLDER/steps/lock           held by the process that is at work in FOLDER

A step's inputs are its settings, the files that it reads and the outputs of the steps that it needs. A step
is done if its record has the hash of the current inputs, and if its outputs are unchanged.
"""

import contextlib
import functools
import hashlib
import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rotinv.system import locks
from rotinv.system.errors import UserError
from rotinv.system.files import disk_errors, remove_abandoned, write_json, written_whole
from rotinv.system.workers import Crew, Task

_PATIENCE = 10.0  # seconds to wait for the processes of a run that was just killed


@dataclass(frozen=True)
class Step:
    """A piece of work.

    Its `outputs` are below the pipeline's folder; the `files` that it reads may be anywhere.
    """

    name: str
    task: Task
    settings: Mapping[str, Any]  # JSON: all, besides files and needs, that decides the outputs
    outputs: tuple[str, ...]
    needs: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    work: float = 1.0  # about how many seconds it takes one process
    alone: bool = False  # it starts processes itself, so this process does it, before the crew is employed
    begun: Callable[[], float] | None = None  # of a step that can be resumed: the share that is done


class Watcher(Protocol):
    """Is told how the pipeline progresses, to show it; `worked` is in the seconds of Step.work."""

    def moved(self, worked: float, busy: Sequence[str]) -> None: ...
    def ended(self, step: Step, seconds: float, done: int) -> None: ...


class Book:
    """The records in a pipeline's folder."""

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        self.folder = folder
        self.steps = folder / "steps"
        self._files = _json(self.steps / "files.json") or {}

    def inputs(self, step: Step) -> str:
        """The hash of a step's current inputs; the steps that it needs must have been done."""
        needed = {name: (_json(self._record(name)) or {}).get("outputs") for name in step.needs}
        files = [self.digest(path) for path in step.files]
        text = json.dumps([step.name, dict(step.settings), needed, files], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def done(self, step: Step) -> bool:
        """Whether a step is done; the steps that it needs must be."""
        record = _json(self._record(step.name))
        if record is None or record.get("inputs") != self.inputs(step):
            return False
        return record.get("outputs") == self._outputs(step)

    def record(self, step: Step, inputs: str, seconds: float) -> None:
        """Note that a step has been done."""
        outputs = self._outputs(step)
        missing = [name for name, digest in outputs.items() if digest is None]
        assert not missing, f"{step.name} has not made {missing}"
        write_json(self.steps / "files.json", self._files)
        write_json(self._record(step.name), {"inputs": inputs, "outputs": outputs, "seconds": seconds})

    def begin(self, step: Step) -> str:
        """Note that a step begins, and return the hash of its inputs.

        Old outputs are removed, unless the step can be resumed. In that case UserError is raised if its
        inputs have changed since it was begun, or if it was done and its outputs have been changed since.
        """
        inputs = self.inputs(step)
        if step.begun is None:
            for name in step.outputs:
                (self.folder / name).unlink(missing_ok=True)
            return inputs
        note = self._record(step.name).with_suffix(".begun")
        if note.exists() and note.read_text(encoding="utf-8") != inputs:
            raise UserError(
                f"{self.folder}: the data, the settings or the program have changed since '{step.name}' was "
                "begun; choose another --out"
            )
        self._check_unspoiled(step)
        with written_whole(note, overwrite=True) as temporary:
            temporary.write_text(inputs, encoding="utf-8")
        return inputs

    def _check_unspoiled(self, step: Step) -> None:
        """Raise UserError if outputs of a step that was done have been changed, or some of them removed."""
        left = (_json(self._record(step.name)) or {}).get("outputs", {})
        digests = self._outputs(step)
        for name in step.outputs:
            if any(digests.values()) and name in left and digests[name] != left[name]:
                path = self.folder / name
                what = path if path.parent == self.folder else path.parent
                raise UserError(
                    f"{path}: is not as '{step.name}' left it; remove {what} to have it made anew"
                )

    def seconds(self, name: str) -> float | None:
        """How long a step took when it was done."""
        record = _json(self._record(name))
        return None if record is None else record.get("seconds")

    def digest(self, path: str | Path) -> str | None:
        """The SHA-256 of a file, or None if it is absent.

        The file is read only if its size or time has changed.
        """
        path = Path(path)
        try:
            stat = path.stat()
            seen = [stat.st_size, stat.st_mtime_ns]
            known = self._files.get(str(path))
            if known is None or known[:2] != seen:
                with path.open("rb") as file:
                    known = [*seen, _sha256(file)]
                self._files[str(path)] = known
            return known[2]
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error

    def _outputs(self, step: Step) -> dict[str, str | None]:
        return {name: self.digest(self.folder / name) for name in step.outputs}

    def _record(self, name: str) -> Path:
        return self.steps / f"{name.replace(' ', '-')}.json"


def wanted(steps: Sequence[Step], names: Sequence[str]) -> list[Step]:
    """The steps of those names and all that they need, in the order of `steps`."""
    by_name = {step.name: step for step in steps}
    needed: set[str] = set()
    left = list(names)
    while left:
        name = left.pop()
        if name not in needed:
            needed.add(name)
            left.extend(by_name[name].needs)
    return [step for step in steps if step.name in needed]


def finished(book: Book, steps: Sequence[Step]) -> set[str]:
    """The names of the steps that are done, each with all that it needs."""
    done: set[str] = set()
    for step in steps:
        if done.issuperset(step.needs) and book.done(step):
            done.add(step.name)
    return done


@dataclass
class _Run:
    """A pipeline under way."""

    book: Book
    steps: Sequence[Step]
    watcher: Watcher
    done: set[str]
    started: dict[str, tuple[str, float]] = field(default_factory=dict)  # inputs and time, by step
    shares: dict[str, float] = field(default_factory=dict)

    def ready(self) -> Iterator[Step]:
        """The steps that can begin now.

        A step whose inputs turn out to be unchanged counts as done.
        """
        for step in self.steps:
            if step.name in self.done or step.name in self.started or not self.done.issuperset(step.needs):
                continue
            if self.book.done(step):
                self.done.add(step.name)
                self.watcher.moved(step.work, [])
            else:
                yield step

    def begin(self, step: Step) -> None:
        """Note that a step begins, or goes on from where it was."""
        self.shares[step.name] = step.begun() if step.begun else 0.0
        self.started[step.name] = (self.book.begin(step), time.monotonic())

    def moved(self, step: Step, share: float, busy: Sequence[str]) -> None:
        """Note how far a step has come."""
        self.watcher.moved(step.work * (share - self.shares[step.name]), busy)
        self.shares[step.name] = share

    def end(self, step: Step, busy: Sequence[str]) -> None:
        """A step has been done."""
        inputs, since = self.started.pop(step.name)
        self.moved(step, 1.0, busy)
        self.book.record(step, inputs, time.monotonic() - since)
        self.done.add(step.name)
        self.watcher.ended(step, time.monotonic() - since, len(self.done))


Employ = Callable[[Callable[[], None]], contextlib.AbstractContextManager[Crew]]  # see workers.employ


def run(folder: str | Path, steps: Sequence[Step], employ: Employ, watcher: Watcher) -> None:
    """Do the steps that are not done, on the crew that `employ` gives, each after the steps that it needs.

    Raises the UserError of a step that fails, and UserError if another process is at work in the folder or if
    it cannot be written.
    """
    folder = Path(folder)
    with disk_errors(folder / "steps"):
        (folder / "steps").mkdir(parents=True, exist_ok=True)
    with locks.held(folder / "steps", _PATIENCE, about=folder):
        remove_abandoned(folder)
        book = Book(folder)
        going = _Run(book, steps, watcher, finished(book, steps))
        _alone(going)
        if any(step.name not in going.done for step in steps):
            hold = functools.partial(locks.join, folder / "steps")
            with employ(hold) as crew:
                _together(going, crew)


def _alone(going: _Run) -> None:
    for step in [step for step in going.steps if step.alone and step.name not in going.done]:
        going.begin(step)
        step.task(functools.partial(going.moved, step, busy=[step.name]))
        going.end(step, [])


def _together(going: _Run, crew: Crew) -> None:
    by_name = {step.name: step for step in going.steps}
    while len(going.done) < len(going.steps):
        for step in itertools.islice(going.ready(), crew.free):
            going.begin(step)
            crew.start(step.name, step.task)
        for name, share in crew.wait(1.0):
            if share is None:
                going.end(by_name[name], crew.busy)
            else:
                going.moved(by_name[name], share, crew.busy)


def _json(path: Path) -> Any:
    """The content of a JSON file; None if it is missing or incomplete."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _sha256(file: Any) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 22):
        digest.update(block)
    return digest.hexdigest()
