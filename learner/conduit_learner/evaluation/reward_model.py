"""A plain reward model for off-policy evaluation: what each action would have earned, judged by the past alone."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["ridge_predictions"]

_FIRST = 8
_GROWTH = 1.25
"""The model is fitted anew whenever it can learn from this many times as much as before."""


def ridge_predictions(
    contexts: ArrayLike,
    chosen: ArrayLike,
    rewards: ArrayLike,
    *,
    actions: int,
    ridge: ArrayLike = 1.0,
    bounds: tuple[float, float] | None = None,
) -> NDArray[np.float64]:
    """Predict every action's reward at every decision by one ridge regression per action.

    A doubly robust estimate stays unbiased only if no prediction has seen the reward that it is compared with. On
    data collected by a policy that learned, splitting at random is not enough: a later decision has been shaped by
    an earlier reward. So the folds follow time, and a fold's model knows the folds before it only. An action
    is drawn towards the mean reward of all of them, and predicted by it until it has been chosen.

    Parameters
    ----------
    contexts
        Shape (n, d), in the order of time; with a constant component, unless actions are not to have levels.
    chosen
        Shape (n,): index of the action taken.
    rewards
        Shape (n,); NaN where none came.
    actions
        K, the number of actions.
    ridge
        Prior precision of the weights, in observations: a number, or shape (d,).
    bounds
        Predictions are cut to the least and the largest possible reward, when given.

    Returns
    -------
    Shape (n, K). The first few decisions, which have no past, are predicted 0 or the nearest bound.

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
            mine = seen & (action[start:stop] == arm)
            rows, targets = fold[mine], y[start:stop][mine]
            gram[arm] += rows.T @ rows
            moment[arm] += rows.T @ targets
            total[arm] += rows.sum(axis=0)
        known = y[:stop][~np.isnan(y[:stop])]
        centre = float(known.mean()) if len(known) else 0.0
        start = stop
    return predicted if bounds is None else np.clip(predicted, *bounds)
