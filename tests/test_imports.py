"""Who may import whom: kernels know arrays only, one module loads a device, programs sit on top."""

import ast
import sys
from pathlib import Path

import pytest

from rotinv.__main__ import PROGRAMS

ROOT = Path(__file__).resolve().parents[1]
PROGRAM_MODULES = {f"rotinv.{name}" for name in PROGRAMS}
# A library module that is also run as a program: it prints what it holds.
ALSO_LIBRARIES = {"rotinv.architectures"}


def modules():
    """The files of rotinv and of the kernels, by their import names."""
    for folder, name in ((ROOT / "rotinv", "rotinv"), (ROOT / "kernels", "rotinv.kernels")):
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join([name, *(part for part in parts if part != "__init__")]), path


def imports(path):
    """All names that a file imports anywhere, modules and what is taken from them."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


MODULES = dict(modules())


def of_rotinv(name):
    """The modules of this project that a module imports."""
    return {found for found in imports(MODULES[name]) if found in MODULES and found != "rotinv"}


def test_the_files_are_found():
    assert {"rotinv.layers", "rotinv.survey.sky", "rotinv.kernels.cpu.simd"} <= MODULES.keys()
    assert of_rotinv("rotinv.linear") >= {"rotinv.layers", "rotinv.backend"}


@pytest.mark.parametrize(
    "device, packages",
    [
        ("reference", {"numpy"}),
        ("cpu", {"numpy", "numba", "llvmlite"}),
        ("cuda", {"numpy", "cupy", "cupyx"}),
    ],
)
def test_kernels_import_their_device_only(device, packages):
    for name, path in MODULES.items():
        if name.startswith(f"rotinv.kernels.{device}."):
            for found in imports(path):
                first = found.split(".")[0]
                ours = found.startswith(f"rotinv.kernels.{device}")
                assert ours or first in packages | sys.stdlib_module_names, f"{name} imports {found}"


def test_one_module_loads_a_device():
    for name in MODULES:
        if not name.startswith("rotinv.kernels"):
            assert not any(found.startswith("rotinv.kernels") for found in of_rotinv(name)), name
    loaders = {name for name, path in MODULES.items() if "rotinv.kernels.{" in path.read_text()}
    assert loaders == {"rotinv.devices"}


@pytest.mark.parametrize("name", ["rotinv.metrics", "rotinv.rotation"])
def test_what_stands_alone(name):
    assert of_rotinv(name) == set()


def test_rules_know_the_contract_only():
    assert of_rotinv("rotinv.rules") == {"rotinv.backend", "rotinv.errors"}


def test_programs_never_import_one_another():
    for name in MODULES:
        others = PROGRAM_MODULES - ALSO_LIBRARIES - {name}
        if name != "rotinv.__main__":
            assert not of_rotinv(name) & others, name
