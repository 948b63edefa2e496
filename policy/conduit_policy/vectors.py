"""Pack and unpack the vectors of the log: contexts, and the means and precisions of posteriors.

No other module knows the encoding, except that :mod:`conduit_schemas.fields` refuses bytes that cannot be unpacked.
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
"""The integer that represents 1.0."""

UNIT = 1.0 / ONE
"""The value of one integer step."""

CONTEXT_TYPE: np.dtype[Any] = np.dtype("<i2")
_VECTOR_TYPE = np.dtype("<f4")


def to_fixed_point(values: NDArray[np.floating[Any]]) -> Context:
    """Round to the contract's 16-bit fixed point. Numbers beyond +-31.9 are clipped, and NaN becomes 0.

    Examples
    --------
    >>> to_fixed_point(np.array([1.0, -0.5, 1e9])).tolist()
    [1024, -512, 32767]
    """
    scaled = np.clip(np.nan_to_num(np.clip(values, -32.0, 32.0)) * ONE, -32768, 32767)
    fixed: Context = np.rint(scaled).astype(np.int16)
    return fixed


def pack_context(context: Context) -> bytes:
    """Encode a context for an event.

    Examples
    --------
    >>> pack_context(np.array([1024, -1], np.int16)).hex()
    '0004ffff'
    """
    return context.astype(CONTEXT_TYPE).tobytes()


def unpack_context(data: bytes) -> Context:
    """Decode a context from an event.

    Examples
    --------
    >>> unpack_context(bytes.fromhex("0004ffff")).tolist()
    [1024, -1]
    """
    return np.frombuffer(data, CONTEXT_TYPE)


def context_bytes(dimension: int) -> int:
    """Return the size in bytes of a context with this many components."""
    return dimension * CONTEXT_TYPE.itemsize


INTERCEPT = pack_context(to_fixed_point(np.ones(1)))
"""The packed component that every context begins with. It is also the whole context of signals without context."""


def pack_vector(numbers: ArrayLike) -> bytes:
    """Encode a vector for a snapshot, rounded to float32.

    Examples
    --------
    >>> pack_vector([1.0, 0.5]).hex()
    '0000803f0000003f'
    """
    return np.asarray(numbers).astype(_VECTOR_TYPE).tobytes()


def unpack_vector(data: bytes) -> NDArray[np.float32]:
    """Decode a vector from a snapshot.

    Examples
    --------
    >>> unpack_vector(bytes.fromhex("0000803f0000003f")).tolist()
    [1.0, 0.5]
    """
    return np.frombuffer(data, _VECTOR_TYPE).astype(np.float32)
