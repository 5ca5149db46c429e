"""The simulated survey: the same bits for any number of processes, exact counts, each stage on its own."""

import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from rotinv import simulate
from rotinv.survey import (
    build,
    camera,
    candidates,
    detection,
    differencing,
    kinds,
    make_survey,
    pair,
    parts,
    psf,
    selection,
    sky,
)
from rotinv.system.errors import UserError

SMALL = {"size": 256, "pilot_images": 3}  # px; the images of a quick survey
COUNTS = {"train": 60, "validate": 20, "test": 31}


def contents(path):
    with h5py.File(path) as file:
        return {f"{split}/{name}": data[()] for split in file for name, data in file[split].items()}


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    path = tmp_path_factory.mktemp("survey") / "survey.h5"
    images = make_survey(path, COUNTS, seed=5, workers=2, band="u", **SMALL)
    assert set(images) == set(COUNTS)
    return path


def test_same_bits_for_any_number_of_workers(survey, tmp_path):
    make_survey(tmp_path / "one.h5", COUNTS, seed=5, workers=1, band="u", **SMALL)
    one, two = contents(tmp_path / "one.h5"), contents(survey)
    assert one.keys() == two.keys()
    for name in one:
        assert one[name].tobytes() == two[name].tobytes(), name


def test_counts_balance_and_ranges(survey):
    arrays = contents(survey)
    for split, count in COUNTS.items():
        label, snr, kind = (arrays[f"{split}/{name}"] for name in ("label", "snr", "kind"))
        assert arrays[f"{split}/stamps"].shape == (count, 21, 21, 4)
        assert label.sum() == count - count // 2
        assert np.array_equal(label == 1, kind == kinds.CANDIDATE)
        assert kind.max() < len(kinds.KINDS)
        assert snr[label == 1].min() >= selection.CANDIDATE_SNR[0]
        assert snr[label == 1].max() <= selection.CANDIDATE_SNR[-1]
        assert np.abs(snr[label == 0]).min() >= selection.ARTIFACT_SNR[0]
        assert np.isfinite(arrays[f"{split}/stamps"]).all()


def test_difference_is_exact_and_splits_share_no_image(survey):
    arrays = contents(survey)
    for split in COUNTS:
        stamps = arrays[f"{split}/stamps"]
        assert np.array_equal(stamps[..., 2], stamps[..., 1] - stamps[..., 0])
    images = [set(arrays[f"{split}/image"].tolist()) for split in COUNTS]
    assert not (images[0] & images[1] or images[0] & images[2] or images[1] & images[2])


def test_labels_are_mixed(survey):
    label = contents(survey)["train/label"]
    assert 0.2 < np.mean(label[1:] != label[:-1]) < 0.8


def test_store_says_what_it_holds(survey):
    with h5py.File(survey) as file:
        assert list(file.attrs["channels"]) == ["template", "science", "difference", "snr_difference"]
        assert tuple(file.attrs["kinds"]) == kinds.KINDS
        assert (file.attrs["normalisation"], file.attrs["seed"], file.attrs["band"]) == ("none", 5, "u")


def test_existing_output_is_refused(survey):
    before = survey.read_bytes()
    with pytest.raises(UserError, match="exists already"):
        simulate.main(["--out", str(survey)])
    assert survey.read_bytes() == before


