"""The page's server, and the commands that start it."""

import asyncio
import json
import re
import signal
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Literal

import aiohttp
import pytest
from audit_traffic import Installation
from learner_traffic import POLICY, messages, selection, traffic

from conduit_learner.view.follow import Following, follow, spooled_bytes
from conduit_learner.view.installation import InstallationView
from conduit_learner.view.policy import PolicyView
from conduit_learner.view.report import policy_report
from conduit_learner.view.timeline import RANGES
from conduit_learner.web import server
from conduit_learner.web.routing_changes import RoutingChanges, changed_routing
from conduit_learner.web.server import Page, is_loopback, serve_page
from conduit_log import LogSettings, LogUnavailableError, Message, StoredMessage, open_log
from conduit_log.memory import MemoryLog
from conduit_schemas import ConfigurationError, RoutingChange, RoutingGoal, RoutingSettings, Topics, decode_event

DEADLINE_S = 180.0
TOPICS = Topics()


@asynccontextmanager
async def served(view: InstallationView | None = None, host: str = "127.0.0.1") -> AsyncIterator[str]:
    async with serve_page(Page(view or InstallationView(), Following(), "a test"), host, 0) as port:
        yield f"http://127.0.0.1:{port}"


async def get(url: str, method: str = "GET", **headers: str) -> tuple[int, str, "dict[str, str]"]:
    async with aiohttp.ClientSession() as session, session.request(method, url, headers=headers) as response:
        return response.status, await response.text(), dict(response.headers)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def full_view() -> InstallationView:
    view = InstallationView()
    made = Installation().run(120)
    for message in made.log:
        view.event(message)
    view.snapshot(made.stored_published()[-1])
    return view


class CountedLock(asyncio.Lock):
    """Counts how often it is read."""

    asked = 0

    async def acquire(self) -> Literal[True]:
        self.asked += 1
        return await super().acquire()


