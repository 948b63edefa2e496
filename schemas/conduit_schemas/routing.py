"""How a policy is to be used: what is wanted, within which limits, for how much of the traffic.

None of it touches what is learned. It travels in the log as an event of its own, the learner carries the
newest into the snapshot, and the plugins obey it.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator

from conduit_schemas.errors import ConfigurationError
from conduit_schemas.fields import Count, Label, Probability, Record
from conduit_schemas.reasons import RolloutStage

__all__ = [
    "AutomaticRollout",
    "Budget",
    "Interval",
    "Mode",
    "QualityFloor",
    "RolloutState",
    "RoutingGoal",
    "RoutingSettings",
    "RoutingState",
    "Spend",
    "Weights",
    "checked",
]

Mode = Literal["off", "shadow", "canary", "active"]
"""Who chooses: LiteLLM alone; LiteLLM while Conduit notes what it would have done; Conduit for a share; Conduit."""

Usd = Annotated[float, Field(gt=0.0, le=1e9)]
Weight = Annotated[float, Field(ge=0.0, le=1e6)]


class Weights(Record):
    """The weights of an objective of one's own; see :class:`conduit_policy.Objective`."""

    quality: Weight = 1.0
    cost: Weight = 0.05
    latency: Weight = 0.01
    ttft: Weight | None = None
    """Left out where it counts for nothing, so that what was written before there was this weight keeps its hash."""

    @model_validator(mode="after")
    def _something_counts(self) -> Self:
        if not (self.quality or self.cost or self.latency or self.ttft):
            raise ValueError("at least one weight must be above 0")
        return self


class Budget(Record):
    """What may be spent, as billed. It is paced over its window, and degrades to cheaper arms, never to none."""

    usd: Usd
    per: Literal["day", "1000_requests"] = "day"
    """A day begins at midnight UTC."""


class QualityFloor(Record):
    """Wanted is the cheapest arm whose quality is, with this confidence, at least this share of the best one's."""

    relative: Annotated[float, Field(gt=0.0, le=1.0)] = 0.95
    confidence: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.95


class RoutingGoal(Record):
    """What is wanted of a choice. What is left out is as the level above has it: policy, team, key, request.

    Examples
    --------
    >>> RoutingGoal(objective="cost", max_cost_usd=0.01).budget is None
    True
    """

    objective: Annotated[str, Field(min_length=1, max_length=64)] | Weights | None = None
    """The name of a preset, or weights."""
    max_cost_usd: Usd | None = None
    """What one request may cost."""
    max_latency_s: Annotated[float, Field(gt=0.0, le=1e6)] | None = None
    """Target for the time from the call to the last byte."""
    max_ttft_s: Annotated[float, Field(gt=0.0, le=1e6)] | None = None
    """Target for the time from the call to the first token. It holds for streams."""
    budget: Budget | None = None
    quality_floor: QualityFloor | None = None


class AutomaticRollout(Record):
    """Let the evidence of a canary decide, at a confidence that holds however often it is looked at."""

    promote: bool = True
    """Go active once Conduit is, for certain, no more than ``margin`` worse than LiteLLM in quality and success."""
    rollback: bool = True
    """Go back to shadow once Conduit is, for certain, worse by more than ``margin`` in one of them."""
    margin: Annotated[float, Field(ge=0.0, le=1.0)] = 0.05
    confidence: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.95
    holdout: Annotated[float, Field(ge=0.0, le=0.5)] = 0.05
    """Share that stays with LiteLLM after a promotion, so that a rollback stays possible."""


Scope = Annotated[str, Field(max_length=256, pattern=r"^(team|key):[^\x00-\x1f\x7f]+$")]
"""``team:NAME`` or ``key:NAME``: LiteLLM's id or alias of a team, its hash or alias of a key."""


