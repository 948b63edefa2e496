"""The regression of one signal of one arm: river's Bayesian linear regression, computed from additive sums."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from river import linear_model, utils

from conduit_policy.vectors import CONTEXT_TYPE, UNIT

__all__ = ["BLOCK", "AdditiveRegression", "Statistics", "fold", "numbers"]

BLOCK = 64
"""Number of rows that are queued unchanged before they are added to the sums in one product."""

Vector = NDArray[np.float64]

_FLOAT: np.dtype[Any] = np.dtype("<f8")


class Statistics(NamedTuple):
    """The sums of a ridge regression's data. They never include the prior, so it neither fades nor adds up."""

    gram: NDArray[np.float64]
    """Sum of x x', shape (d, d)."""
    moment: Vector
    """Sum of x y, shape (d,)."""
    energy: float
    """Sum of y y."""

    @property
    def observations(self) -> float:
        """Number of observations. Faded ones count in part."""
        return float(self.gram[0, 0])


class AdditiveRegression(linear_model.BayesianLinearRegression):
    """Bayesian linear regression that keeps sums instead of a posterior.

    It predicts the same as :class:`river.linear_model.BayesianLinearRegression`, and can replace it anywhere in river.
    It differs in what it stores: the sums of x x', x y and y y without the prior, and the latest rows unchanged. This
    has four advantages. Learning only appends to a list. The sums of two models add up to those of one model that saw
    both streams. Old observations can be faded without fading the prior, which would let the variance grow without
    bound. And the cubic work is done only for a prediction.

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

    It can also learn arrays directly, without dictionaries, and contexts as events carry them:

    >>> model = AdditiveRegression.of_dimension(2)
    >>> model.learn_array(np.array([1.0, 0.5]), 3.0)
    >>> model.statistics().moment
    array([3. , 1.5])
    >>> model = AdditiveRegression.of_dimension(2, fixed_point=True)
    >>> from conduit_policy import pack_context
    >>> model.learn_row(pack_context(np.array([1024, 512], np.int16)), 3.0)
    >>> model.statistics().moment
    array([3. , 1.5])
    """

    def __init__(self, alpha: float = 1.0, beta: float = 1.0) -> None:
        super().__init__(alpha=alpha, beta=beta)
        self._kind = _FLOAT
        self._sums = np.zeros(1)
        self._is_shared = False
        self._view()
        # Rows as bytes. Converting a block at a time costs a fraction of converting them one by one.
        self._rows: list[bytes] = []
        self._targets: list[float] = []

    @classmethod
    def of_dimension(cls, dimension: int, *, fixed_point: bool = False) -> Self:
        """Return a model whose features are the integers below ``dimension``.

        Parameters
        ----------
        fixed_point
            Whether rows are encoded like contexts: 16-bit integers in units of ``2**-FRACTION_BITS``.
        """
        model = cls()
        model._ensure_features(range(dimension))
        if fixed_point:
            model._kind = CONTEXT_TYPE
        return model

    def _view(self) -> None:
        # These are river's names. Here, they hold the sums without the prior and without beta.
        square = self._cap * self._cap
        self._ss_arr = self._sums[:square].reshape(self._cap, self._cap)
        self._eta_arr = self._sums[square:-1]

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._view()  # the views in a copied state would be copies, too

    def move_to(self, place: Vector) -> None:
        """Move the sums into the caller's array, shape (:meth:`size`,). The caller may change them there."""
        place[:] = self._sums
        self._is_shared = True
        self._sums = place
        self._view()

    @staticmethod
    def size(dimension: int) -> int:
        """Return the length of a model's sums: gram matrix, moment and energy, one after the other."""
        return dimension * dimension + dimension + 1

    @property
    def dimension(self) -> int:
        """Number of features that it has room for."""
        capacity: int = self._cap  # river's classes carry no types
        return capacity

    def learn_array(self, x: Vector, y: float) -> None:
        """Learn one row.

        Parameters
        ----------
        x
            Shape (dimension,).
        y
            The target.
        """
        self.learn_row(self._encoded(x)[0], y)

    def learn_row(self, row: bytes, y: float) -> None:
        """Learn one row, given as bytes: little-endian 64-bit floats, or fixed point as in :meth:`of_dimension`."""
        self._rows.append(row)
        self._targets.append(y)
        self._m_dirty = True
        if len(self._rows) >= BLOCK:
            self._fold()

    def fade(self, factor: float) -> None:
        """Multiply everything learned so far by ``factor``."""
        self._fold()
        self._sums *= factor
        self._m_dirty = True

    def statistics(self) -> Statistics:
        """Return the sums over everything learned, including queued rows. Changes nothing."""
        sums = self._sums.copy()
        square = self._cap * self._cap
        if self._rows:
            sums += self._latest()
        return Statistics(sums[:square].reshape(self._cap, self._cap), sums[square:-1], float(sums[-1]))

    @property
    def sums(self) -> tuple[float, float, float]:
        """The number of rows, the sum of their targets, and the sum of the squared targets, without queued rows."""
        return float(self._ss_arr[0, 0]), float(self._eta_arr[0]), float(self._sums[-1])

    @property
    def context_sum(self) -> Vector:
        """Sum of the rows, without queued ones, shape (dimension,). Component 0 must be an intercept."""
        row: Vector = self._ss_arr[0]
        return row

    def move(self, by: float, contexts: Vector, total: float) -> None:
        """Change the sums as if the targets of some learned rows had been higher by ``by``.

        Parameters
        ----------
        contexts
            Sum of these rows, shape (dimension,). Component 0, the intercept, is their number.
        total
            Sum of their targets.
        """
        self._fold()
        self._eta_arr += by * contexts
        self._sums[-1] += by * (2.0 * total + by * float(contexts[0]))
        self._m_dirty = True

    def merge(self, other: Self) -> None:
        """Add the sums of another model with the same features."""
        self._fold()
        theirs = other.statistics()
        self._ss_arr += theirs.gram
        self._eta_arr += theirs.moment
        self._sums[-1] += theirs.energy
        self._m_dirty = True

    def learn_one(self, x: Mapping[Any, float], y: float) -> None:
        """Learn one row, given as a dictionary. A missing feature counts as 0."""
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
        """Return the exact state as one vector, for :meth:`from_array`."""
        upper = np.triu_indices(self._cap)
        return np.concatenate(
            [
                self._sums[-1:],
                self._eta_arr,
                self._ss_arr[upper],
                np.array(self._targets, dtype=np.float64),
                self._design().ravel(),
            ]
        )

    @classmethod
    def from_array(cls, dimension: int, state: Vector, *, fixed_point: bool = False) -> Self:
        """Restore a model from :meth:`to_array`. The parameters are those of :meth:`of_dimension`.

        Raises
        ------
        ValueError
            When the vector's length does not fit the dimension.
        """
        model = cls.of_dimension(dimension, fixed_point=fixed_point)
        rows_at = 1 + dimension + dimension * (dimension + 1) // 2
        count, rest = divmod(len(state) - rows_at, 1 + dimension)
        if count < 0 or rest:
            raise ValueError(f"{len(state)} numbers do not describe a model of dimension {dimension}")
        model._sums[-1] = state[0]
        model._eta_arr[:] = state[1 : 1 + dimension]
        row, column = np.triu_indices(dimension)
        model._ss_arr[row, column] = model._ss_arr[column, row] = state[1 + dimension : rows_at]
        model._targets = state[rows_at : rows_at + count].tolist()
        model._rows = model._encoded(state[rows_at + count :])
        model._m_dirty = True
        return model

    def _design(self) -> Vector:
        """Return the queued rows as numbers, shape (rows, dimension)."""
        return numbers(self._rows, self._cap, self._kind)

    def _encoded(self, numbers: Vector) -> list[bytes]:
        """Return rows of numbers, one after the other, as bytes: the inverse of :meth:`_design`."""
        units = np.rint(numbers / UNIT) if self._kind == CONTEXT_TYPE else numbers
        data, size = units.astype(self._kind).tobytes(), self._cap * self._kind.itemsize
        return [data[start : start + size] for start in range(0, len(data), size)]

    def _latest(self) -> Vector:
        """Return the sums over the queued rows."""
        x, y = self._design(), np.array(self._targets)
        return np.concatenate([(x.T @ x).ravel(), x.T @ y, [y @ y]])

    def _fold(self) -> None:
        if self._rows:
            self._sums += self._latest()
            self._rows, self._targets = [], []

    def _grow(self, needed: int) -> None:
        self._fold()
        before, self._cap = self._cap, max(needed, 2 * self._cap)
        gram, moment, energy = self._ss_arr, self._eta_arr, self._sums[-1]
        self._sums = np.zeros(self.size(self._cap))
        self._view()
        self._ss_arr[:before, :before], self._eta_arr[:before], self._sums[-1] = gram, moment, energy
        self._m_dirty = True

    def _ensure_m(self) -> None:
        if self._m_dirty or self._is_shared:
            gram, moment, _ = self.statistics()
            precision = self.beta * gram + np.eye(self._cap) * self.alpha
            self._ss_inv_arr = np.linalg.inv(precision)
            self._m_arr = self._ss_inv_arr @ (self.beta * moment)
            self._m_dirty = False


def fold(models: Iterable[AdditiveRegression]) -> None:
    """Add each model's queued rows to its sums."""
    for model in models:
        model._fold()


def numbers(rows: Sequence[bytes], dimension: int, kind: np.dtype[Any] = CONTEXT_TYPE) -> Vector:
    """Decode rows of bytes as numbers, shape (rows, dimension)."""
    x = np.frombuffer(b"".join(rows), kind).reshape(-1, dimension)
    return x * UNIT if kind == CONTEXT_TYPE else x.astype(np.float64, copy=False)