@pytest.mark.parametrize(
    "arguments", [["--train", "1"], ["--band", "r"], ["--workers", "0"], ["--seed", "-1"]]
)
def test_bad_numbers_are_refused(arguments, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        simulate.main(["--out", str(tmp_path / "survey.h5"), *arguments])
    assert stop.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


BLOCK = 8  # stamps saved together, so that a small survey has many blocks
MAKE = f"""
import sys
from rotinv.survey import build
build.BLOCK = {BLOCK}
build.make_survey(sys.argv[1], {COUNTS}, seed=5, workers=int(sys.argv[2]), band="u", **{SMALL})
"""


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(build, "BLOCK", BLOCK)


def kill_after(blocks, path, workers):
    """Make the survey in a process of its own; kill it when it has saved so many blocks."""
    process = subprocess.Popen([sys.executable, "-c", MAKE, str(path), str(workers)])
    folder = path.with_name(path.name + ".part")
    while len(list(folder.glob("*.npz"))) < blocks:
        assert process.poll() is None, "ended too early to be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return folder


def test_sigterm_leaves_whole_blocks_and_no_process(tmp_path):
    make = MAKE.replace(
        "build.make_survey(", "from rotinv import cli\ncli.run('simulate', lambda: build.make_survey("
    )
    path = tmp_path / "survey.h5"
    command = [sys.executable, "-c", make.rstrip() + ")", str(path), "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    folder = path.with_name("survey.h5.part")
    while len(list(folder.glob("*.npz"))) < 2:
        assert process.poll() is None, "ended too early to be terminated"
        time.sleep(0.005)
    process.terminate()
    _, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (143, "rotinv simulate: terminated\n")
    assert not path.exists() and not list(folder.glob(".*")) and not list(folder.glob("*.h5"))
    end = time.monotonic() + 20
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < end:
            os.killpg(process.pid, 0)
            time.sleep(0.05)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_survey_goes_on_to_the_same_bits(workers, tmp_path, small_blocks):
    make_survey(tmp_path / "whole.h5", COUNTS, seed=5, workers=1, band="u", **SMALL)
    path = tmp_path / "survey.h5"
    for blocks in (2, 7):  # while it makes the first split, and again
        folder = kill_after(blocks, path, workers)
        assert not path.exists()
    saved = {block: block.stat().st_mtime_ns for block in folder.glob("*.npz")}
    (folder / ".train-00099.npz.abc.part").write_bytes(b"half")  # what a kill leaves while it writes
    make_survey(path, COUNTS, seed=5, workers=3 - workers, band="u", **SMALL)
    assert len(saved) >= 7
    one, two = contents(tmp_path / "whole.h5"), contents(path)
    assert one.keys() == two.keys()
    for name in one:
        assert one[name].tobytes() == two[name].tobytes(), name
    assert sorted(tmp_path.iterdir()) == [path, tmp_path / "whole.h5"]


def test_two_processes_that_make_the_same_survey_make_it_once(tmp_path):
    path = tmp_path / "survey.h5"
    command = [sys.executable, "-c", MAKE, str(path), "1"]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 1]
    assert "exists already" in "".join(said)
    assert list(tmp_path.iterdir()) == [path]


def stop_after(monkeypatch, images):
    """Raise KeyboardInterrupt when more images than that are asked for."""
    original, calls = pair.simulate, iter(range(images))

    def simulate_some(*arguments, **options):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(pair, "simulate", simulate_some)


def test_ctrl_c_leaves_no_store_and_saved_images_are_not_made_again(tmp_path, monkeypatch, small_blocks):
    path = tmp_path / "survey.h5"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, 15)
        make_survey(path, COUNTS, seed=5, workers=1, band="u", **SMALL)
    assert [found.name for found in tmp_path.iterdir()] == ["survey.h5.part"]
    with monkeypatch.context() as patch:
        made = []
        original = pair.simulate
        patch.setattr(pair, "simulate", lambda key, **rest: made.append(key) or original(key, **rest))
        images = make_survey(path, COUNTS, seed=5, workers=1, band="u", **SMALL)
    assert (5, 0, 0) not in made
    assert len(made) < sum(images.values()) + SMALL["pilot_images"]


@pytest.mark.parametrize("option", [{"seed": 6}, {"band": "g"}, {"counts": {**COUNTS, "test": 32}}])
def test_going_on_with_other_options_is_refused(option, tmp_path, monkeypatch):
    path, options = tmp_path / "survey.h5", {"counts": COUNTS, "seed": 5, "band": "u"}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, 5)
        make_survey(path, **options, workers=1, **SMALL)
    before = sorted(path.with_name("survey.h5.part").iterdir())
    with pytest.raises(UserError, match="unfinished survey of other options") as refusal:
        make_survey(path, **{**options, **option}, workers=1, **SMALL)
    assert "\n" not in str(refusal.value)
    assert sorted(path.with_name("survey.h5.part").iterdir()) == before
    make_survey(path, **options, workers=2, **SMALL)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["options.json", "train-00000.npz"])
def test_damaged_parts_are_refused(name, tmp_path, monkeypatch, small_blocks):
    path = tmp_path / "survey.h5"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, 12)
        make_survey(path, COUNTS, seed=5, workers=1, band="u", **SMALL)
    folder = path.with_name("survey.h5.part")
    for later in sorted(folder.glob("train-*"))[1:]:
        later.unlink()
    damaged = folder / name
    damaged.write_bytes(damaged.read_bytes()[:-30])
    with pytest.raises(UserError, match="is damaged; remove"):
        make_survey(path, COUNTS, seed=5, workers=1, band="u", **SMALL)
    assert not path.exists()


