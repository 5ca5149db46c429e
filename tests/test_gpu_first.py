"""The script for a card's first minute (bench/gpu), as far as it runs without one."""

import importlib.util
import re
import subprocess

import pytest
from cuda_emulation.device import emulated
from programs import ROOT, call
from test_cuda import needs_emulator, needs_nvrtc

from rotinv.kernels.cuda import launch, nvrtc
from rotinv.paper.scales import SCALES


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "bench" / "gpu" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_emulator
def test_it_finds_scoring_right_and_tells_what_is_wrong(monkeypatch):
    first = script("first")
    assert first.wrong(emulated("tf32"), "tf32", "cap", 2) == []
    monkeypatch.setitem(first.TOLERANCE, "tf32", 1e-7)
    (said,) = first.wrong(emulated("tf32"), "tf32", "cap", 2)
    assert said.startswith("the error is")


@pytest.mark.slow
@needs_emulator
def test_it_finds_training_steps_right(monkeypatch):
    first = script("first")
    assert first.wrong_steps(emulated("tf32"), "cap", 1) == []
    monkeypatch.setattr(first, "STEP_TOLERANCE", 1e-7)
    (said,) = first.wrong_steps(emulated("tf32"), "cap", 1)
    assert said.startswith("the steps' error is")


@pytest.mark.slow
@needs_emulator
def test_it_finds_maps_right(monkeypatch):
    first = script("first")
    assert first.wrong_maps(emulated(), "cap", 1) == []
    monkeypatch.setitem(first.TOLERANCE, "fp32", 1e-12)
    (said,) = first.wrong_maps(emulated(), "cap", 1)
    assert said.startswith("the error of R")


@pytest.mark.slow
@needs_emulator
def test_what_the_sanitizers_and_the_profiler_run():
    script("one_step").main(1, lambda device, precision: emulated(precision))


@needs_nvrtc
def test_the_kernels_that_measure_rates_compile(monkeypatch):
    text = script("first").rates_source()
    monkeypatch.setattr(
        launch, "declarations", lambda family: dict.fromkeys(re.findall(r"rate_\w+", text), BOUND)
    )
    rows = nvrtc.resources("rates", nvrtc.compiled("rates", text, "sm_90").log)
    assert len(rows) == 6 and all(row.spilled == 0 for row in rows)


BOUND = launch.Declaration("rates", 192, [])


@pytest.mark.parametrize("name", ["on_gpu", "carry", "paper"])
def test_the_scripts_are_bash(name):
    done = subprocess.run(["bash", "-n", ROOT / "bench" / "gpu" / f"{name}.sh"], capture_output=True)
    assert done.returncode == 0, done.stderr


def test_what_the_scripts_call_is_there():
    """Programs, tests and options by name; bash does not look at them before they are run."""
    text = "".join((ROOT / "bench" / "gpu" / f"{name}.sh").read_text() for name in ("on_gpu", "paper"))
    text = text.replace("\\\n", " ")
    files = re.findall(r"(?<=python3 )bench/\S+\.py|(?<=pytest )\S+\.py", text)
    assert len(files) == 5 and all((ROOT / path).is_file() for path in files)
    for command in re.findall(r"python3 -m rotinv\.reproduce (.*)", text):
        options = set(re.findall(r"--[a-z-]+", command))
        assert options <= set(re.findall(r"--[a-z-]+", call("reproduce", "--help").stdout))
    bench = (ROOT / "bench" / "conftest.py").read_text()
    (command,) = re.findall(r"pytest bench/test_cuda_speed\.py (.*?) ;;", text)
    assert all(f'"{option}"' in bench for option in re.findall(r"--[a-z-]+", command))
    assert "paper-gpu" in SCALES


def test_without_a_gpu_it_says_so(tmp_path):
    done = subprocess.run(
        ["bash", ROOT / "bench" / "gpu" / "on_gpu.sh", tmp_path / "out"], capture_output=True, text=True
    )
    assert done.returncode == 2 and "no GPU" in done.stderr
