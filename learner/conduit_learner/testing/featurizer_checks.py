"""Checks that every featurizer must pass: the one that comes with Conduit, and your own.

Each check is a function that raises an AssertionError. :func:`check_featurizer` runs all of them.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any

import numpy as np

from conduit_policy import Featurizer, Request, featurizer_of, pack_context
from conduit_policy.vectors import ONE
from conduit_schemas import MAX_DIMENSION

__all__ = ["FEATURIZER_CHECKS", "check_featurizer", "fingerprint"]


def check_featurizer(featurizer: str | Featurizer, *, expected: str | None = None) -> None:
    """Run every check on a featurizer.

    Parameters
    ----------
    featurizer
        The featurizer, or its name; see :func:`conduit_policy.featurizer_of`.
    expected
        Its :func:`fingerprint`. Store it next to the name. If a change alters the contexts, this check fails, and the
        featurizer needs a new name. It also finds uses of Python's ``hash`` of texts, which differs between processes.

    Raises
    ------
    AssertionError
        When a check fails. The message says what was found.

    Examples
    --------
    >>> check_featurizer("text64-v2", expected="764522ebc4b188b2")
    """
    made = featurizer_of(featurizer)
    for check in FEATURIZER_CHECKS:
        check(made)
    if expected is not None:
        found = fingerprint(made)
        assert found == expected, (
            f"{made.name}: its fingerprint is {found!r}, not {expected!r}: its contexts have changed. Give it a new "
            "name, and store the new fingerprint with it; what was learned under one name is only right for contexts "
            "with the same meaning"
        )


def fingerprint(featurizer: Featurizer) -> str:
    """Return 16 hexadecimal digits that identify a featurizer's contexts for the requests of these checks."""
    digest = hashlib.sha256(f"{featurizer.name} {featurizer.dimension}".encode())
    for request in _requests():
        digest.update(pack_context(featurizer(request)))
    return digest.hexdigest()[:16]


def says_what_it_is(featurizer: Featurizer) -> None:
    """It has a name and a dimension that events can carry, and they never change."""
    name, dimension = featurizer.name, featurizer.dimension
    assert isinstance(name, str) and 0 < len(name) <= 256, f"name={name!r} must be a text of 1 to 256 characters"
    assert isinstance(dimension, int) and 1 <= dimension <= MAX_DIMENSION, f"{name}: dimension={dimension!r}"
    for request in _requests():
        featurizer(request)
    assert (featurizer.name, featurizer.dimension) == (name, dimension), f"{name}: its name or dimension changes"


def gives_contexts(featurizer: Featurizer) -> None:
    """For ordinary requests, it returns 16-bit integers of its dimension, with 1.0 as component 0."""
    for request in _requests():
        _check_context(featurizer, featurizer(request), repr(request)[:200])


def takes_anything(featurizer: Featurizer) -> None:
    """It returns a context, and raises no error, whatever an application sends."""
    for case, make in _HOSTILE.items():
        request = make()
        try:
            context = featurizer(request)
        except Exception as error:
            raise AssertionError(f"{featurizer.name}: {case}: raises {type(error).__name__}: {error}") from error
        _check_context(featurizer, context, case)


def is_deterministic(featurizer: Featurizer) -> None:
    """The same request gives the same context, whatever requests came in between."""
    once = [featurizer(request).tolist() for request in _requests()]
    again = [featurizer(request).tolist() for request in reversed(list(_requests()))][::-1]
    for request, first, second in zip(_requests(), once, again, strict=True):
        assert first == second, f"{featurizer.name}: {request}: {first} at first, {second} later"


def leaves_requests_alone(featurizer: Featurizer) -> None:
    """It leaves the request as it was: it changes nothing, and does not consume what can be read only once."""
    for request in _requests():
        before = deepcopy(request)
        featurizer(request)
        assert request == before, f"{featurizer.name}: {before} became {request}"
    for place, make in _ONCE.items():
        stream = iter(["still here"])
        try:
            featurizer(make(stream))
        except Exception as error:
            raise AssertionError(f"{featurizer.name}: an iterator as {place} raises {error!r}") from error
        assert next(stream, None) == "still here", f"{featurizer.name}: it consumed the iterator that was the {place}"


def gives_its_own_array(featurizer: Featurizer) -> None:
    """The next request does not change an earlier context, because contexts are logged later."""
    given = [(context, context.tolist()) for context in map(featurizer, _requests())]
    for context, before in given:
        assert context.tolist() == before, f"{featurizer.name}: it changes an array that it returned before"


