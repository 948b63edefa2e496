"""Everything that LiteLLM's own selection respects is still respected: one test for each row of docs/parity.md.

Every test runs twice. With Conduit, which would always like to choose the deployment that the feature forbids, it
must pass. With a strategy that chooses the same from the router's model list, the way LiteLLM's documentation shows
it, it must fail: a test that passes without Conduit's handling would show nothing.
"""

import asyncio
import inspect
import random
import re
import sys
from collections.abc import Callable, Coroutine
from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import litellm
import pytest
from litellm.proxy._types import UserAPIKeyAuth
from litellm.router import Router
from litellm.types.router import CustomRoutingStrategyBase
from litellm.types.utils import BudgetConfig

from conduit_litellm.litellm_compat.rust_router import core_class

ASK = [{"role": "user", "content": "What is 17 * 23?"}]
TABLE = Path(__file__).parents[3] / "docs" / "parity.md"

pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated.*:DeprecationWarning")


class Naive(CustomRoutingStrategyBase):
    """Chooses from the model list: the group's favourite, or else its first deployment."""

    def __init__(self, router: Router, favourites: dict[str, str]) -> None:
        self._router = router
        self._favourites = favourites

    async def async_get_available_deployment(self, model: str, *_: Any, **__: Any) -> Any:
        return self.get_available_deployment(model)

    def get_available_deployment(self, model: str, *_: Any, **__: Any) -> Any:
        group = [entry for entry in self._router.get_model_list() or [] if entry["model_name"] == model]
        favourite = self._favourites.get(model)
        return next((entry for entry in group if entry["model_info"]["id"] == favourite), group[0])


class World:
    """Routers of one kind, asked by one path."""

    def __init__(self, path: str, who: str, fixtures: dict[str, Any]) -> None:
        self.path, self.who = path, who
        self.deployment = fixtures["deployment"]
        self._fixtures = fixtures
        self.strategy = fixtures["new_strategy"]() if who == "conduit" else None
        self._names: list[str] = []
        self._favourites: dict[str, str] = {}
        self._offset = 10

    def router(self, entries: list[Any], favourites: dict[str, str], **options: Any) -> Router:
        """Return a router whose strategy has a favourite deployment in each group."""
        entries = [entry if isinstance(entry, dict) else self.deployment(entry) for entry in entries]
        router = Router(model_list=entries, num_retries=options.pop("num_retries", 0), **options)
        if self.strategy is None:
            self._favourites = favourites
            router.set_custom_routing_strategy(Naive(router, favourites))
            return router
        self.strategy.install(router)
        self._names = [entry["model_info"]["id"] for entry in entries if "model_info" in entry]
        self.prefer(favourites)
        return router

    def prefer(self, favourites: dict[str, str]) -> None:
        """Change the strategy's favourites, as a newer snapshot would."""
        if self.strategy is None:
            self._favourites.update(favourites)
            return
        for group, favourite in favourites.items():
            self._offset += 1
            qualities = {name: 0.9 if name == favourite else 0.1 for name in self._names}
            newest = self._fixtures["snapshot"](qualities, policy=f"default/{group}", offset=self._offset)
            assert self.strategy._policies.update(newest)

    def pretend_there_is_a_proxy(self) -> None:
        """Keep LiteLLM from loading its whole proxy to look for a router there."""
        self._fixtures["monkeypatch"].setitem(
            sys.modules, "litellm.proxy.proxy_server", SimpleNamespace(llm_router=None)
        )

    def leave_alone_all_but(self, *groups: str) -> None:
        """Manage these groups only."""
        if self.strategy is not None:
            self.strategy = self._fixtures["new_strategy"](model_groups=list(groups))

    async def ask(self, router: Router, model: str = "chat", **options: Any) -> str:
        """Return the id of the deployment that served."""
        call = {"model": model, "messages": ASK, **options}
        if self.path == "async":
            response = await router.acompletion(**call)
        else:
            response = await asyncio.to_thread(router.completion, **call)
        return str(response._hidden_params["model_id"])

    async def only(self, deployment: str, router: Router, model: str = "chat", **options: Any) -> None:
        """Check that this deployment serves, and no other."""
        assert {await self.ask(router, model, **options) for _ in range(5)} == {deployment}

    async def soon(self, deployment: str, router: Router, model: str = "chat", **options: Any) -> None:
        """Check that eventually only this deployment serves. LiteLLM updates its records after the response."""
        for _ in range(30):
            try:
                if await self.ask(router, model, **options) == deployment:
                    break
            except Exception:  # until LiteLLM has recorded it
                pass
            await asyncio.sleep(0.05)
        await self.only(deployment, router, model, **options)

    async def decisions(self) -> list[tuple[str, str, str]]:
        """Return group, deployment and outcome of every decision, in order."""
        assert self.strategy is not None, "nobody else notes decisions"
        events = self._fixtures["events"]
        selections = await events(self.strategy, "selection")
        told = await events.outcomes(self.strategy, len(selections))
        outcomes = {event.decision_id: event for event in told}
        assert len(selections) == len(outcomes) == len(told)
        return [
            (event.policy.removeprefix("default/"), event.arm, outcomes[event.decision_id].status)
            for event in selections
        ]


