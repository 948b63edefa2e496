"""Evaluate a candidate policy on the traffic that another policy logged, in the order in which it was logged."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from conduit_learner.core.events import SelectionEvent, decode_event
from conduit_learner.core.partition_learner import PartitionLearner
from conduit_learner.evaluation.candidate_learner import CandidateLearner, known_until
from conduit_learner.evaluation.estimators import Estimate, estimates, snips
from conduit_learner.evaluation.logged_decisions import LoggedDecisions
from conduit_learner.evaluation.measures import BOUNDS, JoinedDecision, measure
from conduit_learner.evaluation.reward_model import ridge_predictions
from conduit_log import StoredMessage
from conduit_policy import Beliefs, Objective, Prior
from conduit_policy.algorithms import algorithm
from conduit_policy.vectors import UNIT
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
    candidate = CandidateLearner(policy, settings, objective, None if features is None else frozenset(features) | {0})
    final = _replay(messages, candidate, last_use)
    rows = candidate.comparable_rows()
    if not rows:
        reasons = " ".join(candidate.left_out_in_words()) or "there are none"
        raise ConfigurationError(f"no decision of policy {policy!r} can be used for an evaluation: {reasons}")
    return _estimate(candidate, rows, final, alpha)


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
                last_use[known_until(event, message.offset)] = message.offset
    return last_use


def _replay(messages: Iterable[StoredMessage], candidate: CandidateLearner, last_use: Mapping[int, int]) -> Beliefs:
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


def _estimate(candidate: CandidateLearner, rows: list[JoinedDecision], final: Beliefs, alpha: float) -> Evaluation:
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


def _warnings(candidate: CandidateLearner, rows: list[JoinedDecision]) -> Iterator[str]:
    yield from candidate.left_out_in_words()
    worked = [row for row in rows if not row.has_failed]
    judged = sum(bool(row.qualities) for row in worked)
    if judged < len(worked):
        yield (
            f"{judged:,} of {len(worked):,} calls that did not fail have feedback. The chance of feedback is assumed "
            "to depend only on the deployment. It is estimated, so the betting intervals are approximate"
        )
