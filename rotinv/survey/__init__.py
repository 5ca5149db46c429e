"""A simulated survey that resembles HiTS (the High cadence Transient Survey): `make_survey` makes one.

In these modules "recipe 9" is step 9 of docs/survey.md. "tuned" marks a number that differs from the
recipe's, so that the stamps measure as real ones do. pair.py makes a pair of images; it calls, in this order,
sky.py, psf.py, camera.py, differencing.py, detection.py and candidates.py. selection.py chooses among a
pair's stamps, build.py makes many pairs and writes the store, check.py compares it with the real survey (by
measures.py in its pixels, by low_end.py at low false-positive rates).
"""

from rotinv.survey.build import BANDS, VERSION, make_survey

__all__ = ["BANDS", "VERSION", "make_survey"]
