"""Everything that can be wrong with a record.

::

    ConduitError
    ├── RecordError              the sender's fault: the record cannot be used, and says why
    │   ├── InvalidRecordError   not JSON, or a field breaks its bounds
    │   ├── RecordTooLargeError  larger than the contract allows; it was not parsed
    │   ├── UnknownKindError     a kind of record this version has never heard of
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
    """The base of every error Conduit raises on purpose."""


class ConfigurationError(ConduitError, ValueError):
    """Raised when settings contradict each other or name something that does not exist."""


class RecordError(ConduitError, ValueError):
    """Raised when a record read from a topic cannot be used; nothing of it has been applied."""

    reason: DeadLetterReason = DeadLetterReason.INVALID
    """For metrics and dead letters."""


class InvalidRecordError(RecordError):
    """Raised when a record is not JSON or one of its fields breaks its bounds."""


class RecordTooLargeError(RecordError):
    """Raised when a record exceeds the size the contract allows, before any of it is parsed."""

    reason = DeadLetterReason.TOO_LARGE


class UnknownKindError(RecordError):
    """Raised when a record's ``kind`` is none this version knows."""

    reason = DeadLetterReason.UNKNOWN_KIND


class NewerVersionError(RecordError):
    """Raised when a record was written by a newer major version of the contract."""

    reason = DeadLetterReason.NEWER_VERSION
