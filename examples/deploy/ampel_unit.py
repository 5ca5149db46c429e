"""A T3 unit for AMPEL: p(candidate) of each detection of ZTF that has cut-outs, by a network of rotinv.

AMPEL keeps no cut-outs with its photopoints; the complement ZTFCutoutImages of Ampel-ZTF fetches them into
each view's `extra`. A process has the unit so:

    supply:
      unit: T3DefaultBufferSupplier
      config:
        complement: [{unit: ZTFCutoutImages, config: {eligible: all}}]
    stage:
      unit: T3SimpleStager
      config:
        execute: [{unit: RotinvScores, config: {run: runs/cap-1}}]

The result has, for each stock, p(candidate) by the detection's number; null where there is no score.
"""

import math
from functools import cached_property

from ampel.abstract.AbsT3Unit import AbsT3Unit
from ampel.view.SnapView import SnapView

from rotinv.deploy.records import RecordScorer

COMPLEMENT = "ZTFCutoutImages"


class RotinvScores(AbsT3Unit[SnapView]):
    """Scores detections; `run` is the folder of a trained run, `threads` how many it takes."""

    run: str
    threads: int = 1

    def process(self, gen, t3s):
        """p(candidate) by stock and detection, as texts, which AMPEL's database wants as keys."""
        return {str(view.id): self._scores(view) for view in gen}

    @cached_property
    def _scorer(self):
        return RecordScorer([self.run], threads=self.threads)

    def _scores(self, view):
        cutouts = (view.extra or {}).get(COMPLEMENT, {})
        bodies = {point["id"]: point["body"] for point in view.t0 or ()}
        numbers = [number for number, images in cutouts.items() if images and number in bodies]
        rows = self._scorer([_record(view.id, one, bodies[one], cutouts[one]) for one in numbers])
        found = [float(row["probability"]) for row in rows]
        return {str(one): None if math.isnan(p) else p for one, p in zip(numbers, found, strict=True)}


def _record(stock, number, body, images):
    """A detection as ZTF sends it: AMPEL takes its number out of the photopoint, and unpacks images."""
    record = {"objectId": str(stock), "candid": number, "candidate": {**body, "candid": number}}
    return record | {name: {"fileName": "", "stampData": data} for name, data in images.items()}
