"""The snapshot: everything that a plugin needs to choose, and nothing else.

A snapshot is a pure function of a prefix of one partition of the event topic. It holds only numbers and names, so
that nobody who can write to the topic can make a plugin run code.
"""

import hashlib
from typing import Annotated, Literal, Self

from pydantic import Field
from pydantic_core import from_json, to_json

from conduit_schemas.fields import MAX_ARMS, SCHEMA_VERSION, Count, Float32Vector, Id, Label, Record
from conduit_schemas.routing import RoutingState
from conduit_schemas.settings import LearningSettings

__all__ = ["Alarm", "ArmSnapshot", "ExplorationRule", "SignalPosterior", "Snapshot", "content_hash"]


class SignalPosterior(Record):
    """A linear-Gaussian belief about one signal of one arm.

    The predicted mean at a context ``x`` is ``baseline + mean @ x`` and its variance
    ``sigma**2 * sum(x**2 / precision)``. A signal that does not depend on the context has the
    same fields, but uses only the first component (the intercept, always 1).
    """

    mean: Float32Vector
    """Shape (dimension,)."""
    precision: Float32Vector
    """Shape (dimension,): the diagonal of the posterior precision, prior included, in units of 1/sigma**2."""
    baseline: float
    """The value that the regression's target is centred on."""
    sigma: Annotated[float, Field(ge=0.0)]
    """Standard deviation of the residual noise, in the signal's own unit."""
    average: float
    """The arm's plain (faded) mean of the signal. The baseline when nothing was observed."""
    weight: Annotated[float, Field(ge=0.0)]
    """Number of observations. Faded ones count in part."""

    @property
    def is_observed(self) -> bool:
        """Whether this is based on observations. If not, it is the prior, which says nothing about the arm."""
        return self.weight > 0.0


class Alarm(Record):
    """The latest change that was detected in one signal of an arm."""

    count: Count
    """Number of changes so far."""
    time_ms: Count
    """Stream time at which it was detected, milliseconds since 1970."""
    before: float
    """The signal's mean before, in its own unit."""
    after: float
    """Its mean after, for the same mix of requests."""
    observations: Annotated[float, Field(ge=0.0)]
    """Number of observations after the change, when it was detected."""


class ArmSnapshot(Record):
    """What is known about one deployment."""

    model: Label = ""
    selections: Count = 0
    outcomes: Count = 0
    errors: Count = 0
    feedbacks: Count = 0
    signals: Annotated[dict[Label, SignalPosterior], Field(max_length=16)] = {}
    """By signal: ``quality`` (0..1), ``success`` (0..1), ``cost`` (ln USD), ``latency`` (ln s), ``ttft`` (ln s)."""
    alarms: Annotated[dict[Label, Alarm], Field(max_length=16)] | None = None
    """By signal, for those that have changed. None when none has."""


class ExplorationRule(Record):
    """How choice probabilities are computed from posteriors; see :mod:`conduit_policy.rules`."""

    name: Label
    params: Annotated[dict[Label, float], Field(max_length=16)] = {}
    revision: Count = 1
    """Revision of the rules' mathematics. It grows whenever the same posteriors would give other probabilities."""


class Snapshot(Record):
    """What one policy has learned from the events before ``offset`` of one partition."""

    kind: Literal["snapshot"] = "snapshot"
    schema_version: str = SCHEMA_VERSION
    policy: Id
    partition: Count
    offset: Count
    """The first event that is NOT included. It grows with every snapshot of a policy, and is its version."""
    stream_time_ms: Count
    """Append time of the newest included event, milliseconds since 1970."""
    settings: LearningSettings
    rule: ExplorationRule
    arms: Annotated[dict[Id, ArmSnapshot], Field(max_length=MAX_ARMS)]
    selections: Count = 0
    outcomes: Count = 0
    feedbacks: Count = 0
    censored: Count = 0
    open_decisions: Count = 0
    routing: RoutingState | None = None
    """How the policy is used. None when the log has no routing settings."""
    hash: Label = ""
    """SHA-256 of all other fields, hexadecimal."""

    def digest(self) -> str:
        """Compute the hash of this snapshot's content."""
        return content_hash(self.model_dump_json(exclude_none=True))

    def sealed(self) -> Self:
        """Return a copy whose ``hash`` is set."""
        return self.model_copy(update={"hash": self.digest()})


def content_hash(data: str | bytes) -> str:
    """Return the hash of a snapshot's JSON, without its ``hash`` field.

    It is computed from the JSON rather than from the model. Otherwise, fields that a later version adds with defaults
    would change the hash of snapshots that an earlier version wrote.

    Examples
    --------
    >>> content_hash('{"offset": 1, "hash": "x"}') == content_hash(b'{"offset":1}')
    True
    """
    fields = from_json(data)
    fields.pop("hash", None)
    return hashlib.sha256(to_json(fields)).hexdigest()
