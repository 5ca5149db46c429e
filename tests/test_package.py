"""The package as a user gets it: built, installed elsewhere, run there, type-checked; and its description."""

import csv
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib import import_module, metadata, util
from pathlib import Path

import numpy as np
import pytest
from programs import ROOT, toy_arrays

import rotinv
from rotinv.__main__ import PROGRAMS

OLDEST_SETUPTOOLS = 77  # as in pyproject.toml
JUNK = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info", "*.h5")
BUILT_PAGES = ("docs/api/generated/", "docs/tutorial/")  # sphinx-build makes them
BUILD = "import sys; from setuptools import build_meta as b; b.build_{}(sys.argv[1])"
# What runs from the wheel must find nothing here.
OUTSIDE = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

USER = """
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import rotinv
from rotinv.lrp import heatmaps, composites
from rotinv.lrp.ledger import Entry, ledger
from rotinv.lrp.relevance import Trail
from rotinv.nn.network import Network
from rotinv.runs.model import Model
from rotinv.runs.predictions import score_stamps


def total(folder: Path, stamps: NDArray[np.float32]) -> float:
    model: Model = rotinv.load_model(folder)
    k = rotinv.get_kernels("cpu")
    params = k.asarray(model.params)
    p = score_stamps(k, model.network, params, stamps)
    trail: Trail = heatmaps.trail(k, model.network, params, stamps, "lrp", composites.named("epsilon"))
    judge = rotinv.get_kernels("reference")
    entries: list[Entry] = ledger(k, judge, model.network, params, stamps, composites.named("epsilon"))[1]
    return float(p.sum() + trail.relevance[0].sum() + entries[0].received.sum())


network: Network = rotinv.build("cap", size=21, channels=4)
with rotinv.StampStore("store.h5") as store:
    sizes: dict[str, int] = store.sizes
"""
WRONG = {
    "import rotinv\nx: int = rotinv.build('cap')\n": "Network",
    "import rotinv\nrotinv.bulid('cap')\n": "bulid",
    "from rotinv.lrp import composites\ncomposites.named(3)\n": '"int"; expected "str"',
}


def junk(folder, names):
    """What of a folder of this tree is not part of it; of folders named runs, only the one at its top."""
    return {*JUNK(folder, names), *({"runs"} if Path(folder) == ROOT else ())}


