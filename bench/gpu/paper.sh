#!/usr/bin/env bash
# The paper on one card: three trials of each network, Tables I to III and Figs. 2 to 5, without a network:
#     bash bench/gpu/paper.sh [FOLDER]
# TRIALS=6 takes the scale's own six. A step is predicted to take .24 ms (see docs/cuda.md) and .02 beside it, if the trials
# that train at once gain nothing: then 3 x 3 x 100,000 steps are 234 s, and those of six trials 468 s. Nothing of it was
# measured: by .38 ms, if going depth first gains nothing, they are 360 s and 720 s, which is more than a call.
# FOLDER (default build/paper) may hold what an earlier call has left: it goes on from there. The survey is made first, by
# all cores. Stopped after SECONDS_AT_MOST (default 560), so that what is done comes back: all but the survey, in $OUT if
# that is set, as pieces of 15 MB (about three), which `cat paper.tgz.* | tar xz -C FOLDER` puts back.
set -uo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-build/paper}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
timeout -s INT -k 20 "${SECONDS_AT_MOST:-560}" \
  python3 -m rotinv.reproduce --scale paper-gpu --trials "${TRIALS:-3}" --device cuda --workers 6 \
  --out "$folder"
status=$?
python3 -m rotinv.reproduce --out "$folder" --status
if [ -n "${OUT:-}" ]; then tar -C "$folder" --exclude=survey.h5 -cz . | split -b 15m - "$OUT/paper.tgz."; fi
exit $status
