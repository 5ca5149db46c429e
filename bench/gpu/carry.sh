#!/usr/bin/env bash
# Fill carried/, which git ignores, with what bench/gpu/on_gpu.sh needs on a machine without a network: zennit as a wheel,
# and the real data (their folder is $1; those tests are skipped without them).
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p carried
python3 -m pip download --quiet --no-deps --only-binary=:all: --dest carried 'zennit>=0.5.1'
if [ $# -gt 0 ]; then
  mkdir -p carried/data
  cp "$1"/authors_cap_3channel.h5 carried/data/
fi
