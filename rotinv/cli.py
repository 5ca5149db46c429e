"""What every program shares: options that are checked as they are read, and one-line errors."""

import argparse
import contextlib
import io
import math
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from rotinv.nn.devices import PRECISIONS
from rotinv.system.errors import UserError


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows an option's default where it has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one line, with exit status 2."""

    def __init__(self, program: str, description: str) -> None:
        super().__init__(
            prog=f"rotinv {program}",
            description=description,
            formatter_class=_Formatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def counted(count: int, noun: str) -> str:
    """A number of things in words: 1 stamp, 2 stamps, 1,000 stamps."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def add_precision(parser: Parser) -> None:
    """The option of programs that train or score; maps of relevance are float32 always."""
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=PRECISIONS[0],
        help="of cuda: tf32 multiplies on tensor cores, where there are any",
    )


def run(program: str, main: Callable[[], int]) -> NoReturn:
    """Run a program's `main` and exit with its status: 2 with one line for bad input, 130 for Ctrl-C, 143 for
    SIGTERM."""
    received = _stop_at_signals()
    try:
        status = main()
        sys.stdout.flush()
    except UserError as error:
        print(f"rotinv {program}: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        terminated = signal.SIGTERM in received
        print(f"rotinv {program}: {'terminated' if terminated else 'interrupted'}", file=sys.stderr)
        status = 143 if terminated else 130
    except BrokenPipeError:  # the reader of our output (head, less) has gone
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except (OSError, MemoryError) as error:  # a full standard output, a name too long, a batch too large
        reason = f"not enough memory ({error})"
        if isinstance(error, OSError):
            reason = f"{error.strerror or error}: {error.filename or 'standard output'}"
        print(f"rotinv {program}: {reason}", file=sys.stderr)
        with contextlib.suppress(OSError):  # the rest of standard output's buffer cannot be written either
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 2
    sys.exit(status)


def _stop_at_signals() -> list[int]:
    """Have Ctrl-C and SIGTERM raise KeyboardInterrupt, so that half-written files are removed; gives those
    received. A signal that the caller's shell ignores stays ignored.

    Python may be in a call from C when one comes: HDF5 would crash, and others would swallow the exception.
    So it comes again a moment later.
    """
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if not _called_by_hdf5(frame):
            raise KeyboardInterrupt
        _send_later(number)

    def swallowed(what: "sys.UnraisableHookArgs") -> None:
        if received and issubclass(what.exc_type, KeyboardInterrupt):
            _send_later(received[-1])
        else:
            sys.__unraisablehook__(what)

    sys.unraisablehook = swallowed
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)
    return received


def _send_later(number: int) -> None:
    again = threading.Timer(0.01, signal.raise_signal, (number,))
    again.daemon = True
    again.start()


def _called_by_hdf5(frame: FrameType | None) -> bool:
    """Whether the frame, or one that called it, is a method of a raw file: HDF5 writes through one."""
    while frame is not None:
        if isinstance(frame.f_locals.get("self"), io.RawIOBase):
            return True
        frame = frame.f_back
    return False


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
