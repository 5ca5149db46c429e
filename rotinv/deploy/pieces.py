"""The result of a stream: a folder of pieces, which tells what is done.

A piece is FOLDER/TOPIC/PARTITION/FIRST-LAST.suffix: the catalogue of the messages of a partition from one
offset to another. It appears whole or not at all, and under a lock only if no piece there has its offsets.
So whoever reads the folder knows where to go on, whatever was killed when, and nothing is in it twice.
Consumers of a group share the folder.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from rotinv.system import locks
from rotinv.system.errors import UserError
from rotinv.system.files import disk_errors, remove_abandoned, written_whole

_NAME = re.compile(r"(\d{12})-(\d{12})\.[a-z0-9]+")
_TOPIC = re.compile(r"[A-Za-z0-9._-]+")  # Kafka's own rule
_PATIENCE = 60.0  # seconds to wait for another consumer that writes a piece of the partition
ASIDE = "poisoned"  # the folder of messages that are no alerts


class Pieces:
    """The pieces in a folder."""

    def __init__(self, folder: str | Path, suffix: str) -> None:
        self.folder, self._suffix = Path(folder), suffix
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned(self.folder)

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
