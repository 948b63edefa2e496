"""Explains in plain words why a model was chosen, from the data that was recorded with the choice."""

from collections.abc import Sequence

from conduit_litellm.decisions.drafts import SelectionDraft
from conduit_policy import SIGNALS, decision_words, weight_words
from conduit_schemas import Selection

__all__ = ["explain"]


def explain(attempts: Sequence[SelectionDraft]) -> str:
    """Return why the last attempt's model was chosen, and which attempts failed before it.

    Parameters
    ----------
    attempts
        The selections of one request, oldest first.
    """
    if not attempts:
        return "Conduit made no decision: LiteLLM chose the model."
    *failed, last = attempts
    sentences = [f"{', then '.join(_names(attempt)[attempt.chosen] for attempt in failed)} failed."] if failed else []
    sentences.append(_reason(last))
    return " ".join(sentences)


def _names(selection: SelectionDraft) -> list[str]:
    pairs = zip(selection.arms, selection.models, strict=True)
    return [model if arm == model else f"{model} ({arm})" for arm, model in pairs]


def _reason(selection: SelectionDraft) -> str:
    names, shadow = _names(selection), selection.shadow
    if selection.choice is None:
        instead = None if shadow is None else names[shadow.index]
        return decision_words(names, selection.chosen, fallback=selection.fallback, shadow=instead)
    event = selection.event()
    reason = decision_words(
        names,
        event.chosen,
        probabilities=event.probabilities,
        expected=_expected(selection, event),
        flags=event.flags,
    )
    return f"{reason} Weights: {weight_words(event.objective)}." if event.objective else reason


def _expected(selection: SelectionDraft, event: Selection) -> dict[str, float] | None:
    """Return what was predicted of the chosen arm, where it was observed of this arm; otherwise it was only assumed."""
    beliefs = selection.beliefs
    if beliefs is None:
        return None
    return {
        name: SIGNALS[name].shown(values[event.chosen])
        for name, values in event.predictions.items()
        if beliefs.is_observed(name, event.arm)
    }
