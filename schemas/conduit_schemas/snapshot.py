"""The snapshot: all a plugin needs to choose, and no more.

A snapshot is a pure function of a prefix of one partition of the event topic. It holds numbers only,
so that whoever can write to the topic still cannot make a plugin run code.
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
    ``sigma**2 * sum(x**2 / precision)``. An arm without context carries the same numbers with only the
    first component (the intercept, always 1) in use.
    """

    mean: Float32Vector
    """Shape (dimension,)."""
    precision: Float32Vector
    """Shape (dimension,): the diagonal of the posterior precision, prior included, in units of 1/sigma**2."""
    baseline: float
    """The value the signal is centred on."""
    sigma: Annotated[float, Field(ge=0.0)]
    """Standard deviation of the residual noise, in the signal's own unit."""
    average: float
    """The arm's plain (faded) mean of the signal; the baseline where nothing was observed."""
    weight: Annotated[float, Field(ge=0.0)]
    """Observations behind it, faded ones counted in part."""

    @property
    def is_observed(self) -> bool:
        """Whether this rests on observations. If not, it is the prior, which says nothing of the arm."""
        return self.weight > 0.0


class Alarm(Record):
    """The latest change of one signal of an arm: from then on it is not what it was."""

    count: Count
    """How many changes there have been."""
    time_ms: Count
    """Stream time at which it was found, milliseconds since 1970."""
    before: float
    """The signal's mean before, in its own unit."""
    after: float
    """Its mean since, for the same requests."""
    observations: Annotated[float, Field(ge=0.0)]
    """How many observations since then told it."""


class ArmSnapshot(Record):
    """What is known of one deployment."""

    model: Label = ""
    selections: Count = 0
    outcomes: Count = 0
    errors: Count = 0
    feedbacks: Count = 0
    signals: Annotated[dict[Label, SignalPosterior], Field(max_length=16)] = {}
    """Keyed by signal: ``quality`` (0..1), ``success`` (0..1), ``cost`` (ln USD), ``latency`` (ln s)."""
    alarms: Annotated[dict[Label, Alarm], Field(max_length=16)] | None = None
    """By signal, those that have changed; None where none has."""


class ExplorationRule(Record):
    """How posteriors turn into choice probabilities; see ``conduit_policy.rules``."""

    name: Label
    params: Annotated[dict[Label, float], Field(max_length=16)] = {}
    revision: Count = 1
    """Of the rules' mathematics: it grows whenever the same beliefs would give other probabilities."""


class Snapshot(Record):
    """The belief of one policy after the events before ``offset`` of one partition."""

    kind: Literal["snapshot"] = "snapshot"
    schema_version: str = SCHEMA_VERSION
    policy: Id
    partition: Count
    offset: Count
    """The first event NOT covered. It grows with every snapshot of a policy and serves as its version."""
    stream_time_ms: Count
    """Append time of the newest covered event, milliseconds since 1970."""
    settings: LearningSettings
    rule: ExplorationRule
    arms: Annotated[dict[Id, ArmSnapshot], Field(max_length=MAX_ARMS)]
    selections: Count = 0
    outcomes: Count = 0
    feedbacks: Count = 0
    censored: Count = 0
    open_decisions: Count = 0
    routing: RoutingState | None = None
    """How the policy is to be used; None where the log says nothing of it."""
    hash: Label = ""
    """SHA-256 over every other field, hexadecimal."""

    def digest(self) -> str:
        """Return the hash that this snapshot's content calls for."""
        return content_hash(self.model_dump_json(exclude_none=True))

    def sealed(self) -> Self:
        """Return a copy that carries its own hash."""
        return self.model_copy(update={"hash": self.digest()})


def content_hash(data: str | bytes) -> str:
    """Return the hash of a snapshot's JSON: over what was written, with the ``hash`` itself left out.

    It is taken of the record and not of the model, so that the fields a later version adds, with their
    defaults, do not change the hash of what an earlier one has written.

    Examples
    --------
    >>> content_hash('{"offset": 1, "hash": "x"}') == content_hash(b'{"offset":1}')
    True
    """
    fields = from_json(data)
    fields.pop("hash", None)
    return hashlib.sha256(to_json(fields)).hexdigest()
