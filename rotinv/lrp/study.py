"""The answers of one network, or several, for the same stamps: maps as arrays, as pictures and in files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rotinv.lrp import attribution, map_figures, map_files
from rotinv.lrp.attribution import Explanation, Question
from rotinv.lrp.subjects import Subject, answer
from rotinv.lrp.trust import Trust
from rotinv.metrics import ensembles
from rotinv.stamps.splits import Split
from rotinv.system.errors import UserError
from rotinv.system.messages import counted
from rotinv.system.pictures import new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False, repr=False)
class Study:
    """Stamps, and what each network's decision on them rests on.

    Attributes
    ----------
    split : Split
        The stamps' file, or the array that they are from.
    indices : array (n,)
        Their numbers in it.
    stamps : array (n, h, h, c)
        The stamps as the networks read them: those of runs cut, and each channel scaled to 0-1.
    channels : sequence of str
        The names of the c channels.
    question : Question
        The method, the rule and what is shared out.
    answers : sequence of Explanation
        A network each: its maps, logits and p(candidate).
    subjects : sequence of Subject
        The networks.
    """

    split: Split
    indices: NDArray[np.int64]
    stamps: NDArray[np.float32]
    channels: Sequence[str]
    question: Question
    answers: Sequence[Explanation]
    subjects: Sequence[Subject]

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def maps(self) -> NDArray:
        """The maps of the four rotations as the network saw them, (n, 4, h, h, c); at a layer, see
        Explanation. Of several networks, (networks, n, …)."""
        return self._of_all("maps")

    @property
    def average(self) -> NDArray:
        """The mean over the rotations of the maps turned back, mu of Eq. 5: (n, h, h, c). Of several
        networks, (networks, n, h, h, c)."""
        return self._of_all("average")

    @property
    def probability(self) -> NDArray:
        """p(candidate), (n,); of several networks the median, which is the majority's vote."""
        return ensembles.majority(np.stack([one.probability for one in self.answers]))

    def label(self, i: int) -> int | None:
        """The class of the i-th stamp, where it is known."""
        return None if self.split.label is None else int(self.split.label[self.indices[i]])

    def title(self, i: int) -> str:
        """The i-th stamp's index, with its label and SNR where they are known."""
        return attribution.title(self.split, int(self.indices[i]))

    def trust(self, i: int = 0, *, of: int = 0) -> Trust:
        """How far the map of the i-th stamp can be trusted, by the ledger of one of the networks.

        It has the share of what is explained that arrives in the stamp, the largest losses on the way, the
        deviation from float64, and `doubts`, the reasons not to trust the map. It takes some tenths of a
        second, for the map is computed again in float64.

        Raises
        ------
        UserError
            For a stamp or a network that there is not, and for methods other than "lrp", which have no
            ledger.
        """
        _check_number("stamp", i, len(self))
        _check_number("network", of, len(self.answers))
        if self.question.method != "lrp":
            raise UserError(f"maps of {self.question.method} have no ledger; only those of lrp do")
        stamp = self.stamps[range(len(self))[i], None]
        return next(self.subjects[of].audits(stamp, self.question)).trust

    def plot(
        self, i: int = 0, ax: "Axes | None" = None, *, channel: str | None = None, of: int = 0
    ) -> "Axes":
        """Draw the average map of the i-th stamp: red speaks for the class that is explained, blue against.

        Parameters
        ----------
        i : int
            Which of the stamps.
        ax : Axes, optional
            Where to draw; new axes of matplotlib's pyplot by default.
        channel : str, optional
            One of `channels`; by default the sum over all of them is drawn.
        of : int
            Which of several networks.

        Raises
        ------
        UserError
            For a stamp, a network or a channel that there is not, and without matplotlib.
        """
        _check_number("stamp", i, len(self))
        _check_number("network", of, len(self.answers))
        one = self.answers[of]
        if channel is not None and channel not in one.channels:
            known = ", ".join(one.channels) or "none by name"
            raise UserError(f"channel {channel!r}: the maps at '{one.layer}' have {known}")
        axes = new_axes() if ax is None else ax
        map_figures.draw_average(axes, one, i, channel)
        axes.set_title(f"{self.title(i)}\n{map_figures.header(one, i, self.label(i))}", fontsize=9, wrap=True)
        return axes

    def page(self, i: int = 0, scale: str = "max-abs", *, realign: bool = False) -> "Figure":
        """The page of the i-th stamp, as the paper's Figs. 3 and 4: the stamp, its maps at the four rotations
        and their average, a block for each network. `scale` is one of heatmaps.SCALES; with `realign` the
        maps are turned back to the stamp's own orientation. Raises UserError for a stamp that there is
        not."""
        _check_number("stamp", i, len(self))
        return map_figures.page(self, i, scale, realign)

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write all maps, never scaled, and the labels and SNRs that are known, as HDF5 (lrp/map_files.py).

        Raises UserError if the file exists, but for `overwrite`, or cannot be written.
        """
        columns = {"indices": self.indices}
        for name in ("label", "snr"):
            if (column := getattr(self.split, name)) is not None:
                columns[name] = column[self.indices]
        about = {"stamps": str(self.split.path), "split": self.split.name}
        with map_files.create(path, self.question, about, overwrite=overwrite) as writer:
            writer.append(columns, self.answers)

    def __repr__(self) -> str:
        names = ", ".join(one.name for one in self.answers)
        shape = " and ".join(dict.fromkeys(str(one.maps.shape) for one in self.answers))
        return f"<Study of {counted(len(self), 'stamp')} by {names}: {self.question.text}; maps {shape}>"

    def _of_all(self, what: str) -> NDArray:
        each: list[Any] = [getattr(one, what) for one in self.answers]
        if len(each) == 1:
            return np.asarray(each[0])
        if len({array.shape for array in each}) > 1:
            raise UserError(f"the networks' {what} differ in shape; take each one's, answers[i].{what}")
        return np.stack(each)


def _check_number(what: str, i: int, count: int) -> None:
    """Raise UserError unless `i` counts one of `count` things, from 0 or, negative, from the end."""
    if not isinstance(i, int | np.integer) or not -count <= i < count:
        raise UserError(f"there is no {what} {i!r}: there are {count}, counted from 0")


def study(
    subjects: Sequence[Subject],
    split: Split,
    indices: NDArray[np.int64],
    question: Question,
    progress: Callable[[int], object] | None = None,
) -> Study:
    """Ask each network about the stamps at `indices`; the networks read the same stamps in the same way.

    `progress` is called with the number of stamps of a network done.

    Raises UserError for an unknown method, rule, target or layer, and if a pixel, a logit or a map is
    not finite.
    """
    stamps = subjects[0].read(split, indices)
    answers = [answer(subject, stamps, question, progress) for subject in subjects]
    return Study(split, indices, stamps, subjects[0].channels, question, answers, subjects)
