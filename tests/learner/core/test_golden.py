"""One log gives the same bits in every release, on every machine."""

import random

from conduit_learner.core.partition_learner import PartitionLearner
from conduit_log import StoredMessage
from conduit_schemas import Event, Feedback, LearningChange, LearningSettings, Outcome, Selection, encode

POLICY = "default/golden"
ARMS = ("large", "medium", "small")
HASHES = {
    "contextual_thompson": "ab83cb96b166c208427e3e541fba9554b0b74c107df143040e43235f40298428",
    "ucb1": "08209fdff57df07f97b6a6293ad82ca5101886286f14a5eaf700fe65ffe59445",
}
"""Hashes of the snapshot after the whole log, by algorithm.

A change that is to make learning faster, or its code clearer, leaves them alone. A change of what is learned, or of
what a snapshot says, puts its own here.
"""


def golden(algorithm: str) -> list[StoredMessage]:
    """Only integers and divisions by powers of two, so that mathematics libraries make no difference."""
    rng = random.Random(7)
    settings = LearningSettings(algorithm=algorithm, featurizer="golden", dimension=16, window_size=300, max_open=50)
    events: list[Event] = [LearningChange(policy=POLICY, time=0.0, settings=settings)]
    for number in range(700):
        context = b"".join(rng.randrange(-2048, 2048).to_bytes(2, "little", signed=True) for _ in range(16))
        decision_id, chosen = f"d{number}", rng.randrange(3)
        events.append(
            Selection(
                policy=POLICY,
                time=0.0,
                decision_id=decision_id,
                arms=ARMS,
                chosen=chosen,
                featurizer="golden",
                context=context,
            )
        )
        told = f"d{max(0, number - rng.randrange(5))}"
        if rng.randrange(10):
            cost, latency = rng.randrange(1, 4096) / 2.0**20, rng.randrange(1, 4096) / 1024.0
            events.append(
                Outcome(
                    policy=POLICY,
                    time=0.0,
                    decision_id=told,
                    status="success" if rng.randrange(8) else "error",
                    cost_usd=cost if rng.randrange(6) else None,
                    latency_s=latency,
                )
            )
        if rng.randrange(2):
            events.append(Feedback(policy=POLICY, time=0.0, decision_id=told, quality=rng.randrange(257) / 256.0))
    return [
        StoredMessage(0, offset, 1_000_000 + 100 * offset, POLICY.encode(), encode(event))
        for offset, event in enumerate(events)
    ]


def test_the_golden_log_teaches_what_it_always_has() -> None:
    found = {}
    for algorithm in HASHES:
        learner = PartitionLearner(0)
        for message in golden(algorithm):
            assert not learner.apply(message).dead_letters
        found[algorithm] = learner.snapshot(POLICY).hash
    assert found == HASHES
