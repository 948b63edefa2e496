"""The events: what happened to one request, and what an operator changed.

A *selection* says which deployment was chosen, which others were eligible, and with which probabilities. An *outcome*
says how the call went, and a *feedback* how good the answer was. *settings* change how a policy learns from then on,
and *routing* changes how it is used. All events of one policy share a key, so one partition holds them in one total
order.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator

from conduit_schemas.fields import MAX_ARMS, SCHEMA_VERSION, Context, Count, Id, Label, Probability, Record
from conduit_schemas.reasons import OutcomeStatus
from conduit_schemas.routing import RoutingSettings
from conduit_schemas.settings import LearningSettings

__all__ = [
    "DeadLetter",
    "Event",
    "Feedback",
    "LearningChange",
    "Outcome",
    "PolicyChange",
    "RatedSignal",
    "RoutingChange",
    "Selection",
]

Usd = Annotated[float, Field(ge=0.0, le=1e6)]
Seconds = Annotated[float, Field(ge=0.0, le=1e6)]
Timestamp = Annotated[float, Field(ge=0.0, le=1e11)]
Names = Annotated[dict[Label, float], Field(max_length=32)]
PerArm = Annotated[tuple[float, ...], Field(max_length=MAX_ARMS)]

RatedSignal = Literal["quality", "success"]
"""What a rating can teach: the signals that are scores from 0 to 1."""


class _Event(Record):
    schema_version: str = SCHEMA_VERSION
    policy: Id
    """The policy that the event belongs to: a namespace and a LiteLLM model group, ``namespace/group``."""
    time: Timestamp
    """The sender's clock, seconds since 1970. The learner's own clock is the log's append time."""


class Selection(_Event):
    """Which deployment was chosen for one attempt at a request, and how.

    Examples
    --------
    >>> selection = Selection(
    ...     policy="default/chat", time=0.0, decision_id="d1", arms=("a", "b"), models=("m1", "m2"),
    ...     chosen=1, probabilities=(0.25, 0.75), featurizer="text64-v2", context=bytes(128),
    ... )
    >>> selection.arm, selection.propensity
    ('b', 0.75)
    """

    kind: Literal["selection"] = "selection"
    decision_id: Id
    """Unique. Ids that Conduit makes are 24 hexadecimal digits: 16 that the sender drew at random when it started, and
    8 that count from 0. They let the learner recognise repeated events even after it has closed the decision."""
    request_id: Id | None = None
    """The caller's id of the whole request; several attempts may share it."""
    arms: Annotated[tuple[Id, ...], Field(min_length=1, max_length=MAX_ARMS)]
    """The eligible deployments, in LiteLLM's order."""
    models: Annotated[tuple[Label, ...], Field(max_length=MAX_ARMS)] = ()
    """The model name behind each arm."""
    chosen: Count
    """Index of the chosen arm in ``arms``."""
    probabilities: Annotated[tuple[Probability, ...], Field(max_length=MAX_ARMS)] | None = None
    """The vector that the arm was drawn from. Absent when LiteLLM chose, because its probabilities are unknown."""
    fallback: Label | None = None
    """Why LiteLLM's own selection chose, a :class:`~conduit_schemas.Fallback`. Absent when Conduit chose."""
    snapshot_version: Count | None = None
    snapshot_hash: Label | None = None
    featurizer: Label
    """Name of the featurizer that computed ``context``."""
    context: Context
    predictions: Annotated[dict[Label, PerArm], Field(max_length=16)] = {}
    """Predicted mean of each signal, one number per arm. A signal that no arm was observed of is absent. Of an arm that
    was not observed itself, the number is what was assumed of it; the snapshot says which arms were observed."""
    objective: Names = {}
    """The weights that applied, by signal."""
    constraints: Names = {}
    """The limits that applied, by name; see :class:`conduit_policy.Constraints`."""
    flags: Annotated[tuple[Label, ...], Field(max_length=16)] = ()
    """The safeguards and limits that changed the probabilities, each a :class:`~conduit_schemas.Flag`."""
    mode: Label | None = None
    """``off``, ``shadow``, ``canary`` or ``active``; see :class:`conduit_schemas.RoutingSettings`."""
    scope: Label | None = None
    """The team or key whose own goal applied, if any."""
    shadow_chosen: Count | None = None
    """Index of the arm that Conduit would have chosen. Present when Conduit computed a choice but LiteLLM served."""
    shadow_probabilities: Annotated[tuple[Probability, ...], Field(max_length=MAX_ARMS)] | None = None
    """The vector that ``shadow_chosen`` was drawn from."""

    @model_validator(mode="after")
    def _columns_agree(self) -> Self:
        arms = len(self.arms)
        if self.chosen >= arms:
            raise ValueError(f"chosen is {self.chosen}, but there are only {arms} arms")
        if len(set(self.arms)) != arms:
            raise ValueError("arms lists an arm twice")
        if self.shadow_chosen is not None and self.shadow_chosen >= arms:
            raise ValueError(f"shadow_chosen is {self.shadow_chosen}, but there are only {arms} arms")
        columns = {
            "models": self.models or None,
            "probabilities": self.probabilities,
            "shadow_probabilities": self.shadow_probabilities,
            **self.predictions,
        }
        for name, column in columns.items():
            if column is not None and len(column) != arms:
                raise ValueError(f"{name} has {len(column)} entries for {arms} arms")
        if self.probabilities is not None:
            total = sum(self.probabilities)
            if abs(total - 1.0) > 1e-6:
                raise ValueError(f"probabilities sum to {total}; they must sum to 1")
            if self.probabilities[self.chosen] <= 0.0:
                raise ValueError("the chosen arm has probability 0")
        return self

    @property
    def arm(self) -> str:
        """The chosen deployment's id."""
        return self.arms[self.chosen]

    @property
    def propensity(self) -> float | None:
        """The probability with which the arm was chosen, or None when LiteLLM chose."""
        return None if self.probabilities is None else self.probabilities[self.chosen]


