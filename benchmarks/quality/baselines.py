"""Baselines: fixed rules, LiteLLM's own strategies, and references that know the outcomes in advance."""

import random
from itertools import pairwise
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.stream import Observed, Requests, Stream

__all__ = [
    "AdaptiveRouterPolicy",
    "CheapestPerTokenPolicy",
    "RandomPolicy",
    "best_fixed",
    "full_information",
    "oracle",
    "text_features",
]

Indices = NDArray[np.intp]
Matrix = NDArray[np.float64]


class RandomPolicy:
    """Uniformly random choice, as LiteLLM's ``simple-shuffle`` does with deployments of equal weight."""

    def __init__(self, requests: Requests, seed: int) -> None:
        self._arms = len(requests.models)
        self._random = np.random.default_rng(seed)

    def choose(self, positions: range) -> Indices:
        """Draw the arms."""
        return self._random.integers(self._arms, size=len(positions))

    def learn(self, outcomes: Observed, feedback: Observed) -> None:
        """Learn nothing."""


class CheapestPerTokenPolicy:
    """LiteLLM's ``cost-based-routing``, which takes the lowest sum of input and output price per token.

    Prices are fitted to the recorded costs; data without tokens is ranked by mean cost instead.
    """

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    def choose(self, positions: range) -> Indices:
        """Look up the prices."""
        return np.array([self._cheapest(position) for position in positions], np.intp)

    def learn(self, outcomes: Observed, feedback: Observed) -> None:
        """Learn nothing."""

    def _cheapest(self, position: int) -> int:
        prices = self._requests.price(position).sum(axis=1)
        return min(self._requests.arms(position), key=prices.__getitem__)


class AdaptiveRouterPolicy:
    """LiteLLM's ``adaptive_router``, run from the installed LiteLLM: its classifier, cells, scores and cap.

    Some assumptions favour it. Its own reward signals are patterns in later turns of a conversation, which single
    prompts do not have, so it would never learn here. Instead it gets the same feedback as all policies: a quality of q
    counts as q of a satisfied and 1 - q of a dissatisfied turn. All models start in the middle tier without declared
    strengths. Its price list is the true mean cost of each model. Its weights of quality and cost are 1 and t, scaled
    to sum to 1; as always, it scales costs linearly.
    """

    def __init__(self, requests: Requests, seed: int) -> None:
        from litellm.router_strategy.adaptive_router import bandit, classifier  # noqa: PLC0415  # slow to import
        from litellm.types.router import AdaptiveRouterPreferences, RequestType  # noqa: PLC0415  # as above

        self._bandit = bandit
        self._random = random.Random(seed)
        self._models = requests.models
        preferences = AdaptiveRouterPreferences(quality_tier=2, strengths=[])
        self._cells = {
            kind: {model: bandit.initial_cell(preferences, kind) for model in requests.models} for kind in RequestType
        }
        self._requests = requests
        self._kinds = [classifier.classify_prompt(text) for text in requests.texts]
        self._weights = 1.0 / (1.0 + requests.tradeoff), requests.tradeoff / (1.0 + requests.tradeoff)

    def choose(self, positions: range) -> Indices:
        """Sample each model's cell and take the best score."""
        quality, cost = self._weights
        picks = []
        for position in positions:
            cells = self._cells[self._kinds[position]]
            offered = {self._models[arm]: cells[self._models[arm]] for arm in self._requests.arms(position)}
            costs = dict(zip(self._models, self._requests.cost(position).tolist(), strict=True))
            picks.append(self._bandit.pick_best(offered, costs, quality, cost, self._random))
        return np.array([self._models.index(pick) for pick in picks], np.intp)

    def learn(self, outcomes: Observed, feedback: Observed) -> None:
        """Count the feedback in the cells."""
        for position, arm, quality in zip(
            feedback.positions.tolist(), feedback.arms.tolist(), feedback.quality.tolist(), strict=True
        ):
            cells, model = self._cells[self._kinds[position]], self._models[arm]
            cells[model] = self._bandit.apply_delta(cells[model], quality, 1.0 - quality)


def best_fixed(stream: Stream) -> int:
    """Return the arm with the largest mean utility over the whole stream, which is known only in hindsight."""
    return int(stream.utility.mean(axis=0).argmax())


def oracle(stream: Stream) -> Indices:
    """Return the best arm of every single request, which no policy can know."""
    best: Indices = stream.utility.argmax(axis=1)
    return best


def full_information(stream: Stream, features: Matrix) -> Indices:
    """Return the choices of a router trained offline on every model's outcome on the first half of the stream.

    One ridge regression per model predicts the utility; its penalty is the one that routes best in five-fold
    cross-validation. Only the choices on the second half are its own. On the first half it gets the best fixed arm,
    and those choices must not be evaluated.

    Parameters
    ----------
    stream
        The requests and their outcomes.
    features
        Shape (n, p), in the order of the stream; column 0 is the intercept, which is not penalised.
    """
    half = len(stream) // 2
    train = np.random.default_rng([stream.seed, 3]).permutation(half)[:_MAX_TRAINED]
    x, y = features[train], stream.utility[train]
    folds = np.arange(len(train)) % 5
    scores = np.zeros(len(_PENALTIES))
    for fold in range(5):
        held = folds == fold
        for column, weights in enumerate(_ridge_path(x[~held], y[~held])):
            scores[column] += y[held][np.arange(held.sum()), (x[held] @ weights).argmax(axis=1)].sum()
    weights = _ridge_path(x, y)[int(scores.argmax())]
    arms: Indices = (features @ weights).argmax(axis=1)
    arms[:half] = best_fixed(stream)
    return arms


def text_features(stream: Stream) -> Matrix:
    """Return features for a router without time limits: the context, and 1,024 hashed word weights.

    Shape (n, d + 1024): tf-idf with logarithmic counts, unit length (the usual bag of words).
    """
    counts = np.zeros((len(stream), _WORDS), np.float32)
    for row, text in enumerate(stream.outcomes.texts):
        words = text.lower().split()
        for word in (*words, *map(" ".join, pairwise(words))):
            code = crc32(word.encode("utf-8", "replace"))
            counts[row, code % _WORDS] += 1.0 if code & 0x80000000 else -1.0
    weights = np.sign(counts) * np.log1p(np.abs(counts))
    weights *= np.log(len(stream) / np.maximum((counts != 0).sum(axis=0), 1))
    weights *= 4.0 / np.maximum(np.linalg.norm(weights, axis=1, keepdims=True), 1e-9)
    return np.hstack([stream.requests().features, weights])


_WORDS = 1024
_MAX_TRAINED = 20_000
_PENALTIES = (0.3, 3.0, 30.0, 300.0, 3_000.0, 30_000.0)


def _ridge_path(x: Matrix, y: Matrix) -> list[Matrix]:
    """Return the weights, shape (p, k), of one ridge regression per column of y, for each penalty."""
    gram, moment = x.T @ x, x.T @ y
    penalised = np.ones(x.shape[1])
    penalised[0] = 1e-6
    return [np.asarray(np.linalg.solve(gram + np.diag(penalty * penalised), moment)) for penalty in _PENALTIES]
