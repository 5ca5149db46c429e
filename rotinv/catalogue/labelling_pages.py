"""Chosen stamps on a page to be labelled: what is told of each, and which ids its label gets."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.catalogue.picking import Picks
from rotinv.catalogue.sources import Block
from rotinv.lrp.viewer.labelling import ToLabel, labelling_fragment
from rotinv.stamps.label_lists import LabelList

_NUMBERS = {  # of the catalogue: how each is named and written
    "ra": ("right ascension", "{:.5f}°"),
    "dec": ("declination", "{:+.5f}°"),
    "mjd": ("MJD", "{:.4f}"),
    "magnitude": ("magnitude", "{:.2f}"),
    "flux": ("flux", "{:.4g} nJy"),
    "snr": ("SNR", "{:.3g}"),
}
_TEXTS = {"survey": "survey", "band": "band", "pixel_flags": "flags of its pixels"}
_PARTS = {
    "nearness": "near the threshold",
    "rotations": "rotations disagree",
    "networks": "networks disagree",
    "doubt": "doubt, the sum",
}
NOTE = (
    "Keys: r real, b bogus, s or space skip, u undo, the arrows move. The labels stay in this browser until "
    "they are saved; LABELS.csv has one row for each real or bogus stamp, for rotinv import-alerts --labels. "
    "Doubt is in bits, from 0 to 1; the distance is that from the nearest stamp chosen before, among the "
    "last layer's units. Each channel is shown from its least pixel, black, to its largest, white."
)

Row = dict[str, Any]


def fragment(picks: Picks, channels: Sequence[str]) -> str:
    """The stamps as a <section> for a page's body, in the order in which they were chosen."""
    return labelling_fragment(picks.stamps, channels, [_to_label(row) for row in rows_of(picks)], NOTE)


def rows_of(picks: Picks) -> list[Row]:
    """What is known of each chosen stamp, by the catalogue's columns."""
    return [dict(zip(picks.rows, values, strict=True)) for values in zip(*picks.rows.values(), strict=True)]


def _to_label(row: Row) -> ToLabel:
    """What the page has of a stamp: of the catalogue's columns those that do not say what networks or survey
    think of it, which would lead the eye."""
    id_, object_id = ids_of(row)
    names = [f"object {object_id}"] if object_id else []
    names += [f"{'detection' if has_ids(row) else 'stamp'} {id_}"] if id_ else []
    facts = [(name, text) for key, name in _TEXTS.items() if (text := str(row.get(key, "")))]
    for key, (name, form) in _NUMBERS.items():
        if np.isfinite(row.get(key, np.nan)):
            facts.append((name, form.format(row[key])))
    return ToLabel(id_, object_id, ", ".join(names), facts, list(_reasons(row)))


def _reasons(row: Row) -> Iterator[tuple[str, str]]:
    for key, name in _PARTS.items():
        yield name, f"{row[key]:.3f}"
    first = np.isinf(row["distance"])
    yield "distance", "the first chosen" if first else f"{row['distance']:.3f}"


def ids_of(row: Row) -> tuple[str, str]:
    """The id, and the id of the object, that a stamp's label gets, as text.

    The first is the candidate's id; of stamps that have no ids at all, it is their index. A broker's null, 0,
    is no id.
    """
    candidate, source = _own_ids(row)
    return (candidate, source) if candidate or source else (str(row["index"]), "")


def has_ids(row: Row) -> bool:
    """Whether a stamp has an id of its own or of its object."""
    return any(_own_ids(row))


def _own_ids(row: Row) -> tuple[str, str]:
    candidate, source = (str(row.get(name, "")) for name in ("candidate_id", "object_id"))
    return "" if candidate == "0" else candidate, "" if source == "0" else source


def labelled_by(labels: LabelList) -> Callable[[Block], NDArray[np.bool_]]:
    """A function that tells which stamps of a block a list labels, by their own ids or their objects'."""

    def is_labelled(block: Block) -> NDArray[np.bool_]:
        names = [name for name in ("candidate_id", "object_id") if name in block.known]
        columns = zip(block.index, *(block.known[name] for name in names), strict=True)
        pairs = [ids_of(dict(zip(("index", *names), row, strict=True))) for row in columns]
        return np.array([one in labels.candidates or of in labels.objects for one, of in pairs], bool)

    return is_labelled
