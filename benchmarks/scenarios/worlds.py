"""The scenarios: what changes in a stream, and when."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.dataset import Dataset
from benchmarks.quality.stream import Delays, Observed, Requests, Stream

__all__ = ["SCENARIOS", "Scenario", "World"]

Indices = NDArray[np.intp]
Table = NDArray[np.float64]


class World(Stream):
    """A stream in which something changes. Initially it repeats the recorded outcomes in random order.

    Parameters
    ----------
    data, seed, tradeoff, delays
        See :class:`benchmarks.quality.stream.Stream`.
    decisions
        Length of the stream.
    """

    def __init__(self, data: Dataset, *, seed: int, tradeoff: float, decisions: int, delays: Delays) -> None:
        super().__init__(data, seed=seed, tradeoff=tradeoff, delays=delays)
        self.random = np.random.default_rng([seed, 4])
        rounds = -(-decisions // len(data))
        self.rows = np.concatenate([self.rows, *(self.random.permutation(len(data)) for _ in range(rounds - 1))])
        self.rows = self.rows[:decisions]
        self.judged = np.random.default_rng([seed, 2]).random(decisions) < delays.feedback_share
        self.parts: tuple[int, ...] = (0,)
        """Where each part begins."""
        self.offered = np.ones((decisions, len(data.outcomes.models)), np.bool_)
        """Which models are available."""
        self.failed = np.zeros_like(self.offered)
        """Which would answer with an error."""
        self.price = np.ones(self.offered.shape)
        """Each model's price, as a multiple of its original price."""
        self.rearranged()

    def rearranged(self) -> None:
        """Read the outcomes again after the order has changed."""
        self.outcomes = self.data.outcomes.take(self.rows)
        self.value = self.data.utility(self.tradeoff)[self.rows]
        """Utility of every choice before the change."""

    def bent(self, *, quality: Table | None = None) -> None:
        """Apply the changes to outcomes and utilities."""
        quality = self.outcomes.quality if quality is None else quality
        cost = self.outcomes.cost_usd * self.price
        quality, cost = np.where(self.failed, 0.0, quality), np.where(self.failed, 0.0, cost)
        self.outcomes = replace(self.outcomes, quality=quality, cost_usd=cost)
        self.utility = quality - self.tradeoff * np.where(self.failed, 0.0, self.data.scaled(cost))

    def best(self, part: slice) -> int:
        """Return the best available model over a part of the stream."""
        worth = np.where(self.offered[part], self.utility[part], 0.0).mean(axis=0)
        worth[~self.offered[part].all(axis=0)] = -np.inf
        return int(worth.argmax())

    def requests(self) -> Requests:
        """Return what policies may know in advance, with the available models and their prices at each position."""
        return replace(super().requests(), offered=self.offered, charged=self.price)

    def served(self, positions: range, arms: Indices) -> Indices:
        """Return the arms that serve; if the chosen one is unavailable, another one serves."""
        served = arms.copy()
        for row, position in enumerate(positions):
            if not self.offered[position, arms[row]]:
                served[row] = self.random.choice(np.flatnonzero(self.offered[position]))
        return served

    def observe(self, positions: Indices, arms: Indices) -> Observed:
        """Return the figures of these decisions."""
        return super().observe(positions, arms)._replace(failed=self.failed[positions, arms])


@dataclass(frozen=True, slots=True)
class Scenario:
    """One change."""

    about: str
    happen: Callable[[World], None]
    tradeoff: float = 0.0
    """Default trade-off of the scenario, because prices matter only if cost counts."""


def _favourite(world: World) -> int:
    return int(world.value.mean(axis=0).argmax())


def _spoil(world: World, start: int, stop: int) -> None:
    """Let the best model answer 60 % of these requests with nonsense."""
    arm, quality = _favourite(world), world.outcomes.quality.copy()
    spoilt = world.random.random(stop - start) < 0.6
    quality[start:stop, arm] = np.where(spoilt, 0.0, quality[start:stop, arm])
    world.bent(quality=quality)


def _quality_drop(world: World) -> None:
    half = len(world) // 2
    world.parts = (0, half)
    _spoil(world, half, len(world))


def _recovery(world: World) -> None:
    third = len(world) // 3
    world.parts = (0, third, 2 * third)
    _spoil(world, third, 2 * third)


def _outage(world: World) -> None:
    third, arm = len(world) // 3, _favourite(world)
    world.failed[third : 2 * third, arm] = True
    world.parts = (0, third, 2 * third)
    world.bent()


def _price_rise(world: World) -> None:
    half = len(world) // 2
    world.price[half:, _favourite(world)] = 20.0
    world.parts = (0, half)
    world.bent()


def _price_cut(world: World) -> None:
    half = len(world) // 2
    others = np.arange(world.offered.shape[1]) != _favourite(world)
    free = (world.outcomes.quality - world.tradeoff * world.data.scaled(world.outcomes.cost_usd / 20.0)).mean(axis=0)
    world.price[half:, int(np.where(others, free, -np.inf).argmax())] = 1 / 20.0
    world.parts = (0, half)
    world.bent()


def _new_arm(world: World) -> None:
    half = len(world) // 2
    world.offered[:half, _favourite(world)] = False
    world.parts = (0, half)
    world.bent()


def _removed_arm(world: World) -> None:
    half = len(world) // 2
    world.offered[half:, _favourite(world)] = False
    world.parts = (0, half)
    world.bent()


def _mix_shift(world: World) -> None:
    half = len(world) // 2
    lengths = np.array([len(text) for text in world.outcomes.texts])
    order = np.argsort(lengths, kind="stable")
    first, second = world.random.permutation(order[:half]), world.random.permutation(order[half:])
    world.rows = world.rows[np.concatenate([first, second])]
    world.parts = (0, half)
    world.rearranged()
    world.bent()


def _nothing(world: World) -> None:
    world.bent()


SCENARIOS: Mapping[str, Scenario] = {
    "quality_drop": Scenario(
        "the best model answers 60 % of the requests with nonsense from the middle on", _quality_drop
    ),
    "quality_recovery": Scenario("the same in the middle third only; it recovers without notice", _recovery),
    "outage": Scenario("the best model fails in the middle third, then recovers", _outage),
    "price_rise": Scenario("the best model becomes 20 times more expensive in the middle", _price_rise, tradeoff=0.2),
    "price_cut": Scenario("another model becomes 20 times cheaper in the middle", _price_cut, tradeoff=0.2),
    "new_arm": Scenario("the best model appears in the middle", _new_arm),
    "removed_arm": Scenario("the best model is removed in the middle", _removed_arm),
    "mix_shift": Scenario("the shorter half of the prompts come first, then the longer half", _mix_shift),
    "nothing": Scenario("nothing changes: the cost of watching for changes", _nothing),
}
