"""LiteLLM's private names are used in one room, so another version of it affects only that room and its tests."""

import ast
from collections.abc import Iterator
from pathlib import Path

import conduit_litellm

PRIVATE = {
    "_hidden_params",
    "_response_ms",
    "async_post_call_failure_deployment_hook",
    "async_post_call_response_headers_hook",
    "async_pre_call_hook",
    "litellm.proxy.proxy_server",
    "litellm_call_id",
    "litellm_logging_obj",
    "litellm_metadata",
    "litellm_session_id",
    "litellm_trace_id",
    "llm_router",
    "log_success_event",
    "model_call_details",
    "optional_params",
    "previous_models",
    "requester_metadata",
    "response_cost",
    "standard_logging_object",
    "user_api_key_alias",
    "user_api_key_auth",
}
PLUGIN = Path(conduit_litellm.__file__).parent


def said(path: Path) -> Iterator[str]:
    """Yield the names and texts in a module's code, without its docstrings."""
    tree = ast.parse(path.read_text())
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value
        for kind in ("id", "attr", "arg", "name", "module"):
            name = getattr(node, kind, None)
            if isinstance(name, str):
                yield name


def test_no_other_room_of_the_plugin_says_them() -> None:
    inside = {path: PRIVATE.intersection(said(path)) for path in PLUGIN.rglob("*.py")}
    compat = {path for path in inside if path.parent.name == "litellm_compat"}
    assert set().union(*(inside[path] for path in compat)) == PRIVATE  # so none of them is misspelt
    assert {path.name: found for path, found in inside.items() if found and path not in compat} == {}
