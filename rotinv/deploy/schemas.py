"""Avro schemas of a stream's messages, by the numbers that the messages give.

Rubin's number is 100 major + minor. Schemas come from the package lsst-alert-packet, from a folder
(NUMBER.avsc, or MAJOR/MINOR/NAME.avsc as Rubin keeps them) or from a registry's address.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from rotinv.alerts.avro_schema import NotUnderstood, Schema, understood
from rotinv.alerts.profiles import NoSurvey, Profile
from rotinv.alerts.surveys import SURVEYS
from rotinv.system.errors import UserError, require_extra
from rotinv.system.files import first_line

RUBIN = "lsst-alert-packet"
_SECONDS = 10.0  # for a registry to answer
_LARGEST = 1 << 24  # bytes of a schema


class Schemas:
    """The schemas of one place, each read once."""

    def __init__(self, where: str, profiles: Sequence[Profile]) -> None:
        """`where` is "lsst-alert-packet", the path of a folder or file, or an address (http:// or https://).

        Raises UserError if there is no such thing.
        """
        self._where, self._profiles = where, (*profiles, *SURVEYS)
        if where == RUBIN:
            require_extra("lsst.alert.packet", "stream", where)
        elif not _is_address(where) and not Path(where).exists():
            raise UserError(f"schemas {where!r}: there is no such folder; name one, {RUBIN}, or an address")
        self.by_number = cache(self._by_number)
        self.of_text = cache(self._of_text)

    def _by_number(self, number: int) -> Schema:
        """The schema of a number. Raises LookupError if there is none that is understood; UserError if a
        registry does not answer."""
        if self._where == RUBIN:
            text = _of_rubin(number)
        elif _is_address(self._where):
            text = _of_registry(self._where, number)
        else:
            text = _of_folder(Path(self._where), number)
        return self.of_text(text)

    def _of_text(self, text: bytes) -> Schema:
        """A schema's text, understood. Raises LookupError if it is no schema, or no survey's."""
        try:
            return understood(text, self._profiles)
        except NoSurvey as error:
            raise LookupError(
                f"its schema is of no survey that is known: {error}; [input] profiles names your own"
            ) from error
        except (NotUnderstood, ValueError, KeyError, TypeError) as error:
            raise LookupError(f"its Avro schema is not understood ({first_line(error)})") from error


def _is_address(where: str) -> bool:
    return where.startswith(("http://", "https://"))


def _of_rubin(number: int) -> bytes:
    packet = require_extra("lsst.alert.packet", "stream", RUBIN)
    registry = packet.SchemaRegistry.all_schemas_from_filesystem()
    if number not in registry.known_ids:
        raise LookupError(f"{RUBIN} has no schema {number}; a newer version of it may")
    return _text(registry.get_by_id(number).definition)


def _of_folder(folder: Path, number: int) -> bytes:
    if folder.is_file():
        return folder.read_bytes()
    plain = folder / f"{number}.avsc"
    if plain.is_file():
        return plain.read_bytes()
    major, minor = divmod(number, 100)
    name = f"lsst.v{major}_{minor}.alert.avsc"
    nested = folder / str(major) / str(minor) / name
    if not nested.is_file():
        raise LookupError(f"{folder} has neither {plain.name} nor {nested.relative_to(folder)}")
    load = require_extra("fastavro.schema", "stream", folder).load_schema
    return _text(load(str(nested)))


def _of_registry(address: str, number: int) -> bytes:
    """A schema of a registry with Confluent's interface; `address` may have a name and a password."""
    url = f"{address.rstrip('/')}/schemas/ids/{number}"
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:
            return str(json.loads(answer.read(_LARGEST))["schema"]).encode()
    except urllib.error.HTTPError as error:
        if error.code == 404:
            raise LookupError(f"the registry {address} has no schema {number}") from error
        raise UserError(f"the registry {address}: {error}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"the registry {address} does not answer as one ({first_line(error)})") from error


def _text(definition: Any) -> bytes:
    """A parsed schema as text, without the marks of the library that parsed it."""
    return json.dumps(_unmarked(definition)).encode()


def _unmarked(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_unmarked(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _unmarked(value) for key, value in schema.items() if not str(key).startswith("__")}