class RoutingSettings(Record):
    """How a policy is to be used.

    Examples
    --------
    >>> settings = RoutingSettings(goal=RoutingGoal(objective="cost"), mode="canary", canary_share=0.1)
    >>> settings.sticky_by
    'user'
    """

    goal: RoutingGoal = RoutingGoal()
    overrides: Annotated[dict[Scope, RoutingGoal], Field(max_length=64)] = {}
    """By team or key. An override's budget is for its own requests; the policy's is for all."""
    mode: Mode = "active"
    canary_share: Probability = 0.05
    """Share of the traffic that Conduit chooses for in mode ``canary``."""
    sticky_by: Literal["user", "session", "request"] = "user"
    """Whose requests are all in the canary's share, or all outside of it."""
    min_exploration: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Share of the choices spread evenly over the arms, at least."""
    automatic: AutomaticRollout | None = None
    session_stickiness: bool = False
    """Keep a session on the arm that it began with for as long as that is eligible."""
    switching_cost: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Utility by which another arm must be better than a session's last one, whose prompt cache is warm."""


class Interval(Record):
    """A mean with bounds that hold at the rollout's confidence, at all times together."""

    mean: float
    low: float
    high: float
    count: Count


class RolloutState(Record):
    """What a canary has shown, and what follows."""

    stage: RolloutStage = RolloutStage.TESTING
    since_ms: Count = 0
    """Stream time at which this stage began."""
    reason: Label = ""
    evidence: Annotated[dict[Label, Interval], Field(max_length=8)] = {}
    """Of this stage: ``quality`` and ``success``, each of ``conduit`` and ``control``, such as ``quality.conduit``."""


class Spend(Record):
    """What the outcomes so far have cost, in the current window of either kind."""

    day_start_ms: Count = 0
    day_usd: float = 0.0
    thousand_requests: Count = 0
    """Requests in the current thousand."""
    thousand_usd: float = 0.0


class RoutingState(Record):
    """What is in force at a snapshot, and what the log says of it so far."""

    settings: RoutingSettings
    origin: Label = "operator"
    changed_by: Label = ""
    changed_at: float = 0.0
    """The sender's clock, seconds since 1970."""
    mode: Mode = "active"
    """What the settings and the rollout make of it; plugins obey this."""
    canary_share: Probability = 1.0
    rollout: RolloutState | None = None
    spend: Annotated[dict[Label, Spend], Field(max_length=65)] = {}
    """By scope; the empty one is the whole policy."""


Model = TypeVar("Model", bound=BaseModel)


def checked(model: type[Model], fields: Mapping[str, Any], where: str) -> Model:
    """Return a model of what a person wrote, in which a name that does not exist is a mistake.

    Parameters
    ----------
    where
        What the fields belong to, for the message.

    Raises
    ------
    ConfigurationError
        When a name does not exist or a value cannot be used; the message says which and why.

    Examples
    --------
    >>> checked(RoutingGoal, {"max_cost_usd": 0.01}, "goal").max_cost_usd
    0.01
    >>> checked(RoutingGoal, {"max_cost": 0.01}, "goal")
    Traceback (most recent call last):
    conduit_schemas.errors.ConfigurationError: goal: there is no 'max_cost'; there are objective, max_cost_usd, ...
    """
    try:
        made = model.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[-1]  # where there is a choice of kinds, the last one says most
        name = ".".join(str(part) for part in first["loc"] if part not in {"str", "Weights"})
        given = "" if isinstance(first["input"], Mapping) else f"={first['input']!r}"
        raise ConfigurationError(f"{where}: {name}{given}: {first['msg']}"[:500]) from error
    for path, part in _parts(made, ""):
        if part.model_extra:
            unknown, known = next(iter(part.model_extra)), ", ".join(type(part).model_fields)
            raise ConfigurationError(f"{where}: there is no {path + str(unknown)[:100]!r}; there are {known}")
    return made


def _parts(value: object, path: str) -> Iterator[tuple[str, BaseModel]]:
    if isinstance(value, BaseModel):
        yield path, value
        for name in type(value).model_fields:
            yield from _parts(getattr(value, name), f"{path}{name}.")
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _parts(item, f"{path}{name}.")