@pytest.mark.parametrize("count", [2, 3, 31, 1000, 1001])
def test_quotas_are_exact(count):
    need = selection.quotas(count)
    assert need.sum() == count
    assert need[: selection.BINS].sum() == count - count // 2


def test_quotas_follow_the_real_table():
    need = selection.quotas(200_000).reshape(3, -1)
    np.testing.assert_allclose(need[0], 100_000 * np.diff(selection.QUANTILES), atol=1)
    np.testing.assert_allclose(need[2].sum(), 100_000 * selection.NEGATIVE, atol=2)


def test_bins():
    snr = np.array([5.3, 5.4, 207.0, 209.0, 5.3, -5.3, 5.1])
    candidate = np.array([True] * 4 + [False] * 3)
    b = selection.BINS
    assert selection.bin_of(snr, candidate).tolist() == [-1, 0, b - 1, -1, b, 2 * b, -1]


def star(shape, y, x, flux, size=64):
    image = np.zeros((size, size), np.float32)
    psf.add_stars(image, np.array([y]), np.array([x]), np.array([flux]), psf.shape_of(shape))
    return image


ROUND = psf.Psf(3.4, 3.0, 0.0, 0.0)


def test_a_star_has_its_flux_and_width():
    image = star(ROUND, 32, 32, 1e5, size=65)
    np.testing.assert_allclose(image.sum(), 1e5, rtol=0.02)
    row = np.interp(np.linspace(32, 36, 401), np.arange(65), image[32])
    half = np.linspace(32, 36, 401)[np.argmin(abs(row - image[32, 32] / 2))]
    np.testing.assert_allclose(2 * (half - 32), 3.4, atol=0.25)  # read by straight lines between pixels


def test_registration_undoes_a_known_shift():
    shift = (0.3, -0.4)
    smooth = psf.Psf(4.5, 3.0, 0.0, 0.0)  # well sampled: Lanczos-2 itself errs on sharper stars
    moved = star(smooth, 32 + shift[0], 32 + shift[1], 1e4)
    still = star(smooth, 32, 32, 1e4)
    back = differencing.register(moved, shift)
    assert abs(back - still).max() < 0.15 * abs(moved - still).max()
    np.testing.assert_allclose(back.sum(), still.sum(), rtol=1e-3)


def test_registering_by_nothing_changes_nothing():
    image = np.random.default_rng(0).normal(size=(30, 40)).astype(np.float32)
    assert np.array_equal(differencing.register(image, (0.0, 0.0)), image)


def test_psf_matching_reduces_residuals():
    wide, sharp = psf.Psf(4.2, 3.0, 0.0, 0.0), psf.Psf(3.2, 3.0, 0.0, 0.0)
    template, science = star(wide, 32, 32, 1e5), star(sharp, 32, 32, 1e5)
    matching = differencing.Matching(
        (0.0, 0.0), (wide.fwhm**2 - sharp.fwhm**2) ** 0.5 / 2.355, False, wide.fwhm
    )
    matched, _ = differencing.prepare_science(science, 0.0, matching)
    assert abs(matched - template).max() < 0.3 * abs(science - template).max()


def test_noise_has_the_variance_of_the_counts():
    counts = camera.expose(np.random.default_rng(1), np.zeros((400, 400), np.float32), 150.0)
    np.testing.assert_allclose(counts.mean(), 150, atol=0.2)
    np.testing.assert_allclose(counts.var(), 150 + camera.READ_NOISE**2, rtol=0.02)


def test_detection_finds_an_injected_source_at_its_pixel():
    rng = np.random.default_rng(2)
    template = rng.normal(0, 10, (64, 64)).astype(np.float32)
    science = rng.normal(0, 10, (64, 64)).astype(np.float32) + star(ROUND, 40, 25, 2000.0)
    image = differencing.Difference(template, science, np.full((64, 64), 200, np.float32))
    snr_map, weight = detection.filter_pair(image, 3.4)
    found = detection.detect(snr_map)
    best = np.argmax(found.snr)
    assert abs(found.row[best] - 40) <= 1 and abs(found.column[best] - 25) <= 1
    np.testing.assert_allclose(found.snr[best], 2000 * weight[40, 25] * candidates.FILTER_LOSS, rtol=0.2)
    stamp = detection.cut(image, found)[best]
    assert stamp.shape == (21, 21, 4)
    assert np.unravel_index(stamp[..., 1].argmax(), (21, 21)) in [
        (i, j) for i in range(8, 13) for j in range(8, 13)
    ]


