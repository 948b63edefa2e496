"""Your own algorithm: define it, check it, try it, use it.

Run ``python examples/custom_algorithm.py``. To use the algorithm with the proxy or in learners, start them with
``CONDUIT_ALGORITHMS=custom_algorithm`` in the environment and this file's folder on ``PYTHONPATH``; in your own
package, declare it as an entry point of the group ``conduit.algorithms`` instead.
"""

import random

import numpy as np
from numpy.typing import NDArray

from conduit_learner.bandit import SnapshotBandit
from conduit_learner.checks import CHECKS
from conduit_policy import BanditAlgorithm, Utilities, register


@register
class Boltzmann(BanditAlgorithm):
    """Chooses each arm in proportion to the exponential of its expected utility."""

    name = "boltzmann"

    def __init__(self, temperature: float = 0.05) -> None:
        self.temperature = temperature

    def probabilities(self, utilities: Utilities) -> NDArray[np.float64]:
        """Return the softmax of the means."""
        score: NDArray[np.float64] = np.exp((utilities.mean - utilities.mean.max()) / self.temperature)
        return score


def main() -> None:
    """Run the checks that Conduit's own algorithms pass, then let the algorithm find the better of two arms."""
    for check in CHECKS:
        check(Boltzmann.name)
        print(f"ok: {check.__name__.replace('_', ' ')}")
    rng = random.Random(1)
    policy = SnapshotBandit(Boltzmann.name, params={"temperature": 0.02}, seed=1)
    earned = 0.0
    for _ in range(1_000):
        context = {"hard": rng.random()}
        arm = policy.pull(["large", "small"], context)
        quality = 0.9 if arm == "large" else 0.95 - context["hard"]
        policy.update(arm, context, quality + rng.gauss(0.0, 0.05))
        earned += quality
    print(f"mean quality {earned / 1_000:.3f}; always using the large model gives 0.900, the small one 0.450")


if __name__ == "__main__":
    main()
