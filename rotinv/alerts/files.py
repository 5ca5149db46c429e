"""Files of alerts as one list: which kind each is, told by its first bytes, and how many alerts it has."""

import bisect
import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rotinv.alerts import avro, fits, parquet, stamp
from rotinv.alerts.profiles import Profile
from rotinv.alerts.stamp import Packet
from rotinv.alerts.surveys import SURVEYS
from rotinv.stamps.alert_columns import ALERT_COLUMNS, MEASURES
from rotinv.stamps.store import CHANNELS
from rotinv.system.errors import MissingLibrary, UserError
from rotinv.system.files import read_errors

BLOCK = 200  # alerts read at a time: few, so that kernels wait less for the first and readers for the last
RawBlock = tuple[int, NDArray[np.float32], NDArray[np.uint32], dict[str, NDArray]]  # see raw_blocks
SUFFIXES = (".avro", ".fits", ".fit", ".fits.gz", ".fits.fz", ".parquet")
_GZIP = b"\x1f\x8b"
_APPLE_DOUBLE = b"\x00\x05\x16\x07"  # what a Mac writes beside a file on a foreign disk, as ._NAME
_SINGLE_OBJECT = b"\xc3\x01"  # Avro 1.12, "Single-object encoding"
_FRAME = 5  # bytes before the record in a message of a schema registry: 0, then the schema's number
_TAR_AT = 257  # where a tar archive has its mark
_KINDS = (
    (avro.MAGIC, avro.AvroFile),
    (parquet.MAGIC, parquet.ParquetFile),
    (fits.MAGIC, fits.FitsFile),
    (_GZIP, fits.FitsFile),
)


class AlertFile(Protocol):
    """What a file of any kind does."""

    path: Path
    problems: list[str]

    def __len__(self) -> int: ...

    def packets(self, start: int, stop: int) -> Iterator[Packet]:
        """The alerts from `start` up to `stop`; those that cannot be read are flagged so."""


class Alerts:
    """The alerts of many files, in order.

    A file that cannot be read is left out and told in `problems`, unless no file can be read: then, and for
    a path that does not exist or is no file of alerts, UserError is raised.
    """

    def __init__(self, paths: Sequence[str | Path], profiles: Sequence[Profile] = ()) -> None:
        """`profiles` describe surveys of the user's own, which come before those that are known."""
        self.paths = tuple(map(Path, paths))
        self.unreadable: list[str] = []
        self.files: list[AlertFile] = []
        kinds = [(path, _kind(path)) for path in self.paths]  # all are looked at before any is read
        for path, kind in kinds:
            try:
                self.files.append(kind(path, (*profiles, *SURVEYS)))
            except UserError as error:
                if len(paths) == 1 or isinstance(error, MissingLibrary):
                    raise
                self.unreadable.append(str(error))
        self._ends = list(accumulate(map(len, self.files)))
        if not len(self):
            first = (self.problems or ["no alerts"])[0]
            raise UserError(
                f"{paths[0] if len(paths) == 1 else f'{len(paths)} files'}: no alert is there ({first})"
            )

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @property
    def problems(self) -> list[str]:
        """What could not be read, so far."""
        return [*self.unreadable, *(text for file in self.files for text in file.problems)]

    def numbers(self, start: int, stop: int) -> range:
        """The numbers of the files that hold the alerts from `start` up to `stop`."""
        last = bisect.bisect_left(self._ends, min(stop, len(self)))
        return range(bisect.bisect_right(self._ends, start), last + 1)

    def packets(self, start: int, stop: int) -> Iterator[Packet]:
        """The alerts from `start` up to `stop`, counted through all files."""
        for number in self.numbers(start, stop):
            file, end = self.files[number], self._ends[number]
            first = end - len(file)
            yield from file.packets(max(start - first, 0), min(stop, end) - first)


