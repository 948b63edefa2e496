"""Whose settings apply, and the goals of policy, team, key and request combined into the goal of one choice."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from conduit_policy.objective import Objective
from conduit_schemas import RoutingGoal, RoutingSettings, Weights

__all__ = ["check_routing", "in_force", "merged", "objective_of"]

Settings = TypeVar("Settings")


def in_force(by_origin: Mapping[str, Settings | None]) -> Settings | None:
    """Return the settings that apply: an operator's if there are any, else an application's, else None.

    Parameters
    ----------
    by_origin
        The newest settings by :attr:`conduit_schemas.RoutingChange.origin`; None where they were removed.

    Examples
    --------
    >>> in_force({"application": "mine", "operator": "ours"}), in_force({"application": "mine", "operator": None})
    ('ours', 'mine')
    """
    operators = by_origin.get("operator")
    return by_origin.get("application") if operators is None else operators


def objective_of(goal: RoutingGoal, default: Objective) -> Objective:
    """Return the objective that a goal names, or the default if it names none.

    Raises
    ------
    ConfigurationError
        When there is no such preset.

    Examples
    --------
    >>> objective_of(RoutingGoal(objective="cost"), Objective()).cost
    0.2
    """
    wanted = goal.objective
    if wanted is None:
        return default
    if isinstance(wanted, Weights):
        return Objective.of_weights(wanted.model_dump())
    return Objective.preset(wanted)


def merged(goals: Iterable[RoutingGoal]) -> RoutingGoal:
    """Merge goals into one. The most general comes first, and each goal overrides those before it.

    Examples
    --------
    >>> goal = merged([RoutingGoal(objective="cost", max_cost_usd=0.1), RoutingGoal(objective="speed")])
    >>> goal.objective, goal.max_cost_usd
    ('speed', 0.1)
    """
    wanted = {
        name: value for goal in goals for name in RoutingGoal.model_fields if (value := getattr(goal, name)) is not None
    }
    return RoutingGoal.model_construct(**wanted)


def check_routing(settings: RoutingSettings) -> None:
    """Refuse settings that the contract accepts but no choice can follow.

    Raises
    ------
    ConfigurationError
        When a goal names an objective that does not exist.
    """
    for goal in (settings.goal, *settings.overrides.values()):
        objective_of(goal, Objective())
