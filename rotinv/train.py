"""`python -m rotinv.train`: train a network, keep its best weights, test it."""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rotinv import cli
from rotinv.nn import architectures
from rotinv.nn.devices import TRAINED, get_kernels
from rotinv.runs import augmentation, finetuning, observers, training, trials
from rotinv.runs.folder import (
    BALANCES,
    Config,
    check_folder_free,
    create_run_folder,
    read_config,
    write_config,
)
from rotinv.runs.protocol import SCHEDULES, Schedule
from rotinv.stamps.store import StampStore
from rotinv.survey import cached
from rotinv.system import locks
from rotinv.system.errors import UserError
from rotinv.system.signals import stop_requested


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    options = _parse(argv)
    k = get_kernels(options.device, options.threads, options.precision)
    config = _resumed(options) if options.resume else _config(options)
    with StampStore(config.data) as store:
        data = trials.check(store, config, progress=cli.progress_wanted())
        for note in data.notes:
            cli.note(note)
        if options.trials > 1:
            return _trials(options, config, data)
        folder = options.resume or create_run_folder(options.out, config.arch)
        with locks.held(folder):
            if options.resume and options.data:
                write_config(folder, config)
            begin = training.resume if options.resume else training.begin
            reached = _train(begin(k, config, folder), config, data)
        if not reached:
            return 130
        _print_metrics(folder, trials.test(k, folder, data))
    print(f"\nto score stamps: {cli.command('score', folder, 'STAMPS', '--out', 'scores.csv')}")
    return 0


def _resumed(options: argparse.Namespace) -> Config:
    """The configuration of the run that goes on. Raises UserError if it cannot, or if its data are not
    there."""
    folder, config = options.resume, read_config(options.resume)
    if not config.data:
        raise UserError(f"{folder}: its weights were trained elsewhere; such a run can only be scored with")
    if options.data is not None:
        if not config.data_sha256:
            cli.note(f"{folder}: keeps no digest of its data, so that these are the same is not checked")
        return replace(config, data=str(options.data.resolve()))
    if not Path(config.data).exists():
        again = cli.command("train", "--resume", folder, "--data", "FILE")
        raise UserError(f"{config.data}: no such file; if the data moved: {again}")
    return config


def _train(run: training.Run, config: Config, data: trials.Data) -> bool:
    """One model, with a progress bar; says whether the protocol's end was reached."""
    cli.note(f"{config.arch}: {run.network.size:,} parameters; run folder {run.folder}")
    _prepare(run)
    with observers.Bar(run, hidden=not cli.progress_wanted()) as bar, stop_requested() as stopped:
        reached = trials.train_to_end(run, data, config, bar, stopped)
    if not reached:
        cli.note(f"stopped at iteration {run.iteration}; to go on: {_resume(run.folder)}")
    return reached


def _trials(options: argparse.Namespace, config: Config, data: trials.Data) -> int:
    """Models whose seeds follow one another: beside one another where the device has streams."""

    def trial(number: int, folder: Path, stopped: trials.Stopped) -> bool:
        k = get_kernels(options.device, options.threads, options.precision)  # its own: on a GPU, a stream
        own = replace(config, seed=config.seed + number)
        with locks.held(folder):
            run = training.begin(k, own, folder)
            _prepare(run)
            return trials.train_to_end(run, data, own, observers.Lines(folder.name), stopped)

    out = options.out
    names = [out and out.with_name(f"{out.name}-{i}") for i in range(1, options.trials + 1)]
    folders = [create_run_folder(name, config.arch) for name in names]
    cli.note(f"{config.arch}: run folders {', '.join(map(str, folders))}")
    jobs = [partial(trial, number, folder) for number, folder in enumerate(folders)]
    k = get_kernels(options.device, options.threads, options.precision)
    with stop_requested() as stopped:
        reached = trials.run_side_by_side(jobs, k.streams, stopped)
    if not all(reached):
        cli.note(f"stopped; to go on with each: {_resume(folders[0])}, …")
        return 130
    for folder in folders:
        _print_metrics(folder, trials.test(k, folder, data))
    return 0


def _resume(folder: Path) -> str:
    return cli.command("train", "--resume", folder)


def _prepare(run: training.Run) -> None:
    """Compile the kernels before the clock starts."""
    if run.k.device != "reference":
        cli.note("loading the kernels (compiled on first use, which takes up to a minute)")
    started = time.perf_counter()
    training.prepare(run)
    cli.note(f"ready after {time.perf_counter() - started:.1f} s")


def _print_metrics(folder: Path, result: dict[str, Any]) -> None:
    print(f"\ntest set, {cli.counted(result['stamps'], 'stamp')}")
    for name in ("accuracy", "precision", "recall", "f1"):
        print(f"  {name:<14}{_percent(result[name])}")
    for fpr, fnr in result["fnr_at_fpr"].items():
        print(f"  FNR at FPR {float(fpr):<7.1%}{_percent(fnr)}")
    if warning := trials.one_sided(result):
        cli.warn(f"{folder}: {warning}")


def _percent(share: float | None) -> str:
    return "undefined" if share is None else f"{share:8.3%}"


