"""A local server with the OpenAI chat API that simulates all models of the demo.

It runs in a separate process, so that it does not slow down the application. Each model has the base address
``/COLUMN/v1``. An answer depends only on the message and the model.
"""

import argparse
import asyncio
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from aiohttp import web

from conduit_demo.world import SimulatedWorld, World

__all__ = ["application", "main"]


def application(world: World, speed: float) -> web.Application:
    """Return the server's application.

    Parameters
    ----------
    world
        Provides the answers.
    speed
        How many times faster than in reality the models answer.
    """
    rows = {text: row for row, text in enumerate(world.texts)}
    calls: list[tuple[int, int]] = []
    attempts: Counter[tuple[int, int]] = Counter()

    async def complete(request: web.Request) -> web.Response:
        column = int(request.match_info["column"])
        body = await request.json()
        text = body["messages"][-1]["content"]
        row = rows.get(text)
        if row is None or column >= len(world.models):
            return _error(404, "this server does not know this model or this message")
        reply = world.reply(row, column, attempts[row, column])
        attempts[row, column] += 1
        calls.append((row, column))
        await asyncio.sleep(reply.latency_s / speed)
        if reply.status != 200:
            return _error(reply.status, reply.text)
        headers = {} if reply.cost_usd is None else {"x-litellm-response-cost": repr(reply.cost_usd)}
        return web.json_response(
            {
                "id": f"chatcmpl-{row}-{column}",
                "object": "chat.completion",
                "created": 0,
                "model": world.models[column],
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": reply.text},
                        "finish_reason": "stop",
                    }
                ],
                "usage": {
                    "prompt_tokens": reply.input_tokens,
                    "completion_tokens": reply.output_tokens,
                    "total_tokens": reply.input_tokens + reply.output_tokens,
                },
            },
            headers=headers,
        )

    async def take_calls(request: web.Request) -> web.Response:
        """Return every call as (row, column), in order, and reset the server for the next policy."""
        del request
        taken = list(calls)
        calls.clear()
        attempts.clear()
        return web.json_response(taken)

    app = web.Application()
    app.router.add_post(r"/{column:\d+}/v1/chat/completions", complete)
    app.router.add_post("/calls", take_calls)
    return app


def _error(status: int, message: str) -> web.Response:
    kind = "rate_limit_error" if status == 429 else "server_error"
    body: dict[str, Any] = {"error": {"message": message, "type": kind, "code": str(status)}}
    return web.json_response(body, status=status)


async def _serve(world: World, speed: float) -> None:
    runner = web.AppRunner(application(world, speed), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    print(json.dumps({"url": f"http://127.0.0.1:{port}"}), flush=True)
    # Standard input ends when the parent process ends, and then this process ends too.
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


def main() -> None:
    """Print the server's address, then serve until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m conduit_demo.server", description=main.__doc__)
    parser.add_argument("--requests", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--speed", type=float, required=True, help="times faster than reality")
    parser.add_argument("--data", type=Path, help="folder of recorded outcomes; without it, the simulated models")
    options = parser.parse_args()
    asyncio.run(_serve(open_world(options.data, options.requests, options.seed), options.speed))


def open_world(data: Path | None, requests: int, seed: int) -> World:
    """Return the world for these options; equal options give equal worlds in every process."""
    if data is None:
        return SimulatedWorld(requests, seed)
    from conduit_demo.replay import ReplayedWorld  # noqa: PLC0415  # pyarrow is only needed for recorded data

    return ReplayedWorld(data, requests, seed)


if __name__ == "__main__":
    main()
