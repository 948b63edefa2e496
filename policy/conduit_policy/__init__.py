"""The mathematics of a decision: pure functions from a snapshot and a request to a choice."""

from conduit_policy.algorithms import ALGORITHMS, algorithm, exploration_rule
from conduit_policy.bandit_algorithm import BanditAlgorithm, Utilities
from conduit_policy.beliefs import SIGNALS, Beliefs
from conduit_policy.budget import Pace, pace
from conduit_policy.choose import Choice, choice_probabilities, choose, draw, predictions, utilities
from conduit_policy.constraints import UNCONSTRAINED, Constraints
from conduit_policy.custom import load_algorithms, register
from conduit_policy.features import Context, Featurizer, Request, TextFeaturizer, to_fixed_point
from conduit_policy.goals import check_routing, merged, objective_of
from conduit_policy.objective import Objective
from conduit_policy.prior import Prior
from conduit_policy.rules import REVISION, RULES, SAFEGUARDS, probabilities

__all__ = [
    "ALGORITHMS",
    "REVISION",
    "RULES",
    "SAFEGUARDS",
    "SIGNALS",
    "UNCONSTRAINED",
    "BanditAlgorithm",
    "Beliefs",
    "Choice",
    "Constraints",
    "Context",
    "Featurizer",
    "Objective",
    "Pace",
    "Prior",
    "Request",
    "TextFeaturizer",
    "Utilities",
    "algorithm",
    "check_routing",
    "choice_probabilities",
    "choose",
    "draw",
    "exploration_rule",
    "load_algorithms",
    "merged",
    "objective_of",
    "pace",
    "predictions",
    "probabilities",
    "register",
    "to_fixed_point",
    "utilities",
]
