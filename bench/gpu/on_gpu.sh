#!/usr/bin/env bash
# All that wants a GPU, on a machine with CuPy and PyTorch, without a network:
#     bash bench/gpu/on_gpu.sh [FOLDER] [PART...]
# Parts, in the order of what is wanted most, with the seconds that each may take before the next one begins:
#     compile     60   CuPy compiles the kernels, and keeps them
#     tests      110   pytest tests -m gpu
#     first       80   scoring, steps and maps: right to the bit, their times, the card's rates
#     speed      300   the suite beside PyTorch (eager, one graph, compiled; tf32 and fp16) and zennit
#     sanitizer   80   compute-sanitizer's memcheck and racecheck of all kernels of scoring, a step and maps, if installed
#     profile     60   Nsight Compute's figures of the same kernels, if installed
# Where a call may take ten minutes and all of them fifteen, in two calls, 9.5 and 2.5 minutes at most:
#     bash bench/gpu/on_gpu.sh FOLDER compile tests first speed
#     bash bench/gpu/on_gpu.sh FOLDER sanitizer profile
# By default all. What they print and the tables are left in FOLDER (default $OUT, or build/gpu): of either call at most eight
# files. bench/gpu/carry.sh gathers what it needs beside.
set -uo pipefail
cd "$(dirname "$0")/../.."
out=${1:-${OUT:-build/gpu}}
shift || true
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(compile tests first speed sanitizer profile)
mkdir -p "$out"
if compgen -G 'carried/*.whl' > /dev/null; then
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  python3 -m pip install --quiet --no-index --no-deps --target "$site" carried/*.whl
  export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
fi
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
if [ -d carried/data ]; then export ROTINV_REAL_DATA=$PWD/carried/data; fi
timeout 20 nvidia-smi > "$out/machine.txt" 2>&1
# Without a GPU every test would be skipped, which must not pass for a success.
timeout 60 python3 -c 'import cupy; assert cupy.cuda.runtime.getDeviceCount() > 0' 2> "$out/no_gpu.txt" || {
  tail -1 "$out/no_gpu.txt" >&2; echo "on_gpu.sh: no GPU that CuPy can use, so nothing was run" >&2; exit 2; }
status=0
# part SECONDS NAME COMMAND...: what it prints goes to FOLDER/NAME.txt. An interrupted pytest still leaves its table.
part() {
  local seconds=$1 name=$2
  shift 2
  timeout -s INT -k 5 "$seconds" "$@" 2>&1 | tee "$out/$name.txt" || status=1
}
# tool NAME: whether a tool is here; CUDA's are often beside the path.
tool() {
  for folder in /usr/local/cuda/bin /opt/nvidia/nsight-compute/*; do [ -x "$folder/$1" ] && PATH=$PATH:$folder; done
  command -v "$1" > /dev/null || { echo "$1 is not installed" | tee "$out/$1.txt"; return 1; }
}
for name in "${parts[@]}"; do
  case $name in
    compile) part 60 compile python3 -c 'from rotinv.nn import devices; devices.get_kernels("cuda")' ;;
    tests) part 110 tests python3 -m pytest tests/test_gpu.py -m gpu -rs --durations=10 ;;
    first) part 80 first python3 bench/gpu/first.py ;;
    speed) part 300 speed python3 -m pytest bench/test_cuda_speed.py --benchmark --device cuda --rounds 3 --json "$out/speed.json" ;;
    sanitizer)
      tool compute-sanitizer && for kind in memcheck racecheck; do
        part 40 "$kind" compute-sanitizer --tool "$kind" --error-exitcode 9 python3 bench/gpu/one_step.py 2
      done ;;
    profile)
      tool ncu && part 60 profile ncu --clock-control none --set full -k 'regex:chain_|head_|step_|conv2d_|targets_' --launch-count 40 \
        --export "$out/profile" --force-overwrite python3 bench/gpu/one_step.py 500 ;;
    *) echo "on_gpu.sh: $name is no part"; exit 2 ;;
  esac
done
exit $status
