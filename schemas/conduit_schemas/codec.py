"""Encode records as bytes and decode them: UTF-8 JSON. A record that is too large is refused before it is parsed."""

from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from conduit_schemas.errors import (
    InvalidRecordError,
    NewerVersionError,
    RecordError,
    RecordTooLargeError,
    UnknownKindError,
)
from conduit_schemas.events import Event
from conduit_schemas.fields import MAJOR, Record
from conduit_schemas.snapshot import Snapshot, content_hash

__all__ = ["MAX_EVENT_BYTES", "MAX_SNAPSHOT_BYTES", "decode_event", "decode_snapshot", "encode"]

MAX_EVENT_BYTES = 65_536
MAX_SNAPSHOT_BYTES = 1_000_000
"""Just under 1 MiB, the largest message that a Kafka broker accepts by default."""

_EVENT: TypeAdapter[Event] = TypeAdapter(Event)
_SNAPSHOT = TypeAdapter(Snapshot)


def encode(record: Record) -> bytes:
    """Return a record as bytes.

    Raises
    ------
    RecordTooLargeError
        When the record is larger than its topic accepts.
    """
    data = record.model_dump_json(exclude_none=True).encode()
    limit = MAX_SNAPSHOT_BYTES if isinstance(record, Snapshot) else MAX_EVENT_BYTES
    _check_size(data, limit)
    return data


def decode_event(data: bytes) -> Event:
    """Decode an event.

    Raises
    ------
    RecordTooLargeError, NewerVersionError, UnknownKindError, InvalidRecordError
        When ``data`` is not a valid event; see :mod:`conduit_schemas.errors`.

    Examples
    --------
    >>> from conduit_schemas import Feedback
    >>> feedback = Feedback(policy="default/chat", time=1.5, decision_id="d1", quality=0.9)
    >>> decode_event(encode(feedback)) == feedback
    True
    """
    _check_size(data, MAX_EVENT_BYTES)
    try:
        event = _EVENT.validate_json(data)
    except ValidationError as error:
        raise _explain(data, error) from error
    if not event.schema_version.startswith(f"{MAJOR}."):
        raise _version_error(event.schema_version)
    return event


def decode_snapshot(data: bytes) -> Snapshot:
    """Decode a snapshot and check its hash.

    Raises
    ------
    RecordTooLargeError, NewerVersionError, UnknownKindError, InvalidRecordError
        When ``data`` is not a valid snapshot; see :mod:`conduit_schemas.errors`.
    """
    _check_size(data, MAX_SNAPSHOT_BYTES)
    try:
        snapshot = _SNAPSHOT.validate_json(data)
    except ValidationError as error:
        raise _explain(data, error) from error
    if not snapshot.schema_version.startswith(f"{MAJOR}."):
        raise _version_error(snapshot.schema_version)
    if snapshot.hash != content_hash(data):
        raise InvalidRecordError(
            f"snapshot of policy {snapshot.policy!r} at offset {snapshot.offset}: its hash does not match its content"
        )
    return snapshot


def _check_size(data: bytes, limit: int) -> None:
    if len(data) > limit:
        raise RecordTooLargeError(f"the record has {len(data):,} bytes; at most {limit:,} are allowed")


def _version_error(version: str) -> RecordError:
    major = version.partition(".")[0]
    if major.isascii() and major.isdigit() and len(major) < 10 and int(major) > MAJOR:
        return NewerVersionError(
            f"the record has schema version {version[:20]!r}, but this software reads only {MAJOR}.x; upgrade it first"
        )
    return InvalidRecordError(f"schema_version {version[:20]!r} is not of the form {MAJOR}.x")


def _explain(data: bytes, error: ValidationError) -> RecordError:
    """Return the error that describes the problem best. This parses again, but only records that were refused."""
    try:
        fields: Any = from_json(data)
    except ValueError as not_json:
        return InvalidRecordError(f"not JSON: {not_json}")
    if not isinstance(fields, dict):
        return InvalidRecordError(f"a record must be a JSON object, but this is a {type(fields).__name__}")
    version = fields.get("schema_version")
    if isinstance(version, str):
        version_error = _version_error(version)
        if isinstance(version_error, NewerVersionError):
            return version_error
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "union_tag_invalid":
        return UnknownKindError(f"this version does not know the kind {str(fields.get('kind'))[:50]!r}")
    where = ".".join(str(part) for part in first["loc"]) or "record"
    return InvalidRecordError(f"{where[:200]}: {first['msg'][:300]}")
