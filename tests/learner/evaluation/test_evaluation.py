"""Candidates evaluated on the log of a learning policy, where the truth is known."""

import base64
import json
import math
from collections import deque
from dataclasses import replace

import numpy as np
import pytest

from conduit_learner.core.partition_learner import PartitionLearner
from conduit_learner.evaluation.measures import JoinedDecision, measure
from conduit_learner.evaluation.progressive import Evaluation, evaluate
from conduit_log import StoredMessage
from conduit_policy import SIGNALS, Beliefs, Objective, choose
from conduit_schemas import (
    ConfigurationError,
    Event,
    Feedback,
    LearningChange,
    LearningSettings,
    Outcome,
    OutcomeStatus,
    Selection,
    decode_event,
    encode,
)
from conduit_schemas.reasons import NotEvaluated

ARMS = ("cheap", "middle", "dear")
COSTS = np.array([0.001, 0.004, 0.02])
FAILURES = np.array([0.15, 0.05, 0.05])
SETTINGS = LearningSettings(featurizer="four", dimension=4)


def qualities(context: np.ndarray) -> np.ndarray:
    """The quality of each arm's answer, which depends on the request."""
    return np.array([0.5 + 0.2 * context[1], 0.6 + 0.2 * context[2], 0.75 - 0.1 * context[1]])


class Traffic:
    """A log like that of an application and a learner: stale snapshots, late and partial feedback, failures."""

    def __init__(self, settings: LearningSettings = SETTINGS, share: float = 1.0, failures: bool = True) -> None:
        self.log: list[StoredMessage] = []
        self.contexts: list[np.ndarray] = []
        self.learner = PartitionLearner(0)
        self.share, self.failures = share, failures
        self.put(LearningChange(policy="p", time=0.0, settings=settings))
        self.beliefs = Beliefs(self.learner.snapshot("p"))
        self.late: deque[Feedback] = deque()

    def put(self, event: Event, key: bytes = b"p") -> None:
        message = StoredMessage(0, len(self.log), 10 * len(self.log), key, encode(event))
        self.log.append(message)
        self.learner.apply(message)
        if len(self.log) % 40 == 0:
            self.beliefs = Beliefs(self.learner.snapshot("p"))

    def run(self, seed: int, count: int) -> "Traffic":
        rng = np.random.default_rng(seed)
        for number in range(count):
            context = np.array([1.0, *rng.uniform(-1.0, 1.0, 3)])
            fixed = np.rint(context * 1024).astype("<i2")
            identity = f"{seed}-{number}"
            choice = choose(self.beliefs, fixed, ARMS, objective=Objective(), decision_id=identity)
            arm = choice.index
            failed = self.failures and rng.random() < FAILURES[arm]
            quality = float(rng.random() < qualities(context)[arm])
            self.contexts.append(context)
            selection = Selection(
                policy="p",
                time=0.0,
                decision_id=identity,
                arms=ARMS,
                chosen=arm,
                probabilities=tuple(choice.probabilities.tolist()),
                snapshot_version=self.beliefs.snapshot.offset,
                featurizer="four",
                context=fixed.tobytes(),
                objective=Objective().weights(),
            )
            outcome = Outcome(
                policy="p",
                time=0.0,
                decision_id=identity,
                status="error" if failed else "success",
                cost_usd=None if failed else COSTS[arm],
                latency_s=None if failed else 1.0 + arm,
            )
            # Sometimes an outcome arrives before its selection.
            for event in (outcome, selection) if number % 7 == 0 else (selection, outcome):
                self.put(event)
            if not failed and rng.random() < self.share:
                self.late.append(Feedback(policy="p", time=0.0, decision_id=identity, quality=quality))
            while len(self.late) > 15:
                self.put(self.late.popleft())
        while self.late:
            self.put(self.late.popleft())
        return self


def ips(result: Evaluation, measure: str) -> float:
    return next(e.value for e in result.estimates[measure] if e.method == "ips")


