"""Detect that an arm has changed: one watch per arm, one test per signal, and the correction of what was learned.

Fading alone follows a change only as fast as it forgets everything else. Every arm therefore keeps *marks*: copies of
its sums at the ends of recent blocks. A mark holds the observations before it, and the difference to the current sums
holds those since. If the means of the two differ by more than chance allows, the signal changed at the mark. What was
learned before is then moved to the new level, and weighted like what came since. Everything else is kept.

This is the idea of ADWIN (Bifet & Gavalda 2007, "Learning from Time-Changing Data with Adaptive Windowing"), applied
to the learner's own sums. Nothing is stored twice, the state is only numbers, and the same prefix of a log always gives
the same alarms. The test is Welch's, with variances shrunk to their usual values.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from conduit_learner.models.linear_solver import solve_ridge
from conduit_learner.models.regression import AdditiveRegression
from conduit_policy import ROWS, SIGNALS

__all__ = ["MARKS", "MIN_NEW", "MIN_OLD", "THRESHOLD", "Change", "Watch", "detect_changes", "rebase"]

MARKS = 16
"""Marks per signal. A new one replaces the oldest."""

MIN_NEW = 8.0
"""Least number of observations after a mark for a change to be detected, and between two marks."""

_PER_MARK = 1.0 / 64.0
_MAX_PER_MARK = 64.0
"""Distance between two marks: a share of all observations, and its maximum in observations. Small changes take long to
detect, so the marks must reach far back."""

MIN_OLD = 20.0
"""Least number of observations before a mark for a change to be detected."""

THRESHOLD = 24.0
"""Squared difference of two means, in squared standard errors, from which on it counts as a change.

