"""Events as applications send them, generated from a seed, for the learner's tests."""

import random
from collections.abc import Iterable, Sequence

import numpy as np

from conduit_learner.core.checkpoint import CheckpointWriter, Restoration
from conduit_learner.core.partition_learner import PartitionLearner
from conduit_log import Message, StoredMessage
from conduit_schemas import Event, Feedback, Outcome, Selection, encode

POLICY = "default/chat"
ARMS = ("large", "medium", "small")


def context(rng: random.Random, dimension: int = 64) -> bytes:
    components = [rng.randrange(-2048, 2048) for _ in range(dimension)]
    components[0] = 1024
    return np.array(components, "<i2").tobytes()


def selection(decision_id: str, *, seed: int = 0, policy: str = POLICY, **changes: object) -> Selection:
    rng = random.Random(f"{seed}/{decision_id}")
    fields: dict[str, object] = {
        "policy": policy,
        "time": 0.0,
        "decision_id": decision_id,
        "arms": ARMS,
        "models": tuple(f"vendor/{arm}" for arm in ARMS),
        "chosen": rng.randrange(len(ARMS)),
        "featurizer": "text64-v2",
        "context": context(rng),
    }
    return Selection.model_validate({**fields, **changes})


def outcome(decision_id: str, *, policy: str = POLICY, **changes: object) -> Outcome:
    fields = {"policy": policy, "time": 0.0, "decision_id": decision_id, "status": "success"}
    return Outcome.model_validate({**fields, **changes})


def feedback(decision_id: str, quality: float, *, policy: str = POLICY, **changes: object) -> Feedback:
    fields = {"policy": policy, "time": 0.0, "decision_id": decision_id, "quality": quality}
    return Feedback.model_validate({**fields, **changes})


def traffic(decisions: int, *, seed: int = 0, policies: Sequence[str] = (POLICY,), first: int = 0) -> list[Event]:
    """Return a plausible, interleaved stream, with late and missing outcomes, some feedback and some duplicates."""
    rng = random.Random(seed)
    due: list[tuple[float, int, Event]] = []
    for number in range(first, first + decisions):
        policy = rng.choice(policies)
        decision_id = f"d{number}"
        at = number + rng.random()
        events: list[tuple[float, Event]] = [(at, selection(decision_id, seed=seed, policy=policy))]
        if rng.random() < 0.95:
            status = rng.choices(("success", "error", "cancelled", "cache_hit"), (90, 6, 2, 2))[0]
            cost, latency = rng.lognormvariate(-7.0, 1.0), rng.lognormvariate(0.0, 0.5)
            result = outcome(decision_id, policy=policy, status=status, cost_usd=cost, latency_s=latency)
            events.append((at + rng.expovariate(0.2) - 0.2, result))
        if rng.random() < 0.4:
            judged = feedback(decision_id, rng.random(), policy=policy, source=rng.choice(("app", "judge")))
            events.append((at + rng.expovariate(0.05), judged))
        events += [(when + 3.0, event) for when, event in events if rng.random() < 0.02]
        due += [(when, len(due) + index, event) for index, (when, event) in enumerate(events)]
    return [event for _, _, event in sorted(due, key=lambda item: item[:2])]


def messages(events: Iterable[Event]) -> list[Message]:
    return [Message(event.policy.encode(), encode(event)) for event in events]


def stored(events: Iterable[Event], *, start: int = 0, step_ms: int = 100, partition: int = 0) -> list[StoredMessage]:
    """Return the messages as one partition stores them."""
    return [
        StoredMessage(partition, start + number, 1_000_000 + (start + number) * step_ms, *message)
        for number, message in enumerate(messages(events))
    ]


def learned(log: Iterable[StoredMessage], partition: int = 0) -> PartitionLearner:
    """Return a learner that has read the whole log without interruption."""
    learner = PartitionLearner(partition)
    for message in log:
        learner.apply(message)
    return learner


def checkpoint_of(learner: PartitionLearner, writer: CheckpointWriter | None = None) -> dict[bytes, bytes]:
    """Return the records of a checkpoint, by key."""
    batches = (writer or CheckpointWriter()).records(learner)
    return {message.key: message.value for batch in batches for message in batch}


def resumed(restoration: Restoration, log: Sequence[StoredMessage]) -> PartitionLearner:
    """Return the learner of a checkpoint, after it has read again what only the log holds."""
    for message in log[restoration.resume_from : restoration.learner.offset]:
        restoration.recall(message)
    return restoration.finish()
