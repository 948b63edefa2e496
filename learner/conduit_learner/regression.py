"""The online model of one signal of one arm: river's Bayesian linear regression on additive statistics."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from river import linear_model, utils

__all__ = ["BLOCK", "AdditiveRegression", "Statistics"]

BLOCK = 64
"""Rows that are kept as they came before they are added to the statistics in one product."""

Vector = NDArray[np.float64]


class Statistics(NamedTuple):
    """The data's part of a ridge regression; the prior is never in it, so it neither fades nor adds up."""

    gram: NDArray[np.float64]
    """Sum of x x', shape (d, d)."""
    moment: Vector
    """Sum of x y, shape (d,)."""
    energy: float
    """Sum of y y."""


class AdditiveRegression(linear_model.BayesianLinearRegression):
    """Bayesian linear regression that keeps sums instead of a posterior.

    It predicts what :class:`river.linear_model.BayesianLinearRegression` predicts, and takes its place
    anywhere in river. What differs is what it stores: the sums of x x', x y and y y without the prior, and
    the latest rows as they came. So learning is an append, statistics of two models add up to those of
    one that saw both streams, old observations can be faded without fading the prior (which would let
    the variance grow without bound), and the cubic work is done only when somebody asks for a prediction.

    Parameters
    ----------
    alpha
        Prior precision of each weight, as in Bishop (Pattern Recognition and Machine Learning, 2006, equation
        3.52) and in river's ``learn_one``.
    beta
        Precision of the noise.

    Examples
    --------
    >>> from river import datasets, evaluate, metrics
    >>> evaluate.progressive_val_score(datasets.TrumpApproval(), AdditiveRegression(), metrics.MAE())
    MAE: 0.586...

    Arrays are learned without the detour over dictionaries:

    >>> model = AdditiveRegression.of_dimension(2)
    >>> model.learn_array(np.array([1.0, 0.5]), 3.0)
    >>> model.statistics().moment
    array([3. , 1.5])
    """

    def __init__(self, alpha: float = 1.0, beta: float = 1.0) -> None:
        super().__init__(alpha=alpha, beta=beta)
        # river's names for what both classes have; here without prior and without beta.
        self._ss_arr = np.zeros((0, 0))
        self._eta_arr = np.zeros(0)
        self._energy = 0.0
        self._rows: list[Vector] = []
        self._targets: list[float] = []

    @classmethod
    def of_dimension(cls, dimension: int) -> Self:
        """Return a model whose features are the integers below ``dimension``."""
        model = cls()
        model._ensure_features(range(dimension))
        return model

    @property
    def dimension(self) -> int:
        """Number of features it has room for."""
        return int(self._cap)

    def learn_array(self, x: Vector, y: float) -> None:
        """Learn one row.

        Parameters
        ----------
        x
            Shape (dimension,). It is kept, not copied: do not change it afterwards.
        y
            The target.
        """
        self._rows.append(x)
        self._targets.append(y)
        self._m_dirty = True
        if len(self._rows) >= BLOCK:
            self._fold()

    def fade(self, factor: float) -> None:
        """Multiply everything learned so far by ``factor``."""
        self._fold()
        self._ss_arr *= factor
        self._eta_arr *= factor
        self._energy *= factor
        self._m_dirty = True

    def statistics(self) -> Statistics:
        """Return the sums over everything learned; changes nothing."""
        if not self._rows:
            return Statistics(self._ss_arr.copy(), self._eta_arr.copy(), self._energy)
        x = np.array(self._rows)
        y = np.array(self._targets)
        return Statistics(self._ss_arr + x.T @ x, self._eta_arr + x.T @ y, self._energy + float(y @ y))

    def merge(self, other: Self) -> None:
        """Add what another model of the same features has learned."""
        self._ss_arr, self._eta_arr, self._energy = self.statistics()
        theirs = other.statistics()
        self._ss_arr += theirs.gram
        self._eta_arr += theirs.moment
        self._energy += theirs.energy
        self._rows, self._targets = [], []
        self._m_dirty = True

    def learn_one(self, x: Mapping[Any, float], y: float) -> None:
        """Learn one row given as a dictionary; a feature that is missing counts as 0."""
        self._ensure_features(x)
        row = np.zeros(self._cap)
        for feature, value in x.items():
            row[self._idx[feature]] = value
        self.learn_array(row, float(y))

    def learn_many(self, X: Any, y: Any) -> None:
        """Learn the rows of a data frame."""
        frame = utils.dataframe.into_frame(X)
        self._ensure_features(frame.columns)
        columns = [self._idx[feature] for feature in frame.columns]
        rows = np.zeros((len(frame), self._cap))
        rows[:, columns] = utils.dataframe.to_numpy(frame)
        for row, target in zip(rows, utils.dataframe.into_series(y).to_numpy(), strict=True):
            self.learn_array(row, float(target))

    def to_array(self) -> Vector:
        """Return the whole state as one vector, exactly; see :meth:`from_array`."""
        upper = np.triu_indices(self._cap)
        return np.concatenate(
            [
                [self._energy],
                self._eta_arr,
                self._ss_arr[upper],
                np.array(self._targets, dtype=np.float64),
                np.array(self._rows, dtype=np.float64).ravel(),
            ]
        )

    @classmethod
    def from_array(cls, dimension: int, state: Vector) -> Self:
        """Return the model of ``dimension`` integer features that :meth:`to_array` described.

        Raises
        ------
        ValueError
            When the vector's length fits no such model.
        """
        model = cls.of_dimension(dimension)
        rows_at = 1 + dimension + dimension * (dimension + 1) // 2
        count, rest = divmod(len(state) - rows_at, 1 + dimension)
        if count < 0 or rest:
            raise ValueError(f"{len(state)} numbers do not describe a model of dimension {dimension}")
        model._energy = float(state[0])
        model._eta_arr = state[1 : 1 + dimension].copy()
        row, column = np.triu_indices(dimension)
        model._ss_arr[row, column] = model._ss_arr[column, row] = state[1 + dimension : rows_at]
        model._targets = state[rows_at : rows_at + count].tolist()
        model._rows = list(state[rows_at + count :].reshape(count, dimension))
        model._m_dirty = True
        return model

    def _fold(self) -> None:
        self._ss_arr, self._eta_arr, self._energy = self.statistics()
        self._rows, self._targets = [], []

    def _grow(self, needed: int) -> None:
        self._fold()
        old, capacity = self._cap, max(needed, 2 * self._cap)
        gram, moment = np.zeros((capacity, capacity)), np.zeros(capacity)
        gram[:old, :old], moment[:old] = self._ss_arr, self._eta_arr
        self._ss_arr, self._eta_arr, self._cap = gram, moment, capacity
        self._m_dirty = True

    def _ensure_m(self) -> None:
        if self._m_dirty:
            gram, moment, _ = self.statistics()
            precision = self.beta * gram + np.eye(self._cap) * self.alpha
            self._ss_inv_arr = np.linalg.inv(precision)
            self._m_arr = self._ss_inv_arr @ (self.beta * moment)
            self._m_dirty = False
