"""`python -m rotinv.import_weights`: make a run of weights that were trained elsewhere, to score with."""

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rotinv import cli
from rotinv.deploy import matching, onnx_check, weight_files
from rotinv.deploy.layer_weights import CHW, HWC, Found
from rotinv.deploy.matching import Match
from rotinv.graphs.reading import is_onnx
from rotinv.nn import architectures
from rotinv.runs import calibrated, model, thresholds
from rotinv.runs.folder import BEST_FILE, CONFIG_FILE, Config, create_run_folder
from rotinv.stamps.classes import TWO, Classes
from rotinv.stamps.store import CHANNELS
from rotinv.system.errors import UserError
from rotinv.system.files import check_ours

# What is in a run of imported weights; --overwrite replaces no run that was trained here.
_OURS = re.compile("|".join(map(re.escape, (BEST_FILE, CONFIG_FILE, thresholds.FILE, calibrated.FILE))))


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    options = _parser().parse_args(argv)
    if options.overwrite:
        check_ours(options.out, _OURS)
    found = weight_files.read(options.weights, options.layout, options.flatten)
    found = _of_model(options.weights, found, options.model)
    config, swapped = _config(options, found.about)
    network = config.network()
    matches = matching.match(options.weights, network, found, dict(options.map))
    if swapped:
        matches[-1] = _with_candidate_second(matches[-1])
    params = matching.parameters(options.weights, network, found, matches)
    if is_onnx(options.weights) and "sha256" not in found.about:  # else the digest tells
        onnx_check.check_graph(options.weights, network, params, swapped)
    folder = options.out if options.overwrite else create_run_folder(options.out, config.arch)
    model.write_weights(folder, config, params)
    print(*matches, sep="\n")
    print(
        f"maps flattened as {found.flatten}; channels {', '.join(config.channels)}; classes {config.classes}"
    )
    _check_digest(folder, found.about)
    print(f"{folder}: {config.arch} with {params.size:,} parameters, ready for rotinv score")
    return 0


def _of_model(path: Path, found: Found, name: str | None) -> Found:
    """The layers of one of several networks, which an export of rotinv names."""
    names = [one for one in found.about.get("models", "").split(",") if one]
    if name is None and len(names) < 2:
        return found
    if name not in names:
        known = ", ".join(names) or "one, without a name"
        raise UserError(f"{path}: holds the networks {known}; choose one by --model NAME")
    layers = [layer for layer in found.layers if layer.name.startswith(f"{name}/")]
    of_name = {key.partition("/")[2]: text for key, text in found.about.items() if key.startswith(f"{name}/")}
    return Found(layers, found.ordered, found.flatten, {**found.about, **of_name})


def _config(options: argparse.Namespace, about: Mapping[str, str]) -> tuple[Config, bool]:
    """The run's configuration, of the options, then of what the file says, then the defaults; and whether the
    file's two classes stand in the other order."""
    names = options.classes or _listed(about.get("classes"))
    candidate = options.candidate or about.get("candidate")
    swapped = bool(names) and len(names) == 2 and candidate == names[0]
    if swapped:
        names = names[::-1]
    crop = about.get("crop", "")
    config = Config(
        arch=options.arch or about.get("arch", "cap"),
        size=options.size or _number(options.weights, about.get("size", "21")),
        channels=list(options.channels or _listed(about.get("channels")) or CHANNELS),
        crop=_number(options.weights, crop) if crop else None,
        classes=Classes.of(names, candidate) if names else TWO,
    )
    return config, swapped


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",")) if text else ()


def _number(path: Path, text: str) -> int:
    if not text.isdecimal():
        raise UserError(f"{path}: says that its stamps have {text!r} pixels; give --size")
    return int(text)


def _with_candidate_second(last: Match) -> Match:
    """The last of a network's layers with its two classes in the other order: rotinv has the candidate
    second."""
    layer = last.theirs
    turned = type(layer)(f"{layer.name}, classes in the other order", *map(_reversed, (layer.w, layer.b)))
    return last._replace(theirs=turned)


def _reversed(array: NDArray) -> NDArray:
    return np.ascontiguousarray(array[..., ::-1])


def _check_digest(folder: Path, about: Mapping[str, str]) -> None:
    """Warn if the weights are not those whose digest the file tells."""
    told = about.get("sha256")
    if told and told != model.weights_digest(model.load_model(folder)):
        cli.warn(f"{folder}: the weights are not those whose SHA-256 the file tells ({told[:16]}…)")


def _pair(text: str) -> tuple[str, str]:
    """An option's type: OURS=THEIRS."""
    ours, equals, theirs = text.partition("=")
    if not (ours and equals and theirs):
        raise argparse.ArgumentTypeError(f"{text!r} is not OURS=THEIRS, as in conv4=features.7")
    return ours, theirs


def _parser() -> cli.Parser:
    parser = cli.Parser("import_weights", "Make a run of weights that were trained elsewhere.")
    add = parser.add_argument
    add("weights", type=Path, metavar="FILE", help=weight_files.KINDS)
    add("--out", type=Path, required=True, help="the run's folder")
    cli.add_overwrite(parser)
    text = f"one of {', '.join(architectures.ARCHITECTURES)} (default: as the file says, or cap)"
    add("--arch", choices=architectures.ARCHITECTURES, metavar="ARCH", help=text)
    text = "side of the stamps in pixels (default: as the file says, or 21)"
    add("--size", type=cli.integer(1), help=text)
    text = f"the stamps' channels in order (default: as the file says, or {','.join(CHANNELS)})"
    add("--channels", type=cli.names, metavar="NAME,…", help=text)
    cli.add_classes(parser, "in the order of the network's outputs (default: as the file says)")
    text = "where weights have their channels (default: the library's way, or what their biases tell)"
    add("--layout", choices=weight_files.LAYOUTS, help=text)
    text = "how maps were flattened, channels first or last (default: as the weights' channels come)"
    add("--flatten", choices=(CHW, HWC), help=text)
    text = "which layer is which, where shapes do not tell (conv1, …, dense1, … are rotinv's names)"
    add("--map", type=_pair, action="append", default=[], metavar="OURS=THEIRS", help=text)
    add("--model", metavar="NAME", help="of several networks in a file, the one to take")
    return parser


if __name__ == "__main__":
    cli.run("import_weights", main)
