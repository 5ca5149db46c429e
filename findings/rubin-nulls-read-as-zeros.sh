#!/usr/bin/env bash
# lsst-alert-packet 30.2026.2700, fastavro 1.13.1 (seen on Python 3.11, 2026-11-28)
# A Rubin alert of schema 10.0 may say null for psfNdata, trailNdata, dipoleNdata and bboxSize. In schema 11.0 they are
# plain integers. Such an alert, decoded with the schema 11.0, gives no error: its nulls come out as 0.
# A consumer that takes the newest schema for all messages therefore cannot see that the counts are unknown.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q lsst-alert-packet==30.2026.2700 fastavro==1.13.1
"$work/venv/bin/python" - <<'PYTHON'
from lsst.alert.packet import SchemaRegistry

PLAIN = {"int": 7, "long": 7, "float": 1.5, "double": 1.5, "boolean": True, "string": "x"}
COUNTS = ("psfNdata", "trailNdata", "dipoleNdata", "bboxSize")


def sparse(schema, named):
    """A record of the schema that says null wherever it may."""
    if isinstance(schema, list):
        return None
    if isinstance(schema, str):
        return sparse(named[schema], named) if schema in named else PLAIN[schema]
    if schema["type"] == "record":
        return {field["name"]: sparse(field["type"], named) for field in schema["fields"]}
    return [] if schema["type"] == "array" else sparse(schema["type"], named)


def records(schema, found):
    """The named records that a schema defines."""
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        records(part, found)
    if isinstance(schema, dict) and schema.get("type") == "record":
        found[schema["name"]] = schema
    return found


registry = SchemaRegistry.all_schemas_from_filesystem()
old, new = registry.get_by_version("10.0"), registry.get_by_version("11.0")
message = old.serialize(sparse(old.definition, records(old.definition, {})))
written, read = old.deserialize(message)["diaSource"], new.deserialize(message)["diaSource"]
for name in COUNTS:
    print(f"{name}: written {written[name]}, read by 11.0 as {read[name]}")
assert all(written[name] is None and read[name] == 0 for name in COUNTS), "this has changed"
PYTHON
# psfNdata: written None, read by 11.0 as 0
# trailNdata: written None, read by 11.0 as 0
# dipoleNdata: written None, read by 11.0 as 0
# bboxSize: written None, read by 11.0 as 0
