"""The mathematics of a decision: pure functions from a snapshot and a request to a choice."""

from conduit_policy.algorithms import ALGORITHMS, algorithm, exploration_rule
from conduit_policy.bandit_algorithm import BanditAlgorithm, Utilities
from conduit_policy.beliefs import Beliefs
from conduit_policy.budget import Pace, day_start_ms, pace, spent
from conduit_policy.chance import random_number
from conduit_policy.choose import Choice, choice_probabilities, choose, draw, predictions, utilities
from conduit_policy.constraints import UNCONSTRAINED, Constraints
from conduit_policy.custom import load_algorithms, register
from conduit_policy.features import Featurizer, Request, TextFeaturizer
from conduit_policy.featurizers import FEATURIZER_ENTRY_POINTS, featurizer_of, known_featurizers
from conduit_policy.goals import check_routing, in_force, merged, objective_of
from conduit_policy.objective import PRESETS, QUALITY_ONLY, Objective, place, scale_of
from conduit_policy.prior import Prior
from conduit_policy.rules import REVISION, RULES, SAFEGUARDS, probabilities
from conduit_policy.signals import AMOUNTS, LIMITED, ROWS, SIGNALS, Signal, title_of
from conduit_policy.vectors import Context, pack_context, to_fixed_point, unpack_context
from conduit_policy.wording import decision_words, percent, weight_words

__all__ = [
    "ALGORITHMS",
    "AMOUNTS",
    "FEATURIZER_ENTRY_POINTS",
    "LIMITED",
    "PRESETS",
    "QUALITY_ONLY",
    "REVISION",
    "ROWS",
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
    "Signal",
    "TextFeaturizer",
    "Utilities",
    "algorithm",
    "check_routing",
    "choice_probabilities",
    "choose",
    "day_start_ms",
    "decision_words",
    "draw",
    "exploration_rule",
    "featurizer_of",
    "in_force",
    "known_featurizers",
    "load_algorithms",
    "merged",
    "objective_of",
    "pace",
    "pack_context",
    "percent",
    "place",
    "predictions",
    "probabilities",
    "random_number",
    "register",
    "scale_of",
    "spent",
    "title_of",
    "to_fixed_point",
    "unpack_context",
    "utilities",
    "weight_words",
]
