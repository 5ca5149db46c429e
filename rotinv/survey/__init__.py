"""A simulated survey in the image of HiTS (the High cadence Transient Survey): `make_survey` makes one.

"recipe 9" in these modules is step 9 of docs/survey.md; "tuned" says that a number was changed from the
recipe's until the stamps measured as real ones do. pair.py makes a pair of images; it calls, in this order,
sky.py, psf.py, camera.py, differencing.py, detection.py and candidates.py. selection.py chooses among its
stamps, build.py does so for many pairs and writes the store, check.py compares it with the real survey.
"""

from rotinv.survey.build import BANDS, VERSION, make_survey

__all__ = ["BANDS", "VERSION", "make_survey"]
