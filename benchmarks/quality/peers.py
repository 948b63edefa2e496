"""Other packages' online learners behind one interface; each is optional and imported only when it is used.

All of them get the same contexts as Conduit. They learn the utility itself, including the trade-off, so unlike Conduit
they cannot change the trade-off later.
"""

import logging
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.stream import Observed, Requests

__all__ = ["MabWiserPolicy", "ParetoBanditPolicy", "RiverPolicy", "VowpalWabbitPolicy"]

Indices = NDArray[np.intp]


class RiverPolicy:
    """river's ``LinUCBDisjoint``, with a prior ten times its default, which performs much better here."""

    def __init__(self, requests: Requests, seed: int) -> None:
        from river import bandit  # noqa: PLC0415  # optional

        self._policy = bandit.LinUCBDisjoint(alpha=10.0, seed=seed)
        self._requests = requests
        self._features = requests.features

    def choose(self, positions: range) -> Indices:
        """Pull an arm for each request."""
        return np.array(
            [self._policy.pull(list(self._requests.arms(p)), context=self._context(p)) for p in positions], np.intp
        )

    def learn(self, outcomes: Observed, feedback: Observed) -> None:
        """Update the pulled arms."""
        del outcomes
        for position, arm, utility in zip(
            feedback.positions.tolist(), feedback.arms.tolist(), feedback.utility.tolist(), strict=True
        ):
            self._policy.update(arm, self._context(position), utility)  # type: ignore[no-untyped-call]  # river

    def _context(self, position: int) -> dict[int, float]:
        return dict(enumerate(self._features[position].tolist()))


class VowpalWabbitPolicy:
    """Vowpal Wabbit's ``cb_explore_adf``, with the context crossed with the arm (``-q SA``).

    Its costs are ``(1 - utility) / (1 + t)``, which lies within 0..1, the range it expects. It learns with the
    probability that its own prediction gave the arm.
    """

    def __init__(self, requests: Requests, seed: int, exploration: str) -> None:
        import vowpalwabbit  # noqa: PLC0415  # optional

        self._workspace = vowpalwabbit.Workspace(
            f"--cb_explore_adf {exploration} -q SA --quiet --random_seed {seed % 2**31}"
        )
        self._random = np.random.default_rng(seed)
        self._requests = requests
        self._features = requests.features
        self._scale = 1.0 + requests.tradeoff
        self._actions = [f"|A a{arm}" for arm in range(len(requests.models))]
        self._propensities = np.ones(len(requests.features))

    def choose(self, positions: range) -> Indices:
        """Draw from the predicted distribution."""
        arms = np.empty(len(positions), np.intp)
        for row, position in enumerate(positions):
            offered = self._requests.arms(position)
            actions = [self._actions[arm] for arm in offered]
            vector = np.array(self._workspace.predict([self._shared(position), *actions]))
            drawn = int(self._random.choice(len(vector), p=vector / vector.sum()))
            arms[row] = offered[drawn]
            self._propensities[position] = vector[drawn]
        return arms

    def learn(self, outcomes: Observed, feedback: Observed) -> None:
        """Teach the cost of each chosen arm."""
        del outcomes
        for position, arm, utility in zip(
            feedback.positions.tolist(), feedback.arms.tolist(), feedback.utility.tolist(), strict=True
        ):
            cost = (1.0 - utility) / self._scale
            offered = self._requests.arms(position)
            example = [self._shared(position), *(self._actions[arm] for arm in offered)]
            example[1 + offered.index(arm)] = f"0:{cost:.6f}:{self._propensities[position]:.6f} {self._actions[arm]}"
            self._workspace.learn(example)

    def _shared(self, position: int) -> str:
        return "shared |S " + " ".join(f"{i}:{x:.6g}" for i, x in enumerate(self._features[position].tolist()) if x)


