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

    reason = "record"
    """A short, stable word for metrics and dead letters."""


class InvalidRecordError(RecordError):
    """Raised when a record is not JSON or one of its fields breaks its bounds."""

    reason = "invalid"


class RecordTooLargeError(RecordError):
    """Raised when a record exceeds the size the contract allows, before any of it is parsed."""

    reason = "too_large"


class UnknownKindError(RecordError):
    """Raised when a record's ``kind`` is none this version knows."""

    reason = "unknown_kind"


class NewerVersionError(RecordError):
    """Raised when a record was written by a newer major version of the contract."""

    reason = "newer_version"
