"""What applies to a request: modes, goals of policy, team, key and request, budgets, sessions."""

import logging
import math
from collections import Counter

import numpy as np
import pytest

from conduit_litellm import ConfigurationError
from conduit_litellm.decisions.ledger import Decision
from conduit_litellm.events.counters import Counters
from conduit_litellm.litellm_compat.requests import LiteLLMRequest
from conduit_litellm.routing.directives import Directives
from conduit_policy import Beliefs, Constraints, Objective, choose
from conduit_schemas import (
    ArmSnapshot,
    Budget,
    QualityFloor,
    RoutingGoal,
    RoutingSettings,
    RoutingState,
    SignalPosterior,
    Snapshot,
    Spend,
    Weights,
)

ASK = [{"role": "user", "content": "What is 17 * 23?"}]
POLICY = "default/chat"
DAY_MS = 86_400_000
COSTS = {"dear": 0.02, "cheap": 0.001}


def _known(value: float, dimension: int = 64, sigma: float = 0.1) -> SignalPosterior:
    nothing = np.zeros(dimension, "<f4").tobytes()
    precise = np.full(dimension, 1e6, "<f4").tobytes()
    return SignalPosterior(mean=nothing, precision=precise, baseline=value, sigma=sigma, average=value, weight=500.0)


@pytest.fixture
def priced(snapshot):
    """Return a maker of snapshots in which ``dear`` is better and twenty times as dear as ``cheap``."""

    def make(*, offset: int = 10, quality: tuple[float, float] = (0.9, 0.82), **routing: object) -> Snapshot:
        plain = snapshot(dict(zip(COSTS, quality, strict=True)), offset=offset)
        arms = {
            name: ArmSnapshot(signals={**arm.signals, "cost": _known(math.log(COSTS[name]))})
            for name, arm in plain.arms.items()
        }
        state = RoutingState.model_validate(routing) if routing else None
        return plain.model_copy(update={"arms": arms, "routing": state}).sealed()

    return make


async def ask(router, **options):
    response = await router.acompletion(model="chat", messages=ASK, **options)
    return response._hidden_params["model_id"]


async def test_applications_say_in_the_log_how_they_want_to_be_used(new_strategy, new_router, events):
    strategy = new_strategy(
        objective=Objective(1.0, 0.25, 0.0),
        constraints={"max_cost_usd": 0.5, "budget": {"usd": 3, "per": "1000_requests"}},
        overrides={"team:growth": {"objective": "cost"}},
        mode="canary",
        rollout={"canary_share": 0.5, "automatic": {"margin": 0.1}},
    )
    await ask(new_router(strategy))
    (change,) = await events(strategy, "routing")
    assert change.origin == "application" and change.changed_by
    settings = change.routing
    assert settings.goal.objective == Weights(quality=1.0, cost=0.25, latency=0.0)
    assert settings.goal.budget == Budget(usd=3.0, per="1000_requests")
    assert settings.overrides["team:growth"].objective == "cost"
    assert (settings.mode, settings.canary_share, settings.automatic.margin) == ("canary", 0.5, 0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "on"}, r"mode='on'"),
        ({"constraints": {"max_cost": 1}}, r"no 'goal.max_cost'; there are .*max_cost_usd"),
        ({"constraints": {"max_cost_usd": -1}}, r"goal.max_cost_usd=-1"),
        ({"constraints": {"budget": {"usd": 1, "per": "week"}}}, r"goal.budget.per='week'"),
        ({"overrides": {"growth": {"objective": "cost"}}}, r"overrides.growth"),
        ({"overrides": {"team:x": {"objective": "best"}}}, r"no objective preset 'best'"),
        ({"rollout": {"share": 0.5}}, r"no 'share'; there are .*canary_share"),
        ({"rollout": {"mode": "off"}}, r"'mode' is a separate setting"),
        ({"constraints": {"objective": "cost"}}, r"'objective' is a separate setting"),
    ],
)
def test_settings_that_make_no_sense_are_refused_at_once(arguments, message, new_strategy):
    with pytest.raises(ConfigurationError, match=message):
        new_strategy(**arguments)


