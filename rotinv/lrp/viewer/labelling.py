"""An HTML fragment in which a person labels stamps with the keyboard, and saves the labels as LABELS.csv.

What the networks think of a stamp is not shown: it would lead the eye.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from rotinv.lrp.viewer.fragments import Blobs, packed, section
from rotinv.runs.model import channel_title

_FILES = ("theme.css", "labelling.css", "viewer_tools.js", "labelling.js")
Pairs = Sequence[tuple[str, str]]  # names and texts


@dataclass(frozen=True)
class ToLabel:
    """What is known of a stamp to be labelled: the ids that LABELS.csv gets, and what is shown of it.

    `facts` are what the survey says, `reasons` why it was chosen.
    """

    id: str
    object_id: str
    title: str
    facts: Pairs
    reasons: Pairs


def labelling_fragment(
    stamps: NDArray[np.float32], channels: Sequence[str], about: Sequence[ToLabel], note: str
) -> str:
    """A <section> for a page's body, on which stamps (n, h, h, c) are labelled in their order.

    The stamps are scaled to 0-1; `note` is shown beneath. The labels are kept in the browser's storage,
    where it has one, under a name of these very stamps.
    """
    blobs: Blobs = {}
    rows = [
        {**asdict(one), "shape": pixels.shape, **packed(pixels, blobs)}
        for one, pixels in zip(about, stamps, strict=True)
    ]
    ids = json.dumps([[one.id, one.object_id] for one in about])
    document = {
        "channels": [channel_title(channel) for channel in channels],
        "stamps": rows,
        "note": note,
        "storage": f"rotinv-labels-{hashlib.sha256(ids.encode()).hexdigest()[:16]}",
    }
    return section("labelling", "Stamps to label", _FILES, document, blobs)
