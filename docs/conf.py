"""The site's settings: `sphinx-build -W docs build/docs` makes it, with what the extra `docs` brings."""

import re
import sys
from pathlib import Path

import jupytext
from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx
from sphinx.ext import autosummary
from sphinx.writers.html5 import HTML5Translator

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

import rotinv  # noqa: E402  (this checkout's)
from rotinv.lrp.viewer.by_hand import by_hand_page  # noqa: E402

project = "rotinv"
author = "The rotinv developers"
version = release = rotinv.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_nb",
    "sphinx_copybutton",
    "sphinxcontrib.programoutput",
]
exclude_patterns = ["_templates"]
templates_path = ["_templates"]
highlight_language = "text"  # of blocks that do not say theirs
default_role = "code"  # docstrings quote code by one backtick, as Markdown does

html_theme = "furo"
html_title = f"rotinv {release}"
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
# The course's page on which every number can be changed: one file, which stands in the site as it is.
html_extra_path = [str(ROOT / "build" / "pages")]
(ROOT / "build" / "pages").mkdir(parents=True, exist_ok=True)
(ROOT / "build" / "pages" / "by_hand.html").write_text(by_hand_page(), encoding="utf-8")
html_math_renderer = "mathml"  # not MathJax, which another site would have to bring

myst_enable_extensions = ["dollarmath", "attrs_inline"]
myst_heading_anchors = 3

# The notebooks are run where the site is built. One that has not changed is not run again.
nb_execution_mode = "cache"
nb_execution_cache_path = str(ROOT / "build" / "notebooks")
nb_execution_timeout = 900
nb_execution_raise_on_error = True
nb_merge_streams = True

autosummary.WELL_KNOWN_ABBREVIATIONS += ("Eq.", "Eqs.", "Fig.", "Figs.", "Sec.")  # they end no sentence
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_mock_imports = ["cupy", "cupyx", "distributed"]  # the API can be read without them
maximum_signature_line_length = 88
numpydoc_show_class_members = False

PLACE = re.compile(r"((?:rotinv|kernels)/[\w/]+)\.py(?:::([\w.]+))?")

ARRAY_LIKE = re.compile(r"[\w.~]*_Buffer \|.*?\[complex \| bytes \| str\]")


def notebooks(app: Sphinx) -> None:
    """Make tutorial/NAME.ipynb of each examples/NAME.py."""
    folder = HERE / "tutorial"
    folder.mkdir(exist_ok=True)
    for script in sorted((ROOT / "examples").glob("*.py")):
        notebook = jupytext.read(script, fmt="py:percent")
        notebook.metadata["language_info"] = {"name": "python"}
        for number, cell in enumerate(notebook.cells):
            cell["id"] = f"cell-{number}"  # else random: the page would be a new one each time
        made = jupytext.writes(notebook, fmt="ipynb")
        page = folder / f"{script.stem}.ipynb"
        if not page.exists() or page.read_text(encoding="utf-8") != made:
            page.write_text(made, encoding="utf-8")


def plain(app: Sphinx, what: str, name: str, of: object, options: object, lines: list[str]) -> None:
    """Read a docstring as meant: |R| is a magnitude, and an indented block below a sentence stays so."""
    for number, line in enumerate(lines):
        if not line.startswith("    "):
            pieces = line.split("`")
            pieces[::2] = [text.replace("|", "\\|") for text in pieces[::2]]  # the others are code
            lines[number] = line = "`".join(pieces)
        blank, block = [*lines[number + 1 : number + 3], "", ""][:2]
        starts_block = not blank and block.startswith("    ")
        if starts_block and line and not line.startswith((" ", ":", "..")) and not line.endswith("::"):
            lines[number] += ":" if line.endswith(":") else " ::"


def short_signature(
    app: Sphinx,
    what: str,
    name: str,
    of: object,
    options: object,
    signature: str | None,
    returned: str | None,
) -> tuple[str | None, str | None] | None:
    """Write NumPy's ArrayLike as such, not as the dozen types that it stands for."""
    return (ARRAY_LIKE.sub("ArrayLike", signature), returned) if signature else None


def link_code(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Have `rotinv/x.py::name` and `kernels/x.py::name` in a text lead to the source on the site."""
    shown = getattr(app.env, "_viewcode_modules", {})
    for literal in list(doctree.findall(nodes.literal)):
        if found := PLACE.fullmatch(literal.astext()):
            module = found[1].replace("/", ".").removesuffix(".__init__")
            module = module if module.startswith("rotinv") else f"rotinv.{module}"
            if not shown.get(module):
                continue
            uri = app.builder.get_relative_uri(page, f"_modules/{module.replace('.', '/')}")
            anchor = f"#{found[2]}" if found[2] in shown[module][2] else ""
            literal.replace_self(nodes.reference("", "", literal.deepcopy(), refuri=uri + anchor))


def inline_math(page: HTML5Translator, node: nodes.math) -> None:
    """Write an equation in a sentence as MathML, which browsers draw by themselves."""
    page.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def displayed_math(page: HTML5Translator, node: nodes.math_block) -> None:
    """Write an equation that stands on lines of its own."""
    block = tex2mathml(node.astext()).replace("<math ", '<math display="block" ', 1)
    page.body.append(f'<div class="math">{block}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (inline_math, None), (displayed_math, None))
    app.add_lexer("worked", TextLexer)  # the working in lrp.md
    app.connect("builder-inited", notebooks)
    app.connect("autodoc-process-docstring", plain)
    app.connect("autodoc-process-signature", short_signature)
    app.connect("doctree-resolved", link_code)
