"""Realistic events, generated fast enough to fill a log, and a Kafka broker for them."""

import random
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from conduit_log import Message
from conduit_schemas import FRACTION_BITS, Event, Feedback, LearningChange, LearningSettings, Outcome, Selection, encode

__all__ = ["kafka", "settings_event", "traffic"]

_BODIES = 1_000
_ID = "0123456789abcdef" * 2
"""Placeholder for the decision's id in every body, of the same length."""
_OUTCOME_AFTER, _FEEDBACK_AFTER = 10, 100
"""Number of decisions between a selection and its outcome and feedback; every second decision gets feedback."""


def traffic(events: int, *, dimension: int = 64, arms: int = 8, policies: int = 1, first: int = 0) -> Iterator[Message]:
    """Yield that many events, in the order in which to append them.

    Selections are complete, with context, propensities and the four predictions of every arm. There is an outcome for
    every decision and a rating for every second one. All ids differ; contexts and numbers repeat after a thousand.
    """
    bodies = _bodies(dimension, arms)
    # By decision: which policy, which id, which body.
    outcomes: deque[tuple[str, bytes, int]] = deque()
    feedbacks: deque[tuple[str, bytes, int]] = deque()

    def decisions() -> Iterator[Message]:
        number = first
        while True:
            policy, decision, body = f"bench/p{number % policies}", b"%032x" % number, number % _BODIES
            for queue in (outcomes,) if number % 2 else (outcomes, feedbacks):
                queue.append((policy, decision, body))
            yield _message(policy, decision, bodies["selection"][body])
            if len(outcomes) > _OUTCOME_AFTER:
                policy, decision, body = outcomes.popleft()
                yield _message(policy, decision, bodies["outcome"][body])
            if len(feedbacks) > _FEEDBACK_AFTER // 2:
                policy, decision, body = feedbacks.popleft()
                yield _message(policy, decision, bodies["feedback"][body])
            number += 1

    return islice(decisions(), events)


def settings_event(settings: LearningSettings, policy: str = "bench/p0") -> Message:
    """Return the event that changes how a policy learns."""
    return Message(policy.encode(), encode(LearningChange(policy=policy, time=0.0, settings=settings)))


def _message(policy: str, decision: bytes, body: bytes) -> Message:
    key = policy.encode()
    return Message(key, body.replace(_ID.encode(), decision).replace(b"bench/p0", key))


def _bodies(dimension: int, arms: int) -> dict[str, list[bytes]]:
    rng, numbers = random.Random(1), np.random.default_rng(1)
    names = tuple(f"deployment-{arm}" for arm in range(arms))
    bodies: dict[str, list[bytes]] = {"selection": [], "outcome": [], "feedback": []}
    for number in range(_BODIES):
        context = numbers.integers(-1 << FRACTION_BITS, 1 << FRACTION_BITS, dimension).astype("<i2")
        context[0] = 1 << FRACTION_BITS
        common = {"policy": "bench/p0", "time": 1.7e9 + number, "decision_id": _ID}
        probabilities = numbers.dirichlet(np.ones(arms)).tolist()
        selection = {
            "request_id": f"request-{number:032x}",
            "arms": names,
            "models": tuple(f"vendor/model-{arm}" for arm in range(arms)),
            "chosen": rng.choices(range(arms), probabilities)[0],
            "probabilities": tuple(probabilities),
            "snapshot_version": number,
            "snapshot_hash": "0123456789abcdef" * 4,
            "featurizer": f"bench{dimension}",
            "context": context.tobytes(),
            "predictions": {
                signal: tuple(numbers.normal(size=arms).tolist())
                for signal in ("quality", "success", "cost", "latency")
            },
            "objective": {"quality": 1.0, "cost": 0.1, "latency": 0.05},
        }
        outcome = {
            "status": "success" if rng.random() < 0.97 else "error",
            "cost_usd": rng.lognormvariate(-7.0, 1.0),
            "latency_s": rng.lognormvariate(0.0, 0.5),
            "ttft_s": rng.random(),
            "input_tokens": rng.randrange(2_000),
            "output_tokens": rng.randrange(1_000),
        }
        made: tuple[Event, ...] = (
            Selection.model_validate({**common, **selection}),
            Outcome.model_validate({**common, **outcome}),
            Feedback.model_validate({**common, "quality": rng.random()}),
        )
        for event in made:
            bodies[event.kind].append(encode(event))
    return bodies


@contextmanager
def kafka(address: str | None) -> Iterator[str]:
    """Yield the address of a broker: the given one, or one started here as in the tests."""
    if address is not None:
        yield address
        return
    try:
        # Imported here, because the packages that it takes are installed for the tests only.
        from local_servers.broker import NoBrokerError, shared_broker  # noqa: PLC0415
    except ImportError as error:
        raise SystemExit(
            f"starting a broker takes the packages that the tests use ({error}): pip install -e '.[dev]', or name a "
            "broker with --kafka HOST:PORT"
        ) from error
    with TemporaryDirectory() as folder:
        try:
            with shared_broker(Path(folder)) as started:
                yield started
        except NoBrokerError as error:
            raise SystemExit(str(error)) from error
