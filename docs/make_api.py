"""Makes docs/api.md of the sources' own words: `python docs/make_api.py`; a test says when it is due.

It reads the files and imports nothing, so that the page is the same whatever is installed.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "api.md"
PUBLIC = {  # what is not named here may change without notice
    "Building networks": ("architectures", "network", "layers", "linear", "cyclic"),
    "Kernels": ("backend", "devices"),
    "Data": ("stamps", "splits", "pixels", "batches", "survey.build"),
    "Training": ("protocol", "trials", "training", "history"),
    "Runs": ("runs", "subjects"),
    "Scoring": ("scoring", "sources", "scorer", "catalogues", "ensembles"),
    "Relevance": ("rules", "seeds", "heatmaps", "ledger", "audits", "explanations"),
    "The rotation measure": ("rotation", "sigma_bars"),
    "Evaluation": ("metrics", "evaluation", "significance", "scores", "thresholds", "perturbation"),
    "Errors": ("errors",),
}
INTRODUCTION = """\
# API reference

Made by `python docs/make_api.py` of the sources; a test holds it to them. What is here is public; other
modules, and names that begin with an underscore, may change without notice. The programs are in README.md.
`docs/lrp.md` works the equations, and `examples/` uses what is here.

`import rotinv` loads nothing else. Of its own it has `__version__` and, loaded when they are used,
{names}.
"""


def text() -> str:
    """The page."""
    parts = [INTRODUCTION.format(names=_names_of_package())]
    parts += [f"- **{title}**: {', '.join(_link(name) for name in names)}" for title, names in PUBLIC.items()]
    for title, names in PUBLIC.items():
        parts.append(f"\n## {title}")
        for name in names:
            parts += _module(name)
    return "\n".join(parts) + "\n"


def public(name: str) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """The public functions and classes of a module; a program's `main` is not one."""
    for node in _tree(name).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and _is_public(node.name) and node.name != "main":
            yield node


def _tree(name: str) -> ast.Module:
    return ast.parse(_path(name).read_text(encoding="utf-8"))


def _path(name: str) -> Path:
    return ROOT / "rotinv" / f"{name.replace('.', '/')}.py"


def _is_public(name: str) -> bool:
    return not name.startswith("_")


def _names_of_package() -> str:
    for node in _tree("__init__").body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ", ".join(f"`{name}`" for name in ast.literal_eval(node.value))
    raise LookupError("rotinv/__init__.py has no __all__")


def _link(name: str) -> str:
    return f"[{name}](#rotinv{name.replace('.', '')})"


def _module(name: str) -> Iterator[str]:
    """A module: its docstring, its constants, its functions and classes, each as it stands in the source."""
    tree, lines = _tree(name), _path(name).read_text(encoding="utf-8").splitlines()
    yield f"\n### rotinv.{name}\n\n{_prose(tree)}\n"
    if constants := [lines[node.lineno - 1] for node in tree.body if _is_constant(node)]:
        yield _code(constants)
    for node in public(name):
        yield f"\n#### {name}.{node.name}\n"
        yield _code(_class(lines, node) if isinstance(node, ast.ClassDef) else _head(lines, node))


def _class(lines: list[str], of: ast.ClassDef) -> list[str]:
    """Its head, its fields, and the methods that say something: the module's words tell of the others."""
    found = _head(lines, of)
    fields = [lines[node.lineno - 1 : node.end_lineno] for node in of.body if isinstance(node, ast.AnnAssign)]
    if fields:
        found += ["", *(line for field in fields for line in field)]
    for node in of.body:
        if isinstance(node, ast.FunctionDef) and (node.name == "__init__" or _is_public(node.name)):
            if node.name == "__init__" or ast.get_docstring(node):
                found += ["", *_head(lines, node)]
    return found


def _head(lines: list[str], node: ast.FunctionDef | ast.ClassDef) -> list[str]:
    """A definition from its decorators to the end of its docstring."""
    start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    first = node.body[0]
    end = first.end_lineno if ast.get_docstring(node) else first.lineno - 1
    return lines[start - 1 : end]


def _is_constant(node: ast.stmt) -> bool:
    """A public name that one line sets; type variables are nobody's business."""
    if not isinstance(node, ast.Assign | ast.AnnAssign) or node.lineno != node.end_lineno:
        return False
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    return isinstance(target, ast.Name) and _is_public(target.id) and "TypeVar" not in ast.unparse(node)


def _code(lines: list[str]) -> str:
    return "\n".join(["```python", *lines, "```"])


def _prose(module: ast.Module) -> str:
    """A module's docstring, in which what is indented stays as it is."""
    found: list[str] = []
    for line in (ast.get_docstring(module) or "").splitlines():
        if found and found[-1] and line and line.startswith("    ") != found[-1].startswith("    "):
            found.append("")
        found.append(line)
    return "\n".join(found)


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
