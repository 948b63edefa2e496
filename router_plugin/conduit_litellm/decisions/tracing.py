"""What was decided, on the span that is current while LiteLLM selects, where OpenTelemetry is installed."""

from typing import Any

from conduit_litellm.decisions.drafts import SelectionDraft

__all__ = ["annotate_span"]

try:
    from opentelemetry.trace import get_current_span as _current_span
except ImportError:  # then there are no spans
    _current_span = None  # type: ignore[assignment]  # a name that may stand for nothing


def annotate_span(selection: SelectionDraft) -> None:
    """Put a decision on the current span, if one is recorded.

    The names are ``conduit.decision.id``, ``conduit.policy``, ``conduit.deployment``, ``conduit.candidates`` (how many
    there were), ``conduit.propensity`` (absent where LiteLLM chose) and ``conduit.fallback`` (why it did; absent
    otherwise).
    """
    if _current_span is None:
        return
    span = _current_span()
    if not span.is_recording():
        return
    attributes: dict[str, Any] = {
        "conduit.decision.id": selection.decision_id,
        "conduit.policy": selection.policy,
        "conduit.deployment": selection.arms[selection.chosen],
        "conduit.candidates": len(selection.arms),
    }
    if selection.choice is not None:
        attributes["conduit.propensity"] = float(selection.choice.probabilities[selection.chosen])
    if selection.fallback is not None:
        attributes["conduit.fallback"] = selection.fallback.value
    span.set_attributes(attributes)
