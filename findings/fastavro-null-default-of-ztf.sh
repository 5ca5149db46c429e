#!/usr/bin/env bash
# fastavro 1.8.4, 1.9.0, 1.9.1, 1.9.2 (seen on Python 3.11, 2026-11-28)
# ZTF's alert schemas before 4.02 have fields of the type ["float", "null"] whose default is null. Avro asks that a default fit
# the first branch of a union, but every alert in ZTF's archive is written so. fastavro up to 1.9.1 ends with
# "TypeError: float() argument must be a string or a real number, not 'NoneType'" when it opens such a file, which names
# neither field nor schema; from 1.9.2 on it reads the file.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
for version in 1.8.4 1.9.0 1.9.1 1.9.2 1.13.1; do
  "$work/venv/bin/pip" install -q --target "$work/$version" --no-deps "fastavro==$version"
done
cat > "$work/write.py" <<'PYTHON'
import sys, fastavro
field = {"name": "xpos", "type": ["float", "null"], "default": None}
schema = {"type": "record", "name": "alert", "namespace": "ztf", "fields": [{"name": "candid", "type": "long"}, field]}
with open(sys.argv[1], "wb") as file:
    fastavro.writer(file, schema, [{"candid": 1, "xpos": 5.0}])
PYTHON
cat > "$work/read.py" <<'PYTHON'
import sys, fastavro
try:
    with open(sys.argv[1], "rb") as file:
        print(fastavro.__version__, list(fastavro.reader(file)))
except Exception as error:
    print(fastavro.__version__, type(error).__name__)
PYTHON
PYTHONPATH="$work/1.13.1" "$work/venv/bin/python" "$work/write.py" "$work/ztf.avro"
for version in 1.8.4 1.9.0 1.9.1 1.9.2; do
  PYTHONPATH="$work/$version" "$work/venv/bin/python" "$work/read.py" "$work/ztf.avro"
done > "$work/seen"
diff - "$work/seen" <<'EXPECTED' || { echo "this has changed"; exit 1; }
1.8.4 TypeError
1.9.0 TypeError
1.9.1 TypeError
1.9.2 [{'candid': 1, 'xpos': 5.0}]
EXPECTED
cat "$work/seen"
