"""Solving many small ridge regressions at once, to the same bits on every machine.

LAPACK's result depends on its build: blocking, vector width and fused multiply-adds change the order of
roundings. Here every step is one elementwise operation that IEEE 754 defines to the bit (multiply, subtract,
divide, square root), in an order fixed by this file. The price is speed per matrix, which stacking
the matrices wins back: the interpreter's overhead is paid once per column, not once per column and matrix.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["solve_ridge"]

_TILE = 32
_TOGETHER = 32
"""Matrices worked on at a time, so that a tile of each fits into a processor's cache."""

_COLLINEAR = 2.0**-30
"""A pivot below this part of its own diagonal entry is rounding noise of a collinear column."""


def solve_ridge(
    grams: NDArray[np.float64], rhs: NDArray[np.float64], prior: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Solve ``(grams[k] + diag(prior)) w[k] = rhs[k]`` for every k by Cholesky factorisation.

    Parameters
    ----------
    grams
        Positive semidefinite matrices, shape (K, d, d); left unchanged.
    rhs
        Right-hand sides, shape (K, d); left unchanged.
    prior
        Positive precisions added to each diagonal, shape (d,).

    Returns
    -------
    The solutions, shape (K, d).

    Examples
    --------
    >>> solve_ridge(np.array([[[3.0, 0.0], [0.0, 1.0]]]), np.array([[8.0, 4.0]]), np.ones(2))
    array([[2., 2.]])
    """
    weights = np.zeros_like(rhs)
    asked = rhs.any(axis=1)  # an arm that nobody has tried needs no work
    factor, solution = grams[asked], rhs[asked]
    diagonal = np.einsum("kii->ki", factor)
    diagonal += prior
    # In exact arithmetic no pivot can be less than its prior precision: less than that is rounding.
    smallest = np.maximum(prior, diagonal * _COLLINEAR)
    for start in range(0, len(factor), _TOGETHER):
        part = slice(start, start + _TOGETHER)
        _factorise(factor[part], smallest[part])
    dimension = solution.shape[-1]
    for j in range(dimension):
        solution[:, j] /= factor[:, j, j]
        solution[:, j + 1 :] -= factor[:, j, j + 1 :] * solution[:, j : j + 1]
    for j in reversed(range(dimension)):
        solution[:, j] /= factor[:, j, j]
        solution[:, :j] -= factor[:, :j, j] * solution[:, j : j + 1]
    weights[asked] = solution
    return weights


def _factorise(matrices: NDArray[np.float64], smallest: NDArray[np.float64]) -> None:
    """Overwrite the upper triangles with the Cholesky factors.

    Every entry has the products of the rows above subtracted one by one, from the top. That order alone
    decides the bits; tiles only keep what is worked on in the processor's cache.
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
