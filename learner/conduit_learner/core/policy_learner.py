"""What one policy has learned: the deterministic state behind its snapshots."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import assert_never

from conduit_learner.core.arm_settings import merged_watch, price_level, price_step, reprice, with_prior
from conduit_learner.core.events import AboutDecision, FeedbackEvent, OutcomeEvent, SelectionEvent
from conduit_learner.core.join import MAX_FEEDBACKS, OpenDecision, OpenDecisions
from conduit_learner.core.policy_routing import PolicyRouting
from conduit_learner.core.targets import targets
from conduit_learner.models.arm_sums import ArmSums, Observation
from conduit_learner.models.drift import Watch, detect_changes, rebase
from conduit_learner.models.posterior import posteriors
from conduit_learner.models.regression import BLOCK, AdditiveRegression, Statistics, fold
from conduit_policy import ROWS, SIGNALS, Prior, Signal
from conduit_policy.algorithms import algorithm, exploration_rule
from conduit_policy.vectors import INTERCEPT, context_bytes
from conduit_schemas import (
    MAX_ARMS,
    MAX_EVENT_BYTES,
    MAX_SNAPSHOT_BYTES,
    Alarm,
    ArmSnapshot,
    LearningSettings,
    OutcomeStatus,
    Snapshot,
)

__all__ = ["Arm", "PolicyLearner"]

_MIN_FADING = 0.5
"""A block never fades to less than this, however small the window."""


@dataclass(slots=True)
class Arm:
    """What is known of one deployment."""

    models: dict[str, AdditiveRegression]
    """By signal."""
    watch: Watch
    alarms: dict[str, Alarm] = field(default_factory=dict)
    """By signal, the latest."""
    model: str = ""
    """Name of the language model, for people."""
    seen: int = 0
    """Offset of the latest selection that had it among its candidates."""
    selections: int = 0
    outcomes: int = 0
    errors: int = 0
    feedbacks: int = 0


class PolicyLearner:
    """One policy's models, counters and open decisions.

    A pure state machine: what it holds follows from the events it was given and the stream time that went
    with them, and from nothing else.

    Parameters
    ----------
    name
        The policy's name.
    settings
        How it learns.
    """

    def __init__(self, name: str, settings: LearningSettings | None = None) -> None:
        self.name = name
        self.key = name.encode()
        """The key of its events."""
        self.offset = 0
        """After the latest event of this policy."""
        self.ticks = 0
        """Events learned from. Every :data:`BLOCK` of them the statistics fade a little."""
        self.selections = 0
        self.outcomes = 0
        self.feedbacks = 0
        self.censored = 0
        self.duplicates = 0
        self.alarms = 0
        """Times that a signal of an arm has changed."""
        self.now_ms = 0
        """Stream time of the event being learned from."""
        self.open = OpenDecisions()
        self.routing = PolicyRouting()
        self._arms: dict[str, Arm] = {}
        self._arm_sums = ArmSums({})
        self._is_looked_at = True
        """Whether arms may have changed without the bank since the last block ended."""
        self._waiting: list[Observation] = []
        """What was learned since the last block ended: only noted, until the block ends or somebody looks."""
        self._candidates: tuple[tuple[str, ...], tuple[str, ...], list[Arm]] = (), (), []
        """The latest selection's arms and models, and the arms' own state, in which is not noted yet ..."""
        self._seen_at = 0
        """... that they were seen here."""
        self._follow(settings or LearningSettings())

    def _follow(self, settings: LearningSettings) -> None:
        self.settings = settings
        # Asked at every event, so as plain attributes.
        self._renamed = settings.renamed or {}
        self._featurizer, self._context_bytes = settings.featurizer, context_bytes(settings.dimension)
        self._window_ms, self._max_open = round(settings.feedback_window_s * 1000.0), settings.max_open

    @property
    def arms(self) -> dict[str, Arm]:
        """What is known of every deployment, by its name. Whoever asks may change it."""
        self._settle()
        return self._arms

    @arms.setter
    def arms(self, arms: dict[str, Arm]) -> None:
        self._settle()
        self._arms = arms

    def _settle(self) -> None:
        """Hand over to the arms what is only noted so far."""
        self._is_looked_at = True
        self._note_seen()
        self._candidates = (), (), []
        for name, context, values in self._waiting:
            for model, value in zip(self._arms[name].models.values(), values, strict=True):
                if math.isnan(value):
                    continue
                if model.dimension == 1:
                    model.learn_row(INTERCEPT, value)
                elif context is not None:
                    model.learn_row(INTERCEPT + context[len(INTERCEPT) :], value)  # whatever the sender wrote
        self._waiting.clear()

    def _note_seen(self) -> None:
        for arm in self._candidates[2]:
            arm.seen = self._seen_at

    def change(self, settings: LearningSettings) -> None:
        """Learn under other settings from here on.

        Statistics of contexts start afresh when contexts begin to mean something else; those without
        context, and everything counted, stay.

        Raises
        ------
        ConfigurationError
            When the settings name an algorithm or a parameter that does not exist; nothing changes.
        """
        charged = self.settings.prices or {}
        if charged:  # a process tells the prices of the deployments it has seen; of the others they stay
            prices = {**{arm: price for arm, price in charged.items() if arm in self.arms}, **(settings.prices or {})}
            settings = settings.model_copy(update={"prices": dict(sorted(prices.items())[:MAX_ARMS]) or None})
        before, after = _contexts(self.settings), _contexts(settings)
        if settings == self.settings:
            return
        arms = self.arms
        self._follow(settings)
        if before != after:
            for arm in arms.values():
                fresh = self._fresh_models()
                arm.models = {
                    name: fresh[name] if signal.is_contextual else arm.models[name] for name, signal in SIGNALS.items()
                }
                for signal, row in ROWS.items():
                    if arm.models[signal] is fresh[signal]:
                        arm.watch.reset(row, fresh[signal].dimension)
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
        """Let an arm go on under another name; where there is one of that name already, both become one."""
        arm = self.arms.pop(old, None)
        if arm is None:
            return
        known = self.arms.get(new)
        if known is None:
            self.arms[new] = arm
            return
        for signal, model in known.models.items():
            model.merge(arm.models[signal])
        known.watch = merged_watch(known.models)
        known.seen = max(known.seen, arm.seen)
        for counter in ("selections", "outcomes", "errors", "feedbacks"):
            setattr(known, counter, getattr(known, counter) + getattr(arm, counter))

    def add_arm(self, name: str, *, keep: Collection[str] = ()) -> Arm:
        """Add an arm; where there is no room, the one that was a candidate longest ago leaves, never one to keep."""
        arms = self.arms
        if len(arms) >= MAX_ARMS:
            oldest = min(arms.keys() - set(keep), key=lambda other: (arms[other].seen, other))
            del arms[oldest]
        models = self._fresh_models()
        arm = arms[name] = Arm(models, Watch({signal: model.dimension for signal, model in models.items()}))
        return arm

    def select(self, selection: SelectionEvent, decision: OpenDecision) -> bool:
        """Count a selection and open its decision.

        Returns
        -------
        False when the decision is open already, or closed: the selection is a duplicate and changes nothing.
        """
        decision_id = selection.decision_id
        if decision_id in self.open.decisions or decision_id in self.open.closed:
            self.duplicates += 1
            return False
        self.selections += 1
        arms, models, _ = self._candidates
        if selection.arms != arms or selection.models != models:
            self._see(selection, decision.offset)
        self._seen_at = decision.offset
        self._arms[self._renamed.get(decision.arm, decision.arm)].selections += 1
        self.open.add(decision_id, decision)
        return True

    def _see(self, selection: SelectionEvent, offset: int) -> None:
        """Note who the candidates are, from now on until others are."""
        self._note_seen()
        names = [self._renamed.get(given, given) for given in selection.arms]
        seen = []
        for name, model in zip(names, selection.models or ("",) * len(names), strict=True):
            arm = self._arms.get(name) or self.add_arm(name, keep=names)
            arm.seen = offset
            if model:
                arm.model = model
            seen.append(arm)
        self._candidates = selection.arms, selection.models, seen

    def resolve(self, event: AboutDecision, decision: OpenDecision, now_ms: int) -> None:
        """Learn what an event says about an open decision; what was said before changes nothing."""
        name = self._renamed.get(decision.arm, decision.arm)
        arm = self._arms.get(name)
        match event:
            case OutcomeEvent():
                if decision.has_outcome:
                    self.duplicates += 1
                    return
                self.open.settle(decision)
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
        """Return what a decision's request was like; None when the models do not understand it."""
        same = decision.featurizer == self._featurizer and len(decision.context) == self._context_bytes
        return decision.context if same else None

    def close(self, now_ms: int) -> None:
        """Close the decisions whose time is over. Doing it early, late or twice makes no difference."""
        self.now_ms = now_ms
        # Asked at every event, and nearly always there is nothing to do.
        decisions = self.open
        if decisions.oldest_ms < now_ms - self._window_ms or len(decisions.decisions) > self._max_open:
            self.censored += decisions.close(opened_before_ms=now_ms - self._window_ms, keep=self._max_open)

    def snapshot(self, *, partition: int, offset: int, now_ms: int) -> Snapshot:
        """Return what the plugins need to choose; see :meth:`PartitionLearner.snapshot`."""
        self.close(now_ms)
        if self._is_looked_at:
            self._settle()
        self._note_seen()
        names = sorted(_publishable(self._arms, self.settings.dimension))
        arms = [self._arms[name] for name in names]
        priors, prices = self.settings.priors or {}, self.settings.prices or {}
        # The block goes on as if nobody had looked.
        with self._arm_sums.ahead(self._waiting):
            statistics = {
                signal: [
                    with_prior(signal, arm.models[signal].statistics(), priors.get(name))
                    for name, arm in zip(names, arms, strict=True)
                ]
                for signal in SIGNALS
                if arms
            }
        statistics = {signal: column for signal, column in statistics.items() if _is_published(SIGNALS[signal], column)}
        levels = {"cost": [price_level(prices.get(name)) for name in names]}
        beliefs = posteriors(statistics, prior=Prior.of(self.settings), levels=levels)
        return Snapshot(
            policy=self.name,
            partition=partition,
            offset=offset,
            stream_time_ms=now_ms,
            settings=self.settings,
            rule=exploration_rule(self.settings),
            arms={
                name: ArmSnapshot(
                    model=arm.model,
                    selections=arm.selections,
                    outcomes=arm.outcomes,
                    errors=arm.errors,
                    feedbacks=arm.feedbacks,
                    alarms=arm.alarms or None,
                    signals={signal: column[index] for signal, column in beliefs.items()},
                )
                for index, (name, arm) in enumerate(zip(names, arms, strict=True))
            },
            selections=self.selections,
            outcomes=self.outcomes,
            feedbacks=self.feedbacks,
            censored=self.censored,
            open_decisions=self.open.awaiting,
            routing=self.routing.published(),
        ).sealed()

    def learn(self, arm: str, context: bytes | None, values: Mapping[str, float]) -> None:
        """Learn one number per signal about an arm, and let time tick.

        Parameters
        ----------
        arm
            An arm that is no longer known learns nothing.
        context
            As events carry it, of the settings' dimension; None when it is not one that the models understand.
        values
            By signal, on the grid of :func:`conduit_learner.core.targets.to_grid`.
        """
        if arm in self._arms:
            get = values.get
            self._waiting.append((arm, context, [get(signal, math.nan) for signal in SIGNALS]))
        self.ticks += 1
        if self.ticks % BLOCK == 0:
            self._end_block()

    def _end_block(self) -> None:
        """Do what is done every :data:`BLOCK` ticks."""
        if self._is_looked_at:
            # The block began without the bank, and somebody may have changed the arms.
            models = {name: arm.models for name, arm in self.arms.items()}
            fold(model for of_arm in models.values() for model in of_arm.values())
            if not self._arm_sums.holds(models):
                self._arm_sums = ArmSums(models)
            self._is_looked_at = False
        elif self._waiting:
            self._arm_sums.learn(self._waiting)
            self._waiting.clear()
        self._look_for_changes()
        remembered = self.settings.window_size * len(self._arms)
        factor = max(_MIN_FADING, 1.0 - BLOCK / max(remembered, BLOCK))
        self._arm_sums.fade(factor)
        for arm in self._arms.values():
            arm.watch.fade(factor)
            arm.watch.fade_failing(arm.models["success"], BLOCK)

    def _look_for_changes(self) -> None:
        arms = list(self._arms.values())
        watched = [(arm.watch, arm.models) for arm in arms]
        found = detect_changes(watched, self._arm_sums.sums, prior=Prior.of(self.settings).shared) if arms else []
        for arm, changes in zip(arms, found, strict=True):
            for change in changes:
                rebase(arm.watch, ROWS[change.signal], arm.models[change.signal], change)
                known = arm.alarms.get(change.signal)
                arm.alarms[change.signal] = Alarm(
                    count=1 if known is None else known.count + 1,
                    time_ms=self.now_ms,
                    before=change.before,
                    after=change.after,
                    observations=change.observations,
                )
                self.alarms += 1

    def _fresh_models(self) -> dict[str, AdditiveRegression]:
        contextual = algorithm(self.settings).contextual
        return {
            name: AdditiveRegression.of_dimension(
                self.settings.dimension if contextual and signal.is_contextual else 1, fixed_point=True
            )
            for name, signal in SIGNALS.items()
        }


def _is_published(signal: Signal, arms: Sequence[Statistics]) -> bool:
    return not signal.is_optional or any(arm.observations > 0.0 for arm in arms)


def _publishable(arms: Mapping[str, Arm], dimension: int) -> list[str]:
    """Return the arms that fit into one record; those unseen for longest are left out."""
    vectors = len(SIGNALS) * 2 * (6 * dimension + 4)
    space = MAX_SNAPSHOT_BYTES - 2 * MAX_EVENT_BYTES - _OVERHEAD
    fitting = []
    for name in sorted(arms, key=lambda name: (-arms[name].seen, name)):
        space -= vectors + _OVERHEAD + 6 * (len(name) + len(arms[name].model))
        if space < 0:
            break
        fitting.append(name)
    return fitting


_OVERHEAD = 1_500
"""Bytes of a snapshot, and of one of its arms, without vectors, texts and settings; generous. A character
takes up to 6 bytes, a component 16/3, and settings and routing came in one event each."""


def _contexts(settings: LearningSettings) -> tuple[str, int] | None:
    """Return what the contexts mean that are learned from; None when none are."""
    return (settings.featurizer, settings.dimension) if algorithm(settings).contextual else None
