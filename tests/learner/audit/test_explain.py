"""Explanations of a decision, which the plugin's code computes, equal those computed by hand here."""

import math

import numpy as np
import pytest
from audit_traffic import ARMS, POLICY, Installation, partly_rated

from conduit_learner.audit.explain import explain
from conduit_learner.audit.recompute import Recomputation, recompute
from conduit_log import StoredMessage
from conduit_policy import Beliefs, Objective
from conduit_schemas import (
    ConfigurationError,
    Fallback,
    Feedback,
    Outcome,
    Selection,
    decode_event,
    decode_snapshot,
    encode,
)


@pytest.fixture(scope="module")
def installation() -> Installation:
    return Installation().run(200)


def selection_of(installation: Installation, decision_id: str) -> Selection:
    event = decode_event(installation.log[installation.offset_of(decision_id)].value)
    assert isinstance(event, Selection)
    return event


def test_a_decision_is_proven(installation: Installation) -> None:
    selection = selection_of(installation, "d150")
    found = explain(iter(installation.log), POLICY, "d150")
    assert (found.proof, found.reasons) == ("proven", ())
    assert (found.selection, found.offset) == (selection, installation.offset_of("d150"))
    assert [explained.arm for explained in found.arms] == list(ARMS)
    assert tuple(explained.probability for explained in found.arms) == selection.probabilities
    assert tuple(explained.logged_probability for explained in found.arms) == selection.probabilities
    assert found.recomputation is not None and found.recomputation.drawn == selection.chosen
    assert found.rule is not None and found.rule.name == "thompson"
    assert found.coverage == 1.0
    utilities = [explained.utility for explained in found.arms]
    assert found.greedy == utilities.index(max(utilities, key=lambda utility: utility or 0.0))


def test_predictions_are_in_plain_units_with_the_posteriors_own_width(installation: Installation) -> None:
    selection = selection_of(installation, "d150")
    found = explain(installation.log, POLICY, "d150")
    snapshot = next(
        s for s in (decode_snapshot(m.value) for m in installation.published) if s.hash == selection.snapshot_hash
    )
    x = np.frombuffer(selection.context, "<i2") / 1024.0
    for signal in ("quality", "success", "cost", "latency"):
        for explained in found.arms:
            posterior = snapshot.arms[explained.arm].signals[signal]
            mean = posterior.baseline + float(np.frombuffer(posterior.mean, "<f4") @ x)
            variance = posterior.sigma**2 * float((x**2 / np.frombuffer(posterior.precision, "<f4")).sum())
            low, high = mean - 1.96 * math.sqrt(variance), mean + 1.96 * math.sqrt(variance)
            wanted = [mean, low, high]
            if signal in ("cost", "latency"):
                wanted = [math.exp(value) for value in wanted]
            else:
                wanted = [min(1.0, max(0.0, value)) for value in wanted]
            predicted = explained.predicted[signal]
            assert [predicted.mean, predicted.low, predicted.high] == pytest.approx(wanted, rel=1e-4)
            assert predicted.observations == posterior.weight and not predicted.is_assumed
    costs = {explained.arm: explained.predicted["cost"].mean for explained in found.arms}
    assert costs["dear"] == pytest.approx(0.02, rel=0.3) and costs["cheap"] == pytest.approx(0.0005, rel=0.3)


def test_what_was_never_observed_of_an_arm_is_said_to_be_assumed() -> None:
    found = explain(partly_rated().log, POLICY, "d90")
    assert found.proof == "proven"
    dear, cheap, slow = (explained.predicted for explained in found.arms)
    assert dear["quality"].observations == pytest.approx(20.0, rel=0.05)
    assert dear["quality"].low is not None and dear["quality"].high == 1.0
    for unrated in (cheap, slow):
        assert unrated["quality"].is_assumed and unrated["quality"].observations == 0.0
        assert (unrated["quality"].low, unrated["quality"].high) == (None, None)
        assert unrated["quality"].mean == pytest.approx(1.0, abs=0.05)  # the pool's mean
        assert unrated["cost"].observations == pytest.approx(20.0, rel=0.05) and unrated["cost"].low is not None


def test_the_utility_is_what_the_objective_makes_of_the_predictions(installation: Installation) -> None:
    found = explain(installation.log, POLICY, "d150")
    selection = found.selection
    snapshot = next(
        s for s in (decode_snapshot(m.value) for m in installation.published) if s.hash == selection.snapshot_hash
    )
    for explained in found.arms:
        wanted = explained.predicted["quality"].mean * min(1.0, explained.predicted["success"].mean)
        for signal, weight in (("cost", 0.05), ("latency", 0.01)):
            averages = [snapshot.arms[arm].signals[signal].average for arm in ARMS]
            span = max(max(averages) - min(averages), math.log(4.0))
            wanted -= weight * (math.log(explained.predicted[signal].mean) - min(averages)) / span
        assert explained.utility == pytest.approx(wanted, abs=1e-5)


def test_what_came_of_it_is_told(installation: Installation) -> None:
    rated = next(
        event.decision_id
        for event in (decode_event(m.value) for m in installation.log[300:])
        if isinstance(event, Feedback)
    )
    found = explain(installation.log, POLICY, rated)
    (outcome,), (feedback,) = found.outcomes, found.feedbacks
    assert outcome.decision_id == feedback.decision_id == rated


