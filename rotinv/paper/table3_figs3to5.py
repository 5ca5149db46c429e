"""The steps that look into the networks: Figs. 3 to 5, Table III, and the report's viewer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotinv.lrp import attribution, composites, map_figures, sigma_bar, sigma_bar_figures, sigma_bar_tables
from rotinv.lrp.attribution import Question
from rotinv.lrp.sigma_bar import How
from rotinv.lrp.sigma_bar_tables import Group
from rotinv.lrp.study import study
from rotinv.lrp.subjects import runs
from rotinv.lrp.viewer import page
from rotinv.metrics import significance
from rotinv.metrics.noncentral_t import DDOF, MOMENTS, Moments
from rotinv.paper import published
from rotinv.paper.material import all_scores
from rotinv.paper.place import Place
from rotinv.paper.published import NAMES
from rotinv.paper.sheets import Sheet, Table
from rotinv.runs.model import channel_title, open_stamps_for
from rotinv.stamps import store
from rotinv.stamps.classes import TWO
from rotinv.stamps.splits import Split, usable
from rotinv.system.files import written_whole
from rotinv.system.messages import counted
from rotinv.system.workers import Progress

PAIR = ("deephits", "cap")  # trial 1 of each is looked into
RULE = "alpha2beta1"


def fig_3(at: Place, tell: Progress) -> None:
    """A candidate that Deep-HiTS gets wrong and CAP right."""
    _disagreement(at, "fig3", "Fig. 3", 1)


def fig_4(at: Place, tell: Progress) -> None:
    """An artifact that Deep-HiTS gets wrong and CAP right."""
    _disagreement(at, "fig4", "Fig. 4", 0)


def sigma(at: Place, arch: str, count: int, tell: Progress) -> None:
    """sigma-bar of the first `count` usable test stamps by trial 1 of an architecture."""
    k, model = at.kernels(), at.model(arch)
    split = open_stamps_for(model, at.data, "test")
    indices = usable(split, at.on_bad)[:count]
    assert split.label is not None  # a store's splits have labels
    done = 0

    def advance(measured: int) -> None:
        nonlocal done
        done += measured
        tell(done / len(indices))

    values, blank = sigma_bar.measure(k, model, split, indices, How("lrp", composites.named(RULE)), advance)
    with written_whole(at.sigma(arch), overwrite=True) as temporary, temporary.open("wb") as file:
        np.savez(file, values=values, label=split.label[indices], blank=np.array(blank))


def table_3(at: Place, tell: Progress) -> None:
    """Moments of sigma-bar, the sample's and the fit's, beside the paper's."""
    channel, groups, notes = _groups(at)
    rows, data = [], {}
    for group in sorted(groups, key=lambda group: group.name):
        arch = next(arch for arch in PAIR if NAMES[arch] == group.model)
        theirs = published.TABLE_3[group.name, arch]
        name, count = f"{group.name}s, {group.model}", f"{len(group.values):,}"
        rows.append((name, count, "sample", *_cells(group.sample), ""))
        rows.append((name, count, "fit's own", *_cells(group.fitted), group.status))
        rows.append((name, "", "paper", *(f"{value:g}" for value in theirs), ""))
        data[f"{group.name} {arch}"] = sigma_bar_tables.entry(group)
    differences, found = _differences(groups)
    data |= found
    heads = ("", "stamps", "", *MOMENTS, "fit of the non-central t")
    notes = [
        f"Sample moments of ddof {DDOF}; kurtosis is in excess of 3. A non-central t has no negative excess "
        "kurtosis, so that the paper's negative figures cannot be moments of its fits.",
        *notes,
    ]
    table = Table(f"sigma-bar of the channel {channel}", heads, rows)
    at.write_sheet("table3", Sheet("Table III", _about(at), [table, differences], notes, data=data))


def fig_5(at: Place, tell: Progress) -> None:
    """Histograms of sigma-bar with the fitted non-central t."""
    _, groups, notes = _groups(at)
    panels = sigma_bar_figures.panels(groups)
    unit = sigma_bar.UNITS["max-abs"]
    sigma_bar_figures.histograms(at.sheets / "fig5.png", panels, unit, at.captioned(_about(at)))
    about = "Histograms of sigma-bar by class; a curve is the fitted density times the histogram's own size"
    at.write_sheet("fig5", Sheet("Fig. 5", _about(at), notes=notes, pictures=[("fig5.png", about)]))


def viewer(at: Place, count: int, tell: Progress) -> None:
    """The viewer of what decisions rest on: stamps where the two models differ first, then others."""
    models = [at.model(arch) for arch in PAIR]
    split = open_stamps_for(models[0], at.data, "test")
    indices = _dozen(at, split, count)
    total, done = len(indices) * len(models) * len(page.RULES), 0

    def advance(answers: int) -> None:
        nonlocal done
        done += answers
        tell(done / total)

    subjects = runs(at.kernels(), models, [model.name for model in models])
    fragment = page.viewer_fragment(subjects, split, indices, progress=advance)
    with written_whole(at.sheets / "viewer.html", overwrite=True) as temporary:
        temporary.write_text(fragment, encoding="utf-8")


