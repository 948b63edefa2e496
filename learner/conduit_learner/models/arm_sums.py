"""The sums of all arms in one array, so that an operation on all of them takes a few calls.

Learning a block, fading and detecting changes touch every regression of a policy. Done one by one, they would spend
more time on calls than on arithmetic. Here the sums of a signal are in one array, arm after arm, and the regressions
use views of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from conduit_learner.models.regression import AdditiveRegression, numbers
from conduit_policy.vectors import context_bytes

__all__ = ["ArmSums", "Observation"]

Matrix = NDArray[np.float64]
Models = Mapping[str, AdditiveRegression]


Observation = tuple[str, bytes | None, Sequence[float]]
"""What one event teaches: the arm, the context (None if the models cannot use it), and one number per signal. The
numbers are in the order of the models and on the grid of :func:`conduit_learner.core.targets.to_grid`. NaN means that
the event says nothing about the signal."""


class ArmSums:
    """Holds the sums of regressions in shared arrays. The regressions keep using them.

    Parameters
    ----------
    arms
        Each arm's models by signal. All models of one signal have the same dimension, and all dimensions above 1 are
        equal.

    Examples
    --------
    >>> models = {"quality": AdditiveRegression.of_dimension(1, fixed_point=True)}
    >>> arm_sums = ArmSums({"large": models})
    >>> arm_sums.learn([("large", None, [0.5]), ("large", None, [1.0])])
    >>> models["quality"].sums, arm_sums.sums.tolist()
    ((2.0, 1.5, 1.25), [[[2.0, 1.5, 1.25]]])
    """

    def __init__(self, arms: Mapping[str, Models]) -> None:
        self._models = [list(models.values()) for models in arms.values()]
        self._rows = {name: row for row, name in enumerate(arms)}
        sizes: dict[int, list[int]] = {}
        for number, model in enumerate(self._models[0] if self._models else ()):
            sizes.setdefault(model.dimension, []).append(number)
        self._parts = [_Part(dimension, signals, self._models) for dimension, signals in sizes.items()]

    def holds(self, arms: Mapping[str, Models]) -> bool:
        """Return whether these are the models whose sums are held here."""
        return list(self._rows) == list(arms) and self._models == [list(models.values()) for models in arms.values()]

    @property
    def sums(self) -> Matrix:
        """:attr:`AdditiveRegression.sums` of every arm and signal, shape (arms, signals, 3)."""
        sums = np.empty((len(self._models), sum(len(part.signals) for part in self._parts), 3))
        for part in self._parts:
            sums[:, part.signals] = part.memory[:, :, [0, part.square, -1]].swapaxes(0, 1)
        return sums

    def fade(self, factor: float) -> None:
        """Multiply all sums by ``factor``."""
        for part in self._parts:
            part.memory *= factor

    @contextmanager
    def including(self, ticks: Sequence[Observation]) -> Iterator[None]:
        """Include these observations in the sums while the context is open, and remove them afterwards."""
        before = [part.memory.copy() for part in self._parts] if ticks else []
        if ticks:
            self.learn(ticks)
        try:
            yield
        finally:
            for part, memory in zip(self._parts, before, strict=False):
                part.memory[:] = memory

    def learn(self, ticks: Sequence[Observation]) -> None:
        """Learn a block or a part of one: at most :data:`conduit_learner.models.regression.BLOCK` observations."""
        names, contexts, values = zip(*ticks, strict=True)
        of = list(map(self._rows.__getitem__, names))
        # From here on, everything is sorted by arm.
        order = sorted(range(len(of)), key=of.__getitem__)
        of.sort()
        arms = sorted(set(of))
        by_arm = np.equal.outer(arms, of).astype(np.float64)
        y = np.array(values)[order].T
        if None in contexts:
            blind = [place for place, number in enumerate(order) if contexts[number] is None]
            for signal in (signal for part in self._parts if part.dimension > 1 for signal in part.signals):
                y[signal, blind] = np.nan
        taught = ~np.isnan(y)
        y = np.where(taught, y, 0.0)
        # All products and sums are exact, in whatever order they are computed.
        weighted = y[:, None] * by_arm
        energies = (weighted @ y[:, :, None])[..., 0]
        for part in self._parts:
            part.memory[:, arms, -1] += energies[part.signals]
            if part.dimension == 1:
                part.memory[:, arms, 0] += taught[part.signals] @ by_arm.T
                part.memory[:, arms, 1] += weighted[part.signals].sum(axis=-1)
            else:
                x = part.numbers(contexts)[order]
                part.memory[:, arms, part.square : -1] += weighted[part.signals] @ x
                spans = [slice(*span) for span in pairwise([*map(of.index, arms), len(of)])]
                part.learn_grams(x, arms, spans, taught[part.signals])


class _Part:
    """The sums of the signals of one dimension."""

    def __init__(self, dimension: int, signals: list[int], models: Sequence[Sequence[AdditiveRegression]]) -> None:
        self.dimension = dimension
        self.square = dimension * dimension
        self.signals = signals
        """The rows of the signals, in the order of the models."""
        self.memory = np.empty((len(signals), len(models), AdditiveRegression.size(dimension)))
        for of_signal, number in zip(self.memory, signals, strict=True):
            for place, of_arm in zip(of_signal, models, strict=True):
                of_arm[number].move_to(place)

    def numbers(self, contexts: Sequence[bytes | None]) -> Matrix:
        """Return contexts as rows of numbers. The row of a missing context is arbitrary."""
        nothing = bytes(context_bytes(self.dimension))
        x = numbers([context or nothing for context in contexts], self.dimension)
        x[:, 0] = 1.0  # the intercept, whatever the sender wrote
        return x

    def learn_grams(self, x: Matrix, arms: Sequence[int], spans: Sequence[slice], taught: NDArray[np.bool_]) -> None:
        """Add a block's products of contexts.

        Parameters
        ----------
        x
            Contexts sorted by arm, shape (ticks, dimension).
        arms
            The arms that occur.
        spans
            The rows of ``x`` that belong to each of them.
        taught
            Which observations say something about a signal, shape (signals, ticks).
        """
        grams = np.empty((len(arms), self.dimension, self.dimension))
        before = b""
        for memory, of_signal in zip(self.memory, taught, strict=True):
            if (now := of_signal.tobytes()) != before:  # signals that are always observed together share the work
                before, used = now, x * of_signal[:, None]
                for gram, span in zip(grams, spans, strict=True):
                    np.matmul(x[span].T, used[span], out=gram)
            if len(arms) == len(memory):
                memory[:, : self.square] += grams.reshape(-1, self.square)
            else:
                for arm, gram in zip(arms, grams, strict=True):
                    memory[arm, : self.square] += gram.ravel()
