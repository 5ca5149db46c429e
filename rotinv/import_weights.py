"""`python -m rotinv.import_weights`: make a run of weights that were trained elsewhere, to score with."""

from collections.abc import Sequence
from pathlib import Path

from rotinv import cli
from rotinv.nn import architectures
from rotinv.runs import checkpoints, model
from rotinv.runs.folder import Config, create_run_folder
from rotinv.stamps.store import CHANNELS


def main(argv: Sequence[str] | None = None) -> int:
    """The program."""
    parser = cli.Parser("import_weights", "Make a run of weights that were trained elsewhere.")
    parser.add_argument(
        "weights", type=Path, help="HDF5 with conv1/w, conv1/b, … dense1/w … or CNN1/W, CNN1/B, … FC1/W …"
    )
    parser.add_argument("--out", type=Path, required=True, help="the run's folder")
    parser.add_argument("--arch", default="cap", help=f"one of {', '.join(architectures.ARCHITECTURES)}")
    parser.add_argument("--size", type=cli.integer(1), default=21, help="side of the stamps in pixels")
    parser.add_argument(
        "--channels", default=",".join(CHANNELS), help="the stamps' channels in order, by commas"
    )
    options = parser.parse_args(argv)
    channels = [name.strip() for name in options.channels.split(",")]
    config = Config(arch=options.arch, size=options.size, channels=channels)
    params = checkpoints.from_named(
        config.network(), checkpoints.read_named(options.weights), str(options.weights)
    )
    folder = create_run_folder(options.out, options.arch)
    model.write_weights(folder, config, params)
    print(f"{folder}: {config.arch} with {params.size:,} parameters, ready for rotinv score")
    return 0


if __name__ == "__main__":
    cli.run("import_weights", main)
