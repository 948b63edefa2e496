"""What one policy has learned: the deterministic state behind its snapshots."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from conduit_learner.arms import merged_watch, price_level, price_step, reprice, with_prior
from conduit_learner.drift import Watch, forget, look
from conduit_learner.events import Feedback, Outcome, Selection
from conduit_learner.join import MAX_FEEDBACKS, Decision, OpenDecisions
from conduit_learner.posterior import posteriors
from conduit_learner.regression import BLOCK, AdditiveRegression, fade, fold
from conduit_learner.routing import PolicyRouting
from conduit_learner.signals import SIGNALS, targets
from conduit_policy import Prior
from conduit_policy.algorithms import algorithm, exploration_rule
from conduit_schemas import (
    FRACTION_BITS,
    MAX_ARMS,
    MAX_EVENT_BYTES,
    MAX_SNAPSHOT_BYTES,
    Alarm,
    ArmSnapshot,
    LearningSettings,
    Snapshot,
)

__all__ = ["Arm", "PolicyLearner"]

_INTERCEPT = (1 << FRACTION_BITS).to_bytes(2, "little")
_LEAST_FADING = 0.5
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


@dataclass(slots=True)
class PolicyLearner:
    """One policy's models, counters and open decisions.

    A pure state machine: what it holds follows from the events it was given and the stream time that went
    with them, and from nothing else.
    """

    name: str
    settings: LearningSettings = field(default_factory=LearningSettings)
    offset: int = 0
    """After the latest event of this policy."""
    ticks: int = 0
    """Events learned from. Every :data:`BLOCK` of them the statistics fade a little."""
    selections: int = 0
    outcomes: int = 0
    feedbacks: int = 0
    censored: int = 0
    duplicates: int = 0
    alarms: int = 0
    """Times that a signal of an arm has changed."""
    now_ms: int = 0
    """Stream time of the event being learned from."""
    arms: dict[str, Arm] = field(default_factory=dict)
    open: OpenDecisions = field(default_factory=OpenDecisions)
    routing: PolicyRouting = field(default_factory=PolicyRouting)

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
        self.settings = settings
        if before != after:
            for arm in self.arms.values():
                fresh = self._fresh_models()
                arm.models = {
                    name: fresh[name] if signal.contextual else arm.models[name] for name, signal in SIGNALS.items()
                }
                for row, signal in enumerate(SIGNALS):
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

    def _named(self, arm: str) -> str:
        return (self.settings.renamed or {}).get(arm, arm)

    def add_arm(self, name: str, *, keep: Collection[str] = ()) -> Arm:
        """Add an arm; where there is no room, the one that was a candidate longest ago leaves, never one to keep."""
        if len(self.arms) >= MAX_ARMS:
            oldest = min(self.arms.keys() - set(keep), key=lambda other: (self.arms[other].seen, other))
            del self.arms[oldest]
        models = self._fresh_models()
        arm = self.arms[name] = Arm(models, Watch({signal: model.dimension for signal, model in models.items()}))
        return arm

    def select(self, selection: Selection, decision: Decision) -> bool:
        """Count a selection and open its decision.

        Returns
        -------
        False when the decision is open already, or closed: the selection is a duplicate and changes nothing.
        """
        if self.open.get(selection.decision_id) is not None or selection.decision_id in self.open.closed:
            self.duplicates += 1
            return False
        self.selections += 1
        offset, known = decision.offset, self.arms
        models = selection.models or ("",) * len(selection.arms)
        for given, model in zip(selection.arms, models, strict=True):
            name = self._named(given)
            arm = known.get(name) or self.add_arm(name, keep=[self._named(other) for other in selection.arms])
            arm.seen = offset
            if model:
                arm.model = model
        known[self._named(decision.arm)].selections += 1
        self.open.add(selection.decision_id, decision)
        return True

    def resolve(self, event: Outcome | Feedback, decision: Decision, now_ms: int) -> None:
        """Learn what an event says about an open decision; what was said before changes nothing."""
        if isinstance(event, Feedback):
            who = (event.source, event.key)
            if who in decision.feedbacks or len(decision.feedbacks) >= MAX_FEEDBACKS:
                self.duplicates += 1
                return
            decision.feedbacks += (who,)
            self.feedbacks += 1
        elif decision.has_outcome:
            self.duplicates += 1
            return
        else:
            self.open.settle(decision)
            self.outcomes += 1
        self.routing.observe(event, decision, now_ms)
        values = targets(event)
        if values:
            name = self._named(decision.arm)
            arm = self.arms.get(name)
            if arm is not None:
                if isinstance(event, Feedback):
                    arm.feedbacks += 1
                else:
                    arm.outcomes += 1
                    arm.errors += event.status == "error"
            self.learn(name, self._context(decision), values)

    def close(self, now_ms: int) -> None:
        """Close the decisions whose time is over. Doing it early, late or twice makes no difference."""
        self.now_ms = now_ms
        self.censored += self.open.close(
            opened_before_ms=now_ms - round(self.settings.feedback_window_s * 1000.0),
            keep=self.settings.max_open,
        )

    def snapshot(self, *, partition: int, offset: int, now_ms: int) -> Snapshot:
        """Return what the plugins need to choose; see :meth:`PartitionLearner.snapshot`."""
        self.close(now_ms)
        names = sorted(self._publishable())
        arms = [self.arms[name] for name in names]
        priors, prices = self.settings.priors or {}, self.settings.prices or {}
        beliefs = posteriors(
            {
                signal: [
                    with_prior(signal, arm.models[signal].statistics(), priors.get(name))
                    for name, arm in zip(names, arms, strict=True)
                ]
                for signal in SIGNALS
                if arms
            },
            prior=Prior.of(self.settings),
            levels={"cost": [price_level(prices.get(name)) for name in names]},
        )
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
            By signal, on the grid of :func:`conduit_learner.signals.to_grid`.
        """
        known = self.arms.get(arm)
        if known is not None:
            if context is not None and not context.startswith(_INTERCEPT):
                context = _INTERCEPT + context[len(_INTERCEPT) :]  # whatever the sender wrote
            for signal, value in values.items():
                model = known.models[signal]
                if model.dimension == 1:
                    model.learn_row(_INTERCEPT, value)
                elif context is not None:
                    model.learn_row(context, value)
        self.ticks += 1
        if self.ticks % BLOCK == 0:
            self._end_block()

    def _context(self, decision: Decision) -> bytes | None:
        same = decision.featurizer == self.settings.featurizer
        return decision.context if same and len(decision.context) == 2 * self.settings.dimension else None

    def _end_block(self) -> None:
        """Do what is done every :data:`BLOCK` ticks."""
        fold(model for arm in self.arms.values() for model in arm.models.values())
        self._look_for_changes()
        self._fade()

    def _look_for_changes(self) -> None:
        arms = list(self.arms.values())
        rows = {signal: row for row, signal in enumerate(SIGNALS)}
        prior = Prior.of(self.settings).shared
        for arm, changes in zip(arms, look([(arm.watch, arm.models) for arm in arms], prior=prior), strict=True):
            for change in changes:
                forget(arm.watch, rows[change.signal], arm.models[change.signal], change)
                known = arm.alarms.get(change.signal)
                arm.alarms[change.signal] = Alarm(
                    count=1 if known is None else known.count + 1,
                    time_ms=self.now_ms,
                    before=change.before,
                    after=change.after,
                    observations=change.observations,
                )
                self.alarms += 1

    def _fade(self) -> None:
        remembered = self.settings.window_size * len(self.arms)
        factor = max(_LEAST_FADING, 1.0 - BLOCK / max(remembered, BLOCK))
        fade([model for arm in self.arms.values() for model in arm.models.values()], factor)
        for arm in self.arms.values():
            arm.watch.fade(factor)

    def _fresh_models(self) -> dict[str, AdditiveRegression]:
        contextual = algorithm(self.settings).contextual
        return {
            name: AdditiveRegression.of_dimension(
                self.settings.dimension if contextual and signal.contextual else 1, fixed_point=True
            )
            for name, signal in SIGNALS.items()
        }

    def _publishable(self) -> list[str]:
        """Return the arms that fit into one record; those unseen for longest are left out."""
        vectors = len(SIGNALS) * 2 * (6 * self.settings.dimension + 4)
        space = MAX_SNAPSHOT_BYTES - 2 * MAX_EVENT_BYTES - _OVERHEAD
        fitting = []
        for name in sorted(self.arms, key=lambda name: (-self.arms[name].seen, name)):
            space -= vectors + _OVERHEAD + 6 * (len(name) + len(self.arms[name].model))
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
