"""HTML that needs nothing but itself: a document of numbers, its styles, and the JavaScript that draws it.

Arrays are kept in 16 bits: a number read off one is wrong by at most 1/65534 of its largest magnitude.
"""

import base64
import html
import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LARGEST = 32767
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>:root {{ color-scheme: light dark; }} body {{ margin: 24px 20px; background: #fff; color: #1f2733; }}
h1 {{ max-width: 1120px; margin: 0 auto 16px; font: 600 22px/1.3 system-ui, sans-serif; }}
@media (prefers-color-scheme: dark) {{ body {{ background: #16191d; color: #e3e7ec; }} }}
@media (max-width: 760px) {{ body {{ margin: 14px 12px; }} }}</style>
</head>
<body>
<h1>{title}</h1>
{fragment}</body>
</html>
"""

Document = dict[str, Any]
Blobs = dict[bytes, int]  # each array once, with its place: flattening and dropout hand on what they get


def whole_page(title: str, fragment: str) -> str:
    """A page with a title, which may be any text, and a fragment of HTML."""
    return _PAGE.format(title=html.escape(title), fragment=fragment)


def section(css_class: str, label: str, files: Sequence[str], document: Document, blobs: Blobs) -> str:
    """A <section> that shows a document with its arrays, by the styles and scripts of this folder.

    The scripts find the document as `data` and the section as `root`. In JSON "<" is spelled out, for a name
    could end the script.
    """
    document = {**document, "blobs": [base64.b64encode(blob).decode("ascii") for blob in blobs]}
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    here = resources.files("rotinv.lrp.viewer")
    style, script = (
        "".join(here.joinpath(name).read_text("utf-8") for name in files if name.endswith(suffix))
        for suffix in (".css", ".js")
    )
    return f"""<section class="{css_class}" aria-label="{label}">
<style>
{style}</style>
<noscript><p>The pictures are drawn by JavaScript, which is off here.</p></noscript>
<script type="application/json">{text}</script>
<script>
(() => {{
"use strict";
const root = document.currentScript.parentElement;
const data = JSON.parse(root.querySelector('script[type="application/json"]').textContent);
{script}}})();
</script>
</section>
"""


def packed(values: NDArray, blobs: Blobs) -> Document:
    """An array as 16-bit integers, which times `largest` / 32767 are its values; `blob` is their place."""
    largest = float(np.abs(values).max(initial=0))
    whole = np.rint(np.asarray(values, np.float64) * (_LARGEST / (largest or 1))).astype("<i2")
    return {"blob": blobs.setdefault(whole.tobytes(), len(blobs)), "largest": largest}
