"""What every program shares: options that are checked as they are read, messages, one-line errors."""

import contextlib
import io
import logging
import os
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from rotinv.nn.devices import DEVICES, PRECISIONS
from rotinv.system import messages, signals
from rotinv.system.arguments import Parser as Parser
from rotinv.system.arguments import fractions as fractions
from rotinv.system.arguments import integer as integer
from rotinv.system.arguments import names as names
from rotinv.system.arguments import number as number
from rotinv.system.errors import UserError
from rotinv.system.messages import counted as counted
from rotinv.system.messages import progress_wanted as progress_wanted

_log = logging.getLogger("rotinv")


def add_overwrite(parser: Parser) -> None:
    """The option of programs that write files."""
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there already")


def add_split(parser: Parser) -> None:
    """The option of programs that read a stamp store; stamps of other kinds have no splits."""
    parser.add_argument(
        "--split", choices=("train", "validate", "test"), help="of a stamp store (default: test)"
    )


def add_device(parser: Parser) -> None:
    """The options of programs that compute with kernels."""
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="where to compute")
    parser.add_argument("--threads", type=integer(1), help="threads of the cpu device (default: all)")


def add_at_fpr(parser: Parser) -> None:
    """The option of programs that call stamps candidates."""
    parser.add_argument(
        "--at-fpr",
        type=number(0, 1, open_low=True),
        metavar="FPR",
        help="classify at the threshold that rotinv evaluate found for this FPR (default: at 0.5)",
    )


def add_precision(parser: Parser, choices: Sequence[str] = PRECISIONS) -> None:
    """The option of programs that train or score: maps of relevance are float32, trainings never fp16."""
    parser.add_argument(
        "--precision",
        choices=choices,
        help="of cuda: tf32 (the default) multiplies on tensor cores, where there are any"
        + ("; so does fp16, in half the time" if "fp16" in choices else ""),
    )


def add_profile(parser: Parser) -> None:
    """The option of programs that read alerts, for surveys that are not known."""
    parser.add_argument(
        "--profile",
        action="append",
        default=[],
        type=Path,
        metavar="FILE.toml",
        help="describes the alerts of a survey of your own (docs/alerts.md); may be given several times",
    )


def add_words(parser: Parser) -> None:
    """The options of programs that read labels in words."""
    text = "words or numbers of labels that mean {} (default: {})"
    parser.add_argument("--real", type=names, metavar="WORD,…", help=text.format("a candidate", "real,1"))
    parser.add_argument("--bogus", type=names, metavar="WORD,…", help=text.format("an artifact", "bogus,0"))


def add_classes(parser: Parser, order: str) -> None:
    """The options of programs that are told the classes; `order` says what the names' order means."""
    text = f"the classes where they are not artifact and candidate: {order}"
    parser.add_argument("--classes", type=names, metavar="NAME,…", help=text)
    text = "of more than two classes the one that is searched for: p(candidate) and thresholds are its own"
    parser.add_argument("--candidate", metavar="NAME", help=text)


def run(program: str, main: Callable[[], int]) -> NoReturn:
    """Run a program's `main`, and exit with its status.

    The status is 2, with one line on standard error, for bad input; 130 for Ctrl-C; 143 for SIGTERM.
    """
    _prepare()
    received = signals.stop_at_signals()
    try:
        status = main()
        sys.stdout.flush()
    except (UserError, KeyboardInterrupt, OSError, MemoryError) as error:
        try:
            signals.ignore()
        except KeyboardInterrupt:  # a second one, before they were ignored
            signals.ignore()
        status = _end_badly(f"rotinv {program}".strip(), error, signal.SIGTERM in received)
    except Exception:
        messages.record(logging.ERROR, traceback.format_exc())
        raise
    sys.exit(status)


def _end_badly(name: str, error: BaseException, terminated: bool) -> int:
    """Tell in one line why a program ends, and give its exit status."""
    if isinstance(error, UserError):
        _tell(f"{name}: {error}")
        return 2
    if isinstance(error, KeyboardInterrupt):
        _tell("; ".join([f"{name}: {'terminated' if terminated else 'interrupted'}", *map(str, error.args)]))
        return 143 if terminated else 130
    if isinstance(error, BrokenPipeError):  # the reader of our output (head, less) has gone
        _drop_output()
        return 0
    reason = f"not enough memory ({error})"  # a batch too large
    if isinstance(error, OSError):  # a full standard output, a name too long
        reason = f"{error.strerror or error}: {error.filename or 'standard output'}"
    _tell(f"{name}: {reason}")
    _drop_output()
    return 2


def _prepare() -> None:
    """Make streams and libraries such that they cannot end a program with an error of their own."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller: rotinv … >&-
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
        elif isinstance(stream, io.TextIOWrapper):  # the encoding may lack a letter
            stream.reconfigure(errors="backslashreplace")
    os.environ["MPLBACKEND"] = "agg"  # a notebook names its own, which this environment may not have
    logging.captureWarnings(True)  # see messages.configure
    tqdm.set_lock(threading.RLock())  # as in workers.begin_worker


def _tell(line: str) -> None:
    """The last line of a program that ends badly."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)
    messages.record(logging.ERROR, line)


def _drop_output() -> None:
    """Have the rest of standard output's buffer, which cannot be written, go nowhere as Python ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def note(*lines: str) -> None:
    """Tell the user how it goes: on standard error unless --quiet, and in the file of --log."""
    for line in lines:
        _log.info(line)


def warn(*lines: str) -> None:
    """Tell the user what may be wrong, also with --quiet."""
    for line in lines:
        _log.warning(line)


def command(program: str, *arguments: object) -> str:
    """A command to show to the user, quoted for the shell."""
    return shlex.join(["rotinv", program, *map(str, arguments)])


@contextlib.contextmanager
def goes_on_when_repeated(without: str = "") -> Iterator[None]:
    """A program whose files let the same command go on, but `without` an option: who interrupts it is told
    so."""
    try:
        yield
    except KeyboardInterrupt:
        same = f"the same command {f'without {without} ' if without else ''}goes on from here"
        raise KeyboardInterrupt(same) from None
