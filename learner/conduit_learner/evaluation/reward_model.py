"""A simple reward model for off-policy evaluation: predict each action's reward from earlier decisions only."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["ridge_predictions"]

_FIRST = 8
_GROWTH = 1.25
"""The model is refitted whenever the available data has grown by this factor."""


def ridge_predictions(
    contexts: ArrayLike,
    chosen: ArrayLike,
    rewards: ArrayLike,
    *,
    actions: int,
    ridge: ArrayLike = 1.0,
    bounds: tuple[float, float] | None = None,
) -> NDArray[np.float64]:
    """Predict every action's reward at every decision, with one ridge regression per action.

    A doubly robust estimate is unbiased only if no prediction uses the reward that it is compared with. If the logging
    policy was learning, a random split is not enough, because earlier rewards influence later decisions. Therefore the
    folds follow time, and each fold is predicted from the folds before it. Predictions are shrunk towards the mean
    reward of all actions, which is also the prediction for an action that has not been chosen yet.

    Parameters
    ----------
    contexts
        Shape (n, d), in time order; include a constant component to give each action its own level.
    chosen
        Shape (n,): index of the action taken.
    rewards
        Shape (n,); NaN where the reward is unknown.
    actions
        K, the number of actions.
    ridge
        Prior precision of the weights, in observations: a number, or shape (d,).
    bounds
        The smallest and the largest possible reward; if given, predictions are clipped to them.

    Returns
    -------
    Shape (n, K). The first few decisions, which have no past, get the prediction 0, or the nearest bound.

    References
    ----------
    Chernozhukov et al., "Double/debiased machine learning for treatment and structural parameters", Econometrics
    Journal 2018 (cross-fitting); Hadad et al., "Confidence intervals for policy evaluation in adaptive
    experiments", PNAS 2021 (why predictions may use the past only).

    Examples
    --------
    >>> chosen = np.arange(1000) % 2
    >>> predicted = ridge_predictions(np.ones((1000, 1)), chosen, 0.2 + 0.6 * chosen, actions=2)
    >>> predicted[0].tolist(), predicted[-1].round(2).tolist()
    ([0.0, 0.0], [0.2, 0.8])
    """
    x = np.asarray(contexts)
    action = np.asarray(chosen)
    y = np.asarray(rewards, dtype=np.float64)
    count, dimension = x.shape
    prior = np.broadcast_to(np.asarray(ridge, dtype=np.float64), (dimension,))
    gram = np.zeros((actions, dimension, dimension))
    moment = np.zeros((actions, dimension))
    total = np.zeros((actions, dimension))
    centre = 0.0
    predicted = np.zeros((count, actions))
    start = 0
    while start < count:
        stop = min(count, max(_FIRST, int(start * _GROWTH)))
        fold = x[start:stop].astype(np.float64)
        if start:
            weights = np.linalg.solve(gram + np.diag(prior), (moment - centre * total)[:, :, None])[:, :, 0]
            predicted[start:stop] = centre + fold @ weights.T
        seen = ~np.isnan(y[start:stop])
        for arm in range(actions):
            is_arm = seen & (action[start:stop] == arm)
            rows, targets = fold[is_arm], y[start:stop][is_arm]
            gram[arm] += rows.T @ rows
            moment[arm] += rows.T @ targets
            total[arm] += rows.sum(axis=0)
        known = y[:stop][~np.isnan(y[:stop])]
        centre = float(known.mean()) if len(known) else 0.0
        start = stop
    return predicted if bounds is None else np.clip(predicted, *bounds)
