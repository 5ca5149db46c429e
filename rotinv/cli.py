"""What every program shares: options that are checked as they are read, messages, one-line errors."""

import argparse
import contextlib
import io
import logging
import math
import os
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tqdm import tqdm

from rotinv.nn.devices import DEVICES, PRECISIONS
from rotinv.system import messages, signals
from rotinv.system.errors import UserError, did_you_mean
from rotinv.system.messages import counted as counted
from rotinv.system.messages import progress_wanted as progress_wanted
from rotinv.system.version import __version__

_log = logging.getLogger("rotinv")


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows an option's default where it has one; an empty list is none."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, [], ()) else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one line, with exit status 2; it has the options of all programs.

    Reading the arguments also sets up the messages that the options ask for.
    """

    def __init__(self, program: str, description: str) -> None:
        super().__init__(
            prog=f"rotinv {program}",
            description=description,
            formatter_class=_Formatter,
            allow_abbrev=False,
        )
        self.add_argument("--version", action="version", version=f"rotinv {__version__}")
        group = self.add_argument_group("messages (on standard error; results are on standard output)")
        either = group.add_mutually_exclusive_group()
        either.add_argument(
            "--quiet", action="store_true", help="warnings and errors only, and no progress bar"
        )
        either.add_argument(
            "--verbose", action="store_true", help="also other libraries' warnings, and details"
        )
        group.add_argument(
            "--log", type=Path, metavar="FILE", help="append all messages, with the time, to FILE"
        )

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """The options, without those of the messages, which are set up."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(self._unknown(unknown))
        messages.configure(options.quiet, options.verbose, options.log)
        messages.record(
            logging.INFO, f"{self.prog} {__version__}: {shlex.join(sys.argv[1:] if args is None else args)}"
        )
        for name in ("quiet", "verbose", "log"):
            delattr(options, name)
        return options

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see --help)\n")

    def _unknown(self, arguments: Sequence[str]) -> str:
        options = [one for one in arguments if one.startswith("--")]
        name = options[0].partition("=")[0] if options else ""
        return (
            f"unrecognized arguments: {' '.join(arguments)}{did_you_mean(name, self._option_string_actions)}"
        )

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse an unknown choice, as argparse does, but suggest the one that was meant."""
        if action.choices is not None and value not in action.choices:
            names = [str(one) for one in action.choices]
            text = (
                f"invalid choice: {value!r}{did_you_mean(str(value), names)}, choose from {', '.join(names)}"
            )
            raise argparse.ArgumentError(action, text)


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


def integer(low: int, high: int | None = None) -> Callable[[str], int]:
    """An option's type: a whole number from `low` to `high`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if value < low or (high is not None and value > high):
            span = f"at least {low}" if high is None else f"between {low} and {high}"
            raise argparse.ArgumentTypeError(f"{value} is out of range: it must be {span}")
        return value

    return parse


def number(
    low: float, high: float = math.inf, *, open_low: bool = False, open_high: bool = False
) -> Callable[[str], float]:
    """An option's type: a finite number from `low` to `high`; an open end is itself excluded."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        below = value <= low if open_low else value < low
        above = value >= high if open_high else value > high
        if not math.isfinite(value) or below or above:
            span = f"{'above' if open_low else 'at least'} {low:g}"
            if math.isfinite(high):
                span += f" and {'below' if open_high else 'at most'} {high:g}"
            raise argparse.ArgumentTypeError(f"{text} is out of range: it must be {span}")
        return value

    return parse


def fractions(text: str) -> tuple[float, ...]:
    """An option's type: the fractions of the splits train, validate and test."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not three numbers, as in 0.8,0.1,0.1") from None
    if len(values) != 3:
        raise argparse.ArgumentTypeError(f"{text!r} is not three numbers, as in 0.8,0.1,0.1")
    if not all(0 <= value <= 1 for value in values):
        raise argparse.ArgumentTypeError(f"{text!r}: every fraction must lie between 0 and 1")
    if not math.isclose(sum(values), 1, abs_tol=1e-6):
        raise argparse.ArgumentTypeError(f"{text!r}: the fractions sum to {sum(values):g}, not to 1")
    return values


def names(text: str) -> tuple[str, ...]:
    """An option's type: names with commas between, each of them once."""
    found = tuple(name.strip() for name in text.split(","))
    if "" in found or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text!r}: give names with commas between, each a name of its own")
    return found
