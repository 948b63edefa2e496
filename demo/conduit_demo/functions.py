"""The demo's programming exercises: each with a task, a correct and a buggy solution, and unit tests."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["FUNCTIONS", "Function", "passes"]


@dataclass(frozen=True, slots=True)
class Function:
    """One exercise; ``n`` and ``N`` stand for a number that varies from prompt to prompt."""

    told: str
    arguments: str
    right: str
    wrong: str
    expected: Callable[[Any, int], Any]
    """The reference solution: maps argument and number to the result."""
    inputs: tuple[Any, ...]


def passes(source: str, name: str, function: Function, number: int) -> bool:
    """Return whether the source defines ``name`` and passes the exercise's unit tests.

    The source is executed, so it must come from the demo's own server.
    """
    scope: dict[str, Any] = {}
    try:
        exec(compile(source, "<answer>", "exec"), scope)
        return all(scope[name](given) == function.expected(given, number) for given in function.inputs)
    except Exception:  # any exception means that the program failed its tests
        return False


def _flatten(tree: Any, least: int) -> list[int]:
    if not isinstance(tree, list):
        return [tree] if tree > least else []
    return [number for node in tree for number in _flatten(node, least)]


def _runs(text: str, least: int) -> int:
    count, start = 0, 0
    for end in range(1, len(text) + 1):
        if end == len(text) or text[end] != text[start]:
            count += end - start >= least
            start = end
    return count


FUNCTIONS = (
    Function(
        "It receives a list of integers and returns the sum of those divisible by {n}.",
        "numbers",
        "    return sum(x for x in numbers if x % N == 0)",
        "    return sum(x for x in numbers if x % N == 1)",
        lambda numbers, n: sum(x for x in numbers if x % n == 0),
        ([], [1, 2, 3, 4, 5, 6, 10, 12], [-4, 9, 60, 61]),
    ),
    Function(
        "Given a string, it should return the words that are longer than {n} letters, in order.",
        "text",
        "    return [word for word in text.split() if len(word) > N]",
        "    return [word for word in text.split() if len(word) >= N]",
        lambda text, n: [word for word in text.split() if len(word) > n],
        ("", "a bc def ghij klmno pqrstu", "one three five seven"),
    ),
    Function(
        "The argument is a list; split it into chunks of {n} elements, the last one possibly shorter.",
        "items",
        "    return [items[i:i + N] for i in range(0, len(items), N)]",
        "    return [items[i:i + N] for i in range(0, len(items) - 1, N + 1)]",
        lambda items, n: [items[i : i + n] for i in range(0, len(items), n)],
        ([], list(range(11)), ["x"]),
    ),
    Function(
        "For a list of numbers it computes the moving average over a window of {n}.",
        "values",
        "    return [sum(values[i:i + N]) / N for i in range(len(values) - N + 1)]",
        "    return [sum(values[i:i + N]) / N for i in range(len(values) - N)]",
        lambda values, n: [sum(values[i : i + n]) / n for i in range(len(values) - n + 1)],
        ([4, 8, 6, 2, 0, 1], [1] * 9),
    ),
    Function(
        "It takes a dictionary of scores and returns the {n} keys with the highest values, best first.",
        "scores",
        "    return sorted(scores, key=scores.get, reverse=True)[:N]",
        "    return sorted(scores, key=scores.get)[:N]",
        lambda scores, n: sorted(scores, key=scores.get, reverse=True)[:n],
        ({"a": 3, "b": 9, "c": 5, "d": 1, "e": 7, "f": 2}, {"x": 1, "y": 2}),
    ),
    Function(
        "Rotate the given sequence to the left by {n} positions and return the result as a list.",
        "items",
        "    k = N % len(items) if items else 0\n    return list(items[k:]) + list(items[:k])",
        "    k = N % len(items) if items else 0\n    return list(items[-k:]) + list(items[:-k])",
        lambda items, n: [items[(i + n) % len(items)] for i in range(len(items))],
        ([], [1, 2, 3, 4, 5, 6, 7], "abcdefghi"),
    ),
    Function(
        "It gets a nested list of any depth and returns a flat list of the numbers greater than {n}.",
        "tree",
        "    flat, stack = [], [tree]\n    while stack:\n        node = stack.pop()\n"
        "        if isinstance(node, list):\n            stack.extend(reversed(node))\n"
        "        elif node > N:\n            flat.append(node)\n    return flat",
        "    return [x for part in tree for x in (part if isinstance(part, list) else [part]) "
        "if not isinstance(x, list) and x > N]",
        _flatten,
        ([1, [7, [3, 9], 2], 8], [[[[6]]]], []),
    ),
    Function(
        "Count how many times any character is repeated at least {n} times in a row in the string.",
        "text",
        "    runs, length = 0, 0\n    for i, c in enumerate(text):\n"
        "        length = length + 1 if i and text[i - 1] == c else 1\n        runs += length == N\n    return runs",
        "    runs, length = 0, 0\n    for i, c in enumerate(text):\n"
        "        length = length + 1 if i and text[i - 1] == c else 0\n        runs += length == N\n    return runs",
        _runs,
        ("", "aaabbbbcddddd", "aabbccddd", "abcabc"),
    ),
)
