"""The checks of :mod:`conduit_learner.testing`, under the short name that documents give for it."""

from conduit_learner.testing.algorithm_checks import *  # noqa: F403 - its __all__ is what is public here
from conduit_learner.testing.algorithm_checks import __all__  # noqa: F401 - says so to whoever imports this
