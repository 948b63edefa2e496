"""The commands in docs/audit.md, run on the log of a real strategy, router and hosted learner."""

import asyncio
import os
import re
import shlex
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import litellm
from litellm.router import Router

from conduit_learner.audit.explain import explain
from conduit_learner.audit.history import BlockingLog, LoggedHistory
from conduit_learner.audit.verification import verify
from conduit_learner.cli import main
from conduit_litellm import ConduitRoutingStrategy
from conduit_log import open_log
from conduit_schemas import Selection, decode_event

GUIDE = Path(__file__).parents[3] / "docs" / "audit.md"
POLICY = "default/chat"
REQUESTS = 40


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log of a router with three deployments, with requests and ratings."""
    path = tmp_path_factory.mktemp("home")
    strategy = ConduitRoutingStrategy(log_path=path, params={"cold_ratings": 3.0})
    deployments = [
        {
            "model_name": "chat",
            "litellm_params": {"model": "openai/gpt-4o-mini", "api_key": "unused", "mock_response": f"I am {name}"},
            "model_info": {"id": name},
        }
        for name in ("a", "b", "c")
    ]
    router = Router(model_list=deployments, num_retries=0)
    strategy.install(router)

    async def serve() -> None:
        deadline = time.monotonic() + 180.0
        served = 0
        while served < REQUESTS and time.monotonic() < deadline:
            response = await router.acompletion(
                model="chat", messages=[{"role": "user", "content": f"What is {served} times {served}?"}]
            )
            arm = response._hidden_params["model_id"]
            quality = {"a": 0.9, "b": 0.4, "c": 0.6}[arm]
            await strategy.record_feedback(arm, quality_score=quality, decision_id=strategy.decision_id(response))
            # Snapshots arrive while requests are served, so LiteLLM chooses for some, and Conduit for the others.
            served += strategy.counters["selections"] > strategy.counters["fallbacks"]
            await asyncio.sleep(0.05)
        assert served == REQUESTS

    asyncio.run(serve())
    strategy.close()
    litellm.logging_callback_manager._reset_all_callbacks()
    return path


@pytest.fixture
def log(home: Path) -> BlockingLog:
    strategy = ConduitRoutingStrategy(log_path=home, host_learner=False)
    return BlockingLog(open_log(strategy.log_settings), strategy.log_settings.topics)


def test_what_a_strategy_decided_is_proven_to_the_bit(log: BlockingLog) -> None:
    with log:
        history = log.history(POLICY)
        result = verify(history, POLICY, published=history.published, checkpoints=history.checkpoints)
        assert result.mismatches == [] and result.not_provable == {}
        assert result.decisions_matched >= REQUESTS
        assert result.snapshots_matched > 1 and result.published_matched == 1
        assert result.largest_difference == 0.0


def test_one_decision_of_a_strategy_is_explained(log: BlockingLog) -> None:
    with log:
        history = log.history(POLICY)
        made = [decision for decision in _decisions(history) if decision.snapshot_version is not None]
        found = explain(history, POLICY, made[-1].decision_id)
        assert found.proof == "proven"
        assert found.recomputation is not None and found.recomputation.largest_difference == 0.0
        (outcome,), (feedback,) = found.outcomes, found.feedbacks
        assert outcome.status == "success"
        assert feedback.quality == {"a": 0.9, "b": 0.4, "c": 0.6}[found.selection.arm]


def test_the_guides_commands_work(
    log: BlockingLog, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with log:
        decision = _decisions(log.history(POLICY))[-1].decision_id
    guide = GUIDE.read_text(encoding="utf-8")
    (toml,) = re.findall(r"```toml\n(.*?)```", guide, re.DOTALL)
    (tmp_path / "policy.toml").write_text(toml, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONDUIT_HOME", str(home))
    commands = re.findall(r"^\$ conduit (.*)$", guide, re.MULTILINE)
    assert len(commands) >= 10
    for command in commands:
        changed = command.replace("DECISION_ID", decision).replace(
            "/var/lib/conduit-archive", str(tmp_path / "archive")
        )
        # The log of this test began a moment ago.
        changed = changed.replace("2026-03-01T12:00:00Z", "2100-01-01").replace("--from 100", "--from 20")
        result = CliRunner().invoke(main, shlex.split(changed), prog_name="conduit")
        assert result.exit_code == 0, f"conduit {changed}: {result.output}"
        assert result.output
    assert (tmp_path / "then.json").exists()


def _decisions(history: LoggedHistory) -> list[Selection]:
    events = [decode_event(message.value) for message in history]
    return [event for event in events if isinstance(event, Selection)]
