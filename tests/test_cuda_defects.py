"""What CUDA's emulator notices: planted defects and forbidden accesses; and sanitizers over all kernels."""

import functools
import subprocess
import sys

import numpy as np
import pytest
from cuda_emulation.defects import DEFECTS, Defect
from cuda_emulation.device import EmulatedDevice, EmulationError
from cuda_emulation.seeded import noticed_by
from programs import ENVIRONMENT, ROOT
from test_cuda import CASES, needs_emulator, precision_of, results

from rotinv.kernels.cuda import chain, conv2d, launch
from rotinv.nn import architectures
from rotinv.nn.devices import cuda_kernels

# Only an address sanitizer notices for certain.
OVERFLOW = {
    "shared memory read beyond its end": Defect(
        "dense", "other < WARPS", "other < WARPS + 1", "dense_forward", frozenset()
    ),
    "global memory read beyond its end": Defect(
        "conv2d", "k < total && o <", "o <", "conv2d_forward_32", frozenset()
    ),
}
RACES = ["conv2d: no barrier for a tile", "dense: no barrier before the warps' sums"]


def head(on):
    """What the dense layers of CAP make of two stamps' features, with each rotation's logits."""
    network, rng = architectures.build("cap", 21, 3), np.random.default_rng(3)
    params = np.float32(network.initial("he", 1))
    weights = [(p["w"], p["b"]) for p in network.views(params) if p]
    features = on._moved(rng.uniform(size=(2, 4, 36, 64)), np.float16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chain, "_features", lambda *_: (features, on.asarray(np.ones(5))))
        return [np.array(found) for found in chain.forward(on, network.form, features, weights, True)]


def one_negative_x(on):
    """z+ and z- of maps in which few threads of a block meet a negative number."""
    rng = np.random.default_rng(3)
    x, w, b = (on.asarray(rng.normal(size=size)) for size in ((1, 9, 9, 5), (3, 3, 5, 6), 6))
    x = abs(x)
    x[0, 4, 4, 2] = -1
    return conv2d.contributions(on, x, w, b, 1)


RUNS = {"head": head, "one negative x": one_negative_x}


def run(case, on):
    return RUNS[case](on) if case in RUNS else results(case, cuda_kernels("cuda-emulated", on))


def precision(case):
    return "fp16" if case == "head" else precision_of(case)


@functools.cache
def right(case):
    return run(case, EmulatedDevice(precision(case)))


def noticed_in(defect, flags=()):
    family, text, other, case = defect[:4]
    return noticed_by(family, text, other, functools.partial(run, case), precision(case), right(case), flags)


@needs_emulator
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if one.quick else pytest.mark.slow) for name, one in DEFECTS.items()]
)
def test_which_orders_of_threads_notice_a_defect(name):
    assert noticed_in(DEFECTS[name]) == DEFECTS[name].orders


@needs_emulator
@pytest.mark.parametrize(
    "body, message",
    [
        ("if (threadIdx.x < 7) __syncthreads();", "ended while others wait"),
        ("if (threadIdx.x < 7)\n __syncthreads();\n else\n __syncthreads();", "different barriers"),
        ("if (threadIdx.x < 33) __syncwarp(); else __syncthreads();", "wait for one another|ended while"),
        ("load4(x + 1);", "not aligned"),
        ("SHARED(float, much, [13000]); much[0] = 0;", "48 KiB"),
    ],
)
def test_what_no_kernel_may_do_is_an_error(body, message):
    source = launch.source("sgd").replace("EACH(i, count) x[i] = value;", body)
    on = EmulatedDevice(changed={"sgd": source})
    with pytest.raises(EmulationError, match=message):
        on.launch("fill", 1, 64, on.empty((4,)), 0.0, 4)


SANITIZED = """
import sys
sys.path.insert(0, "tests")
import test_cuda_defects as t
flags = ("-fsanitize={kind}",)
for name in {names}:
    device = t.EmulatedDevice(t.precision_of(name), flags=flags)
    t.results(name, t.cuda_kernels("cuda-emulated", device))
for defect in {defects}:
    t.noticed_in((t.DEFECTS | t.OVERFLOW)[defect], flags)
print("finished")
"""


def sanitized(kind, names=(), defects=()):
    """The cases run under a sanitizer in a process of their own."""
    names, defects = list(names), list(defects)
    library = subprocess.run(["g++", f"-print-file-name=lib{kind[0]}san.so"], capture_output=True, text=True)
    environment = ENVIRONMENT | {
        "LD_PRELOAD": library.stdout.strip(),
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
        "TSAN_OPTIONS": "report_signal_unsafe=0",
        "OMP_NUM_THREADS": "1",
    }
    script = SANITIZED.format(kind=kind, names=names, defects=defects)
    return subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=900
    )


@pytest.mark.slow
@needs_emulator
@pytest.mark.parametrize("kind", ["address", "thread"])
def test_sanitizers_find_nothing(kind):
    done = sanitized(kind, CASES)
    assert done.returncode == 0 and done.stdout.strip() == "finished", done.stderr[-4000:]
    assert "WARNING" not in done.stderr, done.stderr[:4000]


@pytest.mark.slow
@needs_emulator
@pytest.mark.parametrize(
    "kind, defect, word",
    [
        *(("address", defect, "overflow") for defect in OVERFLOW),
        *(("thread", defect, "data race") for defect in RACES),
    ],
)
def test_sanitizers_find_seeded_defects(kind, defect, word):
    done = sanitized(kind, defects=[defect])
    assert word in done.stderr, done.stderr[-4000:]
