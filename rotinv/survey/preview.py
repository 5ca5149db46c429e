"""A contact sheet of a survey: rows by candidate SNR and by kind of artifact, four channels of each stamp.

The number on a template is the SNR of the stamp's detection.
"""

from pathlib import Path

import numpy as np

from rotinv.stamps.store import StampStore
from rotinv.survey import kinds
from rotinv.system import pictures
from rotinv.system.files import refuse_existing, written_whole

SNR_ROWS = ((0, 7), (7, 9), (9, 15), (15, 30), (30, np.inf))
ACROSS = 4  # stamps in a row
READ = 20_000  # stamps from which those shown are chosen


def check(sheet: str | Path, *, overwrite: bool = False) -> None:
    """Raise UserError unless a sheet can be drawn at `sheet`."""
    pictures.require_matplotlib("--preview")
    refuse_existing(Path(sheet), overwrite)


def draw(survey: str | Path, sheet: str | Path, name: str = "test", *, overwrite: bool = False) -> None:
    """Write the sheet of a split of the survey as PNG. Checks nothing: call `check` first."""
    from matplotlib.figure import Figure

    with StampStore(survey) as store:
        split = store.split(name)
        assert split.snr is not None and split.kind is not None  # a survey has both
        rows = _rows(split.snr[:READ], split.kind[:READ])
        figure = Figure(figsize=(14, 0.8 * len(rows) + 0.5))
        axes = figure.subplots(
            len(rows), 4 * ACROSS, squeeze=False, gridspec_kw={"wspace": 0.05, "hspace": 0.1}
        )
        for line, (name, chosen) in zip(axes, rows, strict=True):
            for panel in line:
                panel.axis("off")
            line[0].text(-0.2, 0.5, name, ha="right", va="center", transform=line[0].transAxes, fontsize=8)
            for n, index in enumerate(chosen):
                line[4 * n].text(
                    0.04,
                    0.04,
                    f"{split.snr[index]:.3g}",
                    transform=line[4 * n].transAxes,
                    fontsize=6,
                    color="white",
                    bbox={"facecolor": "black", "pad": 0.5, "linewidth": 0},
                )
                for channel in range(4):
                    _show(line[4 * n + channel], split.pixels[index, :, :, channel])
    for n, title in enumerate(("template", "science", "difference", "SNR diff.") * ACROSS):
        axes[0, n].set_title(title, fontsize=7)
    with written_whole(sheet, overwrite=overwrite) as temporary:
        figure.savefig(temporary, dpi=120, format="png", bbox_inches="tight")


def _rows(snr: np.ndarray, kind: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """The name and the stamps' indices of each row that has any."""
    rows = [
        (f"candidate, SNR {low}-{high:g}", (kind == kinds.CANDIDATE) & (snr >= low) & (snr < high))
        for low, high in SNR_ROWS
    ]
    rows += [(kinds.KINDS[number], kind == number) for number in range(1, len(kinds.KINDS))]
    return [(name, np.flatnonzero(chosen)[:ACROSS]) for name, chosen in rows if chosen.any()]


def _show(panel, image: np.ndarray) -> None:
    """One channel in grey, scaled from its 1st to its 99.5th percentile, north at the top."""
    low, high = np.percentile(image, (1, 99.5))
    panel.imshow(image, cmap="gray", origin="lower", vmin=low, vmax=max(high, low + 1e-6))
