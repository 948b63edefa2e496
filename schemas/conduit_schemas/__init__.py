"""The wire contract of Conduit: events, snapshots, topics, and how they become bytes."""

from conduit_schemas.codec import (
    MAX_EVENT_BYTES,
    MAX_SNAPSHOT_BYTES,
    decode_event,
    decode_snapshot,
    encode,
)
from conduit_schemas.errors import (
    ConduitError,
    ConfigurationError,
    InvalidRecordError,
    NewerVersionError,
    RecordError,
    RecordTooLargeError,
    UnknownKindError,
)
from conduit_schemas.events import DeadLetter, Event, Feedback, Outcome, PolicySettings, Selection
from conduit_schemas.fields import FRACTION_BITS, MAX_ARMS, MAX_DIMENSION, SCHEMA_VERSION
from conduit_schemas.settings import LearningSettings
from conduit_schemas.snapshot import ArmSnapshot, ExplorationRule, SignalPosterior, Snapshot
from conduit_schemas.topics import Topics, policy_name

__all__ = [
    "FRACTION_BITS",
    "MAX_ARMS",
    "MAX_DIMENSION",
    "MAX_EVENT_BYTES",
    "MAX_SNAPSHOT_BYTES",
    "SCHEMA_VERSION",
    "ArmSnapshot",
    "ConduitError",
    "ConfigurationError",
    "DeadLetter",
    "Event",
    "ExplorationRule",
    "Feedback",
    "InvalidRecordError",
    "LearningSettings",
    "NewerVersionError",
    "Outcome",
    "PolicySettings",
    "RecordError",
    "RecordTooLargeError",
    "Selection",
    "SignalPosterior",
    "Snapshot",
    "Topics",
    "UnknownKindError",
    "decode_event",
    "decode_snapshot",
    "encode",
    "policy_name",
]