Scenario = Callable[[World], Coroutine[Any, Any, None]]


def row(*paths: str) -> Callable[[Scenario], Any]:
    """Turn a scenario into a row's test, for the paths on which LiteLLM respects the feature."""

    def decorate(scenario: Scenario) -> Any:
        @pytest.mark.parametrize(("path", "who"), [*((path, "conduit") for path in paths), (paths[0], "naive")])
        @wraps(scenario)
        async def test(request, path, who):
            names = ("deployment", "new_strategy", "snapshot", "events", "monkeypatch")
            world = World(path, who, {name: request.getfixturevalue(name) for name in names})
            if who == "conduit":
                await scenario(world)
                assert world.strategy.counters["fallback_error"] == world.strategy.counters["callback_errors"] == 0
            else:
                with pytest.raises((Exception, pytest.fail.Exception)) as failure:
                    await scenario(world)
                assert not isinstance(failure.value, NameError | AttributeError), failure.value

        test.__signature__ = inspect.signature(test, follow_wrapped=False)
        del test.__wrapped__
        test.paths = paths
        return test

    return decorate


@row("async", "sync")
async def test_cooldowns(world):
    broken = world.deployment("broken", mock_response="litellm.RateLimitError")
    router = world.router(["a", broken], {"chat": "broken"}, allowed_fails=0, cooldown_time=60)
    with pytest.raises(litellm.RateLimitError):
        await world.ask(router)
    await world.soon("a", router)


@row("async", "sync")
async def test_retries(world):
    broken = world.deployment("broken", mock_response="litellm.InternalServerError")
    router = world.router(["a", broken], {"chat": "broken"}, num_retries=3, retry_after=0, allowed_fails=0)
    assert await world.ask(router) == "a"
    *failed, served = await world.decisions()
    assert failed and set(failed) == {("chat", "broken", "error")} and served == ("chat", "a", "success")


@row("async", "sync")
async def test_fallbacks(world):
    broken = world.deployment("broken", mock_response="litellm.InternalServerError")
    spare = [world.deployment(name, group="spare") for name in ("c", "d")]
    router = world.router([broken, *spare], {"spare": "d"}, fallbacks=[{"chat": ["spare"]}])
    assert await world.ask(router) == "d"
    assert await world.decisions() == [("chat", "broken", "error"), ("spare", "d", "success")]


@row("async", "sync")
async def test_default_fallbacks(world):
    router = world.router(["a", "b"], {"chat": "b"}, default_fallbacks=["chat"])
    assert await world.ask(router, "nobody-has-this-one") == "b"
    assert await world.decisions() == [("chat", "b", "success")]


@row("async", "sync")
async def test_context_window_fallbacks(world):
    small = world.deployment("small", mock_response="litellm.ContextWindowExceededError")
    large = [world.deployment(name, group="large") for name in ("c", "d")]
    router = world.router([small, *large], {"large": "d"}, context_window_fallbacks=[{"chat": ["large"]}])
    assert await world.ask(router) == "d"
    assert await world.decisions() == [("chat", "small", "error"), ("large", "d", "success")]


@row("async")
async def test_weighted_failover(world):
    broken = world.deployment("broken", mock_response="litellm.InternalServerError")
    router = world.router(["a", broken], {"chat": "broken"}, enable_weighted_failover=True, disable_cooldowns=True)
    if core_class() is not None:  # in the Rust router, only simple-shuffle does this
        with pytest.raises(litellm.InternalServerError):
            await world.ask(router)
        assert await world.decisions() == [("chat", "broken", "error")]
        return
    assert await world.ask(router) == "a"
    assert await world.decisions() == [("chat", "broken", "error"), ("chat", "a", "success")]