def _config(options: argparse.Namespace) -> Config:
    """The configuration of a new run; simulates the survey where no data is given."""
    arch = finetuning.architecture(options.arch, options.init_from)
    schedule = SCHEDULES[finetuning.schedule_name(options.schedule, options.init_from)]
    given = {f.name: getattr(options, f.name) for f in fields(Schedule)}
    schedule = replace(schedule, **{name: value for name, value in given.items() if value is not None})
    if options.iterations is not None and options.extend_by is None:
        schedule = replace(schedule, extend_by=0)
    architectures.build(arch)  # an unknown name is told before any data is made
    if options.out is not None:
        numbers = [""] if options.trials == 1 else [f"-{i}" for i in range(1, options.trials + 1)]
        for number in numbers:
            check_folder_free(options.out.with_name(options.out.name + number))
    data = options.data or _default_survey(options.threads or os.cpu_count() or 1)
    with StampStore(data) as store:
        return trials.new_config(
            store,
            arch,
            schedule=schedule,
            seed=options.seed,
            init=options.init or "he",
            crop=options.crop,
            on_bad=options.on_bad,
            init_from=options.init_from,
            freeze=options.freeze,
            balance=options.balance,
            augment=options.augment,
        )


def _default_survey(workers: int) -> Path:
    """The simulated survey in the user's cache folder, made if it is not there yet."""
    path = cached.path()
    if not path.exists():
        cli.note(f"simulating a survey (once): {path}")
        total, hidden = sum(cached.COUNTS.values()), not cli.progress_wanted()
        with tqdm(total=total, unit=" stamps", desc="survey", disable=hidden) as bar:
            cached.make(path, workers, bar.update)
    return path


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options; with --resume the run's own hold, and others are refused."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.resume:
        allowed = ("resume", "data", "device", "threads", "precision")
        changed = [n for n, v in vars(options).items() if n not in allowed and v != parser.get_default(n)]
        if changed:
            names = ", ".join("--" + name.replace("_", "-") for name in changed)
            parser.error(
                f"{names}: a run that is resumed keeps its own options; give --resume alone, or with --data "
                "where the data moved"
            )
    return options


def _parser() -> cli.Parser:
    parser = cli.Parser("train", "Train a network on a stamp store (or a simulated survey) and test it.")
    names = ", ".join(architectures.ARCHITECTURES)
    parser.add_argument("--arch", help=f"one of {names} (default: cap, or that of the run of --init-from)")
    parser.add_argument(
        "--data",
        type=Path,
        help="stamp store (default: a survey, simulated once); with --resume: where it is now",
    )
    parser.add_argument("--out", type=Path, help="the run's folder (default: the next free runs/ARCH-N)")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="go on with the run in DIR")
    cli.add_device(parser)
    cli.add_precision(parser, TRAINED)
    parser.add_argument("--seed", type=cli.integer(0, 2**63 - 1), default=0, help="weights, order, dropout")
    text = "train so many models, of seeds that follow one another: at once on a GPU"
    parser.add_argument("--trials", type=cli.integer(1), default=1, metavar="N", help=text)
    _add_initial(parser)
    parser.add_argument("--crop", type=cli.integer(1), help="cut the stamps' centre to CROP x CROP pixels")
    parser.add_argument("--on-bad", choices=("error", "drop"), default="error", help="NaN or infinite pixels")
    parser.add_argument(
        "--schedule",
        choices=SCHEDULES,
        help="paper: the paper's protocol; quick: minutes; finetune: for weights that are good already "
        "(default: quick, or finetune with --init-from)",
    )
    _add_stamps(parser)
    _add_numbers(parser.add_argument_group("numbers of the protocol (each overrides the schedule's)"))
    return parser


def _add_initial(parser: cli.Parser) -> None:
    """The options of a run's initial weights."""
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--init", choices=("he", "authors"), help="initial weights (default: he, the paper's)"
    )
    text = "begin with the weights of the run in DIR, which was trained on the same channels"
    either.add_argument("--init-from", type=Path, metavar="DIR", help=text)
    text = "the first N layers with weights keep those of --init-from"
    parser.add_argument("--freeze", type=cli.integer(0), default=0, metavar="N", help=text)


def _add_stamps(parser: cli.Parser) -> None:
    """The options of what the stamps of a batch are."""
    text = (
        "batches: stamps of the smaller class are repeated, so that as many of each come; weights: their "
        "losses weigh so much more (default: batches "
        f"where it has below {100 * trials.FEW:.0f} in 100 of the stamps to train with, or none)"
    )
    parser.add_argument("--balance", choices=BALANCES, help=text)
    text = "change the stamps of each batch at random: mirror them, shift them by up to a pixel"
    names = ",".join(augmentation.KINDS)
    parser.add_argument("--augment", type=_kinds, default=(), metavar=names, help=text)


def _kinds(text: str) -> tuple[str, ...]:
    """The names of augmentations."""
    try:
        return augmentation.checked(text.split(","))
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _add_numbers(group: argparse._ArgumentGroup) -> None:
    def add(option: str, kind: Callable[[str], object], field: str, text: str) -> None:
        each = (f"{name} {getattr(schedule, field):g}" for name, schedule in SCHEDULES.items())
        text = f"{text} ({', '.join(each)})"
        group.add_argument(option, type=kind, dest=field, help=text)

    whole = cli.integer(1)
    add("--batch", whole, "batch", "stamps in a batch")
    add("--rate", cli.number(0, open_low=True), "rate", "learning rate at first")
    add("--halve-every", whole, "halve_every", "iterations after which the rate is halved")
    add("--iterations", cli.integer(1), "iterations", "so many iterations; none more without --extend-by")
    add("--extend-by", cli.integer(0), "extend_by", "iterations more after each fall of the error")
    add("--improvement", cli.number(0, 1, open_low=True), "improvement", "such a fall: to below this share")
    add("--validate-every", whole, "validate_every", "iterations between validations")
    add("--dropout", cli.number(0, 1, open_high=True), "dropout", "share of units dropped")


if __name__ == "__main__":
    cli.run("train", main)
