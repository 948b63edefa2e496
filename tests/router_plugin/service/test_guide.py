"""The programs in docs/service.md run unchanged."""

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from conduit_litellm.service import errors

GUIDE = (Path(__file__).parents[3] / "docs" / "service.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def at_hand(providers, monkeypatch, tmp_path):
    """The common providers are a local server, and each test has its own log."""
    monkeypatch.setenv("CONDUIT_HOME", str(tmp_path))
    for name, base in (("OPENAI", "/openai/v1"), ("ANTHROPIC", "/anthropic")):
        monkeypatch.setenv(f"{name}_API_KEY", "k")
        monkeypatch.setenv(f"{name}_API_BASE", f"{providers.url}{base}")
    return providers


async def in_thread(program: str) -> dict[str, object]:
    import asyncio  # noqa: PLC0415 - the programs have loops of their own

    names: dict[str, object] = {}
    await asyncio.to_thread(exec, program, names)
    return names


async def test_the_first_program(at_hand, capsys):
    for provider in ("openai", "anthropic"):
        at_hand.script[provider] = ['{"answer": "Lima", "confidence": 1.0}']
    await in_thread(PROGRAMS[0])
    said = capsys.readouterr().out
    assert said.startswith("Lima ") and "LiteLLM's own selection took" in said  # nothing has been learned yet


async def test_streaming(at_hand, capsys):
    at_hand.script["openai"] = ["Once upon a time"]
    await in_thread(PROGRAMS[1])
    assert capsys.readouterr().out.startswith("Once upon a time0.0")


async def test_fastapi(at_hand):
    import asyncio  # noqa: PLC0415 - as above

    def ask() -> dict[str, str]:
        names: dict[str, object] = {}
        exec(PROGRAMS[2].replace("dict[str, str | None]", "dict"), names)
        with TestClient(names["app"]) as client:
            return client.get("/ask", params={"question": "Hello?"}).json()

    answered = await asyncio.to_thread(ask)
    assert answered["answer"] == "hello" and answered["decision_id"]


async def test_langchain(at_hand, capsys):
    await in_thread(PROGRAMS[3])
    assert capsys.readouterr().out == "hello\n"
    assert "lighthouses" in str(at_hand.requests["openai"])


def test_the_guide_shows_the_tree_of_errors_as_it_is():
    picture = re.search(r"```text\n(.*?)```", GUIDE, re.DOTALL)
    assert picture is not None
    shown = picture[1].split()
    drawn = "".join(line[4:] for line in errors.__doc__.split("::")[1].split("Each is raised")[0].splitlines(True))
    assert shown == drawn.split()


def test_what_needs_a_proxy_is_run_with_the_example_of_one():
    """See tests/examples."""
    assert len(PROGRAMS) == 6 and all("localhost:4000" in program for program in PROGRAMS[4:])
