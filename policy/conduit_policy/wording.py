"""A decision in words. The service's explanations, the web page and the commands say it the same way."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from conduit_policy.signals import SIGNALS, title_of
from conduit_schemas import Fallback, Flag

__all__ = ["decision_words", "percent", "weight_words"]


def decision_words(
    names: Sequence[str],
    chosen: int,
    *,
    probabilities: Sequence[float] | None = None,
    fallback: str | None = None,
    shadow: str | None = None,
    expected: Mapping[str, float] | None = None,
    flags: Iterable[str] = (),
) -> str:
    """Return sentences on why an arm served.

    Parameters
    ----------
    names
        The display names of the K available arms.
    chosen
        Index of the arm that served.
    probabilities
        Shape (K,): the vector that the arm was drawn from; None if Conduit did not draw.
    fallback
        Why LiteLLM's own selection chose, if it did.
    shadow
        The display name of the arm that Conduit would have chosen instead.
    expected
        By signal, in display units: what was predicted of the arm that served, where the signal was observed of this
        very arm. Empty if nothing was; None if that is not known.
    flags
        The safeguards and limits that changed the probabilities.

    Examples
    --------
    >>> decision_words(("large", "small"), 0, probabilities=(0.75, 0.25), expected={"quality": 0.8, "cost": 0.0021})
    'large looked best of 2 and was chosen with a probability of 75 %. Predicted: quality 0.80, cost $0.0021.'
    >>> decision_words(("large", "small"), 1, probabilities=(0.9, 0.1))
    'small was tried out, with a probability of 10 %; large looked better and had 90 %.'
    """
    name = names[chosen]
    if fallback is not None:
        instead = "" if shadow is None else f" Conduit would have chosen {shadow}."
        return f"LiteLLM's own selection took {name}. {Fallback.sentence(fallback)}{instead}"
    if len(names) == 1:
        said = f"{name} served: it was the only deployment available."
    elif probabilities is None:
        said = f"{name} served: something other than Conduit chose it."
    else:
        said = _drawn(names, chosen, probabilities)
    return " ".join([said, *_expectation(expected), *map(Flag.sentence, flags)])


def _drawn(names: Sequence[str], chosen: int, probabilities: Sequence[float]) -> str:
    name, chance = names[chosen], percent(probabilities[chosen])
    likeliest = max(range(len(names)), key=probabilities.__getitem__)
    if probabilities[chosen] < probabilities[likeliest]:
        better, more = names[likeliest], percent(probabilities[likeliest])
        return f"{name} was tried out, with a probability of {chance}; {better} looked better and had {more}."
    return f"{name} looked best of {len(names)} and was chosen with a probability of {chance}."


def _expectation(expected: Mapping[str, float] | None) -> Iterator[str]:
    if expected is None:
        return
    told = [f"{s.title} {s.text(expected[s.name])}" for s in SIGNALS.values() if s.name in expected]
    yield f"Predicted: {', '.join(told)}." if told else "Nothing was known about it yet."


def weight_words(weights: Mapping[str, float]) -> str:
    """Return an objective's weights in words, without those that are 0.

    Examples
    --------
    >>> weight_words({"quality": 1.0, "cost": 0.05, "latency": 0.0, "ttft": 0.2})
    'quality 1, cost 0.05, time to first token 0.2'
    """
    return ", ".join(f"{title_of(name)} {weight:g}" for name, weight in weights.items() if weight)


def percent(share: float) -> str:
    """Return a share as per cent, with a decimal if it is small.

    Examples
    --------
    >>> percent(0.75), percent(0.025)
    ('75 %', '2.5 %')
    """
    return f"{100.0 * share:.0f} %" if share >= 0.1 else f"{100.0 * share:.1f} %"
