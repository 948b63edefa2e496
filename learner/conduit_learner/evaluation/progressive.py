"""Evaluate a candidate policy on the traffic that another policy logged, in the order in which it was logged."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import assert_never

import numpy as np

from conduit_learner.core.events import AboutDecision, FeedbackEvent, OutcomeEvent, SelectionEvent, decode_event
from conduit_learner.core.join import OpenDecision
from conduit_learner.core.partition_learner import PartitionLearner
from conduit_learner.core.policy_learner import PolicyLearner
from conduit_learner.core.targets import reported
from conduit_learner.evaluation.estimators import Estimate, estimates, snips
from conduit_learner.evaluation.logged_decisions import LoggedDecisions
from conduit_learner.evaluation.measures import BOUNDS, JoinedDecision, measure
from conduit_learner.evaluation.reward_model import ridge_predictions
from conduit_log import StoredMessage
from conduit_policy import Beliefs, Constraints, Context, Objective, Prior, choose, pack_context, unpack_context
from conduit_policy.algorithms import algorithm
from conduit_policy.vectors import UNIT, context_bytes
from conduit_schemas import ConfigurationError, LearningSettings, RecordError
from conduit_schemas.reasons import NotEvaluated

__all__ = ["Evaluation", "evaluate"]

_REWARD_STIFFNESS = 30.0
"""Prior precision of the doubly robust estimate's reward model, in units of that of an arm's intercept."""


@dataclass(frozen=True)
class Evaluation:
    """A candidate's value, estimated from another policy's log."""

    policy: str
    decisions: int
    """Number of logged decisions that the estimates are based on."""
    left_out: Mapping[NotEvaluated, int]
    """Number of decisions that could not be used, by reason."""
    logged: Mapping[str, Estimate]
    """What the logging policy itself earned, by measure, with the same weights for missing feedback."""
    estimates: Mapping[str, tuple[Estimate, ...]]
    """Estimates by measure (see :data:`~conduit_learner.evaluation.measures.MEASURES`); report the first of each."""
    warnings: tuple[str, ...]
    """Sentences on what was assumed or left out; every estimate adds its own."""


def evaluate(
    messages: Iterable[StoredMessage],
    policy: str,
    *,
    settings: LearningSettings | None = None,
    objective: Objective | None = None,
    features: Collection[int] | None = None,
    alpha: float = 0.05,
) -> Evaluation:
    """Estimate what a candidate would have earned on one policy's logged decisions.

    The candidate learns from the log as the learner does, with the same core and the same joins. At every logged
    decision it gives its probabilities, based on exactly the part of the log that the logging policy's snapshot
    covered, so it never knows the outcome that it is scored with. It learns from the logging policy's choices, not
    from its own. If the two differ much, it would in reality have learned a little more about the arms that it prefers.

    Parameters
    ----------
    messages
        The policy's partition in offset order, from its beginning; other policies' messages are ignored. It is read
        twice, so a plain iterator is copied into memory.
    policy
        Name of the policy.
    settings
        How the candidate learns and explores; by default as logged. The featurizer must be the logged one, because
        the log holds features but no prompts.
    objective
        The candidate's objective, which also defines utility; by default the objective of each logged decision.
    features
        Components of the logged contexts that the candidate uses, in addition to the intercept (0); by default all.
    alpha
        Error probability of the intervals.

    Raises
    ------
    ConfigurationError
        When no decision can be used, when the settings are invalid, or when the messages span several partitions.

    Examples
    --------
    >>> from conduit_schemas import Feedback, Selection, encode
    >>> events = []
    >>> for n, arm in enumerate([0, 1] * 50):
    ...     events += [Selection(policy="p", time=n, decision_id=f"d{n}", arms=("a", "b"), chosen=arm,
    ...                          probabilities=(0.5, 0.5), snapshot_version=0, featurizer="text64-v2",
    ...                          context=bytes(128)),
    ...                Feedback(policy="p", time=n, decision_id=f"d{n}", quality=0.2 + 0.6 * arm)]
    >>> log = [StoredMessage(0, offset, offset, b"p", encode(event)) for offset, event in enumerate(events)]
    >>> result = evaluate(log, "p", settings=LearningSettings(algorithm="uniform"))
    >>> round(result.estimates["quality"][0].value, 3)
    0.5
    """
    if settings is not None:
        algorithm(settings)
    if isinstance(messages, Iterator):
        messages = list(messages)
    last_use = _last_uses(messages, policy)
    candidate = _Candidate(policy, settings, objective, None if features is None else frozenset(features) | {0})
    final = _replay(messages, candidate, last_use)
    rows = candidate.comparable_rows()
    if not rows:
        reasons = " ".join(candidate.left_out_in_words()) or "there are none"
        raise ConfigurationError(f"no decision of policy {policy!r} can be used for an evaluation: {reasons}")
    return _estimate(candidate, rows, final, alpha)


class _Candidate(PolicyLearner):
    """A policy that learns from another policy's choices and records what it would have chosen each time.

    Parameters
    ----------
    name, settings
        See :class:`PolicyLearner`; given settings apply regardless of the settings in the log.
    objective
        The candidate's objective; None for the objective of each decision.
    features
        Components of the context that the candidate uses; None for all.
    """

    def __init__(
        self,
        name: str,
        settings: LearningSettings | None,
        objective: Objective | None,
        features: frozenset[int] | None,
    ) -> None:
        super().__init__(name, settings)
        self.objective = objective
        self.pinned = settings is not None
        self.features = features
        self.beliefs: dict[int, Beliefs] = {}
        """The candidate's beliefs by offset, kept until no later decision needs them."""
        self.rows: dict[int, JoinedDecision] = {}
        """The usable decisions, by the selection's offset."""
        self.left_out = Counter[NotEvaluated]()
        self.other_features: set[str] = set()
        """The kinds of features that the candidate cannot use, in words."""

    def change(self, settings: LearningSettings) -> None:
        if not self.pinned:
            super().change(settings)

    def select(self, selection: SelectionEvent, decision: OpenDecision) -> bool:
        if not super().select(selection, decision):
            return False
        beliefs = self.beliefs[_version(selection, decision.offset)]
        wanted = beliefs.snapshot.settings
        objective = Objective.of_log(selection.objective) if self.objective is None else self.objective
        if selection.probabilities is None:
            self.left_out[NotEvaluated.BY_LITELLM] += 1
        elif (selection.featurizer, len(selection.context)) != (wanted.featurizer, context_bytes(wanted.dimension)):
            self.left_out[NotEvaluated.OTHER_FEATURES] += 1
            self.other_features.add(_features(len(unpack_context(selection.context)), selection.featurizer))
        elif objective is None:
            self.left_out[NotEvaluated.INVALID_OBJECTIVE] += 1
        else:
            context = unpack_context(selection.context)
            choice = choose(
                beliefs,
                self._seen(context),
                selection.arms,
                objective=objective,
                decision_id=selection.decision_id,
                constraints=Constraints.of_log(selection.constraints),
            )
            self.rows[decision.offset] = JoinedDecision(
                selection.arms, selection.chosen, selection.probabilities, choice.probabilities, context, objective
            )
        return True

    def resolve(self, event: AboutDecision, decision: OpenDecision, now_ms: int) -> None:
        duplicates = self.duplicates
        super().resolve(event, decision, now_ms)
        row = self.rows.get(decision.offset)
        if row is not None and self.duplicates == duplicates:
            match event:
                case OutcomeEvent():
                    row.status, row.amounts = event.status, reported(event)
                case FeedbackEvent():
                    if event.signal == "quality":
                        row.qualities.append(event.quality)
                case _:
                    assert_never(event)

    def _context(self, decision: OpenDecision) -> bytes | None:
        context = super()._context(decision)
        return context if context is None else pack_context(self._seen(unpack_context(context)))

    def _seen(self, context: Context) -> Context:
        """Return a context with zeros in the components that the candidate does not use."""
        if self.features is None:
            return context
        kept: Context = np.where(np.isin(np.arange(len(context)), list(self.features)), context, 0).astype(np.int16)
        return kept

    def comparable_rows(self) -> list[JoinedDecision]:
        """Return the decisions whose contexts have the final dimension, because one reward model must fit them all."""
        rows = [row for row in self.rows.values() if len(row.context) == self.settings.dimension]
        if others := len(self.rows) - len(rows):
            self.left_out[NotEvaluated.EARLIER_FEATURES] += others
        return rows

    def left_out_in_words(self) -> Iterator[str]:
        """Yield a sentence or two for each reason for which decisions were left out."""
        for reason, count in self.left_out.items():
            said = f"{count:,} decisions were left out. {reason.about}"
            if reason is NotEvaluated.OTHER_FEATURES:
                own = _features(self.settings.dimension, self.settings.featurizer)
                said += f" They hold {' or '.join(sorted(self.other_features))}, not {own}."
            yield said


