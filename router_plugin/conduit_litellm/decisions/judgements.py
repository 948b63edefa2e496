"""The forms of feedback on an answer (thumbs, stars, edits, ...), converted into numbers to learn from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from numbers import Real

from conduit_schemas import RatedSignal
from conduit_schemas.fields import Label

__all__ = ["Judgement", "edited", "rating", "regenerated", "thumbs"]

_MAX_CHARACTERS = 20_000


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a person or a program thinks of an answer, as a number.

    A source that rates good and bad answers alike teaches *quality*. A source that reports only bad ones (a user who
    asks again, for example) teaches *success*: every answer that it does not report counts as 1. As ratings of quality,
    its reports would make every deployment look bad.
    """

    value: float
    """0 (useless, failed) to 1 (perfect, worked)."""
    signal: RatedSignal = "quality"
    source: Label = "app"
    """Who judged."""
    key: Label = ""
    """Distinguishes several judgements by the same source."""
    details: Mapping[str, str | float | bool | None] = field(default_factory=dict)
    """Further information for readers of the log; never the answer's text."""
    sampling_probability: float | None = None
    """The probability with which this answer was picked to be judged; None if all answers are judged."""

    def __post_init__(self) -> None:
        if not (isinstance(self.value, Real) and 0.0 <= self.value <= 1.0):  # refuses NaN, too
            raise ValueError(f"quality={self.value!r} must be a number between 0 and 1")


def thumbs(up: bool, *, source: str = "user") -> Judgement:
    """Return the judgement of a thumb up (quality 1) or down (quality 0).

    Examples
    --------
    >>> thumbs(up=False).value
    0.0
    """
    return Judgement(float(bool(up)), source=source, key="thumbs")


def rating(stars: float, *, best: float = 5.0, worst: float = 1.0, source: str = "user") -> Judgement:
    """Return the judgement of a rating on a scale, such as one to five stars.

    Parameters
    ----------
    stars
        The rating, from ``worst`` to ``best``.
    best, worst
        The ends of the scale. Either may be the larger number.

    Raises
    ------
    ValueError
        If the rating is not on the scale, or ``best`` equals ``worst``.

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
    """Return the judgement of an answer that a user edited before accepting it: the share that was kept.

    The quality is the similarity of both texts (Ratcliff & Obershelp), from 0 to 1 for an answer that was accepted
    unchanged. At most the first 20,000 characters of each text are compared. The texts do not leave this function.

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
    """Return the judgement of an answer that a user had regenerated: it did not succeed.

    Examples
    --------
    >>> regenerated().signal, regenerated().value
    ('success', 0.0)
    """
    return Judgement(0.0, signal="success", source=source, key="regenerated")