def test_insertion_changes_only_the_sites():
    rng = np.random.default_rng(3)
    counts = camera.expose(rng, np.zeros((96, 96), np.float32), 150.0)
    donors = candidates.cut_donors(rng, ROUND, 150.0)
    sites = candidates.Sites(np.array([40]), np.array([50]))
    result = candidates.insert(counts, sites, np.array([50.0]), np.full((96, 96), 0.01, np.float32), donors)
    changed = np.argwhere(result != counts)
    assert (abs(changed - [40, 50]) <= candidates.HALF).all()
    assert abs(np.array(np.unravel_index((result - counts).argmax(), counts.shape)) - [40, 50]).max() <= 1


def test_spoiled_sites_are_as_rare_as_they_should_be():
    """0.15% of the sites of many fields, a fifth of which is spoiled (recipe 20)."""
    rng, spoiled, total = np.random.default_rng(7), 0, 0
    field = sky.draw(rng, 768, "g")
    kind_map = kinds.blank(768)
    kind_map[:, :150] = kinds.NUMBER["saturation"]
    for _ in range(400):
        sites = candidates.choose_sites(rng, field, kind_map)
        spoiled += np.count_nonzero(sites.column < 156)
        total += sites.row.size
    assert abs(spoiled / total - candidates.SPOILED_SITE) < 4 * np.sqrt(candidates.SPOILED_SITE / total)


def test_no_candidate_has_a_spot_of_bad_variance_in_its_stamp():
    rng = np.random.default_rng(7)
    kind_map = kinds.blank(768)
    spots = rng.integers(0, 768, (2, 100))
    kind_map[tuple(spots)] = kinds.NUMBER["collapsed variance"]
    sites = candidates.choose_sites(rng, sky.draw(rng, 768, "g"), kind_map)
    offset = [np.abs(np.subtract.outer(a, b)) for a, b in zip(sites, spots, strict=True)]
    assert sites.row.size > 20
    assert np.maximum(*offset).min() > detection.STAMP // 2


def test_a_candidate_brighter_than_all_donors_is_not_scaled_up():
    rng = np.random.default_rng(3)
    counts = camera.expose(rng, np.zeros((96, 96), np.float32), 150.0)
    donors = candidates.cut_donors(rng, ROUND, 150.0)
    sites = candidates.Sites(np.array([40]), np.array([50]))
    weight = np.full((96, 96), 1e-6, np.float32)
    added = candidates.insert(counts, sites, np.array([50.0]), weight, donors) - counts
    np.testing.assert_allclose(added[40 - 13 : 40 + 14, 50 - 13 : 50 + 14], donors[1][-1], atol=0.1)


def test_kinds_have_precedence():
    kind_map = kinds.blank(32)
    kinds.paint(kind_map, 10, 10, 2, kinds.NUMBER["cosmic ray"])
    kinds.paint(kind_map, 11, 11, 4, kinds.NUMBER["galaxy residual"])
    found = kinds.read(kind_map, np.array([10, 15, 30]), np.array([10, 15, 30]), 1)
    assert [kinds.KINDS[k] for k in found] == ["cosmic ray", "galaxy residual", "noise peak"]


def test_a_block_that_is_missing_is_told(tmp_path):
    for number in (0, 2):
        (tmp_path / f"train-{number:05d}.npz").touch()
    with pytest.raises(UserError, match=r"train-00001\.npz is missing"):
        parts.Parts(tmp_path).blocks("train")


def test_blocks_that_hold_too_few_stamps_are_told(tmp_path, monkeypatch, small_blocks):
    path = tmp_path / "survey.h5"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, 20)
        make_survey(path, COUNTS, seed=5, workers=1, band="u", **SMALL)
    folder = path.with_name("survey.h5.part")
    with np.load(folder / "train-00000.npz") as block:
        shorter = {key: block[key] if key.startswith("chosen") else block[key][1:] for key in block}
    np.savez(folder / "train-00000.npz", **shorter)
    with pytest.raises(UserError, match="hold 59 stamps of 'train', not 60; remove the folder"):
        make_survey(path, COUNTS, seed=5, workers=1, band="u", **SMALL)
    assert not path.exists()
