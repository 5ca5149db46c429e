"""Records of alerts as Packets: by the profile of their survey, or as rows of a plain table of cut-outs."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from rotinv.alerts.profiles import Fields, NoSurvey, Profile, Record, fitting
from rotinv.alerts.records import CUTOUTS, Found, read_record
from rotinv.alerts.rows import columns_of, read_row
from rotinv.alerts.stamp import BIT, Packet
from rotinv.system.errors import MissingLibrary, UserError

_MOST_LOOKED_AT = 20  # records of a file, for one whose survey is known

UNREADABLE = Packet("", "", "", flags=BIT["unreadable"])


@dataclass(frozen=True)
class Reading:
    """How the records of a file are read.

    Attributes
    ----------
    read
        Gives a record's fields of a Packet, and what is wrong with it. Raises NoSurvey for a record that is
        none of the survey's.
    wanted
        The fields that are read: of a record those inner fields, of others none, which is all.
    sure
        Whether the file's fields alone tell of which survey its records are.
    """

    read: Callable[[Record], Found]
    wanted: Mapping[str, Sequence[str]]
    sure: bool = True


def reading_of_alerts(fields: Fields, schema: str, profiles: Sequence[Profile]) -> Reading:
    """How to read the records of a schema of that name. Raises NoSurvey if no profile fits."""
    found, sure = fitting(profiles, schema, fields)
    if sure:
        return Reading(lambda record: read_record(found[0], record), found[0].wanted)
    wanted: dict[str, tuple[str, ...]] = {}
    for profile in found:
        for outer, inner in profile.wanted.items():
            wanted[outer] = tuple(dict.fromkeys((*wanted.get(outer, ()), *inner)))
    return Reading(lambda record: read_record(_choose(found, schema, record), record), wanted, sure=False)


def reading_of_rows(fields: Fields, profiles: Sequence[Profile]) -> Reading:
    """How to read the rows of a table. Raises NoSurvey if it has neither alerts nor columns of cut-outs."""
    try:
        return reading_of_alerts(fields, "", profiles)
    except NoSurvey:
        columns = columns_of(fields)
        if {"candidate", "diaSource"} & set(fields) or not set(CUTOUTS) & set(columns):
            raise
    return Reading(lambda record: read_row(record, columns), {name: () for name in columns.values()})


def refusal(where: object, reason: object) -> UserError:
    """What is raised for a file of alerts of a survey that is not known."""
    return UserError(
        f"{where}: holds alerts of no survey that is known: {reason}; describe the survey in a file, and "
        "name that with --profile (docs/alerts.md)"
    )


def check_recognised(where: object, reading: Reading, records: Iterable[Record]) -> None:
    """Raise UserError if the first records of a file are those of no known survey."""
    reason = None
    for record in itertools.islice(records, 0 if reading.sure else _MOST_LOOKED_AT):
        try:
            reading.read(record)
        except NoSurvey as error:
            reason = error
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):  # told when it is read
            return
        else:
            return
    if reason is not None:
        raise refusal(where, reason)


def read_packet(reading: Reading, record: Record, where: str, problems: list[str]) -> Packet:
    """A record as a Packet; one that is refused is flagged so, with what is known of it, and told."""
    try:
        found, wrong = reading.read(record)
    except MissingLibrary:  # it says nothing of the record
        raise
    except (NoSurvey, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        kind = "" if isinstance(error, NoSurvey) else f"{type(error).__name__}: "
        problems.append(f"{where} cannot be read ({kind}{error})")
        return UNREADABLE
    flags = found.pop("flags", 0)
    if wrong:
        problems.append(f"{where} ({found['candidate_id'] or 'no id'}): {'; '.join(wrong)}")
        flags |= BIT["unreadable"]
    return Packet(**found, flags=flags)


def _choose(profiles: Sequence[Profile], schema: str, record: Record) -> Profile:
    for profile in profiles:
        if profile.fits(record):
            return profile
    publisher = record.get("publisher") or "none"
    ids = {str(record.get(profile.object_id[0])) for profile in profiles if profile.object_id}
    raise NoSurvey(f"schema {schema or 'none'!r}, publisher {publisher!r}, object {', '.join(sorted(ids))!r}")
