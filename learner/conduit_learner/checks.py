"""The checks of :mod:`conduit_learner.testing`, under the short import path used in the documentation."""

from conduit_learner.testing.algorithm_checks import *  # noqa: F403 - its __all__ is what is public here
from conduit_learner.testing.algorithm_checks import __all__  # noqa: F401 - re-exported with the names
