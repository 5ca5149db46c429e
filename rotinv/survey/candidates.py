"""Candidates: stars of the same exposure, cut out with their noise and inserted elsewhere (recipe 19).

A star's total signal-to-noise S follows the survey's real distribution (selection.py). Its flux is the f that
solves

    S = f / sqrt(1 / w^2 + g f),   w the detection filter's weight at the site, g f the star's own photons,

corrected for a small loss in the filter.
"""

from typing import NamedTuple

import numpy as np

from rotinv.survey import camera, kinds, psf
from rotinv.survey.sky import Sky

DONORS = 48  # stars of one exposure that are cut out (tuned)
DONOR_FLUX = (
    2e4,
    3e5,
)  # e-, log-uniform (tuned: their sky noise does not drown a faint candidate; unsaturated)
HALF = 13  # px: cut-outs are 27 x 27
FILTER_LOSS = 0.85  # of the SNR, for a Gaussian filter on stars with Moffat's wings (tuned)
OWN_PHOTONS = 0.7  # g: the share of a star's photon noise that the filter lets through (tuned)
SPACING = 26  # px between two candidates of an image: no stamp shows another's centre
NEAR_GALAXY = 0.3  # share inserted 2-4 px from a galaxy (recipe 19)
SPOILED_SITE = 0.0015  # share on saturated or edge sites (recipe 20), before some fail to be detected
# Images have far more spots of bad variance than real ones, for speed. A candidate whose stamp holds one is
# lost, since the spot sets the scale of the SNR difference; so none is inserted this near to one.
CLEAR_OF_SPOTS = 10  # px
SPOTS = tuple(kinds.NUMBER[kind] for kind in ("collapsed variance", "masked variance"))
SPOILED = tuple(kinds.NUMBER[kind] for kind in ("saturation", "edge"))
STARS_NEAR = 40.0  # per Mpx: the density of stars near sites is at most this (recipe 4)
PER_FIELD = 100  # candidates tried in a field of 768 x 768 px (tuned)


class Sites(NamedTuple):
    """Where candidates go: pixels of the science exposure."""

    row: np.ndarray
    column: np.ndarray


def cut_donors(rng: np.random.Generator, shape: psf.Psf, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Fluxes (N,) in increasing order and cut-outs (N, 27, 27) of stars of this exposure, sky subtracted.

    The stars are in a part of the exposure that is not searched, each at a random place within its central
    pixel.
    """
    flux = np.sort(np.exp(rng.uniform(np.log(DONOR_FLUX[0]), np.log(DONOR_FLUX[1]), DONORS)))
    width = 2 * HALF + 1
    scene = np.zeros((DONORS * width, width), np.float32)
    centres = np.arange(DONORS) * width + HALF + rng.uniform(-0.5, 0.5, DONORS)
    for n in range(DONORS):  # one by one, so that no star's wings fall on the next
        own = scene[n * width : (n + 1) * width]
        psf.add_stars(
            own,
            centres[n : n + 1] - n * width,
            HALF + rng.uniform(-0.5, 0.5, 1),
            flux[n : n + 1],
            psf.shape_of(shape),
        )
    counts = camera.expose(rng, scene, level) - np.float32(level)
    return flux, counts.reshape(DONORS, width, width)


def choose_sites(rng: np.random.Generator, sky: Sky, kind_map: np.ndarray) -> Sites:
    """Sites at least SPACING apart, some near galaxies, few near stars, hardly any on spoiled pixels, none
    near spots of bad variance."""
    size = kind_map.shape[0]
    tries = 2 * PER_FIELD * size**2 // 768**2
    row, column = _propose(rng, sky, size, tries)
    bad = np.isin(kinds.read(kind_map, row, column, 6), SPOILED)
    clear = ~np.isin(kinds.read(kind_map, row, column, CLEAR_OF_SPOTS), SPOTS)
    density = float(sky.stars.y.size / size**2 * 1e6)
    distance = np.hypot(np.subtract.outer(row, sky.stars.y), np.subtract.outer(column, sky.stars.x))
    near = distance.min(axis=1, initial=np.inf) < 14
    keep = clear & (~near | (rng.random(tries) < STARS_NEAR / max(density, STARS_NEAR)))
    good, spoiled_sites = int((keep & ~bad).sum()), int((keep & bad).sum())
    wanted = SPOILED_SITE * good / max(spoiled_sites, 1)
    keep &= ~bad | (rng.random(tries) < wanted)
    taken: list[int] = []
    for n in np.flatnonzero(keep):
        apart = np.maximum(abs(row[taken] - row[n]), abs(column[taken] - column[n])) >= SPACING
        if apart.all() and len(taken) < tries // 2:
            taken.append(int(n))
    return Sites(row[taken], column[taken])


def _propose(rng: np.random.Generator, sky: Sky, size: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    margin = HALF + 1
    place = rng.uniform(margin, size - margin, (2, count))
    if sky.galaxies.y.size:
        host = rng.integers(0, sky.galaxies.y.size, count)
        distance, angle = rng.uniform(2, 4, count), rng.uniform(0, 2 * np.pi, count)
        beside = np.stack(
            [sky.galaxies.y[host] + distance * np.sin(angle), sky.galaxies.x[host] + distance * np.cos(angle)]
        )
        place = np.where(rng.random(count) < NEAR_GALAXY, beside, place)
    row, column = np.clip(np.round(place), margin, size - margin - 1).astype(np.int64)
    return row, column


def insert(
    counts: np.ndarray,
    sites: Sites,
    snr: np.ndarray,
    weight: np.ndarray,
    donors: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """A copy of the science counts (e-) with a candidate of signal-to-noise `snr` at each site.

    The donor is the faintest star that is brighter than the candidate, so that its noise is scaled down, not
    up. A candidate brighter than all donors (on a site of low weight) gets the brightest donor's flux.
    """
    snr = snr / FILTER_LOSS
    half = 0.5 * OWN_PHOTONS * snr**2
    local = weight[sites.row, sites.column].astype(float)
    flux = half + np.sqrt(half**2 + (snr / np.maximum(local, 1e-6)) ** 2)
    fluxes, cutouts = donors
    donor = np.minimum(np.searchsorted(fluxes, flux), fluxes.size - 1)
    scale = np.minimum(flux / fluxes[donor], 1)
    result = counts.copy()
    for row, column, n, s in zip(sites.row, sites.column, donor, scale, strict=True):
        place = (slice(row - HALF, row + HALF + 1), slice(column - HALF, column + HALF + 1))
        result[place] += np.float32(s) * cutouts[n]
    return np.minimum(result, np.float32(camera.FULL_WELL), out=result)
