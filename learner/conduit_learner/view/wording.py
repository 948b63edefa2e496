"""Decisions, changes and settings as sentences for the page and the terminal."""

from collections.abc import Callable
from typing import assert_never

from conduit_learner.view.decision import ShownDecision
from conduit_policy import AMOUNTS, LIMITED, SIGNALS, Objective
from conduit_schemas import Fallback, Flag, OutcomeStatus, RoutingGoal, RoutingSettings, Weights

__all__ = ["alarm_words", "consequence", "goal_words", "reason", "routing_words"]


def reason(decision: ShownDecision, named: Callable[[str], str]) -> str:
    """Return a sentence on why this arm served.

    Parameters
    ----------
    named
        Returns the display name of an arm.

    Examples
    --------
    >>> decision = ShownDecision("d1", 0, ("large", "small"), (), 1, (0.9, 0.1), {}, {}, (), None)
    >>> reason(decision, str)
    'small was tried out, with a probability of 10 %; large looked better and had 90 %.'
    """
    if decision.fallback is not None:
        instead = "" if decision.shadow is None else f" Conduit would have chosen {named(decision.shadow)}."
        return f"LiteLLM's own selection took {named(decision.arm)}. {Fallback.sentence(decision.fallback)}{instead}"
    if decision.probabilities is None:
        only = (
            "it was the only deployment available"
            if len(decision.arms) == 1
            else "something other than Conduit chose it"
        )
        return f"{named(decision.arm)} served: {only}."
    chance = decision.probabilities[decision.chosen]
    favourite = max(range(len(decision.arms)), key=decision.probabilities.__getitem__)
    if decision.is_exploration:
        better = named(decision.arms[favourite])
        said = (
            f"{named(decision.arm)} was tried out, with a probability of {_percent(chance)}; {better} looked better "
            f"and had {_percent(decision.probabilities[favourite])}."
        )
    else:
        said = (
            f"{named(decision.arm)} looked best of {len(decision.arms)} and was chosen with a probability of "
            f"{_percent(chance)}."
        )
    return " ".join([said, *_expectation(decision), *map(Flag.sentence, decision.flags)])


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
            parts = [f"Conduit chooses for {_percent(routing.canary_share)} of the traffic (canary)."]
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
    >>> alarm_words("quality", 0.8, 0.6, 1), alarm_words("latency", 0.0, 0.6931471805599453, 3)
    ('quality fell from 0.80 to 0.60', 'latency rose from 1 s to 2 s, the 3rd change')
    """
    way = "fell" if after < before else "rose"
    again = "" if count < 2 else f", the {count}{ {2: 'nd', 3: 'rd'}.get(count, 'th') } change"
    return f"{signal} {way} from {_amount(signal, before)} to {_amount(signal, after)}{again}"


def _amount(signal: str, value: float) -> str:
    known = SIGNALS.get(signal)
    return f"{value:.2f}" if known is None else known.text(known.shown(value))


def goal_words(goal: RoutingGoal) -> str:
    """Return a goal in words; empty if it is inherited from the level above."""
    parts = []
    if isinstance(goal.objective, Weights):
        weights = Objective.of_weights(goal.objective.model_dump()).weights()
        parts.append(", ".join(f"{name} {weight:g}" for name, weight in weights.items()))
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
            f"the cheapest with {_percent(floor.relative)} of the best quality at "
            f"{_percent(floor.confidence)} confidence"
        )
    return ", ".join(parts)


def _expectation(decision: ShownDecision) -> list[str]:
    predicted = {name: values[decision.chosen] for name, values in decision.predictions.items()}
    parts = []
    if "quality" in predicted:
        parts.append(f"quality {min(max(predicted['quality'], 0.0), 1.0):.2f}")
    parts += [f"{signal.title} {signal.text(predicted[signal.name])}" for signal in AMOUNTS if signal.name in predicted]
    return [f"Predicted: {', '.join(parts)}."] if parts else []


def _paid(decision: ShownDecision) -> str:
    told = (
        f"{signal.title} {signal.text(decision.amounts[signal.field])}"
        for signal in AMOUNTS
        if signal.field in decision.amounts
    )
    return "".join(f", {part}" for part in told)


def _percent(share: float) -> str:
    return f"{100.0 * share:.0f} %" if share >= 0.1 else f"{100.0 * share:.1f} %"
