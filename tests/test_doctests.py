"""The examples in the docstrings of nn, lrp and metrics, run.

Those of rotinv's public names, of which many need a trained run, are run by test_classifier.py.
"""

import doctest
import importlib

import pytest
from test_imports import MODULES

PACKAGES = ("rotinv.nn.", "rotinv.lrp.", "rotinv.metrics.")
WITH_EXAMPLES = sorted(
    name
    for name, path in MODULES.items()
    if name.startswith(PACKAGES) and ">>> " in path.read_text(encoding="utf-8")
)


def test_entry_points_have_examples():
    assert {
        "rotinv.nn.architectures",
        "rotinv.nn.devices",
        "rotinv.nn.network",
        "rotinv.lrp.heatmaps",
        "rotinv.lrp.ledger",
        "rotinv.lrp.relevance",
        "rotinv.lrp.composites",
    } <= set(WITH_EXAMPLES)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert tried and not failed
