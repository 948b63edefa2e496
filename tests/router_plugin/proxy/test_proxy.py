"""The real LiteLLM proxy in its own process, with Conduit in its config.yaml, used through the openai client."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from openai import APIError, APITimeoutError, AsyncOpenAI

from conduit_log import LogSettings
from local_servers.model_server import ModelServer

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.process]

KEY = "sk-for-the-tests-of-conduit"
ASK = [{"role": "user", "content": "hello"}]
ASK_CHAT = {"model": "chat", "messages": ASK}

# A callback in the role of an administrator who changes the proxy while it runs. With a database, the proxy does the
# same things to its router; without one, there is no other way.
ADMINISTRATOR = """
import asyncio
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy import proxy_server
from litellm.proxy.auth.route_checks import RouteChecks
from litellm.types.router import Deployment

class Administrator(CustomLogger):
    async def async_pre_call_hook(self, user_api_key_dict, cache, data, call_type):
        order = (data.get("metadata") or {}).get("order")
        router = proxy_server.llm_router
        if order == "replace the router":
            models = proxy_server.llm_model_list
            known = {"fallbacks": router.fallbacks, "num_retries": 0, "disable_cooldowns": True}
            proxy_server.llm_router = type(router)(model_list=models, **known)
        elif order == "change the strategy":
            router.update_settings(routing_strategy="latency-based-routing")
        elif order == "add a model":
            params = {"model": "openai/gpt-4o-mini", "api_key": "x", "api_base": data["metadata"]["base"]}
            router.add_deployment(Deployment(model_name="new", litellm_params=params, model_info={"id": "n"}))
        elif order == "delete a model":
            router.delete_deployment(id="n")

    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        if kwargs["litellm_params"]["metadata"].get("order") == "keep the other callbacks waiting":
            await asyncio.sleep(1.5)

    async def async_post_call_response_headers_hook(self, data, user_api_key_dict, response, **rest):
        metadata = data.get("metadata") or {}
        if metadata.get("order") == "may ordinary keys call":
            return {"x-ordinary-keys-may-call": str(RouteChecks.is_llm_api_route(metadata["route"]))}

