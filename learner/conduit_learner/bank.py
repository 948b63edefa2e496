"""The sums of all arms in one piece of memory, so that what is done to all of them takes a few operations.

Learning a block, fading and looking for changes touch every model of a policy. Done model by model they cost more in
calls than in arithmetic; here each signal's sums stand one arm after the other, and the models look into that memory.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from conduit_learner.regression import AdditiveRegression, numbers

__all__ = ["Bank", "Tick"]

Matrix = NDArray[np.float64]
Models = Mapping[str, AdditiveRegression]


Tick = tuple[str, bytes | None, Mapping[str, float]]
"""What one event teaches: about which arm, in which context (None when it is not one that the models understand), and
by signal what, on the grid of :func:`conduit_learner.signals.to_grid`."""


class Bank:
    """Takes over the sums of models, which go on seeing them.

    Parameters
    ----------
    arms
        Each arm's models by signal. Models of one signal are of one dimension, and where it is more than 1 of the same.

    Examples
    --------
    >>> models = {"quality": AdditiveRegression.of_dimension(1, fixed_point=True)}
    >>> bank = Bank({"large": models})
    >>> bank.learn([("large", None, {"quality": 0.5}), ("large", None, {"quality": 1.0})])
    >>> models["quality"].sums, bank.sums.tolist()
    ((2.0, 1.5, 1.25), [[[2.0, 1.5, 1.25]]])
    """

    def __init__(self, arms: Mapping[str, Models]) -> None:
        self._models = [list(models.values()) for models in arms.values()]
        self._rows = {name: row for row, name in enumerate(arms)}
        self._signals = list(next(iter(arms.values()), ()))
        sizes: dict[int, list[int]] = {}
        for number, model in enumerate(self._models[0] if self._models else ()):
            sizes.setdefault(model.dimension, []).append(number)
        self._levels = {self._signals[number] for number in sizes.get(1, ())}
        """Signals without context."""
        self._parts = [_Part(dimension, signals, self._models) for dimension, signals in sizes.items()]

    def holds(self, arms: Mapping[str, Models]) -> bool:
        """Tell whether these are the models whose sums are here."""
        return list(self._rows) == list(arms) and self._models == [list(models.values()) for models in arms.values()]

    @property
    def sums(self) -> Matrix:
        """Of every arm and signal what :attr:`AdditiveRegression.sums` says, shape (arms, signals, 3)."""
        sums = np.empty((len(self._rows), len(self._signals), 3))
        for part in self._parts:
            sums[:, part.signals] = part.memory[:, :, [0, part.square, -1]].swapaxes(0, 1)
        return sums

    def fade(self, factor: float) -> None:
        """Multiply everything that the models have learned so far by ``factor``."""
        for part in self._parts:
            part.memory *= factor

    def learn(self, ticks: Sequence[Tick]) -> None:
        """Learn a block, or what there is of it; no more than :data:`conduit_learner.regression.BLOCK` ticks."""
        rows = self._rows
        ticks = sorted(ticks, key=lambda tick: rows[tick[0]])
        of = [rows[tick[0]] for tick in ticks]
        arms = list(dict.fromkeys(of))
        by_arm = np.equal.outer(arms, of).astype(np.float64)
        targets = {signal: [0.0] * len(ticks) for signal in self._signals}
        taught = {signal: [0.0] * len(ticks) for signal in self._signals}
        for number, (_, context, values) in enumerate(ticks):
            for signal, value in values.items():
                if context is not None or signal in self._levels:
                    targets[signal][number], taught[signal][number] = value, 1.0
        y = np.array(list(targets.values()))
        # All products and sums are exact, in whatever order they are made.
        weighted = y[:, None] * by_arm
        energies = (weighted @ y[:, :, None])[..., 0]
        for part in self._parts:
            part.memory[:, arms, -1] += energies[part.signals]
            if part.dimension == 1:
                counts = np.array([taught[self._signals[number]] for number in part.signals]) @ by_arm.T
                part.memory[:, arms, 0] += counts
                part.memory[:, arms, 1] += weighted[part.signals].sum(axis=-1)
            else:
                spans = dict(
                    zip(arms, (slice(*span) for span in pairwise([*map(of.index, arms), len(of)])), strict=True)
                )
                used = [taught[self._signals[number]] for number in part.signals]
                part.learn(ticks, spans, weighted[part.signals], used)


class _Part:
    """The sums of the signals of one dimension."""

    def __init__(self, dimension: int, signals: list[int], models: Sequence[Sequence[AdditiveRegression]]) -> None:
        self.dimension = dimension
        self.square = dimension * dimension
        self.signals = signals
        """Which they are."""
        self.memory = np.empty((len(signals), len(models), AdditiveRegression.size(dimension)))
        for of_signal, number in zip(self.memory, signals, strict=True):
            for place, of_arm in zip(of_signal, models, strict=True):
                of_arm[number].move_to(place)

    def learn(
        self, ticks: Sequence[Tick], spans: Mapping[int, slice], weighted: Matrix, taught: Sequence[list[float]]
    ) -> None:
        """Add a block's contexts.

        Parameters
        ----------
        ticks
            By arm.
        spans
            Which they are, by the rows of the A arms that occur.
        weighted
            By signal and arm the target of each tick, or 0, shape (signals, A, ticks).
        taught
            By signal 1 where there is a target, otherwise 0.
        """
        arms = list(spans)
        nothing = bytes(2 * self.dimension)
        x = numbers([tick[1] or nothing for tick in ticks], self.dimension)
        x[:, 0] = 1.0  # whatever the sender wrote
        self.memory[:, arms, self.square : -1] += weighted @ x
        grams = np.empty((len(arms), self.dimension, self.dimension))
        before = None
        for memory, used in zip(self.memory, taught, strict=True):
            if used != before:
                before, masked = used, x * np.array(used)[:, None]
                for gram, span in zip(grams, spans.values(), strict=True):
                    np.matmul(x[span].T, masked[span], out=gram)
            if len(arms) == len(memory):
                memory[:, : self.square] += grams.reshape(-1, self.square)
            else:
                for arm, gram in zip(arms, grams, strict=True):
                    memory[arm, : self.square] += gram.ravel()
