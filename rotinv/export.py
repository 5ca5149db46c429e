"""`python -m rotinv.export`: write trained networks for other programs, as ONNX, safetensors or PyTorch."""

from collections.abc import Sequence
from pathlib import Path

from rotinv import cli
from rotinv.deploy import exporting
from rotinv.runs.model import open_models


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    options = _parser().parse_args(argv)
    models = open_models(options.runs)
    written = exporting.write(
        options.format, options.out, options.runs, models, options.licence, overwrite=options.overwrite
    )
    channels = ", ".join(models[0].config.channels)
    what = cli.counted(len(models), "network")
    print(
        f"{' and '.join(map(str, written))}: {what}, channels {channels}, classes {models[0].config.classes}"
    )
    return 0


def _parser() -> cli.Parser:
    parser = cli.Parser(
        "export",
        "Write a trained network for other programs. In ONNX several networks are one graph that gives their "
        "vote (CAPE).",
    )
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN", help="folders of trained runs")
    text = (
        "onnx: a graph from raw pixels to probabilities (extra 'onnx'); safetensors: the weights; torch: a "
    )
    text += "state dict, and beside it the module that reads it"
    add("--format", choices=exporting.FORMATS, required=True, help=text)
    names = ", ".join(exporting.SUFFIXES.values())
    add("--out", type=Path, required=True, metavar="FILE", help=f"named {names}, as the format")
    add("--licence", default="none stated", help="of the network, to be told in the file")
    cli.add_overwrite(parser)
    return parser


if __name__ == "__main__":
    cli.run("export", main)