def takes_bounded_time(featurizer: Featurizer) -> None:
    """A megabyte of text takes no more than a second of processor time, so nothing grows faster than the text."""
    for text in ("word " * 200_000, "x" * 1_000_000, "({[" * 330_000):
        request = Request(messages=[{"role": "user", "content": text}])
        start = time.process_time()
        featurizer(request)
        took = time.process_time() - start
        assert took < _MAX_S, f"{featurizer.name}: {len(text):,} characters like {text[:10]!r} take {took:.1f} s"


_MAX_S = 1.0

FEATURIZER_CHECKS: tuple[Callable[[Featurizer], None], ...] = (
    says_what_it_is,
    gives_contexts,
    takes_anything,
    is_deterministic,
    leaves_requests_alone,
    gives_its_own_array,
    takes_bounded_time,
)


def _check_context(featurizer: Featurizer, context: Any, case: str) -> None:
    name = featurizer.name
    assert isinstance(context, np.ndarray), f"{name}: {case}: returns {type(context).__name__}, not an array"
    assert context.dtype == np.int16, (
        f"{name}: {case}: returns {context.dtype}, not int16 in units of 1/{ONE}; use conduit_policy.to_fixed_point"
    )
    expected = (featurizer.dimension,)
    assert context.shape == expected, f"{name}: {case}: returns the shape {context.shape}, not {expected}"
    assert context[0] == ONE, f"{name}: {case}: component 0 is {context[0]}; it is the intercept and must be {ONE}"


def _user(content: Any, **params: Any) -> Request:
    return Request(messages=[{"role": "user", "content": content}], params=params)


def _requests() -> Iterator[Request]:
    """Yield requests as applications send them."""
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
    yield _user("What is 17 * 23?")
    yield _user("Write a Python function that merges two sorted lists.\n\ndef merge(a, b):\n    ...", max_tokens=500)
    yield _user("Грустный снеговик 雪だるま ☃", stream=True, temperature=0)
    yield _user([{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "x.png"}}])
    yield _user("Where is order 8213?", tools=[tool], response_format={"type": "json_object"})
    yield _user("")
    yield Request(
        messages=[
            {"role": "system", "content": "You are terse."},
            {"role": "user", "content": "Where is Lake Como?"},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function"}]},
            {"role": "tool", "content": "Italy", "tool_call_id": "1"},
            {"role": "user", "content": "And how deep is it?"},
        ]
    )
    yield Request(input="a text to embed")
    yield Request(input=["two texts", "to embed"])
    yield Request(input=[{"role": "user", "content": [{"type": "input_text", "text": "hello"}]}])
    yield Request()


_HOSTILE: Mapping[str, Callable[[], Request]] = {
    "no content": lambda: _user(None),
    "content that is a number": lambda: _user(7),
    "content that is bytes": lambda: _user(b"\xff\x00"),
    "content that is a mapping": lambda: _user({"text": ["deep"]}),
    "content of nested lists": lambda: _user([[["deep"]], None, 3, {"type": "text"}, {"type": "text", "text": None}]),
    "content that is a generator": lambda: _user(part for part in ("a", "b")),
    "a lone surrogate": lambda: _user("\ud800 and \x00"),
    "messages that are texts": lambda: Request(messages=["hello", "there"]),  # type: ignore[list-item]  # on purpose
    "messages that are nothing": lambda: Request(messages=[None, 3, []]),  # type: ignore[list-item]  # on purpose
    "messages that are one text": lambda: Request(messages="hello"),  # type: ignore[arg-type]  # on purpose
    "messages that are a number": lambda: Request(messages=7),  # type: ignore[arg-type]  # on purpose
    "messages from a generator": lambda: Request(messages=(m for m in [{"role": "user"}])),  # type: ignore[arg-type]  # on purpose
    "messages without a role": lambda: Request(messages=[{}, {"role": None, "content": "x"}, {"role": 3}]),
    "numbers as input": lambda: Request(input=[1, 2, 3]),
    "nested numbers as input": lambda: Request(input=[[1, 2], [3]]),
    "an object as input": lambda: Request(input=object()),
    "odd parameters": lambda: _user("hello", max_tokens="many", tools="none", stream=3, stop={1, 2}),
    "no number as a limit": lambda: _user("hello", max_tokens=float("nan")),
}

_ONCE: Mapping[str, Callable[[Iterator[Any]], Request]] = {
    "content": _user,
    "list of messages": lambda stream: Request(messages=stream),  # type: ignore[arg-type]  # on purpose
    "input": lambda stream: Request(input=stream),
    "tools": lambda stream: _user("hello", tools=stream),
}
