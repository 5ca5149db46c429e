"""Files that are whole or absent: what a killed process leaves, and two that write the same file."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from programs import ENVIRONMENT, assert_refused, call, make_run, toy_arrays

from rotinv.alerts.profile_files import read_profile
from rotinv.deploy import onnx_files, safetensors_files, torch_files
from rotinv.metrics import scores
from rotinv.paper import sheets
from rotinv.runs import checkpoints, history
from rotinv.runs.folder import check_folder_free
from rotinv.runs.model import load_model
from rotinv.stamps import label_lists, unpickling
from rotinv.survey import parts
from rotinv.system import files, hdf5
from rotinv.system.errors import UserError

WRITE = """
import sys, time
from rotinv.system.files import written_whole
with written_whole(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print("writing", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def writer(tmp_path):
    """Another process, in the middle of tmp_path/out."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE, str(tmp_path / "out")],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "writing\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def write(path, **more):
    with files.written_whole(path, **more) as temporary:
        temporary.write_text("whole")


def test_what_a_killed_process_left_goes(tmp_path, writer):
    (tmp_path / ".other.1.abc.part").write_text("another file's")
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert len(list(tmp_path.glob(".out.*.part"))) == 1
    write(tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"out", ".other.1.abc.part"}


def test_what_nobody_writes_any_more_goes_from_a_folder(tmp_path, writer):
    inside = tmp_path / "inside"
    inside.mkdir()
    for name in (".out.1.abc.part", "inside/.other.1.abc.part", "inside/other.part"):
        (tmp_path / name).touch()
    files.remove_abandoned(tmp_path)
    (left,) = tmp_path.glob(".out.*.part")
    assert left.read_text() == "half" and [path.name for path in inside.iterdir()] == ["other.part"]
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    files.remove_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == [inside]


def test_the_second_writer_of_a_file_is_refused_at_once(tmp_path, writer):
    with pytest.raises(UserError, match=rf"out: process {writer.pid} is writing it; wait for it, or stop it"):
        write(tmp_path / "out")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["half"]


def test_a_file_that_is_replaced_again_and_again_may_have_two_writers(tmp_path, writer):
    write(tmp_path / "out", overwrite=True)
    assert (tmp_path / "out").read_text() == "whole"
    assert len(list(tmp_path.glob(".out.*.part"))) == 1  # the other's is its own


def test_a_name_that_begins_alike_is_another_file(tmp_path, writer):
    write(tmp_path / "ou")
    with hdf5.create_hdf5(tmp_path / "out.h5"):
        pass
    assert (tmp_path / "out.h5").exists() and writer.poll() is None


def test_a_run_begins_where_one_was_killed_at_its_start(tmp_path):
    (tmp_path / ".config.json.7.abc.part").write_text("{")
    check_folder_free(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="holds a run"):
        check_folder_free(tmp_path)


def test_a_survey_that_is_whole_loses_its_parts_and_no_file_of_others(tmp_path):
    path, folder = tmp_path / "survey.h5", tmp_path / "survey.h5.part"
    folder.mkdir()
    for name in ("train-00000.npz", "options.json", "mine.txt"):
        (folder / name).write_text("x")
    path.write_text("a survey")
    parts.clear_made(path)
    assert len(list(folder.iterdir())) == 3  # it was not finished: another file has its name
    (folder / "finished").touch()
    parts.clear_made(path)
    assert [one.name for one in folder.iterdir()] == ["mine.txt"] and path.exists()


def test_metadata_without_its_table_is_written_anew(tmp_path):
    """A process was killed between the two; a file of another's is kept."""
    np.savez(tmp_path / "stamps.npz", **toy_arrays(n=4))
    run = make_run(tmp_path / "run", "cap-mini")
    command = ("score", run, tmp_path / "stamps.npz", "--device", "reference", "--out", tmp_path / "s.csv")
    assert call(*command).returncode == 0
    metadata = tmp_path / "s.csv-metadata.json"
    whole = metadata.read_bytes()
    (tmp_path / "s.csv").unlink()
    assert call(*command).returncode == 0 and metadata.read_bytes() == whole
    (tmp_path / "s.csv").unlink()
    metadata.write_text(json.dumps({"columns": "mine"}))
    assert_refused(call(*command), "s.csv-metadata.json", "exists already")


def test_a_folder_of_shards_with_other_files_is_refused_and_kept(tmp_path):
    pytest.importorskip("distributed")
    np.savez(tmp_path / "stamps.npz", **toy_arrays(n=4))
    run, folder = make_run(tmp_path / "run", "cap-mini"), tmp_path / "s.csv.shards"
    folder.mkdir()
    (folder / "thesis.tex").write_text("mine")
    done = call("score", run, tmp_path / "stamps.npz", "--out", tmp_path / "s.csv", "--dask", "local:1")
    assert_refused(done, str(folder), "thesis.tex")
    assert (folder / "thesis.tex").read_text() == "mine"


def test_a_flipped_bit_in_a_checkpoint_is_noticed(tmp_path):
    """In the weights themselves, where every value is still a number."""
    run = make_run(tmp_path / "run", "cap-mini")
    model = load_model(run)
    data = bytearray((run / "best.h5").read_bytes())
    at = bytes(data).find(np.float64(model.params[3]).tobytes())
    assert at > 0
    data[at] ^= 1
    (run / "best.h5").write_bytes(data)
    with pytest.raises(UserError, match=r"best\.h5: is damaged .* not those that were saved"):
        load_model(run)
    with pytest.raises(UserError, match="not those that were saved"):
        checkpoints.load(run / "best.h5", model.network)


def test_a_pid_is_in_a_temporary_files_name(tmp_path):
    with files.written_whole(tmp_path / "out") as temporary:
        assert temporary.name.startswith(f".out.{os.getpid()}.") and files.is_temporary(temporary)


READERS = [
    history.read,
    label_lists.read_labels,
    onnx_files.read,
    read_profile,
    safetensors_files.read,
    sheets.read,
    torch_files.read,
    scores.read,
    unpickling.refuse_other_files,
]


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__module__.rpartition(".")[2])
def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch, read):
    def refusing(given):
        def method(path, *arguments, **options):
            if path.name == "mine.csv":
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return given(path, *arguments, **options)

        return method

    (tmp_path / "mine.csv").write_text("a,b\n1,2\n")
    for name in ("open", "read_bytes", "read_text"):
        monkeypatch.setattr(Path, name, refusing(getattr(Path, name)))
    with pytest.raises(UserError, match=r"mine\.csv: cannot be read \(Permission denied\)$"):
        read(tmp_path / "mine.csv")


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__module__.rpartition(".")[2])
def test_a_file_that_is_not_there_is_told(tmp_path, read):
    with pytest.raises(UserError, match=r"none\.csv: no such file$"):
        read(tmp_path / "none.csv")