administrator = Administrator()
"""


def entry(server: ModelServer, name: str, behaviour: str = "ok", group: str = "chat", **params: Any) -> dict[str, Any]:
    params = {"model": "openai/gpt-4o-mini", "api_key": "unused", "api_base": server.base(behaviour), **params}
    return {"model_name": group, "litellm_params": {"max_retries": 0, **params}, "model_info": {"id": name}}


class Proxy:
    """A proxy process and the log it writes to."""

    def __init__(self, folder: Path, config: dict[str, Any], *options: str, **environment: str) -> None:
        self.log = LogSettings(path=Path(config["conduit"].get("log_path", folder / "home")))
        self.output = folder / "output.txt"
        (folder / "administrator.py").write_text(ADMINISTRATOR)
        (folder / "config.yaml").write_text(json.dumps(config))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        program = [sys.executable, "-c", "from litellm import run_server; run_server()"]
        address = ["--host", "127.0.0.1", "--port", str(port)]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*program, "--config", str(folder / "config.yaml"), *address, *options],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={
                    **os.environ,
                    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                    "CONDUIT_HOME": str(folder / "home"),
                    **environment,
                },
            )
        self.openai = AsyncOpenAI(base_url=self.url, api_key=KEY, max_retries=0, timeout=180.0)
        self.http = httpx.AsyncClient(
            base_url=self.url, headers={"Authorization": f"Bearer {KEY}"}, timeout=180.0, trust_env=False
        )

    async def ready(self) -> None:
        for _ in range(2400):
            assert self.process.poll() is None, self.said()
            try:
                if (await self.http.get("/health/readiness")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)
        raise AssertionError(f"the proxy does not start: {self.said()}")

    async def stop(self) -> None:
        await self.openai.close()
        await self.http.aclose()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                await asyncio.to_thread(self.process.wait, 120.0)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise

    def said(self) -> str:
        return self.output.read_text()

    async def post_anew(self, path: str, body: dict[str, Any]) -> httpx.Response:
        return await self.http.post(path, json=body, headers={"Connection": "close"})

    async def chat(self, model: str = "chat", **more: Any) -> Any:
        return await self.openai.chat.completions.with_raw_response.create(model=model, messages=ASK, **more)

    async def attempts(self, events: Any, response: Any) -> list[tuple[Any, Any]]:
        """Return selection and outcome of every attempt at a request, named by its response or a decision."""
        decision = response if isinstance(response, str) else response.headers["x-conduit-decision-id"]
        for _ in range(150):
            found = [event for event in await events.stored(self.log) if event.kind in {"selection", "outcome"}]
            selections = {event.decision_id: event for event in found if event.kind == "selection"}
            if decision in selections:
                request = selections[decision].request_id
                mine = [event for event in selections.values() if event.request_id == request]
                outcomes = [
                    [event for event in found if event.kind == "outcome" and event.decision_id == one.decision_id]
                    for one in mine
                ]
                if all(outcomes):
                    assert [len(told) for told in outcomes] == [1] * len(mine)
                    return [(one, told[0]) for one, told in zip(mine, outcomes, strict=True)]
            await asyncio.sleep(0.1)
        raise AssertionError(f"no outcome of {decision} was logged; {self.said()[-2000:]}")


async def reconciled(events: Any, log: LogSettings) -> int:
    """Check that every decision has exactly one outcome, and return how many there are."""
    stored = await events.stored(log)
    decisions = Counter(event.decision_id for event in stored if event.kind == "selection")
    outcomes = Counter(event.decision_id for event in stored if event.kind == "outcome")
    assert outcomes == decisions and set(outcomes.values()) == {1}
    return len(decisions)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def upstream():
    async with ModelServer().running() as server:
        yield server


def configuration(server: ModelServer, **conduit: Any) -> dict[str, Any]:
    embedding = {"model": "openai/text-embedding-3-small"}
    return {
        "model_list": [
            entry(server, "a"),
            entry(server, "b"),
            entry(server, "broken-1", "status-500", "broken"),
            entry(server, "full-1", "status-429", "full"),
            entry(server, "hanging-1", "hang", "hanging", timeout=0.5),
            entry(server, "dropping-1", "drop", "dropping"),
            entry(server, "rescued-1", "overload", "rescued"),
            entry(server, "patient-1", "late", "patient"),
            entry(server, "spare-1", "ok", "spare"),
            entry(server, "claude-1", group="claude", model="anthropic/claude-sonnet-4-5"),
            entry(server, "vectors-1", group="vectors", **embedding),
            entry(server, "unmanaged-1", group="unmanaged"),
        ],
        "litellm_settings": {
            "callbacks": ["administrator.administrator", "prometheus", "conduit_litellm.proxy.handler"],
            "cache": True,
            "cache_params": {"type": "local", "mode": "default_off"},
        },
        "router_settings": {
            "num_retries": 0,
            "disable_cooldowns": True,
            "fallbacks": [{"broken": ["spare"]}, {"rescued": ["spare"]}],
            "model_group_alias": {"alias": "chat"},
        },
        "general_settings": {"master_key": KEY},
        "conduit": conduit,
    }


MANAGED = ["chat", "broken", "full", "hanging", "dropping", "rescued", "patient", "spare", "claude", "vectors", "new"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxy(upstream, tmp_path_factory):
    folder = tmp_path_factory.mktemp("proxy")
    config = configuration(upstream, model_groups=MANAGED, log_path=str(folder / "log"))
    running = Proxy(folder, config, CONDUIT_NAMESPACE="team-red")
    try:
        await running.ready()
        yield running
    finally:
        await running.stop()


async def test_the_first_request_is_a_decision_and_the_response_names_it(proxy, events):
    response = await proxy.chat()
    assert response.parse().choices[0].message.content == "hello"
    ((selection, outcome),) = await proxy.attempts(events, response)
    assert selection.policy == response.headers["x-conduit-policy"] == "team-red/chat"
    assert selection.arms == ("a", "b") and selection.arm == response.headers["x-litellm-model-id"]
    assert outcome.status == "success" and outcome.latency_s > 0.0
    assert (outcome.input_tokens, outcome.output_tokens) == (100, 20)
    assert outcome.cost_usd == pytest.approx(100 * 0.15e-6 + 20 * 0.6e-6)  # gpt-4o-mini, USD per token


async def test_concurrent_requests_keep_their_own_decisions(proxy, events):
    responses = await asyncio.gather(*[proxy.chat(metadata={"shared": "yes"}) for _ in range(20)])
    assert len({response.headers["x-conduit-decision-id"] for response in responses}) == 20
    for response in responses:
        ((selection, outcome),) = await proxy.attempts(events, response)
        assert selection.arm == response.headers["x-litellm-model-id"] and outcome.status == "success"


async def test_every_interface_is_learned_from(proxy, events):
    answer = await proxy.openai.responses.with_raw_response.create(model="chat", input="hello")
    vectors = await proxy.openai.embeddings.with_raw_response.create(model="vectors", input=["one", "two"])
    body = {"model": "claude", "messages": ASK, "max_tokens": 10}
    message = await proxy.http.post("/v1/messages", json=body)
    for response, policy, tokens in (
        (answer, "team-red/chat", (10, 5)),
        (vectors, "team-red/vectors", (7, 0)),
        (message, "team-red/claude", (10, 5)),
    ):
        ((selection, outcome),) = await proxy.attempts(events, response)
        assert (selection.policy, outcome.status) == (policy, "success")
        assert (outcome.input_tokens, outcome.output_tokens) == tokens
        assert outcome.cost_usd > 0.0


async def test_a_stream_tells_the_first_token_and_the_last(proxy, events):
    response = await proxy.chat(stream=True)
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in response.parse() if chunk.choices])
    assert text == "word " * 4
    ((_, outcome),) = await proxy.attempts(events, response)
    assert outcome.status == "success" and 0.0 < outcome.ttft_s < outcome.latency_s
    assert outcome.latency_s >= 0.4


async def test_streams_of_the_other_interfaces_are_learned_from_at_their_end(proxy, events):
    responses = []
    for path, body in (
        ("/v1/responses", {"model": "chat", "input": "hello", "stream": True}),
        ("/v1/messages", {"model": "claude", "messages": ASK, "max_tokens": 10, "stream": True}),
    ):
        responses.append(await proxy.http.post(path, json=body))
        assert "response.completed" in responses[-1].text or "message_stop" in responses[-1].text
    for response in responses:
        ((_, outcome),) = await proxy.attempts(events, response)
        assert (outcome.status, outcome.input_tokens, outcome.output_tokens) == ("success", 10, 5)
        assert 0.0 < outcome.ttft_s <= outcome.latency_s and outcome.cost_usd > 0.0


async def test_a_stream_that_breaks_is_an_error(proxy, events):
    response = await proxy.chat("dropping", stream=True)
    with pytest.raises(APIError):
        async for _ in response.parse():
            pass
    ((_, outcome),) = await proxy.attempts(events, response)
    assert outcome.status == "error" and outcome.error_class


async def test_a_client_that_leaves_in_the_middle_says_nothing_against_the_deployment(proxy, events):
    async with proxy.openai.chat.completions.with_streaming_response.create(
        model="chat", messages=ASK, stream=True
    ) as response:
        async for _ in response.iter_lines():
            break
    ((_, outcome),) = await proxy.attempts(events, response)
    assert outcome.status == "client_disconnect"


@pytest.mark.parametrize(
    ("model", "error", "code"),
    [("full", "RateLimitError", "429"), ("hanging", "Timeout", "408")],
)
async def test_every_retry_is_a_decision_of_its_own(proxy, events, model, error, code):
    with pytest.raises(APIError) as failure:
        await proxy.chat(model, extra_body={"num_retries": 1})
    attempts = await proxy.attempts(events, failure.value.response)
    assert [outcome.status for _, outcome in attempts] == ["error"] * 2
    assert {(outcome.error_class, outcome.error_code) for _, outcome in attempts} == {(error, code)}
    assert attempts[-1][0].decision_id == failure.value.response.headers["x-conduit-decision-id"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_fallback_is_told_apart_from_the_failure(proxy, events, stream):
    response = await proxy.chat("broken", stream=stream)
    if stream:
        async for _ in response.parse():
            pass
    (failed, error), (served, success) = await proxy.attempts(events, response)
    assert (failed.policy, error.status, error.error_code) == ("team-red/broken", "error", "500")
    assert (served.policy, success.status) == ("team-red/spare", "success")
    assert response.headers["x-conduit-decision-id"] == served.decision_id
    assert response.headers["x-conduit-policy"] == "team-red/spare"


async def test_a_stream_that_fails_over_before_its_first_word_gives_each_deployment_its_own_outcome(proxy, events):
    response = await proxy.chat("rescued", stream=True)
    async for _ in response.parse():
        pass
    attempts = await proxy.attempts(events, response)
    assert [(selection.policy, outcome.status) for selection, outcome in attempts] == [
        ("team-red/rescued", "error"),
        ("team-red/spare", "success"),
    ]


async def test_a_client_that_does_not_wait_for_the_answer_leaves_one_outcome_all_the_same(proxy, events):
    before = {event.decision_id for event in await events.stored(proxy.log) if event.kind == "selection"}
    with pytest.raises(APITimeoutError):
        await proxy.chat("patient", timeout=1.0)
    left = [event for event in await events.stored(proxy.log) if event.kind == "selection"]
    (decision,) = [event.decision_id for event in left if event.decision_id not in before]
    ((_, outcome),) = await proxy.attempts(events, decision)
    assert outcome.status == "success"


async def test_a_cached_answer_is_never_learned_from(proxy, events):
    cached = {"extra_body": {"cache": {"use-cache": True}}, "seed": 7}
    await proxy.chat(**cached)
    for _ in range(50):  # LiteLLM stores an answer a moment after it was given
        response = await proxy.chat(**cached)
        ((_, outcome),) = await proxy.attempts(events, response)
        if outcome.status == "cache_hit":
            break
    assert outcome.status == "cache_hit" and outcome.cost_usd is None and outcome.latency_s is None


async def test_aliases_work_and_what_is_not_to_be_managed_is_left_alone(proxy, events):
    response = await proxy.chat("alias")
    ((selection, _),) = await proxy.attempts(events, response)
    assert selection.policy == "team-red/chat"
    for model in ("unmanaged", "a"):  # a group that is not managed, and a deployment named by its id
        response = await proxy.chat(model)
        assert response.parse().choices[0].message.content == "hello"
        assert "x-conduit-decision-id" not in response.headers


async def test_whatever_happens_to_the_router_the_next_request_is_a_decision_again(proxy, events, upstream):
    for order in ("replace the router", "change the strategy"):
        await proxy.chat(metadata={"order": order})
        response = await proxy.chat()
        ((_, outcome),) = await proxy.attempts(events, response)
        assert outcome.status == "success", order
    await proxy.chat(metadata={"order": "add a model", "base": upstream.base("ok")})
    response = await proxy.chat("new")
    ((selection, _),) = await proxy.attempts(events, response)
    assert (selection.policy, selection.arm) == ("team-red/new", "n")
    await proxy.chat(metadata={"order": "delete a model"})
    with pytest.raises(APIError):
        await proxy.chat("new")


class TestFeedback:
    async def give(self, proxy, **body):
        return await proxy.http.post("/conduit/feedback", json=body)

    async def test_it_reaches_the_decision_by_either_id(self, proxy, events):
        response = await proxy.chat()
        decision, call = response.headers["x-conduit-decision-id"], response.headers["x-litellm-call-id"]
        for body in ({"decision_id": decision}, {"call_id": call, "source": "judge", "key": "tone"}):
            given = await self.give(proxy, quality=0.75, **body)
            assert (given.status_code, given.json()) == (200, {"decision_id": decision})
        found = await self.found(proxy, events, decision, 2)
        assert [(one.quality, one.source, one.key) for one in found] == [(0.75, "client", ""), (0.75, "judge", "tone")]
        assert {one.policy for one in found} == {"team-red/chat"}

    async def test_it_takes_every_form(self, proxy, events):
        response = await proxy.chat(metadata={"trace_id": "a-trace", "conduit": {"objective": "cost"}})
        decision = response.headers["x-conduit-decision-id"]
        forms = ({"thumbs": "up"}, {"stars": 2}, {"edit": {"answer": "ab", "accepted": "ab"}}, {"regenerated": True})
        for body in forms:
            given = await self.give(proxy, trace_id="a-trace", **body)
            assert given.json() == {"decision_id": decision}
        found = await self.found(proxy, events, decision, 4)
        assert [(one.key, one.quality, one.signal) for one in found] == [
            ("thumbs", 1.0, "quality"),
            ("rating", 0.25, "quality"),
            ("edit", 1.0, "quality"),
            ("regenerated", 0.0, "success"),
        ]
        ((selection, _),) = await proxy.attempts(events, response)
        assert selection.objective["cost"] == 0.2  # what the request wanted, through the proxy

    async def test_it_is_about_the_attempt_that_gave_the_answer(self, proxy, events):
        response = await proxy.chat("rescued", stream=True)
        async for _ in response.parse():
            pass
        (failed, _), (served, _) = await proxy.attempts(events, response)
        given = await self.give(proxy, quality=1.0, decision_id=failed.decision_id)
        assert given.json() == {"decision_id": served.decision_id}
        (one,) = await self.found(proxy, events, served.decision_id, 1)
        assert one.policy == "team-red/spare"

    async def test_a_decision_of_another_worker_needs_its_policy(self, proxy, events):
        unknown = await self.give(proxy, quality=1.0, decision_id="elsewhere")
        assert unknown.status_code == 404 and "x-conduit-policy" in unknown.json()["detail"]
        given = await self.give(proxy, quality=1.0, decision_id="elsewhere", policy="team-red/gr%C3%B6%C3%9Fer")
        assert given.status_code == 200
        (one,) = await self.found(proxy, events, "elsewhere", 1)
        assert one.policy == "team-red/größer"

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"quality": 1.5, "decision_id": "d"}, "quality"),
            ({"decision_id": "d"}, "quality"),
            ({"quality": 1.0}, "one of decision_id, call_id and trace_id"),
            ({"quality": 1.0, "decision_id": "d", "call_id": "c"}, "one of decision_id, call_id and trace_id"),
            ({"quality": 1.0, "decision_id": "d", "source": "x" * 300}, "source"),
            ({"quality": 1.0, "decision_id": "d", "mood": "good"}, "mood"),
            ({"quality": 1.0, "thumbs": "up", "decision_id": "d"}, "one of quality, thumbs, stars"),
            ({"stars": 7, "decision_id": "d"}, "not on the scale from 1.0 to 5.0"),
        ],
    )
    async def test_what_is_wrong_is_said(self, proxy, body, field):
        answer = await self.give(proxy, **body)
        assert answer.status_code == 422 and field in answer.text

    async def test_it_takes_a_key_of_the_proxys(self, proxy, events):
        body = {"quality": 1.0, "decision_id": "refused", "policy": "p"}
        for headers in ({"Authorization": "Bearer sk-somebody"}, {}):
            async with httpx.AsyncClient(base_url=proxy.url, headers=headers, trust_env=False) as somebody:
                refused = await somebody.post("/conduit/feedback", json=body)
                model = await somebody.post("/chat/completions", json=ASK_CHAT)
            assert refused.status_code == model.status_code >= 400
        assert "refused" not in {getattr(event, "decision_id", "") for event in await events.stored(proxy.log)}
        # Without a database, the administrator's key is the only one, so LiteLLM is asked what it would allow.
        response = await proxy.chat(metadata={"order": "may ordinary keys call", "route": "/conduit/feedback"})
        assert response.headers["x-ordinary-keys-may-call"] == "True"

    async def found(self, proxy, events, decision, count):
        for _ in range(100):
            stored = await events.stored(proxy.log)
            found = [event for event in stored if event.kind == "feedback" and event.decision_id == decision]
            if len(found) >= count:
                break
            await asyncio.sleep(0.1)
        assert len(found) == count
        return found


async def test_the_proxys_own_metrics_show_conduits(proxy):
    await proxy.chat()
    told = (await proxy.http.get("/metrics/")).text
    (decisions,) = [line for line in told.splitlines() if line.startswith("conduit_plugin_selections_total")]
    assert float(decisions.split()[1]) >= 1.0
    assert 'conduit_plugin_fallbacks_total{reason="no_snapshot"}' in told
    assert 'conduit_plugin_events_waiting{where="memory"}' in told
    assert "litellm_" in told


async def test_a_stopped_proxy_finishes_and_delivers_and_each_decision_has_one_outcome(proxy, events):
    waiting = {"order": "keep the other callbacks waiting"}
    answers = [asyncio.create_task(proxy.chat("patient", metadata=waiting)) for _ in range(10)]
    await asyncio.sleep(1.0)
    proxy.process.send_signal(signal.SIGTERM)
    for answer in await asyncio.gather(*answers):
        assert answer.parse().choices[0].message.content == "hello"
    await proxy.stop()
    assert proxy.process.returncode in {0, -signal.SIGTERM}
    assert await reconciled(events, proxy.log) > 10
    # The last test of this proxy: Conduit logged no traceback during all the tests before.
    assert "router_plugin/conduit_litellm" not in proxy.said() and "logged once)" not in proxy.said()


async def test_every_worker_has_a_strategy_and_they_share_what_one_of_them_learns(upstream, tmp_path, events):
    proxy = Proxy(tmp_path, configuration(upstream), "--num_workers", "2")
    try:
        await proxy.ready()
        for _ in range(60):
            # A new connection each time: it may reach either worker.
            await asyncio.gather(*[proxy.post_anew("/chat/completions", ASK_CHAT) for _ in range(8)])
            chosen = [event for event in await events.stored(proxy.log) if event.kind == "selection"]
            learned = {event.decision_id[:16] for event in chosen if event.snapshot_version is not None}
            if len(learned) == 2:  # the first half of a decision's id identifies its process
                break
            await asyncio.sleep(0.3)
        assert len(learned) == 2
        response = await proxy.chat()
        rating = {
            "quality": 1.0,
            "decision_id": response.headers["x-conduit-decision-id"],
            "policy": response.headers["x-conduit-policy"],
        }
        for _ in range(6):  # no matter which worker gets it
            assert (await proxy.post_anew("/conduit/feedback", rating)).status_code == 200
    finally:
        await proxy.stop()
    assert await reconciled(events, proxy.log) >= 8


async def test_a_wrong_setting_is_named_and_the_proxy_serves_without_conduit(upstream, tmp_path, events):
    proxy = Proxy(tmp_path, configuration(upstream, objektive="cost"))
    try:
        await proxy.ready()
        for _ in range(2):
            response = await proxy.chat()
            assert response.parse().choices[0].message.content == "hello"
            assert "x-conduit-decision-id" not in response.headers
    finally:
        await proxy.stop()
    told = [line for line in proxy.said().splitlines() if "objektive" in line]
    assert len(told) == 1
    assert f"{tmp_path / 'config.yaml'}: conduit: has no key 'objektive'; there are " in told[0]
    assert "(did you mean 'objective'?)" in told[0]
    assert not (tmp_path / "home").exists()
