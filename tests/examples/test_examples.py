"""Every example runs unchanged, and prints what it promises."""

import ast
import asyncio
import contextlib
import io
import json
import os
import re
import runpy
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import litellm

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A separate log and callbacks for each test; the examples' folder is on Python's path."""
    monkeypatch.setenv("CONDUIT_HOME", str(tmp_path))
    monkeypatch.syspath_prepend(str(EXAMPLES))
    litellm.callbacks = []
    yield
    litellm.logging_callback_manager._reset_all_callbacks()
    litellm.callbacks = []


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def run(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_basic_usage(run):
    said = run("basic_usage.py")
    assert "choosing among openai/small, openai/medium, openai/large" in said
    assert len(re.findall(r"^(?:Add|Multiply) .* by openai/\w+ for \$0\.\d{6}$", said, re.MULTILINE)) == 5
    # Who chose the last time depends on how soon the learner was ready.
    assert re.search(r"^why\? (?:LiteLLM's own selection took )?openai/\w+", said, re.MULTILINE)


def test_litellm_backend(run):
    said = run("litellm_backend.py")
    assert said.count("attempt(s)") == 6 and "22 from openai/" in said
    assert "as cheaply as possible: " in said and "streamed: 8" in said and "250 tokens" in said
    assert "ModelUnavailableError: openai/broken did not answer" in said


@pytest.mark.campaign
def test_feedback_loop(run):
    said = run("feedback_loop.py", "--requests", "200")
    lines = re.findall(r"requests +(\d+) to +(\d+): (.*); +(\d+) right", said)
    assert [line[:2] for line in lines] == [("1", "100"), ("101", "200")]
    served = [sum(map(int, re.findall(r"\w+ +(\d+)", line[2]))) for line in lines]
    assert served == [100, 100] and int(lines[1][3]) > 60


@pytest.mark.campaign
def test_performance_comparison(run):
    said = run("performance_comparison.py", "--requests", "60")
    table = dict(re.findall(r"^(\S+(?:, \w+)?) +([\d.]+)% +[\d.]+$", said, re.MULTILINE))
    built_in = {"simple-shuffle", "least-busy", "latency-based-routing", "cost-based-routing", "usage-based-routing-v2"}
    assert set(table) == built_in | {"conduit, balanced", "conduit, quality"}
    assert all(0.0 < float(share) <= 100.0 for share in table.values())


@pytest.mark.process
def test_audit_notebook(run):
    cells = json.loads((EXAMPLES / "audit_notebook.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert all(cell.get("outputs") == [] for cell in cells if cell["cell_type"] == "code")
    names: dict[str, object] = {}

    async def execute() -> None:
        for cell in code:  # as in a notebook: one namespace, and await is allowed
            made = eval(compile(cell, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
            if made is not None:
                await made

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        asyncio.run(execute())
    proof, explanation = names["proof"], names["explanation"]
    assert isinstance(proof, dict) and isinstance(explanation, dict) and names["evaluation"]
    assert "differ" not in json.dumps(explanation.get("proof", ""))
    assert "openai/" in said.getvalue()


@pytest.mark.process
def test_proxy_config_and_what_the_guide_points_at_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("LITELLM_MASTER_KEY", key := f"sk-{uuid.uuid4().hex}{uuid.uuid4().hex}")
    with contextlib.ExitStack() as stack:
        models = start(stack, tmp_path, str(EXAMPLES / "local_models.py"), "0")
        assert models.stdout is not None
        address = re.search(r"http://\S+/v1", models.stdout.readline().decode())
        assert address is not None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shown = (EXAMPLES / "proxy_config.yaml").read_text()
        assert shown.count("http://127.0.0.1:8101/v1") == 3
        config = tmp_path / "config.yaml"
        config.write_text(shown.replace("http://127.0.0.1:8101/v1", address[0]))
        program = "from litellm import run_server; run_server()"
        proxy = start(
            stack, tmp_path, "-c", program, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)
        )
        until_ready(proxy, f"http://127.0.0.1:{port}")
        body = {"model": "assistant", "messages": [{"role": "user", "content": "Multiply 17 by 23."}]}
        url, headers = f"http://127.0.0.1:{port}/v1/chat/completions", {"Authorization": f"Bearer {key}"}
        response = httpx.post(url, json=body, headers=headers, timeout=180.0, trust_env=False)
        assert response.status_code == 200 and response.headers["x-conduit-policy"] == "default/assistant"
        guide = (EXAMPLES.parent / "docs" / "service.md").read_text(encoding="utf-8")
        programs = [one for one in re.findall(r"```python\n(.*?)```", guide, re.DOTALL) if "localhost:4000" in one]
        assert len(programs) == 2
        for shown in programs:
            exec(shown.replace("localhost:4000", f"127.0.0.1:{port}"), {})
        product, total = capsys.readouterr().out.split()
        assert product in {"391", "401"} and total == "40"


def start(stack: contextlib.ExitStack, home: Path, *command: str) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        [sys.executable, "-u", *command],
        stdout=subprocess.PIPE if "local_models" in command[0] else subprocess.DEVNULL,
        env={**os.environ, "CONDUIT_HOME": str(home)},
    )
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return process


def until_ready(proxy: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + 300.0
    while time.monotonic() < deadline:
        assert proxy.poll() is None, "the proxy ended"
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/health/readiness", timeout=180.0, trust_env=False).status_code == 200:
                return
        time.sleep(0.2)
    raise AssertionError("the proxy does not start")


@pytest.mark.process
def test_kafka_fleet(kafka_bootstrap, tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, str(EXAMPLES / "kafka_fleet.py"), "--bootstrap-servers", kafka_bootstrap),
            *("--prefix", f"fleet-{uuid.uuid4().hex[:8]}", "--requests", "150"),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "CONDUIT_HOME": str(tmp_path)},
        check=False,
        timeout=540,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is killed" in done.stdout
    apps = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"app"')]
    assert sorted(app["app"] for app in apps) == ["0", "1"]
    assert all(sum(app["second half"].values()) == 75 for app in apps)
    assert all(app["chosen by what was learned"] > 0 for app in apps), done.stderr