In 2.8 million observations of unchanging distributions (Bernoulli, beta, normal, Student's t) it was never reached. A
value of 20 was reached twice.
"""

_RETURN = 2.0
_AT_FIRST = 256.0
"""When an arm begins to fail, what is known about its success fades with this power of the time since, beginning at
this many ticks.

A failing arm gets no requests that would show that it works again. With ordinary fading alone, it would take many times
the length of an outage until it is uncertain enough to be tried. This way it is tried again soon, and then at intervals
that grow with the length of the outage: a few calls for every doubling. For quality this does not pay off, because a
loss of quality is seldom reversed, and a trial has to wait for ratings.
"""

_USUAL = 5.0
"""An estimated variance counts the usual variance as this many observations."""

_SUCCESS = ROWS["success"]

Matrix = NDArray[np.float64]
Models = Mapping[str, AdditiveRegression]


class Change(NamedTuple):
    """A change that was detected in a signal of an arm."""

    signal: str
    before: float
    """Its mean before, in the signal's own unit (cost and times: natural logarithms)."""
    after: float
    """Its mean after, corrected for a different mix of requests."""
    observations: float
    """Observations after the change."""
    mark: int
    """The last mark before the change."""


class Watch:
    """An arm's sums at its latest marks, oldest first. Unused marks hold zeros.

    Parameters
    ----------
    dimensions
        Dimensions of the arm's models, by signal.
    """

    def __init__(self, dimensions: Mapping[str, int]) -> None:
        self.failing = 0.0
        """About how many ticks ago the arm began to fail. 0 if it does not fail, or has become better since."""
        self._allocate(list(dimensions.values()))

    def _allocate(self, dimensions: Sequence[int]) -> None:
        sizes = [len(dimensions) * MARKS * 3, *(MARKS * dimension for dimension in dimensions if dimension > 1)]
        self._numbers: Matrix = np.zeros(sum(sizes))
        first, *rest = np.split(self._numbers, np.cumsum(sizes)[:-1])
        self.sums: Matrix = first.reshape(len(dimensions), MARKS, 3)
        """Per signal and mark: the number of observations, their sum, and their sum of squares."""
        parts = iter(rest)
        self.contexts: list[Matrix | None] = [
            next(parts).reshape(MARKS, dimension) if dimension > 1 else None for dimension in dimensions
        ]
        """Per signal and mark: the sum of contexts. None for signals without context."""

    def reset(self, row: int, dimension: int) -> None:
        """Delete a signal's marks. From now on, its contexts have this many components."""
        sums, before = self.sums, self.contexts
        dimensions = [1 if contexts is None else contexts.shape[1] for contexts in before]
        dimensions[row] = dimension
        self._allocate(dimensions)
        self.sums[:] = sums
        self.sums[row] = 0.0
        for other, (old, new) in enumerate(zip(before, self.contexts, strict=True)):
            if other != row and old is not None and new is not None:
                new[:] = old

    def fade(self, factor: float) -> None:
        """Multiply all marks by ``factor``, as the sums are."""
        self._numbers *= factor

    def fade_failing(self, success: AdditiveRegression, ticks: int) -> None:
        """Fade the success of a failing arm faster than the rest, after this many further ticks."""
        if self.failing:
            factor = max(0.0, 1.0 - _RETURN * ticks / self.failing)
            success.fade(factor)
            self.sums[_SUCCESS] *= factor
            self.failing += ticks

    def mark(self, row: int, model: AdditiveRegression) -> None:
        """Store a model's sums as the latest mark of its signal."""
        sums, contexts = self.sums[row], self.contexts[row]
        sums[:-1] = sums[1:]
        sums[-1] = model.sums
        if contexts is not None:
            contexts[:-1] = contexts[1:]
            contexts[-1] = model.context_sum

    def drop(self, row: int, mark: int) -> None:
        """Delete a signal's marks up to and including this one."""
        self.sums[row, : mark + 1] = 0.0
        contexts = self.contexts[row]
        if contexts is not None:
            contexts[: mark + 1] = 0.0

    def to_array(self) -> Matrix:
        """Return the whole state as one vector, for :meth:`restore`."""
        return np.append(self._numbers, self.failing)

    def restore(self, state: Matrix) -> None:
        """Restore the state that :meth:`to_array` returned for a watch of the same dimensions.

        Raises
        ------
        ValueError
            When the vector has another length.
        """
        if len(state) != len(self._numbers) + 1:
            raise ValueError(f"{len(state)} numbers do not describe a watch of {len(self._numbers) + 1}")
        self._numbers[:] = state[:-1]
        self.failing = float(state[-1])


def detect_changes(
    arms: Sequence[tuple[Watch, Models]], current: Matrix | None = None, *, prior: Matrix
) -> list[list[Change]]:
    """Return the changes of each arm, and add marks where enough has been observed.

    Parameters
    ----------
    arms
        Each arm's watch and its models by signal, in the order of :data:`conduit_policy.SIGNALS`. The models must be
        folded, see :func:`conduit_learner.models.regression.fold`.
    current
        :attr:`AdditiveRegression.sums` of every arm and signal, shape (arms, signals, 3), if already computed.
    prior
        Prior precisions of the weights that estimate the effect of a different mix of requests, shape (dimension,).
    """
    changes: list[list[Change]] = [[] for _ in arms]
    if not arms:
        return changes
    if current is None:
        current = np.array([[model.sums for model in models.values()] for _, models in arms])
    marks = np.array([watch.sums for watch, _ in arms])
    fresh = current[:, :, 0] - marks[:, :, -1, 0]
    looked = fresh >= MIN_NEW
    if not looked.any():
        return changes
    differences = _differences(marks, current[:, :, None, :] - marks)
    is_suspect = differences.max(axis=-1) >= THRESHOLD
    is_due = fresh >= np.clip(current[:, :, 0] * _PER_MARK, MIN_NEW, _MAX_PER_MARK)
    for number, row in np.argwhere(looked & (is_suspect | is_due)).tolist():
        watch, models = arms[number]
        signal, model = list(models.items())[row]
        change = None
        if is_suspect[number, row]:
            mark = int(differences[number, row].argmax())
            change = _change(watch, row, model, mark, prior=prior, signal=signal)
            if change is None:
                watch.drop(row, mark)  # a different mix of requests explains the difference
        if change is not None:
            changes[number].append(change)
        elif is_due[number, row]:
            watch.mark(row, model)
    return changes


def rebase(watch: Watch, row: int, model: AdditiveRegression, change: Change) -> None:
    """Move what was learned before a change to the new level, and reduce the total weight to that of the new part."""
    count, total, _ = watch.sums[row, change.mark].tolist()
    contexts = watch.contexts[row]
    before = np.array([count]) if contexts is None else contexts[change.mark]
    model.move(change.after - change.before, before, total)
    model.fade(change.observations / model.sums[0])
    watch.reset(row, model.dimension)
    if row == _SUCCESS:
        watch.failing = _AT_FIRST if change.after < change.before else 0.0


def _differences(old: Matrix, new: Matrix) -> Matrix:
    """Return the squared differences of means, in squared standard errors. 0 where too little was observed.

    Both are shaped (..., signals, marks, 3).
    """
    # Both are computed together, because these arrays are so small that calls cost more than arithmetic.
    observed, totals, squares = np.array([old, new]).transpose(4, 0, 1, 2, 3).copy()
    enough = (observed[0] >= MIN_OLD) & (observed[1] >= MIN_NEW)
    count = np.maximum(observed, 1.0)
    means = totals / count
    spread = np.maximum(squares - totals * totals / count, 0.0)
    weight = _USUAL + count
    before = (_USUAL * _USUAL_VARIANCE + spread[0]) / weight[0]
    since = (_USUAL * before + spread[1]) / weight[1]
    error = before / count[0] + np.maximum(before, since) / count[1]
    difference = means[1] - means[0]
    return np.where(enough, difference * difference / error, 0.0)


def _error(old: Matrix, new: Matrix, usual: Matrix) -> Matrix:
    """Return the squared standard error of the difference of means.

    The new observations are assumed to vary no less than the old ones: a few equal values prove little.
    """
    before = _variance(old, usual)
    error: Matrix = before / _count(old) + np.maximum(before, _variance(new, before)) / _count(new)
    return error


def _count(sums: Matrix) -> Matrix:
    return np.maximum(sums[..., 0], 1.0)


def _mean(sums: Matrix) -> Matrix:
    mean: Matrix = sums[..., 1] / _count(sums)
    return mean


def _variance(sums: Matrix, usual: Matrix) -> Matrix:
    count = _count(sums)
    spread = np.maximum(sums[..., 2] - sums[..., 1] * sums[..., 1] / count, 0.0)
    variance: Matrix = (_USUAL * usual + spread) / (_USUAL + count)
    return variance


def _change(
    watch: Watch, row: int, model: AdditiveRegression, mark: int, *, prior: Matrix, signal: str
) -> Change | None:
    """Return the change after a mark, or None if a different mix of requests explains it.

    The policy itself decides which requests an arm gets. The effect that the arm's regression predicts for a different
    mix is therefore subtracted from the difference, and the variance of this prediction is added to the error.
    """
    old, everything = watch.sums[row, mark], np.array(model.sums)
    new = everything - old
    before, after = float(_mean(old)), float(_mean(new))
    contexts = watch.contexts[row]
    if contexts is not None:
        usual = _USUAL_VARIANCE[row]
        error = float(_error(old, new, usual)[0])
        expected, uncertainty = _effect_of_requests(model, contexts[mark], old[0], new[0], prior)
        after -= expected
        error += float(_variance(everything, usual)[0]) * uncertainty
        if (after - before) * (after - before) < THRESHOLD * error:
            return None
    return Change(signal, before, after, float(new[0]), mark)


def _effect_of_requests(
    model: AdditiveRegression, contexts: Matrix, old: float, new: float, prior: Matrix
) -> tuple[float, float]:
    """Return the expected effect of the contexts on the mean, and its variance relative to the noise's."""
    gram, moment, _ = model.statistics()
    count = old + new
    mean = gram[0] / count
    moved = (gram[0] - contexts) / new - contexts / old
    moment -= mean * moment[0]
    gram -= mean[:, None] * gram[0]
    # The intercept does not move, so what is left of it is a rounding error.
    gram[0], gram[:, 0], moment[0], moved[0] = 0.0, 0.0, 0.0, 0.0
    weights, direction = solve_ridge(np.stack([gram, gram]), np.stack([moment, moved]), prior[None]).weights[0]
    return math.fsum((weights * moved).tolist()), max(0.0, math.fsum((direction * moved).tolist()))


_USUAL_VARIANCE = np.array([[signal.sigma * signal.sigma] for signal in SIGNALS.values()])
