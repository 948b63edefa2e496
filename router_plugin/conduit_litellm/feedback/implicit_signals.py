"""Signs of a bad answer that need no rating: it is empty, cut off, not the JSON asked for, or the user asks again."""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple
from zlib import crc32

from conduit_litellm.feedback.answers import Answer

__all__ = ["DEFAULT_VALUES", "Retries", "implicit_signals"]

DEFAULT_VALUES: Final[Mapping[str, float]] = {"empty": 0.0, "truncated": 0.5, "invalid_json": 0.0, "retry": 0.5}
"""The signs, and the success (0..1) that an answer with each counts as; see :class:`~conduit_litellm.Judgement`."""

_WINDOW_S = 300.0
_SIMILAR = 0.9
_SHINGLE = 3
_SKETCH = 64
_MAX_ASKING = 10_000
_MAX_CHARACTERS = 20_000


def implicit_signals(answer: Answer) -> Iterator[str]:
    """Yield the names of the signs that an answer shows by itself.

    Examples
    --------
    >>> answer = Answer("{", "?", "length", False, {"type": "json_object"}, None, 0.0, 1.0)
    >>> list(implicit_signals(answer))
    ['truncated']
    """
    if not answer.text.strip() and not answer.has_tool_calls:
        yield "empty"
    if answer.finish_reason == "length":
        yield "truncated"  # this also explains why it is not valid JSON
    elif answer.wants_json and answer.text.strip() and not _is_json(answer.text, answer.json_schema):
        yield "invalid_json"


class Retries:
    """Detects that somebody repeats nearly the same question within five minutes of the answer: it did not help.

    Only a sketch of each question is kept, in memory: of the hashes of all runs of three words, the 64 smallest
    (Broder 1997). The hashes use a random key of this process. Two questions are nearly the same if the estimated
    similarity of their sketches is at least 0.9. Nothing is kept if neither the end user nor the session is known.

    Examples
    --------
    >>> retries = Retries()
    >>> def ask(text, started, decision):
    ...     return retries.ask(Answer("...", [{"role": "user", "content": text}], "stop", False, None, "ada",
    ...                               started, started + 1.0), decision)
    >>> ask("Please name me three large primes", 0.0, "d1"), ask("please name me three large primes!", 9.0, "d2")
    (None, 'd1')
    """

    def __init__(self) -> None:
        self._key = os.urandom(8)
        self._last: dict[str, _Asked] = {}

    def ask(self, answer: Answer, decision_id: str) -> str | None:
        """Remember a question and the decision behind its answer. Return the decision whose question it repeats."""
        if answer.asked_by is None:
            return None
        sketch = self._sketch(_question(answer.messages))
        who = answer.asked_by
        previous = self._last.pop(who, None)
        self._last[who] = _Asked(sketch, answer.ended, decision_id)
        if len(self._last) > _MAX_ASKING:
            del self._last[next(iter(self._last))]
        # Questions asked at the same time are not repetitions.
        if previous is None or not 0.0 < answer.started - previous.ended <= _WINDOW_S:
            return None
        return previous.decision_id if _similarity(sketch, previous.sketch) >= _SIMILAR else None

    def _sketch(self, text: str) -> frozenset[int]:
        words = "".join(c if c.isalnum() else " " for c in text[-_MAX_CHARACTERS:].casefold()).split()
        runs = (" ".join(words[i : i + _SHINGLE]) for i in range(max(1, len(words) - _SHINGLE + 1)))
        hashes = {crc32(self._key + run.encode("utf-8", "replace")) for run in runs if run}
        return frozenset(sorted(hashes)[:_SKETCH])


class _Asked(NamedTuple):
    sketch: frozenset[int]
    ended: float
    decision_id: str


def _similarity(one: frozenset[int], other: frozenset[int]) -> float:
    """Estimate the Jaccard index: the share of the smallest hashes of the union that are in both sketches."""
    both = sorted(one | other)[:_SKETCH]
    return sum(hash_ in one and hash_ in other for hash_ in both) / len(both) if both else 0.0


def _question(messages: Any) -> str:
    """Return the text of the last message that a user wrote."""
    if isinstance(messages, str):
        return messages
    for message in reversed(messages) if isinstance(messages, list) else ():
        if isinstance(message, Mapping) and message.get("role") == "user":
            content = message.get("content")
            parts = content if isinstance(content, list) else [{"text": content}]
            return " ".join(str(part["text"]) for part in parts if isinstance(part, Mapping) and part.get("text"))
    return ""


def _is_json(text: str, schema: Mapping[str, Any] | None) -> bool:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    if schema is None:
        return True
    from jsonschema import Draft202012Validator, SchemaError  # noqa: PLC0415 - slow to load, and rarely needed

    try:
        return bool(Draft202012Validator(schema).is_valid(value))
    except (SchemaError, RecursionError, TypeError, ValueError):
        return True  # the schema is to blame, not the answer
