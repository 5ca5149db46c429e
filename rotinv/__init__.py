"""Rotation-invariant classification of supernova candidates, every decision of which can be audited.

The names below are loaded when they are used: `import rotinv` itself loads nothing. docs/api.md has the rest
of what is public.
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from rotinv.system.version import __version__

if TYPE_CHECKING:
    from rotinv.classifier.classifier import Classifier
    from rotinv.classifier.fitting import fit
    from rotinv.classifier.loading import load
    from rotinv.graphs.network import load_onnx
    from rotinv.nn.architectures import build
    from rotinv.nn.devices import get_kernels
    from rotinv.runs.model import load_model
    from rotinv.stamps.opening import open_stamps
    from rotinv.stamps.store import StampStore
    from rotinv.survey import make_survey
    from rotinv.system.errors import UserError

__all__ = [
    "Classifier",
    "StampStore",
    "UserError",
    "__version__",
    "build",
    "fit",
    "get_kernels",
    "load",
    "load_model",
    "load_onnx",
    "make_survey",
    "open_stamps",
]

# In a checkout the kernels lie beside this folder, not in it: `rotinv.kernels` is found through
# the package's path. Installed, setuptools has put them inside.
_here = Path(__file__).resolve().parent
if not (_here / "kernels").is_dir():
    __path__.append(str(_here.parent))

_MODULES = {
    "Classifier": "rotinv.classifier.classifier",
    "StampStore": "rotinv.stamps.store",
    "UserError": "rotinv.system.errors",
    "build": "rotinv.nn.architectures",
    "fit": "rotinv.classifier.fitting",
    "get_kernels": "rotinv.nn.devices",
    "load": "rotinv.classifier.loading",
    "load_model": "rotinv.runs.model",
    "load_onnx": "rotinv.graphs.network",
    "make_survey": "rotinv.survey",
    "open_stamps": "rotinv.stamps.opening",
}

if not TYPE_CHECKING:  # it would let a type checker believe in any name

    def __getattr__(name: str) -> object:
        """The public names, from the modules that they are in."""
        if name not in _MODULES:
            raise AttributeError(f"module 'rotinv' has no attribute {name!r}")
        return getattr(importlib.import_module(_MODULES[name]), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