def test_the_policy_itself_gets_back_the_probabilities_it_logged() -> None:
    result = evaluate(Traffic(failures=False).run(0, 400).log, "p")
    assert result.decisions == 400
    assert not result.left_out
    assert result.warnings == ()
    assert set(result.estimates) == {"utility", "quality", "success", "cost_usd", "latency_s"}
    for name, found in result.estimates.items():
        for estimate in found:
            assert estimate.largest_weight == 1.0, name
            assert estimate.effective_sample_size == pytest.approx(400.0), name
            if estimate.method in {"ips", "snips"}:
                assert estimate.value == pytest.approx(result.logged[name].value), name


@pytest.mark.parametrize(
    ("settings", "objective"),
    [
        (SETTINGS.model_copy(update={"algorithm": "linucb", "params": {"floor": 0.05}}), None),
        (SETTINGS.model_copy(update={"algorithm": "thompson"}), Objective(1.0, 0.3, 0.1)),
        (None, Objective.preset("cost")),
    ],
)
def test_the_candidate_knows_what_the_logging_snapshot_covered_and_no_more(
    settings: LearningSettings | None, objective: Objective | None
) -> None:
    """Compared with the slow way: a fresh learner for every decision, on the messages before its snapshot."""
    traffic = Traffic(failures=False).run(1, 90)
    judged = {}
    for message in traffic.log:
        event = decode_event(message.value)
        if isinstance(event, Feedback):
            judged[event.decision_id] = event.quality
    total = 0.0
    for message in traffic.log:
        event = decode_event(message.value)
        if not isinstance(event, Selection):
            continue
        learner = PartitionLearner(0)
        for past in traffic.log[: event.snapshot_version]:
            if past.offset == 0 and settings is not None:
                first = LearningChange(policy="p", time=0.0, settings=settings)
                learner.apply(past._replace(value=encode(first)))
            else:
                learner.apply(past)
        context = np.frombuffer(event.context, "<i2")
        choice = choose(
            Beliefs(learner.snapshot("p")),
            context,
            ARMS,
            objective=objective or Objective(),
            decision_id=event.decision_id,
        )
        total += choice.probabilities[event.chosen] / event.propensity * judged[event.decision_id]
    result = evaluate(traffic.log, "p", settings=settings, objective=objective)
    assert ips(result, "quality") == pytest.approx(total / 90, rel=1e-12)


@pytest.mark.campaign
def test_finds_the_true_value_of_a_candidate() -> None:
    """The value of uniform choice needs no simulation. Feedback is partial, and failures count as 0."""
    logging = SETTINGS.model_copy(update={"params": {"floor": 0.15}})
    uniform = SETTINGS.model_copy(update={"algorithm": "uniform", "params": {"cold_ratings": 0.0}})
    truth = {"success": 1.0 - FAILURES.mean(), "cost_usd": float(((1.0 - FAILURES) * COSTS).mean())}
    repetitions = 14
    errors: dict[str, list[float]] = {}
    covered: dict[str, int] = {}
    for seed in range(repetitions):
        traffic = Traffic(logging, share=0.5).run(100 + seed, 500)
        result = evaluate(traffic.log, "p", settings=uniform)
        mean = np.mean([qualities(context) for context in traffic.contexts], axis=0)
        for name, value in {**truth, "quality": float(((1.0 - FAILURES) * mean).mean())}.items():
            robust = result.estimates[name][0]
            assert robust.method == "doubly_robust"
            errors.setdefault(name, []).append((robust.value - value) / value)
            covered[name] = covered.get(name, 0) + (robust.low <= value <= robust.high)
        assert any("calls that did not fail have feedback" in text for text in result.warnings)
    for name, found in errors.items():
        assert abs(np.mean(found)) < 4.0 * np.std(found) / math.sqrt(repetitions), name
        assert covered[name] >= 10, name


def test_a_candidate_with_fewer_features_is_one_whose_log_never_had_the_others() -> None:
    log = Traffic(SETTINGS).run(4, 120).log
    masked = []
    for message in log:
        event = decode_event(message.value)
        if isinstance(event, Selection):
            context = np.frombuffer(event.context, "<i2").copy()
            context[2:] = 0
            fields = json.loads(message.value) | {"context": base64.b64encode(context.tobytes()).decode()}
            message = message._replace(value=json.dumps(fields).encode())  # noqa: PLW2901 - the same but for that
        masked.append(message)
    fewer, without, every = (
        ips(evaluate(messages, "p", settings=SETTINGS, features=features), "quality")
        for messages, features in ((log, [1]), (masked, None), (log, range(SETTINGS.dimension)))
    )
    assert fewer == without != every == ips(evaluate(log, "p", settings=SETTINGS), "quality")


