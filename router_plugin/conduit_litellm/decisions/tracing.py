"""If OpenTelemetry is installed, describes each decision on the span that is current while LiteLLM selects."""

from typing import Any

from conduit_litellm.decisions.drafts import SelectionDraft

__all__ = ["annotate_span"]

try:
    from opentelemetry.trace import get_current_span as _current_span
except ImportError:  # without the package there are no spans
    _current_span = None  # type: ignore[assignment]  # None if the package is missing


def annotate_span(selection: SelectionDraft) -> None:
    """Add a decision to the current span, if that span is recorded.

    The attributes are ``conduit.decision.id``, ``conduit.policy``, ``conduit.deployment``, ``conduit.deployments`` (the
    number of deployments to choose from), ``conduit.propensity`` (the probability of the choice; absent unless
    Conduit chose among several) and ``conduit.fallback`` (why LiteLLM chose instead of Conduit).
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
        "conduit.deployments": len(selection.arms),
    }
    if selection.choice is not None:
        attributes["conduit.propensity"] = float(selection.choice.probabilities[selection.chosen])
    if selection.fallback is not None:
        attributes["conduit.fallback"] = selection.fallback.value
    span.set_attributes(attributes)
