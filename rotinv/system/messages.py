"""Messages to the user, beside the results. The library logs them as `rotinv`, and the programs show them.

A program that calls `configure` shows notes and warnings on standard error. `--quiet` leaves only warnings,
`--verbose` adds what helps to find a fault, and `--log FILE` keeps everything, with the time. The library
itself prints nothing: in a notebook, `logging` decides what is shown.
"""

import logging
import sys
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from rotinv.system.errors import UserError

_root = logging.getLogger("rotinv")
_warnings = logging.getLogger("py.warnings")  # where logging.captureWarnings sends Python's warnings
_given: set[str] = set()  # warnings of `once` that were given
_FILE_ONLY = {"file_only": True}


def configure(quiet: bool = False, verbose: bool = False, file: str | Path | None = None) -> None:
    """Show a program's messages on standard error, and append all of them to `file` if there is one.

    Warnings of other libraries (astropy's about a long header card, matplotlib's about a legend) are shown
    only if `verbose`. Raises UserError if the file cannot be written.
    """
    file = None if file is None else Path(file)
    console = _Console()
    console.setLevel(logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO)
    console.setFormatter(_Short())
    handlers: list[logging.Handler] = [console]
    if file is not None:
        handlers.append(_log_file(file))
    close()
    for handler in handlers:
        _root.addHandler(handler)
    for handler in handlers if verbose else handlers[1:]:
        _warnings.addHandler(handler)
    _root.setLevel(logging.DEBUG)
    _warnings.propagate = False
    logging.captureWarnings(True)


def close() -> None:
    """Undo `configure`."""
    for handler in [*_root.handlers, *_warnings.handlers]:
        _root.removeHandler(handler)
        _warnings.removeHandler(handler)
        handler.close()
    _root.setLevel(logging.NOTSET)
    _warnings.propagate = True
    logging.captureWarnings(False)


def once(logger: logging.Logger, text: str) -> None:
    """Give a warning the first time only in this process."""
    if text not in _given:
        _given.add(text)
        logger.warning(text)


def given() -> frozenset[str]:
    """The warnings of `once` so far, for `take_as_given` in a process that this one starts."""
    return frozenset(_given)


def take_as_given(texts: Iterable[str]) -> None:
    """Do not repeat warnings that the parent process has given."""
    _given.update(texts)


def record(level: int, text: str) -> None:
    """Write a line to the log file only, since the user has seen it or need not see it."""
    if _root.handlers:
        _root.log(level, text, extra=_FILE_ONLY)


def progress_wanted() -> bool:
    """Whether to show a progress bar: standard error is a terminal, and --quiet was not given."""
    quiet = any(isinstance(handler, _Console) and handler.level > logging.INFO for handler in _root.handlers)
    return sys.stderr.isatty() and not quiet


def _log_file(path: Path) -> logging.Handler:
    try:
        handler = logging.FileHandler(path, mode="a", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UserError(f"--log {path}: cannot be written ({error.strerror})") from error
    handler.setFormatter(_Long("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    return handler


class _Console(logging.Handler):
    """Standard error as it currently is, written around any progress bars on it."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(record, "file_only", False)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record), file=sys.stderr)
            sys.stderr.flush()
        except Exception:  # as logging's own handlers: a message that is lost must not end the program
            self.handleError(record)


class _Long(logging.Formatter):
    """Formats a line of the log file. Python's warnings end with a line break of their own, which is
    removed."""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).rstrip()


class _Short(logging.Formatter):
    """Formats a note as its bare text, and anything else with its level in front."""

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage().rstrip()
        if record.levelno == logging.INFO:
            return text
        if record.levelno < logging.INFO:
            return f"{record.name}: {text}"
        return f"{record.levelname.lower()}: {text}"


def counted(count: int, noun: str) -> str:
    """A number of things in words: 1 stamp, 2 stamps, 1,000 stamps."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
