"""The forms in which users say what they think of an answer, turned into what can be learned."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from numbers import Real
from typing import Literal

from conduit_schemas.fields import Label

__all__ = ["Judgement", "edited", "rating", "regenerated", "thumbs"]

_MAX_CHARACTERS = 20_000


@dataclass(frozen=True, slots=True)
class Judgement:
    """What somebody, or something, thinks of an answer.

    Who judges good and bad answers alike teaches *quality*. Who speaks up about bad ones only, as by asking again,
    would make every answer look bad that way; that teaches *success*, of which all other answers count as 1.
    """

    value: float
    """0 (useless, failed) to 1 (perfect, worked)."""
    signal: Literal["quality", "success"] = "quality"
    source: Label = "app"
    """Who says so."""
    key: Label = ""
    """Tells several judgements by one source apart."""
    details: Mapping[str, str | float | bool | None] = field(default_factory=dict)
    """What else there is to say, for people and programs that read the log; never the answer's text."""
    sampling_probability: float | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.value, Real) and 0.0 <= self.value <= 1.0):  # which NaN is not, either
            raise ValueError(f"quality={self.value!r} is not a quality between 0 and 1")


def thumbs(up: bool, *, source: str = "user") -> Judgement:
    """Return what a thumb up or down says.

    Examples
    --------
    >>> thumbs(up=False).value
    0.0
    """
    return Judgement(float(bool(up)), source=source, key="thumbs")


def rating(stars: float, *, best: float = 5.0, worst: float = 1.0, source: str = "user") -> Judgement:
    """Return what a rating on a scale says.

    Parameters
    ----------
    stars
        The rating, from ``worst`` to ``best``; either may be the larger number.

    Raises
    ------
    ValueError
        When the rating is not on the scale, or the scale is none.

    Examples
    --------
    >>> rating(4).value, rating(2, best=1, worst=6).value
    (0.75, 0.8)
    """
    if not (isinstance(stars, Real) and best != worst and min(best, worst) <= stars <= max(best, worst)):
        raise ValueError(f"a rating of {stars!r} is not on the scale from {worst!r} to {best!r}")
    value = (stars - worst) / (best - worst)
    return Judgement(value, source=source, key="rating", details={"stars": float(stars)})


def edited(answer: str, accepted: str, *, source: str = "user") -> Judgement:
    """Return what it says that an answer was accepted after an edit: how much of it was kept.

    The share of characters that both texts have in common, in order (Ratcliff & Obershelp): 1 for an answer
    accepted as it was. Of longer texts the first 20,000 characters are compared. The texts stay here.

    Examples
    --------
    >>> edited("The answer is 42.", "The answer is 42.").value
    1.0
    >>> edited("abcd", "abxd").value
    0.75
    """
    kept = SequenceMatcher(None, answer[:_MAX_CHARACTERS], accepted[:_MAX_CHARACTERS], autojunk=False).ratio()
    return Judgement(kept, source=source, key="edit", details={"characters": float(len(answer))})


def regenerated(*, source: str = "user") -> Judgement:
    """Return what it says that somebody asked for another answer: this one did not work.

    Examples
    --------
    >>> regenerated().signal, regenerated().value
    ('success', 0.0)
    """
    return Judgement(0.0, signal="success", source=source, key="regenerated")
