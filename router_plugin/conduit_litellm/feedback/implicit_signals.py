"""What an answer gives away by itself: that it is empty, cut off, no JSON where JSON was asked for, or asked again."""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple
from zlib import crc32

from conduit_litellm.feedback.answers import Answer

__all__ = ["DEFAULT_VALUES", "Retries", "implicit_signals"]

DEFAULT_VALUES: Final[Mapping[str, float]] = {"empty": 0.0, "truncated": 0.5, "invalid_json": 0.0, "retry": 0.5}
"""How much of a success each still is; see :class:`conduit_litellm.decisions.judgements.Judgement`."""

_WINDOW_S = 300.0
_SIMILAR = 0.9
_SHINGLE = 3
_SKETCH = 64
_MAX_ASKING = 10_000
_MAX_CHARACTERS = 20_000


def implicit_signals(answer: Answer) -> Iterator[str]:
    """Yield what is wrong with an answer on the face of it.

    Examples
    --------
    >>> answer = Answer("{", "?", "length", False, {"type": "json_object"}, None, 0.0, 1.0)
    >>> list(implicit_signals(answer))
    ['truncated']
    """
    if not answer.text.strip() and not answer.has_tool_calls:
        yield "empty"
    if answer.finish_reason == "length":
        yield "truncated"  # which explains why it is no JSON, too
    elif answer.wants_json and answer.text.strip() and not _is_json(answer.text, answer.json_schema):
        yield "invalid_json"


class Retries:
    """Notices when somebody asks nearly the same again soon after the answer: then that answer did not help.

    Of a question only a sketch is kept, in memory: the 64 smallest of the keyed hashes of its runs of three words
    (Broder 1997), under a key that this process made up. Two questions are nearly the same when their sketches
    share at least nine tenths. Where neither end user nor session is known nothing is kept.

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
        """Note a question and its answer's decision; return the decision that it asks nearly the same as."""
        if answer.asked_by is None:
            return None
        sketch = self._sketch(_question(answer.messages))
        who = answer.asked_by
        before = self._last.pop(who, None)
        self._last[who] = _Asked(sketch, answer.ended, decision_id)
        if len(self._last) > _MAX_ASKING:
            del self._last[next(iter(self._last))]
        # Questions that were asked at the same time are not asked again.
        if before is None or not 0.0 < answer.started - before.ended <= _WINDOW_S:
            return None
        return before.decision_id if _similarity(sketch, before.sketch) >= _SIMILAR else None

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
    """Return the share of the smallest hashes of both that both have (an estimate of the Jaccard index)."""
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
    from jsonschema import Draft202012Validator, SchemaError  # noqa: PLC0415 - slow to load, and seldom needed

    try:
        return bool(Draft202012Validator(schema).is_valid(value))
    except (SchemaError, RecursionError, TypeError, ValueError):
        return True  # the schema is to blame, not the answer
