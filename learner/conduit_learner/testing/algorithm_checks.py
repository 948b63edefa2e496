"""Checks that every algorithm must pass: those that come with Conduit, and your own.

As in river, each check is a function that raises an AssertionError. :func:`check_algorithm` runs all of them.
"""

import random
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from conduit_learner.bandit import SnapshotBandit
from conduit_learner.core.checkpoint import CheckpointWriter, dump, restorations
from conduit_learner.core.partition_learner import PartitionLearner
from conduit_log import StoredMessage
from conduit_policy import Beliefs, Objective, choose, pack_context, to_fixed_point
from conduit_schemas import (
    Event,
    Feedback,
    LearningChange,
    LearningSettings,
    Outcome,
    OutcomeStatus,
    Selection,
    Snapshot,
    decode_snapshot,
    encode,
)

__all__ = ["CHECKS", "check_algorithm"]

_POLICY = "checks/algorithm"
_ARMS = ("a", "b", "c", "d")
_OBJECTIVE = Objective(quality=1.0, cost=0.1, latency=0.1)
_DIMENSION = 6


def check_algorithm(name: str) -> None:
    """Run every check on an algorithm.

    Parameters
    ----------
    name
        As in :attr:`conduit_schemas.LearningSettings.algorithm`.

    Raises
    ------
    AssertionError
        When a check fails. The message says what was found.

    Examples
    --------
    >>> check_algorithm("greedy")
    """
    for check in CHECKS:
        check(name)


def gives_probabilities(name: str) -> None:
    """Whatever was learned and requested, the probabilities are finite, not negative, and sum to 1."""
    rng = random.Random(1)
    for extreme in (False, True):
        snapshot = _snapshot(_learned(_log(name, 300, extreme=extreme)))
        for count in (1, 2, 4, 7):
            arms = (*_ARMS, "e", "f", "g")[:count]
            for scale in (0.0, 1.0, 31.9):
                vector = _probabilities(snapshot, _context(rng, scale), arms)
                assert np.isfinite(vector).all(), f"{name}: {vector} is not finite"
                assert (vector >= 0.0).all(), f"{name}: {vector} has a negative probability"
                assert abs(float(vector.sum()) - 1.0) < 1e-9, f"{name}: {vector} sums to {vector.sum()}"


def is_deterministic(name: str) -> None:
    """The same log gives the same snapshot, and the same snapshot the same probabilities."""
    log = _log(name, 300)
    first, second = _snapshot(_learned(log)), _snapshot(_learned(log))
    assert first.hash == second.hash, f"{name}: the same log gives two different snapshots"
    context = _context(random.Random(2), 1.0)
    once, again = (_probabilities(snapshot, context, _ARMS) for snapshot in (first, second))
    assert once.tolist() == again.tolist(), (
        f"{name}: the same snapshot gives different probabilities: {once} and {again}"
    )


def keeps_nothing(name: str) -> None:
    """Earlier decisions do not change later ones, because one instance serves many decisions."""
    beliefs = Beliefs(_snapshot(_learned(_log(name, 300))))
    rng = random.Random(8)
    contexts = [_context(rng, 1.0) for _ in range(10)]
    once, again = ([_asked(beliefs, context, _ARMS).tolist() for context in contexts] for _ in range(2))
    assert once == again, f"{name}: the same decisions give {again} the second time, not {once}"


def ignores_order(name: str) -> None:
    """Neither the order of the arms nor that of a context's keys changes an arm's probability."""
    snapshot = _snapshot(_learned(_log(name, 300)))
    rng = random.Random(3)
    for _ in range(20):
        context = _context(rng, 1.0)
        order = rng.sample(range(len(_ARMS)), len(_ARMS))
        straight = _probabilities(snapshot, context, _ARMS)
        shuffled = _probabilities(snapshot, context, tuple(_ARMS[index] for index in order))
        assert np.allclose(straight[order], shuffled, atol=1e-6), f"{name}: the order of arms matters"
    asked = []
    for backwards in (False, True):
        draws = random.Random(4)
        policy = SnapshotBandit(name, seed=1)
        for number in range(200):
            context_ = {key: draws.uniform(-1.0, 1.0) for key in ("x", "y", "z")}
            reward = draws.random()
            policy.update(_ARMS[number % 4], dict(sorted(context_.items(), reverse=backwards)), reward)
        asked.append([policy.probability(arm, list(_ARMS), {"x": 0.5, "y": -0.5, "z": 0.1}) for arm in _ARMS])
    assert np.allclose(asked[0], asked[1], atol=1e-6), f"{name}: the order of keys matters"


def has_bounded_memory(name: str) -> None:
    """The state does not grow with the number of events."""
    sizes = [
        sum(
            model.to_array().nbytes
            for arm in _learned(_log(name, count)).policies[_POLICY].arms.values()
            for model in arm.models.values()
        )
        for count in (256, 1024)
    ]
    most = 64 * (1 + _DIMENSION) * 8 * 4 * len(_ARMS)  # the latest rows are queued unchanged
    assert sizes[1] <= sizes[0] + most, f"{name}: the state grew from {sizes[0]} to {sizes[1]} bytes"