async def test_the_time_to_the_first_token_counts_for_streams_alone(
    new_strategy, new_router, deployment, priced, events
):
    for wish in ({"objective": Objective(ttft=0.5)}, {"constraints": {"max_ttft_s": 1.0}}):
        strategy, plain = new_strategy(**wish), priced()
        arms = {
            name: arm.model_copy(update={"signals": {**arm.signals, "ttft": _known(math.log(seconds))}})
            for (name, arm), seconds in zip(plain.arms.items(), (4.0, 0.2), strict=True)
        }
        strategy._policies.update(plain.model_copy(update={"arms": arms}).sealed())
        router = new_router(strategy, [deployment("dear"), deployment("cheap")])
        assert {await ask(router) for _ in range(5)} == {"dear"}
        for _ in range(5):
            async for _ in await router.acompletion(model="chat", messages=ASK, stream=True):
                pass
        chosen = [event.arm for event in await events(strategy, "selection")][-10:]
        assert chosen == 5 * ["dear"] + 5 * ["cheap"]


async def test_off_leaves_everything_to_litellm_and_still_learns(new_strategy, new_router, deployment, priced, events):
    strategy = new_strategy(mode="off")
    strategy._policies.update(priced())
    router = new_router(strategy, [deployment("dear", weight=1e-9), deployment("cheap", weight=1)])
    assert {await ask(router) for _ in range(10)} == {"cheap"}
    assert (strategy.counters["selections_off"], strategy.counters["fallbacks"]) == (10, 0)
    for event in await events(strategy, "selection"):
        assert (event.mode, event.fallback, event.probabilities, event.shadow_chosen) == ("off", "off", None, None)
    assert len(await events.outcomes(strategy, 10)) == 10


async def test_shadow_notes_what_conduit_would_have_done(new_strategy, new_router, deployment, priced, events):
    strategy, newest = new_strategy(mode="shadow"), priced()
    strategy._policies.update(newest)
    router = new_router(strategy, [deployment("dear", weight=1e-9), deployment("cheap", weight=1)])
    assert {await ask(router) for _ in range(10)} == {"cheap"}
    beliefs = Beliefs(newest)
    for event in await events(strategy, "selection"):
        assert (event.mode, event.fallback, event.arm) == ("shadow", "shadow", "cheap")
        again = choose(
            beliefs,
            np.frombuffer(event.context, "<i2"),
            event.arms,
            objective=Objective(**event.objective),
            decision_id=event.decision_id,
            constraints=Constraints.of_log(event.constraints),
        )
        assert event.shadow_chosen == again.index == 0
        assert event.shadow_probabilities == tuple(again.probabilities) and event.snapshot_hash == newest.hash


async def test_a_canary_is_a_share_of_the_users_each_always_on_the_same_side(
    new_strategy, new_router, deployment, priced, events
):
    strategy = new_strategy(mode="canary", rollout={"canary_share": 0.3})
    strategy._policies.update(priced())
    router = new_router(strategy, [deployment("dear", weight=1e-9), deployment("cheap", weight=1)])
    sides = {f"user-{number}": await ask(router, user=f"user-{number}") for number in range(100)}
    assert 15 <= Counter(sides.values())["dear"] <= 45
    for user in list(sides)[:30]:
        assert await ask(router, user=user) == sides[user]
    for event in await events(strategy, "selection"):
        assert event.mode == "canary"
        if event.arm == "dear":
            assert event.fallback is None and event.probabilities is not None and event.shadow_chosen is None
        else:
            assert event.fallback == "control" and event.probabilities is None and event.shadow_chosen == 0