def _features(count: int, featurizer: str) -> str:
    return f"{count} features of {featurizer!r}"


def _version(selection: SelectionEvent, offset: int) -> int:
    """Return the offset up to which the logging policy knew the log; at most the decision's own offset."""
    return offset if selection.snapshot_version is None else min(selection.snapshot_version, offset)


def _last_uses(messages: Iterable[StoredMessage], policy: str) -> dict[int, int]:
    """Return every snapshot version that a decision was made with, and the offset of the last such decision."""
    key = policy.encode()
    last_use: dict[int, int] = {}
    for message in messages:
        if message.key == key:
            try:
                event = decode_event(message.value)
            except RecordError:
                continue  # the core refuses it as well
            if isinstance(event, SelectionEvent):
                last_use[_version(event, message.offset)] = message.offset
    return last_use


def _replay(messages: Iterable[StoredMessage], candidate: _Candidate, last_use: Mapping[int, int]) -> Beliefs:
    """Let the candidate learn from the log, and return its final beliefs."""
    key = candidate.name.encode()
    versions = sorted(last_use, reverse=True)
    learner: PartitionLearner | None = None
    for message in messages:
        if message.key != key:
            continue
        if learner is None:
            learner = PartitionLearner(message.partition)
            learner.policies[candidate.name] = candidate
        if message.partition != learner.partition:
            raise ConfigurationError(
                f"policy {candidate.name!r} has messages in partition {learner.partition} and in {message.partition}: "
                "evaluate one partition at a time"
            )
        while versions and versions[-1] <= message.offset:
            candidate.beliefs[versions.pop()] = Beliefs(learner.snapshot(candidate.name))
        learner.apply(message)
        for version in [version for version in candidate.beliefs if last_use[version] <= message.offset]:
            del candidate.beliefs[version]
    learner = learner or PartitionLearner(0)
    return Beliefs(candidate.snapshot(partition=learner.partition, offset=learner.offset, now_ms=learner.now_ms))