@row("async", "sync")
async def test_aliases(world):
    router = world.router(["a", "b"], {"chat": "b"}, model_group_alias={"nickname": "chat"})
    await world.only("b", router, "nickname")
    assert set(await world.decisions()) == {("chat", "b", "success")}


@row("async", "sync")
async def test_wildcards(world):
    entries = [world.deployment(name, group="openai/*", model="openai/*") for name in ("a", "b")]
    router = world.router(entries, {"openai/*": "b"})
    await world.only("b", router, "openai/gpt-4o-mini")


@row("async", "sync")
async def test_model_id(world):
    router = world.router(["a", "b"], {"chat": "b", "a": "b"})
    await world.only("a", router, "a")
    await world.only("b", router)
    assert set(await world.decisions()) == {("chat", "b", "success")}


@row("async", "sync")
async def test_specific_deployment(world):
    entries = [world.deployment("a", model="openai/gpt-4o-mini"), world.deployment("b", model="openai/gpt-4o")]
    router = world.router(entries, {"chat": "b"})
    await world.only("a", router, "openai/gpt-4o-mini", specific_deployment=True)


@row("async", "sync")
async def test_blocked(world):
    blocked = world.deployment("b")
    blocked["model_info"]["blocked"] = True
    await world.only("a", world.router(["a", blocked], {"chat": "b"}))


@row("async", "sync")
async def test_teams(world):
    red, blue = world.deployment("red"), world.deployment("blue")
    red["model_info"]["team_id"], blue["model_info"]["team_id"] = "red", "blue"
    router = world.router([red, blue], {"chat": "red"})
    await world.only("red", router, metadata={"user_api_key_team_id": "red"})
    await world.only("blue", router, metadata={"user_api_key_team_id": "blue"})


@row("async", "sync")
async def test_access_groups(world):
    beta, general = world.deployment("b"), world.deployment("a")
    beta["model_info"]["access_groups"], general["model_info"]["access_groups"] = ["beta"], ["general"]
    router = world.router([general, beta], {"chat": "b"})
    await world.only("a", router, metadata={"user_api_key_auth": UserAPIKeyAuth(models=["general"])})


@row("async")
async def test_tags(world):
    router = world.router(
        [world.deployment("a", tags=["free"]), world.deployment("b", tags=["paid"])],
        {"chat": "b"},
        enable_tag_filtering=True,
    )
    await world.only("a", router, metadata={"tags": ["free"]})


@row("async", "sync")
async def test_order(world):
    first, second = world.deployment("a", order=1), world.deployment("b", order=2)
    await world.only("a", world.router([first, second], {"chat": "b"}))


@row("async", "sync")
async def test_weights_serve_until_something_is_learned(world):
    random.seed(3)
    router = world.router([world.deployment("b", weight=0), world.deployment("a", weight=1)], {"other": "b"})
    await world.only("a", router)


@row("async", "sync")
async def test_weight_zero(world):
    entries = [world.deployment("b", weight=0), world.deployment("a", weight=1), world.deployment("c", weight=3)]
    router = world.router(entries, {"chat": "b"})
    assert "b" not in {await world.ask(router) for _ in range(10)}
    router = world.router([world.deployment("b", weight=0), world.deployment("a", weight=0)], {"chat": "b"})
    await world.only("b", router)


@row("async", "sync")
async def test_routing_strategy_serves_until_something_is_learned(world):
    entries = [world.deployment("b", rpm=1, tpm=1), world.deployment("a", rpm=10**6, tpm=10**6)]
    router = world.router(entries, {"other": "b"}, routing_strategy="usage-based-routing-v2")
    await world.soon("a", router)


@row("async", "sync")
async def test_context_window(world):
    small, large = world.deployment("small"), world.deployment("large")
    small["model_info"]["max_input_tokens"], large["model_info"]["max_input_tokens"] = 5, 100_000
    router = world.router([large, small], {"chat": "small"}, enable_pre_call_checks=True)
    await world.only("large", router)


@row("async")
async def test_rpm(world):
    router = world.router(
        ["a", world.deployment("b", rpm=1)],
        {"chat": "b"},
        optional_pre_call_checks=["enforce_model_rate_limits"],
        num_retries=2,
        retry_after=0,
    )
    assert await world.ask(router) == "b"
    await world.soon("a", router)


@row("async")
async def test_provider_budgets(world):
    budget = {"openai": BudgetConfig(budget_limit=1e-9, time_period="1d")}
    other = world.deployment("other", model="anthropic/claude-sonnet-4-5")
    router = world.router(["b", other], {"chat": "b"}, provider_budget_config=budget)
    await world.soon("other", router)