def test_a_fallback_says_why_litellm_chose(installation: Installation) -> None:
    found = explain(installation.log, POLICY, "d0")
    assert found.proof == "nothing to prove"
    assert found.reasons == (f"LiteLLM's own selection chose (no_snapshot). {Fallback.NO_SNAPSHOT.about}",)
    assert found.greedy is None and found.rule is None and found.coverage is None
    assert all(explained.predicted == {} and explained.utility is None for explained in found.arms)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"arms": ("a",), "probabilities": (1.0,)}, "Only one deployment was available"),
        ({"arms": ("a", "b"), "fallback": "stale_snapshot"}, Fallback.STALE_SNAPSHOT.about),
        ({"arms": ("a", "b"), "fallback": "house rules"}, "selection chose (house rules)"),
        ({"arms": ("a", "b"), "probabilities": (0.5, 0.5)}, "names no snapshot"),
    ],
)
def test_without_a_snapshot_there_is_nothing_to_prove(fields: dict[str, object], reason: str) -> None:
    made = Installation()
    common = {"policy": POLICY, "time": 0.0, "decision_id": "x", "featurizer": "eight", "context": bytes(16)}
    made.put(Selection.model_validate({**common, **fields, "chosen": 0}))
    found = explain(made.log, POLICY, "x")
    assert found.proof == "nothing to prove"
    assert reason in found.reasons[0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"snapshot_hash": "0" * 64}, "not 0000"),
        ({"chosen": 0, "probabilities": (0.1, 0.2, 0.7)}, "has probability"),
        ({"snapshot_version": 10**6}, "did not exist yet"),
        ({"snapshot_version": 0}, "has no event before offset 0"),
        ({"featurizer": "other"}, "features of 'other'"),
    ],
)
def test_what_differs_is_said(installation: Installation, changes: dict[str, object], reason: str) -> None:
    log = installation.tampered(installation.offset_of("d199"), **changes)
    found = explain(log, POLICY, "d199")
    assert found.proof == "differs"
    assert any(reason in sentence for sentence in found.reasons)


def test_without_the_oldest_events_it_is_not_provable_but_still_told(installation: Installation) -> None:
    found = explain(installation.log[1:], POLICY, "d150")
    assert found.proof == "not provable" and "were deleted" in found.reasons[0]
    selection = selection_of(installation, "d150")
    for index, explained in enumerate(found.arms):
        assert explained.predicted["quality"].mean == selection.predictions["quality"][index]
        assert explained.predicted["cost"].mean == pytest.approx(math.exp(selection.predictions["cost"][index]))
        assert explained.predicted["quality"].low is None
        assert explained.predicted["quality"].observations is None and not explained.predicted["quality"].is_assumed


def test_an_unknown_decision_is_refused(installation: Installation) -> None:
    for policy, decision in ((POLICY, "d9999"), ("default/other", "d150")):
        with pytest.raises(ConfigurationError, match="no decision"):
            explain(installation.log, policy, decision)


def test_an_id_written_with_escapes_is_found_and_junk_is_passed_over() -> None:
    made = Installation()
    made.put(Outcome(policy=POLICY, time=0.0, decision_id='say "hi"', status="success"))
    fields = {"policy": POLICY, "time": 0.0, "arms": ARMS, "chosen": 0, "featurizer": "eight", "context": bytes(16)}
    made.put(Selection.model_validate({**fields, "decision_id": 'say "hi"'}))
    escaped = made.log[-1].value.replace(b'say \\"hi\\"', b"s\\u0061y \\u0022hi\\u0022")
    assert escaped != made.log[-1].value
    made.log[-1] = made.log[-1]._replace(value=escaped)
    made.log.append(StoredMessage(0, 3, 0, POLICY.encode(), b'say "hi"'))
    assert explain(made.log, POLICY, 'say "hi"').offset == 2
    assert len(explain(made.log, POLICY, 'say "hi"').outcomes) == 1


def test_an_arm_nobody_tried_has_no_interval() -> None:
    made = Installation().run(40)
    beliefs = made.beliefs[POLICY]
    trimmed = {arm: known for arm, known in beliefs.snapshot.arms.items() if arm != "slow"}
    made.beliefs[POLICY] = Beliefs(beliefs.snapshot.model_copy(update={"arms": trimmed}).sealed())
    selection = made.select("cold", POLICY, np.full(8, 1024, np.int16))
    again = recompute(selection, made.beliefs[POLICY])
    assert isinstance(again, Recomputation) and again.disagreements == ()
    made.put(selection)
    found = explain(made.log, POLICY, "cold")
    assert found.proof == "differs"  # there never was such a snapshot
    made = Installation()
    made.put(Selection.model_validate({**selection.model_dump(), "decision_id": "first", "probabilities": None}))
    made.publish()
    made.put(made.select("second", POLICY, np.full(8, 1024, np.int16)))
    found = explain(made.log, POLICY, "second")
    assert found.proof == "proven"
    assert all(explained.predicted == {} for explained in found.arms)  # no arm was observed


def test_objectives() -> None:
    common = {"policy": "p", "time": 0.0, "decision_id": "d", "arms": ("a",), "chosen": 0, "featurizer": "f"}
    selection = Selection.model_validate({**common, "context": b"", "objective": {"quality": 2.0, "beauty": 1.0}})
    objective = Objective.of_log(selection.objective)
    assert objective is not None and objective.quality == 2.0 and objective.cost == 0.05
    senseless = selection.model_copy(update={"objective": {"quality": 0.0, "cost": 0.0, "latency": 0.0}})
    assert Objective.of_log(senseless.objective) is None
    assert encode(senseless)