class Outcome(_Event):
    """How the call of one decision went. The first outcome of a decision counts. Later ones are duplicates."""

    kind: Literal["outcome"] = "outcome"
    decision_id: Id
    status: OutcomeStatus
    """A ``cache_hit`` never reached the deployment, so nothing is learned from it."""
    cost_usd: Usd | None = None
    latency_s: Seconds | None = None
    """From the call to the last byte."""
    ttft_s: Seconds | None = None
    """From the call to the first token of a stream."""
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    error_class: Label | None = None
    error_code: Label | None = None
    source: Label = "litellm"
    """Who reported it."""


class Feedback(_Event):
    """A rating of the answer, by a person or a program. It counts once per decision, source and key."""

    kind: Literal["feedback"] = "feedback"
    decision_id: Id
    quality: Annotated[float, Field(ge=0.0, le=1.0)]
    source: Label = "app"
    """Who gave the rating: the app, a judge, a validator, a person."""
    key: Label = ""
    """Distinguishes several ratings of one decision by the same source."""
    signal: RatedSignal = "quality"
    """The signal that is learned. A source that rates good and bad answers alike teaches quality. A source that reports
    only bad ones teaches success."""
    sampling_probability: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """The probability with which this decision was sampled for rating. Absent when it was not sampled at random."""
    details: Annotated[dict[Label, JsonValue], Field(max_length=32)] = {}


class PolicyChange(_Event):
    """A change of a policy's settings. It applies until the next one."""


class LearningChange(PolicyChange):
    """How a policy learns from here on. Repeating the current settings changes nothing."""

    kind: Literal["settings"] = "settings"
    settings: LearningSettings
    changed_by: Label = ""


class RoutingChange(PolicyChange):
    """How a policy is used from here on. Repeating the current settings changes nothing."""

    kind: Literal["routing"] = "routing"
    routing: RoutingSettings | None = None
    """None withdraws an operator's settings, so that the application's own apply again."""
    origin: Literal["operator", "application"] = "operator"
    """An operator's settings take precedence over an application's."""
    changed_by: Label = ""


Event = Annotated[Selection | Outcome | Feedback | LearningChange | RoutingChange, Field(discriminator="kind")]
"""Any event. Its ``kind`` says which."""


class DeadLetter(Record):
    """A record that could not be used, with the reason and its position in the log."""

    kind: Literal["dead_letter"] = "dead_letter"
    schema_version: str = SCHEMA_VERSION
    topic: Label
    partition: Count
    offset: Count
    time_ms: Count
    reason: Label
    """A :class:`~conduit_schemas.DeadLetterReason`."""
    message: Annotated[str, Field(max_length=1000)]
    record_key: Annotated[bytes, Field(max_length=1024)]
    record: Annotated[bytes, Field(max_length=32_768)]
    """The bytes of the refused record, cut to 32,768."""
    record_bytes: Count
    """Length of the whole record."""
    replayed_at: Timestamp | None = None
    """When the record was last appended again, seconds since 1970."""

    @property
    def place(self) -> str:
        """The refused record's place, ``topic/partition/offset``.

        It is the dead letter's key as well, so compaction keeps one dead letter per record.
        """
        return f"{self.topic}/{self.partition}/{self.offset}"