def test_wanting_it_cheaper_is_seen_to_be_cheaper() -> None:
    log = Traffic(SETTINGS.model_copy(update={"params": {"floor": 0.1}})).run(3, 800).log
    cheap, good = (
        evaluate(log, "p", objective=Objective.preset(name)).estimates["cost_usd"][0] for name in ("cost", "quality")
    )
    assert cheap.high < good.low


def test_what_cannot_be_used_is_left_out_and_named() -> None:
    traffic = Traffic(failures=False).run(5, 60)
    clean = evaluate(traffic.log, "p")
    selection = next(e for e in map(decode_event, (m.value for m in traffic.log)) if isinstance(e, Selection))
    extra: list[tuple[Event, bytes]] = [
        (selection.model_copy(update={"decision_id": "x1", "probabilities": None, "fallback": "stale"}), b"p"),
        (selection.model_copy(update={"decision_id": "x2", "featurizer": "other"}), b"p"),
        (selection.model_copy(update={"decision_id": "x3", "context": bytes(6)}), b"p"),
        (selection.model_copy(update={"decision_id": "x4", "objective": {"cost": -1.0}}), b"p"),
        (selection, b"p"),
        (selection.model_copy(update={"policy": "q"}), b"q"),
    ]
    for event, key in extra:
        traffic.put(event, key)
    traffic.log.append(StoredMessage(0, len(traffic.log), 10 * len(traffic.log), b"p", b"no event"))
    result = evaluate(iter(traffic.log), "p")
    assert result.decisions == 60
    assert sum(result.left_out.values()) == 4
    text = " ".join(result.warnings)
    assert result.left_out == {
        NotEvaluated.BY_LITELLM: 1,
        NotEvaluated.OTHER_FEATURES: 2,
        NotEvaluated.INVALID_OBJECTIVE: 1,
    }
    assert f"1 decisions were left out. {NotEvaluated.BY_LITELLM.about}" in text
    assert "They hold 3 features of 'four' or 4 features of 'other', not 4 features of 'four'." in text
    assert result.estimates["quality"][0].value == pytest.approx(clean.estimates["quality"][0].value)


def test_what_is_said_twice_counts_once() -> None:
    traffic = Traffic(failures=False).run(9, 40)
    once = evaluate(traffic.log, "p")
    for message in list(traffic.log):
        event = decode_event(message.value)
        if isinstance(event, Feedback):
            traffic.put(event.model_copy(update={"quality": 1.0 - event.quality}))
        elif isinstance(event, Outcome):
            traffic.put(event.model_copy(update={"cost_usd": 1.0}))
    twice = evaluate(traffic.log, "p")
    for name in ("quality", "cost_usd"):
        assert twice.logged[name] == once.logged[name]


def test_a_new_featurizer_starts_a_new_comparison() -> None:
    traffic = Traffic(failures=False).run(6, 50)
    two = LearningSettings(featurizer="two", dimension=2)
    traffic.put(LearningChange(policy="p", time=0.0, settings=two))
    version = len(traffic.log)
    for number in range(20):
        selection = Selection(
            policy="p",
            time=0.0,
            decision_id=f"two-{number}",
            arms=ARMS[:2],
            chosen=number % 2,
            probabilities=(0.5, 0.5),
            snapshot_version=version,
            featurizer="two",
            context=np.array([1024, 0], "<i2").tobytes(),
        )
        traffic.put(selection)
        traffic.put(Feedback(policy="p", time=0.0, decision_id=f"two-{number}", quality=0.5))
    result = evaluate(traffic.log, "p")
    assert result.decisions == 20
    assert f"50 decisions were left out. {NotEvaluated.EARLIER_FEATURES.about}" in result.warnings
    assert result.logged["quality"].value == pytest.approx(0.5)
    # With the first featurizer, the candidate is evaluated on the first fifty decisions.
    assert evaluate(traffic.log, "p", settings=SETTINGS).decisions == 50


