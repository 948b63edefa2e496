"""One replay: the order of the prompts, the delays of outcomes and feedback, and the loop that runs a policy."""

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
    """Delays, as numbers of decisions."""

    snapshot_every: int = 50
    """What a policy has learned takes effect at intervals of this many decisions."""
    outcome: int = 20
    """A decision's cost, latency and tokens become known after this many further decisions."""
    feedback: int = 200
    """Its quality becomes known after this many further decisions, if ever."""
    feedback_share: float = 1.0
    """Share of the decisions whose quality becomes known; the seed determines which ones."""


class Observed(NamedTuple):
    """The outcomes that have become known for some decisions, of the chosen arm only."""

    positions: Indices
    """The decisions' positions in the stream."""
    arms: Indices
    cost_usd: Vector
    latency_s: Vector
    """NaN where not measured, as for the tokens."""
    input_tokens: Vector
    output_tokens: Vector
    quality: Vector
    utility: Vector
    """Utility at the stream's trade-off. Quality and utility may be used only if this is feedback."""
    failed: NDArray[np.bool_] | None = None
    """Whether each call failed; None if none did."""


@dataclass(frozen=True)
class Requests:
    """What a policy may know in advance: everything except the outcomes."""

    texts: tuple[str, ...]
    """In the order of the stream."""
    contexts: NDArray[np.int16]
    """Shape (n, d), fixed point, in the order of the stream."""
    models: tuple[str, ...]
    mean_cost: Vector
    """Shape (k,), USD, for policies that need a price list."""
    token_prices: NDArray[np.float64] | None
    """Shape (k, 2), USD per input and output token; None if the data does not determine them."""
    tradeoff: float
    seed: int
    offered: NDArray[np.bool_] | None = None
    """Shape (n, k): the models available at each position; None if always all."""

    charged: NDArray[np.float64] | None = None
    """Shape (n, k): each model's price at each position, as a multiple of its list price; None if always 1."""

    def cost(self, position: int) -> Vector:
        """Return a request's mean cost at this position's prices, USD, shape (k,)."""
        return self.mean_cost if self.charged is None else self.mean_cost * self.charged[position]

    def price(self, position: int) -> NDArray[np.float64]:
        """Return the price list at this position, USD per input and output token, shape (k, 2).

        If the data has no tokens, a request counts as 1,000 tokens.
        """
        listed = np.tile(self.mean_cost[:, None] / 1e3, 2) if self.token_prices is None else self.token_prices
        return listed if self.charged is None else listed * self.charged[position, :, None]

    def arms(self, position: int) -> list[int]:
        """Return the available models."""
        count = len(self.models)
        return list(range(count)) if self.offered is None else np.flatnonzero(self.offered[position]).tolist()

    @cached_property
    def features(self) -> NDArray[np.float64]:
        """The contexts as plain numbers, shape (n, d)."""
        return self.contexts / 1024.0


class Policy(Protocol):
    """Anything that routes."""

    def choose(self, positions: range) -> Indices:
        """Return the arm for each of these consecutive requests, based on what was learned so far."""
        ...

    def learn(self, outcomes: Observed, feedback: Observed) -> None:
        """Learn from what has become known since the last call."""
        ...


class Stream:
    """A data set's prompts in the order given by a seed, at one trade-off.

    Parameters
    ----------
    data
        The outcomes.
    seed
        Determines the order, which prompts are used, and which decisions get feedback; the same for all policies.
    tradeoff
        t of the utility.
    delays
        When outcomes and feedback become known.
    max_prompts
        Maximum number of prompts.
    """

    def __init__(
        self, data: Dataset, *, seed: int, tradeoff: float, delays: Delays | None = None, max_prompts: int | None = None
    ) -> None:
        self.data = data
        self.seed = seed
        self.tradeoff = tradeoff
        self.delays = delays or Delays()
        random = np.random.default_rng([seed, 1])
        self.rows: Indices = random.permutation(len(data))[:max_prompts]
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
        """Return what policies may know in advance."""
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
    """Let a policy route a whole stream, and return the arm that it chose at each position.

    The outcome of decision i is known at decision j if j - i exceeds the delay, and takes effect with the next
    snapshot, because the policy learns only before every ``snapshot_every``-th decision. A failed call becomes known
    with its outcome, and counts as feedback too.
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
