"""Trained networks in Python: load a run, or several that vote; score, explain, audit and evaluate arrays.

    clf = rotinv.load("runs/cap-1")
    clf.predict_proba(stamps)

The programs do the same with files, by the same functions.
"""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rotinv.classifier.inputs import check_on_bad, usable_stamps
from rotinv.lrp import composites, sigma_bar
from rotinv.lrp.attribution import Question
from rotinv.lrp.ledger_report import Audit, audits
from rotinv.lrp.study import Study, study
from rotinv.lrp.subjects import runs
from rotinv.metrics import ensembles
from rotinv.metrics.classification_report import Evaluation
from rotinv.metrics.rates import NOT_SCORED
from rotinv.nn.contract import Kernels
from rotinv.runs import thresholds
from rotinv.runs.model import Model, stamps_as_read, unique_names
from rotinv.runs.predictions import labelled_scores, score_split
from rotinv.stamps.splits import Split
from rotinv.system.errors import UserError


class Classifier:
    """One trained network, or several whose median is the majority's vote (the paper's CAPE).

    Made by `rotinv.load` or `rotinv.fit`. Where a method takes `stamps`, these are one stamp (S, S, C) or n
    of them, (n, S, S, C) or (n, C, S, S), or (n, S, S) where a network has one channel; raw pixels of any
    real type. A network that was trained with `crop` cuts the centre out of them; any other takes stamps of
    its own size only. Then each channel of each stamp is scaled to 0-1, as in training. If the pixels are
    scaled to 0-1 already, say `normalised=True`. In place of an array, `stamps` may be what
    `rotinv.open_stamps` gives.

    It may be copied and pickled, so that joblib or multiprocessing can send it to other processes, which load
    the same device's kernels. Its thresholds (`at_fpr`) stay in the runs' folders.

    Attributes
    ----------
    classes_ : array ([0, 1])
        The classes' labels, artifact and candidate, in the order of predict_proba's columns; of a network of
        more classes as many.
    classes : Classes
        Their names, and which of them is the candidate.
    names : list of str
        The networks'.
    channels : list of str
        The channels of a stamp, in the order in which arrays have them.
    size : int
        The side of the stamps that the networks read, in pixels.

    Examples
    --------
    >>> import numpy as np, rotinv
    >>> clf = rotinv.load("runs/cap-1")
    >>> clf
    <Classifier cap-1, 13x13 pixels of difference, on cpu>
    >>> stamps = np.random.default_rng(0).normal(100, 5, (4, 21, 21, 1))  # raw and larger: cut and scaled
    >>> clf.predict_proba(stamps).shape
    (4, 2)
    """

    def __init__(self, models: Sequence[Model], folders: Sequence[Path], k: Kernels) -> None:
        self._models, self._folders, self._k = list(models), list(folders), k
        self.classes = models[0].config.classes
        self.classes_ = np.arange(len(self.classes))
        self.names = unique_names(models)
        self.channels = list(models[0].config.channels)
        self.size = models[0].config.size

    def __getitem__(self, name: str) -> "Classifier":
        """The classifier of one of several networks, by its name."""
        if name not in self.names:
            raise UserError(f"there is no network {name!r}; there are {', '.join(self.names)}")
        place = self.names.index(name)
        return Classifier([self._models[place]], [self._folders[place]], self._k)

    def predict_proba(
        self,
        stamps: ArrayLike | Split,
        *,
        normalised: bool = False,
        on_bad: Literal["error", "flag"] = "error",
    ) -> NDArray[np.floating]:
        """p(artifact) and p(candidate) of stamps, or the probabilities of a network's own classes.

        Parameters
        ----------
        stamps : array or Split
            See Classifier.
        normalised : bool
            Whether the pixels are scaled to 0-1 already.
        on_bad : "error" or "flag"
            What to do about stamps with NaN or infinite pixels where the network reads them: refuse
            them, or give them NaN.

        Returns
        -------
        array (n, 2), or (n, classes)
            float32 (of the device "reference" float64). A stamp's score does not depend on the others, and
            that of a stamp turned by 90 degrees is the same, to the last bit, where the networks are CAP.

        Raises
        ------
        UserError
            For another shape or number of channels, pixels that are not finite, or that are said to be
            normalised and are not.

        Examples
        --------
        >>> import numpy as np, rotinv
        >>> stamps = np.random.default_rng(0).normal(size=(4, 13, 13, 1))
        >>> stamps[2, 0, 0, 0] = np.nan
        >>> p = rotinv.load("runs/cap-1").predict_proba(stamps, on_bad="flag")
        >>> np.isnan(p).all(axis=1)
        array([False, False,  True, False])
        """
        check_on_bad(on_bad, "flag")
        split, indices = usable_stamps(self._models[0], stamps, normalised, on_bad)
        p = np.full((len(split), len(self.classes)), np.nan, self._k.dtype)
        p[indices] = self._vote(split, indices)
        return p

    def predict(
        self,
        stamps: ArrayLike | Split,
        *,
        at_fpr: float | None = None,
        normalised: bool = False,
        on_bad: Literal["error", "flag"] = "error",
    ) -> NDArray[np.int8]:
        """The class (n,) of stamps: 1 candidate, 0 artifact, and -1 for a stamp without a score.

        A stamp is a candidate where p(candidate) is at least 0.5; of a network of more than two classes it
        has the number of the most probable. With `at_fpr`, a false positive rate, it is one where
        p(candidate) is at least the threshold for that rate, which `fit` and the programs train and evaluate
        keep in the run's folder. The other parameters and errors are those of predict_proba; it is a
        UserError, too, if no threshold is kept.

        Examples
        --------
        >>> import numpy as np, rotinv
        >>> rotinv.load("runs/cap-1").predict(np.zeros((2, 13, 13, 1))).shape
        (2,)
        """
        threshold = None if at_fpr is None else thresholds.find(self._folders, self._models, at_fpr)
        p = self.predict_proba(stamps, normalised=normalised, on_bad=on_bad)
        return np.where(np.isnan(p[:, 0]), NOT_SCORED, self.classes.decide(p, threshold)).astype(np.int8)

    def explain(
        self,
        stamps: ArrayLike | Split,
        *,
        method: str = "lrp",
        rule: str = "alpha2beta1",
        target: str | int = "predicted",
        layer: str | int | None = None,
        at_fpr: float | None = None,
        normalised: bool = False,
    ) -> Study:
        """What decisions rest on: the relevance of each pixel, by each network.

        Parameters
        ----------
        stamps : array or Split
            See Classifier.
        method : str
            "lrp", or one to compare it with: "gradient", "gradient-x-input", "deconvnet", "guided",
            "integrated-gradients" or "occlusion" (rotinv/lrp/heatmaps.py).
        rule : str
            LRP's rule by name (rotinv/lrp/rules.py).
        target : str or int
            What is shared out: the logit of the "predicted" class, its "probability", "one" or "difference"
            (rotinv/lrp/targets.py), or a class by its name or number, as 0 artifact, 1 candidate. A tie is a
            candidate.
        layer : str or int, optional
            A layer to look at in place of the stamps, by name or number.
        at_fpr : float, optional
            Each network's predicted class goes by its own threshold for this false positive rate, as of
            `predict`, in place of 0.5.
        normalised : bool
            Whether the pixels are scaled to 0-1 already.

        Returns
        -------
        Study
            With `maps` (n, 4, S, S, C), `average` (n, S, S, C) and `probability` (n,), `plot(i)`, `page(i)`
            and `save(path)`. R has the unit of a logit.

        Raises
        ------
        UserError
            For an unknown method, rule, target or layer, and as predict_proba.

        Examples
        --------
        >>> import numpy as np, rotinv
        >>> found = rotinv.load("runs/cap-1").explain(np.random.default_rng(0).normal(size=(2, 13, 13, 1)))
        >>> found.maps.shape, found.average.shape, found.probability.shape
        ((2, 4, 13, 13, 1), (2, 13, 13, 1), (2,))
        """
        question = Question(method, rule, target, None if layer is None else str(layer))
        split, indices = usable_stamps(self._models[0], stamps, normalised, "error")
        models = thresholds.at_fpr(self._folders, self._models, at_fpr)
        return study(runs(self._k, models), split, indices, question)

    def audit(
        self,
        stamp: ArrayLike | Split,
        *,
        rule: str = "alpha2beta1",
        target: str | int = "predicted",
        at_fpr: float | None = None,
        normalised: bool = False,
        exact: bool = False,
    ) -> Audit:
        """Where the relevance of one decision went, layer by layer, to the last unit.

        `exact` computes in fractions, for very small networks. If several networks are loaded, choose one:
        `clf["cap-1"].audit(stamp)`. The other parameters and errors are those of explain.

        Examples
        --------
        >>> import numpy as np, rotinv
        >>> audit = rotinv.load("runs/cap-1").audit(np.random.default_rng(0).normal(size=(13, 13, 1)))
        >>> print(str(audit).splitlines()[1][:50].rstrip())
        layer                        received     passed
        >>> list(audit.not_closed())
        []
        """
        if len(self._models) > 1:
            raise UserError(
                f"an audit follows one network's relevance: choose one of {', '.join(self.names)}, as in "
                f"clf[{self.names[0]!r}].audit(stamp)"
            )
        split, indices = usable_stamps(self._models[0], stamp, normalised, "error")
        if len(indices) != 1:
            raise UserError(f"an audit is of one stamp, not of {len(indices)}: give stamps[i]")
        (model,) = thresholds.at_fpr(self._folders, self._models, at_fpr)
        pixels = stamps_as_read(model, split, indices)
        question = Question(rule=rule, target=target)
        (found,) = audits(self._k, model, pixels, question, exact=exact)
        return found

    def sigma_bar(
        self,
        stamps: ArrayLike | Split,
        *,
        method: str = "lrp",
        rule: str = "alpha2beta1",
        target: str | int = "predicted",
        scale: str = "max-abs",
        normalised: bool = False,
    ) -> sigma_bar.SigmaBars:
        """How far the maps of a stamp's four rotations disagree, (n, C): sigma-bar of Eqs. 5 and 6.

        By default it is a share of the largest |R| of the stamp's maps. With `scale` "min-max" it is a share
        of their range, with "none" it has the unit of R. Several networks give (networks, n, C). `to_table()`
        of the result is an astropy Table. The other parameters and errors are those of explain.

        Examples
        --------
        >>> import numpy as np, rotinv
        >>> rotinv.load("runs/cap-1").sigma_bar(np.random.default_rng(0).normal(size=(2, 13, 13, 1))).shape
        (2, 1)
        """
        how = sigma_bar.How(method, composites.named(rule), target, scale)
        split, indices = usable_stamps(self._models[0], stamps, normalised, "error")
        each = [sigma_bar.measure(self._k, model, split, indices, how)[0] for model in self._models]
        return sigma_bar.SigmaBars(np.stack(each), self.names, self.channels)

    def evaluate(
        self,
        stamps: ArrayLike | Split,
        label: ArrayLike | None = None,
        *,
        normalised: bool = False,
        on_bad: Literal["error", "drop"] = "error",
        keep: bool = False,
    ) -> Evaluation:
        """How good the networks are on stamps whose classes are known.

        Parameters
        ----------
        stamps : array or Split
            See Classifier.
        label : array (n,)
            1 candidate, 0 artifact, or the classes' numbers or names; a Split has its own.
        normalised : bool
            Whether the pixels are scaled to 0-1 already.
        on_bad : "error" or "drop"
            What to do about stamps with NaN or infinite pixels: refuse them, or leave them out.
        keep : bool
            Whether to keep the thresholds at fixed FPR in the runs' folders, for `predict(at_fpr=…)`; they
            replace those kept before. Choose them on other stamps than those that you test with.

        Returns
        -------
        Evaluation
            A dict of the figures with their 95% intervals, of the vote where there are several networks; each
            network's are under "models". Printed, it is the program's report; `plot()` draws the DET curve,
            and `to_table()` gives the figures as an astropy Table.

        Raises
        ------
        UserError
            For labels other than 0 and 1, or not one for each stamp, and as predict_proba.

        Examples
        --------
        >>> import numpy as np, rotinv
        >>> stamps = np.random.default_rng(0).normal(size=(6, 13, 13, 1))
        >>> found = rotinv.load("runs/cap-1").evaluate(stamps, [0, 1, 0, 1, 0, 1])
        >>> found["stamps"], found["candidates"]
        (6, 3)
        """
        check_on_bad(on_bad, "drop")
        split, indices = usable_stamps(self._models[0], stamps, normalised, on_bad, label)
        scores = labelled_scores(self._k, self._models, split, indices)
        found = Evaluation(str(split.path), scores)
        if keep:
            about = {"stamps": str(split.path), "split": split.name}
            thresholds.keep(self._folders, self._models, scores, about)
        return found

    def __repr__(self) -> str:
        names = ", ".join(self.names) if len(self.names) == 1 else f"vote of {', '.join(self.names)}"
        channels = ", ".join(self.channels)
        return f"<Classifier {names}, {self.size}x{self.size} pixels of {channels}, on {self._k.device}>"

    def _repr_html_(self) -> str:
        head = ("network", "architecture", "parameters", "trained on")
        rows = [
            (name, one.config.arch, f"{one.network.size:,}", one.config.data or "elsewhere")
            for name, one in zip(self.names, self._models, strict=True)
        ]
        cells = "".join(
            f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows
        )
        return (
            f"<p>{html.escape(repr(self)[1:-1])}</p>"
            f"<table><tr>{''.join(f'<th>{name}</th>' for name in head)}</tr>{cells}</table>"
        )

    def _vote(self, split: Split, indices: NDArray[np.int64]) -> NDArray[np.floating]:
        """The classes' probabilities (n, classes), the networks' medians; of two classes they sum to 1."""
        k = self._k
        each = [
            score_split(k, one.network, k.asarray(one.params), split, indices, self.size)
            for one in self._models
        ]
        median = ensembles.majority(np.stack(each))
        return median if self.classes.further else np.stack([1 - median[:, 1], median[:, 1]], axis=1)
