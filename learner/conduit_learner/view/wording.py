"""Decisions, changes and settings as sentences for the page and the terminal."""

from collections.abc import Callable, Collection
from typing import assert_never

from conduit_learner.view.decision import ShownDecision
from conduit_policy import AMOUNTS, LIMITED, SIGNALS, Objective, decision_words, percent, title_of, weight_words
from conduit_schemas import OutcomeStatus, RoutingGoal, RoutingSettings, Weights

__all__ = ["alarm_words", "consequence", "goal_words", "reason", "routing_words"]


def reason(decision: ShownDecision, named: Callable[[str], str], *, observed: Collection[str] | None = None) -> str:
    """Return a sentence on why this arm served.

    Parameters
    ----------
    named
        Returns the display name of an arm.
    observed
        The signals that were observed of the arm that served. The event has predictions of the others too, but those
        are what is assumed of an arm. None if it is not known.

    Examples
    --------
    >>> made = ShownDecision("d1", 0, ("large", "small"), (), 0, (0.9, 0.1), {"quality": (0.8, 0.7)}, {}, (), None)
    >>> reason(made, str, observed={"quality"})
    'large looked best of 2 and was chosen with a probability of 90 %. Predicted: quality 0.80.'
    """
    predicted = {name: values[decision.chosen] for name, values in decision.predictions.items()}
    is_known = observed is not None and bool(predicted)
    return decision_words(
        list(map(named, decision.arms)),
        decision.chosen,
        probabilities=decision.probabilities,
        fallback=decision.fallback,
        shadow=None if decision.shadow is None else named(decision.shadow),
        expected={name: predicted[name] for name in predicted if name in (observed or ())} if is_known else None,
        flags=decision.flags,
    )


def consequence(decision: ShownDecision) -> str:
    """Return a sentence on a decision's outcome and rating.

    Examples
    --------
    >>> paid = {"cost_usd": 0.0012}
    >>> decision = ShownDecision("d1", 0, ("a",), (), 0, None, {}, {}, (), None, status="success", amounts=paid)
    >>> consequence(decision)
    'It worked, cost $0.0012. Nobody has rated the answer.'
    """
    match decision.status:
        case None:
            said = "No outcome is known yet."
        case OutcomeStatus.SUCCESS:
            said = f"It worked{_paid(decision)}."
        case OutcomeStatus.ERROR:
            said = f"It failed{f' ({decision.error_class})' if decision.error_class else ''}{_paid(decision)}."
        case OutcomeStatus.CANCELLED | OutcomeStatus.CLIENT_DISCONNECT | OutcomeStatus.CACHE_HIT:
            said = decision.status.about
        case _:
            assert_never(decision.status)
    if decision.rating is None:
        silent = decision.status in {None, OutcomeStatus.ERROR}
        return said if silent else f"{said} Nobody has rated the answer."
    who = ", ".join(sorted({source for source, _ in decision.raters}))
    return f"{said} The answer was rated {decision.rating:.2f} by {who}."


def routing_words(routing: RoutingSettings) -> str:
    """Return routing settings as sentences.

    Examples
    --------
    >>> routing_words(RoutingSettings(mode="canary", canary_share=0.1, goal=RoutingGoal(max_cost_usd=0.01)))
    'Conduit chooses for 10 % of the traffic (canary). Goal: cost at most $0.01.'
    """
    match routing.mode:
        case "off":
            parts = ["LiteLLM chooses; Conduit is off."]
        case "shadow":
            parts = ["LiteLLM chooses; Conduit logs what it would have chosen (shadow)."]
        case "canary":
            parts = [f"Conduit chooses for {percent(routing.canary_share)} of the traffic (canary)."]
        case "active":
            parts = ["Conduit chooses."]
        case _:
            assert_never(routing.mode)
    if wanted := goal_words(routing.goal):
        parts.append(f"Goal: {wanted}.")
    parts += [f"For {scope}: {goal_words(goal) or 'the same'}." for scope, goal in routing.overrides.items()]
    if routing.automatic is not None:
        promote, rollback = routing.automatic.promote, routing.automatic.rollback
        steps = [name for name, is_on in (("promoted", promote), ("rolled back", rollback)) if is_on]
        if steps:
            parts.append(f"It is {' or '.join(steps)} automatically, based on the evidence.")
    return " ".join(parts)


def alarm_words(signal: str, before: float, after: float, count: int) -> str:
    """Return a detected change in words; cost and times are given as logarithms.

    Examples
    --------
    >>> alarm_words("quality", 0.8, 0.6, 1), alarm_words("ttft", 0.0, 0.6931471805599453, 3)
    ('quality fell from 0.80 to 0.60', 'time to first token rose from 1 s to 2 s, the 3rd change')
    """
    way = "fell" if after < before else "rose"
    again = "" if count < 2 else f", the {_ordinal(count)} change"
    return f"{title_of(signal)} {way} from {_amount(signal, before)} to {_amount(signal, after)}{again}"


def _ordinal(number: int) -> str:
    ending = "th" if 10 < number % 100 < 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _amount(signal: str, value: float) -> str:
    known = SIGNALS.get(signal)
    return f"{value:.2f}" if known is None else known.text(known.shown(value))


def goal_words(goal: RoutingGoal) -> str:
    """Return a goal in words; empty if it is inherited from the level above."""
    parts = []
    if isinstance(goal.objective, Weights):
        parts.append(weight_words(Objective.of_weights(goal.objective.model_dump()).weights()))
    elif goal.objective is not None:
        parts.append(f"objective {goal.objective}")
    for signal in LIMITED:
        limit = getattr(goal, signal.limit)
        if limit is not None:
            parts.append(f"{signal.title} at most {signal.text(limit)}")
    if goal.budget is not None:
        parts.append(f"at most {SIGNALS['cost'].text(goal.budget.usd)} per {goal.budget.per.replace('_', ' ')}")
    if goal.quality_floor is not None:
        floor = goal.quality_floor
        parts.append(
            f"the cheapest with {percent(floor.relative)} of the best quality at {percent(floor.confidence)} confidence"
        )
    return ", ".join(parts)


def _paid(decision: ShownDecision) -> str:
    told = (
        f"{signal.title} {signal.text(decision.amounts[signal.field])}"
        for signal in AMOUNTS
        if signal.field in decision.amounts
    )
    return "".join(f", {part}" for part in told)
