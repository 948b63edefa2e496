"""One policy learned by several learners: each adds up its share exactly, and the shares are added up again.

A policy that is busier than one learner is split by decision: every shard joins and counts its own decisions and adds
up what they teach, but never fades. At the end of an *epoch* it hands over its sums, and whoever holds the whole adds
them. Sums of fixed-point numbers are exact (see :mod:`conduit_learner.core.signals`), so the number of shards and which
of them had which decision make no difference to the whole, not in the last bit. An epoch of :data:`BLOCK` ticks even
gives the bits of a learner that was never split; a longer one lets its events fade together at its end.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from conduit_learner.core.policy_learner import Arm, PolicyLearner
from conduit_learner.models.regression import BLOCK, AdditiveRegression
from conduit_schemas import ConduitError

__all__ = ["MAX_EPOCH_ROWS", "EpochError", "PolicyShard", "Share", "WholePolicy"]

MAX_EPOCH_ROWS = 2_048
"""Rows of one signal of one arm in an epoch, whose sums are exact whatever they hold: squares of targets are multiples
of 2**-32 below 2**10, of which double precision adds 2**11 without rounding."""


class EpochError(ConduitError):
    """Raised when an epoch was too long for its sums to be exact, or when shares do not belong together."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one shard learned in one epoch."""

    now_ms: int
    """Stream time of its latest event."""
    ticks: int
    selections: int
    outcomes: int
    feedbacks: int
    censored: int
    duplicates: int
    arms: dict[str, Arm]
    """Their models hold the sums of this epoch alone."""


class PolicyShard(PolicyLearner):
    """A part of a policy's decisions: joins, counts and adds up, and leaves fading to the whole.

    Examples
    --------
    >>> shards = PolicyShard("default/chat"), PolicyShard("default/chat")
    >>> for number, shard in enumerate(shards):
    ...     _ = shard.add_arm("large")
    ...     shard.learn("large", None, {"success": float(number)})
    >>> whole = WholePolicy("default/chat")
    >>> whole.add_epoch(shard.take() for shard in shards)
    >>> whole.ticks, whole.arms["large"].models["success"].statistics().moment
    (2, array([1.]))
    """

    def take(self) -> Share:
        """Return what was learned and counted since the last time, and begin the next epoch."""
        share = Share(
            now_ms=self.now_ms,
            ticks=self.ticks,
            selections=self.selections,
            outcomes=self.outcomes,
            feedbacks=self.feedbacks,
            censored=self.censored,
            duplicates=self.duplicates,
            arms=self.arms,
        )
        self.ticks = self.selections = self.outcomes = self.feedbacks = self.censored = self.duplicates = 0
        self.arms = {}
        for name, arm in share.arms.items():
            fresh = self.add_arm(name)
            fresh.model, fresh.seen = arm.model, arm.seen
        return share

    def _end_block(self) -> None:
        self._settle()


class WholePolicy(PolicyLearner):
    """A policy that learns from its shards' shares. Its settings are those of the shards."""

    def add_epoch(self, shares: Iterable[Share]) -> None:
        """Learn what all shards learned in one epoch, in whatever order they come.

        Raises
        ------
        EpochError
            When the sums would not be exact, or when models are of different dimensions; nothing changes.
        """
        shares = list(shares)
        epoch = PolicyLearner(self.name, self.settings)
        for share in shares:
            for name, arm in share.arms.items():
                _add(name, arm, epoch.arms.get(name) or epoch.add_arm(name, keep=share.arms.keys()))
        sums = epoch.arms
        for name in sorted(sums):
            known = self.arms.get(name) or self.add_arm(name, keep=sums.keys())
            _add_counts(sums[name], known)
            for signal, model in sums[name].models.items():
                known.models[signal].merge(model)
        for share in shares:
            self.selections += share.selections
            self.outcomes += share.outcomes
            self.feedbacks += share.feedbacks
            self.censored += share.censored
            self.duplicates += share.duplicates
        self.now_ms = max([self.now_ms, *(share.now_ms for share in shares)])
        before = self.ticks // BLOCK
        self.ticks += sum(share.ticks for share in shares)
        for _ in range(self.ticks // BLOCK - before):
            self._end_block()


def _add(name: str, arm: Arm, total: Arm) -> None:
    for signal, model in arm.models.items():
        if model.dimension != total.models[signal].dimension:
            raise EpochError(
                f"arm {name!r}, {signal}: a shard has {model.dimension} features, the whole "
                f"{total.models[signal].dimension}: give both the same settings"
            )
        total.models[signal].merge(model)
        if (rows := _rows(total.models[signal])) > MAX_EPOCH_ROWS:
            raise EpochError(
                f"arm {name!r}, {signal}: {rows} rows in one epoch, at most {MAX_EPOCH_ROWS} are sure to be added "
                "without rounding: make epochs shorter"
            )
    _add_counts(arm, total)


def _add_counts(arm: Arm, total: Arm) -> None:
    total.model = arm.model or total.model
    total.seen = max(total.seen, arm.seen)
    total.selections += arm.selections
    total.outcomes += arm.outcomes
    total.errors += arm.errors
    total.feedbacks += arm.feedbacks


def _rows(model: AdditiveRegression) -> int:
    """Return how many rows a model that never faded has learned: each has a one in front."""
    return int(model.statistics().gram[0, 0])
