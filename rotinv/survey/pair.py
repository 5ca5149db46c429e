"""One pair of exposures, from the sky to its stamps. The steps, in order:

    sky -> two exposures -> defects -> registration, matching, subtraction -> detection -> artifacts
                         -> the same with candidates inserted              -> detection -> candidates

Sources are detected twice: in the pair as it is, for the artifacts, and with candidates inserted, for these.
"""

from typing import NamedTuple

import numpy as np

from rotinv.survey import camera, candidates, detection, differencing, kinds, psf, selection, sky

SIZE = 768  # px: side of a simulated image
MATCH = 2  # px: a detection within this distance of a site is the candidate inserted there

INJECTED = 4  # candidates go into every fourth pair, since there are fewer artifacts to find (tuned)


class Stamps(NamedTuple):
    """The stamps of an image, candidates first."""

    stamps: np.ndarray  # (N, 21, 21, 4) float32, raw pixels
    snr: np.ndarray  # (N,) float32, signed
    kind: np.ndarray  # (N,) uint8, see kinds.KINDS


class Exposures(NamedTuple):
    """Two exposures with their defects, and how they are aligned and matched."""

    field: sky.Sky
    template: np.ndarray  # e-
    science: np.ndarray  # e-, off by matching.shift
    science_psf: psf.Psf
    matching: differencing.Matching
    spoiled: camera.Spoiled
    kind_map: np.ndarray


def simulate(key: tuple[int, ...], band: str, size: int = SIZE) -> Stamps:
    """Simulate one pair and cut its stamps; all randomness comes from `key` (seed, split, image)."""
    rng = np.random.default_rng(key)
    pair = expose(rng, band, size)
    template = differencing.prepare_template(pair.template, pair.field.template_level, pair.matching)
    plain = _subtract(pair, pair.science, template)
    snr_map, weight = detection.filter_pair(plain, pair.matching.fwhm)
    detections = detection.detect(snr_map)
    kind = kinds.read(pair.kind_map, detections.row, detections.column, 2)
    artifacts = Stamps(detection.cut(plain, detections), detections.snr, kind)
    if key[-1] % INJECTED:
        return artifacts
    parts = (_inject(rng, pair, template, weight), artifacts)
    return Stamps(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _inject(
    rng: np.random.Generator, pair: Exposures, template: tuple[np.ndarray, np.ndarray], weight: np.ndarray
) -> Stamps:
    """The candidates inserted into the science exposure that are detected after subtraction."""
    sites = candidates.choose_sites(rng, pair.field, pair.kind_map)
    donors = candidates.cut_donors(rng, pair.science_psf, pair.field.science_level)
    snr = selection.draw_candidate_snr(rng, sites.row.size)
    image = _subtract(pair, candidates.insert(pair.science, sites, snr, weight, donors), template)
    snr_map, _ = detection.filter_pair(image, pair.matching.fwhm)
    detections = _at_sites(detection.detect(snr_map), sites, pair.field.size)
    return Stamps(
        detection.cut(image, detections),
        detections.snr,
        np.full(detections.row.size, kinds.CANDIDATE, np.uint8),
    )


def expose(rng: np.random.Generator, band: str, size: int) -> Exposures:
    """Take a template and a science exposure of one field."""
    field, kind_map = sky.draw(rng, size, band), kinds.blank(size)
    sky.mark(kind_map, field)
    template_psf, science_psf = psf.draw_pair(rng)
    matching = differencing.draw_matching(rng, template_psf, science_psf)
    scenes = sky.render(field, template_psf, science_psf, matching.shift)
    shape = psf.shape_of(science_psf)
    area = (
        (matching.fwhm / 2.355) ** 2 * 4 * np.pi
    )  # px: the sky's pixels that a point source's flux is read from
    noise = np.sqrt(area * (field.template_level + field.science_level + 2 * camera.READ_NOISE**2))
    sky.add_transients(rng, scenes[1], kind_map, shape, noise, band)
    template = camera.expose(rng, scenes[0], field.template_level)
    science = camera.expose(rng, scenes[1], field.science_level)
    stars = field.stars
    for counts, flux, form in (
        (template, stars.template_flux, psf.shape_of(template_psf)),
        (science, stars.science_flux, shape),
    ):
        camera.bleed(rng, counts, kind_map, stars.y, stars.x, flux, form[4])
    camera.add_cosmic_rays(rng, template, kind_map, camera.COSMIC_RAYS["template"])
    camera.add_cosmic_rays(rng, science, kind_map, camera.COSMIC_RAYS["science"])
    camera.add_bad_pixels(rng, science, kind_map)
    camera.add_bad_rows(rng, science, kind_map)
    camera.add_amplifier_step(rng, science)
    for counts in (template, science):  # no pixel holds more, whatever was added
        np.minimum(counts, np.float32(camera.FULL_WELL), out=counts)
    spoiled = camera.draw_spoiled(rng, kind_map, field.science_level)
    return Exposures(field, template, science, science_psf, matching, spoiled, kind_map)


def _subtract(
    pair: Exposures, counts: np.ndarray, template: tuple[np.ndarray, np.ndarray]
) -> differencing.Difference:
    """Register, match and subtract the science counts, with or without candidates, from the template."""
    science, variance = differencing.prepare_science(counts, pair.field.science_level, pair.matching)
    variance += template[1]
    variance *= np.float32(pair.matching.optimism)
    result = differencing.Difference(template[0].copy(), science, variance)
    camera.spoil(pair.spoiled, result.science, result.template, result.variance)
    return result


def _at_sites(detections: detection.Detections, sites: candidates.Sites, size: int) -> detection.Detections:
    """The positive detections at the sites of candidates."""
    place = np.zeros((size, size), np.uint8)
    place[sites.row, sites.column] = 1
    keep = (detections.snr > 0) & (kinds.read(place, detections.row, detections.column, MATCH) == 1)
    return detection.Detections(detections.row[keep], detections.column[keep], detections.snr[keep])
