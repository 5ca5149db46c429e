"""All cpu kernels on machines with narrower vectors: 8 floats with AVX2, 4 without AVX."""

import os
import subprocess
import sys

import llvmlite.binding as llvm
import pytest
from programs import ENVIRONMENT, ROOT

WITHOUT = {8: ("avx512",), 4: ("avx", "fma", "f16c", "vaes", "vpclmulqdq")}
ASK = "from rotinv.kernels.cpu.vector.simd import LANES; print(LANES)"


def environment(lanes, folder):
    """Numba's environment for this machine without what has wider vectors, and with a cache of its own."""
    host = [feature[1:] for feature in llvm.get_host_cpu_features().flatten().split(",") if feature[0] == "+"]
    kept = [feature for feature in host if not feature.startswith(WITHOUT[lanes])]
    features = [f"{'+' if feature in kept else '-'}{feature}" for feature in host]
    return ENVIRONMENT | {
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": ",".join(features),
        "NUMBA_CACHE_DIR": str(folder),
    }


@pytest.mark.slow
@pytest.mark.skipif(not llvm.get_host_cpu_features().get("avx2"), reason="vectors are narrow here already")
@pytest.mark.parametrize("lanes", WITHOUT)
def test_the_kernels_tests_pass_with_narrower_vectors(lanes, tmp_path):
    env = environment(lanes, tmp_path)
    asked = subprocess.run([sys.executable, "-c", ASK], env=env, capture_output=True, text=True, check=True)
    assert int(asked.stdout) == lanes
    chosen = "(convolution or contributions or dense or relevance) and not reference"
    file = str(ROOT / "tests" / "test_kernels.py")
    command = [sys.executable, "-m", "pytest", "-q", "-x", file, "-k", chosen]
    done = subprocess.run(command, env=env | {"COLUMNS": "100"}, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-2000:]
    assert os.listdir(tmp_path)  # it compiled, and did not find this machine's own kernels
