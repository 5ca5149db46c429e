"""`rotinv PROGRAM …` is `python -m rotinv.PROGRAM …`; without a program, the list of them."""

import importlib
import sys

from rotinv import cli
from rotinv.system.errors import UserError, not_known
from rotinv.system.version import __version__

PROGRAMS = {
    "train": "train a network and test it",
    "score": "score stamps with one trained network or several",
    "stream": "score a stream of alerts (Kafka)",
    "reproduce": "make the paper's tables and figures afresh, and a report",
    "evaluate": "tell how good networks or scores are, and keep thresholds",
    "pick": "choose stamps to label, and make a page on which to label them",
    "explain": "show what a network's decisions rest on, as maps",
    "view": "make a page on which to look at what decisions rest on",
    "audit": "account for the relevance of a decision, layer by layer",
    "invariance": "measure how far the maps of a stamp's four rotations disagree",
    "perturb": "measure how good the maps are, by replacing what they point at",
    "simulate": "make a simulated survey",
    "card": "write a network's model card",
    "import_weights": "make a run of weights trained elsewhere",
    "export": "write a network for other programs: ONNX, safetensors, PyTorch",
    "survey.check": "hold a simulated survey against the real one",
    "pack": "make a stamp store from arrays",
    "import_alerts": "make a stamp store of alert packets",
    "import_hits": "make a stamp store of the original HiTS files",
    "architectures": "print Table I for an architecture",
}


def main() -> None:
    """The console script."""
    name, *rest = sys.argv[1:] or ["--help"]
    program = name.replace("-", "_")
    if program in PROGRAMS:
        sys.argv = [f"rotinv {program}", *rest]
        cli.run(program, lambda: importlib.import_module(f"rotinv.{program}").main())
    cli.run("", lambda: _without_program(name))


def _without_program(argument: str) -> int:
    if argument == "--version":
        print(f"rotinv {__version__}")
        return 0
    if argument not in ("-h", "--help", "help"):
        if argument.startswith("-"):
            raise UserError(f"{argument}: options come after the program's name, as in rotinv score --help")
        raise not_known("program", argument, PROGRAMS)
    print("usage: rotinv PROGRAM [options]    (rotinv PROGRAM --help explains each option)\n")
    for name, purpose in PROGRAMS.items():
        print(f"  {name.replace('_', '-'):<16}{purpose}")
    return 0


if __name__ == "__main__":
    main()
