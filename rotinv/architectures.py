"""`python -m rotinv.architectures`: Table I of the paper for an architecture."""

from collections.abc import Sequence

from rotinv import cli
from rotinv.nn.architectures import ARCHITECTURES, build, table


def main(argv: Sequence[str] | None = None) -> int:
    """The program: print Table I."""
    parser = cli.Parser("architectures", "Print Table I of the paper for an architecture.")
    parser.add_argument("arch", help=", ".join(f"{a}: {text}" for a, (*_, text) in ARCHITECTURES.items()))
    parser.add_argument("--size", type=cli.integer(1), default=21, help="side of the stamps in pixels")
    parser.add_argument("--channels", type=cli.integer(1), default=4, help="channels of the stamps")
    options = parser.parse_args(argv)
    network = build(options.arch, options.size, options.channels)
    print(f"{'layer':<26}{'parameters':>12}   output size")
    for name, count, shape in table(network):
        print(f"{name:<26}{count:>12,}   {'x'.join(map(str, shape))}")
    print(f"{'total':<26}{network.size:>12,}")
    return 0


if __name__ == "__main__":
    cli.run("architectures", main)