def build(tree, out, what):
    """Build a tree's wheel or sdist into a folder by the hook that pip calls, with the setuptools here."""
    command = [sys.executable, "-c", BUILD.format(what), str(out)]
    done = subprocess.run(command, cwd=tree, env=OUTSIDE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the wheel and the sdist of a copy of this tree, and what the build said."""
    have = metadata.version("setuptools") if util.find_spec("setuptools") else "0"
    if int(have.partition(".")[0]) < OLDEST_SETUPTOOLS:
        pytest.skip(
            f"building needs setuptools {OLDEST_SETUPTOOLS}, as the extra 'test' brings; here is {have}"
        )
    folder = tmp_path_factory.mktemp("build")
    shutil.copytree(ROOT, folder / "tree", ignore=junk)
    for path in (folder / "tree", *(folder / "tree").rglob("*")):
        path.chmod(path.stat().st_mode | stat.S_IWUSR)  # the installation may be read-only
    (folder / "tree" / "rotinv" / "left.pyc").write_bytes(b"")
    return folder, "".join(build(folder / "tree", folder, what) for what in ("sdist", "wheel"))


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built[0].glob("*.whl")
    return path


@pytest.fixture(scope="module")
def sdist(built):
    (path,) = built[0].glob("*.tar.gz")
    return path


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """The Python of an environment that has the wheel, but not this tree."""
    return environment_with(wheel, tmp_path_factory.mktemp("installed") / "env")


def environment_with(wheel, folder):
    """The Python of a new environment that has a wheel, and what else is installed here."""
    if util.find_spec("pip") is None:
        pytest.skip("pip is not installed")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    install = ["-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel]
    subprocess.run([sys.executable, *map(str, install)], env=OUTSIDE, check=True, timeout=300)
    (site,) = folder.glob("lib/python*/site-packages")
    others = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site / "others.pth").write_text("\n".join(others))
    return python


@pytest.fixture(scope="module")
def holder(built, tmp_path_factory):
    """A folder that holds a clone called rotinv, and the Python where `pip install -e` has installed it."""
    folder = tmp_path_factory.mktemp("holder")
    shutil.copytree(built[0] / "tree", folder / "rotinv", ignore=JUNK)
    build(folder / "rotinv", folder, "editable")
    (wheel,) = folder.glob("*.whl")
    return folder, environment_with(wheel, folder / "env")


def contents(path):
    """The files of a wheel or of an sdist (without its folder's name), by name."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    with tarfile.open(path) as archive:
        files = [(one.name.partition("/")[2], archive.extractfile(one)) for one in archive if one.isfile()]
        return {name: file.read() for name, file in files}


def sources():
    """The package's files in this tree, by their places in the wheel."""
    found = {}
    for folder, inside in (("rotinv", "rotinv"), ("kernels", "rotinv/kernels")):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                found[f"{inside}/{path.relative_to(ROOT / folder).as_posix()}"] = path
    return found


def run(python, folder, *arguments):
    """What a program of the installed package prints; it must succeed."""
    command = [str(python), *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=OUTSIDE, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def version_of_the_project():
    return re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]


# What is built.


def test_the_wheel_is_the_package_and_nothing_else(wheel):
    found = contents(wheel)
    about = f"rotinv-{version_of_the_project()}.dist-info/"
    expected = sources()
    assert {
        *("rotinv/py.typed", "rotinv/lrp/viewer/viewer.css", "rotinv/lrp/viewer/viewer.js"),
        "rotinv/lrp/viewer/viewer_tools.js",
        *(
            "rotinv/kernels/cpu/vector/simd.py",
            "rotinv/kernels/cuda/sources/conv2d.cu",
            "rotinv/kernels/cuda/sources/include/common.cuh",
        ),
        *("rotinv/paper/plan.py", "rotinv/survey/sky.py", "rotinv/kernels/reference/shares.py"),
    } <= expected.keys()
    assert {name for name in found if not name.startswith(about)} == expected.keys()
    for name, path in expected.items():
        assert found[name] == path.read_bytes(), name
    assert found[f"{about}licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()


def test_the_sdist_has_the_sources_and_the_documents(sdist):
    found = contents(sdist)
    package = {path.relative_to(ROOT).as_posix() for path in sources().values()}
    documents = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.*")}
    documents = {name for name in documents if not name.startswith(BUILT_PAGES)}
    examples = {path.relative_to(ROOT).as_posix() for path in (ROOT / "examples").rglob("*.py")}
    top = {
        "README.md",
        "CHANGELOG.md",
        "CITATION.cff",
        "LICENSE",
        "MANIFEST.in",
        "pyproject.toml",
        "setup.cfg",
    }
    assert len(documents) >= 4 and len(examples) == 6
    made = {name for name in found if name == "PKG-INFO" or name.startswith("rotinv.egg-info/")}
    assert set(found) - made == package | documents | examples | top


def test_the_sdist_builds_the_same_wheel(sdist, wheel, tmp_path):
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked")
    (tree,) = (tmp_path / "unpacked").iterdir()
    build(tree, tmp_path, "wheel")
    assert contents(tmp_path / wheel.name) == contents(wheel)


def test_the_build_gives_no_warning_of_what_will_break(built):
    assert not re.search(r"Deprecat|will be ignored|importable, but", built[1])


# What is installed.


def test_it_runs_where_the_tree_is_not(python, tmp_path):
    trained(python, tmp_path, "reference")
    printed = run(python, tmp_path, python.with_name("rotinv"), "architectures", "cap")
    assert "cyclic average pooling" in printed and printed.split()[-1] == "255,490"


@pytest.mark.slow
def test_it_compiles_and_trains_where_the_tree_is_not(python, tmp_path):
    trained(python, tmp_path, "cpu")


def trained(python, folder, device):
    """A short training on a device and a catalogue by it, all by the installed package."""
    where = "import rotinv, rotinv.kernels, sys; print(rotinv.__file__, rotinv.kernels.__file__, *sys.path)"
    package, kernels, *path = run(python, folder, "-c", where).split()
    home = python.parents[1]
    assert Path(package).is_relative_to(home) and Path(kernels).is_relative_to(home)
    assert str(ROOT) not in path
    np.savez(folder / "toy.npz", **toy_arrays(120))
    run(python, folder, "-m", "rotinv.pack", "toy.npz", "--out", "toy.h5", "--channels", "difference")
    short = ("--iterations", 30, "--validate-every", 15, "--batch", 10, "--device", device)
    printed = run(
        python,
        folder,
        "-m",
        "rotinv.train",
        "--arch",
        "cap-mini",
        "--data",
        "toy.h5",
        "--out",
        "mini",
        *short,
    )
    assert "test set" in printed
    scored = ("-m", "rotinv.score", "mini", "toy.npz", "--out", "scores.csv", "--device", device)
    run(python, folder, *scored)
    with (folder / "scores.csv").open() as file:
        p = np.array([float(row["probability"]) for row in csv.DictReader(file)])
    assert len(p) == 120 and ((p > 0) & (p < 1)).all() and len(set(p)) > 50


def test_a_users_script_is_type_checked(python, tmp_path):
    (tmp_path / "user.py").write_text(USER)
    found = checked(python, tmp_path, "user.py", "--strict")
    assert found.returncode == 0, found.stdout
    for number, script in enumerate(WRONG):
        (tmp_path / f"wrong{number}.py").write_text(script)
    found = checked(python, tmp_path, *(f"wrong{number}.py" for number in range(len(WRONG))))
    for number, complaint in enumerate(WRONG.values()):
        (line,) = [line for line in found.stdout.splitlines() if line.startswith(f"wrong{number}.py")]
        assert complaint in line


def checked(python, folder, *arguments):
    """mypy of this environment on a user's files, which sees the packages of the other."""
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--python-executable", str(python), *arguments]
    return subprocess.run(command, cwd=folder, env=OUTSIDE, capture_output=True, text=True)


# A clone that is installed with `pip install -e`.


def test_it_is_imported_in_the_folder_that_holds_the_clone(holder):
    """Python must not take the clone's folder, which is called rotinv, for the package."""
    folder, python = holder
    where = (
        "import rotinv, rotinv.kernels; print(rotinv.__version__, rotinv.__file__, rotinv.kernels.__file__)"
    )
    version, package, kernels = run(python, folder, "-c", where).split()
    assert version == version_of_the_project()
    assert package == str(folder / "rotinv" / "rotinv" / "__init__.py")
    assert kernels == str(folder / "rotinv" / "kernels" / "__init__.py")
    assert "usage: rotinv train" in run(python, folder, "-m", "rotinv.train", "--help")


@pytest.mark.parametrize("place", [".", "rotinv", "rotinv/rotinv", "rotinv/tests"])
def test_it_runs_in_any_folder_of_the_clone(holder, place):
    folder, python = holder
    (folder / "rotinv" / "tests").mkdir(exist_ok=True)
    assert "255,490" in run(python, folder / place, python.with_name("rotinv"), "architectures", "cap")


# What `import rotinv` gives.


def test_importing_is_light():
    script = "import rotinv, sys; print([m for m in ('numpy', 'numba', 'scipy', 'h5py') if m in sys.modules])"
    env = {**OUTSIDE, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_public_names():
    for name in set(rotinv.__all__) - {"__version__"}:
        found = getattr(rotinv, name)
        assert found is getattr(import_module(found.__module__), name)
        assert found.__doc__ and name in dir(rotinv)
    with pytest.raises(AttributeError, match="no attribute 'bulid'"):
        rotinv.bulid  # noqa: B018


# What is said of it.


def test_one_version():
    version = version_of_the_project()
    assert rotinv.__version__ == version
    (latest, *_) = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert latest == version


def test_the_changelog_tells_of_every_program():
    page = (ROOT / "CHANGELOG.md").read_text()
    assert [name for name in PROGRAMS if f"`{name}`" not in page] == []


def test_the_citation():
    yaml = pytest.importorskip("yaml")
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert found["cff-version"] == "1.2.0" and found["message"]
    assert str(found["version"]) == version_of_the_project()
    assert found["authors"] == [{"name": "The rotinv developers"}]
    (paper,) = found["references"]
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f'"{paper["title"]}"' in readme and "arXiv 1808.03626" in readme
    assert paper["identifiers"][0]["value"] == "arXiv:1808.03626" and paper["year"] == 2018
    assert [author["family-names"] for author in paper["authors"]][:2] == ["Reyes", "Estévez"]
