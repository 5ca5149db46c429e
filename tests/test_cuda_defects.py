"""What CUDA's emulator notices: planted defects and forbidden accesses; and sanitizers over all kernels."""

import subprocess
import sys

import numpy as np
import pytest
from cuda_emulation.device import ORDERS, EmulatedDevice, EmulationError, built
from programs import ENVIRONMENT, ROOT
from test_cuda import CASES, PRECISION, needs_emulator, precision_of, results

from rotinv.kernels.cuda import launch
from rotinv.nn.devices import cuda_kernels, get_kernels

# What a kernel may be spoiled by: family, text, what stands in its place, the case that must notice.
DEFECTS = {
    "no barrier in the product": (
        "conv2d",
        "        __syncthreads();\n        if (tile",
        "        if (tile",
        "conv2d_forward_64",
    ),
    "no barrier between two products": (
        "conv2d",
        "return MORE && __syncthreads_or(below);",
        "return MORE && below;",
        "conv2d_redistribute_64",
    ),
    "no barrier in tf32's product": (
        "conv2d_tf32",
        "        __syncthreads();\n        if (more) fetch();",
        "        if (more) fetch();",
        "conv2d_forward_tf32_64",
    ),
    "no barrier in tf32's gradients": (
        "conv2d_tf32",
        "        __syncthreads();\n        if (more) fetch(m",
        "        if (more) fetch(m",
        "conv2d_gradients_tf32_64",
    ),
    "no barrier in the dense sums": (
        "dense",
        "    __syncthreads();\n    float sum",
        "    float sum",
        "dense_forward",
    ),
    "no barrier in the gradients": (
        "conv2d_gradients",
        "        __syncthreads();\n        if (m",
        "        if (m",
        "conv2d_gradients_64",
    ),
    "no barrier in the gradients' sum": (
        "conv2d_gradients",
        "    __syncthreads();\n    if (warp > 0",
        "    if (warp > 0",
        "conv2d_gradients_sum",
    ),
    "a tap too far": (
        "conv2d",
        "row = y[r] + t.step * tap.i",
        "row = y[r] + 1 + t.step * tap.i",
        "conv2d_forward_32",
    ),
    "one row too few": ("conv2d_gradients", "m >= last", "m >= last - 1", "conv2d_gradients_32"),
    "an element not written": (
        "cyclic",
        "EACH(i, size) y[i] = sum",
        "EACH(i, size - 1) y[i] = sum",
        "cyclic_mean",
    ),
    "shared memory read before it is written": (
        "conv2d_gradients",
        "    store(0);\n",
        "",
        "conv2d_gradients_64",
    ),
    "an atomic order": (
        "softmax",
        "weight, n, classes);\n    }",
        "weight, n, classes);\n        dz[0] += dz[at];\n    }",
        "softmax_cross_entropy",
    ),
}
# Only an address sanitizer notices for certain.
OVERFLOW = {
    "shared memory read beyond its end": ("dense", "other < WARPS", "other < WARPS + 1", "dense_forward"),
    "global memory read beyond its end": ("conv2d", "k < total && o <", "o <", "conv2d_forward_32"),
}


def is_noticed(defect, flags=()):
    family, text, other, name = (DEFECTS | OVERFLOW)[defect]
    source = launch.source(family)
    assert source.count(text) >= 1
    precision = precision_of(name)
    device = EmulatedDevice(precision, changed={family: source.replace(text, other)}, flags=flags)
    built(family, device.changed[family], flags)  # that it compiles is not what is noticed
    exact, found = results(name, get_kernels("reference")), []
    try:
        for order in ORDERS:
            device.order = order
            found.append(results(name, cuda_kernels("cuda-emulated", device)))
    except EmulationError:
        return True
    right = all(
        np.allclose(a, e, rtol=0, atol=PRECISION[precision] * np.abs(e).max())
        for a, e in zip(found[0], exact, strict=True)
    )
    same = all(np.array_equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))
    return not (right and same)


@needs_emulator
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_seeded_defect_is_noticed(defect):
    assert is_noticed(defect)


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
    t.is_noticed(defect, flags)
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
        ("thread", "no barrier in the product", "data race"),
        ("thread", "no barrier in the dense sums", "data race"),
    ],
)
def test_sanitizers_find_seeded_defects(kind, defect, word):
    done = sanitized(kind, defects=[defect])
    assert word in done.stderr, done.stderr[-4000:]
