"""Run a module as `python -m` does, and write the most memory that it held: measured.py FILE MODULE
ARGUMENTS…"""

import runpy
import sys
from pathlib import Path

from interleave import peak_memory

if __name__ == "__main__":
    file, module = sys.argv[1:3]
    sys.argv = sys.argv[2:]
    sys.path.pop(0)  # the bench folder, which python -m would not search
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        Path(file).write_text(str(peak_memory()), encoding="utf-8")
