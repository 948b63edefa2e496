"""Telling that a deployment has changed: one watch per arm, one test per signal, and what to forget.

Fading alone follows a change only as fast as it forgets everything else. So every arm keeps *marks*: what its sums
were at the last few block ends. What was before a mark is the mark itself, what came since is the rest, and when the
means of the two differ by more than chance allows, the signal has changed there. What was learned before is
then moved to the new level and counted only as often as what came since; everything else that is known stays.

It is the idea of ADWIN (Bifet & Gavalda 2007, "Learning from Time-Changing Data with Adaptive Windowing") on
the learner's own sums: nothing is stored twice, all state is numbers, and the same prefix of a log always gives
the same alarms. The test is Welch's, with variances shrunk to what is usual.
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
"""Marks kept per signal; the oldest leaves when another one is made."""

MIN_NEW = 8.0
"""Observations after a mark without which nothing can be said to have changed, and between two marks at least."""

_PER_MARK = 1.0 / 64.0
_MAX_PER_MARK = 64.0
"""Of everything observed, the part between two marks, and the most: what changes little takes long to tell."""

MIN_OLD = 20.0
"""Observations before a mark without which nothing can be said to have changed."""

THRESHOLD = 24.0
"""Squared difference of two means, in squared standard errors, that is taken for a change.

