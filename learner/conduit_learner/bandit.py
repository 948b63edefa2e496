"""The algorithms as river bandits, for simulations, benchmarks and existing river pipelines."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river import bandit

from conduit_learner.core.policy_learner import PolicyLearner
from conduit_learner.core.targets import to_grid
from conduit_policy import QUALITY_ONLY, Beliefs, Choice, choose, pack_context, to_fixed_point
from conduit_schemas import LearningSettings

__all__ = ["SnapshotBandit"]

_USUAL = LearningSettings()


class SnapshotBandit(bandit.base.ContextualPolicy):
    """One of :data:`conduit_policy.algorithms.ALGORITHMS` behind river's interface.

    It learns with the learner's own code and chooses from snapshots with the plugin's own code, so a simulation
    measures what serves requests. Rewards count as quality and must be within -32..32. The first context
    determines which features are used.

    Parameters
    ----------
    algorithm
        Name of the algorithm.
    params
        Its parameters.
    lambda_reg, window_size
        See :class:`conduit_schemas.LearningSettings`.
    snapshot_every
        Number of rewards between two snapshots; choices use the latest snapshot.
    reward_obj, burn_in
        See :class:`river.bandit.base.ContextualPolicy`.
    seed
        Makes the draws reproducible.

    Examples
    --------
    >>> policy = SnapshotBandit("linucb", snapshot_every=1, seed=1)
    >>> rng = random.Random(2)
    >>> for _ in range(300):
    ...     context = {"x": rng.uniform(-1, 1)}
    ...     arm = policy.pull(["up", "down"], context)
    ...     policy.update(arm, context, context["x"] if arm == "up" else -context["x"])
    >>> round(policy.probability("up", ["up", "down"], {"x": 0.9}), 3)
    0.999
    """

    def __init__(
        self,
        algorithm: str = _USUAL.algorithm,
        *,
        params: Mapping[str, float] | None = None,
        lambda_reg: float = _USUAL.lambda_reg,
        window_size: int = _USUAL.window_size,
        snapshot_every: int = 10,
        reward_obj: bandit.base.RewardObj | None = None,
        burn_in: int = 0,
        seed: int | None = None,
    ) -> None:
        super().__init__(reward_obj=reward_obj, burn_in=burn_in)
        self.algorithm = algorithm
        self.params = params
        self.lambda_reg = lambda_reg
        self.window_size = window_size
        self.snapshot_every = snapshot_every
        self.seed = seed
        self._rng = random.Random(seed)
        self._features: list[Any] = []
        self._learner: PolicyLearner | None = None
        self._beliefs: Beliefs | None = None

    def update(
        self, arm_id: bandit.base.ArmID, context: Mapping[Any, float] | None, *reward_args: float, **reward_kwargs: Any
    ) -> None:
        """Learn the reward of one pull."""
        super().update(arm_id, context, *reward_args, **reward_kwargs)  # type: ignore[no-untyped-call]  # river's
        learner, row = self._prepare(context)
        arm = str(arm_id)
        if arm not in learner.arms:
            learner.add_arm(arm)
        learner.learn(arm, pack_context(row), {"quality": to_grid(float(reward_args[0])), "success": 1.0})
        if learner.ticks % self.snapshot_every == 0:
            self._beliefs = None

    def probability(
        self, arm_id: bandit.base.ArmID, arm_ids: list[bandit.base.ArmID], context: Mapping[Any, float] | None
    ) -> float:
        """Return the probability with which an arm would be pulled now."""
        return float(self._choose(arm_ids, context).probabilities[arm_ids.index(arm_id)])

    def _pull(  # type: ignore[override]  # river widens it in the same way for contextual policies
        self, arm_ids: list[bandit.base.ArmID], context: Mapping[Any, float] | None
    ) -> bandit.base.ArmID:
        return arm_ids[self._choose(arm_ids, context).index]

    def _choose(self, arm_ids: list[bandit.base.ArmID], context: Mapping[Any, float] | None) -> Choice:
        learner, row = self._prepare(context)
        if self._beliefs is None:
            snapshot = learner.snapshot(partition=0, offset=learner.ticks, now_ms=0)
            self._beliefs = Beliefs(snapshot)
        arms = [str(arm_id) for arm_id in arm_ids]
        decision_id = f"{self._rng.getrandbits(64):016x}"
        return choose(self._beliefs, row, arms, objective=QUALITY_ONLY, decision_id=decision_id)

    def _prepare(self, context: Mapping[Any, float] | None) -> tuple[PolicyLearner, NDArray[np.int16]]:
        given = context or {}
        if self._learner is None:
            self._features = list(given)
            settings = LearningSettings(
                algorithm=self.algorithm,
                params=dict(self.params or {}),
                lambda_reg=self.lambda_reg,
                window_size=self.window_size,
                featurizer="river",
                dimension=1 + len(self._features),
            )
            self._learner = PolicyLearner("river/bandit", settings)
        row = to_fixed_point(np.array([1.0, *(float(given.get(feature, 0.0)) for feature in self._features)]))
        return self._learner, row