class TestServer:
    @pytest.mark.parametrize(
        "path", ["/", "/static/page.js", "/api/installation", "/nowhere", "/api/policy?range=ever"]
    )
    async def test_every_answer_carries_the_security_headers(self, path: str) -> None:
        async with served() as url:
            _, _, headers = await get(url + path)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"

    async def test_it_answers_for_this_machine_only(self) -> None:
        async with served() as url:
            assert (await get(url + "/api/installation", Host="rebound.example"))[0] == 421
            assert (await get(url + "/api/installation", Host="localhost:1"))[0] == 200
        async with served(host="0.0.0.0") as url:
            assert (await get(url + "/api/installation", Host="conduit.example"))[0] == 200

    def test_addresses_of_this_machine(self) -> None:
        assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost")] == [True] * 3
        assert [is_loopback(host) for host in ("0.0.0.0", "10.0.0.1", "example.org")] == [False] * 3

    @pytest.mark.parametrize(
        ("path", "status", "message"),
        [
            ("/api/policy?name=x&range=ever", 400, "range 'ever' is not one of hour, day, all"),
            ("/api/policy?name=x", 404, "no policy 'x' has been seen in the log"),
            ("/static/server.py", 404, "there is no server.py"),
            ("/static/..%2fserver.py", 404, "there is no"),
        ],
    )
    async def test_what_is_not_there_is_said(self, path: str, status: int, message: str) -> None:
        async with served() as url:
            found, text, _ = await get(url + path)
        assert found == status
        assert message in text

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
    async def test_nothing_can_be_written(self, method: str) -> None:
        async with served() as url:
            assert (await get(url + "/api/policy", method))[0] == 405

    async def test_reports_are_json_without_strange_numbers(self) -> None:
        async with served(full_view()) as url:
            for name in ("hour", "day", "all"):
                status, text, _ = await get(f"{url}/api/policy?name={POLICY}&range={name}")
                report = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
                assert (status, report["range"]) == (200, name)
            assert report["totals"]["selections"] == 120
            installation = json.loads((await get(url + "/api/installation"))[1])
        assert [policy["name"] for policy in installation["policies"]] == [POLICY]

    async def test_no_report_carries_a_context(self) -> None:
        view = full_view()
        contexts = {json.loads(m.value).get("context") for m in Installation().run(120).log} - {None}
        async with served(view) as url:
            text = (await get(f"{url}/api/policy?name={POLICY}&range=all"))[1]
        assert len(contexts) > 100
        assert not any(context in text for context in contexts)

    async def test_a_report_is_made_beside_the_event_loop(self, monkeypatch: pytest.MonkeyPatch) -> None:
        log, view = MemoryLog(), InstallationView()
        following = Following(lock=CountedLock())
        started, go_on = threading.Event(), threading.Event()
        calls: list[tuple[int, int, int]] = []

        def slow_report(policy: PolicyView, range_: str, *, now_ms: int) -> dict[str, object]:
            before = view.events
            started.set()
            assert go_on.wait(DEADLINE_S)
            calls.append((threading.get_ident(), before, view.events))
            return policy_report(policy, range_, now_ms=now_ms)

        monkeypatch.setattr(server, "policy_report", slow_report)
        await log.append(TOPICS.events, messages(traffic(30)))
        read = len(messages(traffic(30)))
        fold = asyncio.create_task(follow(log, TOPICS, view, following, max_events=10_000))
        async with serve_page(Page(view, following, "a test"), "127.0.0.1", 0) as port:
            url = f"http://127.0.0.1:{port}"
            await until(lambda: view.events == read and following.is_complete)
            asking = [asyncio.create_task(get(f"{url}/api/policy?name={POLICY}&range=all")) for _ in range(3)]
            try:
                await until(started.is_set)
                # While it runs, other requests are answered, and new events wait.
                for path in ("/healthz", "/static/page.js", "/api/installation"):
                    assert (await get(url + path))[0] == 200
                asked = following.lock.asked
                await log.append(TOPICS.events, messages([selection("later")]))
                await until(lambda: following.lock.asked > asked)
                asking.pop().cancel()  # a reader who disconnects
                assert view.events == read and not any(task.done() for task in asking)
            finally:
                go_on.set()
            answers = await asyncio.gather(*asking)
            await until(lambda: view.events == read + 1)
        fold.cancel()
        assert [status for status, _, _ in answers] == [200, 200]
        ((thread, before, after),) = calls
        assert thread != threading.get_ident()
        assert before == after == read

    async def test_a_report_that_fails_is_tried_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with served(full_view()) as url:
            with monkeypatch.context() as patched:
                patched.setattr(server, "policy_report", lambda *_, **__: 1 / 0)
                assert (await get(f"{url}/api/policy?name={POLICY}&range=all"))[0] == 500
            assert (await get(f"{url}/api/policy?name={POLICY}&range=all"))[0] == 200

    async def test_a_taken_port_is_one_clear_error(self) -> None:
        async with served() as url:
            port = int(url.rpartition(":")[2])
            with pytest.raises(ConfigurationError, match=f"cannot listen on 127.0.0.1:{port}"):
                async with serve_page(Page(InstallationView(), Following(), ""), "127.0.0.1", port):
                    pass

    def test_the_page_needs_nothing_from_elsewhere(self) -> None:
        static = files("conduit_learner.web").joinpath("static")
        names = {entry.name for entry in static.iterdir()}
        for name in names:
            text = static.joinpath(name).read_text(encoding="utf-8")
            assert set(re.findall(r"https?://[^\s\"'`]+", text)) <= {"http://www.w3.org/2000/svg"}
            used = re.findall(r"(?:/static/|from \"\./)([\w.]+)", text)
            assert set(used) <= names
            assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(", text)
        html = static.joinpath("index.html").read_text(encoding="utf-8")
        assert not re.search(r"<script>|<style|\sstyle=|\son\w+=", html)


TOKEN = "a-token-of-some-length"


async def change(url: str, body: object, token: str = TOKEN) -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(url + "/api/routing", json=body, headers=headers) as done,
    ):
        return done.status, await done.text()


