"""A catalogue's columns, and the facts that hold for all its rows."""

from collections.abc import Sequence

from rotinv.alerts.stamp import FLAGS
from rotinv.catalogue.formats import TEXT, Column, Fact
from rotinv.metrics.calibrators import Calibrator
from rotinv.runs.model import Model, weights_digest
from rotinv.stamps.alert_columns import ALERT_COLUMNS
from rotinv.stamps.classes import TWO, Classes
from rotinv.system.version import __version__

_KNOWN = {
    "object_id": Column("object_id", TEXT, "the survey's name of the object", "meta.id;src"),
    "candidate_id": Column("candidate_id", TEXT, "the survey's number of the detection", "meta.id"),
    "survey": Column("survey", TEXT, "ztf, lsst, or as the table says", "meta.curation"),
    "ra": Column("ra", "float64", "right ascension, ICRS", "pos.eq.ra;meta.main", "deg"),
    "dec": Column("dec", "float64", "declination, ICRS", "pos.eq.dec;meta.main", "deg"),
    "mjd": Column("mjd", "float64", "time of the exposure, in the survey's own scale", "time.epoch", "d"),
    "band": Column("band", TEXT, "filter", "instr.bandpass"),
    "magnitude": Column("magnitude", "float32", "of the difference, by the survey", "phot.mag", "mag"),
    "flux": Column("flux", "float32", "of the difference", "phot.flux", "nJy"),
    "survey_score": Column(
        "survey_score", "float32", "the survey's own score that the alert is real", "stat.probability"
    ),
    "survey_score_version": Column(
        "survey_score_version", TEXT, "name and version of the survey's score", "meta.version"
    ),
    "pixel_flags": Column(
        "pixel_flags", TEXT, "what the survey flags of the source's pixels", "meta.code.qual"
    ),
    "label": Column(
        "label", "uint8", "1 candidate, 0 artifact, as the stamps are labelled", "meta.code.class"
    ),
    "snr": Column("snr", "float32", "signal-to-noise ratio as the survey gives it", "stat.snr"),
}
_CALIBRATED = Column(
    "calibrated", "float64", "the probability as calibrated on labelled stamps", "stat.probability"
)
_NORMALISATIONS = {
    "none": "(x - min) / (max - min) of each channel of each stamp",
    "minmax": "as the stamps are kept, scaled already",
}


def of_networks(
    names: Sequence[str], classes: Classes, dtype: str, known: Sequence[str], calibrated: bool
) -> list[Column]:
    """The columns of scores by networks of these names, for stamps of which `known` are known."""
    ids = [_KNOWN[name] for name in known if name in ALERT_COLUMNS]
    more = [_KNOWN[name] for name in known if name not in ALERT_COLUMNS]
    if classes.further and "label" in known:
        more.append(Column("label_class", "uint8", f"{classes.numbered}, as labelled", "meta.code.class"))
    return [
        Column("index", "int64", "number of the stamp or alert, from 0", "meta.record"),
        *ids,
        _probability("probability", dtype, f"{classes.p}, the models' median; NaN: no score"),
        *([_CALIBRATED] if calibrated else []),
        Column("class", "int8", f"{classes.numbered}, -1 no score: the vote", "meta.code.class"),
        *(_probability(f"p_{name}", dtype, f"p({name}), the models' median") for name in classes.further),
        *more,
        *(_probability(f"probability_{name}", dtype, f"{classes.p} by {name}") for name in names),
        *(
            Column(f"rotation_std_{n}", dtype, f"std of {n}'s logit margin over the rotations", "stat.stdev")
            for n in names
        ),
        Column("flags", "uint32", "sum of the bits flag_... of the metadata", "meta.code"),
    ]


def _probability(name: str, dtype: str, description: str) -> Column:
    return Column(name, dtype, description, "stat.probability")


def facts(
    names: Sequence[str],
    models: Sequence[Model],
    normalisation: str,
    threshold: float | None,
    fpr: float | None,
    calibrator: Calibrator | None,
) -> list[Fact]:
    """Versions, weights, threshold, how the pixels were scaled, and the flags' meanings."""
    config = models[0].config
    found = [
        Fact("version", "RIVERSN", __version__),
        Fact("channels", "CHANNELS", ",".join(config.channels)),
        Fact("normalisation", "NORM", _NORMALISATIONS[normalisation]),
        Fact("threshold", "THRESH", "none" if threshold is None else threshold),
        Fact("threshold_fpr", "THRFPR", "none" if fpr is None else fpr),
        Fact("calibrator", "CALIBRAT", "none" if calibrator is None else calibrator.kind),
    ]
    if config.classes != TWO:
        found.append(Fact("classes", "CLASSES", ",".join(config.classes.names)))
        found.append(Fact("candidate", "CANDID", config.classes.names[config.classes.candidate]))
    for i, (name, model) in enumerate(zip(names, models, strict=True), 1):
        found += [
            Fact(f"model_{i}", f"MODEL{i}", name),
            Fact(f"model_{i}_sha256", f"MHASH{i}", weights_digest(model)),
            Fact(f"model_{i}_version", f"MVERS{i}", model.config.version),
        ]
    return [*found, *(Fact(f"flag_{name}", f"FLAG{bit}", bit) for name, (bit, _) in FLAGS.items())]
