"""A folder of recorded outcomes, made ready for replay: contexts, and what each choice is worth."""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from conduit_demo.outcomes import RecordedDataError, RecordedOutcomes, read_outcomes
from conduit_policy import Request, TextFeaturizer

__all__ = ["Dataset", "load"]

LEAST_PROMPTS = 50
"""Fewer than that do not fill a stream with delays."""

_FREE = 1e-3
"""A pool whose cheapest model costs nothing is scaled as if it cost this part of the dearest one."""


@dataclass(frozen=True)
class Dataset:
    """Recorded outcomes of n prompts on k models, and the context vector of every prompt.

    Everybody is judged by one utility: ``quality - t * c``, where c is the logarithm of the request's
    recorded cost, 0 at the mean cost of the cheapest model, 1 at that of the dearest, and clipped to 0..1.
    """

    name: str
    outcomes: RecordedOutcomes
    contexts: NDArray[np.int16]
    """Shape (n, d), as the shipped featurizer makes them."""

    def __len__(self) -> int:
        return len(self.outcomes)

    @cached_property
    def mean_cost(self) -> NDArray[np.float64]:
        """Shape (k,), USD per request: what a price list would tell beforehand."""
        mean: NDArray[np.float64] = self.outcomes.cost_usd.mean(axis=0)
        return mean

    @cached_property
    def scaled_cost(self) -> NDArray[np.float64]:
        """Shape (n, k): c of the utility."""
        return self.scaled(self.outcomes.cost_usd)

    def scaled(self, cost_usd: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return c of the utility for costs in USD."""
        dearest = float(self.mean_cost.max())
        cheapest = float(self.mean_cost.min()) or _FREE * dearest
        if cheapest == dearest:
            return np.zeros_like(cost_usd)
        cost = np.clip(cost_usd, cheapest, dearest)
        scaled: NDArray[np.float64] = np.log(cost / cheapest) / math.log(dearest / cheapest)
        return scaled

    @cached_property
    def token_prices(self) -> NDArray[np.float64] | None:
        """USD per input and output token that explain the recorded costs best, shape (k, 2); None without tokens."""
        recorded = self.outcomes
        tokens = np.stack([recorded.input_tokens, recorded.output_tokens], axis=-1)
        if np.isnan(tokens).any():
            return None
        prices = [
            np.linalg.lstsq(tokens[:, model], recorded.cost_usd[:, model], rcond=None)[0]
            for model in range(len(recorded.models))
        ]
        return np.maximum(np.array(prices), 0.0)

    def utility(self, tradeoff: float) -> NDArray[np.float64]:
        """Return what each choice is worth, shape (n, k)."""
        return self.outcomes.quality - tradeoff * self.scaled_cost


def load(directory: Path, name: str | None = None) -> Dataset:
    """Read a folder of recorded outcomes and compute every prompt's context.

    Raises
    ------
    RecordedDataError
        When the data cannot be used; the message says what is wrong, where, and what to do.
    """
    outcomes = read_outcomes(directory)
    if len(outcomes) < LEAST_PROMPTS:
        raise RecordedDataError(
            f"{directory / 'prompts.parquet'} has {len(outcomes)} prompts; a replay needs at least {LEAST_PROMPTS}"
        )
    if len(outcomes.models) < 2:
        raise RecordedDataError(
            f"{directory / 'outcomes.parquet'} knows one model only, {outcomes.models[0]!r}; routing needs a choice"
        )
    featurizer = TextFeaturizer()
    contexts = np.empty((len(outcomes), featurizer.dimension), np.int16)
    for row, text in enumerate(outcomes.texts):
        contexts[row] = featurizer(Request(messages=[{"role": "user", "content": text}]))
    return Dataset(name or directory.resolve().name, outcomes, contexts)
