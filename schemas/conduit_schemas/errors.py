"""The errors that Conduit raises on purpose.

::

    ConduitError
    ├── RecordError              the sender's fault: the record cannot be used, and the message says why
    │   ├── InvalidRecordError   not JSON, or a field is out of bounds
    │   ├── RecordTooLargeError  larger than the contract allows; it was not parsed
    │   ├── UnknownKindError     a kind of record that this version does not know
    │   └── NewerVersionError    written by a newer major version of the contract
    └── ConfigurationError       the operator's settings contradict each other or are incomplete
"""

from conduit_schemas.reasons import DeadLetterReason

__all__ = [
    "ConduitError",
    "ConfigurationError",
    "InvalidRecordError",
    "NewerVersionError",
    "RecordError",
    "RecordTooLargeError",
    "UnknownKindError",
]


class ConduitError(Exception):
    """The base class of every error that Conduit raises on purpose."""


class ConfigurationError(ConduitError, ValueError):
    """Raised when settings contradict each other or name something that does not exist."""


class RecordError(ConduitError, ValueError):
    """Raised when a record read from a topic cannot be used. No part of it has been applied."""

    reason: DeadLetterReason = DeadLetterReason.INVALID
    """The reason that metrics and dead letters give."""


class InvalidRecordError(RecordError):
    """Raised when a record is not JSON or one of its fields is out of bounds."""


class RecordTooLargeError(RecordError):
    """Raised when a record is larger than the contract allows, before any of it is parsed."""

    reason = DeadLetterReason.TOO_LARGE


class UnknownKindError(RecordError):
    """Raised when this version does not know a record's ``kind``."""

    reason = DeadLetterReason.UNKNOWN_KIND


class NewerVersionError(RecordError):
    """Raised when a record was written by a newer major version of the contract."""

    reason = DeadLetterReason.NEWER_VERSION
