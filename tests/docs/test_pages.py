"""The documents are true: their programs run, their commands exist, their links lead somewhere."""

import ast
import asyncio
import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import litellm

from conduit_learner.cli import main
from conduit_litellm import ConduitRoutingStrategy
from local_servers.model_server import ModelServer

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
PROGRAMS = (
    "README",
    "index",
    "installation",
    "quickstart",
    "usage",
    "migration",
    "troubleshooting",
    "contract",
    "objectives",
    "feedback",
)
"""Pages whose Python is run here, from top to bottom. Other tests run the rest."""
ENTRY = '{"model_name": "assistant", "litellm_params": {"model": "openai/gpt-4.1"}, "model_info": {"id": "%s"}}'
FILLED_IN = {
    "model_list=[...]": f"model_list=[{ENTRY % 'large'}, {ENTRY % 'larger'}]",
    "messages=[...]": 'messages=[{"role": "user", "content": "What is the capital of Norway?"}]',
}
"""What a page leaves its reader to fill in."""
ROOMS = ("schemas", "event_log", "policy", "router_plugin", "learner")
OTHERS = {"pip", "make", "docker", "kubectl", "litellm", "curl", "mkdocs", "python", "export"}
"""Other programs whose commands pages may show."""


def fences(page: Path, *languages: str) -> list[str]:
    found = re.findall(r"^( *)```(\w+)\n(.*?)^\1```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [
        "\n".join(line.removeprefix(indent) for line in text.splitlines())
        for indent, language, text in found
        if language in languages
    ]


def commands(page: Path) -> list[str]:
    """The commands on a page: every line of a shell block, and the prompts in a console block."""
    lines = [line for text in fences(page, "sh") for line in text.replace("\\\n", " ").splitlines()]
    lines += [
        line.removeprefix("$ ")
        for text in fences(page, "console")
        for line in text.replace("\\\n", " ").splitlines()
        if line.startswith("$ ")
    ]
    return [line.partition("  #")[0].strip() for line in lines if line.strip() and not line.startswith("#")]


def parse(command: click.Command, arguments: list[str], parent: click.Context | None = None) -> None:
    """Let click parse the arguments down to the last subcommand, without running anything."""
    context = command.make_context(command.name, list(arguments), parent=parent)
    if isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None, name
        parse(found, rest, context)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.stem)
def test_a_pages_commands_exist(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for candidate in re.findall(r"\b(\w+\.toml)\b", page.read_text(encoding="utf-8")):
        (tmp_path / candidate).write_text("")
    for shown in commands(page):
        line = re.sub(r"/var/lib/[\w/-]+", str(tmp_path), shown)  # folders that exist only on a server
        words = shlex.split(re.sub(r"[<>|].*| &&.*", "", line), comments=True)
        while words and re.fullmatch(r"\w+=.*", words[0]):
            words.pop(0)
        program = Path(words[0]).name
        if program == "conduit":
            try:
                parse(main, words[1:])
            except click.UsageError as error:
                pytest.fail(f"{page.name}: {line}: {error.format_message()}")
            except click.exceptions.Exit:
                pass  # --help and --version
        else:
            assert program in OTHERS or (ROOT / words[0]).exists(), f"{page.name}: {line}"


@pytest.fixture
def providers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a reader has: a home folder, keys, and a provider, which is a local server here."""
    monkeypatch.setenv("CONDUIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OPENAI_API_KEY", "unused")
    monkeypatch.chdir(tmp_path)
    yield
    litellm.logging_callback_manager._reset_all_callbacks()


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_pages_programs_run(name: str, providers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / "README.md" if name == "README" else ROOT / "docs" / f"{name}.md"
    programs = fences(page, "python")
    names: dict[str, Any] = {"__name__": "__page__", "MyResult": str}

    async def run() -> None:
        server = ModelServer()
        async with server.running():
            monkeypatch.setenv("OPENAI_BASE_URL", server.base("ok"))
            try:
                for shown in programs:
                    program = shown
                    for gap, filling in FILLED_IN.items():
                        program = program.replace(gap, filling)
                    code = compile(program, f"{name}.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                    with contextlib.redirect_stdout(io.StringIO()):
                        result = eval(code, names)
                        if asyncio.iscoroutine(result):
                            await result
            finally:
                for made in list(names.values()):
                    if isinstance(made, ConduitRoutingStrategy):
                        await made.aclose()
            if "acompletion" in "".join(programs):
                assert server.calls

    asyncio.run(run())
    if strategy := names.get("strategy"):
        assert strategy.counters["callback_errors"] == strategy.counters["fallback_error"] == 0
        assert strategy.counters["feedback_without_decision"] == 0


def test_every_counter_is_explained() -> None:
    """The troubleshooting page describes every counter."""
    sources = "".join(path.read_text() for path in (ROOT / "router_plugin" / "conduit_litellm").rglob("*.py"))
    counted = set(re.findall(r'counters\.add\("(\w+)"', sources))
    quiet = {"events_delivered", "events_refused", "feedbacks", "snapshots", "snapshots_refused", "no_snapshot"}
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    explained = set(re.findall(r"`(\w+)`", page))
    assert counted - quiet <= explained


def test_every_message_that_a_table_quotes_is_one_of_ours() -> None:
    """Tables of symptoms quote what a log or an error says, so that it can be searched for."""
    said = "\n".join(
        node.value
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    quoted = [
        text
        for page in PAGES
        for symptom in re.findall(r"^\| *([^|]*)\|", page.read_text(encoding="utf-8"), re.MULTILINE)
        for text in re.findall(r'"([^"]+)"', re.sub(r"`[^`]*`", "", symptom))
    ]
    assert len(quoted) >= 3
    assert [text for text in quoted if text not in said] == []


@pytest.mark.process
def test_the_site_builds_with_every_link_in_place(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    # Offline: no page loads anything from another host.
    for page in tmp_path.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe)[^>]*?src="(.*?)"', text)
        loaded += re.findall(r'<link[^>]*?rel="(?:stylesheet|preload)"[^>]*?href="(.*?)"', text)
        assert not [address for address in loaded if re.match(r"(https?:)?//", address)], page
    search = json.loads((tmp_path / "search" / "search_index.json").read_text())
    assert len(search["docs"]) > 50
