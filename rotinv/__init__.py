"""Rotation-invariant classification of supernova candidates, every decision of which can be audited."""

from pathlib import Path

__version__ = "0.1.0"

# In a checkout the kernels lie beside this folder, not in it: `rotinv.kernels` is found through
# the package's path. Installed, setuptools has put them inside.
_here = Path(__file__).resolve().parent
if not (_here / "kernels").is_dir():
    __path__.append(str(_here.parent))