class TestControl:
    @asynccontextmanager
    async def writable(self) -> AsyncIterator[tuple[str, list[Message], InstallationView]]:
        appended: list[Message] = []

        async def append(messages: list[Message]) -> None:
            appended.extend(messages)

        view = full_view()
        page = Page(view, Following(), "a test", changes=RoutingChanges(TOKEN, append))
        async with serve_page(page, "127.0.0.1", 0) as port:
            yield f"http://127.0.0.1:{port}", appended, view

    async def test_without_a_token_the_page_only_reads(self) -> None:
        async with served(full_view()) as url:
            status, text = await change(url, {"policy": POLICY, "by": "ann", "mode": "off"})
        assert (status, "read-only" in text) == (403, True)

    @pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "x"])
    async def test_a_wrong_token_changes_nothing(self, token: str) -> None:
        async with self.writable() as (url, appended, _):
            assert (await change(url, {"policy": POLICY, "by": "ann", "mode": "off"}, token))[0] == 401
        assert appended == []

    async def test_a_change_is_an_event_and_keeps_the_rest(self) -> None:
        async with self.writable() as (url, appended, view):
            body = {"policy": POLICY, "by": "ann", "mode": "canary", "canary_share": 0.25}
            assert (await change(url, body))[0] == 200
            view.event(StoredMessage(0, 10_000, view.newest_ms, *appended[0]))
            assert (await change(url, {"policy": POLICY, "by": "bob", "objective": "cost"}))[0] == 200
        first, second = (decode_event(message.value) for message in appended)
        assert isinstance(first, RoutingChange)
        assert isinstance(second, RoutingChange)
        assert first.changed_by == "ann, on the web page"
        assert second.routing is not None
        assert (second.routing.mode, second.routing.canary_share) == ("canary", 0.25)
        assert second.routing.goal.objective == "cost"
        assert view.policies[POLICY].changes[-1].by == "ann, on the web page"

    @pytest.mark.parametrize(
        ("body", "status", "said"),
        [
            ({"policy": POLICY, "mode": "off"}, 400, "who makes the change"),
            ({"policy": POLICY, "by": "ann", "mode": "no"}, 400, "mode"),
            ({"policy": POLICY, "by": "ann", "canary_share": 2}, 400, "canary_share"),
            ({"policy": POLICY, "by": "ann", "objective": "no"}, 400, "no objective preset"),
            ({"policy": POLICY, "by": "ann", "algorithm": "x"}, 400, "cannot be changed here"),
            ({"policy": "no", "by": "ann"}, 404, "no such policy"),
            ([1], 404, "no such policy"),
        ],
    )
    async def test_what_makes_no_sense_is_refused(self, body: object, status: int, said: str) -> None:
        async with self.writable() as (url, appended, _):
            found, text = await change(url, body)
        assert (found, said in text) == (status, True), text
        assert appended == []

    async def test_the_page_learns_what_there_is_to_choose_from_the_server(self) -> None:
        async with self.writable() as (url, _, _):
            _, body, _ = await get(f"{url}/api/installation")
            _, page, _ = await get(url)
        choices = json.loads(body)["choices"]
        assert choices == {
            "modes": ["off", "shadow", "canary", "active"],
            "presets": ["quality", "balanced", "cost", "speed"],
            "canary_share": 0.05,
        }
        assert re.findall(r'name="range" value="(\w+)"', page) == list(RANGES)
        assert not re.search("|".join((*choices["modes"], *choices["presets"])), "".join(re.findall("<option.*", page)))

    async def test_what_is_not_given_stays_as_it_is_in_force(self) -> None:
        policy = PolicyView(POLICY)
        own, ours = (RoutingSettings(goal=RoutingGoal(objective=name)) for name in ("speed", "cost"))

        def kept() -> object:
            routing = changed_routing(policy, {"by": "ann", "mode": "off"}, now_s=0.0).routing
            return routing and routing.goal.objective

        assert kept() is None
        policy.routing["application"] = own
        assert kept() == "speed"
        policy.routing["operator"] = ours
        assert kept() == "cost"
        policy.routing["operator"] = None
        assert kept() == "speed"

    def test_a_short_token_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="16 characters"):
            RoutingChanges("short", None)  # type: ignore[arg-type]  # nothing is appended


class TestFollow:
    async def test_it_reads_everything_there_is_and_then_what_comes(self) -> None:
        view, following = InstallationView(), Following()
        topics = Topics()
        async with MemoryLog(topics, partitions=3) as log:
            await log.append(topics.events, messages(traffic(200, policies=("default/a", "default/b"))))
            running = asyncio.create_task(follow(log, topics, view, following, max_events=10_000))
            await until(lambda: following.is_complete)
            assert view.events == following.to_read == sum(following.ends.values())
            await log.append(topics.events, messages([selection("new", policy="default/c")]))
            await log.append(topics.snapshots, [Message(b"k", b"not a snapshot")])
            await until(lambda: "default/c" in view.policies and view.undecodable == 1)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

    async def test_it_may_begin_with_the_newest(self) -> None:
        view, following = InstallationView(), Following()
        topics = Topics()
        async with MemoryLog(topics) as log:
            await log.append(topics.events, messages(traffic(300)))
            await follow(log, topics, view, following, max_events=100, until_complete=True)
            assert view.events == 100
            assert following.skipped == following.ends[0] - 100

    async def test_on_kafka(self, kafka_bootstrap: str) -> None:
        settings = LogSettings(bootstrap_servers=kafka_bootstrap, prefix=f"view-{uuid.uuid4().hex[:12]}", partitions=3)
        sent = traffic(150, policies=("default/a", "default/b", "default/c"))
        view, following = InstallationView(), Following()
        async with open_log(settings) as log:
            await log.create_topics()
            await log.append(settings.topics.events, messages(sent))
            await follow(log, settings.topics, view, following, max_events=10_000, until_complete=True)
        assert view.events == len(sent)
        assert set(view.policies) == {"default/a", "default/b", "default/c"}

    async def test_without_a_broker_it_waits_or_raises(self) -> None:
        settings = LogSettings(bootstrap_servers="127.0.0.1:1", timeout_s=0.3)
        following = Following()
        async with open_log(settings) as log:
            with pytest.raises(LogUnavailableError):
                await follow(log, settings.topics, InstallationView(), following, max_events=1, until_complete=True)
            running = asyncio.create_task(follow(log, settings.topics, InstallationView(), following, max_events=1))
            await until(lambda: following.away_since is not None)
            assert not running.done()
            assert "127.0.0.1:1" in following.trouble
            running.cancel()

    def test_what_waits_on_the_disk_is_known_where_it_can_be(self, tmp_path: Path) -> None:
        embedded = LogSettings(path=tmp_path)
        settings = LogSettings(bootstrap_servers="b:1", path=tmp_path)
        folder = tmp_path / "spool" / "conduit@b_1"
        assert spooled_bytes(open_log(settings), settings) is None
        folder.mkdir(parents=True)
        (folder / "1.spool").write_bytes(b"x" * 100)
        (folder / "1.spool.damaged").write_bytes(b"x" * 100)
        assert spooled_bytes(open_log(settings), settings) == 100
        assert spooled_bytes(open_log(embedded), embedded) is None


