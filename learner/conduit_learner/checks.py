"""The checks of :mod:`conduit_learner.testing`, under the short import path used in the documentation."""

from conduit_learner.testing.algorithm_checks import CHECKS, check_algorithm
from conduit_learner.testing.featurizer_checks import FEATURIZER_CHECKS, check_featurizer, fingerprint

__all__ = ["CHECKS", "FEATURIZER_CHECKS", "check_algorithm", "check_featurizer", "fingerprint"]
