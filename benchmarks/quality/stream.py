"""One replay: the order of the prompts, what becomes known when, and the loop that plays a policy."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.dataset import Dataset

__all__ = ["Delays", "Observed", "Policy", "Requests", "Stream", "play"]

Indices = NDArray[np.intp]
Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Delays:
    """How late everything is, in decisions."""

    snapshot_every: int = 50
    """What a policy has learned takes effect every so many decisions."""
    outcome: int = 20
    """Cost, latency and tokens of a decision are known after so many further ones."""
    feedback: int = 200
    """Its quality is known after so many further ones, if ever."""
    feedback_share: float = 1.0
    """The part of the decisions whose quality becomes known; which ones is decided by the seed."""


class Observed(NamedTuple):
    """What has become known of some decisions: of the chosen arm only."""

    positions: Indices
    """Their places in the stream."""
    arms: Indices
    cost_usd: Vector
    latency_s: Vector
    """NaN where it was not measured; so are the tokens."""
    input_tokens: Vector
    output_tokens: Vector
    quality: Vector
    utility: Vector
    """At the stream's trade-off. Both are only to be read where this is feedback."""
    failed: NDArray[np.bool_] | None = None
    """Whether the call failed; None where none did."""


@dataclass(frozen=True)
class Requests:
    """What a policy may know beforehand: everything but the outcomes."""

    texts: tuple[str, ...]
    """In the order of the stream."""
    contexts: NDArray[np.int16]
    """Shape (n, d), fixed point, in the order of the stream."""
    models: tuple[str, ...]
    mean_cost: Vector
    """Shape (k,), USD: for policies that need a price list."""
    token_prices: NDArray[np.float64] | None
    """Shape (k, 2), USD per input and output token, where the data tells them."""
    tradeoff: float
    seed: int
    offered: NDArray[np.bool_] | None = None
    """Shape (n, k): which models there are to choose from at each position; None where always all."""

    charged: NDArray[np.float64] | None = None
    """Shape (n, k): what each model charges at each position, as a multiple of its list price; None where always 1."""

    def cost(self, position: int) -> Vector:
        """Return what a request costs on average at this position's prices, USD, shape (k,)."""
        return self.mean_cost if self.charged is None else self.mean_cost * self.charged[position]

    def price(self, position: int) -> NDArray[np.float64]:
        """Return what a price list says at this position, USD per input and output token, shape (k, 2).

        Where the data tells no tokens, a request counts as 1,000 of them.
        """
        listed = np.tile(self.mean_cost[:, None] / 1e3, 2) if self.token_prices is None else self.token_prices
        return listed if self.charged is None else listed * self.charged[position, :, None]

    def arms(self, position: int) -> list[int]:
        """Return the models there are to choose from."""
        count = len(self.models)
        return list(range(count)) if self.offered is None else np.flatnonzero(self.offered[position]).tolist()

    @cached_property
    def features(self) -> NDArray[np.float64]:
        """The contexts as plain numbers, shape (n, d)."""
        return self.contexts / 1024.0


class Policy(Protocol):
    """Anything that routes."""

    def choose(self, positions: range) -> Indices:
        """Return the arm for each of these consecutive requests, with what was learned so far."""
        ...

    def learn(self, outcomes: Observed, feedback: Observed) -> None:
        """Take in what has become known since the last call."""
        ...


class Stream:
    """A data set's prompts in the order a seed gives, at one trade-off.

    Parameters
    ----------
    data
        The outcomes.
    seed
        Decides the order, which prompts are used, and which decisions get feedback; equal for all policies.
    tradeoff
        t of the utility.
    delays
        When things become known.
    most
        At most so many prompts are used.
    """

    def __init__(
        self, data: Dataset, *, seed: int, tradeoff: float, delays: Delays | None = None, most: int | None = None
    ) -> None:
        self.data = data
        self.seed = seed
        self.tradeoff = tradeoff
        self.delays = delays or Delays()
        random = np.random.default_rng([seed, 1])
        self.rows: Indices = random.permutation(len(data))[:most]
        self.judged = np.random.default_rng([seed, 2]).random(len(self.rows)) < self.delays.feedback_share
        self.outcomes = data.outcomes.take(self.rows)
        self.utility = data.utility(tradeoff)[self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def last_third(self) -> slice:
        """The positions of the last third."""
        return slice(len(self) - len(self) // 3, len(self))

    def requests(self) -> Requests:
        """Return what policies may know beforehand."""
        return Requests(
            texts=self.outcomes.texts,
            contexts=self.data.contexts(self.rows),
            models=self.outcomes.models,
            mean_cost=self.data.mean_cost,
            token_prices=self.data.token_prices,
            tradeoff=self.tradeoff,
            seed=self.seed,
        )

    def served(self, positions: range, arms: Indices) -> Indices:
        """Return the arms that serve when these are chosen."""
        del positions
        return arms

    def observe(self, positions: Indices, arms: Indices) -> Observed:
        """Return the recorded figures of these decisions."""
        recorded, cells = self.outcomes, (positions, arms)
        return Observed(
            positions,
            arms,
            cost_usd=recorded.cost_usd[cells],
            latency_s=recorded.latency_s[cells],
            input_tokens=recorded.input_tokens[cells],
            output_tokens=recorded.output_tokens[cells],
            quality=recorded.quality[cells],
            utility=self.utility[cells],
        )


def play(policy: Policy, stream: Stream) -> Indices:
    """Let a policy route a whole stream; return the arm it chose at each position.

    The outcome of decision i is known to decision j when j - i > the delay, and then takes effect with the
    next snapshot: the policy learns only before every ``snapshot_every``-th decision. That a call failed is known with
    its outcome, and is feedback, too.
    """
    delays = stream.delays
    arms: Indices = np.zeros(len(stream), np.intp)
    known_outcomes = known_feedback = 0
    for start in range(0, len(stream), delays.snapshot_every):
        outcomes = np.arange(known_outcomes, max(known_outcomes, start - delays.outcome))
        feedback = np.arange(known_feedback, max(known_feedback, start - delays.feedback))
        known_outcomes += len(outcomes)
        known_feedback += len(feedback)
        feedback = feedback[stream.judged[feedback]]
        known, judged = stream.observe(outcomes, arms[outcomes]), stream.observe(feedback, arms[feedback])
        if known.failed is not None and judged.failed is not None:
            feedback = np.concatenate([outcomes[known.failed], feedback[~judged.failed]])
            judged = stream.observe(feedback, arms[feedback])
        policy.learn(known, judged)
        block = range(start, min(start + delays.snapshot_every, len(stream)))
        arms[block.start : block.stop] = stream.served(block, policy.choose(block))
    return arms
