"""Solving many small ridge regressions at once, to the same bits on every machine.

LAPACK's result depends on its build: blocking, vector width and fused multiply-adds change the order of
roundings. Here every step is one elementwise operation that IEEE 754 defines to the bit (multiply, subtract,
divide, square root), in an order fixed by this file. The price is speed per matrix, which stacking
the matrices wins back: the interpreter's overhead is paid once per column, not once per column and matrix.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["solve_ridge"]

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
    dimension = grams.shape[-1]
    factor = np.array(grams)
    solution = np.array(rhs)
    diagonal = np.einsum("kii->ki", factor)
    diagonal += prior
    # In exact arithmetic no pivot can be less than its prior precision: less than that is rounding.
    smallest = np.maximum(prior, diagonal * _COLLINEAR)
    scratch = np.empty_like(factor)
    for j in range(dimension):
        pivot = np.sqrt(np.maximum(factor[:, j, j], smallest[:, j]))[:, None]
        factor[:, j, j] = pivot[:, 0]
        solution[:, j : j + 1] /= pivot
        column = factor[:, j + 1 :, j]
        column /= pivot
        products = scratch[:, j + 1 :, j + 1 :]
        np.multiply(column[:, :, None], column[:, None, :], out=products)
        factor[:, j + 1 :, j + 1 :] -= products
        solution[:, j + 1 :] -= column * solution[:, j : j + 1]
    for j in reversed(range(dimension)):
        solution[:, j] /= factor[:, j, j]
        solution[:, :j] -= factor[:, j, :j] * solution[:, j : j + 1]
    return solution
