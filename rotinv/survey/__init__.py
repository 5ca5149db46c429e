"""A simulated survey in the image of HiTS (the High cadence Transient Survey): see build.make_survey."""

from rotinv.survey.build import BANDS, VERSION, make_survey

__all__ = ["BANDS", "VERSION", "make_survey"]
