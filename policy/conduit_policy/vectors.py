"""The bytes of the log's vectors: the one place that packs and unpacks contexts and what posteriors hold.

:mod:`conduit_schemas.fields` refuses what cannot be unpacked; nobody else knows how a vector is written.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conduit_schemas import FRACTION_BITS

__all__ = [
    "CONTEXT_TYPE",
    "INTERCEPT",
    "ONE",
    "UNIT",
    "Context",
    "context_bytes",
    "pack_context",
    "pack_vector",
    "to_fixed_point",
    "unpack_context",
    "unpack_vector",
]

Context = NDArray[np.int16]
"""Shape (dimension,), in units of 2**-10; component 0 is the intercept and always 1.0."""

ONE = 1 << FRACTION_BITS
"""The component that stands for 1."""

UNIT = 1.0 / ONE
"""What one step of a component stands for."""

CONTEXT_TYPE: np.dtype[Any] = np.dtype("<i2")
_VECTOR_TYPE = np.dtype("<f4")


def to_fixed_point(values: NDArray[np.floating[Any]]) -> Context:
    """Round to the contract's 16-bit fixed point; numbers beyond +-31.9 are clipped, NaN becomes 0.

    Examples
    --------
    >>> to_fixed_point(np.array([1.0, -0.5, 1e9])).tolist()
    [1024, -512, 32767]
    """
    scaled = np.clip(np.nan_to_num(np.clip(values, -32.0, 32.0)) * ONE, -32768, 32767)
    fixed: Context = np.rint(scaled).astype(np.int16)
    return fixed


def pack_context(context: Context) -> bytes:
    """Return a context as events carry it.

    Examples
    --------
    >>> pack_context(np.array([1024, -1], np.int16)).hex()
    '0004ffff'
    """
    return context.astype(CONTEXT_TYPE).tobytes()


def unpack_context(data: bytes) -> Context:
    """Return a context of an event's bytes.

    Examples
    --------
    >>> unpack_context(bytes.fromhex("0004ffff")).tolist()
    [1024, -1]
    """
    return np.frombuffer(data, CONTEXT_TYPE)


def context_bytes(dimension: int) -> int:
    """Return how many bytes a context of so many components takes."""
    return dimension * CONTEXT_TYPE.itemsize


INTERCEPT = pack_context(to_fixed_point(np.ones(1)))
"""The packed component that every context begins with: a context of its own where nothing else is known."""


def pack_vector(numbers: ArrayLike) -> bytes:
    """Return a vector as snapshots carry it; what float32 cannot tell apart becomes one.

    Examples
    --------
    >>> pack_vector([1.0, 0.5]).hex()
    '0000803f0000003f'
    """
    return np.asarray(numbers).astype(_VECTOR_TYPE).tobytes()


def unpack_vector(data: bytes) -> NDArray[np.float32]:
    """Return a vector of a snapshot's bytes.

    Examples
    --------
    >>> unpack_vector(bytes.fromhex("0000803f0000003f")).tolist()
    [1.0, 0.5]
    """
    return np.frombuffer(data, _VECTOR_TYPE).astype(np.float32)
