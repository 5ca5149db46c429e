"""survey.check: what a survey's stamps are held to, and that each gate can fail."""

import subprocess
import sys

import h5py
import numpy as np
import pytest

from rotinv import import_weights, simulate
from rotinv.metrics import significance
from rotinv.nn.devices import get_kernels
from rotinv.runs import folder, model
from rotinv.runs.predictions import labelled_scores
from rotinv.stamps import store
from rotinv.survey import camera, check, kinds, low_end, make_survey, sky
from rotinv.system.errors import UserError

SMALL = {"size": 256, "pilot_images": 3}  # px; the images of a quick survey


@pytest.fixture(scope="module")
def fair(tmp_path_factory):
    """A survey large enough to be judged."""
    path = tmp_path_factory.mktemp("fair") / "survey.h5"
    make_survey(path, {"train": 200, "validate": 200, "test": 1200}, seed=1, workers=2, **SMALL)
    return path


def report(path, capsys):
    """The check's exit status, and the names of the gates that failed."""
    status = check.main([str(path)])
    lines = capsys.readouterr().out.splitlines()
    return status, [line[6:58].strip() for line in lines if line.startswith("FAIL")]


def test_check_passes_a_survey(fair, capsys):
    assert report(fair, capsys) == (0, [])


VERSION_4 = [
    (camera, "COSMIC_RAYS", {"science": 45.0, "template": 45.0 * 0.35}),
    (sky, "TRANSIENTS", {"u": 0.25, "g": 0.14}),
    (sky, "TRANSIENT_SNR", (7.0, 25.0)),
    (sky, "TRAIL_LENGTH", (3.0, 9.0)),
]


def test_check_fails_a_survey_by_the_constants_of_version_4(tmp_path, monkeypatch, capsys):
    for module, name, value in VERSION_4:
        monkeypatch.setattr(module, name, value)
    counts = {"train": 2, "validate": 2, "test": 600}
    make_survey(tmp_path / "survey.h5", counts, seed=1, workers=1, **SMALL)
    status, failed = report(tmp_path / "survey.h5", capsys)
    assert status == 1
    assert "share of artifacts: cosmic ray" in failed


@pytest.mark.parametrize(
    ("shares", "wrong"),
    [
        ({"cosmic ray": 0.04, "trail (label noise)": 0.0016, "transient (label noise)": 0.0006}, []),
        (  # those of version 4
            {"cosmic ray": 0.289, "trail (label noise)": 0.0018, "transient (label noise)": 0.0025},
            ["cosmic ray", "transient (label noise)"],
        ),
        ({}, ["trail (label noise)", "transient (label noise)"]),
    ],
)
def test_the_shares_of_kinds_are_held_to_their_ranges(shares, wrong):
    artifacts = np.full(50_000, kinds.NOISE, np.uint8)
    for number, (name, share) in enumerate(shares.items()):
        artifacts[number::3][: round(share * artifacts.size)] = kinds.NUMBER[name]
    failed = [gate.name for gate in low_end.share_gates(artifacts) if not gate.passed]
    assert failed == [f"share of artifacts: {name}" for name in wrong]


def real_scores(real_data):
    with h5py.File(real_data / "deep_hits_test_scores.h5") as file:
        return file["label"][()], file["p_candidate"][()]


def test_the_real_det_curve_passes(real_data):
    for gate, fnr in zip(low_end.det_gates(*real_scores(real_data)), low_end.REAL_FNR.values(), strict=True):
        assert gate.passed
        np.testing.assert_allclose(gate.value, fnr, rtol=0.02)


def test_the_label_noise_of_version_4_fails_the_det_curve(real_data):
    """.65% of the artifacts score as candidates do."""
    label, p = real_scores(real_data)
    rng = np.random.default_rng(0)
    noise = rng.choice(np.flatnonzero(label == 0), round(0.0065 * np.sum(label == 0)), replace=False)
    p[noise] = rng.choice(p[label == 1], noise.size)
    assert [gate.passed for gate in low_end.det_gates(label, p)] == [False] * 4


def test_a_network_that_has_learned_nothing_fails_the_det_curve(fair, tmp_path, capsys):
    config = folder.Config("cap-mini", 21, list(store.CHANNELS))
    (tmp_path / "run").mkdir()
    model.write_weights(tmp_path / "run", config, config.network().initial("he", 0))
    assert check.main([str(fair), "--run", str(tmp_path / "run")]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if "FNR at FPR" in line]
    assert [line.split()[0] for line in lines] == ["FAIL"] * 4
    with pytest.raises(UserError, match="holds no run"):
        check.main([str(fair), "--run", str(tmp_path / "nothing")])


def test_the_authors_network_agrees_with_most_labels(real_data, fair, tmp_path):
    """A network that was trained on the real survey: FNR .3-1.5% and FPR .5-2% on a faithful survey."""
    import_weights.main(
        [
            str(real_data / "authors_cap_3channel.h5"),
            *("--out", str(tmp_path / "authors"), "--channels", "template,science,difference"),
        ]
    )
    authors = model.load_model(tmp_path / "authors")
    split = model.open_stamps_for(authors, fair, "test")
    (found,) = labelled_scores(get_kernels("cpu"), [authors], split, np.arange(len(split))).values()
    wrong = (found.probability >= 0.5) != found.label
    for kind, low, high in ((1, 0.003, 0.015), (0, 0.005, 0.02)):
        interval = significance.wilson(
            int(wrong[found.label == kind].sum()), int(np.sum(found.label == kind))
        )
        assert interval.low < high and interval.high > low


