"""Who may import whom: packages in one direction, kernels know arrays only, one module loads a device."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest
from programs import ENVIRONMENT

from rotinv.__main__ import PROGRAMS

ROOT = Path(__file__).resolve().parents[1]
PROGRAM_MODULES = {f"rotinv.{name}" for name in PROGRAMS}
# The packages that each package may import, besides itself.
MAY_IMPORT = {
    "system": set(),
    "nn": {"system"},
    "stamps": {"system"},
    "alerts": {"system", "stamps"},
    "metrics": {"system", "stamps"},
    "survey": {"system", "stamps", "metrics"},
    "runs": {"system", "nn", "stamps", "metrics"},
    "lrp": {"system", "nn", "stamps", "metrics", "runs"},
    "graphs": {"system", "nn", "stamps", "metrics", "runs", "lrp"},
    "catalogue": {"system", "nn", "stamps", "alerts", "metrics", "runs", "lrp"},
    "paper": {"system", "nn", "stamps", "metrics", "survey", "runs", "lrp"},
    "deploy": {"system", "nn", "stamps", "alerts", "metrics", "runs", "lrp", "graphs", "catalogue"},
    "cli": {"system", "nn"},
    "classifier": {"system", "nn", "stamps", "metrics", "runs", "lrp"},
    "kernels": {"kernels"},
}
PATHS = MAY_IMPORT.keys() - {"cli", "kernels"}
MOST_FILES = 20  # in a folder, besides these
UNCOUNTED = {"__init__.py", "__main__.py", "py.typed"}


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
    assert {"rotinv.nn.layers", "rotinv.survey.sky", "rotinv.kernels.cpu.vector.simd"} <= MODULES.keys()
    assert of_rotinv("rotinv.nn.linear") >= {"rotinv.nn.layers", "rotinv.nn.contract"}


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
    assert loaders == {"rotinv.nn.devices"}


def package(name):
    """The package of rotinv that a module is in, or the module itself where it is in none."""
    return name.split(".")[1] if "." in name else ""


def test_every_package_has_its_rule():
    packages = {package(name) for name in MODULES.keys() - PROGRAM_MODULES}
    assert packages - {"", "__main__"} <= MAY_IMPORT.keys()


@pytest.mark.parametrize("of", MAY_IMPORT)
def test_packages_import_in_one_direction(of):
    for name in MODULES.keys() - PROGRAM_MODULES:
        if package(name) == of:
            for found in of_rotinv(name):
                assert package(found) in {of} | MAY_IMPORT[of], f"{name} imports {found}"


def test_no_modules_import_each_other():
    """Not by way of others either, nor within a function or for types alone."""
    packages = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    graph = {name: of_rotinv(name) - packages for name in MODULES.keys() - packages}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize(
    "name", ["rotinv.metrics.rates", "rotinv.metrics.significance", "rotinv.metrics.noncentral_t"]
)
def test_what_stands_alone(name):
    assert of_rotinv(name) == set()


def test_rules_know_the_contract_and_the_layers_only():
    assert of_rotinv("rotinv.lrp.rules") == {"rotinv.nn.contract", "rotinv.nn.layers", "rotinv.system.errors"}


def test_a_path_may_be_a_text():
    """Every public function of the packages that takes a path takes a str as well."""
    found = 0
    for name in MODULES.keys() - PROGRAM_MODULES - {"rotinv.survey.parts"}:  # parts are of build alone
        if package(name) in PATHS:
            for node in ast.parse(MODULES[name].read_text(encoding="utf-8")).body:
                if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                    for one in [*node.args.args, *node.args.kwonlyargs]:
                        wanted = ast.unparse(one.annotation) if one.annotation else ""
                        assert "Path" not in wanted or "str | Path" in wanted, f"{name}.{node.name}"
                        found += "Path" in wanted
    assert found > 40


WITHOUT_EXTRAS = """
import sys

class Absent:
    def find_spec(self, name, *rest):
        if name.partition(".")[0] in {extras}:
            raise ImportError(name)

sys.meta_path.insert(0, Absent())
"""


def test_every_program_starts_without_any_extra():
    """What an extra brings is imported where it is used, and its absence told in one line there."""
    extras = ["distributed", "dask", "fastavro", "astropy", "pyarrow", "onnx", "onnxruntime", "matplotlib"]
    extras += ["confluent_kafka", "lsst", "torch", "pandas", "cupy", "safetensors"]
    imports = [f"import {name}" for name in sorted(PROGRAM_MODULES)]
    code = "\n".join([WITHOUT_EXTRAS.format(extras=extras), *imports])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr


def test_programs_are_never_imported():
    for name in MODULES:
        if name != "rotinv.__main__":
            assert not of_rotinv(name) & PROGRAM_MODULES - {name}, name


def test_packages_are_an_index_only():
    """An __init__ file is its docstring, but for rotinv's own and the survey's, which name what is public."""
    for path in (ROOT / "rotinv").rglob("__init__.py"):
        if path.parent.name not in ("rotinv", "survey"):
            (docstring,) = ast.parse(path.read_text()).body
            assert isinstance(docstring.value, ast.Constant), path


def test_no_folder_is_crowded():
    for top in ("rotinv", "kernels"):
        for folder in [ROOT / top, *(path for path in (ROOT / top).rglob("*") if path.is_dir())]:
            if folder.name != "__pycache__":
                files = [path for path in folder.iterdir() if path.is_file() and path.name not in UNCOUNTED]
                assert len(files) <= MOST_FILES, folder