In 2.8 million observations that never changed (Bernoulli, beta, normal, Student's t) it was never reached, 20 twice.
"""

_RETURN = 2.0
_AT_FIRST = 256.0
"""What is known of the success of an arm that began to fail fades with this power of the time since, from so many
ticks on.

Nobody is sent to find out whether a failing arm works again, and until fading alone makes it unknown enough to be
tried, many times an outage's length can pass. So it is tried again soon, and then after times that grow with the time
it has been failing: a few calls for every doubling. With quality that does not pay: it seldom comes back, and a trial
takes as long as its ratings do.
"""

_USUAL = 5.0
"""A variance counts what is usual as this many observations."""

_SUCCESS = ROWS["success"]

Matrix = NDArray[np.float64]
Models = Mapping[str, AdditiveRegression]


class Change(NamedTuple):
    """A signal of an arm that is not what it was."""

    signal: str
    before: float
    """Its mean before, in the signal's own unit (cost and latency: natural logarithms)."""
    after: float
    """Its mean since, corrected for other requests than before."""
    observations: float
    """Observations since."""
    mark: int
    """The last mark before the change."""


class Watch:
    """What an arm's sums were at its latest marks, oldest first; unused marks hold zeros.

    Parameters
    ----------
    dimensions
        Of the arm's models, by signal.
    """

    def __init__(self, dimensions: Mapping[str, int]) -> None:
        self.failing = 0.0
        """About how many ticks ago the arm began to fail; 0 when it has not, or has become better since."""
        self._hold(list(dimensions.values()))

    def _hold(self, dimensions: Sequence[int]) -> None:
        sizes = [len(dimensions) * MARKS * 3, *(MARKS * dimension for dimension in dimensions if dimension > 1)]
        self._numbers: Matrix = np.zeros(sum(sizes))
        first, *rest = np.split(self._numbers, np.cumsum(sizes)[:-1])
        self.sums: Matrix = first.reshape(len(dimensions), MARKS, 3)
        """Per signal and mark: how many observations, their sum, their sum of squares."""
        parts = iter(rest)
        self.contexts: list[Matrix | None] = [
            next(parts).reshape(MARKS, dimension) if dimension > 1 else None for dimension in dimensions
        ]
        """Per signal with context and mark: the sum of contexts."""

    def reset(self, row: int, dimension: int) -> None:
        """Forget a signal's marks; from now on its contexts have this many components."""
        sums, before = self.sums, self.contexts
        dimensions = [1 if contexts is None else contexts.shape[1] for contexts in before]
        dimensions[row] = dimension
        self._hold(dimensions)
        self.sums[:] = sums
        self.sums[row] = 0.0
        for other, (old, new) in enumerate(zip(before, self.contexts, strict=True)):
            if other != row and old is not None and new is not None:
                new[:] = old

    def fade(self, factor: float) -> None:
        """Fade along with the sums."""
        self._numbers *= factor

    def fade_failing(self, success: AdditiveRegression, ticks: int) -> None:
        """Let what is known of a failing arm's success fade more than the rest, when so many ticks have passed."""
        if self.failing:
            factor = max(0.0, 1.0 - _RETURN * ticks / self.failing)
            success.fade(factor)
            self.sums[_SUCCESS] *= factor
            self.failing += ticks

    def mark(self, row: int, model: AdditiveRegression) -> None:
        """Note a model's sums as the latest mark of its signal."""
        sums, contexts = self.sums[row], self.contexts[row]
        sums[:-1] = sums[1:]
        sums[-1] = model.sums
        if contexts is not None:
            contexts[:-1] = contexts[1:]
            contexts[-1] = model.context_sum

    def drop(self, row: int, mark: int) -> None:
        """Forget a signal's marks up to this one."""
        self.sums[row, : mark + 1] = 0.0
        contexts = self.contexts[row]
        if contexts is not None:
            contexts[: mark + 1] = 0.0

    def to_array(self) -> Matrix:
        """Return the whole state as one vector; see :meth:`restore`."""
        return np.append(self._numbers, self.failing)

    def restore(self, state: Matrix) -> None:
        """Take the state that :meth:`to_array` gave of a watch of the same dimensions.

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
    """Return what has changed, per arm, and make new marks where enough has been observed.

    Parameters
    ----------
    arms
        Each arm's watch and its models by signal, in the order of :data:`conduit_policy.SIGNALS`, folded.
    current
        What :attr:`AdditiveRegression.sums` says of every arm and signal, shape (arms, signals, 3), if it is known.
    prior
        Prior precisions of the weights that tell how far other requests explain another mean, shape (dimension,).
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
                watch.drop(row, mark)  # other requests came from here on
        if change is not None:
            changes[number].append(change)
        elif is_due[number, row]:
            watch.mark(row, model)
    return changes


def rebase(watch: Watch, row: int, model: AdditiveRegression, change: Change) -> None:
    """Move what was learned before a change to the level since, and count all of it as often as what is new."""
    count, total, _ = watch.sums[row, change.mark].tolist()
    contexts = watch.contexts[row]
    before = np.array([count]) if contexts is None else contexts[change.mark]
    model.move(change.after - change.before, before, total)
    model.fade(change.observations / model.sums[0])
    watch.reset(row, model.dimension)
    if row == _SUCCESS:
        watch.failing = _AT_FIRST if change.after < change.before else 0.0


def _differences(old: Matrix, new: Matrix) -> Matrix:
    """Return the squared differences of means in squared standard errors; 0 where too little was observed.

    Both are shaped (..., signals, marks, 3).
    """
    # What is done to both is done at once: these arrays are so small that calls cost more than arithmetic.
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

    What is new is taken to vary no less than before: a few answers alike do not tell that all will be.
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
    """Return the change after a mark, unless other requests than before explain it.

    Which requests an arm gets is the policy's own doing. So what the arm's regression expects of the other requests
    is taken off the difference, and how unsure it is of that is added to the error.
    """
    old, everything = watch.sums[row, mark], np.array(model.sums)
    new = everything - old
    before, after = float(_mean(old)), float(_mean(new))
    contexts = watch.contexts[row]
    if contexts is not None:
        usual = _USUAL_VARIANCE[row]
        error = float(_error(old, new, usual)[0])
        expected, doubt = _of_other_requests(model, contexts[mark], old[0], new[0], prior)
        after -= expected
        error += float(_variance(everything, usual)[0]) * doubt
        if (after - before) * (after - before) < THRESHOLD * error:
            return None
    return Change(signal, before, after, float(new[0]), mark)


def _of_other_requests(
    model: AdditiveRegression, contexts: Matrix, old: float, new: float, prior: Matrix
) -> tuple[float, float]:
    """Return how far the mean is expected to have moved with the contexts, and its variance over the noise's."""
    gram, moment, _ = model.statistics()
    count = old + new
    mean = gram[0] / count
    moved = (gram[0] - contexts) / new - contexts / old
    moment -= mean * moment[0]
    gram -= mean[:, None] * gram[0]
    # The intercept does not move: what is left of it is rounding.
    gram[0], gram[:, 0], moment[0], moved[0] = 0.0, 0.0, 0.0, 0.0
    weights, direction = solve_ridge(np.stack([gram, gram]), np.stack([moment, moved]), prior[None]).weights[0]
    return math.fsum((weights * moved).tolist()), max(0.0, math.fsum((direction * moved).tolist()))


_USUAL_VARIANCE = np.array([[signal.sigma * signal.sigma] for signal in SIGNALS.values()])