@pytest.mark.parametrize(("share", "sides"), [(0.0, {"control"}), (0.5, {None, "control"}), (1.0, {None})])
def test_the_share_is_kept_and_the_side_depends_on_what_it_is_sticky_by(share, sides):
    settings = RoutingSettings(mode="canary", canary_share=share, sticky_by="session")
    directives = Directives(settings, Objective(), Counters())

    def side(session: str | None, decision_id: str) -> str | None:
        params = {} if session is None else {"metadata": {"session_id": session}, "user": "same"}
        return directives.of_request(POLICY, None, LiteLLMRequest(params), ("a", "b"), decision_id).fallback

    found = Counter(side(None, f"d{number}") for number in range(2000))
    assert set(found) == sides
    assert found[None] == pytest.approx(2000 * share, abs=100)
    for session in map(str, range(20)):
        assert len({side(session, f"d{number}") for number in range(20)}) == 1


def test_an_operator_stands_above_the_application_and_only_an_operator(priced):
    directives = Directives(RoutingSettings(goal=RoutingGoal(objective="cost")), Objective.preset("cost"), Counters())

    def orders(snapshot):
        return directives.of_request(POLICY, Beliefs(snapshot), LiteLLMRequest({}), ("dear", "cheap"), "d")

    other = RoutingSettings(mode="off", goal=RoutingGoal(objective="speed"))
    assert orders(priced(settings=other, origin="application", mode="off")).objective == Objective.preset("cost")
    found = orders(priced(settings=other, origin="operator", mode="off"))
    assert (found.mode, found.objective) == ("off", Objective.preset("speed"))


def test_what_a_rollout_has_come_to_is_obeyed(priced):
    own = RoutingSettings(mode="canary", canary_share=0.0)
    directives = Directives(own, Objective(), Counters())
    promoted = priced(settings=own, origin="application", mode="canary", canary_share=1.0)
    assert directives.of_request(POLICY, Beliefs(promoted), LiteLLMRequest({}), ("dear", "cheap"), "d").fallback is None
    back = priced(settings=own, origin="application", mode="shadow", canary_share=0.0)
    assert directives.of_request(POLICY, Beliefs(back), LiteLLMRequest({}), ("dear", "cheap"), "d").fallback == "shadow"


def _control(**settings: object) -> Directives:
    return Directives(RoutingSettings.model_validate(settings), Objective(), Counters())


def test_the_most_particular_goal_counts_but_the_lowest_cap():
    directives = _control(
        goal={"objective": "quality", "max_cost_usd": 0.05, "max_latency_s": 9.0},
        overrides={
            "team:growth": {"objective": "cost", "max_cost_usd": 0.5},
            "key:ci": {"quality_floor": {"relative": 0.8}},
        },
    )

    def orders(**metadata):
        return directives.of_request(POLICY, None, LiteLLMRequest({"metadata": metadata}), ("a", "b"), "d")

    everybody = orders()
    assert everybody.objective == Objective.preset("quality") and everybody.scope is None
    assert everybody.constraints == Constraints(max_cost_usd=0.05, max_latency_s=9.0)
    growth = orders(user_api_key_team_alias="growth", user_api_key_alias="unknown")
    assert growth.objective == Objective.preset("cost") and growth.scope == "team:growth"
    assert growth.constraints.max_cost_usd == 0.05
    ci = orders(user_api_key_team_alias="growth", user_api_key_alias="ci")
    assert ci.scope == "key:ci" and ci.objective == Objective.preset("quality")
    assert ci.constraints.floor_relative == 0.8
    wanted = orders(conduit={"objective": {"quality": 1, "cost": 0.5, "latency": 0}, "max_cost_usd": 0.01})
    assert wanted.objective == Objective(1.0, 0.5, 0.0) and wanted.constraints.max_cost_usd == 0.01
    assert orders(conduit={"max_cost_usd": 9.0}).constraints.max_cost_usd == 0.05


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"objective": "best"}, "no objective preset 'best'"),
        ({"max_cost_usd": "much"}, "max_cost_usd='much'"),
        ({"max_cost_usd": float("nan")}, "max_cost_usd=nan"),
        ({"budget": {"usd": 1}}, "a request cannot set 'budget'; it can set objective, max_cost_usd"),
        ({"mode": "off"}, "a request cannot set 'mode'"),
        ({"quality_floor": {"relative": 2}}, "relative=2"),
        ("{nonsense", "must be a JSON object"),
        (["cost"], "must be an object"),
        ({"objective": object()}, "must be a JSON object"),
    ],
)
async def test_a_request_that_wants_nonsense_is_served_and_it_is_counted_and_said_once(  # noqa: PLR0917 - fixtures
    wanted, message, strategy, new_router, priced, caplog
):
    strategy._policies.update(priced())
    router = new_router(strategy, ["dear", "cheap"])
    assert [await ask(router, metadata={"conduit": wanted}) for _ in range(3)] == ["dear"] * 3
    assert strategy.counters["request_goals_refused"] == 3 and strategy.counters["fallbacks"] == 0
    said = [record.message for record in caplog.records if "of a request is ignored" in record.message]
    assert len(said) == 1 and message in said[0]


