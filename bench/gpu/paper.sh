#!/usr/bin/env bash
# The paper on one card: six trials of each network, Tables I to III and Figs. 2 to 5, without a network:
#     bash bench/gpu/paper.sh [FOLDER]
# FOLDER (default $OUT/paper, or build/paper) may hold what an earlier call has left: it goes on from there. The survey
# is made first, by all cores. Stopped after SECONDS_AT_MOST (default 570), so that what is done comes back.
set -uo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-${OUT:-build}/paper}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
timeout -s INT -k 20 "${SECONDS_AT_MOST:-570}" \
  python3 -m rotinv.reproduce --scale paper-gpu --device cuda --workers 6 --out "$folder"
status=$?
python3 -m rotinv.reproduce --out "$folder" --status
exit $status
