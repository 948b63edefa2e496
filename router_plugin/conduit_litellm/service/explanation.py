"""Explains in plain words why a model was chosen, from the data that was recorded with the choice."""

from collections.abc import Sequence

from conduit_litellm.decisions.drafts import SelectionDraft
from conduit_policy import SIGNALS
from conduit_schemas import Flag, Selection

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
    sentences = [f"{', then '.join(map(_name, failed))} failed."] if failed else []
    sentences.append(_reason(last))
    return " ".join(sentences)


def _name(selection: SelectionDraft) -> str:
    arm, model = selection.arms[selection.chosen], selection.models[selection.chosen]
    return model if arm == model else f"{model} ({arm})"


def _reason(selection: SelectionDraft) -> str:
    name, arms = _name(selection), len(selection.arms)
    if selection.choice is None:
        if selection.fallback is None:
            return f"{name} was the only model that could serve."
        return f"{name} was picked among {arms} models without Conduit. {selection.fallback.about}"
    event = selection.event()
    chosen, probabilities = event.chosen, event.probabilities or ()
    sentences = [
        f"{name} was chosen among {arms} models with a probability of {_percent(probabilities[chosen])}.",
        _expected(selection, event),
        f"Weights: {', '.join(f'{signal} {weight:g}' for signal, weight in event.objective.items() if weight)}.",
    ]
    likeliest = max(range(arms), key=probabilities.__getitem__)
    if probabilities[likeliest] > probabilities[chosen]:
        sentences.append(f"{event.models[likeliest]} was more likely, but Conduit learns by sometimes trying others.")
    sentences += [Flag.sentence(flag) for flag in event.flags]
    return " ".join(sentences)


def _expected(selection: SelectionDraft, event: Selection) -> str:
    beliefs = selection.beliefs
    known = None if beliefs is None else beliefs.snapshot.arms.get(event.arm)
    if beliefs is None or known is None or not known.outcomes:
        return "Nothing is known about it yet."
    expected = []
    for signal in SIGNALS.values():
        if signal.name in event.predictions and beliefs.is_observed(signal.name, event.arm):
            value = event.predictions[signal.name][event.chosen]
            expected.append(f"{signal.title} {signal.text(signal.shown(value if signal.is_amount else _share(value)))}")
    return f"Expected, after {known.outcomes} outcomes: {', '.join(expected)}."


def _share(value: float) -> float:
    return min(1.0, max(0.0, value))


def _percent(share: float) -> str:
    return f"{100.0 * share:.3g} %"