async def test_the_good_part_of_what_a_request_wants_counts(strategy, new_router, priced, events):
    strategy._policies.update(priced())
    router = new_router(strategy, ["dear", "cheap"])
    served = await ask(router, metadata={"conduit": {"max_cost_usd": 0.01, "objective": "best"}})
    assert served == "cheap"
    assert await ask(router, metadata={"conduit": '{"objective": "cost"}'}) == "cheap"
    first, second = await events(strategy, "selection")
    assert first.constraints == {"max_cost_usd": 0.01} and "cost_cap" in first.flags
    assert second.objective == Objective.preset("cost").weights()


async def test_the_goal_of_a_request_is_logged_so_that_the_choice_can_be_taken_again(
    strategy, new_router, priced, events
):
    newest = priced()
    strategy._policies.update(newest)
    router = new_router(strategy, ["dear", "cheap"])
    await ask(router, metadata={"conduit": {"quality_floor": {"relative": 0.9, "confidence": 0.9}}})
    (event,) = await events(strategy, "selection")
    assert (event.arm, event.flags, event.mode) == ("cheap", ("quality_floor",), "active")
    again = choose(
        Beliefs(newest),
        np.frombuffer(event.context, "<i2"),
        event.arms,
        objective=Objective(**event.objective),
        decision_id=event.decision_id,
        constraints=Constraints.of_log(event.constraints),
    )
    assert tuple(again.probabilities) == event.probabilities and again.flags == event.flags


def test_a_budget_presses_by_what_the_log_knows_and_what_this_process_paid_since(priced):
    now = 20 * DAY_MS + DAY_MS // 2
    settings = RoutingSettings(
        goal=RoutingGoal(budget=Budget(usd=100.0)), overrides={"key:ci": RoutingGoal(budget=Budget(usd=10.0))}
    )
    directives = Directives(settings, Objective(), Counters(), clock=lambda: now / 1000.0)

    def price(beliefs, **metadata):
        found = directives.of_request(POLICY, beliefs, LiteLLMRequest({"metadata": metadata}), ("dear", "cheap"), "d")
        return found.constraints.budget_price, found.constraints.budget_spent

    today = Spend(day_start_ms=20 * DAY_MS, day_usd=46.0)
    fields = {"settings": settings, "origin": "application", "spend": {"": today}}
    known = Beliefs(priced(**fields))
    assert price(None) == (0.0, 0.0)
    assert price(known) == (pytest.approx(0.1), 0.0)
    directives.paid(Decision("d1", POLICY, "dear", 0.0, scope="key:ci"), 5.0)
    directives.paid(Decision("d2", POLICY, "dear", 0.0), None)
    assert price(known) == (pytest.approx(0.6), 0.0)
    assert price(known, user_api_key_alias="ci") == (pytest.approx(0.6), 0.0)  # the policy's budget covers everything
    directives.paid(Decision("d3", POLICY, "dear", 0.0, scope="key:ci"), 1.0)
    assert price(known, user_api_key_alias="ci") == (1.0, 1.0)  # 6 of 10 USD at noon, where 4.5 are planned
    newer = priced(offset=11, **fields | {"spend": {"": Spend(day_start_ms=20 * DAY_MS, day_usd=52.0)}})
    covering = Beliefs(newer.model_copy(update={"stream_time_ms": now + 1}))
    assert price(covering) == (pytest.approx(0.7), 0.0)  # what the snapshot includes is not counted twice