def _disagreement(at: Place, sheet: str, heading: str, label: int) -> None:
    """The stamp of a class on which the two models differ most, CAP being right; or that there is none."""
    models = [at.model(arch) for arch in PAIR]
    split = open_stamps_for(models[0], at.data, "test")
    indices, found = _only_cap_right(at, split)
    assert split.label is not None  # a store's splits have labels
    mine = found[split.label[indices[found]] == label]
    kind = TWO.names[label]
    counts = f"{models[1].name} is right and {models[0].name} wrong on {len(found)} of {len(indices):,} test"
    counts += f" stamps ({len(mine)} of them {kind}s); in the paper on {published.DISAGREEMENTS} of 100,000."
    counts += " Of these the stamp is shown on which their p(candidate) differ most." if len(mine) else ""
    title = f"{'A' if label else 'An'} {kind} that Deep-HiTS gets wrong and CAP right"
    if not len(mine):
        notes = [counts, f"There is no such {kind} here, and so no figure."]
        at.write_sheet(sheet, Sheet(heading, title, notes=notes))
        return
    found_maps = study(runs(at.kernels(), models), split, indices[mine[:1]], Question(rule=RULE))
    picture = at.sheets / f"{sheet}.png"
    picture.unlink(missing_ok=True)
    drawn = found_maps.page(0)
    map_figures.caution(drawn, at.caution)
    map_figures.save([picture], [drawn])
    about = f"{found_maps.title(0)}; LRP's maps of its four rotations as the networks saw them; their average"
    data = {"stamp": int(indices[mine[0]]), "disagreements": indices[found].tolist(), "stamps": len(indices)}
    at.write_sheet(sheet, Sheet(heading, title, (), [counts], [(picture.name, about)], data))


def _only_cap_right(at: Place, split: Split) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The usable test stamps, and the places among them where only CAP is right, the furthest apart first."""
    each = [all_scores(at, arch, 1) for arch in PAIR]
    (label, (first,)), (_, (second,)) = each
    return usable(split, at.on_bad), attribution.only_second_right(label, first, second)


def _dozen(at: Place, split: Split, count: int) -> list[int]:
    """`count` stamps for the viewer: up to half where only CAP is right, classes by turns; then the first."""
    indices, found = _only_cap_right(at, split)
    assert split.label is not None  # a store's splits have labels
    label = split.label[indices]
    turns = np.lexsort((label[found] == 0, _rank(label[found])))
    chosen = list(found[turns][: count // 2])
    others = [place for place in range(min(len(indices), 2 * count)) if place not in chosen]
    return [int(indices[place]) for place in (*chosen, *others)][:count]


def _rank(label: NDArray) -> NDArray[np.int64]:
    """For each label, how many of the same class stand before it."""
    rank = np.zeros(len(label), np.int64)
    for kind in (0, 1):
        rank[label == kind] = np.arange(np.sum(label == kind))
    return rank


def _groups(at: Place) -> tuple[str, list[Group], list[str]]:
    """The channel that is shown, the classes of each model's sigma-bar, and what is to be said of them."""
    tables, notes = {}, []
    for arch in PAIR:
        with np.load(at.sigma(arch)) as file:
            tables[NAMES[arch]], label = file["values"], file["label"]
            if blank := int(file["blank"]):
                notes.append(
                    f"{NAMES[arch]}: the maps of {counted(blank, 'stamp')} are 0 everywhere, so is sigma-bar."
                )
    channels = at.model(PAIR[0]).config.channels
    channel = store.CHANNELS[-1] if store.CHANNELS[-1] in channels else channels[-1]
    name = channel_title(channel)
    return name, list(sigma_bar_tables.groups(tables, {name: channels.index(channel)}, label)), notes


def _differences(groups: Sequence[Group]) -> tuple[Table, dict[str, Any]]:
    """How sigma-bar of CAP differs from Deep-HiTS's, stamp by stamp."""
    values = {(group.name, group.model): group.values for group in groups}
    rows, data = [], {}
    for kind in sorted({group.name for group in groups}):
        found = significance.paired(*(values[kind, NAMES[arch]] for arch in PAIR))
        data[f"{kind} difference"] = None if found is None else found._asdict()
        cells = ["undefined", ""]
        if found:
            low, high = found.interval
            cells = [f"{found.mean:+.4f}", f"[{low:+.4f}, {high:+.4f}]"]
        deep, cap = (published.TABLE_3[kind, arch][0] for arch in PAIR)
        rows.append((f"{kind}s", f"{len(values[kind, NAMES['cap']]):,}", *cells, f"{cap - deep:+.4f}"))
    heads = ("", "stamps", "mean", "95% interval", "paper")
    caption = "CAP less Deep-HiTS, on the same stamps (Student's t; of these two networks alone)"
    return Table(caption, heads, rows), data


def _about(at: Place) -> str:
    return f"sigma-bar (Eqs. 5, 6) of trial 1 of each network, by LRP {RULE} of the predicted class"


def _cells(moments: Moments) -> list[str]:
    values = [getattr(moments, name) for name in MOMENTS]
    return ["undefined" if value is None else f"{value:.4g}" for value in values]
