"""Scores of single alerts as brokers hold them: nested dicts with the survey's own names."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rotinv.alerts.files import stamps_of
from rotinv.alerts.packets import UNREADABLE, read_packet, reading_of_alerts, refusal
from rotinv.alerts.profiles import NoSurvey, Profile
from rotinv.alerts.stamp import Packet
from rotinv.alerts.surveys import SURVEYS
from rotinv.catalogue.scorer import Scorer, Threshold
from rotinv.catalogue.sources import block_of, channels_of_alerts
from rotinv.nn.devices import get_kernels
from rotinv.runs.model import open_models
from rotinv.system.errors import MissingLibrary

Record = Mapping[str, Any]


class RecordScorer:
    """Scores alerts that are dicts, as `rotinv score` scores those of files.

    Parameters
    ----------
    runs : sequence of str or Path
        Folders of trained runs; several vote.
    profiles : sequence of Profile
        Surveys of the user's own, before those that are known.
    device, threads
        As of rotinv.load.

    Raises
    ------
    UserError
        If a run cannot be read, or reads channels that alerts do not have.
    """

    def __init__(
        self,
        runs: Sequence[str | Path],
        profiles: Sequence[Profile] = (),
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        models = open_models(runs)
        self._scorer = Scorer(get_kernels(device, threads), models, Threshold())
        self._size, self._taken = models[0].config.size, channels_of_alerts("a record", models[0])
        self._profiles = (*profiles, *SURVEYS)

    def __call__(self, records: Sequence[Record]) -> list[dict[str, Any]]:
        """The catalogue's row of each record, as a dict by the columns' names; `probability` is NaN, and
        `class` -1, of one without a score, and `flags` say why.

        Raises UserError for a record of no survey that is known.
        """
        packets = [self._packet(record) for record in records]
        raw, flags, known = stamps_of(packets, len(packets), self._size)
        index = np.arange(len(packets))
        rows = self._scorer.rows(block_of(index, raw[..., self._taken], "none", self._size, flags, known))
        return [{name: values[i] for name, values in rows.items()} for i in range(len(packets))]

    def _packet(self, record: Record) -> Packet:
        fields = {name: tuple(value) if isinstance(value, Mapping) else () for name, value in record.items()}
        try:
            reading = reading_of_alerts(fields, "", self._profiles)
            reading.read(record)
        except NoSurvey as error:
            raise refusal("a record", error) from error
        except MissingLibrary:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            return UNREADABLE
        return read_packet(reading, record, "a record", [])