async def test_a_budget_sends_requests_to_cheaper_deployments_and_refuses_none(
    new_strategy, new_router, deployment, priced, until
):
    strategy = new_strategy(constraints={"budget": {"usd": 0.5, "per": "1000_requests"}})
    strategy._policies.update(priced(quality=(0.9, 0.5)))
    price = {"input_cost_per_token": 1e-4, "output_cost_per_token": 1e-4}
    router = new_router(strategy, [deployment("dear", **price), deployment("cheap")])
    served = []
    for number in range(60):
        served.append(await ask(router))
        await until(lambda done=number + 1: strategy.counters["outcomes_success"] >= done)
    assert served[:5] == ["dear"] * 5
    assert "cheap" in served[20:] and len(served) == 60


async def test_a_session_stays_where_its_prompt_cache_is_warm(new_strategy, new_router, priced, events):
    strategy = new_strategy(rollout={"switching_cost": 0.2})
    strategy._policies.update(priced(quality=(0.9, 0.5)))
    router = new_router(strategy, ["dear", "cheap"])
    assert await ask(router, litellm_session_id="s1") == "dear"
    strategy._policies.update(priced(offset=11, quality=(0.5, 0.6)))
    assert await ask(router, litellm_session_id="s1") == "dear"
    assert await ask(router, litellm_session_id="s2") == "cheap"
    assert await ask(router) == "cheap"
    selections = await events(strategy, "selection")
    assert [event.flags for event in selections] == [(), ("switching_cost",), (), ()]
    assert selections[1].constraints == {"switching_cost": 0.2, "previous": 0.0}


async def test_a_sticky_session_keeps_its_deployment_while_it_can(new_strategy, new_router, priced):
    strategy = new_strategy(rollout={"session_stickiness": True})
    strategy._policies.update(priced(quality=(0.9, 0.1)))
    router = new_router(strategy, ["dear", "cheap"])
    assert await ask(router, metadata={"session_id": "s1"}) == "dear"
    strategy._policies.update(priced(offset=11, quality=(0.1, 0.9)))
    assert await ask(router, metadata={"session_id": "s1"}) == "dear"
    assert await ask(router, metadata={"session_id": "s1", "conduit": {"max_cost_usd": 0.01}}) == "cheap"


async def test_until_quality_is_known_price_decides_nothing_and_one_warning_says_so(
    new_strategy, new_router, priced, caplog
):
    strategy = new_strategy(objective="cost", constraints={"quality_floor": {"relative": 0.95}})
    unrated = priced()
    arms = {
        name: ArmSnapshot(signals={signal: known for signal, known in arm.signals.items() if signal != "quality"})
        for name, arm in unrated.arms.items()
    }
    strategy._policies.update(unrated.model_copy(update={"arms": arms}))
    router = new_router(strategy, ["dear", "cheap"])
    with caplog.at_level(logging.WARNING, logger="conduit"):
        served = Counter([await ask(router) for _ in range(60)])
    assert min(served["dear"], served["cheap"]) > 10
    assert strategy.counters["selections_without_quality"] == 60
    assert sum("too little is known of the quality" in record.message for record in caplog.records) == 1
    strategy._policies.update(priced(offset=11, quality=(0.9, 0.88)))
    assert {await ask(router) for _ in range(10)} == {"cheap"}
    assert strategy.counters["selections_without_quality"] == 60


def test_a_goal_may_have_a_floor_of_its_own():
    found = _control(goal={"quality_floor": QualityFloor(relative=0.9)}).of_request(
        POLICY, None, LiteLLMRequest({}), ("a", "b"), "d"
    )
    assert found.logged == {"floor_relative": 0.9, "floor_confidence": 0.95}