@asynccontextmanager
async def command(*arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, list[str]]]:
    """Run ``conduit`` and collect its output; at the end, kill it if it is still running."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "conduit_learner", *arguments), stderr=asyncio.subprocess.PIPE
    )
    lines: list[str] = []

    async def collect() -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            lines.append(line.decode())

    collecting = asyncio.create_task(collect())
    try:
        yield process, lines
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await collecting


async def address_in(lines: list[str]) -> str:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            for line in lines:
                if found := re.search(r"the page is at (http://\S+?)/?$", line.strip()):
                    return found[1]
            await asyncio.sleep(0.02)


class TestCommands:
    @pytest.mark.process
    async def test_a_dashboard_serves_and_ends_cleanly(self, tmp_path: Path) -> None:
        await asyncio.to_thread(Installation().run(40).store, tmp_path)
        async with command("dashboard", "--path", str(tmp_path), "--http", "127.0.0.1:0") as (process, lines):
            url = await address_in(lines)
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    if json.loads((await get(url + "/api/installation"))[1])["events"] > 0:
                        break
                    await asyncio.sleep(0.05)
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 0
        assert "Traceback" not in "".join(lines)

    @pytest.mark.process
    async def test_a_learner_with_a_page_learns_and_shows_it(self, tmp_path: Path) -> None:
        settings = LogSettings(path=tmp_path)
        async with open_log(settings) as log:
            await log.append(settings.topics.events, messages(traffic(50)))
        where = ("--path", str(tmp_path), "--web", "127.0.0.1:0")
        async with command("learner", *where) as (process, lines):
            url = await address_in(lines)
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    status, text, _ = await get(f"{url}/api/policy?name={POLICY}&range=all")
                    if status == 200 and json.loads(text)["health"]["snapshot_offset"]:
                        break
                    await asyncio.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
            with pytest.raises(aiohttp.ClientError):
                await get(url)
        assert "Traceback" not in "".join(lines)

    @pytest.mark.process
    async def test_the_page_ends_when_its_learner_is_killed(self, tmp_path: Path) -> None:
        async with command("learner", "--path", str(tmp_path), "--web", "127.0.0.1:0") as (process, lines):
            url = await address_in(lines)
            process.kill()
            await process.wait()
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    try:
                        await get(url)
                    except aiohttp.ClientError:
                        break
                    await asyncio.sleep(0.05)

    @pytest.mark.process
    async def test_a_taken_port_ends_the_dashboard_with_one_line(self, tmp_path: Path) -> None:
        await asyncio.to_thread(Installation().run(5).store, tmp_path)
        async with served() as url:
            address = url.removeprefix("http://")
            async with command("dashboard", "--path", str(tmp_path), "--http", address) as (process, lines):
                assert await process.wait() == 2
        assert lines[-1].startswith(f"Error: cannot listen on {address}")

    @pytest.mark.process
    async def test_there_must_be_a_log(self, tmp_path: Path) -> None:
        async with command("dashboard", "--path", str(tmp_path / "none")) as (process, lines):
            assert await process.wait() == 2
        assert "there is no embedded log in" in lines[-1]
        assert not (tmp_path / "none").exists()
