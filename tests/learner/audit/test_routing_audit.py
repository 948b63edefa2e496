"""Decisions under limits, and those of the shadow mode, are proven from the log like all others."""

import pytest
from audit_traffic import POLICY, Installation

from conduit_learner.audit.explain import explain
from conduit_learner.audit.verification import verify
from conduit_policy import Constraints
from conduit_schemas import Selection, decode_event

LIMITS = (
    Constraints(),
    Constraints(max_cost_usd=0.005),
    Constraints(max_latency_s=2.0, min_exploration=0.2),
    Constraints(floor_relative=0.8, floor_confidence=0.9),
    Constraints(budget_price=0.3),
    Constraints(budget_spent=1.0),
    Constraints(switching_cost=0.1, previous=2),
    Constraints(stickiness=1.0, previous=1),
)


@pytest.fixture(scope="module")
def installation() -> Installation:
    return Installation(limits=lambda decision_id: LIMITS[int(decision_id[1:]) % len(LIMITS)]).run(160)


def test_every_decision_is_taken_again_from_what_is_logged(installation: Installation) -> None:
    found = verify(installation.log, POLICY, published=installation.stored_published())
    assert found.mismatched == 0
    assert found.decisions_matched == 140  # of 160, 20 before the first snapshot
    flags = {
        flag
        for message in installation.log
        if isinstance(event := decode_event(message.value), Selection)
        for flag in event.flags
    }
    assert {"cost_cap", "latency_target", "quality_floor", "budget", "budget_spent", "session_sticky"} <= flags


@pytest.mark.parametrize(
    "changes",
    [{"constraints": {}}, {"constraints": {"max_cost_usd": 1.0}}, {"flags": ()}],
    ids=["no limit", "another limit", "no flag"],
)
def test_a_limit_changed_after_the_fact_is_noticed(installation: Installation, changes: dict[str, object]) -> None:
    offset = installation.offset_of("d121")  # under a cost cap
    found = verify(installation.tampered(offset, **changes), POLICY)
    assert [wrong.decision_id for wrong in found.mismatches] == ["d121"]


def test_a_shadow_choice_is_explained_and_changed_after_the_fact_noticed(installation: Installation) -> None:
    found = explain(installation.log, POLICY, "d125")
    assert found.proof == "proven" and found.selection.fallback == "shadow"
    assert found.arms[0].logged_probability == found.selection.shadow_probabilities[0]  # type: ignore[index]  # it has them
    offset, taken = installation.offset_of("d125"), found.selection.shadow_chosen or 0
    forged = installation.tampered(offset, shadow_chosen=(taken + 1) % 3)
    assert explain(forged, POLICY, "d125").proof == "differs"