def test_a_sheet_is_refused_before_anything_is_made(fair, tmp_path, monkeypatch, capsys):
    """Without matplotlib, over another file, or over the survey itself."""
    out, sheet = tmp_path / "survey.h5", tmp_path / "sheet.png"
    with pytest.raises(SystemExit):
        simulate.main(["--out", str(out), "--preview", str(out)])
    assert "is written twice; name another file" in capsys.readouterr().err
    with pytest.raises(UserError, match="exists already"):
        simulate.main(["--out", str(out), "--preview", str(fair)])
    monkeypatch.setattr("rotinv.system.pictures.matplotlib_available", lambda: False)
    with pytest.raises(UserError, match="--preview away"):
        simulate.main(["--out", str(out), "--preview", str(sheet)])
    with pytest.raises(UserError, match="--preview away"):
        check.main([str(fair), "--preview", str(sheet)])
    assert not list(tmp_path.iterdir())


def test_a_sheet_of_an_existing_survey(fair, tmp_path):
    pytest.importorskip("matplotlib")
    check.main([str(fair), "--preview", str(tmp_path / "sheet.png")])
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


def shuffle(*columns):
    def change(test, rng):
        order = rng.permutation(len(test["label"]))
        for name in columns:
            test[name][:] = test[name][()][order]

    return change


def white_noise(*, consistent):
    def change(test, rng):
        stamps = test["stamps"][()]
        stamps[..., 1] = rng.normal(0, 30, stamps.shape[:3])
        if consistent:
            noise = (stamps[..., 2] / stamps[..., 3])[np.isfinite(stamps[..., 2] / stamps[..., 3])]
            stamps[..., 2] = stamps[..., 1] - stamps[..., 0]
            stamps[..., 3] = stamps[..., 2] / np.median(noise)
        test["stamps"][:] = stamps

    return change


def halve_snr(test, rng):
    test["snr"][:] = np.where(test["label"][()] == 1, 0.8, 1) * test["snr"][()]


def scale_snr_difference(test, rng):
    test["stamps"][:] = test["stamps"][()] * np.array([1, 1, 1, 3], np.float32)


def exchange_candidates(test, rng):
    """Candidates get one another's SNR."""
    snr, candidate = test["snr"][()], np.flatnonzero(test["label"][()])
    snr[candidate] = snr[rng.permutation(candidate)]
    test["snr"][:] = snr


def exchange_artifacts(test, rng):
    """Artifacts get one another's SNR, but keep its sign."""
    snr, artifact = test["snr"][()], test["label"][()] == 0
    for side in (snr > 0, snr < 0):
        chosen = np.flatnonzero(artifact & side)
        snr[chosen] = snr[rng.permutation(chosen)]
    test["snr"][:] = snr


def all_positive(test, rng):
    test["snr"][:] = abs(test["snr"][()])


def share_an_image(test, rng):
    test["image"][0] = test.parent["train/image"][0]


CHANGES = {
    "labels": (shuffle("label"), "labels that agree with their kind"),
    "labels and kinds": (shuffle("label", "kind"), "|SNR| of artifacts"),
    "all but the stamps": (shuffle("label", "kind", "snr", "image"), "centre has the sign of their SNR"),
    "white noise": (white_noise(consistent=False), "difference is not science - template"),
    "consistent white noise": (white_noise(consistent=True), "noise correlation of science at lag 1"),
    "other SNR": (halve_snr, "SNR of candidates"),
    "SNR difference times 3": (scale_snr_difference, "noise of the SNR difference in the corners"),
    "SNR of others": (exchange_candidates, "candidates whose pixels give their SNR to 10%"),
    "SNR of other artifacts": (exchange_artifacts, "artifacts whose pixels give their SNR to 25%"),
    "no negative artifact": (all_positive, "share of negative artifacts"),
    "a shared image": (share_an_image, "images shared between splits"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_check_fails_on_a_changed_survey(name, fair, tmp_path, capsys):
    change, gate = CHANGES[name]
    copy = tmp_path / "changed.h5"
    copy.write_bytes(fair.read_bytes())
    with h5py.File(copy, "r+") as file, np.errstate(all="ignore"):
        change(file["test"], np.random.default_rng(0))
    status, failed = report(copy, capsys)
    assert status == 1
    assert any(gate in line for line in failed), failed


def test_best_threshold():
    label, snr = np.array([0, 0, 1, 0, 1, 1]), np.array([-9.0, 5, 6, 7, 8, 9])
    assert check.threshold_error(label, snr) == 1 / 6
    assert check.threshold_error(label, -snr) == 3 / 6


def drop_attribute(file):
    del file.attrs["survey_version"]


def drop_column(file):
    del file["test/snr"]


def drop_format(file):
    del file.attrs["survey_version"], file.attrs["format"]


def rename_kinds(file):
    file.attrs["kinds"] = ["one", *kinds.KINDS[1:]]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (drop_attribute, "survey_version"),
        (drop_format, "only a survey made by rotinv simulate"),
        (drop_column, "lacks snr"),
        (rename_kinds, "other kinds"),
    ],
)
def test_check_refuses_what_is_no_simulated_survey(change, complaint, fair, tmp_path):
    copy = tmp_path / "other.h5"
    copy.write_bytes(fair.read_bytes())
    with h5py.File(copy, "r+") as file:
        change(file)
    command = [sys.executable, "-m", "rotinv.survey.check", str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr and len(done.stderr.splitlines()) == 1
