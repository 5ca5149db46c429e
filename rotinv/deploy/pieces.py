"""The result of a stream: a folder of pieces, which tells what is done.

A piece is FOLDER/TOPIC/PARTITION/FIRST-LAST.suffix: the catalogue of the messages of a partition from one
offset to another. It appears whole or not at all, and under a lock only if no piece there has its offsets.
So whoever reads the folder knows where to go on, whatever was killed when, and nothing is in it twice.
Consumers of a group share the folder. FOLDER/stream.json says what made it, so that no other stream mixes its
pieces with these.
"""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rotinv.system import locks
from rotinv.system.errors import UserError
from rotinv.system.files import disk_errors, remove_abandoned, written_whole

_NAME = re.compile(r"(\d{12})-(\d{12})\.[a-z0-9]+")
_TOPIC = re.compile(r"[A-Za-z0-9._-]+")  # Kafka's own rule
_PATIENCE = 60.0  # seconds to wait for another consumer that writes a piece of the partition
ASIDE = "poisoned"  # the folder of messages that are no alerts
ABOUT = "stream.json"


class Pieces:
    """The pieces in a folder."""

    def __init__(self, folder: str | Path, suffix: str) -> None:
        self.folder, self._suffix = Path(folder), suffix
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned(self.folder)

    def claim(self, about: Mapping[str, Any]) -> None:
        """Say what the pieces are made by, as JSON by name, or check it where the folder says it already.

        Raises UserError if that is something else, and for a folder that holds files and is no stream's.
        """
        path = self.folder / ABOUT
        with locks.held(self.folder, _PATIENCE), disk_errors(path):
            if path.exists():
                self._compare(path, about)
                return
            others = sorted(one.name for one in self.folder.iterdir() if one.name != locks.NAME)
            if others:
                raise UserError(
                    f"{self.folder}: holds {others[0]} and no {ABOUT}: it is no stream's; name a new folder"
                )
            with written_whole(path) as temporary:
                temporary.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")

    def _compare(self, path: Path, about: Mapping[str, Any]) -> None:
        try:
            found = dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise UserError(f"{path}: is damaged ({error}); name another folder") from error
        for name, value in about.items():
            if found.get(name) != value:
                raise UserError(
                    f"{self.folder}: its pieces have other {name} ({found.get(name)}, now {value}); name a "
                    "new folder"
                )

    def next_offset(self, topic: str, partition: int) -> int:
        """The offset after the last piece of a partition; 0 if there is none."""
        place = self._place(topic, partition)
        if not place.is_dir():
            return 0
        found = [_NAME.fullmatch(path.name) for path in place.iterdir()]
        return max((int(match[2]) + 1 for match in found if match), default=0)

    @contextlib.contextmanager
    def writing(self, topic: str, partition: int) -> Iterator[int]:
        """Nobody else writes pieces of the partition meanwhile. Gives the first offset that is in none."""
        place = self._place(topic, partition)
        with disk_errors(place):
            place.mkdir(parents=True, exist_ok=True)
        with locks.held(place, _PATIENCE):
            yield self.next_offset(topic, partition)

    def path(self, topic: str, partition: int, first: int, last: int) -> Path:
        """The piece of these offsets."""
        return self._place(topic, partition) / f"{first:012}-{last:012}{self._suffix}"

    def keep_aside(self, topic: str, partition: int, offset: int, value: bytes, reason: str) -> None:
        """Keep a message that is no alert, with the reason; the same one again replaces itself."""
        stem = self.folder / ASIDE / f"{topic}.{partition}.{offset:012}"
        for suffix, data in ((".message", value), (".txt", f"{reason}\n".encode())):
            with written_whole(stem.with_name(stem.name + suffix), overwrite=True) as temporary:
                temporary.write_bytes(data)

    def _place(self, topic: str, partition: int) -> Path:
        if not _TOPIC.fullmatch(topic) or topic in (".", "..", ASIDE):
            raise UserError(f"topic {topic!r}: its name makes no folder")
        return self.folder / topic / str(partition)
