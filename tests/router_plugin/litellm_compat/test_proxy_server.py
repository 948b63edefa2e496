"""The proxy calls a handler's hooks, including inherited ones."""

from collections.abc import Mapping

import litellm
import pytest
from litellm.caching.caching import DualCache
from litellm.proxy._types import UserAPIKeyAuth
from litellm.proxy.utils import ProxyLogging

from conduit_litellm.litellm_compat.proxy_server import ProxyHooks


class Handler(ProxyHooks):
    """A handler that counts requests."""

    def __init__(self) -> None:
        super().__init__()
        self.requests = 0

    def before_request(self) -> None:
        self.requests += 1

    def response_headers(self, arguments: Mapping[str, object], response: object) -> dict[str, str] | None:
        return {"x-answer": str(response)}


async def test_the_proxy_calls_a_handlers_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    handler, key = Handler(), UserAPIKeyAuth(api_key="sk-test")
    monkeypatch.setattr(litellm, "callbacks", [handler])
    proxy = ProxyLogging(user_api_key_cache=DualCache())
    data = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
    await proxy.pre_call_hook(user_api_key_dict=key, data=data, call_type="completion")
    assert handler.requests == 1
    headers = await proxy.post_call_response_headers_hook(data=data, user_api_key_dict=key, response="hi")
    assert headers == {"x-answer": "hi"}
