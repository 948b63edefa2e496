"""How a policy is used: its objective, its limits, and its share of the traffic.

None of this changes what is learned. The settings travel in the log as an event of their own. The learner copies the
newest ones into the snapshot, and the plugins follow them.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from conduit_schemas.fields import Count, Label, Probability, Record
from conduit_schemas.reasons import RolloutStage
from conduit_schemas.written import automatic_form, budget_form, floor_form, short, weights_form

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
    "StickyBy",
    "Weights",
]

Mode = Literal["off", "shadow", "canary", "active"]
"""Who chooses: LiteLLM (``off``), LiteLLM while Conduit logs what it would have chosen (``shadow``), Conduit for a
share of the traffic (``canary``), or Conduit (``active``)."""

StickyBy = Literal["user", "session", "request"]

Usd = Annotated[float, Field(gt=0.0, le=1e9)]
Weight = Annotated[float, Field(ge=0.0, le=1e6)]


class Weights(Record):
    """The weights of a custom objective; see :class:`conduit_policy.Objective`, which has the same defaults."""

    quality: Weight = 1.0
    cost: Weight = 0.05
    latency: Weight = 0.01
    ttft: Weight | None = None
    """None counts as 0. It is then absent from the record, so that records from before this weight existed keep their
    hashes."""

    @model_validator(mode="after")
    def _something_counts(self) -> Self:
        if not (self.quality or self.cost or self.latency or self.ttft):
            raise ValueError("at least one weight must be above 0")
        return self


class Budget(Record):
    """What a policy may spend, as billed.

    Spending is paced over the window: the faster the money goes, the more cheap arms are preferred. Once it is spent,
    only the cheapest arm is left. A request is never refused.
    """

    usd: Usd
    per: Literal["day", "1000_requests"] = "day"
    """A day begins at midnight UTC."""


class QualityFloor(Record):
    """Prefer the cheapest arm whose quality is at least ``relative`` times the best arm's, with this confidence."""

    relative: Annotated[float, Field(gt=0.0, le=1.0)] = 0.95
    confidence: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.95


Preset = Annotated[str, Field(min_length=1, max_length=64)]


class RoutingGoal(Record):
    """The objective and the limits of a choice, set for a policy, a team, a key or a request.

    A field that is left out takes the value of the level before it, in that order.

    Examples
    --------
    >>> RoutingGoal(objective="cost", max_cost_usd=0.01).budget is None
    True
    """

    objective: Annotated[Preset | Weights | None, short(weights_form(Weights))] = None
    """The name of a preset, or weights."""
    max_cost_usd: Usd | None = None
    """The most that one request may cost."""
    max_latency_s: Annotated[float, Field(gt=0.0, le=1e6)] | None = None
    """Target for the time from the call to the last byte."""
    max_ttft_s: Annotated[float, Field(gt=0.0, le=1e6)] | None = None
    """Target for the time from the call to the first token. It holds for streams."""
    budget: Annotated[Budget | None, short(budget_form)] = None
    quality_floor: Annotated[QualityFloor | None, short(floor_form)] = None


class AutomaticRollout(Record):
    """Let the evidence of a canary decide. The confidence holds however often the evidence is checked."""

    promote: bool = True
    """Switch to active once the evidence shows that Conduit is worse than LiteLLM by no more than ``margin``, both in
    quality and in success."""
    rollback: bool = True
    """Switch back to shadow once the evidence shows that Conduit is worse by more than ``margin`` in one of them."""
    margin: Annotated[float, Field(ge=0.0, le=1.0)] = 0.05
    confidence: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.95
    holdout: Annotated[float, Field(ge=0.0, le=0.5)] = 0.05
    """Share of the traffic that LiteLLM keeps after a promotion, so that a rollback stays possible."""


Scope = Annotated[str, Field(max_length=256, pattern=r"^(team|key):[^\x00-\x1f\x7f]+$")]
"""``team:NAME`` or ``key:NAME``: LiteLLM's id or alias of a team, its hash or alias of a key."""


class RoutingSettings(Record):
    """How a policy is used.

    Examples
    --------
    >>> settings = RoutingSettings(goal=RoutingGoal(objective="cost"), mode="canary", canary_share=0.1)
    >>> settings.sticky_by
    'user'
    """

    goal: RoutingGoal = RoutingGoal()
    overrides: Annotated[dict[Scope, RoutingGoal], Field(max_length=64)] = {}
    """Goals by team or key. An override's budget covers only its own requests; the policy's covers all."""
    mode: Mode = "active"
    canary_share: Probability = 0.05
    """Share of the traffic that Conduit chooses for in mode ``canary``."""
    sticky_by: StickyBy = "user"
    """What is assigned to the canary as a unit: all requests of a user, all of a session, or each request by itself."""
    min_exploration: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """The least share of the choices that is spread evenly over the arms."""
    automatic: Annotated[AutomaticRollout | None, short(automatic_form)] = None
    session_stickiness: bool = False
    """Keep a session on its first arm for as long as that arm is eligible."""
    switching_cost: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """How much better, in utility, another arm must be than the session's last one, whose prompt cache is warm."""


class Interval(Record):
    """A mean with bounds. At the roll-out's confidence they hold at all times simultaneously."""

    mean: float
    low: float
    high: float
    count: Count


class RolloutState(Record):
    """The stage of an automatic roll-out, and its evidence."""

    stage: RolloutStage = RolloutStage.TESTING
    since_ms: Count = 0
    """Stream time at which this stage began."""
    reason: Label = ""
    """Which comparison led to this stage, in words, with its margin; empty while testing."""
    evidence: Annotated[dict[Label, Interval], Field(max_length=8)] = {}
    """The evidence of this stage: ``quality`` and ``success``, each for ``conduit`` and ``control``. A key is, for
    example, ``quality.conduit``."""


class Spend(Record):
    """The cost of the outcomes so far in the current day and in the current thousand requests."""

    day_start_ms: Count = 0
    day_usd: float = 0.0
    thousand_requests: Count = 0
    """Requests in the current thousand."""
    thousand_usd: float = 0.0


class RoutingState(Record):
    """The routing settings at a snapshot, and what the log shows so far: spending and the roll-out's stage."""

    settings: RoutingSettings
    origin: Label = "operator"
    changed_by: Label = ""
    changed_at: float = 0.0
    """The sender's clock, seconds since 1970."""
    mode: Mode = "active"
    """The mode that follows from the settings and the roll-out. Plugins use this one."""
    canary_share: Probability = 1.0
    rollout: RolloutState | None = None
    spend: Annotated[dict[Label, Spend], Field(max_length=65)] = {}
    """Spending by scope. The empty scope is the whole policy."""
