"""Featurizers: from a request to a context vector, which is what a policy knows before it chooses.

A featurizer has a name, which must change whenever its output changes. The name is logged with every decision, and
statistics learned under one name are never mixed with those of another.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from conduit_policy.vectors import ONE, Context
from conduit_policy.word_vectors import HASHED, MEANING, WordVectors

__all__ = ["Featurizer", "Request", "TextFeaturizer"]


@dataclass(frozen=True, slots=True)
class Request:
    """The parts of a request that a featurizer may use.

    Parameters
    ----------
    messages
        Chat messages, each a mapping with ``role`` and ``content``.
    input
        The text or texts of an embedding or responses call.
    params
        The call's other arguments: ``max_tokens``, ``tools``, ``response_format``, ``stream``...
    """

    messages: Sequence[Mapping[str, Any]] | None = None
    input: Any = None
    params: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Featurizer(Protocol):
    """Turns a request into a context vector. It must be a pure function and fast enough for the request path."""

    @property
    def name(self) -> str:
        """Name and version. It must change whenever the output changes."""
        ...

    @property
    def dimension(self) -> int:
        """Number of components, including the intercept."""
        ...

    def __call__(self, request: Request) -> Context:
        """Return the context vector of a request."""
        ...


class TextFeaturizer:
    """Describes a request's structure and the meaning of its words in 64 numbers.

    One component is the intercept, and 15 describe the structure (lengths, tools, share of digits, code, and so on).
    40 represent the meaning of the words in the first 2,048 bytes of the last user message, and 8 are hashes of the
    unknown words among them (:class:`conduit_policy.word_vectors.WordVectors`). The meanings are scaled to unit length,
    and the hashes to the share of unknown words. The structure is centred and scaled by constants, so that usual values
    suit a regression whose prior is the same for all components.

    Examples
    --------
    >>> featurizer = TextFeaturizer()
    >>> context = featurizer(Request(messages=[{"role": "user", "content": "What is 17 * 23?"}]))
    >>> context.shape, int(context[0])
    ((64,), 1024)
    """

    name = "text64-v2"
    dimension = 64

    def __init__(self) -> None:
        self._words = WordVectors()

    def __call__(self, request: Request) -> Context:
        """Return the context vector of a request."""
        last, total, count, roles = _texts(request)
        head = last[:_HEAD].encode("utf-8", "replace")[:_HEAD]
        size = len(head) or 1
        classes = (
            _BYTE_CLASSES @ np.bincount(np.frombuffer(head, np.uint8), minlength=256).astype(np.float32)
        ).tolist()
        words = head.translate(_WORD_BYTES).split()
        params = request.params
        context = np.zeros(self.dimension)
        context[:_STRUCTURE] = (
            1.0,
            (math.log1p(len(last)) - 5.5) / 3.0,
            (math.log1p(total) - 6.0) / 4.0,
            (math.log1p(count) - 0.7) / 2.0,
            1.0 if "system" in roles else 0.0,
            1.0 if params.get("tools") else 0.0,
            1.0 if params.get("response_format") else 0.0,
            1.0 if params.get("stream") else 0.0,
            8.0 * classes[0] / size - 0.2,
            12.0 * classes[1] / size - 0.45,
            16.0 * classes[2] / size - 0.2,
            16.0 * classes[3] / size - 0.2,
            2.0 * classes[4] / size,
            (math.log1p(classes[5]) - 1.5) / 3.0,
            0.5 if classes[6] else -0.5,
            math.log1p(_positive(params.get("max_tokens") or params.get("max_completion_tokens"))) / 10.0,
        )
        if words:
            sums, unknown = self._words.sums(words)
            meaning, hashes = sums[:MEANING], sums[MEANING:]
            if length := math.sqrt(meaning.dot(meaning)):
                context[_STRUCTURE : _STRUCTURE + MEANING] = meaning / length
            if length := math.sqrt(hashes.dot(hashes)):
                context[-HASHED:] = hashes * (unknown / length)
        # Every component is bounded well inside the fixed point's range, so no clipping is needed.
        fixed: Context = np.rint(context * ONE).astype(np.int16)
        return fixed


_HEAD = 2048
_STRUCTURE = 16


def _byte_classes() -> NDArray[np.float32]:
    """Rows: digits, capitals, mathematical symbols, symbols of code, bytes beyond ASCII, newlines, question marks."""
    classes = np.zeros((7, 256), np.float32)
    groups = (
        b"0123456789",
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        b"+-*/=^\\$%<>",
        b"{}[]();_`#",
        bytes(range(128, 256)),
        b"\n",
        b"?",
    )
    for row, group in enumerate(groups):
        classes[row, list(group)] = 1.0
    return classes


def _word_bytes() -> bytes:
    """Map letters to lower case, every digit to 0 (so that only a number's length counts), and the rest to spaces."""
    table = bytearray(b" " * 256)
    for byte in range(128, 256):
        table[byte] = byte
    for letter in range(26):
        table[ord("a") + letter] = table[ord("A") + letter] = ord("a") + letter
    for digit in b"0123456789":
        table[digit] = ord("0")
    return bytes(table)


_BYTE_CLASSES = _byte_classes()
_WORD_BYTES = _word_bytes()


def _texts(request: Request) -> tuple[str, int, int, set[str]]:
    """Return the last user text, the number of characters in all texts, the number of texts, and the roles."""
    last, total, count = "", 0, 0
    roles: set[str] = set()
    for role, text in _parts(request):
        roles.add(role)
        count += 1
        total += len(text)
        if role == "user" or not last:
            last = text
    return last, total, count, roles


def _parts(request: Request) -> Iterator[tuple[str, str]]:
    given: Any = request.messages or request.input
    for entry in given if isinstance(given, (list, tuple)) else (given,):
        if hasattr(entry, "get"):  # a mapping, or a message object of LiteLLM's
            yield str(entry.get("role", "user")), _plain(entry.get("content"))
        else:
            yield "user", _plain(entry)


def _plain(content: Any) -> str:
    """Return a message's text. Other parts (images, audio) are ignored."""
    if isinstance(content, str):
        return content
    if isinstance(content, (list, tuple)):
        return "\n".join(
            part["text"] for part in content if isinstance(part, Mapping) and isinstance(part.get("text"), str)
        )
    return ""


def _positive(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and 0 < value < 1e9 else 0.0
