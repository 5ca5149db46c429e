#!/usr/bin/env bash
# lsst-alert-packet 30.2026.2700 (seen on Python 3.11, 2026-11-28)
# get_latest_schema_version() says 11.1, and the package ships 15 versions, but SchemaRegistry.from_filesystem()
# without arguments holds 11.0 alone: a message of 11.1 (id 1101) is refused as unknown.
# SchemaRegistry.all_schemas_from_filesystem() has them all.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q lsst-alert-packet==30.2026.2700
"$work/venv/bin/python" - <<'PYTHON'
from lsst.alert.packet import SchemaRegistry, get_latest_schema_version

latest = get_latest_schema_version()
one = SchemaRegistry.from_filesystem().known_versions
every = SchemaRegistry.all_schemas_from_filesystem().known_versions
print("latest:", latest, "| from_filesystem():", sorted(one), "| all_schemas_from_filesystem():", len(every))
assert latest == (11, 1) and one == {"11.0"} and len(every) == 15 and "11.1" in every, "this has changed"
PYTHON
# latest: (11, 1) | from_filesystem(): ['11.0'] | all_schemas_from_filesystem(): 15
