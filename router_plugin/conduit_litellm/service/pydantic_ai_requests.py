"""Converts requests into PydanticAI's form: messages and settings. Also reads the text of its events."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

from pydantic_ai import messages as parts
from pydantic_ai.settings import ModelSettings

from conduit_litellm.service.result_type import Messages
from conduit_schemas import ConfigurationError

__all__ = ["history_of", "settings_of", "text_of"]

_RENAMED = {"stop": "stop_sequences", "max_completion_tokens": "max_tokens"}


def settings_of(params: Mapping[str, Any]) -> ModelSettings:
    """Return a request's parameters as PydanticAI's settings.

    Raises
    ------
    ConfigurationError
        If PydanticAI does not know a parameter.
    """
    known = set(ModelSettings.__annotations__)
    settings = {_RENAMED.get(name, name): value for name, value in params.items()}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise ConfigurationError(f"PydanticAI has no parameter {unknown[0]!r}; it has {', '.join(sorted(known))}")
    if isinstance(settings.get("stop_sequences"), str):
        settings["stop_sequences"] = [settings["stop_sequences"]]
    return cast(ModelSettings, settings)


def history_of(messages: Messages) -> list[parts.ModelMessage]:
    """Return a conversation in OpenAI's form as PydanticAI's message history.

    Raises
    ------
    ConfigurationError
        If a message cannot be converted, or the last one is not the user's.
    """
    history: list[parts.ModelMessage] = []
    for number, message in enumerate(messages):
        where, role = f"messages[{number}]", message.get("role")
        if role == "assistant" and isinstance(message.get("content"), str) and not message.get("tool_calls"):
            history.append(parts.ModelResponse([parts.TextPart(message["content"])]))
        elif role in {"system", "developer"}:
            _add(history, parts.SystemPromptPart("\n".join(map(str, _content(message, where)))))
        elif role == "user":
            content = list(_content(message, where))
            _add(
                history,
                parts.UserPromptPart(
                    "".join(map(str, content)) if all(isinstance(one, str) for one in content) else content
                ),
            )
        else:
            raise ConfigurationError(
                f"{where}: a message with role {role!r} and this content cannot be converted for PydanticAI; use the "
                "litellm backend for it"
            )
    if not history or not isinstance(history[-1], parts.ModelRequest):
        raise ConfigurationError("the last message must be the user's")
    return history


def _add(history: list[parts.ModelMessage], part: parts.ModelRequestPart) -> None:
    last = history[-1] if history else None
    if isinstance(last, parts.ModelRequest):
        last.parts = [*last.parts, part]
    else:
        history.append(parts.ModelRequest([part]))


def _content(message: Mapping[str, Any], where: str) -> Iterator[parts.UserContent]:
    content = message.get("content")
    for piece in [content] if isinstance(content, str) else content or []:
        if isinstance(piece, str):
            yield piece
        elif piece.get("type") == "text":
            yield str(piece["text"])
        elif piece.get("type") == "image_url":
            image = piece["image_url"]
            yield parts.ImageUrl(image if isinstance(image, str) else image["url"])
        else:
            raise ConfigurationError(
                f"{where}: content of type {piece.get('type')!r} cannot be converted for PydanticAI; use the "
                "litellm backend for it"
            )


def text_of(event: object) -> str | None:
    """Return the text in an event of a stream, if any."""
    if isinstance(event, parts.PartStartEvent) and isinstance(event.part, parts.TextPart):
        return event.part.content
    if isinstance(event, parts.PartDeltaEvent) and isinstance(event.delta, parts.TextPartDelta):
        return event.delta.content_delta
    return None
