"""Unusual places to run in: no home, file systems without locks, another's installation, odd streams."""

import ast
import errno
import os
import subprocess
import sys

import h5py
import numba
import numpy as np
import pytest
from programs import ENVIRONMENT, ROOT, command, make_run, toy_arrays

from rotinv import pack
from rotinv.alerts.files import find_files
from rotinv.catalogue import sources
from rotinv.nn.devices import get_kernels
from rotinv.runs import thresholds
from rotinv.runs.folder import read_config
from rotinv.runs.model import load_model, open_models, open_stamps_for
from rotinv.stamps.store import StampStore
from rotinv.system import files, hdf5, locks, messages, scratch
from rotinv.system.errors import UserError
from rotinv.system.hdf5 import open_hdf5

NO_HOME = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "NUMBA_CACHE_DIR", "MPLCONFIGDIR")
# Everything that is cached beside the sources is out of reach, as in an installation by another user.
READ_ONLY = """
import numba.core.caching as caching

def refuse(self):
    raise PermissionError(13, "Permission denied")

for one in caching.CacheImpl._locator_classes:
    if "InTree" in one.__name__:
        one.ensure_cache_path = refuse
"""


@pytest.fixture
def messages_again():
    """Warnings that are given once are given once more."""
    before = set(messages._given)
    messages._given.clear()
    yield
    messages._given.update(before)


def odd_python(folder, script):
    """The environment of a Python that runs a script as it starts."""
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(script, encoding="utf-8")
    path = os.pathsep.join([str(site), ENVIRONMENT["PYTHONPATH"]])
    return {**ENVIRONMENT, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


def call(environment, folder, *arguments):
    return subprocess.run(
        command(*arguments), env=environment, cwd=folder, capture_output=True, text=True, encoding="utf-8"
    )


@pytest.fixture(scope="module")
def run_and_stamps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    np.savez(folder / "toy.npz", **toy_arrays(20, side=21))
    return make_run(folder / "run", "cap-mini", size=21, channels=["difference"]), folder / "toy.npz"


# Paths that are texts.


def test_paths_may_be_texts(tmp_path, run_and_stamps):
    run, stamps = map(str, run_and_stamps)
    model = load_model(run)
    assert open_models([run])[0].name == model.name and read_config(run) == model.config
    split = open_stamps_for(model, stamps, None)
    assert len(sources.open_source(model, [stamps], None)) == len(split) == 20
    with pytest.raises(UserError, match="rotinv evaluate"):
        thresholds.find([run], [model], 0.01)
    thresholds.store([run], [model], {0.01: 0.5}, {"stamps": stamps, "split": "test", "artifacts": 1})
    assert thresholds.find([run], [model], 0.01) == 0.5
    with locks.held(str(tmp_path)):
        files.write_json(str(tmp_path / "a.json"), {"a": 1})
    with hdf5.create_hdf5(str(tmp_path / "a.h5")):
        pass
    (tmp_path / "a.avro").touch()
    assert find_files([str(tmp_path / "a.avro")]) == [tmp_path / "a.avro"]


# No home.


@pytest.fixture
def homeless(tmp_path):
    """The environment of a user without a home, in an installation that he may not write."""
    environment = {
        name: value for name, value in odd_python(tmp_path, READ_ONLY).items() if name not in NO_HOME
    }
    (tmp_path / "tmp").mkdir()
    return {**environment, "HOME": "/dev/null/home", "TMPDIR": str(tmp_path / "tmp")}


def test_help_needs_no_home_and_says_nothing_of_it(tmp_path, homeless):
    for program in ("score", "survey.check"):
        done = call(homeless, tmp_path, program, "--help")
        assert (done.returncode, done.stderr) == (0, "") and "usage" in done.stdout
    assert list((tmp_path / "tmp").iterdir()) == []


def test_without_a_home_a_temporary_cache_serves_and_goes(tmp_path, homeless, run_and_stamps):
    run, stamps = run_and_stamps
    options = ("score", run, stamps, "--device", "reference", "--out", tmp_path / "scores.csv")
    done = call(homeless, tmp_path, *options)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "NUMBA_CACHE_DIR" in line]
    assert "compiled anew each time" in line and (tmp_path / "scores.csv").exists()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_without_a_home_a_picture_is_drawn(tmp_path, homeless, run_and_stamps):
    pytest.importorskip("matplotlib")
    run, stamps = run_and_stamps
    options = ("explain", run, stamps, "--index", 1, "--device", "reference", "--out", tmp_path / "fig.png")
    done = call(homeless, tmp_path, *options)
    assert done.returncode == 0, done.stderr
    assert "MPLCONFIGDIR" in done.stderr and "Traceback" not in done.stderr
    assert (tmp_path / "fig.png").stat().st_size > 1000
    assert list((tmp_path / "tmp").iterdir()) == []


