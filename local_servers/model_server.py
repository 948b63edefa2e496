"""A stand-in for model providers, for real HTTP calls that do not leave this machine."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """Serve an application on a free port of this machine while the context is open; yields its URL."""
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


class ModelServer:
    """An OpenAI-compatible server whose behaviour is the first part of the path."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.url = ""

    def base(self, behaviour: str) -> str:
        """Return the ``api_base`` of a deployment that behaves this way."""
        return f"{self.url}/{behaviour}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator["ModelServer"]:
        """Serve while the context is open."""
        app = web.Application()
        app.router.add_post("/{behaviour}/chat/completions", self.complete)
        app.router.add_post("/{behaviour}/embeddings", self.embed)
        app.router.add_post("/{behaviour}/responses", self.respond)
        app.router.add_post("/{behaviour}/v1/messages", self.message)
        async with serving(app) as self.url:
            yield self

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """Answer a chat."""
        behaviour = request.match_info["behaviour"]
        self.calls.append(behaviour)
        body = await request.json()
        if behaviour.startswith("status-"):
            status = int(behaviour.removeprefix("status-"))
            return web.json_response({"error": {"message": "refused", "type": "x", "code": "x"}}, status=status)
        if behaviour == "slow":
            await asyncio.sleep(5.0)
        if behaviour == "hang":
            await asyncio.sleep(600.0)
        if behaviour == "late":
            await asyncio.sleep(2.0)
        if behaviour == "pause":
            await asyncio.sleep(0.2)
        if body.get("stream"):
            return await self._stream(request, behaviour)
        return web.json_response(
            {
                "id": "c1",
                "object": "chat.completion",
                "created": 1,
                "model": body["model"],
                "choices": [
                    {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}
                ],
                "usage": _usage(behaviour),
            }
        )

    async def embed(self, request: web.Request) -> web.StreamResponse:
        """Answer a request for embeddings."""
        body = await request.json()
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        return web.json_response(
            {
                "object": "list",
                "model": body["model"],
                "data": [
                    {"object": "embedding", "index": index, "embedding": [0.1, 0.2]} for index in range(len(texts))
                ],
                "usage": {"prompt_tokens": 7, "total_tokens": 7},
            }
        )

    async def respond(self, request: web.Request) -> web.StreamResponse:
        """Answer a request of the responses API."""
        text = {"type": "output_text", "text": "hello", "annotations": []}
        message = {"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": [text]}
        body = await request.json()
        response = {
            "id": "r1",
            "object": "response",
            "created_at": 1,
            "status": "completed",
            "model": body["model"],
            "output": [message],
            "usage": {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15},
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
        }
        if not body.get("stream"):
            return web.json_response(response)
        begun: dict[str, Any] = {**response, "status": "in_progress", "output": [], "usage": None}
        delta = {"item_id": "m1", "output_index": 0, "content_index": 0, "delta": "hello"}
        return await _events(
            request,
            {"type": "response.created", "response": begun},
            {"type": "response.output_text.delta", **delta},
            {"type": "response.completed", "response": response},
        )

    async def message(self, request: web.Request) -> web.StreamResponse:
        """Answer a request of Anthropic's messages API."""
        body = await request.json()
        message = {
            "id": "m1",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [{"type": "text", "text": "hello"}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 10, "output_tokens": 5},
        }
        if not body.get("stream"):
            return web.json_response(message)
        begun = {**message, "content": [], "stop_reason": None, "usage": {"input_tokens": 10, "output_tokens": 1}}
        return await _events(
            request,
            {"type": "message_start", "message": begun},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello"}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
            {"type": "message_stop"},
        )

    async def _stream(self, request: web.Request, behaviour: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number in range(4):
            await asyncio.sleep(0.1)
            if behaviour == "overload":
                await response.write(b'data: {"error": {"message": "overloaded", "code": 503}}\n\n')
                return response
            if behaviour == "drop" and number == 2:
                assert request.transport is not None
                request.transport.close()
                return response
            await response.write(b"data: " + json.dumps(_chunk("word ")).encode() + b"\n\n")
        await response.write(
            b"data: " + json.dumps(_chunk("", finish="stop") | {"usage": _usage("ok")}).encode() + b"\n\n"
        )
        await response.write(b"data: [DONE]\n\n")
        return response


async def _events(request: web.Request, *events: dict[str, Any]) -> web.StreamResponse:
    """Send events, a tenth of a second apart."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for event in events:
        await asyncio.sleep(0.1)
        await response.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
    return response


def _usage(behaviour: str) -> dict[str, int]:
    written = int(behaviour.removeprefix("tokens-")) if behaviour.startswith("tokens-") else 20
    return {"prompt_tokens": 100, "completion_tokens": written, "total_tokens": 100 + written}


def _chunk(text: str, finish: str | None = None) -> dict[str, Any]:
    delta = {"role": "assistant", "content": text}
    return {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-4o-mini",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
