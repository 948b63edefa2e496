"""The learner of one policy: the deterministic state behind its snapshots."""

import math
from collections.abc import Collection, Mapping
from typing import assert_never

from conduit_learner.core.arm import Arm
from conduit_learner.core.arm_settings import price_step, reprice
from conduit_learner.core.arm_snapshots import arm_snapshots
from conduit_learner.core.events import AboutDecision, FeedbackEvent, OutcomeEvent, SelectionEvent
from conduit_learner.core.join import MAX_FEEDBACKS, OpenDecision, OpenDecisions
from conduit_learner.core.policy_routing import PolicyRouting
from conduit_learner.core.targets import targets
from conduit_learner.models.arm_sums import ArmSums, Observation
from conduit_learner.models.drift import detect_changes
from conduit_learner.models.regression import BLOCK, fold
from conduit_policy import SIGNALS, Prior
from conduit_policy.algorithms import algorithm, exploration_rule
from conduit_policy.vectors import context_bytes
from conduit_schemas import MAX_ARMS, LearningSettings, OutcomeStatus, Snapshot

__all__ = ["PolicyLearner"]

_MIN_FADING = 0.5
"""The smallest fading factor of a block, however small the window."""


class PolicyLearner:
    """One policy's models, counters and open decisions.

    A pure state machine: its state depends only on the events it was given and on their stream times.

    Parameters
    ----------
    name
        The policy's name.
    settings
        How the policy learns.
    """

    def __init__(self, name: str, settings: LearningSettings | None = None) -> None:
        self.name = name
        self.key = name.encode()
        """The key of its events."""
        self.offset = 0
        """The offset after the latest event of this policy."""
        self.ticks = 0
        """Number of events that were learned. After every :data:`BLOCK` of them, the statistics fade a little."""
        self.selections = 0
        self.outcomes = 0
        self.feedbacks = 0
        self.censored = 0
        self.duplicates = 0
        self.alarms = 0
        """Number of changes detected in signals of arms."""
        self.now_ms = 0
        """Stream time of the current event."""
        self.open = OpenDecisions()
        self.routing = PolicyRouting()
        self._arms: dict[str, Arm] = {}
        self._arm_sums = ArmSums({})
        self._may_have_changed = True
        """Whether the arms may have been changed outside ``_arm_sums`` since the last block ended."""
        self._queued: list[Observation] = []
        """Observations since the last block ended, not added to the sums until it ends or the arms are read."""
        self._eligible: tuple[tuple[str, ...], tuple[str, ...], list[Arm]] = (), (), []
        """The latest selection's arms, their models, and their states. ``Arm.seen`` is not updated yet ..."""
        self._seen_at = 0
        """... to this offset."""
        self._use_settings(settings or LearningSettings())

    def _use_settings(self, settings: LearningSettings) -> None:
        self.settings = settings
        # Used for every event, so they are plain attributes.
        self._renamed = settings.renamed or {}
        self._featurizer, self._context_bytes = settings.featurizer, context_bytes(settings.dimension)
        self._window_ms, self._max_open = round(settings.feedback_window_s * 1000.0), settings.max_open

    @property
    def arms(self) -> dict[str, Arm]:
        """What is known about every deployment, by its id. The caller may change it."""
        self._apply_queued()
        return self._arms

    @arms.setter
    def arms(self, arms: dict[str, Arm]) -> None:
        self._apply_queued()
        self._arms = arms

    def _apply_queued(self) -> None:
        """Bring the arms up to date: apply queued observations and the offset of the latest selection."""
        self._may_have_changed = True
        self._update_seen()
        self._eligible = (), (), []
        for name, context, values in self._queued:
            self._arms[name].learn(context, values)
        self._queued.clear()

    def _update_seen(self) -> None:
        for arm in self._eligible[2]:
            arm.seen = self._seen_at

    def change(self, settings: LearningSettings) -> None:
        """Use other settings from here on.

        Statistics with context start afresh if contexts get another meaning. Those without context, and all counters,
        are kept.

        Raises
        ------
        ConfigurationError
            When the settings name an algorithm or a parameter that does not exist. Nothing changes.
        """
        charged = self.settings.prices or {}
        if charged:  # a process reports only the prices of deployments that it has seen; keep the others
            prices = {**{arm: price for arm, price in charged.items() if arm in self.arms}, **(settings.prices or {})}
            settings = settings.model_copy(update={"prices": dict(sorted(prices.items())[:MAX_ARMS]) or None})
        before, after = _contexts(self.settings), _contexts(settings)
        if settings == self.settings:
            return
        arms = self.arms
        self._use_settings(settings)
        if before != after:
            for arm in arms.values():
                arm.forget_contexts(settings)
        for old, new in sorted((settings.renamed or {}).items()):
            self._rename(old, new)
        for name in sorted((settings.priors or {}).keys() - self.arms.keys()):
            self.add_arm(name, keep=settings.priors or ())
        for name, price in sorted((settings.prices or {}).items()):
            arm_ = self.arms.get(name)
            step = price_step(charged.get(name), price)
            if arm_ is not None and step:
                fold(arm_.models.values())
                reprice(arm_.models["cost"], arm_.watch, step)

    def _rename(self, old: str, new: str) -> None:
        """Rename an arm. If there is already an arm of the new name, merge both."""
        arm = self.arms.pop(old, None)
        if arm is None:
            return
        known = self.arms.get(new)
        if known is None:
            self.arms[new] = arm
            return
        known.merge(arm)

    def add_arm(self, name: str, *, keep: Collection[str] = ()) -> Arm:
        """Add an arm. If there is no room, remove the one that was eligible longest ago, except those in ``keep``."""
        arms = self.arms
        if len(arms) >= MAX_ARMS:
            oldest = min(arms.keys() - set(keep), key=lambda other: (arms[other].seen, other))
            del arms[oldest]
        arm = arms[name] = Arm.of(self.settings)
        return arm

    def select(self, selection: SelectionEvent, decision: OpenDecision) -> bool:
        """Count a selection and open its decision.

        Returns
        -------
        False when the decision is already open or closed. The selection is then a duplicate and changes nothing.
        """
        decision_id = selection.decision_id
        if decision_id in self.open.decisions or decision_id in self.open.closed:
            self.duplicates += 1
            return False
        self.selections += 1
        arms, models, _ = self._eligible
        if selection.arms != arms or selection.models != models:
            self._update_eligible(selection, decision.offset)
        self._seen_at = decision.offset
        self._arms[self._renamed.get(decision.arm, decision.arm)].selections += 1
        self.open.add(decision_id, decision)
        return True

    def _update_eligible(self, selection: SelectionEvent, offset: int) -> None:
        """Update the eligible arms when they differ from those of the selection before."""
        self._update_seen()
        names = [self._renamed.get(given, given) for given in selection.arms]
        seen = []
        for name, model in zip(names, selection.models or ("",) * len(names), strict=True):
            arm = self._arms.get(name) or self.add_arm(name, keep=names)
            arm.seen = offset
            if model:
                arm.model = model
            seen.append(arm)
        self._eligible = selection.arms, selection.models, seen

    def resolve(self, event: AboutDecision, decision: OpenDecision, now_ms: int) -> None:
        """Learn from an outcome or feedback of an open decision. A duplicate changes nothing."""
        name = self._renamed.get(decision.arm, decision.arm)
        arm = self._arms.get(name)
        match event:
            case OutcomeEvent():
                if decision.has_outcome:
                    self.duplicates += 1
                    return
                self.open.add_outcome(decision)
                self.outcomes += 1
                if self.routing.in_force is not None:
                    self.routing.observe_outcome(event, decision, now_ms)
                values = targets(event)
                if not values:
                    return
                if arm is not None:
                    arm.outcomes += 1
                    arm.errors += event.status == OutcomeStatus.ERROR
            case FeedbackEvent():
                who = (event.source, event.key)
                if who in decision.feedbacks or len(decision.feedbacks) >= MAX_FEEDBACKS:
                    self.duplicates += 1
                    return
                decision.feedbacks += (who,)
                self.feedbacks += 1
                self.routing.observe_feedback(event, decision, now_ms)
                values = targets(event)
                if arm is not None:
                    arm.feedbacks += 1
            case _:
                assert_never(event)
        self.learn(name, self._context(decision), values)

    def _context(self, decision: OpenDecision) -> bytes | None:
        """Return a decision's context. None if it does not fit the current models."""
        same = decision.featurizer == self._featurizer and len(decision.context) == self._context_bytes
        return decision.context if same else None

    def close(self, now_ms: int) -> None:
        """Close the decisions whose feedback window is over. Calling this early, late or twice makes no difference."""
        self.now_ms = now_ms
        # This runs for every event, and there is almost never anything to do.
        decisions = self.open
        if decisions.oldest_ms < now_ms - self._window_ms or len(decisions.decisions) > self._max_open:
            self.censored += decisions.close(opened_before_ms=now_ms - self._window_ms, keep=self._max_open)

    def snapshot(self, *, partition: int, offset: int, now_ms: int) -> Snapshot:
        """Return the policy's snapshot; see :meth:`PartitionLearner.snapshot`."""
        self.close(now_ms)
        if self._may_have_changed:
            self._apply_queued()
        self._update_seen()
        # Taking a snapshot does not change the block.
        with self._arm_sums.including(self._queued):
            arms = arm_snapshots(self._arms, self.settings)
        return Snapshot(
            policy=self.name,
            partition=partition,
            offset=offset,
            stream_time_ms=now_ms,
            settings=self.settings,
            rule=exploration_rule(self.settings),
            arms=arms,
            selections=self.selections,
            outcomes=self.outcomes,
            feedbacks=self.feedbacks,
            censored=self.censored,
            open_decisions=self.open.awaiting,
            routing=self.routing.published(),
        ).sealed()

    def learn(self, arm: str, context: bytes | None, values: Mapping[str, float]) -> None:
        """Learn one number per signal about an arm, and advance the clock by one tick.

        Parameters
        ----------
        arm
            Its name. If the arm is no longer known, nothing is learned.
        context
            Encoded as in events, of the settings' dimension. None if it does not fit the current models.
        values
            The targets by signal, on the grid of :func:`conduit_learner.core.targets.to_grid`.
        """
        if arm in self._arms:
            get = values.get
            self._queued.append((arm, context, [get(signal, math.nan) for signal in SIGNALS]))
        self.ticks += 1
        if self.ticks % BLOCK == 0:
            self._end_block()

    def _end_block(self) -> None:
        """Add the block to the sums, detect changes, and fade. Runs every :data:`BLOCK` ticks."""
        if self._may_have_changed:
            # The arms may have been changed during the block, so the sums may no longer be theirs.
            models = {name: arm.models for name, arm in self.arms.items()}
            fold(model for of_arm in models.values() for model in of_arm.values())
            if not self._arm_sums.holds(models):
                self._arm_sums = ArmSums(models)
            self._may_have_changed = False
        elif self._queued:
            self._arm_sums.learn(self._queued)
            self._queued.clear()
        self._detect_changes()
        remembered = self.settings.window_size * len(self._arms)
        factor = max(_MIN_FADING, 1.0 - BLOCK / max(remembered, BLOCK))
        self._arm_sums.fade(factor)
        for arm in self._arms.values():
            arm.watch.fade(factor)
            arm.watch.fade_failing(arm.models["success"], BLOCK)

    def _detect_changes(self) -> None:
        arms = list(self._arms.values())
        watched = [(arm.watch, arm.models) for arm in arms]
        found = detect_changes(watched, self._arm_sums.sums, prior=Prior.of(self.settings).shared) if arms else []
        for arm, changes in zip(arms, found, strict=True):
            for change in changes:
                arm.record_change(change, self.now_ms)
                self.alarms += 1


def _contexts(settings: LearningSettings) -> tuple[str, int] | None:
    """Return what identifies the meaning of contexts. None if the algorithm does not use them."""
    return (settings.featurizer, settings.dimension) if algorithm(settings).contextual else None