def test_the_temporary_cache_is_this_users_alone():
    folder = scratch.folder()
    assert folder.stat().st_mode & 0o777 == 0o700 and folder.stat().st_uid == os.geteuid()
    assert folder == scratch.folder()


def test_a_home_that_is_not_there_makes_no_folder_called_tilde(monkeypatch, tmp_path):
    """Numba would make ./~/.cache/numba for a user id that the system does not know."""
    for name in NO_HOME:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: str(path))
    assert not scratch.has_home() and not scratch.writable("~/.config")


def test_without_a_home_the_simulated_survey_has_no_place(tmp_path, homeless):
    done = call(homeless, tmp_path, "train", "--device", "reference", "--out", tmp_path / "run")
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 2 and last.startswith(
        "rotinv train: /dev/null/home/.cache/rotinv: the simulated"
    )
    assert "XDG_CACHE_HOME" in last and "--data FILE" in last
    assert not (tmp_path / "run").exists()


def test_a_fault_of_another_kind_is_not_taken_for_a_missing_cache():
    def fail():
        raise RuntimeError("cannot compile")

    with pytest.raises(RuntimeError, match="cannot compile"):
        scratch.with_numba_cache(fail)


# File systems.


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks(tmp_path, monkeypatch, caplog, messages_again, number):
    def no_flock(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.fcntl, "flock", no_flock)
    (tmp_path / ".out.1.abc.part").write_text("of a process that may be alive")
    for name in ("out", "other"):
        with files.written_whole(tmp_path / name) as temporary:
            temporary.write_text("whole")
    with locks.held(tmp_path):
        locks.join(tmp_path)
    files.remove_abandoned(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"out", "other", "lock", ".out.1.abc.part"}
    (said,) = caplog.messages
    assert "has no locks" in said and "no two processes" in said


def test_a_lock_that_the_disk_fails_on_is_an_error(tmp_path, monkeypatch):
    def broken(file, operation):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files.fcntl, "flock", broken)
    with pytest.raises(UserError, match="out: cannot be written"):
        with files.written_whole(tmp_path / "out") as temporary:
            temporary.write_text("whole")


FSYNC = os.fsync


@pytest.mark.parametrize("of_folders", [True, False])
def test_a_file_system_that_cannot_flush(tmp_path, monkeypatch, caplog, messages_again, of_folders):
    def fsync(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}") == of_folders:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        FSYNC(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    for name in ("out", "other"):
        with files.written_whole(tmp_path / name) as temporary:
            temporary.write_text("whole")
    assert {path.name for path in tmp_path.iterdir()} == {"out", "other"}
    (said,) = caplog.messages
    assert f"cannot flush a {'folder' if of_folders else 'file'}" in said


def test_a_flush_that_fails_is_an_error(tmp_path, monkeypatch):
    def fsync(descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(UserError, match="out: cannot be written"):
        with files.written_whole(tmp_path / "out") as temporary:
            temporary.write_text("whole")
    assert list(tmp_path.iterdir()) == []


# HDF5 files that are not damaged.


@pytest.fixture
def store(tmp_path):
    np.savez(tmp_path / "toy.npz", **toy_arrays(20))
    made = [str(tmp_path / "toy.npz"), "--out", str(tmp_path / "toy.h5"), "--channels", "difference"]
    assert pack.main(made) == 0
    return tmp_path / "toy.h5"


def test_a_store_that_another_program_writes(store):
    hold = "import h5py, sys; f = h5py.File(sys.argv[1], 'r+'); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(store)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(
            UserError, match=r"toy\.h5: is open for writing in another program.*wait"
        ) as error:
            open_hdf5(store)
        assert "damaged" not in str(error.value)
        holder.stdin.close()
    with open_hdf5(store):
        pass


