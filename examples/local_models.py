"""Three models on this machine, so that every example runs without keys, costs or network access.

A server with OpenAI's API does arithmetic. "small" is the cheapest but can only add; "medium" is nearly as good as
"large" at a seventh of the price. To use your own models, change only ``models=``: ``["openai/gpt-5.4-mini", ...]``.

    python examples/local_models.py 8101      # serve them on a port, for the proxy example
"""

import asyncio
import json
import logging
import random
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

# LiteLLM warns about models that are not in its price list, such as these.
logging.getLogger("LiteLLM").setLevel(logging.ERROR)

# USD per million input and output tokens, seconds per answer, shares of correct additions and multiplications
MODELS = {
    "small": (0.1, 0.4, 0.002, 1.0, 0.1),
    "medium": (0.5, 2.0, 0.004, 1.0, 0.97),
    "large": (3.0, 15.0, 0.008, 1.0, 0.99),
}


@asynccontextmanager
async def local_models() -> AsyncIterator[list[dict[str, Any]]]:
    """Run the server; yields what ``create_service(models=...)`` takes."""
    runner, url = await _serve(0)
    try:
        yield [deployment(name, url) for name in MODELS]
    finally:
        await runner.cleanup()


def deployment(name: str, url: str) -> dict[str, Any]:
    """Return LiteLLM's parameters for one of the models, and its id."""
    read, written, *_ = MODELS[name]
    return {
        "id": name,
        "model": f"openai/{name}",
        "api_base": f"{url}/v1",
        "api_key": "none needed",
        "input_cost_per_token": read / 1e6,
        "output_cost_per_token": written / 1e6,
    }


def model_list(models: list[dict[str, Any]], group: str = "assistant") -> list[dict[str, Any]]:
    """Return the same models in the form that a LiteLLM Router takes."""
    return [
        {
            "model_name": group,
            "litellm_params": {key: value for key, value in model.items() if key != "id"},
            "model_info": {"id": model["id"]},
        }
        for model in models
    ]


def questions(count: int, seed: int = 0) -> Iterator[tuple[str, int]]:
    """Yield questions with their answers, additions and multiplications in equal shares."""
    chance = random.Random(seed)
    for _ in range(count):
        a, b = chance.randint(10, 99), chance.randint(10, 99)
        yield (f"Add {a} and {b}.", a + b) if chance.random() < 0.5 else (f"Multiply {a} by {b}.", a * b)


async def _serve(port: int) -> tuple[web.AppRunner, str]:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", _complete)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


async def _complete(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    name, messages = body["model"], body["messages"]
    _, _, seconds, *_ = MODELS[name]
    await asyncio.sleep(seconds)
    text = _answer(name, str(messages[-1]["content"]), wants_json="JSON schema" in str(messages))
    usage = {"prompt_tokens": 200, "completion_tokens": 50, "total_tokens": 250}
    head = {"id": "1", "created": 0, "model": name}
    if not body.get("stream"):
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return web.json_response({**head, "object": "chat.completion", "choices": [choice], "usage": usage})
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    chunks = [
        *(
            {"choices": [{"index": 0, "delta": {"content": word + " "}, "finish_reason": None}]}
            for word in text.split()
        ),
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {"choices": [], "usage": usage},
    ]
    for chunk in chunks:
        line = json.dumps({**head, "object": "chat.completion.chunk", **chunk})
        await response.write(f"data: {line}\n\n".encode())
    await response.write(b"data: [DONE]\n\n")
    return response


def _answer(name: str, question: str, *, wants_json: bool) -> str:
    found = re.search(r"(Add|Multiply) (\d+) (?:and|by) (\d+)", question)
    if found is None:
        return '{"answer": 0}' if wants_json else f"I am {name} and can only do arithmetic."
    a, b = int(found[2]), int(found[3])
    right, share = (a + b, MODELS[name][3]) if found[1] == "Add" else (a * b, MODELS[name][4])
    given = right if random.Random(f"{name} {question}").random() < share else right + 10
    return json.dumps({"answer": given}) if wants_json else str(given)


async def _forever(port: int) -> None:
    _, url = await _serve(port)
    print(f"{', '.join(MODELS)} answer at {url}/v1 until Ctrl-C", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_forever(int(sys.argv[1]) if len(sys.argv) > 1 else 8101))
