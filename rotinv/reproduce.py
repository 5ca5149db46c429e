"""`python -m rotinv.reproduce`: every table and figure of the paper, afresh; killed, it goes on."""

import argparse
import functools
import os
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from rotinv import cli
from rotinv.nn.devices import DEVICES, get_kernels
from rotinv.paper import plan, scales
from rotinv.paper.sheets import read, text
from rotinv.stamps.classes import TWO
from rotinv.stamps.store import StampStore
from rotinv.system import dask_cluster, dask_crew, pictures, pipeline
from rotinv.system.errors import UserError
from rotinv.system.pipeline import Book, Step
from rotinv.system.workers import employ


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    options = _parser().parse_args(argv)
    pictures.require_matplotlib("--out")
    known = None if options.overwrite else scales.begun(options.out)
    if options.overwrite and (options.status or options.only):
        raise UserError("--overwrite begins everything anew; leave out --status and --only")
    if options.status and known is None:
        raise UserError(f"{options.out}: holds no reproduction")
    settings = _settings(options, known)
    workers, threads = _processes(options, settings.device)
    steps = plan.steps(options.out.resolve(), settings, workers, threads)
    steps = pipeline.wanted(steps, options.only or ["report"])
    if options.status:
        _print_status(options.out, steps)
        return 0
    if known is None:
        _check(options, settings)
        if options.overwrite:
            scales.remove(options.out, options.data)
        scales.write(options.out, settings)
    started = time.monotonic()
    once = "--overwrite" if options.overwrite else ""
    with cli.goes_on_when_repeated(once), _Bar(options.out, steps) as bar:
        pipeline.run(options.out, steps, _employing(options, workers, threads), bar)
    _print_results(options, time.monotonic() - started)
    return 0


def _settings(options: argparse.Namespace, known: scales.Settings | None) -> scales.Settings:
    """The settings of the reproduction in the folder, or of the new one.

    Raises UserError for options that are not those it was begun with; one that is not given is as it was.
    """
    scale = options.scale or (known.scale if known else "quick")
    data = options.data or (Path(known.data) if known and known.data else None)
    trials = options.trials or (known.trials if known and scale == known.scale else None)
    on_bad = options.on_bad or (known.on_bad if known else "error")
    device = options.device or (known.device if known else "cpu")
    precision = options.precision or (known.precision if known else None)
    asked = scales.settings(scale, trials, data, on_bad, device, precision)
    if known:
        scales.check_same(options.out, known, asked)
    return asked


def _check(options: argparse.Namespace, settings: scales.Settings) -> None:
    """Raise UserError, before anything is made, for data or a device that will not do."""
    get_kernels(settings.device, precision=settings.precision)
    if not options.data:
        return
    with StampStore(options.data) as store:
        if store.classes != TWO:
            raise UserError(f"{options.data}: has the classes {store.classes}; the paper's are {TWO}")
        for name in ("train", "validate", "test"):
            label = store.split(name).label
            assert label is not None  # a store's splits have labels
            if label.all() or not label.any():
                only = TWO.names[int(label[0])]
                raise UserError(f"{options.data}: split '{name}' has {only}s only; both classes are needed")