def test_a_store_with_a_filter_that_is_not_here(store):
    with h5py.File(store, "r+") as file:
        values = file["test/stamps"][()]
        del file["test/stamps"]
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk(values.shape)
        properties.set_filter(32001, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple(values.shape)
        made = h5py.h5d.create(file["test"].id, b"stamps", h5py.h5t.IEEE_F32LE, space, properties)
        made.write_direct_chunk((0,) * 4, values.tobytes(), 0)
    with StampStore(store) as opened, pytest.raises(UserError, match="needs HDF5 filter 32001") as error:
        opened.split("test").raw(np.arange(2))
    assert "damaged" not in str(error.value) and "h5repack" in str(error.value)


# Texts are UTF-8 whatever the locale.


def test_a_table_is_utf_8_in_a_locale_of_ascii(tmp_path, run_and_stamps):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    planes = np.random.default_rng(0).normal(size=(2, 21, 21)).tolist()
    columns = {name: planes for name in ("template", "science", "difference")}
    parquet.write_table(pa.table({**columns, "object_id": ["a", "λ Cep"]}), tmp_path / "a.parquet")
    environment = {**ENVIRONMENT, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    options = (run_and_stamps[0], "a.parquet", "--device", "reference", "--out", "s.csv")
    done = call(environment, tmp_path, "score", *options)
    assert done.returncode == 0, done.stderr
    assert "λ Cep" in (tmp_path / "s.csv").read_text(encoding="utf-8")


def test_every_text_file_is_opened_with_its_encoding():
    found = 0
    for path in [*(ROOT / "rotinv").rglob("*.py"), *(ROOT / "kernels").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("read_text", "write_text"):
                named = [one.arg for one in node.keywords] + ["encoding"] * (ast.unparse(node).count("utf-8"))
                assert "encoding" in named, f"{path}: {ast.unparse(node)}"
                found += 1
    assert found > 15


def test_a_threading_library_that_is_not_here_is_named(monkeypatch):
    def refuse(_):
        raise ValueError(
            "No threading layer could be loaded.\nHINT:\nIntel TBB is required, try:\n$ pip install tbb"
        )

    monkeypatch.setattr(numba, "set_num_threads", refuse)
    monkeypatch.setattr(numba.config, "THREADING_LAYER", "tbb")
    told = "^NUMBA_THREADING_LAYER=tbb: No threading layer could be loaded; unset that variable"
    with pytest.raises(UserError, match=told):
        get_kernels("cpu")


def test_threads_that_wait_for_work_soon_sleep(tmp_path):
    """What OpenMP itself says that it was told; a user's own setting is kept, and the environment is."""
    script = (
        "import os, sys, rotinv; rotinv.get_kernels('cpu'); print(os.environ.get('GOMP_SPINCOUNT')); "
        "sys.addaudithook(lambda event, _: print(event) if event in ('os.putenv', 'os.unsetenv') else None); "
        "rotinv.get_kernels('cpu', 1)"  # the threads run: the environment is not written again
    )
    plain = {key: value for key, value in ENVIRONMENT.items() if key != "OMP_WAIT_POLICY"}
    for own, told in ((None, "3000"), ("123", "123")):
        environment = plain | {"OMP_DISPLAY_ENV": "VERBOSE"} | ({"GOMP_SPINCOUNT": own} if own else {})
        found = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
        )
        if "GOMP_SPINCOUNT" not in found.stderr:
            pytest.skip("Numba's threads are not those of GNU's OpenMP")
        assert f"GOMP_SPINCOUNT = '{told}'" in found.stderr
        assert found.stdout.strip() == str(own)