def test_a_snapshot_from_the_future_is_none() -> None:
    """A version after the decision itself belongs to another log: what follows the decision stays unknown."""
    traffic = Traffic(failures=False).run(7, 40)

    def told(version: int | None) -> float:
        log = []
        for message in traffic.log:
            event = decode_event(message.value)
            if isinstance(event, Selection):
                event = event.model_copy(update={"snapshot_version": version})
            log.append(message._replace(value=encode(event)))
        return ips(evaluate(log, "p", objective=Objective.preset("cost")), "quality")

    assert told(10**9) == told(None)
    assert told(1) != told(None)


def test_refusals() -> None:
    log = Traffic().run(8, 10).log
    with pytest.raises(ConfigurationError, match="no algorithm 'none'"):
        evaluate(log, "p", settings=LearningSettings(algorithm="none"))
    with pytest.raises(
        ConfigurationError, match="no decision of policy 'absent' can be used for an evaluation: there are none"
    ):
        evaluate(log, "absent")
    with pytest.raises(ConfigurationError, match=r"10 decisions .* They hold 4 features of 'four', not 64"):
        evaluate(log, "p", settings=LearningSettings())
    with pytest.raises(ConfigurationError, match="partition 0 and in 1"):
        evaluate([*log, log[-1]._replace(partition=1)], "p")


def joined(
    status: str | None, *feedbacks: float, cost: float | None = None, latency: float | None = None
) -> JoinedDecision:
    reported = {"cost_usd": cost, "latency_s": latency}
    return JoinedDecision(
        arms=("a", "b"),
        chosen=0,
        probabilities=(0.5, 0.5),
        target=np.array([0.5, 0.5]),
        context=np.zeros(1, np.int16),
        objective=Objective(quality=2.0, cost=0.5, latency=0.25),
        status=None if status is None else OutcomeStatus(status),
        amounts={field: amount for field, amount in reported.items() if amount is not None},
        qualities=list(feedbacks),
    )


SCALE = np.array([[math.log(0.001), math.log(10.0)], [0.0, 2.0], [0.0, math.inf]])


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (joined("success", 0.5, 1.0, cost=0.01, latency=math.e), (0.75, 1.0, 0.01, math.e, 1.5 - 0.5 - 0.125)),
        (joined("success", cost=0.01), (math.nan, 1.0, 0.01, math.nan, math.nan)),
        (joined("success", 0.5, cost=0.0), (0.5, 1.0, 0.0, math.nan, 1.0)),
        (joined("success", 0.5), (0.5, 1.0, math.nan, math.nan, 1.0)),
        (joined("error"), (0.0, 0.0, 0.0, math.nan, 0.0)),
        (joined("error", 0.9, cost=0.01, latency=9.0), (0.0, 0.0, 0.01, math.nan, -0.5)),
        (joined("cancelled", cost=0.01), (math.nan, math.nan, math.nan, math.nan, math.nan)),
        (joined("cache_hit", 0.25, cost=0.01), (0.25, math.nan, math.nan, math.nan, 0.5)),
        (joined(None), (math.nan, math.nan, math.nan, math.nan, math.nan)),
        (joined(None, 0.5), (0.5, math.nan, math.nan, math.nan, 1.0)),
    ],
)
def test_what_a_decision_earned(row: JoinedDecision, expected: tuple[float, ...]) -> None:
    """In the order quality, success, cost, latency, utility."""
    cost, latency = (row.amount(SIGNALS[name]) for name in ("cost", "latency"))
    found = (row.quality, row.success, cost, latency, row.utility(SCALE))
    assert found == pytest.approx(expected, nan_ok=True)


def test_failures_are_always_known_and_other_calls_stand_for_those_without_feedback() -> None:
    rows = [joined("error"), joined("success", 0.5), joined("success"), joined("success", 1.0), joined(None)]
    values = measure([*rows, replace(rows[0])], np.array([0, 0, 0, 1, 0, 1]), scale=SCALE)
    reward, feedback = values["quality"]
    assert feedback is not None
    assert reward.tolist() == pytest.approx([0.0, 0.5, math.nan, 1.0, math.nan, 0.0], nan_ok=True)
    third = 1.0 / 3.0
    assert feedback.tolist() == pytest.approx([1.0, third, third, 1.0, third, 1.0])
    assert values["cost_usd"][1] is None