def _processes(options: argparse.Namespace, device: str) -> tuple[int, int]:
    """How many processes here, and the threads of each, or of the cluster's."""
    cores = os.cpu_count() or 1
    workers = options.workers or (cores if device == "cpu" else 1)
    if options.dask:
        address = options.dask
        return workers, dask_cluster.threads_each(address) or dask_cluster.least_threads(address)
    return workers, max(1, cores // workers)


def _employing(options: argparse.Namespace, workers: int, threads: int) -> pipeline.Employ:
    """Who does the steps."""
    if options.dask:
        return functools.partial(dask_crew.employ, options.dask)
    return functools.partial(employ, workers, threads)


def _print_status(folder: Path, steps: Sequence[Step]) -> None:
    book = Book(folder)
    done, worked = pipeline.finished(book, steps), 0.0
    for step in steps:
        seconds = book.seconds(step.name)
        if step.name in done:
            share, state = 1.0, f"done in {seconds:.1f} s"
        else:
            share = step.begun() if step.begun else 0.0
            state = f"{share:.0%} done" if share else "to do"
        worked += share * step.work
        print(f"{step.name:<22}{state}")
    total = sum(step.work for step in steps)
    print(f"{len(done)} of {len(steps)} steps done, about {worked / total:.0%} of the work")


def _print_results(options: argparse.Namespace, seconds: float) -> None:
    for name in options.only or ["table2", "fig2", "differences", "table3"]:
        path = options.out / "sheets" / f"{name}.json"
        if path.exists():
            print("", *text(read(path)), sep="\n")
    made = {"report": "report.html", "viewer": "sheets/viewer.html"}
    for name in options.only or ["report"]:
        print(f"\n{options.out / made.get(name, f'sheets/{name}.txt')}: {name}", end="")
    print(f"\n{seconds / 60:.1f} minutes")


class _Bar:
    """The progress of all steps together, in seconds of one process, with the time left."""

    def __init__(self, folder: Path, steps: Sequence[Step]) -> None:
        done = pipeline.finished(Book(folder), steps)
        begun = sum(
            step.work * (1.0 if step.name in done else step.begun() if step.begun else 0.0) for step in steps
        )
        self._steps, self._began = len(steps), time.monotonic()
        self._bar = tqdm(
            total=sum(step.work for step in steps),
            initial=begun,
            smoothing=0,
            bar_format="{percentage:3.0f}%|{bar:20}| {elapsed} gone, {remaining} left{postfix}",
            disable=not cli.progress_wanted(),
        )
        if done:
            cli.note(f"{len(done)} of {len(steps)} steps are done already")

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def moved(self, worked: float, busy: Sequence[str]) -> None:
        """So many seconds' work is done; these steps are under way."""
        self._bar.set_postfix_str(", ".join(busy), refresh=False)
        self._bar.update(worked)

    def ended(self, step: Step, seconds: float, done: int) -> None:
        """A step is done."""
        gone = time.monotonic() - self._began
        cli.note(f"[{done:>3}/{self._steps}] {step.name:<22}{seconds:>8.1f} s{gone / 60:>10.1f} min gone")


def _parser() -> cli.Parser:
    parser = cli.Parser(
        "reproduce",
        "Make every table and figure of the paper afresh: simulate a survey, train the trials, score, "
        "compare, explain, and write report.html. The same command again goes on where it was cut off.",
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="the folder of this reproduction")
    add(
        "--scale",
        choices=scales.SCALES,
        help="smoke: minutes, to see that it works; quick: an hour or more on two cores; tenth: 10,000 "
        "iterations on 100,000 stamps; claim: 12 hours, to decide which network is better; paper-gpu: "
        "100,000 iterations on 200,000 stamps; paper: the paper's sizes and schedule (default: quick)",
    )
    add("--data", type=Path, metavar="FILE", help="stamp store to take instead of a simulated survey")
    text = "of each network (default: 6; smoke: 2; tenth, claim: 4)"
    add("--trials", type=cli.integer(1, scales.MOST_TRIALS), help=text)
    add("--only", nargs="+", choices=plan.CHOICES, metavar="NAME", help=f"of {', '.join(plan.CHOICES)}")
    add("--status", action="store_true", help="tell what is done, and do nothing")
    text = "begin anew: remove what an earlier reproduction has left in DIR, trained networks too"
    add("--overwrite", action="store_true", help=text)
    add("--on-bad", choices=("error", "drop"), help="NaN or infinite pixels (default: error)")
    add("--device", choices=DEVICES, help="where to compute (default: cpu)")
    cli.add_precision(parser)
    add("--workers", type=cli.integer(1, 1024), help="processes (default: one a core; of a GPU one)")
    text = "a cluster does the trials and all after them: a scheduler's address, or local:N (extra dask)"
    add("--dask", metavar="ADDRESS", help=text)
    return parser


if __name__ == "__main__":
    cli.run("reproduce", main)