def find_files(paths: Sequence[str | Path]) -> list[Path]:
    """The files, and those of each folder in the order of their names.

    A table that Spark wrote is a folder, NAME.parquet, and its parts are read. Passed over are hidden files
    and folders, whose names begin with a dot, folders whose names begin with _ (those of a Mac, and of a job
    of Spark's that is not done), and links to folders, which often lead to one that is there already.

    Raises UserError if a folder has none or cannot be read, and if a file is there twice: its alerts would
    count twice.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(_below(path))
        if not inside:
            raise UserError(
                f"{path}: holds neither a run (config.json) nor files of alerts ({', '.join(SUFFIXES)})"
            )
        found += inside
    seen: set[Path] = set()
    for path in found:
        if (whole := path.resolve()) in seen:
            raise UserError(f"{path}: is named twice, by itself or with its folder; name it once")
        seen.add(whole)
    return found


def _below(folder: Path) -> Iterator[Path]:
    """The files of alerts in a folder and in those below it.

    Raises UserError for a folder that cannot be read: its alerts would be missing without a word.
    """
    with read_errors(folder):
        inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
    for path in inside:
        if path.is_dir():
            if not path.is_symlink() and not path.name.startswith("_"):
                yield from _below(path)
        elif path.name.lower().endswith(SUFFIXES) and path.is_file():
            yield path


def _kind(path: Path) -> Callable[[Path, Sequence[Profile]], AlertFile]:
    start = _start(path)
    if not start:
        return _refuse_empty
    if _is_message(start):
        return _refuse_message
    for magic, kind in _KINDS:
        if start.startswith(magic) and (magic != _GZIP or _unzipped(start).startswith(fits.MAGIC)):
            return kind
    raise UserError(f"{path}: is no file of alerts: {_instead(start)}")


def _refuse_empty(path: Path, profiles: Sequence[Profile]) -> AlertFile:
    """An empty file is a damaged one: a download that failed must not stop a night's other files."""
    raise UserError(f"{path}: is empty")


def _is_message(start: bytes) -> bool:
    """Whether a file begins as a message of a stream does, which has one alert and no schema."""
    framed = start[0] == 0 and any(start[:_FRAME]) and len(start) > _FRAME
    return (framed and not start.startswith(_APPLE_DOUBLE)) or start.startswith(_SINGLE_OBJECT)


def _refuse_message(path: Path, profiles: Sequence[Profile]) -> AlertFile:
    """A message without its schema is an unreadable alert, which must not stop a night's other files."""
    start = _start(path)
    remedy = "write a container with fastavro.writer"
    if start.startswith(_SINGLE_OBJECT):
        raise UserError(f"{path}: is one Avro object without its schema; {remedy}")
    number = int.from_bytes(start[1:_FRAME], "big")
    major, minor = divmod(number, 100)  # Rubin numbers its schemas so
    rubin = f" (Rubin's {major}.{minor}, in lsst-alert-packet)" if 3 <= major < 100 else ""
    raise UserError(
        f"{path}: is a message of a stream, framed for a schema registry: it names schema {number}{rubin} "
        f"and does not hold it; decode it with that and {remedy}"
    )


def _instead(start: bytes) -> str:
    """What a file is that begins so, and what can be done; of those that brokers and archives give."""
    if start.startswith(_GZIP):
        return "it is gzipped, and no FITS file is within; unpack it (gunzip, or tar -xzf)"
    if start[_TAR_AT:].startswith(b"ustar"):
        return "it is a tar archive; unpack it (tar -xf) and name the folder"
    if start.startswith(_APPLE_DOUBLE):
        return "it is a Mac's hidden file, which tells of another one and has no alerts; leave it out"
    return "it begins as neither Avro, FITS nor Parquet does"


def _unzipped(start: bytes) -> bytes:
    """What a gzipped file begins with; what is damaged there is for the reader of FITS to tell."""
    try:
        return zlib.decompressobj(wbits=31).decompress(start, len(fits.MAGIC))
    except zlib.error:
        return fits.MAGIC


def _start(path: Path) -> bytes:
    """The first bytes of a file. Raises UserError if it cannot be opened."""
    with read_errors(path), path.open("rb") as file:
        return file.read(512)


def raw_blocks(files: Alerts, start: int, stop: int, size: int) -> Iterator[RawBlock]:
    """For blocks of alerts: the first one's number, raw stamps (n, size, size, 4), flags, and ALERT_COLUMNS
    with the SNR."""
    found = files.packets(start, stop)
    for first in range(start, stop, BLOCK):
        count = min(BLOCK, stop - first)
        yield first, *stamps_of(itertools.islice(found, count), count, size)


def stamps_of(
    packets: Iterable[Packet], count: int, size: int
) -> tuple[NDArray[np.float32], NDArray[np.uint32], dict[str, NDArray]]:
    """The raw stamps (count, size, size, 4) of so many packets, their flags, and ALERT_COLUMNS with the
    SNR."""
    stamps = np.empty((count, size, size, len(CHANNELS)), np.float32)
    flags, snr = np.empty(count, np.uint32), np.empty(count, np.float32)
    known: dict[str, NDArray] = {name: np.empty(count, MEASURES.get(name, object)) for name in ALERT_COLUMNS}
    for i, packet in enumerate(packets):
        stamps[i], flags[i] = stamp.stamp_of(packet, size)
        snr[i] = packet.snr
        for name, values in known.items():
            values[i] = getattr(packet, name)
    return stamps, flags, {**known, "snr": snr}
