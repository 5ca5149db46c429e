"""What programs are told: a parser whose complaints are one line, and the kinds of values of its options."""

import argparse
import itertools
import logging
import math
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from rotinv.system import messages
from rotinv.system.errors import did_you_mean
from rotinv.system.version import __version__

_WRITTEN = ("out", "csv", "maps", "preview", "log")  # options that name what a program writes


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
        if clash := _written_twice_or_read(options):
            self.error(clash)
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


def _written_twice_or_read(options: argparse.Namespace) -> str:
    """What is wrong where a file that is to be written is also to be read, or is named twice.

    With --overwrite the input would be lost. Empty if nothing is wrong.
    """
    files = [(name, path) for name, value in vars(options).items() for path in _paths(value)]
    for (one, path), (other, same) in itertools.combinations(files, 2):
        written = {name: file for name, file in ((one, path), (other, same)) if name in _WRITTEN}
        if written and path.resolve() == same.resolve():
            name, file = next(iter(written.items()))
            what = "is read, too" if len(written) == 1 and one != other else "is written twice"
            return f"--{name} {file}: {what}; name another file"
    return ""


def _paths(value: Any) -> Iterable[Path]:
    """The paths in an option's value."""
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, Path)]


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
