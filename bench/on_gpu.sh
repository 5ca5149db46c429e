#!/usr/bin/env bash
# All that wants a GPU, by one command on a machine with CuPy and PyTorch, in under eight minutes and without a network:
#     bash bench/on_gpu.sh [FOLDER]
# The tests' and the timings' tables are left in FOLDER (default build/gpu). bench/carry.sh gathers what it needs beside.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-build/gpu}
mkdir -p "$out"
if compgen -G 'carried/*.whl' > /dev/null; then
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  python3 -m pip install --quiet --no-index --no-deps --target "$site" carried/*.whl
  export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
fi
if [ -d carried/data ]; then export ROTINV_REAL_DATA=$PWD/carried/data; fi
nvidia-smi > "$out/machine.txt" 2>&1
# Without a GPU every test would be skipped, which must not pass for a success.
python3 -c 'from rotinv import cli; from rotinv.nn import devices; cli.run("on_gpu", lambda: devices.get_kernels("cuda") is None)' || exit 2
status=0  # an interrupted pytest still leaves its table
timeout -s INT -k 10 140 python3 -m pytest tests/test_gpu.py -m gpu -rs --durations=10 2>&1 | tee "$out/tests.txt" || status=1
timeout -s INT -k 10 310 python3 -m pytest bench/test_cuda_speed.py --benchmark --device cuda --rounds 3 --json "$out/speed.json" \
  2>&1 | tee "$out/speed.txt" || status=1
exit $status
