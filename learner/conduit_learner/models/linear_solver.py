"""Solve many small ridge regressions at once, with the same bits on every machine.

LAPACK's result depends on its build: blocking, vector width and fused multiply-adds change the order of rounding. Here
every step is one elementwise operation that IEEE 754 defines to the bit (multiply, subtract, divide, square root), in
an order that this file fixes. This is slower per matrix. Stacking the matrices compensates for it: the interpreter's
overhead is paid once per column, not once per column and matrix.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from conduit_learner.models.elementary import LN_2, ln

__all__ = ["Solutions", "solve_ridge"]

_TILE = 16
_TOGETHER = 64
"""Matrices per step, so that a tile of each fits into a processor's cache."""

_COLLINEAR = 2.0**-30
"""A pivot smaller than its diagonal entry times this is rounding noise of a collinear column."""


class Solutions(NamedTuple):
    """The solutions of K ridge regressions of dimension d, each with L priors."""

    weights: NDArray[np.float64]
    """Shape (L, K, d)."""
    shrinkage: NDArray[np.float64]
    """``ln det(diag(prior)) - ln det(gram + diag(prior))``, shape (L, K). 0 where nothing was observed."""


def solve_ridge(grams: NDArray[np.float64], rhs: NDArray[np.float64], priors: NDArray[np.float64]) -> Solutions:
    """Solve ``(grams[k] + diag(priors[l])) w[l, k] = rhs[k]`` for every k and l by Cholesky factorisation.

    Equal matrices are factorised once. Signals that are always observed together have equal matrices.

    Parameters
    ----------
    grams
        Positive semidefinite matrices, shape (K, d, d). They are not changed.
    rhs
        Right-hand sides, shape (K, d). They are not changed.
    priors
        Positive precisions to add to the diagonals, shape (L, d).

    Examples
    --------
    >>> solve_ridge(np.array([[[3.0, 0.0], [0.0, 1.0]]]), np.array([[8.0, 4.0]]), np.ones((1, 2))).weights
    array([[[2., 2.]]])
    """
    weights = np.zeros((len(priors), *rhs.shape))
    shrinkage = np.zeros(weights.shape[:2])
    users = _users(grams)
    factorisations = [(row, first) for row in range(len(priors)) for first in users]
    for start in range(0, len(factorisations), _TOGETHER):
        part = factorisations[start : start + _TOGETHER]
        prior, factor = priors[[row for row, _ in part]], grams[[first for _, first in part]]
        diagonal = np.einsum("kii->ki", factor)
        diagonal += prior
        # In exact arithmetic no pivot is less than its prior precision, so a smaller one is a rounding error.
        _factorise(factor, np.maximum(prior, diagonal * _COLLINEAR))
        logarithms = _ln_products(prior, diagonal)
        for number in range(max(len(users[first]) for _, first in part)):
            chosen = [index for index, (_, first) in enumerate(part) if number < len(users[first])]
            place = [part[index][0] for index in chosen], [users[part[index][1]][number] for index in chosen]
            weights[place] = _substituted(factor if len(chosen) == len(part) else factor[chosen], rhs[place[1]])
            shrinkage[place] = [logarithms[index] for index in chosen]
    return Solutions(weights, shrinkage)


def _users(grams: NDArray[np.float64]) -> dict[int, list[int]]:
    """Return all indices of each distinct matrix, by its first index. Matrices of zeros are left out."""
    first: dict[bytes, int] = {}
    users: dict[int, list[int]] = {}
    # An arm that was never tried needs no work.
    for place in np.flatnonzero(np.einsum("kii->ki", grams).any(axis=1)).tolist():
        users.setdefault(first.setdefault(grams[place].tobytes(), place), []).append(place)
    return users


def _substituted(factor: NDArray[np.float64], rhs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the solutions for Cholesky factors. Overwrites ``rhs``."""
    dimension = rhs.shape[-1]
    for j in range(dimension):
        rhs[:, j] /= factor[:, j, j]
        rhs[:, j + 1 :] -= factor[:, j, j + 1 :] * rhs[:, j : j + 1]
    for j in reversed(range(dimension)):
        rhs[:, j] /= factor[:, j, j]
        rhs[:, :j] -= factor[:, :j, j] * rhs[:, j : j + 1]
    return rhs


def _ln_products(prior: NDArray[np.float64], pivots: NDArray[np.float64]) -> list[float]:
    """Return the logarithm of the product of ``prior / pivots**2`` along each row, with the same bits everywhere."""
    product, exponent = np.ones(len(pivots)), np.zeros(len(pivots), np.int64)
    for column in range(pivots.shape[-1]):
        product *= prior[:, column] / pivots[:, column] / pivots[:, column]
        product, power = np.frexp(product)
        exponent += power
    return [ln(mantissa) + power * LN_2 for mantissa, power in zip(product.tolist(), exponent.tolist(), strict=True)]


def _factorise(matrices: NDArray[np.float64], smallest: NDArray[np.float64]) -> None:
    """Overwrite the upper triangles with the Cholesky factors.

    From every entry, the products of the rows above are subtracted one by one, from the top. Only this order determines
    the bits. The tiles merely keep the data in the processor's cache.
    """
    dimension = matrices.shape[-1]
    for top in range(0, dimension, _TILE):
        bottom = min(top + _TILE, dimension)
        for j in range(top, bottom):
            pivot = np.sqrt(np.maximum(matrices[:, j, j], smallest[:, j]))[:, None]
            matrices[:, j, j] = pivot[:, 0]
            row = matrices[:, j, j + 1 :]
            row /= pivot
            matrices[:, j + 1 : bottom, j + 1 :] -= row[:, : bottom - j - 1, None] * row[:, None, :]
        for down in range(bottom, dimension, _TILE):
            for across in range(down, dimension, _TILE):
                tile = matrices[:, down : down + _TILE, across : across + _TILE].copy()
                for j in range(top, bottom):
                    left = matrices[:, j, down : down + _TILE, None]
                    tile -= left * matrices[:, j, None, across : across + _TILE]
                matrices[:, down : down + _TILE, across : across + _TILE] = tile