def resumes_exactly(name: str) -> None:
    """After a checkpoint and a restart, it continues to the same bits."""
    log = _log(name, 300)
    learner = _learned(log[:500])
    records = {message.key: message.value for batch in CheckpointWriter().records(learner) for message in batch}
    restoration = next(restorations(0, "checks", records))
    for message in log[restoration.resume_from : restoration.learner.offset]:
        restoration.recall(message)
    resumed = restoration.finish()
    for message in log[500:]:
        resumed.apply(message)
    assert dump(resumed) == dump(_learned(log)), f"{name}: after a restart, the state differs from that without one"


def is_better_than_random(name: str) -> None:
    """It earns more than random choice where arms clearly differ. Equal probabilities are accepted for ``uniform``."""
    rng = random.Random(6)
    policy = SnapshotBandit(name, seed=2)
    means = dict(zip(_ARMS, (0.2, 0.4, 0.6, 0.8), strict=True))
    earned = 0.0
    for number in range(1200):
        context = {"x": rng.uniform(-1.0, 1.0)}
        arm = policy.pull(list(_ARMS), context)
        policy.update(arm, context, means[str(arm)] + rng.uniform(-0.2, 0.2))
        earned += means[str(arm)] * (number >= 600)
    chance = sum(means.values()) / len(means)
    least = chance - 0.03 if name == "uniform" else chance + 0.1
    assert earned / 600 > least, f"{name}: earns {earned / 600:.3f}, but random choice earns {chance:.3f}"


def scores_alike_everywhere(name: str) -> None:
    """A plugin that reads the snapshot from the log computes the same probabilities as the learner."""
    snapshot = _snapshot(_learned(_log(name, 400)))
    received = decode_snapshot(encode(snapshot))
    rng = random.Random(7)
    for _ in range(20):
        context = _context(rng, 1.0)
        here, there = (_probabilities(known, context, _ARMS) for known in (snapshot, received))
        assert here.tolist() == there.tolist(), f"{name}: {here} in the learner, {there} in the plugin"


CHECKS: tuple[Callable[[str], None], ...] = (
    gives_probabilities,
    is_deterministic,
    keeps_nothing,
    ignores_order,
    has_bounded_memory,
    resumes_exactly,
    is_better_than_random,
    scores_alike_everywhere,
)


def _context(rng: random.Random, scale: float) -> NDArray[np.int16]:
    return to_fixed_point(np.array([1.0, *(rng.uniform(-scale, scale) for _ in range(_DIMENSION - 1))]))


def _log(name: str, decisions: int, *, extreme: bool = False) -> list[StoredMessage]:
    """Return decisions, outcomes and feedback. Extreme ones are as large and as one-sided as events may be."""
    rng = random.Random(5)
    settings = LearningSettings(algorithm=name, featurizer="checks", dimension=_DIMENSION)
    events: list[Event] = [LearningChange(policy=_POLICY, time=0.0, settings=settings)]
    for number in range(decisions):
        decision_id, context = f"d{number}", _context(rng, 31.9 if extreme else 1.0)
        chosen = 0 if extreme and number % 50 else rng.randrange(len(_ARMS))
        quality = float(number % 2) if extreme else min(1.0, 0.2 * chosen + 0.3 * rng.random())
        cost, latency = (1e6, 1e6) if extreme else (rng.uniform(0.001, 0.1), rng.uniform(0.1, 5.0))
        row = pack_context(context)
        events += [
            Selection(
                policy=_POLICY,
                time=0.0,
                decision_id=decision_id,
                arms=_ARMS,
                chosen=chosen,
                featurizer="checks",
                context=row,
            ),
            Outcome(
                policy=_POLICY,
                time=0.0,
                decision_id=decision_id,
                status=OutcomeStatus.SUCCESS,
                cost_usd=cost,
                latency_s=latency,
            ),
            Feedback(policy=_POLICY, time=0.0, decision_id=decision_id, quality=quality),
        ]
    return [
        StoredMessage(0, offset, 1_000 + offset, _POLICY.encode(), encode(event)) for offset, event in enumerate(events)
    ]


def _learned(log: list[StoredMessage]) -> PartitionLearner:
    learner = PartitionLearner(0, "checks")
    for message in log:
        refused = learner.apply(message).dead_letters
        assert not refused, refused[0].message
    return learner


def _snapshot(learner: PartitionLearner) -> Snapshot:
    return learner.snapshot(_POLICY)


def _probabilities(snapshot: Snapshot, context: NDArray[np.int16], arms: tuple[str, ...]) -> NDArray[np.float64]:
    return _asked(Beliefs(snapshot), context, arms)


def _asked(beliefs: Beliefs, context: NDArray[np.int16], arms: tuple[str, ...]) -> NDArray[np.float64]:
    return choose(beliefs, context, arms, objective=_OBJECTIVE, decision_id="check").probabilities
