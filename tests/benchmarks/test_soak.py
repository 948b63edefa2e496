"""A small soak test: every decision has its outcome, and a missing one would be detected."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import soak
from conduit_log import LogSettings, Message, open_log
from conduit_schemas import Event, Outcome, Selection, encode
from local_servers.model_server import ModelServer


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    for name in ("LiteLLM", "LiteLLM Router"):
        caplog.set_level("CRITICAL", logger=name)
    yield


@pytest.mark.campaign
async def test_every_decision_of_mixed_concurrent_requests_has_its_one_outcome(tmp_path: Path) -> None:
    async with ModelServer().running() as server:
        report = await soak.soak(server.url, str(tmp_path), requests=150, concurrency=40, seed=2)
    assert report["wrong"] == 0, report["first_wrong"]
    assert report["reconciled"] and len(report["kinds"]) == len(soak.kinds())
    assert report["selections"] == report["outcomes"] + report["still_open"] > 150
    assert 0 < report["still_open"] <= report["kinds"]["cancelled"] + report["kinds"]["abandoned"]
    hits = report["kinds"]["cache hit"] - report["cache_misses"]
    assert report["outcomes_by_status"]["cache_hit"] >= hits > report["cache_misses"]
    assert report["events_dropped"] == report["callback_errors"] == 0


def chat(number: int) -> Selection:
    return Selection(
        policy="default/chat",
        time=1.0,
        decision_id=f"d{number}",
        request_id=f"request-{number}",
        arms=("a", "b"),
        models=("m", "m"),
        chosen=0,
        featurizer="f",
        context=bytes(4),
        objective={},
    )


def told(number: int, **facts: object) -> Outcome:
    facts = {"status": "success", "output_tokens": 11, **facts}
    return Outcome.model_validate({"policy": "default/chat", "time": 2.0, "decision_id": f"d{number}", **facts})


@pytest.mark.parametrize(
    ("events", "complaint"),
    [
        ([chat(0), told(0)], None),
        ([chat(0)], "left [[]]"),
        ([chat(0), told(0), told(0)], "left [['success', 'success']]"),
        ([chat(0), chat(0), told(0)], "left [['success'], ['success']]"),
        ([told(0)], "left []"),
        ([chat(0), told(0, output_tokens=22)], "another's outcome"),
        ([chat(0), told(0, status="error", error_class="Timeout", error_code="408")], "error Timeout 408"),
        ([chat(0), told(0, ttft_s=2.0, latency_s=1.0)], "times 2.0 and 1.0 of a success"),
    ],
)
async def test_what_is_missing_double_or_elsewhere_is_noticed(
    events: list[Event], complaint: str | None, tmp_path: Path
) -> None:
    settings = LogSettings(path=tmp_path)
    async with open_log(settings) as log:
        await log.append(settings.topics.events, [Message(event.policy.encode(), encode(event)) for event in events])
    report = await soak.reconcile(settings, ["chat"], {}, [])
    assert (report["wrong"] > 0) == (complaint is not None)
    assert complaint is None or complaint in " ".join(report["first_wrong"])