async def sticks(world, router, **options):
    """Check that the same deployment continues to serve, whatever the strategy prefers."""
    served = []
    for favourite in "babababa":
        world.prefer({"chat": favourite})
        served.append(await world.ask(router, **options))
        await asyncio.sleep(0.1)  # LiteLLM records after the response which deployment served
    assert len(set(served[-4:])) == 1, served
    world.prefer({"chat": "a"})
    assert await world.ask(router) == "a"
    world.prefer({"chat": "b"})
    assert await world.ask(router) == "b"


@row("async")
async def test_session_affinity(world):
    router = world.router(["a", "b"], {"chat": "b"}, optional_pre_call_checks=["session_affinity"])
    await sticks(world, router, metadata={"session_id": "s1"})


@row("async")
async def test_prompt_cache_affinity(world):
    text = {"type": "text", "text": "a long prefix " * 1000, "cache_control": {"type": "ephemeral"}}
    entries = [world.deployment(name, model="anthropic/claude-sonnet-4-5") for name in ("a", "b")]
    router = world.router(entries, {"chat": "b"}, optional_pre_call_checks=["prompt_caching"])
    await sticks(world, router, messages=[{"role": "user", "content": [text]}])


class _OnlyModel:
    """A LiteLLM routing plugin: a rule about which models may serve."""

    def __init__(self, *models: str) -> None:
        self._models = models

    async def run(self, context: Any) -> Any:
        context.candidate_models = [model for model in context.candidate_models if model in self._models]
        return context


@row("async")
async def test_routing_plugins(world):
    entries = [world.deployment("a", model="openai/gpt-4o-mini"), world.deployment("b", model="openai/gpt-4o")]
    router = world.router(entries, {"chat": "b"}, plugins=[_OnlyModel("openai/gpt-4o-mini")])
    await world.only("a", router)


@row("async", "sync")
async def test_deny_all_routing_plugins(world):
    router = world.router(["a", "b"], {"chat": "b"}, plugins=[_OnlyModel()])
    with pytest.raises(Exception, match="plugin"):
        await world.ask(router)


@row("async")
async def test_auto_routers(world):
    world.pretend_there_is_a_proxy()
    tiers = {"SIMPLE": "small", "MEDIUM": "large", "COMPLEX": "large", "REASONING": "large"}
    auto = {
        "model_name": "auto",
        "litellm_params": {
            "model": "auto_router/complexity_router",
            "complexity_router_config": {"tiers": tiers, "context_compaction": False},
            "complexity_router_default_model": "large",
        },
    }
    names = ["small-1", "small-2", "large-1", "large-2"]
    entries = [world.deployment(name, group=name.partition("-")[0]) for name in names]
    router = world.router([auto, *entries], {"small": "small-2"})
    await world.only("small-2", router, "auto", messages=[{"role": "user", "content": "Hello!"}])
    assert set(await world.decisions()) == {("small", "small-2", "success")}


@row("async", "sync")
async def test_unmanaged_groups(world):
    world.leave_alone_all_but("chat")
    entries = ["a", "b", world.deployment("c", group="other", weight=1), world.deployment("d", group="other", weight=0)]
    router = world.router(entries, {"chat": "b", "other": "d"})
    await world.only("c", router, "other")
    await world.only("b", router)
    assert set(await world.decisions()) == {("chat", "b", "success")}


@row("async", "sync")
async def test_routing_groups(world):
    entries = [world.deployment("b", rpm=1, tpm=1), world.deployment("a", rpm=10**6, tpm=10**6)]
    groups = [{"group_name": "g", "models": ["chat"], "routing_strategy": "usage-based-routing-v2"}]
    router = world.router(entries, {"other": "b"}, routing_groups=groups)
    await world.soon("a", router)


def table_rows() -> dict[str, tuple[str, ...]]:
    """Return the paths that docs/parity.md names for each test."""
    rows = re.findall(r"^\|[^|]+\|[^|]+\| *([a-z, ]+?) *\| *`(test_\w+)` *\|$", TABLE.read_text(), re.MULTILINE)
    return {test: tuple(part.strip() for part in paths.split(",")) for paths, test in rows}


def test_the_table_and_the_tests_are_in_step():
    tests = {name: test.paths for name, test in globals().items() if hasattr(test, "paths")}
    assert table_rows() == tests
