"""A folder of recorded outcomes, prepared for replay: contexts, and the utility of each choice."""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from conduit_demo.outcomes import RecordedDataError, RecordedOutcomes, read_outcomes
from conduit_policy import Request, TextFeaturizer
from conduit_schemas.fields import MAX_ARMS, Id

__all__ = ["Dataset", "load"]

MIN_PROMPTS = 50
"""Minimum number of prompts; fewer do not fill a stream with delays."""

_FREE_MODEL_COST = 1e-3
"""A model that costs nothing is treated as if it cost this fraction of the most expensive model's cost."""


@dataclass(frozen=True)
class Dataset:
    """Recorded outcomes of n prompts on k models.

    All policies are evaluated with one utility, ``quality - t * c``. Here c is the logarithm of the request's recorded
    cost, scaled to 0 at the cheapest model's mean cost and 1 at the most expensive model's, and clipped to 0..1.
    """

    name: str
    outcomes: RecordedOutcomes

    def __len__(self) -> int:
        return len(self.outcomes)

    def contexts(self, rows: NDArray[np.intp]) -> NDArray[np.int16]:
        """Return the context vectors of these prompts, shape (rows, d), as the shipped featurizer makes them."""
        featurizer, (known, contexts) = TextFeaturizer(), self._contexts
        for row in np.unique(rows[~known[rows]]).tolist():
            contexts[row] = featurizer(Request(messages=[{"role": "user", "content": self.outcomes.texts[row]}]))
        known[rows] = True
        asked: NDArray[np.int16] = contexts[rows]
        return asked

    @cached_property
    def _contexts(self) -> tuple[NDArray[np.bool_], NDArray[np.int16]]:
        """Contexts computed so far, because a folder holds more prompts than a stream needs."""
        return np.zeros(len(self), np.bool_), np.zeros((len(self), TextFeaturizer().dimension), np.int16)

    @cached_property
    def mean_cost(self) -> NDArray[np.float64]:
        """Shape (k,), USD per request: what a price list would say in advance."""
        mean: NDArray[np.float64] = self.outcomes.cost_usd.mean(axis=0)
        return mean

    @cached_property
    def scaled_cost(self) -> NDArray[np.float64]:
        """Shape (n, k): c of the utility."""
        return self.scaled(self.outcomes.cost_usd)

    def scaled(self, cost_usd: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return c of the utility for costs in USD."""
        most_expensive = float(self.mean_cost.max())
        cheapest = float(self.mean_cost.min()) or _FREE_MODEL_COST * most_expensive
        if cheapest == most_expensive:
            return np.zeros_like(cost_usd)
        cost = np.clip(cost_usd, cheapest, most_expensive)
        scaled: NDArray[np.float64] = np.log(cost / cheapest) / math.log(most_expensive / cheapest)
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
        """Return the utility of each choice, shape (n, k)."""
        return self.outcomes.quality - tradeoff * self.scaled_cost


def load(directory: Path, name: str | None = None, *, max_prompts: int | None = None) -> Dataset:
    """Read a folder of recorded outcomes, or a random sample of at most ``max_prompts`` of its prompts.

    Raises
    ------
    RecordedDataError
        When the data cannot be used; the message names what is wrong, where, and what to do.
    """
    outcomes = read_outcomes(directory, max_prompts=max_prompts)
    prompts_file, outcomes_file = directory / "prompts.parquet", directory / "outcomes.parquet"
    if len(outcomes) < MIN_PROMPTS:
        raise RecordedDataError(
            f"{prompts_file} has {len(outcomes)} prompts; a replay needs at least {MIN_PROMPTS}: add some"
        )
    if len(outcomes.models) < 2:
        raise RecordedDataError(
            f"{outcomes_file} has only one model, {outcomes.models[0]!r}; routing needs a choice: add another"
        )
    if len(outcomes.models) > MAX_ARMS:
        raise RecordedDataError(
            f"{outcomes_file} has {len(outcomes.models)} models; a policy chooses among at most {MAX_ARMS}: drop some"
        )
    for model in outcomes.models:
        try:
            TypeAdapter(Id).validate_python(model)
        except ValidationError as error:
            raise RecordedDataError(
                f"{outcomes_file}: model {model[:40]!r} cannot be the name of a deployment: "
                f"{error.errors()[0]['msg']}; rename it"
            ) from error
    return Dataset(name or directory.resolve().name, outcomes)
