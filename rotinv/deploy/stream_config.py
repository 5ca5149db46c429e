"""What `rotinv stream` is told: a TOML file of four tables (docs/deploy/streams.md has one)."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rotinv.alerts.profile_files import read_profile, read_toml
from rotinv.alerts.profiles import Profile
from rotinv.deploy.messages import FRAMINGS
from rotinv.deploy.schemas import RUBIN
from rotinv.system.errors import UserError

_OURS = ("enable.auto.commit", "enable.auto.offset.store", "enable.partition.eof")  # settings of librdkafka


@dataclass(frozen=True)
class Input:
    """What is read, and how messages are framed (deploy/messages.py)."""

    topics: list[str]
    framing: str
    schemas: str = ""  # of confluent: lsst-alert-packet, a folder or an address
    schema: str = ""  # of bare: a file
    profiles: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Output:
    """Where the result goes: pieces in a folder, and messages to a topic if there is one."""

    folder: str
    format: str = "parquet"
    alerts: int = 2000  # of a piece, at most
    seconds: float = 10.0  # after which a piece is written, however few there are
    topic: str = ""


@dataclass(frozen=True)
class Metrics:
    """How often it is told how it goes, and a file for Prometheus."""

    every: float = 30.0  # seconds
    file: str = ""


@dataclass(frozen=True)
class StreamConfig:
    """The whole file; `kafka` are settings of librdkafka as they are."""

    kafka: Mapping[str, Any]
    input: Input
    output: Output
    metrics: Metrics
    profiles: tuple[Profile, ...]


def read(path: str | Path) -> StreamConfig:
    """The configuration in a file. Raises UserError, naming the key, for what cannot be."""
    path = Path(path)
    found = read_toml(path)
    tables = {"input": Input, "output": Output, "metrics": Metrics}
    if unknown := sorted(found.keys() - {"kafka", *tables}):
        raise UserError(f"{path}: [{unknown[0]}] is none of its tables, which are kafka, {', '.join(tables)}")
    kafka = found.get("kafka", {})
    _check_kafka(path, kafka)
    made = {name: _table(path, name, kind, found.get(name, {})) for name, kind in tables.items()}
    _check(path, made["input"], made["output"])
    profiles = tuple(read_profile(one) for one in made["input"].profiles)
    return StreamConfig(kafka, made["input"], made["output"], made["metrics"], profiles)


def _table(path: Path, name: str, kind: Any, values: Any) -> Any:
    """A table as its class. Raises UserError for a key that is none, is missing or has another type."""
    fields = {one.name: one for one in dataclasses.fields(kind)}
    if not isinstance(values, dict):
        raise UserError(f"{path}: {name} is {values!r}, not a table")
    if unknown := sorted(values.keys() - fields.keys()):
        raise UserError(f"{path}: [{name}] {unknown[0]}: its keys are {', '.join(fields)}")
    for key, one in fields.items():
        if key not in values:
            if one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING:
                raise UserError(f"{path}: [{name}] has no {key}")
            continue
        wanted: Any = one.type
        value = values[key]
        right = {
            str: isinstance(value, str),
            int: type(value) is int and value > 0,
            float: type(value) in (int, float) and value > 0,
            list[str]: isinstance(value, list) and all(isinstance(text, str) for text in value),
        }[wanted]
        if not right:
            what = {str: "a text", int: "a whole number above 0", float: "a number above 0"}
            raise UserError(f"{path}: [{name}] {key} is {value!r}, not {what.get(wanted, 'a list of texts')}")
    return kind(**values)


def _check_kafka(path: Path, kafka: Any) -> None:
    """Raise UserError for settings of librdkafka that are missing, or that a stream cannot have."""
    if not isinstance(kafka, dict) or not {"bootstrap.servers", "group.id"} <= kafka.keys():
        raise UserError(f"{path}: [kafka] needs bootstrap.servers and group.id")
    if ours := [name for name in _OURS if name in kafka]:
        raise UserError(f"{path}: [kafka] {ours[0]} is rotinv's own to set; leave it out")
    if "cooperative" in str(kafka.get("partition.assignment.strategy", "")):
        raise UserError(
            f"{path}: [kafka] partition.assignment.strategy must be an eager one (range, roundrobin)"
        )


def _check(path: Path, given: Input, output: Output) -> None:
    """Raise UserError for settings that do not go together."""
    if not given.topics:
        raise UserError(f"{path}: [input] topics names none")
    if output.topic in given.topics:
        raise UserError(
            f"{path}: [output] topic {output.topic!r} is read as well: its scores would come back"
        )
    if given.framing not in FRAMINGS:
        raise UserError(f"{path}: [input] framing is {given.framing!r}, none of {', '.join(FRAMINGS)}")
    if given.framing == "confluent" and not given.schemas:
        raise UserError(f"{path}: [input] framing confluent needs schemas: {RUBIN}, a folder or an address")
    if given.framing == "bare" and not given.schema:
        raise UserError(f"{path}: [input] framing bare needs schema, a file")
    if output.format not in ("parquet", "csv", "ecsv", "fits", "h5"):
        raise UserError(f"{path}: [output] format is {output.format!r}: parquet, csv, ecsv, fits or h5")
