"""How a policy is used, according to the log: its current settings, its spending, and the stage of its roll-out."""

from collections.abc import Mapping
from typing import Any, assert_never

from conduit_learner.core.events import FeedbackEvent, OutcomeEvent
from conduit_learner.core.join import OpenDecision
from conduit_learner.core.rollout import Rollout
from conduit_policy import in_force, spent
from conduit_schemas import Mode, OutcomeStatus, RolloutStage, RoutingChange, RoutingSettings, RoutingState, Spend

__all__ = ["PolicyRouting"]


class PolicyRouting:
    """The routing state of one policy, a deterministic state machine; see :class:`conduit_schemas.RoutingState`."""

    def __init__(self) -> None:
        self._changes: dict[str, RoutingChange] = {}
        """The newest change by origin."""
        self._spend: dict[str, Spend] = {}
        self._rollout: Rollout | None = None
        self.in_force: RoutingChange | None = None
        """The change whose settings apply."""

    def change(self, change: RoutingChange) -> None:
        """Apply a change by an operator or an application. If the settings stay the same, nothing is reset."""
        before = self.in_force
        if change.routing is None:
            self._changes.pop(change.origin, None)
        elif (known := self._changes.get(change.origin)) is None or known.routing != change.routing:
            self._changes[change.origin] = change
        after = self.in_force = in_force(self._changes)
        settings = None if after is None else after.routing
        if settings == (None if before is None else before.routing):
            return
        scopes = () if settings is None else ("", *settings.overrides)
        self._spend = {scope: spend for scope, spend in self._spend.items() if scope in scopes}
        automatic = None if settings is None or settings.mode != "canary" else settings.automatic
        self._rollout = None if automatic is None else Rollout(automatic)

    def observe_feedback(self, event: FeedbackEvent, decision: OpenDecision, now_ms: int) -> None:
        """Add the feedback of a decision. It must not be a duplicate. ``now_ms`` is stream time."""
        if event.signal == "quality" and not decision.is_rated:
            decision.is_rated = True
            if self._rollout is not None and decision.group:
                self._rollout.observe(decision.group, "quality", event.quality, now_ms)

    def observe_outcome(self, event: OutcomeEvent, decision: OpenDecision, now_ms: int) -> None:
        """Add the outcome of a decision. It must not be a duplicate. Without settings it has no effect."""
        if event.status != OutcomeStatus.CACHE_HIT:
            self._pay(decision.scope, event.cost_usd, now_ms)
        if self._rollout is None or not decision.group:
            return
        match event.status:
            case OutcomeStatus.SUCCESS:
                self._rollout.observe(decision.group, "success", 1.0, now_ms)
            case OutcomeStatus.ERROR:
                self._rollout.observe(decision.group, "success", 0.0, now_ms)
            case OutcomeStatus.CANCELLED | OutcomeStatus.CLIENT_DISCONNECT | OutcomeStatus.CACHE_HIT:
                pass  # it says nothing about the deployment
            case _:
                assert_never(event.status)

    def published(self) -> RoutingState | None:
        """Return the state for the snapshot. None if the log has no routing settings."""
        change = self.in_force
        if change is None or change.routing is None:
            return None
        mode, share = self._effective(change.routing)
        return RoutingState(
            settings=change.routing,
            origin=change.origin,
            changed_by=change.changed_by,
            changed_at=change.time,
            mode=mode,
            canary_share=share,
            rollout=None if self._rollout is None else self._rollout.published(),
            spend=dict(sorted(self._spend.items())),
        )

    def dump(self) -> dict[str, Any]:
        """Return the state as numbers and names."""
        return {
            "changes": {origin: change.model_dump(mode="json") for origin, change in sorted(self._changes.items())},
            "spend": {scope: spend.model_dump(mode="json") for scope, spend in sorted(self._spend.items())},
            "rollout": None if self._rollout is None else self._rollout.dump(),
        }

    def load(self, fields: Mapping[str, Any]) -> None:
        """Restore a state that :meth:`dump` returned."""
        for change in fields["changes"].values():
            self.change(RoutingChange.model_validate(change))
        self._spend = {scope: Spend.model_validate(spend) for scope, spend in fields["spend"].items()}
        if self._rollout is not None and fields["rollout"] is not None:
            self._rollout.load(fields["rollout"])

    def _effective(self, settings: RoutingSettings) -> tuple[Mode, float]:
        match settings.mode:
            case "active":
                return "active", 1.0
            case "off" | "shadow":
                return settings.mode, 0.0
            case "canary":
                return self._canary(settings)
            case _:
                assert_never(settings.mode)

    def _canary(self, settings: RoutingSettings) -> tuple[Mode, float]:
        stage = RolloutStage.TESTING if self._rollout is None else self._rollout.state.stage
        match stage:
            case RolloutStage.TESTING:
                return "canary", settings.canary_share
            case RolloutStage.ROLLED_BACK:
                return "shadow", 0.0
            case RolloutStage.PROMOTED:
                held = 0.0 if settings.automatic is None else settings.automatic.holdout
                return ("canary", 1.0 - held) if held > 0.0 else ("active", 1.0)
            case _:
                assert_never(stage)

    def _pay(self, scope: str, cost_usd: float | None, now_ms: int) -> None:
        change = self.in_force
        if change is None or change.routing is None:
            return
        for name in {"", scope} & {"", *change.routing.overrides}:
            self._spend[name] = spent(self._spend.get(name, Spend()), max(0, now_ms), cost_usd or 0.0, requests=1)
