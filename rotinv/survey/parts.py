"""The folder of an unfinished survey, beside its store, from which an interrupted run goes on.

    OUT.part/options.json       what was asked for; a request for anything else is refused
    OUT.part/train-00000.npz    a block of stamps for the store, and the state of the selection after it
    OUT.part/survey.h5          the store, before it is moved to OUT
    OUT.part/finished           the store is whole; once it is moved, nothing of the folder is needed any more

Each file is whole or absent. In the end the blocks are written into the store and the folder is removed;
until it is, the disk holds the stamps twice.
"""

import contextlib
import json
import math
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rotinv.survey.selection import Selection
from rotinv.system import locks
from rotinv.system.errors import UserError
from rotinv.system.files import (
    disk_errors,
    read_errors,
    refuse_existing,
    remove_abandoned,
    remove_ours,
    written_whole,
)
from rotinv.system.messages import counted

COLUMNS = ("stamps", "label", "snr", "kind", "image")  # of a block, as of the store
CHOSEN = ("need", "seen", "images")  # of the selection, which with the seed decides all that follows

_OURS = re.compile(r"options\.json|survey\.h5|finished|lock|(train|validate|test)-\d{5,}\.npz")


class Parts:
    """The blocks of an unfinished survey (see open_parts)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "survey.h5"

    def blocks(self, split: str) -> list[Path]:
        """The files of a split's blocks, in order. Raises UserError if one is missing between them."""
        files = sorted(self.folder.glob(f"{split}-*.npz"))
        for number, block in enumerate(files):
            if block.name != f"{split}-{number:05d}.npz":
                missing = f"{split}-{number:05d}.npz"
                raise UserError(f"{self.folder}: block {missing} is missing; remove the folder to begin anew")
        return files

    def append(self, split: str, columns: Mapping[str, np.ndarray], chosen: Selection) -> None:
        """Save a split's next block, and the state of the selection after it."""
        name = self.folder / f"{split}-{len(self.blocks(split)):05d}.npz"
        ended = {f"chosen_{key}": np.asarray(getattr(chosen, key)) for key in CHOSEN}
        with written_whole(name) as temporary, temporary.open("wb") as file:
            np.savez(file, **columns, **ended)  # type: ignore[arg-type]

    def restore(self, split: str, chosen: Selection) -> None:
        """Set `chosen` to its state after the split's last block. Raises UserError for a damaged block."""
        for block in self.blocks(split)[-1:]:
            saved = _read(block, [f"chosen_{key}" for key in CHOSEN])
            chosen.need, chosen.seen = saved["chosen_need"], saved["chosen_seen"]
            chosen.images = int(saved["chosen_images"])

    def columns(self, split: str, count: int) -> Iterator[dict[str, np.ndarray]]:
        """The split's stamps, a block at a time. Raises UserError if there are not `count` in all."""
        seen = 0
        for block in self.blocks(split):
            columns = _read(block, COLUMNS)
            seen += len(columns["label"])
            yield columns
        if seen != count:
            raise UserError(
                f"{self.folder}: its blocks hold {counted(seen, 'stamp')} of '{split}', not {count}; "
                "remove the folder to begin anew"
            )


@contextlib.contextmanager
def open_parts(path: Path, options: Mapping[str, Any], *, overwrite: bool = False) -> Iterator[Parts]:
    """The parts of the survey to be made at `path` with `options`: those of an interrupted run, or new ones.

    Waits while another process makes the same file. An interrupted run leaves its parts.

    Raises UserError if `path` exists, but for `overwrite`, if its parts were made with other options, or if
    the folder cannot be written.
    """
    clear_made(path)
    refuse_existing(path, overwrite)
    folder = path.with_name(path.name + ".part")
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locks.held(folder, patience=math.inf, about=path))
        except UserError:
            refuse_existing(path, overwrite)  # another process has made it meanwhile, and removed the folder
            raise
        refuse_existing(path, overwrite)
        remove_abandoned(folder)
        _check_options(folder / "options.json", dict(options))
        yield Parts(folder)


def clear_made(path: Path) -> None:
    """Remove the parts of a finished survey, whose process was killed while it removed them."""
    parts = Parts(path.with_name(path.name + ".part"))
    if path.exists() and (parts.folder / "finished").exists() and not parts.store.exists():
        remove_ours(parts.folder, _OURS)


def finish(parts: Parts, path: Path, *, overwrite: bool = False) -> None:
    """Move the finished store from the folder of parts to `path`, and remove the parts.

    They are removed from the last to the first, so that a process killed in between leaves a folder from
    which the next one can go on.
    """
    refuse_existing(path, overwrite)
    with disk_errors(path):
        (parts.folder / "finished").touch()
        parts.store.replace(path)
    remove_ours(parts.folder, _OURS)


def _check_options(file: Path, options: dict[str, Any]) -> None:
    """Raise UserError unless `file` holds these options, or is absent and can be written."""
    if not file.exists():
        with written_whole(file) as temporary:
            temporary.write_text(json.dumps(options, indent=1) + "\n", encoding="utf-8")
        return
    with read_errors(file):
        text = file.read_bytes()
    try:
        saved = dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise UserError(f"{file}: is damaged; remove {file.parent} to begin anew") from error
    other = [
        f"{key} {saved.get(key)} not {value}" for key, value in options.items() if saved.get(key) != value
    ]
    if other or saved.keys() != options.keys():
        raise UserError(
            f"{file.parent}: holds an unfinished survey of other options ({', '.join(other)}); "
            "give the same ones to go on, or remove it"
        )


def _read(block: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    with read_errors(block), block.open("rb") as file:
        try:
            with np.load(file) as arrays:
                return {name: arrays[name] for name in names}
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{block}: is damaged; remove {block.parent} to begin anew") from error
