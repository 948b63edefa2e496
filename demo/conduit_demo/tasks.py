"""The demo's requests: six kinds of tasks in many phrasings, each with an answer that can be graded.

A :class:`Prompt` holds the text that the application sends, and what its tests know: the parts of a correct answer and
of a plausible wrong one. Only the text itself reveals the kind of task.
"""

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from conduit_demo import vocabulary as words
from conduit_demo.functions import FUNCTIONS, passes

__all__ = ["TASKS", "Prompt", "answer", "compose", "grade"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request, and how to grade its answer."""

    text: str
    task: str
    right: tuple[str, ...]
    """The parts of a correct answer, each of which a model gets right or wrong."""
    wrong: tuple[str, ...]
    """A wrong version of each part."""
    check: tuple[Any, ...] = ()
    """What the task's grader needs in addition to ``right``."""


def compose(random: Random, task: str, difficulty: float) -> Prompt:
    """Return a new prompt; a more difficult prompt is longer.

    Parameters
    ----------
    random
        Source of everything that varies.
    task
        One of :data:`TASKS`.
    difficulty
        A standard normal number; the number of steps, fields or sentences grows with it.

    Examples
    --------
    >>> compose(Random(1), "maths", 0.0).task
    'maths'
    """
    size = min(8, max(2, round(4.0 + 1.4 * difficulty)))
    prompt = _COMPOSERS[task](random, size)
    opening, closing = random.choice(words.OPENINGS), random.choice(words.CLOSINGS)
    gap = "" if not closing else "\n" if "\n" in prompt.text else " "
    return replace(prompt, text=f"{opening}{prompt.text}{gap}{closing}")


def answer(prompt: Prompt, correct: Sequence[bool]) -> str:
    """Return the text of an answer that gets exactly the given parts right."""
    parts = [right if ok else wrong for right, wrong, ok in zip(prompt.right, prompt.wrong, correct, strict=True)]
    return _WRITERS[prompt.task](parts)


def grade(prompt: Prompt, text: str) -> float:
    """Return the quality of an answer, 0..1, from its text alone, as the application itself checks it.

    Code is run against unit tests. Numbers and letters are compared with the key, JSON field by field, and translations
    sentence by sentence. A summary's figures are looked up in its source.

    Examples
    --------
    >>> prompt = compose(Random(1), "maths", 0.0)
    >>> grade(prompt, answer(prompt, [True])), grade(prompt, answer(prompt, [False])), grade(prompt, "no idea")
    (1.0, 0.0, 0.0)
    """
    return _GRADERS[prompt.task](prompt, text)


# --- maths -----------------------------------------------------------------------------------------------


def _maths(random: Random, size: int) -> Prompt:
    person, place, thing = random.choice(words.PEOPLE), random.choice(words.PLACES), random.choice(words.THINGS)
    total = random.randint(12, 90)
    told = [f"{person} starts the week at the {place} with {total} {thing}."]
    for _ in range(size):
        number, day = random.randint(2, 9), random.choice(words.DAYS)
        kind = random.randrange(4)
        if kind == 0:
            total += 7 * number
            told.append(f"On {day} {number} boxes arrive, and each of them holds 7 {thing}.")
        elif kind == 1 and total > number:
            total -= number
            told.append(f"{random.choice(words.PEOPLE)} takes away {number} of the {thing} on {day}.")
        elif kind == 2 and total < 400:
            total *= 2
            told.append(f"By the end of {day} the number of {thing} has doubled.")
        else:
            total += number
            told.append(f"Then {number} more {thing} turn up.")
    told.append(f"How many {thing} are there in the end?")
    slip = total + random.choice((-10, -7, -2, -1, 1, 3, 7, 10))
    return Prompt(" ".join(told), "maths", (str(total),), (str(slip),))


def _write_maths(parts: Sequence[str]) -> str:
    return f"Adding everything up step by step gives {parts[0]}."


def _grade_maths(prompt: Prompt, text: str) -> float:
    numbers = re.findall(r"-?\d+", text)
    return float(bool(numbers) and numbers[-1] == prompt.right[0])


# --- reasoning -------------------------------------------------------------------------------------------


def _decay(random: Random) -> tuple[str, float, str]:
    half, share = random.randint(3, 60), random.choice((5, 10, 15, 20, 30, 40))
    element = random.choice(words.ISOTOPES)
    told = (
        f"A sample of {element} has a half-life of {half} days. After what time is its activity down to "
        f"{share} % of the initial value, assuming that no daughter nuclide contributes?"
    )
    return told, half * math.log2(100.0 / share), "days"


def _nernst(random: Random) -> tuple[str, float, str]:
    charge, inside, outside = random.choice((1, 2)), random.randint(5, 20), random.randint(90, 160)
    told = (
        f"A membrane separates solutions of an ion of valence +{charge} at {inside} mM (inside) and {outside} mM "
        "(outside) at 310 K. What is the equilibrium potential according to the Nernst equation?"
    )
    return told, 8.314 * 310.0 / (charge * 96485.0) * math.log(outside / inside) * 1000.0, "mV"


def _photon(random: Random) -> tuple[str, float, str]:
    low, high = random.randint(1, 3), random.randint(4, 8)
    told = (
        f"An electron in a hydrogen atom falls from the level n={high} to the level n={low}. Neglecting fine "
        "structure, what is the wavelength of the emitted photon?"
    )
    return told, 1.0 / (1.0967758e-2 * (1.0 / low**2 - 1.0 / high**2)), "nm"


def _carriers(random: Random) -> tuple[str, float, str]:
    people = random.randint(400, 20_000)
    told = (
        f"A recessive disorder that follows Hardy-Weinberg proportions affects one person in {people}. "
        "What share of the population are heterozygous carriers?"
    )
    frequency = 1.0 / math.sqrt(people)
    return told, 200.0 * frequency * (1.0 - frequency), "%"


def _relativity(random: Random) -> tuple[str, float, str]:
    speed = random.choice((0.6, 0.7, 0.8, 0.9, 0.95, 0.98))
    told = (
        f"A muon with a mean proper lifetime of 2.2 microseconds moves at {speed} c relative to the laboratory. "
        "How far does it travel on average before it decays, as seen in the laboratory frame?"
    )
    return told, speed * 299.792458 * 2.2 / math.sqrt(1.0 - speed**2), "m"


def _buffer(random: Random) -> tuple[str, float, str]:
    acid, base, pka = random.randint(5, 80), random.randint(5, 80), random.choice((3.86, 4.76, 6.37, 7.21, 9.25))
    told = (
        f"A buffer contains {acid} mmol of a weak acid with pKa {pka} and {base} mmol of its conjugate base in one "
        "litre of water. What pH does the Henderson-Hasselbalch equation predict?"
    )
    return told, pka + math.log10(base / acid), "(pH)"


_QUESTIONS = (_decay, _nernst, _photon, _carriers, _relativity, _buffer)


def _reasoning(random: Random, size: int) -> Prompt:
    told, value, unit = random.choice(_QUESTIONS)(random)
    values = [value * factor for factor in (1.0, *random.sample((0.37, 0.5, 0.69, 1.44, 2.0, 2.72), 3))]
    random.shuffle(values)
    letters = "ABCD"
    options = "\n".join(f"({letter}) {number:.3g} {unit}" for letter, number in zip(letters, values, strict=True))
    remarks = " ".join(random.sample(words.REMARKS, size - 2))
    key = letters[values.index(value)]
    slip = random.choice(letters.replace(key, ""))
    return Prompt(f"{told} {remarks}\n{options}", "reasoning", (key,), (slip,))


def _write_reasoning(parts: Sequence[str]) -> str:
    return f"Working from the definitions and checking the units, the answer is ({parts[0]})."


def _grade_reasoning(prompt: Prompt, text: str) -> float:
    letters = re.findall(r"\(([A-D])\)", text)
    return float(bool(letters) and letters[-1] == prompt.right[0])


# --- code ------------------------------------------------------------------------------------------------


def _code(random: Random, size: int) -> Prompt:
    function = random.choice(FUNCTIONS)
    name = f"{random.choice(words.VERBS)}_{random.choice(words.NOUNS)}"
    number = random.randint(2, 5)
    wishes = " ".join(random.sample(words.WISHES, size - 2))
    told = f"{random.choice(words.CODE_REQUESTS).format(name=name)} {function.told.format(n=number)} {wishes}"
    header = f"def {name}({function.arguments}):\n"
    right, wrong = (header + body.replace("N", str(number)) for body in (function.right, function.wrong))
    return Prompt(told, "code", (right,), (wrong,), (name, function, number))


def _write_code(parts: Sequence[str]) -> str:
    return f"```python\n{parts[0]}\n```"


def _grade_code(prompt: Prompt, text: str) -> float:
    block = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    return float(block is not None and passes(block[1], *prompt.check))


# --- extraction ------------------------------------------------------------------------------------------


def _extraction(random: Random, size: int) -> Prompt:
    fields = random.sample(sorted(words.FIELDS), size)
    right, wrong, told = [], [], []
    for field in fields:
        sentence, make = words.FIELDS[field]
        value, other = make(random), make(random)
        while other == value:
            other = make(random)
        told.append(sentence.format(value))
        right.append(json.dumps({field: value}))
        wrong.append(json.dumps({field: other}))
    random.shuffle(told)
    request = random.choice(words.EXTRACTION_REQUESTS).format(fields=", ".join(fields))
    return Prompt(f"{request}\n\n{' '.join(told)}", "extraction", tuple(right), tuple(wrong))


def _write_extraction(parts: Sequence[str]) -> str:
    return json.dumps({field: value for part in parts for field, value in json.loads(part).items()})


def _grade_extraction(prompt: Prompt, text: str) -> float:
    try:
        found = json.loads(text)
    except ValueError:
        return 0.0
    if not isinstance(found, dict):
        return 0.0
    wanted = [item for part in prompt.right for item in json.loads(part).items()]
    right: int = sum(found.get(field) == value for field, value in wanted)
    return right / len(wanted)


# --- translation -----------------------------------------------------------------------------------------


def _translation(random: Random, size: int) -> Prompt:
    language = random.choice(sorted(words.LANGUAGES))
    subjects, verbs, objects = words.LANGUAGES[language]
    told, right, wrong = [], [], []
    for _ in range(size):
        parts = [random.randrange(len(words.ENGLISH[column])) for column in range(3)]
        told.append(" ".join(words.ENGLISH[column][row] for column, row in enumerate(parts)) + ".")
        foreign = (subjects, verbs, objects)
        right.append(" ".join(foreign[column][row] for column, row in enumerate(parts)) + ".")
        column = random.randrange(3)
        parts[column] = (parts[column] + random.randrange(1, len(foreign[column]))) % len(foreign[column])
        wrong.append(" ".join(foreign[column][row] for column, row in enumerate(parts)) + ".")
    request = random.choice(words.TRANSLATION_REQUESTS).format(language=language)
    return Prompt(f"{request}\n\n" + "\n".join(told), "translation", tuple(right), tuple(wrong))


def _write_lines(parts: Sequence[str]) -> str:
    return "\n".join(parts)


def _grade_translation(prompt: Prompt, text: str) -> float:
    lines = text.splitlines()
    matches = sum(line.strip() == right for line, right in zip(lines, prompt.right, strict=False))
    return matches / len(prompt.right)


# --- summary ---------------------------------------------------------------------------------------------


def _summary(random: Random, size: int) -> Prompt:
    firm, town = random.choice(words.FIRMS), random.choice(words.TOWNS)
    told, right, wrong = (
        [f"{firm} of {town} met {random.choice(words.AUDIENCES)} on {random.choice(words.DAYS)}."],
        [],
        [],
    )
    for subject, unit in random.sample(words.FIGURES, size):
        number = random.randint(11, 989)
        told.append(random.choice(words.STATEMENTS).format(subject=subject, number=number, unit=unit))
        told.append(random.choice(words.FILLERS).format(firm=firm))
        right.append(f"{subject.capitalize()}: {number} {unit}.")
        wrong.append(f"{subject.capitalize()}: {number + 1000} {unit}.")
    request = random.choice(words.SUMMARY_REQUESTS)
    return Prompt(f"{request}\n\n{' '.join(told)}", "summary", tuple(right), tuple(wrong), (" ".join(told),))


def _grade_summary(prompt: Prompt, text: str) -> float:
    """Return the share of the expected sentences whose figures all occur in the source."""
    known = set(re.findall(r"\d+", prompt.check[0]))
    found = [set(re.findall(r"\d+", line)) for line in text.splitlines()]
    supported = sum(bool(figures) and figures <= known for figures in found)
    return min(1.0, supported / len(prompt.right))


_COMPOSERS: dict[str, Callable[[Random, int], Prompt]] = {
    "maths": _maths,
    "reasoning": _reasoning,
    "code": _code,
    "extraction": _extraction,
    "translation": _translation,
    "summary": _summary,
}
_WRITERS: dict[str, Callable[[Sequence[str]], str]] = {
    "maths": _write_maths,
    "reasoning": _write_reasoning,
    "code": _write_code,
    "extraction": _write_extraction,
    "translation": _write_lines,
    "summary": _write_lines,
}
_GRADERS: dict[str, Callable[[Prompt, str], float]] = {
    "maths": _grade_maths,
    "reasoning": _grade_reasoning,
    "code": _grade_code,
    "extraction": _grade_extraction,
    "translation": _grade_translation,
    "summary": _grade_summary,
}

TASKS = tuple(_COMPOSERS)
"""The kinds of tasks."""
