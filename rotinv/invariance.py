"""`python -m rotinv.invariance`: how far the maps of a stamp's four rotations disagree (Fig. 5, Table III).

One sigma-bar (Eqs. 5 and 6) per stamp, model and channel; its moments in each class; a non-central t.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rotinv import cli
from rotinv.lrp import composites, heatmaps, sigma_bar, sigma_bar_figures, sigma_bar_tables, targets
from rotinv.lrp.sigma_bar_tables import Group
from rotinv.nn.devices import get_kernels
from rotinv.runs.model import Model, open_models, open_stamps_for, unique_names
from rotinv.stamps.splits import usable
from rotinv.system import pictures
from rotinv.system.errors import UserError
from rotinv.system.files import refuse_existing


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    options = _parser().parse_args(argv)
    _check_files(options)
    rule = composites.named(options.rule)
    models = open_models(options.runs)
    for model in models:
        heatmaps.first_of_rotations(model.network)
    channels = _channels(models[0], options.channel)
    k = get_kernels(options.device, options.threads)
    split = open_stamps_for(models[0], options.stamps, options.split)
    options.split = split.name
    indices = usable(split, options.on_bad)[: options.count]
    tables = {}
    how = sigma_bar.How(options.method, rule, options.target, options.scale)
    for name, model in zip(unique_names(models), models, strict=True):
        with tqdm(total=len(indices), desc=name, unit="stamps", disable=not cli.progress_wanted()) as bar:
            tables[name], blank = sigma_bar.measure(k, model, split, indices, how, bar.update)
        if blank:
            print(
                f"{name}: the maps of {cli.counted(blank, 'stamp')} are 0 everywhere, so is their sigma-bar",
                file=sys.stderr,
            )
    label = None if split.label is None else split.label[indices]
    groups = list(sigma_bar_tables.groups(tables, channels, label, split.classes.names))
    found = sigma_bar_tables.document(groups, tables, channels, indices, label) if options.json else {}
    _write(options, groups, len(indices), found)
    return 0


def _write(options: argparse.Namespace, groups: list[Group], count: int, found: dict[str, Any]) -> None:
    """Write or print all that was asked for; `found` is what --json prints, beside the options."""
    unit, about = sigma_bar.UNITS[options.scale], _about(options, count)
    if options.csv:
        sigma_bar_tables.write_csv(options.csv, groups, overwrite=options.overwrite)
    if options.out:
        rows = sigma_bar_figures.panels(groups)
        sigma_bar_figures.histograms(options.out, rows, unit, about, overwrite=options.overwrite)
    if options.json:
        settings = ("split", "method", "rule", "scale", "target", "device")
        asked = {"stamps": str(options.stamps), **{name: getattr(options, name) for name in settings}}
        print(json.dumps({**asked, "unit": unit, **found}, indent=1))
    else:
        print(about)
        print(f"sigma-bar is {unit}")
        print(*sigma_bar_tables.lines(groups), sep="\n")


def _about(options: argparse.Namespace, count: int) -> str:
    by = f"lrp {options.rule}" if options.method == "lrp" else options.method
    what = f"class {options.target}" if isinstance(options.target, int) else options.target
    stamps = f"{options.stamps.name}: {cli.counted(count, 'stamp')}"
    return f"{stamps}, maps by {by}, target {what}, scale {options.scale}"


def _channels(model: Model, wanted: str | None) -> dict[str, int]:
    """The channels to show and their places. Raises UserError if the wanted one is not there."""
    places = {name: place for place, name in enumerate(model.config.channels)}
    if wanted is None:
        return places
    if wanted not in places:
        raise UserError(f"channel {wanted!r}: {model.name} has the channels {', '.join(places)}")
    return {wanted: places[wanted]}


def _check_files(options: argparse.Namespace) -> None:
    """Raise UserError if what is asked for cannot be written."""
    for path in (options.csv, options.out):
        if path:
            refuse_existing(path, options.overwrite)
    if options.out:
        pictures.check_format(options.out)
        pictures.require_matplotlib()


def _parser() -> cli.Parser:
    text = "Measure how far the maps of a stamp's four rotations disagree: sigma-bar, Fig. 5, Table III."
    parser = cli.Parser("invariance", text)
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN", help="folders of trained runs")
    add("stamps", type=Path, metavar="STAMPS", help="stamp store, or .npy or .npz as for score")
    cli.add_split(parser)
    cli.add_overwrite(parser)
    add(
        "--count",
        type=cli.integer(1),
        default=5000,
        help="take the first so many usable stamps (paper: 5000)",
    )
    add("--method", choices=heatmaps.OF_LAYERS, default="lrp", help="how the maps are made")
    add("--rule", default=composites.DEFAULT, help=f"of lrp: {composites.HELP}")
    add(
        "--target",
        type=targets.parse_target,
        default="predicted",
        help=f"{', '.join(targets.TARGETS)}, or a class by its number or name (0 artifact, 1 candidate)",
    )
    add("--scale", choices=heatmaps.SCALES, default="max-abs", help="of a stamp's maps, one for all channels")
    add("--channel", help="show one channel (the paper: snr_difference; default: all)")
    add("--csv", type=Path, metavar="FILE", help="write Table III as CSV")
    add("--out", type=Path, metavar="FIG", help="draw the histograms and fits (.png or .pdf)")
    add("--json", action="store_true", help="print the table and every stamp's sigma-bar as JSON")
    cli.add_device(parser)
    add("--on-bad", choices=("error", "drop"), default="error", help="NaN or infinite pixels")
    return parser


if __name__ == "__main__":
    cli.run("invariance", main)
