"""One server that speaks the protocols of many model providers, each under a path of its own."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from local_servers.model_server import serving

INPUT_TOKENS, OUTPUT_TOKENS = 110, 70


class ProviderServer:
    """Answers "hello", or what the test has put into ``script`` for a provider: a text, or a status to fail with.

    ``requests`` holds what each provider received: path, headers and body.
    """

    def __init__(self) -> None:
        self.url = ""
        self.script: dict[str, list[str | int]] = defaultdict(list)
        self.requests: dict[str, list[tuple[str, dict[str, str], dict[str, Any]]]] = defaultdict(list)
        self.delay_s = 0.0

    @asynccontextmanager
    async def running(self) -> AsyncIterator["ProviderServer"]:
        app = web.Application()
        app.router.add_post("/{provider}/{rest:.*}", self._serve)
        async with serving(app) as self.url:
            yield self

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        provider = request.match_info["provider"]
        body = await request.json()
        self.requests[provider].append((request.match_info["rest"], dict(request.headers), body))
        await asyncio.sleep(self.delay_s)
        reply = self.script[provider].pop(0) if self.script[provider] else "hello"
        if isinstance(reply, int):
            return web.json_response({"error": {"message": f"refused with {reply}", "type": "test"}}, status=reply)
        return await _PROTOCOLS.get(provider.split("-", maxsplit=1)[0], _openai)(request, body, reply)


Protocol = Callable[[web.Request, dict[str, Any], str], Awaitable[web.StreamResponse]]


async def _openai(request: web.Request, body: dict[str, Any], text: str) -> web.StreamResponse:
    usage = {
        "prompt_tokens": INPUT_TOKENS,
        "completion_tokens": OUTPUT_TOKENS,
        "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
    }
    head = {"id": "c1", "created": 1, "model": body.get("model", "gpt-4.1"), "service_tier": _tier(request)}
    tool = next(iter(body.get("tools") or []), None)
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if tool is not None:
        call = {"name": tool["function"]["name"], "arguments": text}
        message = {"role": "assistant", "content": None}
        message["tool_calls"] = [{"id": "t1", "type": "function", "function": call}]
    if not body.get("stream"):
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if tool else "stop"}
        return web.json_response({**head, "object": "chat.completion", "choices": [choice], "usage": usage})
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for piece in [text[start : start + 2] for start in range(0, len(text), 2)]:
        choice = {"index": 0, "delta": {"role": "assistant", "content": piece}, "finish_reason": None}
        await _send(response, {**head, "object": "chat.completion.chunk", "choices": [choice]})
        if piece == "!!":
            assert request.transport is not None
            request.transport.close()
            return response
        await asyncio.sleep(0.01)
    choice = {"index": 0, "delta": {}, "finish_reason": "stop"}
    await _send(response, {**head, "object": "chat.completion.chunk", "choices": [choice]})
    await _send(response, {**head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
    await response.write(b"data: [DONE]\n\n")
    return response


def _tier(request: web.Request) -> str:
    return "on_demand" if request.match_info["provider"] == "groq" else "default"


async def _send(response: web.StreamResponse, chunk: dict[str, Any]) -> None:
    await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")


async def _anthropic(request: web.Request, body: dict[str, Any], text: str) -> web.StreamResponse:
    return web.json_response(
        {
            "id": "m1",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS},
        }
    )


async def _gemini(request: web.Request, body: dict[str, Any], text: str) -> web.StreamResponse:
    usage = {
        "promptTokenCount": INPUT_TOKENS,
        "candidatesTokenCount": OUTPUT_TOKENS,
        "totalTokenCount": INPUT_TOKENS + OUTPUT_TOKENS,
    }
    content = {"role": "model", "parts": [{"text": text}]}
    return web.json_response(
        {"candidates": [{"index": 0, "content": content, "finishReason": "STOP"}], "usageMetadata": usage}
    )


async def _cohere(request: web.Request, body: dict[str, Any], text: str) -> web.StreamResponse:
    tokens = {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS}
    message = {"role": "assistant", "content": [{"type": "text", "text": text}]}
    return web.json_response(
        {
            "id": "c1",
            "finish_reason": "COMPLETE",
            "message": message,
            "usage": {"billed_units": tokens, "tokens": tokens},
        }
    )


async def _ollama(request: web.Request, body: dict[str, Any], text: str) -> web.StreamResponse:
    return web.json_response(
        {
            "model": body["model"],
            "created_at": "2026-01-01T00:00:00Z",
            "message": {"role": "assistant", "content": text},
            "done": True,
            "done_reason": "stop",
            "prompt_eval_count": INPUT_TOKENS,
            "eval_count": OUTPUT_TOKENS,
        }
    )


async def _bedrock(request: web.Request, body: dict[str, Any], text: str) -> web.StreamResponse:
    usage = {
        "inputTokens": INPUT_TOKENS,
        "outputTokens": OUTPUT_TOKENS,
        "totalTokens": INPUT_TOKENS + OUTPUT_TOKENS,
    }
    message = {"role": "assistant", "content": [{"text": text}]}
    return web.json_response(
        {"output": {"message": message}, "stopReason": "end_turn", "usage": usage, "metrics": {"latencyMs": 1}}
    )


_PROTOCOLS: dict[str, Protocol] = {
    "anthropic": _anthropic,
    "gemini": _gemini,
    "cohere": _cohere,
    "ollama": _ollama,
    "bedrock": _bedrock,
}