def _estimate(candidate: _Candidate, rows: list[JoinedDecision], final: Beliefs, alpha: float) -> Evaluation:
    arms = sorted({arm for row in rows for arm in row.arms})
    column = {arm: index for index, arm in enumerate(arms)}
    count = len(rows)
    logging, target = np.zeros((count, len(arms))), np.zeros((count, len(arms)))
    for index, row in enumerate(rows):
        columns = [column[arm] for arm in row.arms]
        logging[index, columns] = row.probabilities
        target[index, columns] = row.target
    chosen = np.array([column[row.arms[row.chosen]] for row in rows])
    contexts = np.stack([row.context for row in rows]).astype(np.float32) * np.float32(UNIT)
    # One regression per arm, with an intercept, and with a single prior precision.
    prior = np.minimum(Prior.of(candidate.settings).own, _REWARD_STIFFNESS * candidate.settings.lambda_reg)
    logged: dict[str, Estimate] = {}
    estimated: dict[str, tuple[Estimate, ...]] = {}
    for name, (reward, feedback) in measure(rows, chosen, scale=final.stacked(arms).scale).items():
        bounds = BOUNDS.get(name)
        table = LoggedDecisions(
            chosen=chosen,
            propensity=logging[np.arange(count), chosen],
            target=target,
            reward=reward,
            predicted=ridge_predictions(contexts, chosen, reward, actions=len(arms), ridge=prior, bounds=bounds),
            logging=logging,
            feedback=feedback,
            bounds=bounds,
        )
        logged[name] = snips(replace(table, target=logging), alpha=alpha)
        estimated[name] = estimates(table, alpha=alpha)
    return Evaluation(
        policy=candidate.name,
        decisions=count,
        left_out=dict(candidate.left_out),
        logged=logged,
        estimates=estimated,
        warnings=tuple(_warnings(candidate, rows)),
    )


def _warnings(candidate: _Candidate, rows: list[JoinedDecision]) -> Iterator[str]:
    yield from candidate.left_out_in_words()
    worked = [row for row in rows if not row.has_failed]
    judged = sum(bool(row.qualities) for row in worked)
    if judged < len(worked):
        yield (
            f"{judged:,} of {len(worked):,} calls that did not fail have feedback. The chance of feedback is assumed "
            "to depend only on the deployment. It is estimated, so the betting intervals are approximate"
        )