class MabWiserPolicy:
    """MABWiser's LinUCB and LinTS; uniform until the first feedback, because they cannot predict without any."""

    def __init__(self, requests: Requests, seed: int, policy: str, parameters: Mapping[str, float]) -> None:
        from mabwiser.mab import MAB, LearningPolicy  # noqa: PLC0415  # optional

        self._arms = list(range(len(requests.models)))
        self._bandit = MAB(self._arms, getattr(LearningPolicy, policy)(**parameters), seed=seed % 2**31)
        self._random = np.random.default_rng(seed)
        self._requests = requests
        self._features = requests.features
        self._fitted = False

    def choose(self, positions: range) -> Indices:
        """Predict an arm for each request."""
        if not self._fitted:
            return np.array([self._random.choice(self._requests.arms(position)) for position in positions], np.intp)
        if self._requests.offered is not None and not self._requests.offered[positions.start : positions.stop].all():
            return self._best_offered(positions)
        return np.atleast_1d(np.array(self._bandit.predict(self._features[positions.start : positions.stop]), np.intp))

    def learn(self, outcomes: Observed, feedback: Observed) -> None:
        """Fit the new feedback."""
        del outcomes
        if len(feedback.positions):
            self._bandit.partial_fit(feedback.arms, feedback.utility, self._features[feedback.positions])
            self._fitted = True

    def _best_offered(self, positions: range) -> Indices:
        """Return the available arm with the highest expectation."""
        expected = self._bandit.predict_expectations(self._features[positions.start : positions.stop])
        return np.array(
            [
                max(self._requests.arms(position), key=scores.__getitem__)
                for position, scores in zip(
                    positions, [expected] if isinstance(expected, dict) else expected, strict=True
                )
            ],
            np.intp,
        )


class ParetoBanditPolicy:
    """The router of the package ``paretobandit``, cold start with the settings it recommends for that.

    It learns quality and subtracts ``cost_penalty`` times a known price on a log scale. To match this benchmark's
    utility, the penalty is t, the prices are each model's true mean cost, and the scale ends at the pool's cheapest and
    most expensive model. It is told when prices change, and a floor keeps it from choosing unavailable models.
    """

    def __init__(self, requests: Requests, seed: int) -> None:
        logging.getLogger("pareto_bandit").setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pareto_bandit import BanditRouter, RouterConfig  # noqa: PLC0415  # optional
            from pareto_bandit.config import BEST_K3_TABULA_RASA_HPARAMS as COLD_START  # noqa: PLC0415  # optional

        self._models = requests.models
        self._requests = requests
        self._features = requests.features
        # If every model is free, any single price will do.
        self._least = 1e-3 * (requests.mean_cost.max() or 1.0)
        price = np.maximum(requests.mean_cost, self._least)
        self._router = BanditRouter.create(
            model_registry={model: _charging(usd) for model, usd in zip(requests.models, price.tolist(), strict=True)},
            priors="none",
            alpha=COLD_START["alpha"],
            forgetting_factor=COLD_START["forgetting_factor"],
            feature_service=_GivenFeatures(requests.features.shape[1]),
            cost_penalty=requests.tradeoff,
            bandit_seed=seed,
            config=RouterConfig(market_cost_floor=float(price.min()), market_cost_ceiling=float(price.max())),
        )
        self._known: tuple[list[float], list[int]] = ([], [])
        self._ids: dict[int, str] = {}

    def choose(self, positions: range) -> Indices:
        """Route each request."""
        arms = np.empty(len(positions), np.intp)
        for row, position in enumerate(positions):
            self._keep_up(position)
            model, log = self._router.route(self._features[position], quality_floor={"offered": 0.5})
            arms[row] = self._models.index(model)
            self._ids[position] = log.request_id
        return arms

    def learn(self, outcomes: Observed, feedback: Observed) -> None:
        """Report the quality of each rated answer."""
        del outcomes
        for position, quality in zip(feedback.positions.tolist(), feedback.quality.tolist(), strict=True):
            self._router.process_feedback(self._ids[position], quality)

    def _keep_up(self, position: int) -> None:
        """Tell the router about changed prices and changed availability."""
        price = np.maximum(self._requests.cost(position), self._least).tolist()
        offered = self._requests.arms(position)
        if self._known == (price, offered):
            return
        self._known = price, offered
        for arm, model in enumerate(self._models):
            self._router.update_model_pricing(model, **_charging(price[arm]))
            self._router.registry[model]["scores"] = {"offered": float(arm in offered)}


def _charging(usd: float) -> dict[str, float]:
    """Return prices per million tokens; a request counts as 1,000 tokens, and so do the ends of the scale."""
    return {"input_cost_per_m": 1e3 * usd, "output_cost_per_m": 1e3 * usd}


class _GivenFeatures:
    """Takes the place of ``paretobandit``'s prompt embedding and returns the context unchanged."""

    bias_index = 0

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension

    def extract_features(self, prompt: Any) -> Any:
        """Return the given vector."""
        return prompt
