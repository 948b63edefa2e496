"""The algorithms by name: each is a posterior, with or without context, and an exploration rule."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from conduit_policy.custom import load_algorithms, parameters, registered
from conduit_policy.rules import REVISION
from conduit_schemas import ConfigurationError, ExplorationRule, LearningSettings

__all__ = ["ALGORITHMS", "Algorithm", "algorithm", "exploration_rule"]

_SAFEGUARDS = ("floor", "cold_ratings", "cold_fraction", "cold_share", "cold_total")


@dataclass(frozen=True, slots=True)
class Algorithm:
    """How one algorithm learns and explores."""

    rule: str
    """Name of its rule in :data:`conduit_policy.RULES`."""
    contextual: bool
    """Whether quality, cost and latency depend on the request, or are one mean per arm."""
    about: str
    """One sentence for people."""
    params: Mapping[str, float] = field(default_factory=dict)
    """The rule's parameters, with their defaults."""


ALGORITHMS: Mapping[str, Algorithm] = {
    "contextual_thompson": Algorithm(
        rule="thompson",
        contextual=True,
        about="Chooses each arm as often as it is likely to be the best for this request, never below its mean.",
        params={"scale": 0.35, "few_ratings": 20.0, "optimistic": 1.0},
    ),
    "linucb": Algorithm(
        rule="ucb",
        contextual=True,
        about="Chooses the arm whose upper confidence bound is highest for this request.",
        params={"alpha": 1.0},
    ),
    "inverse_gap": Algorithm(
        rule="inverse_gap",
        contextual=True,
        about="Chooses an arm the less often the further its prediction falls behind the best one (SquareCB).",
        params={"gamma": 20.0},
    ),
    "epsilon_greedy": Algorithm(
        rule="epsilon_greedy",
        contextual=True,
        about="Chooses the best prediction, except for a fixed share spread evenly.",
        params={"epsilon": 0.05},
    ),
    "greedy": Algorithm(
        rule="greedy",
        contextual=True,
        about="Chooses the best prediction; explores only through the safeguards.",
    ),
    "thompson": Algorithm(
        rule="thompson",
        contextual=False,
        about="Thompson sampling on one mean per arm, whatever the request.",
        params={"scale": 1.0, "optimistic": 0.0},
    ),
    "ucb1": Algorithm(
        rule="ucb1",
        contextual=False,
        about="UCB1 on one mean per arm, whatever the request.",
        params={"alpha": 1.0},
    ),
    "uniform": Algorithm(
        rule="uniform",
        contextual=True,
        about="Every arm alike: a baseline, and the best teacher for evaluating other policies off line.",
        params={"cold_ratings": 0.0},  # also while some arms are cold
    ),
}
"""What :attr:`conduit_schemas.LearningSettings.algorithm` may name. Every one also takes ``floor``,
``cold_ratings``, ``cold_fraction``, ``cold_share`` and ``cold_total``; see :func:`conduit_policy.probabilities`."""


def algorithm(settings: LearningSettings) -> Algorithm:
    """Return the algorithm that the settings name.

    Raises
    ------
    ConfigurationError
        When there is no such algorithm, or it does not take one of the parameters.

    Examples
    --------
    >>> algorithm(LearningSettings(algorithm="linucb")).rule
    'ucb'
    """
    known = ALGORITHMS.get(settings.algorithm) or _custom(settings.algorithm)
    if known is None:
        names = ", ".join(sorted([*ALGORITHMS, *registered]))
        raise ConfigurationError(f"no algorithm {settings.algorithm!r}; there are {names}")
    takes = (*known.params, *_SAFEGUARDS)
    if unknown := sorted(set(settings.params) - set(takes)):
        raise ConfigurationError(
            f"algorithm {settings.algorithm!r} has no parameter {unknown[0]!r}; it takes {', '.join(takes)}"
        )
    return known


def _custom(name: str) -> Algorithm | None:
    if name not in registered:
        load_algorithms()
    found = registered.get(name)
    if found is None:
        return None
    about = (found.__doc__ or "").strip().partition("\n")[0]
    return Algorithm(rule=name, contextual=found.contextual, about=about, params=parameters(found))


def exploration_rule(settings: LearningSettings) -> ExplorationRule:
    """Return the rule with its parameters: the defaults, and over them those that were given.

    Examples
    --------
    >>> exploration_rule(LearningSettings(algorithm="linucb", params={"floor": 0.0})).params
    {'alpha': 1.0, 'floor': 0.0}
    """
    known = algorithm(settings)
    params = dict(sorted({**known.params, **settings.params}.items()))
    return ExplorationRule(name=known.rule, params=params, revision=REVISION)
