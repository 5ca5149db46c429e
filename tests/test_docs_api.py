"""docs/api.md is what the sources say, and all that it names has a docstring."""

import ast
import importlib.util

import pytest
from programs import ROOT


@pytest.fixture(scope="module")
def make_api():
    spec = importlib.util.spec_from_file_location("make_api", ROOT / "docs" / "make_api.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(make_api):
    assert make_api.PAGE.read_text(encoding="utf-8") == make_api.text(), "run: python docs/make_api.py"


def test_all_that_is_public_has_a_docstring(make_api):
    names = [(module, node) for modules in make_api.PUBLIC.values() for module in modules
             for node in make_api.public(module)]  # fmt: skip
    assert len(names) > 150
    assert [f"{module}.{node.name}" for module, node in names if not ast.get_docstring(node)] == []
